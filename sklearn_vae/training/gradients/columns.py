"""Costs of columns, -log p(x|z), with hand-written gradients of the likelihood's parameters."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sklearn_vae.likelihoods import (
    Bernoulli,
    Categorical,
    Columnwise,
    Gaussian,
    Likelihood,
    NegativeBinomial,
    OneHot,
    ZeroInflated,
)
from sklearn_vae.likelihoods.columnwise import LOG_SCALE_BOUND
from sklearn_vae.likelihoods.counts import LOG_RATE_BOUND, LOG_SHAPE_BOUND
from sklearn_vae.numerics.array_api import HALF_LOG_2PI
from sklearn_vae.training.gradients.layers import TanhBound, aten, empty_like


class ColumnViews(NamedTuple):
    """Columns of one likelihood: views of the parameters, their gradients and the rows.

    Features lie behind the members; a parameter that does not depend on z has one draw and row.
    """

    likelihood: Likelihood
    params: list[Tensor]  # (M, d, K, B) or (M, d, 1, 1)
    grads: list[Tensor]  # where to write their gradients
    x: Tensor  # (M, d, 1, B)
    observed: Tensor | None  # (M, n, 1, B): mask of observed values; None if none is missing


class AutogradCost:
    """Cost of columns of any likelihood, with autograd's gradient."""

    def __init__(self, columns: ColumnViews):
        self.columns = columns
        # columns last, as likelihoods have them
        self.x = columns.x.movedim(1, -1)
        observed = columns.observed
        self.observed = None if observed is None else observed.movedim(1, -1)

    def forward(self) -> Tensor:
        """Compute the cost of each row, summed over columns, in nats: (M, K, B)."""
        likelihood = self.columns.likelihood
        with torch.enable_grad():
            self.params = [
                param.detach().movedim(1, -1).contiguous().requires_grad_()
                for param in self.columns.params
            ]
            self.cost = -likelihood.log_prob(self.params, self.x, self.observed)
        return self.cost.detach()

    def backward(self, weight: Tensor) -> None:
        """Write the gradients of the parameters, from that of the cost: (M, 1, K, B)."""
        # for an output that is no scalar, torch imports its symbolic shapes, in half a second
        with torch.enable_grad():
            total = (weight.squeeze(1) * self.cost).sum()
        gradients = torch.autograd.grad(total, self.params, materialize_grads=True)
        for buffer, gradient in zip(self.columns.grads, gradients, strict=True):
            buffer.copy_(gradient.movedim(-1, 1))


class BernoulliCost:
    """Cross-entropy of binary columns."""

    def __init__(self, columns: ColumnViews):
        (self.logit,), (self.grad,) = columns.params, columns.grads
        self.x, self.observed = columns.x, columns.observed
        self.cross_entropy = empty_like(self.logit)

    def forward(self) -> Tensor:
        """Compute the cost of each row, summed over columns, in nats: (M, K, B)."""
        aten.softplus.out(self.logit, out=self.cross_entropy)
        self.cross_entropy.addcmul_(self.x, self.logit, value=-1)
        if self.observed is not None:
            self.cross_entropy.mul_(self.observed)
        return self.cross_entropy.sum(1)

    def backward(self, weight: Tensor) -> None:
        """Write the gradients of the parameters, from that of the cost: (M, 1, K, B)."""
        torch.sigmoid(self.logit, out=self.grad).sub_(self.x).mul_(weight)
        if self.observed is not None:
            self.grad.mul_(self.observed)


