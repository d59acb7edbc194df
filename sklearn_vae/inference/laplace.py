"""Laplace approximation of the posterior p(z|x), at a mode that Newton's method finds."""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sklearn_vae.device import widest_dtype
from sklearn_vae.inference.constants import (
    CLIP_SHARE,
    CONVERGED,
    DIFFERENCE,
    FIRST_DIFFERENCE,
    MAX_NEWTON_STEPS,
    MAX_SCALE,
    STEP_LENGTHS,
)
from sklearn_vae.model_constants import HALF_LOG_2PI


class Target(Protocol):
    """The posterior of codes up to a constant: p(x|z) p(z) of B rows x."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(x, z) in nats: (M, K, B or 1, l) -> (M, K, B)."""

    def select(self, rows: Tensor) -> "Target":
        """Index-select the rows."""


class NormalProposal(NamedTuple):
    """A normal distribution of codes for each row.

    Attributes
    ----------
    loc : Tensor of shape (M, B, l)
        Its means.
    axes : Tensor of shape (M, B, l, l)
        Columns are the axes along which the dimensions are independent.
    scale : Tensor of shape (M, B, l)
        Standard deviations along them.
    """

    loc: Tensor
    axes: Tensor
    scale: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """Codes of standard normal draws: (M or 1, K, 1, l) -> (M, K, B, l)."""
        # the symmetric root: it does not depend on the axes' signs, nor on those of equal scales
        root = (self.axes * self.scale.unsqueeze(-2)) @ self.axes.mT
        return self.loc.unsqueeze(1) + (root @ noise.movedim(1, -1)).movedim(-1, 1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats of codes: (M, K, B, l) -> (M, K, B)."""
        return -0.5 * self.squared_distance(z) - (self.scale.log() + HALF_LOG_2PI).sum(
            -1
        ).unsqueeze(1)

    def squared_distance(self, z: Tensor) -> Tensor:
        """Squared Mahalanobis distance of codes: (M, K, B, l) -> (M, K, B)."""
        difference = (z - self.loc.unsqueeze(1)).movedim(1, -1)  # (M, B, l, K)
        standardised = (self.axes.mT @ difference) / self.scale.unsqueeze(-1)
        return standardised.square().sum(-2).movedim(-1, 1)

    def select(self, rows: Tensor) -> "NormalProposal":
        """Index-select the rows."""
        return NormalProposal(*(part.index_select(1, rows) for part in self))


def newton(target: Target, z: Tensor) -> NormalProposal:
    """Find the posterior's mode by Newton's method with a line search, from codes (M, B, l).

    Return the Laplace approximation at the mode, with the curvature before the last step. Converged
    rows take no further steps.
    """
    n_latent = z.shape[-1]
    axes = torch.eye(n_latent, dtype=z.dtype, device=z.device).expand(*z.shape, n_latent)
    normal = NormalProposal(z, axes, torch.full_like(z, FIRST_DIFFERENCE / DIFFERENCE))
    rows = torch.arange(z.shape[1], device=z.device)
    for _ in range(MAX_NEWTON_STEPS):
        active = target.select(rows)
        local, step = laplace_approximation(active, normal.select(rows))
        z = torch.stack([local.loc + length * step for length in STEP_LENGTHS], dim=1)
        best = active.log_prob(z).nan_to_num(nan=-math.inf).argmax(1)  # (M, B)
        moved = local._replace(loc=z.take_along_dim(best[:, None, :, None], dim=1)[:, 0])
        normal = NormalProposal(
            *(old.index_copy(1, rows, new) for old, new in zip(normal, moved, strict=True))
        )
        size = local.squared_distance(moved.loc.unsqueeze(1)).squeeze(1) / n_latent
        rows = rows[~(size < CONVERGED**2).all(0)]
        if not len(rows):
            break
    return normal


def laplace_approximation(target: Target, guess: NormalProposal) -> tuple[NormalProposal, Tensor]:
    """Laplace approximation around a code, and the Newton step (M, B, l) from there.

    The code is the mean of the guess. The precision is the curvature of the negative log-density
    of x and z, a finite difference of gradients along the guess's axes, at a distance in
    proportion to its scales.
    """
    n_latent = guess.loc.shape[-1]
    distance = (DIFFERENCE * guess.scale).clamp(max=1.0)
    shift = (guess.axes * distance.unsqueeze(-2)).mT  # (M, B, l, l): a row per axis
    shift = shift.movedim(2, 1)  # (M, l, B, l)
    z = guess.loc.unsqueeze(1)
    around = torch.cat([z + shift, z - shift], dim=1)
    with torch.enable_grad():
        around = around.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(target.log_prob(around).sum(), around)
    exact = widest_dtype(z.device)
    largest = CLIP_SHARE * torch.finfo(exact).max
    gradient = gradient.nan_to_num().to(exact).clamp(-largest, largest)
    ahead, behind = gradient.split(n_latent, dim=1)  # (M, l, B, l) each
    axes = guess.axes.to(exact)
    hessian = (behind - ahead).movedim(1, 2) / (2 * distance.to(exact)).unsqueeze(
        -1
    )  # (M, B, axis, l)
    curvature = (axes @ hessian).nan_to_num().clamp(-largest, largest)  # (M, B, l, l)
    precision, eigenvectors = torch.linalg.eigh(0.5 * (curvature + curvature.mT))
    precision = precision.clamp(min=MAX_SCALE**-2)
    mean_gradient = 0.5 * (ahead + behind).mean(1).unsqueeze(-1)  # (M, B, l, 1)
    scaled = (eigenvectors.mT @ mean_gradient) / precision.unsqueeze(-1)
    step = (eigenvectors @ scaled).squeeze(-1)
    dtype = z.dtype
    normal = NormalProposal(guess.loc, eigenvectors.to(dtype), precision.rsqrt().to(dtype))
    return normal, step.to(dtype)
