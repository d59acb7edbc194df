"""Laplace approximation of the posterior p(z|x) in numpy.

It is the counterpart of :mod:`sklearn_vae.inference.laplace`, where the method is documented.
"""

from typing import NamedTuple

import numpy as np

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
from sklearn_vae.runtime.vae import VAE


class JointDensity(NamedTuple):
    """p(x, z) of rows (B, n) as a function of z."""

    vae: VAE
    x: np.ndarray

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        """Log p(x, z) in nats: (M, K, B or 1, l) -> (M, K, B)."""
        return self.vae.log_likelihood(self.x, z) + self.vae.prior.log_prob(z)

    def gradient(self, z: np.ndarray) -> np.ndarray:
        """Gradient of log p(x, z) in z: (M, K, B, l) -> (M, K, B, l)."""
        return self.vae.gradient(self.x, z) + self.vae.prior.gradient(z)

    def select(self, rows: np.ndarray) -> "JointDensity":
        """Index-select the rows."""
        return self._replace(x=self.x[rows])


class NormalProposal(NamedTuple):
    """A normal distribution of codes for each row: (M, B, l), (M, B, l, l), (M, B, l).

    Columns of ``axes`` are the axes along which the dimensions are independent, and ``scale`` the
    standard deviations along them.
    """

    loc: np.ndarray
    axes: np.ndarray
    scale: np.ndarray

    def draw(self, noise: np.ndarray) -> np.ndarray:
        """Codes of standard normal draws: (K, l) -> (M, K, B, l)."""
        root = (self.axes * self.scale[..., None, :]) @ self.axes.swapaxes(-1, -2)
        return self.loc[:, None] + np.moveaxis(root @ noise.T, -1, 1)

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        """Log-density in nats of codes: (M, K, B, l) -> (M, K, B)."""
        constant = (np.log(self.scale) + HALF_LOG_2PI).sum(-1)
        return -0.5 * self.squared_distance(z) - constant[:, None]

    def squared_distance(self, z: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distance of codes: (M, K, B, l) -> (M, K, B)."""
        difference = np.moveaxis(z - self.loc[:, None], 1, -1)  # (M, B, l, K)
        standard = self.axes.swapaxes(-1, -2) @ difference / self.scale[..., None]
        return np.moveaxis(np.square(standard).sum(-2), -1, 1)

    def select(self, rows: np.ndarray) -> "NormalProposal":
        """Index-select the rows."""
        return NormalProposal(*(part[:, rows] for part in self))


def newton(target: JointDensity, z: np.ndarray) -> NormalProposal:
    """Laplace approximation at the mode that Newton's method finds from codes (M, B, l).

    Its curvature is that before the last step. Converged rows take no further steps.
    """
    axes = np.tile(np.eye(z.shape[-1]), (*z.shape[:2], 1, 1))
    normal = NormalProposal(z.copy(), axes, np.full_like(z, FIRST_DIFFERENCE / DIFFERENCE))
    rows = np.arange(z.shape[1])
    for _ in range(MAX_NEWTON_STEPS):
        active = target.select(rows)
        local, step = laplace_approximation(active, normal.select(rows))
        codes = local.loc[:, None] + np.reshape(STEP_LENGTHS, (-1, 1, 1)) * step[:, None]
        best = np.nan_to_num(active.log_prob(codes), nan=-np.inf).argmax(1)  # (M, B)
        mode = np.take_along_axis(codes, best[:, None, :, None], 1)[:, 0]
        for old, new in zip(normal, local._replace(loc=mode), strict=True):
            old[:, rows] = new
        distance = local.squared_distance(mode[:, None])[:, 0] / z.shape[-1]
        rows = rows[~(distance < CONVERGED**2).all(0)]
        if not len(rows):
            break
    return normal


def laplace_approximation(
    target: JointDensity, guess: NormalProposal
) -> tuple[NormalProposal, np.ndarray]:
    """Laplace approximation around the mean of a guess, and the Newton step from there."""
    distance = np.minimum(DIFFERENCE * guess.scale, 1.0)
    shift = np.moveaxis(guess.axes * distance[..., None, :], -1, 1)  # (M, l, B, l): one per axis
    z = guess.loc[:, None]
    gradient = np.nan_to_num(target.gradient(np.concatenate([z + shift, z - shift], axis=1)))
    largest = CLIP_SHARE * np.finfo(np.float64).max
    ahead, behind = np.split(np.clip(gradient, -largest, largest), 2, axis=1)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        hessian = np.moveaxis(behind - ahead, 1, 2) / (2 * distance)[..., None]  # (M, B, axis, l)
        curvature = np.clip(np.nan_to_num(guess.axes @ hessian), -largest, largest)
    precision, axes = np.linalg.eigh(0.5 * (curvature + curvature.swapaxes(-1, -2)))
    precision = np.maximum(precision, MAX_SCALE**-2)
    mean_gradient = 0.5 * (ahead + behind).mean(1)[..., None]  # (M, B, l, 1)
    step = (axes @ (axes.swapaxes(-1, -2) @ mean_gradient / precision[..., None]))[..., 0]
    return NormalProposal(guess.loc, axes, 1 / np.sqrt(precision)), step
