"""The gradient of the evidence lower bound, written out.

Autograd builds a graph at every step; here each part of the model has a forward and a
backward of its own, and gradients are written where the optimizer reads them. What has
no part here (another posterior, another kind of column) is left to autograd, which is
also what this is tested against.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from sklearn_vae import likelihoods, posteriors
from sklearn_vae.likelihoods import Bernoulli, Gaussian
from sklearn_vae.model import FARTHEST_INPUT, VAE
from sklearn_vae.networks import MLP
from sklearn_vae.objectives import ELBO, Terms
from sklearn_vae.posteriors import DiagonalGaussian
from sklearn_vae.priors import HALF_LOG_2PI

aten = torch.ops.aten

# for each activation: the gradient before it, from the gradient after it and its input and output
ACTIVATION_GRADIENTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "identity": lambda grad, before, after: grad,
    "logistic": lambda grad, before, after: aten.sigmoid_backward(grad, after),
    "tanh": lambda grad, before, after: aten.tanh_backward(grad, after),
    "relu": lambda grad, before, after: aten.threshold_backward(grad, after, 0),
    "silu": lambda grad, before, after: aten.silu_backward(grad, before),
    "gelu": lambda grad, before, after: aten.gelu_backward(grad, before),
}


def has_gradient(model: VAE, objective: ELBO) -> bool:
    """Whether every part of the model and the objective has its gradient here."""
    kinds = {type(kind) for kind, _ in model.likelihood.blocks}
    return (
        type(objective) is ELBO
        and type(model.posterior) is DiagonalGaussian
        and kinds <= {Gaussian, Bernoulli}
    )


@torch.no_grad()
def elbo_with_gradient(
    objective: ELBO, model: VAE, x: Tensor, weight: Tensor | None, noise: Tensor, beta: float
) -> Terms:
    """Compute the terms of one batch and write their gradient into the model's.

    The arguments are those of :class:`ELBO`; what was in the gradients is overwritten.
    """
    n_rows, n_draws = x.shape[1], noise.shape[1]
    share = x.new_ones(x.shape[:2]) if weight is None else weight
    share = share / n_rows  # (M, B)

    encoder, decoder = Layers(model.encoder), Layers(model.decoder)
    params = encoder.forward(x.clamp(-FARTHEST_INPUT, FARTHEST_INPUT))  # (M, B, 2 l)
    code = Code(params, noise)
    out = decoder.forward(code.z.flatten(1, 2)).unflatten(1, (n_draws, n_rows))

    grad_out = torch.empty_like(out)  # (M, K, B, n_of_z)
    columns = _columns(model, out, grad_out, x, share / n_draws, objective.prior_rows)
    grad_z = decoder.backward(grad_out.flatten(1, 2), wants_input=True).view_as(code.z)

    kl_per_unit = torch.einsum("mb,mbl->ml", share, code.kl)
    spent = kl_per_unit > objective.free_bits if objective.free_bits > 0 else None
    encoder.backward(code.backward(grad_z, share, beta, spent))
    if objective.free_bits > 0:
        kl_per_unit = kl_per_unit.clamp(min=objective.free_bits)
    kl_loss = kl_per_unit.sum(-1)
    return Terms(columns.loss + beta * kl_loss, columns.loss, kl_loss, columns.penalty)


class Layers:
    """An MLP with its linear path: forward remembers what backward needs."""

    def __init__(self, network: MLP):
        self.network = network
        self.gradient = ACTIVATION_GRADIENTS[network.activation_name]

    def forward(self, x: Tensor) -> Tensor:
        """(M, rows, n_in) -> (M, rows, n_out)."""
        self.x = x
        self.before: list[Tensor] = []
        self.after: list[Tensor] = [x]
        for layer in self.network.layers:
            self.before.append(torch.baddbmm(layer.bias, self.after[-1], layer.weight))
            self.after.append(self.network.activation(self.before[-1]))
        out = torch.baddbmm(self.network.linear.bias, x, self.network.linear.weight)
        if self.network.last is not None:
            out = out.baddbmm_(self.after[-1], self.network.last)
        return out

    def backward(self, grad: Tensor, *, wants_input: bool = False) -> Tensor:
        """Write the weights' gradients; give the input's if it is wanted."""
        linear = self.network.linear
        _affine_gradient(self.x, grad, linear.weight, linear.bias)
        grad_x = grad @ linear.weight.mT if wants_input else grad
        if self.network.last is None:
            return grad_x
        torch.bmm(self.after[-1].mT, grad, out=self.network.last.grad)
        grad = grad @ self.network.last.mT
        for place in reversed(range(len(self.before))):
            layer = self.network.layers[place]
            grad = self.gradient(grad, self.before[place], self.after[place + 1])
            _affine_gradient(self.after[place], grad, layer.weight, layer.bias)
            if place > 0 or wants_input:
                grad = grad @ layer.weight.mT
        return grad_x + grad if wants_input else grad


def _affine_gradient(x: Tensor, grad: Tensor, weight: Tensor, bias: Tensor) -> None:
    torch.bmm(x.mT, grad, out=weight.grad)
    torch.sum(grad, 1, keepdim=True, out=bias.grad)


class Code:
    """A diagonal Gaussian posterior, its draws and its KL from the standard normal."""

    def __init__(self, params: Tensor, noise: Tensor):
        self.noise = noise
        self.loc, raw = params.chunk(2, dim=-1)
        self.log_scale = posteriors.LOG_SCALE_BOUND * (raw / posteriors.LOG_SCALE_BOUND).tanh_()
        self.scale = self.log_scale.exp()
        self.variance = self.scale.square()
        self.z = self.loc.unsqueeze(1) + self.scale.unsqueeze(1) * noise  # (M, K, B, l)
        self.kl = 0.5 * (self.loc.square() + self.variance - 1) - self.log_scale  # (M, B, l)

    def backward(self, grad_z: Tensor, share: Tensor, beta: float, spent: Tensor | None) -> Tensor:
        """Gradient of the encoder's output: (M, B, 2 l)."""
        force = beta * share.unsqueeze(-1)  # (M, B, 1)
        if spent is not None:
            force = force * spent.unsqueeze(1)
        grad_loc = grad_z.sum(1) + force * self.loc
        grad_scale = (grad_z * self.noise).sum(1) * self.scale + force * (self.variance - 1)
        slope = 1 - (self.log_scale / posteriors.LOG_SCALE_BOUND).square()
        return torch.cat([grad_loc, grad_scale * slope], dim=-1)