class Softmax:
    """Cross-entropy of classes, whose axis lies behind that of the columns.

    Of ``tensors``, logits and gradients are (M, d, C, K, B), one-hot rows (M, d, C, 1, B), which
    are zero where the value is missing; the mask of observed values is (M, d, 1, B). With
    ``has_rest``, one more class has the logit 0; rows are zero for it, too, and ``is_rest`` (M, d,
    1, B) is its mask.
    """

    def __init__(self, tensors: Sequence[Tensor], observed: Tensor | None, *, has_rest: bool):
        self.has_rest, self.given = has_rest, tensors
        logit, grad, one_hot = tensors
        if has_rest:
            logit, one_hot = (
                part.new_zeros(*part.shape[:2], part.shape[2] + 1, *part.shape[3:])
                for part in (logit, one_hot)
            )
            grad = empty_like(logit)
            self.is_rest = one_hot[:, :, -1]
        self.logit, self.grad, self.one_hot = logit, grad, one_hot
        self.without_rest = [part[:, :, :-1] for part in (logit, grad, one_hot)]
        self.is_known = 1 if observed is None else observed
        self.observed = None if observed is None else observed.unsqueeze(2)
        self.log_probability, self.probability = empty_like(logit), empty_like(logit)

    def forward(self) -> Tensor:
        """Compute the cost of each row, summed over columns, in nats: (M, K, B)."""
        if self.has_rest:
            logit, _, one_hot = self.given
            self.without_rest[0].copy_(logit)
            self.without_rest[2].copy_(one_hot)
            torch.sum(one_hot, 2, out=self.is_rest).neg_().add_(self.is_known)
        aten._log_softmax.out(self.logit, 2, False, out=self.log_probability)
        torch.exp(self.log_probability, out=self.probability)
        if self.observed is not None:
            self.probability.mul_(self.observed)
        return self.log_probability.mul_(self.one_hot).sum((1, 2)).neg_()

    def backward(self, weight: Tensor) -> None:
        """Write the gradients of the logits, from that of the cost: (M, 1, K, B)."""
        torch.sub(self.probability, self.one_hot, out=self.grad).mul_(weight.unsqueeze(2))
        if self.has_rest:
            self.given[1].copy_(self.without_rest[1])


class NormalCost:
    """Cost of normal columns, whose scale is a function of z or one number per column."""

    def __init__(self, columns: ColumnViews):
        self.loc, self.raw = columns.params  # (M, d, K, B), and the same or (M, d, 1, 1)
        self.grad_loc, self.grad_raw = columns.grads
        self.x, self.observed = columns.x, columns.observed
        self.inverse_scale = empty_like(self.raw)
        self.standardized, self.square, self.cost = (empty_like(self.loc) for _ in range(3))
        self.log_scale_bound = TanhBound(self.raw, LOG_SCALE_BOUND)
        self.bound, self.half = self.log_scale_bound.bound, self.raw.new_tensor(0.5)
        self.negative_bound, self.one = -self.bound, self.raw.new_ones(())

    def forward(self) -> Tensor:
        """Compute the cost of each row, summed over columns, in nats: (M, K, B)."""
        tanh, observed = self.log_scale_bound.forward(), self.observed
        torch.mul(tanh, self.negative_bound, out=self.inverse_scale).exp_()
        torch.sub(self.loc, self.x, out=self.standardized).mul_(self.inverse_scale)
        constant = torch.mul(tanh, self.bound).add_(HALF_LOG_2PI)
        if observed is not None:
            self.standardized.mul_(observed)
            constant = constant * observed
        torch.mul(self.standardized, self.standardized, out=self.square)
        return torch.addcmul(constant, self.square, self.half, out=self.cost).sum(1)

    def backward(self, weight: Tensor) -> None:
        """Write the gradients of the parameters, from that of the cost: (M, 1, K, B)."""
        torch.mul(self.standardized, self.inverse_scale, out=self.grad_loc).mul_(weight)
        is_observed = self.one if self.observed is None else self.observed
        grad = torch.sub(is_observed, self.square, out=self.square).mul_(weight)
        self.log_scale_bound.backward(grad.sum_to_size(self.raw.shape), out=self.grad_raw)


def zero_inflated_costs(columns: ColumnViews) -> list[Any]:
    """Costs of real columns with point masses: cross-entropy of the spikes, then that of numbers.

    The first one computes the mask of the numbers.
    """
    width = columns.likelihood.width
    x = columns.x.unflatten(1, (-1, width))  # (M, d, S + 1, 1, B)
    logit, grad = (
        tensors[0].unflatten(1, (-1, width - 1)) for tensors in (columns.params, columns.grads)
    )
    spikes = Softmax([logit, grad, x[:, :, :-1]], columns.observed, has_rest=True)
    numbers = columns._replace(
        params=columns.params[1:], grads=columns.grads[1:], x=x[:, :, -1], observed=spikes.is_rest
    )
    return [spikes, NormalCost(numbers)]


