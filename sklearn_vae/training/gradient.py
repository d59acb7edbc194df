"""The gradient of the evidence lower bound, written out.

Autograd builds a graph at every step; here each part of the model has a forward and a
backward of its own, computes into buffers that are made once, and writes its gradient
where the optimizer reads it. What has no part here (another posterior, another kind of
column) is left to autograd, which is also what this is tested against.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from sklearn_vae import likelihoods, posteriors
from sklearn_vae.likelihoods import Bernoulli, Gaussian
from sklearn_vae.model import FARTHEST_INPUT, VAE
from sklearn_vae.networks import MLP, Dense
from sklearn_vae.objectives import ELBO
from sklearn_vae.posteriors import DiagonalGaussian
from sklearn_vae.priors import HALF_LOG_2PI

aten = torch.ops.aten

# For each activation: its value into ``out``, from its input; and the gradient before it into
# ``out``, from the gradient after it, its input and its value.
ACTIVATIONS_OUT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda x, out: out.copy_(x),
    "logistic": lambda x, out: torch.sigmoid(x, out=out),
    "tanh": lambda x, out: torch.tanh(x, out=out),
    "relu": lambda x, out: torch.clamp_min(x, 0, out=out),
    "silu": lambda x, out: aten.silu.out(x, out=out),
    "gelu": lambda x, out: aten.gelu.out(x, out=out),
}
ACTIVATION_GRADIENTS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "identity": lambda grad, x, value, out: out.copy_(grad),
    "logistic": lambda grad, x, value, out: aten.sigmoid_backward.grad_input(
        grad, value, grad_input=out
    ),
    "tanh": lambda grad, x, value, out: aten.tanh_backward.grad_input(grad, value, grad_input=out),
    "relu": lambda grad, x, value, out: aten.threshold_backward.grad_input(
        grad, value, 0, grad_input=out
    ),
    "silu": lambda grad, x, value, out: aten.silu_backward.grad_input(grad, x, grad_input=out),
    "gelu": lambda grad, x, value, out: aten.gelu_backward.grad_input(grad, x, grad_input=out),
}


def has_gradient(model: VAE, objective: ELBO) -> bool:
    """Whether every part of the model and the objective has its gradient here."""
    kinds = {type(kind) for kind, _ in model.likelihood.blocks}
    return (
        type(objective) is ELBO
        and type(model.posterior) is DiagonalGaussian
        and kinds <= {Gaussian, Bernoulli}
    )


class Gradient:
    """The objective's value and gradient for batches of one shape.

    Parameters
    ----------
    model : VAE
        The model, whose parameters and gradients are read and written in place.
    objective : ELBO
        What to differentiate.
    n_rows, n_draws : int
        Rows in a batch and draws of z per row.
    """

    def __init__(self, model: VAE, objective: ELBO, n_rows: int, n_draws: int):
        n_members, like = len(model.flat), model.flat
        self.objective = objective
        self.mask = model.mask
        self.shares = Shares(n_members, n_rows, n_draws, like)
        self.encoder = Layers(model.encoder, n_rows)
        self.code = Code(self.encoder.out, n_draws)
        self.decoder = Layers(model.decoder, n_draws * n_rows)
        out = self.decoder.out.unflatten(1, (n_draws, n_rows))  # (M, K, B, n_of_z)
        self.grad_out = torch.empty_like(out)
        self.columns = _columns(model, out, self.grad_out, objective.prior_rows, self.shares)
        self.widths = model.likelihood.widths
        self.terms = like.new_zeros(3, n_members)

    @torch.no_grad()
    def __call__(
        self, x: Tensor, weight: Tensor | None, noise: Tensor, beta: float | Tensor
    ) -> Tensor:
        """Compute the terms of one batch and write their gradient into the model's.

        Parameters
        ----------
        x : Tensor of shape (M, B, n_columns)
            Encoded rows.
        weight : Tensor of shape (M, B) or None
            What each counts.
        noise : Tensor of shape (M or 1, K, B or 1, l)
            Standard normal draws.
        beta : float or Tensor of shape (M,)
            Weight of the KL.

        Returns
        -------
        Tensor of shape (3, M)
            Loss, reconstruction loss and KL loss; valid until the next call.
        """
        self.shares.weigh(weight)
        self.encoder.forward(x.clamp(-FARTHEST_INPUT, FARTHEST_INPUT))
        z = self.code.forward(noise)
        self.decoder.forward(z.flatten(1, 2))

        loss, reconstruction, kl = self.terms.unbind()
        reconstruction.zero_()
        for block, own in zip(self.columns, x.unsqueeze(1).split(self.widths, dim=-1), strict=True):
            reconstruction.add_(block.forward_backward(own))
        grad_z = self.decoder.backward(self.grad_out.flatten(1, 2), wants_input=True)

        kl_per_unit = self.code.kl(self.shares)  # (M, l)
        spent = self.objective.spent(kl_per_unit)
        torch.sum(self.objective.clamped(kl_per_unit, self.mask), 1, out=kl)
        force = self.shares.column * _per_row(beta)  # (M, B, 1)
        force = force if spent is None else force * spent.unsqueeze(1)
        self.encoder.backward(self.code.backward(grad_z, noise, force))
        torch.mul(kl, beta, out=loss).add_(reconstruction)
        return self.terms


def _per_row(beta: float | Tensor) -> float | Tensor:
    return beta.view(-1, 1, 1) if isinstance(beta, Tensor) else beta


class Shares:
    """What each row of a batch counts, in the shapes that the parts need it in."""

    def __init__(self, n_members: int, n_rows: int, n_draws: int, like: Tensor):
        self.n_rows, self.n_draws = n_rows, n_draws
        self.column = like.new_full((n_members, n_rows, 1), 1 / n_rows)
        self.row = self.column.mT  # (M, 1, B)
        self.draws = like.new_full((n_members, n_draws, n_rows, 1), 1 / (n_rows * n_draws))
        self.draws_row = self.draws.flatten(1, 2).mT  # (M, 1, K B)
        self.total = like.new_ones(n_members, 1)

    def weigh(self, weight: Tensor | None) -> None:
        """Take the weights (M, B) of a batch; without any, all rows count the same."""
        if weight is None:
            return
        torch.mul(weight.unsqueeze(-1), 1 / self.n_rows, out=self.column)
        self.draws.copy_(self.column.unsqueeze(1)).mul_(1 / self.n_draws)
        torch.sum(self.column, 1, out=self.total)


class Layers:
    """An MLP with its linear path."""

    def __init__(self, network: MLP, n_rows: int):
        self.hidden = [Affine(layer, n_rows) for layer in network.layers]
        self.values = [torch.empty_like(affine.out) for affine in self.hidden]
        self.linear = Affine(network.linear, n_rows)
        self.out = self.linear.out
        self.activate = ACTIVATIONS_OUT[network.activation_name]
        self.gradient = ACTIVATION_GRADIENTS[network.activation_name]
        if network.last is not None:
            self.last, self.last_t = network.last.data, network.last.data.mT
            self.grad_last = cast(Tensor, network.last.grad)
            self.grad_hidden = torch.empty_like(self.values[-1])

    def forward(self, x: Tensor) -> Tensor:
        """(M, rows, n_in) -> (M, rows, n_out)."""
        self.linear.forward(x)
        if not self.hidden:
            return self.out
        for affine, value in zip(self.hidden, self.values, strict=True):
            x = self.activate(affine.forward(x), value)
        return self.out.baddbmm_(x, self.last)

    def backward(self, grad: Tensor, *, wants_input: bool = False) -> Tensor:
        """Write the weights' gradients; give the input's if it is wanted."""
        grad_x = self.linear.backward(grad, wants_input=wants_input)
        if not self.hidden:
            return grad_x
        torch.bmm(self.values[-1].mT, grad, out=self.grad_last)
        grad = torch.bmm(grad, self.last_t, out=self.grad_hidden)
        for place in reversed(range(len(self.hidden))):
            affine = self.hidden[place]
            grad = self.gradient(grad, affine.out, self.values[place], grad)
            grad = affine.backward(grad, wants_input=wants_input or place > 0)
        return grad_x.add_(grad) if wants_input else grad


class Affine:
    """x @ weight + bias."""

    def __init__(self, layer: Dense, n_rows: int):
        self.weight, self.bias = layer.weight.data, layer.bias.data
        self.weight_t = self.weight.mT
        self.grad_weight = cast(Tensor, layer.weight.grad)
        self.grad_bias = cast(Tensor, layer.bias.grad)
        n_members, n_in, n_out = self.weight.shape
        self.out = self.weight.new_empty(n_members, n_rows, n_out)
        self.grad_x = self.weight.new_empty(n_members, n_rows, n_in)

    def forward(self, x: Tensor) -> Tensor:
        """(M, rows, n_in) -> (M, rows, n_out)."""
        self.x_t = x.mT
        return torch.baddbmm(self.bias, x, self.weight, out=self.out)

    def backward(self, grad: Tensor, *, wants_input: bool) -> Tensor:
        """Write the gradients; give the input's if it is wanted."""
        torch.bmm(self.x_t, grad, out=self.grad_weight)
        torch.sum(grad, 1, keepdim=True, out=self.grad_bias)
        return torch.bmm(grad, self.weight_t, out=self.grad_x) if wants_input else self.grad_x