@dataclass
class Columns:
    """Loss and penalty of the columns: (M,) each."""

    loss: Tensor
    penalty: Tensor


def _columns(
    model: VAE, out: Tensor, grad_out: Tensor, x: Tensor, share: Tensor, prior_rows: float
) -> Columns:
    """Loss of all kinds of columns; their gradients go into ``grad_out`` and the free ones."""
    likelihood = model.likelihood
    params = likelihood.split(out, model.free.unsqueeze(1))
    grads = likelihood.split(grad_out, cast(Tensor, model.free.grad).unsqueeze(1))
    total = Columns(out.new_zeros(len(out)), out.new_zeros(len(out)))
    share = share.unsqueeze(1).unsqueeze(-1)  # (M, 1, B, 1)
    cuts = zip(
        likelihood.blocks, params, grads, likelihood.cut(x), likelihood.cut(model.residual),
        strict=True,
    )  # fmt: skip
    for (kind, _), own, own_grads, own_x, residual in cuts:
        if isinstance(kind, Bernoulli):
            _bernoulli(own, own_grads, own_x.unsqueeze(1), share, total)
        else:
            _gaussian(own, own_grads, own_x.unsqueeze(1), share, residual, prior_rows, total)
    return total


def _bernoulli(
    params: list[Tensor], grads: list[Tensor], x: Tensor, share: Tensor, total: Columns
) -> None:
    (logit,), (grad,) = params, grads
    loss = torch.nn.functional.softplus(logit) - x * logit
    total.loss += (loss.sum(-1, keepdim=True) * share).sum((1, 2, 3))
    torch.sub(torch.sigmoid(logit), x, out=grad).mul_(share)


def _gaussian(
    params: list[Tensor],
    grads: list[Tensor],
    x: Tensor,
    share: Tensor,
    residual: Tensor,
    prior_rows: float,
    total: Columns,
) -> None:
    loc, raw = params
    bound = likelihoods.LOG_SCALE_BOUND
    log_scale = bound * torch.tanh(raw / bound)
    precision = (-log_scale).exp()  # (M, K or 1, B or 1, d)
    z = (x - loc).mul_(precision)
    imagined = (residual * precision).square_()
    square = z.square()
    constant = (log_scale + HALF_LOG_2PI).sum(-1, keepdim=True)
    rows = 0.5 * square.sum(-1, keepdim=True) + constant
    total.loss += (rows * share).sum((1, 2, 3))
    prior = 0.5 * imagined.sum(-1, keepdim=True) + constant
    total.penalty += prior_rows * (prior * share).expand_as(rows).sum((1, 2, 3))

    torch.mul(z, precision, out=grads[0]).mul_(-share)
    slope = 1 - (log_scale / bound).square()
    of_scale = (1 - square).add_(prior_rows * (1 - imagined)).mul_(share)
    if raw.shape == loc.shape:
        torch.mul(of_scale, slope, out=grads[1])
    else:
        grads[1].copy_(of_scale.sum((1, 2), keepdim=True) * slope)
