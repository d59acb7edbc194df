"""Costs of columns, -log p(x|z), with hand-written gradients of the likelihood's parameters."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_vae._compat import foreach_copy_
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
from sklearn_vae.likelihoods.real import DENSITY
from sklearn_vae.numerics.array_api import HALF_LOG_2PI, one_hot
from sklearn_vae.training.gradients.layers import TanhBound, aten, empty_like

# Logits count as this one at most: exponentials of larger ones overflow in single precision.
MAX_LOGIT = 80.0


class ColumnViews(NamedTuple):
    """Columns of one likelihood: views of the parameters, their gradients and the rows.

    Features lie behind the members; a parameter that does not depend on z has one draw and row.
    """

    likelihood: Likelihood
    params: list[Tensor]  # (M, d, K, B) or (M, d, 1, 1)
    grads: list[Tensor]  # where to write their gradients
    x: Tensor  # (M, d, 1, B)
    observed: Tensor | None  # (M, n, 1, B): mask of observed values; None if none is missing

    def mask(self, n_columns: int) -> Tensor:
        """Mask of observed values, ones if none is missing: (M, n, 1, B)."""
        if self.observed is not None:
            return self.observed
        return self.x.new_ones(len(self.x), n_columns, *self.x.shape[2:])


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


class JoinedViews:
    """Views of features that lie apart, and one tensor of all features: the view, if it is one."""

    def __init__(self, views: Iterable[Tensor]):
        self.views = [*views]
        self.tensor = self.views[0] if len(self.views) == 1 else torch.cat(self.views, 1)
        self.parts = self.tensor.split([view.shape[1] for view in self.views], 1)

    def gather(self) -> Tensor:
        """Copy the views into the tensor, and return it."""
        if len(self.views) > 1:
            torch.cat(self.views, 1, out=self.tensor)
        return self.tensor

    def scatter(self) -> None:
        """Copy the tensor into the views."""
        if len(self.views) > 1:
            foreach_copy_(self.views, self.parts)


class Softmax:
    """Cross-entropy of columns of as many classes each."""

    def __init__(self, columns: ColumnViews, n_classes: int):
        tensors = *columns.params, *columns.grads, columns.x  # (M, d, C, K, B)
        self.logit, self.grad, self.x = (part.unflatten(1, (-1, n_classes)) for part in tensors)
        self.observed = None if columns.observed is None else columns.observed.unsqueeze(2)
        self.log_probability, self.probability = (empty_like(self.logit) for _ in range(2))

    def forward(self) -> Tensor:
        """Compute the cost of each row, summed over columns, in nats: (M, K, B)."""
        aten._log_softmax.out(self.logit, 2, False, out=self.log_probability)
        torch.exp(self.log_probability, out=self.probability)
        if self.observed is not None:
            self.probability.mul_(self.observed)
        return self.log_probability.mul_(self.x).sum((1, 2)).neg_()

    def backward(self, weight: Tensor) -> None:
        """Write the gradients of the logits, from that of the cost: (M, 1, K, B)."""
        torch.sub(self.probability, self.x, out=self.grad).mul_(weight.unsqueeze(2))


class SoftmaxWithRest:
    """Cross-entropy of classes beside a rest, whose logit is 0, of all columns that have one.

    Columns of a block have ``n_classes`` classes each: the first numbers of a value are one-hot.
    """

    def __init__(self, blocks: Sequence[ColumnViews], n_classes: Sequence[int]):
        self.logit, self.grad = (
            JoinedViews(each[0] for each in tensors)
            for tensors in zip(*((block.params, block.grads) for block in blocks), strict=True)
        )
        sizes = [part.shape[1] // n for part, n in zip(self.logit.parts, n_classes, strict=True)]
        # a view of each column: a block has other numbers in between
        values = zip(blocks, sizes, n_classes, strict=True)
        self.x = JoinedViews(
            value[:, :n]
            for block, size, n in values
            for value in block.x.unflatten(1, (size, -1)).unbind(1)
        )
        self.observed = JoinedViews(block.mask(n) for block, n in zip(blocks, sizes, strict=True))
        n_of_column, like = np.repeat(n_classes, sizes), self.x.tensor
        column = np.repeat(np.arange(len(n_of_column)), n_of_column)
        self.column = torch.as_tensor(column, device=like.device)  # of each class
        sums = one_hot(self.column, len(n_of_column), like.dtype).mT
        self.sums = sums.expand(len(like), -1, -1)  # (M, d, n)
        self.odds = empty_like(self.logit.tensor)
        # mask of the observed values of no class: (M, d, 1, B), and those of each block
        self.is_rest = torch.empty_like(self.observed.tensor)
        self.parts = self.is_rest.split(sizes, 1)

    def _sum(self, of_classes: Tensor) -> Tensor:
        """Sum over the classes of each column: (M, n, K, B) -> (M, d, K, B)."""
        return torch.bmm(self.sums, of_classes.flatten(2)).unflatten(2, of_classes.shape[2:])

    def forward(self) -> Tensor:
        """Compute the cost of each row, summed over columns, in nats: (M, K, B)."""
        logit, x, observed = (each.gather() for each in (self.logit, self.x, self.observed))
        torch.sub(observed, self._sum(x), out=self.is_rest)
        torch.clamp(logit, max=MAX_LOGIT, out=self.odds).exp_()
        self.total = self._sum(self.odds).add_(1)
        chosen = torch.mul(logit, x, out=self.grad.tensor)  # a new tensor of its size takes longer
        return (self.total.log() * observed).sum(1).sub_(chosen.sum(1))

    def backward(self, weight: Tensor) -> None:
        """Write the gradients of the logits, from that of the cost: (M, 1, K, B)."""
        inverse_total = torch.div(self.observed.tensor, self.total)
        grad = torch.index_select(inverse_total, 1, self.column, out=self.grad.tensor)
        grad.mul_(self.odds).sub_(self.x.tensor).mul_(weight)
        self.grad.scatter()


class NormalCost:
    """Cost of normal columns, whose scale is a function of z or one number per column."""

    def __init__(self, blocks: Sequence[ColumnViews]):
        # locations and raw scales (M, d, K, B); scales may be (M, d, 1, 1)
        params, grads = (
            [JoinedViews(views) for views in zip(*tensors, strict=True)]
            for tensors in zip(*((block.params, block.grads) for block in blocks), strict=True)
        )
        self.grads, self.inputs = grads, [*params, JoinedViews(block.x for block in blocks)]
        self.observed: Tensor | None = None
        if any(block.observed is not None for block in blocks):
            masks = JoinedViews(block.mask(block.x.shape[1]) for block in blocks)
            self.inputs.append(masks)
            self.observed = masks.tensor
        self.loc, self.raw, self.x = (each.tensor for each in self.inputs[:3])
        self.grad_loc, self.grad_raw = (each.tensor for each in grads)
        self.inverse_scale = empty_like(self.raw)
        self.standardized, self.square, self.cost = (empty_like(self.loc) for _ in range(3))
        self.log_scale_bound = TanhBound(self.raw, LOG_SCALE_BOUND)
        self.bound, self.half = self.log_scale_bound.bound, self.raw.new_tensor(0.5)
        self.negative_bound, self.one = -self.bound, self.raw.new_ones(())

    def forward(self) -> Tensor:
        """Compute the cost of each row, summed over columns, in nats: (M, K, B)."""
        for each in self.inputs:
            each.gather()
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
        for each in self.grads:
            each.scatter()


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
    with_rest: list[tuple[ColumnViews, int]] = []
    # by whether scales depend on z
    normal: dict[tuple[bool, ...], list[ColumnViews]] = {}
    parts = zip(likelihood.likelihoods, params, grads, rows, masks, strict=True)
    for part, of_params, of_grads, of_rows, mask in parts:
        views = [[tensor.movedim(-1, 1) for tensor in each] for each in (of_params, of_grads)]
        columns = ColumnViews(part, views[0], views[1], of_rows, mask)
        match part:
            case ZeroInflated():
                with_rest.append((columns, part.n_spikes))
            case OneHot() if mask is not None:
                costs.append(AutogradCost(columns))
            case OneHot() if part.has_none:
                with_rest.append((columns, part.n_columns))
            case OneHot():
                costs.append(Softmax(columns, part.n_columns))
            case Categorical():
                costs.append(Softmax(columns, part.n_classes))
            case Bernoulli():
                costs.append(BernoulliCost(columns))
            case NegativeBinomial():
                costs.append(NegativeBinomialCost(columns))
            case Gaussian() if not part.has_fixed_scale:
                normal.setdefault(part.depends_on_z, []).append(columns)
            case _:
                costs.append(AutogradCost(columns))
    if with_rest:
        blocks, n_classes = zip(*with_rest, strict=True)
        classes = SoftmaxWithRest(blocks, n_classes)
        costs.append(classes)  # before the costs of numbers: it computes which values are numbers
        for columns, is_number in zip(blocks, classes.parts, strict=True):
            if isinstance(columns.likelihood, ZeroInflated):
                numbers = columns.x.unflatten(1, (is_number.shape[1], -1))[:, :, -1]
                tensors = columns.params[1:], columns.grads[1:], numbers, is_number
                normal.setdefault(DENSITY.depends_on_z, []).append(ColumnViews(DENSITY, *tensors))
    return costs + [NormalCost(blocks) for blocks in normal.values()]