class Code:
    """A diagonal Gaussian posterior, its draws and its KL from the standard normal."""

    bound = posteriors.LOG_SCALE_BOUND

    def __init__(self, params: Tensor, n_draws: int):
        self.loc, self.raw = params.chunk(2, dim=-1)  # (M, B, l)
        self.grad_params = torch.empty_like(params)
        self.grad_loc, self.grad_raw = self.grad_params.chunk(2, dim=-1)
        self.bent, self.log_scale, self.scale, self.variance, self.work = (
            torch.empty_like(self.loc, memory_format=torch.contiguous_format) for _ in range(5)
        )
        n_members, n_rows, n_components = self.loc.shape
        self.z = params.new_empty(n_members, n_draws, n_rows, n_components)

    def forward(self, noise: Tensor) -> Tensor:
        """Draws z: (M or 1, K, B or 1, l) -> (M, K, B, l)."""
        torch.mul(self.raw, 1 / self.bound, out=self.bent).tanh_()
        torch.mul(self.bent, self.bound, out=self.log_scale)
        torch.exp(self.log_scale, out=self.scale)
        return torch.addcmul(self.loc.unsqueeze(1), self.scale.unsqueeze(1), noise, out=self.z)

    def kl(self, shares: Shares) -> Tensor:
        """KL per dimension, averaged over rows: (M, l)."""
        torch.mul(self.scale, self.scale, out=self.variance)
        half = torch.addcmul(self.variance, self.loc, self.loc, out=self.work).mul_(0.5)
        rows = half.sub_(self.log_scale)  # (M, B, l), half a nat short of the KL
        return torch.bmm(shares.row, rows).squeeze(1).sub_(0.5 * shares.total)

    def backward(self, grad_z: Tensor, noise: Tensor, force: Tensor) -> Tensor:
        """Gradient of the encoder's output: (M, B, 2 l)."""
        grad_z = grad_z.view_as(self.z)
        towards_scale = grad_z * noise
        if grad_z.shape[1] == 1:
            grad_loc, grad_scale = grad_z.squeeze(1), towards_scale.squeeze(1)
        else:
            grad_loc, grad_scale = grad_z.sum(1), towards_scale.sum(1)
        torch.addcmul(grad_loc, force, self.loc, out=self.grad_loc)
        grad = grad_scale.mul_(self.scale).addcmul_(force, self.variance).sub_(force)
        torch.addcmul(grad, grad, self.bent.square_(), value=-1, out=self.grad_raw)
        return self.grad_params