class NegativeBinomialCost:
    """Cost of overdispersed counts."""

    def __init__(self, columns: ColumnViews):
        assert isinstance(columns.likelihood, NegativeBinomial)
        (self.rate, self.shape), (self.grad_rate, self.grad_shape) = columns.params, columns.grads
        self.x, self.observed, self.unit = columns.x, columns.observed, columns.likelihood.unit
        self.log_rate_bound = TanhBound(self.rate, LOG_RATE_BOUND)
        self.log_shape_bound = TanhBound(self.shape, LOG_SHAPE_BOUND)
        self.log_square = 2 * math.log(self.unit)

    def forward(self) -> Tensor:
        """Compute the cost of each row, summed over columns, in nats: (M, K, B)."""
        bounds = self.log_rate_bound, self.log_shape_bound
        log_rate, log_shape = (bound.forward() * bound.bound for bound in bounds)
        log_rate.add_(self.log_square)
        counts = self.counts = (self.x * self.unit).square_().round_()
        shape = self.shape_value = log_shape.exp()
        log_sum = torch.logaddexp(log_rate, log_shape)
        # log of s / (s + rate), and of rate / (s + rate)
        self.log_failure = log_shape - log_sum
        constant = torch.lgamma(shape) + torch.lgamma(counts + 1) - torch.lgamma(counts + shape)
        cost = constant - shape * self.log_failure - counts * log_rate.sub_(log_sum)
        return (cost if self.observed is None else cost.mul_(self.observed)).sum(1)

    def backward(self, weight: Tensor) -> None:
        """Write the gradients of the parameters, from that of the cost: (M, 1, K, B)."""
        if self.observed is not None:
            weight = weight * self.observed
        shape, counts, failure = self.shape_value, self.counts, self.log_failure.exp()
        # of the log-rate: (counts + s) rate / (s + rate) - counts
        grad = (1 - failure).mul_(counts + shape).sub_(counts).mul_(weight)
        self.log_rate_bound.backward(grad, out=self.grad_rate)
        digamma = torch.digamma(shape) - torch.digamma(counts + shape)
        grad = (digamma - self.log_failure - 1 + failure) * shape + counts * failure
        grad = grad.mul_(weight).sum_to_size(self.shape.shape)
        self.log_shape_bound.backward(grad, out=self.grad_shape)


COSTS: dict[type[Likelihood], Callable[[ColumnViews], Any]] = {
    Bernoulli: BernoulliCost,
    NegativeBinomial: NegativeBinomialCost,
    Gaussian: NormalCost,
}


def make_costs(
    likelihood: Columnwise,
    params: Sequence[Sequence[Tensor]],
    grads: Sequence[Sequence[Tensor]],
    x: Tensor,
    observed: Tensor | None,
) -> list[Any]:
    """Make the costs of rows (M, n_columns, 1, B), by likelihood; conditions behind are left out.

    Parameters of each block and their gradients are as likelihoods have them, columns last: (M, K,
    B, d) or (M, 1, 1, d). The mask of observed values is (M, n, 1, B).
    """
    masks: Sequence[Tensor | None] = [None] * len(likelihood.blocks)
    if observed is not None:
        masks = observed.split([n for _, n in likelihood.blocks], dim=1)
    rows = x[:, : likelihood.n_columns].split(likelihood.widths, dim=1)
    costs: list[Any] = []
    parts = zip(likelihood.likelihoods, params, grads, rows, masks, strict=True)
    for part, of_params, of_grads, of_rows, mask in parts:
        views = [[tensor.movedim(-1, 1) for tensor in each] for each in (of_params, of_grads)]
        costs += _costs_of(ColumnViews(part, views[0], views[1], of_rows, mask))
    return costs


def _costs_of(columns: ColumnViews) -> list[Any]:
    """Make the costs of one likelihood; without a hand-written gradient, it is autograd's."""
    likelihood = columns.likelihood
    if isinstance(likelihood, ZeroInflated):
        return zero_inflated_costs(columns)
    size, has_rest = 0, False
    if isinstance(likelihood, Categorical):
        size = likelihood.n_classes
    elif isinstance(likelihood, OneHot) and columns.observed is None:
        size, has_rest = likelihood.n_columns, likelihood.has_none
    if size:  # classes lie behind the axis of the columns
        tensors = (*columns.params, *columns.grads, columns.x)
        by_class = [tensor.unflatten(1, (-1, size)) for tensor in tensors]
        return [Softmax(by_class, columns.observed, has_rest=has_rest)]
    if likelihood.has_fixed_scale:
        return [AutogradCost(columns)]
    return [COSTS.get(type(likelihood), AutogradCost)(columns)]
