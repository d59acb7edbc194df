"""Laplace approximation of the posterior p(z|x), at a mode that Newton's method finds.

Arrays are PyTorch's tensors, or in the runtime numpy's.
"""

import math
from typing import NamedTuple, Protocol

from sklearn_vae.inference.constants import (
    CLIP_SHARE,
    CONVERGED,
    DIFFERENCE,
    FIRST_DIFFERENCE,
    MAX_NEWTON_STEPS,
    MAX_SCALE,
    STEP_LENGTHS,
)
from sklearn_vae.numerics.array_api import Array, arange, as_type, namespace, take, take_along
from sklearn_vae.numerics.model_constants import HALF_LOG_2PI


class Target(Protocol):
    """The posterior of codes up to a constant: p(x|z) p(z) of B rows x."""

    def log_prob(self, z: Array) -> Array:
        """Log p(x, z) in nats: (M, K, B or 1, l) -> (M, K, B)."""

    def gradient(self, z: Array) -> Array:
        """Gradient of log p(x, z) in z, 0 for NaN, in the most precise dtype: (M, K, B, l)."""

    def select(self, rows: Array) -> "Target":
        """Index-select the rows."""


class NormalProposal(NamedTuple):
    """A normal distribution of codes for each row.

    Attributes
    ----------
    loc : array of shape (M, B, l)
        Its means.
    axes : array of shape (M, B, l, l)
        Columns are the axes along which the dimensions are independent.
    scale : array of shape (M, B, l)
        Standard deviations along them.
    """

    loc: Array
    axes: Array
    scale: Array

    def draw(self, noise: Array) -> Array:
        """Codes of standard normal draws: (M or 1, K, 1, l) -> (M, K, B, l)."""
        # the symmetric root: it does not depend on the axes' signs, nor on those of equal scales
        root = (self.axes * self.scale[..., None, :]) @ self.axes.swapaxes(-1, -2)
        xp = namespace(noise)
        return self.loc[:, None] + xp.moveaxis(root @ xp.moveaxis(noise, 1, -1), -1, 1)

    def log_prob(self, z: Array) -> Array:
        """Log-density in nats of codes: (M, K, B, l) -> (M, K, B)."""
        constant = (namespace(z).log(self.scale) + HALF_LOG_2PI).sum(-1)
        return -0.5 * self.squared_distance(z) - constant[:, None]

    def squared_distance(self, z: Array) -> Array:
        """Squared Mahalanobis distance of codes: (M, K, B, l) -> (M, K, B)."""
        xp = namespace(z)
        difference = xp.moveaxis(z - self.loc[:, None], 1, -1)  # (M, B, l, K)
        standardized = (self.axes.swapaxes(-1, -2) @ difference) / self.scale[..., None]
        return xp.moveaxis(xp.square(standardized).sum(-2), -1, 1)

    def select(self, rows: Array) -> "NormalProposal":
        """Index-select the rows."""
        return NormalProposal(*(take(part, rows, 1) for part in self))


def newton(target: Target, z: Array) -> NormalProposal:
    """Find the posterior's mode by Newton's method with a line search, from codes (M, B, l).

    Return the Laplace approximation at the mode, with the curvature before the last step. Converged
    rows take no further steps.
    """
    xp, n_latent = namespace(z), z.shape[-1]
    loc = xp.zeros_like(z) + z  # a copy, to be changed in place
    axes = xp.zeros_like(z)[..., None] + as_type(xp.eye(n_latent), z)
    normal = NormalProposal(loc, axes, xp.full_like(z, FIRST_DIFFERENCE / DIFFERENCE))
    rows = arange(z.shape[1], z)
    for _ in range(MAX_NEWTON_STEPS):
        active = target.select(rows)
        local, step = laplace_approximation(active, normal.select(rows))
        z = xp.stack([local.loc + length * step for length in STEP_LENGTHS], 1)
        best = xp.nan_to_num(active.log_prob(z), nan=-math.inf).argmax(1)  # (M, B)
        moved = local._replace(loc=take_along(z, best[:, None, :, None], 1)[:, 0])
        for old, new in zip(normal, moved, strict=True):
            old[:, rows] = new
        size = local.squared_distance(moved.loc[:, None])[:, 0] / n_latent
        rows = rows[~(size < CONVERGED**2).all(0)]
        if not len(rows):
            break
    return normal


def laplace_approximation(target: Target, guess: NormalProposal) -> tuple[NormalProposal, Array]:
    """Laplace approximation around a code, and the Newton step (M, B, l) from there.

    The code is the mean of the guess. The precision is the curvature of the negative log-density
    of x and z, a finite difference of gradients along the guess's axes, at a distance in
    proportion to its scales.
    """
    xp, n_latent, z = namespace(guess.loc), guess.loc.shape[-1], guess.loc[:, None]
    distance = xp.clip(DIFFERENCE * guess.scale, None, 1.0)
    shift = xp.moveaxis(guess.axes * distance[..., None, :], -1, 1)  # (M, l, B, l): one per axis
    gradient = target.gradient(xp.concatenate([z + shift, z - shift], 1))
    largest = CLIP_SHARE * xp.finfo(gradient.dtype).max
    gradient = xp.clip(gradient, -largest, largest)
    ahead, behind = gradient[:, :n_latent], gradient[:, n_latent:]  # (M, l, B, l) each
    axes, exact_distance = as_type(guess.axes, gradient), as_type(distance, gradient)
    hessian = xp.moveaxis(behind - ahead, 1, 2) / (2 * exact_distance)[..., None]  # (M, B, axis, l)
    curvature = xp.clip(xp.nan_to_num(axes @ hessian), -largest, largest)  # (M, B, l, l)
    precision, eigenvectors = xp.linalg.eigh(0.5 * (curvature + curvature.swapaxes(-1, -2)))
    precision = xp.clip(precision, MAX_SCALE**-2, None)
    mean_gradient = 0.5 * (ahead + behind).mean(1)[..., None]  # (M, B, l, 1)
    scaled = (eigenvectors.swapaxes(-1, -2) @ mean_gradient) / precision[..., None]
    step = (eigenvectors @ scaled)[..., 0]
    normal = NormalProposal(guess.loc, as_type(eigenvectors, z), as_type(precision**-0.5, z))
    return normal, as_type(step, z)