def _columns(
    model: VAE, out: Tensor, grad_out: Tensor, prior_rows: float | Tensor, shares: Shares
) -> Sequence["GaussianColumns | BernoulliColumns"]:
    """One part for each kind of columns, on views of the decoder's output and the free ones."""
    likelihood = model.likelihood
    params = likelihood.split(out, model.free.data.unsqueeze(1))
    grads = likelihood.split(grad_out, cast(Tensor, model.free.grad).unsqueeze(1))
    residuals = likelihood.cut(model.residual)
    return [
        BernoulliColumns(own, own_grads, shares)
        if isinstance(kind, Bernoulli)
        else GaussianColumns(own, own_grads, residual, prior_rows, shares)
        for (kind, _), own, own_grads, residual in zip(
            likelihood.blocks, params, grads, residuals, strict=True
        )
    ]


class BernoulliColumns:
    """Cross-entropy of binary columns."""

    def __init__(self, params: list[Tensor], grads: list[Tensor], shares: Shares):
        (self.logit,), (self.grad,) = params, grads
        self.shares = shares
        self.cost = _contiguous(self.logit)

    def forward_backward(self, x: Tensor) -> Tensor:
        """Write the gradient; give the loss: (M, 1, B, d) -> (M,)."""
        cost = aten.softplus.out(self.logit, out=self.cost)
        cost.addcmul_(x, self.logit, value=-1)
        torch.sigmoid(self.logit, out=self.grad).sub_(x).mul_(self.shares.draws)
        return torch.bmm(self.shares.draws_row, cost.flatten(1, 2)).sum((1, 2))


class GaussianColumns:
    """Log-density of real columns and the prior of their scales.

    The scale is a function of z or a number per column; in the second case all that
    concerns it alone is computed once and not for every row.
    """

    bound = likelihoods.LOG_SCALE_BOUND

    def __init__(
        self,
        params: list[Tensor],
        grads: list[Tensor],
        residual: Tensor,
        prior_rows: float | Tensor,
        shares: Shares,
    ):
        self.loc, self.raw = params
        self.grad_loc, self.grad_raw = grads
        self.residual, self.shares = residual, shares
        prior = torch.as_tensor(prior_rows, dtype=residual.dtype, device=residual.device)
        self.prior = prior.expand(len(residual)).reshape(-1, 1, 1, 1)
        self.is_of_z = self.raw.shape == self.loc.shape
        self.distance, self.square = _contiguous(self.loc), _contiguous(self.loc)
        self.bent, self.precision, self.pull = (_contiguous(self.raw) for _ in range(3))

    def forward_backward(self, x: Tensor) -> Tensor:
        """Write the gradient; give the loss: (M, 1, B, d) -> (M,)."""
        shares = self.shares
        torch.mul(self.raw, 1 / self.bound, out=self.bent).tanh_()
        torch.mul(self.bent, -self.bound, out=self.precision).exp_()  # (M, K or 1, B or 1, d)
        distance = torch.sub(x, self.loc, out=self.distance).mul_(self.precision)
        square = torch.mul(distance, distance, out=self.square)
        torch.mul(distance, self.precision, out=self.grad_loc).mul_(shares.draws).neg_()

        # how much an imagined row pulls the scale, less what it and a real row push
        pull = torch.mul(self.precision, self.residual, out=self.pull).square_().mul_(self.prior)
        pull.sub_(1 + self.prior)
        if self.is_of_z:
            cost = torch.mul(self.bent, 2 * self.bound, out=distance).add_(square)
            loss = torch.bmm(shares.draws_row, cost.flatten(1, 2))  # (M, 1, d)
            grad = pull.add_(square).mul_(shares.draws).neg_()
        else:
            loss = torch.bmm(shares.draws_row, square.flatten(1, 2))
            total = shares.total.view(-1, 1, 1, 1)
            grad = pull.mul_(total).add_(loss.unsqueeze(1)).neg_()
            loss = loss + 2 * self.bound * shares.total.unsqueeze(1) * self.bent.squeeze(1)
        torch.addcmul(grad, grad, self.bent.square_(), value=-1, out=self.grad_raw)
        n_columns = self.loc.shape[-1]
        return (
            loss.sum((1, 2)).mul_(0.5).add_(shares.total.squeeze(1), alpha=n_columns * HALF_LOG_2PI)
        )


def _contiguous(like: Tensor) -> Tensor:
    return torch.empty_like(like, memory_format=torch.contiguous_format)
