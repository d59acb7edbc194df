"""Laplace approximations of the posterior p(z|x), at modes that Fisher scoring finds.

Fisher scoring is Newton's method with the Fisher information about z in the place of the negative
Hessian matrix of log p(x|z): it is never indefinite, and needs the decoder's derivatives alone,
here finite differences. Shapes: M members, K draws, B rows, l latent dimensions.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import HALF_LOG_2PI, Array, namespace
from sklearn_vae.numerics.rows import batches

# Steps of Fisher scoring at most, for far rows, and twice the gain in nats that a further step is
# worth: without it, the code is about a quarter of a standard deviation off.
MAX_STEPS = 20
CONVERGED = 0.05
# A row's first search ends with a step that gains less than half of this in nats, not expanded.
FIRST_CONVERGED = 2.0
# Distance of the finite differences of the decoder's outputs.
DIFFERENCE = 0.05


class Expansion(NamedTuple):
    """Quadratic expansion of log p(x, z) around codes."""

    log_joint: Array  # (M, B), its value in nats
    gradient: Array  # (M, B, l), with respect to z
    information: Array  # (M, B, l, l), Fisher information about z of p(x|z)
    prior_precision: Array  # (M, B, l), precisions of p(z)

    @property
    def root(self) -> Array:
        """Cholesky factor of the sum of both; NaN where it overflows: (M, B, l, l)."""
        return ops.cholesky(self.information + ops.diagonal_matrix(self.prior_precision))

    @property
    def log_evidence(self) -> Array:
        """Laplace approximation of log p(x), -inf where the curvature overflows: (M, B)."""
        xp, n_latent = namespace(self.gradient), self.gradient.shape[-1]
        log_det = xp.log(self.root.diagonal(0, -2, -1)).sum(-1)
        log_evidence = self.log_joint - log_det + n_latent * HALF_LOG_2PI
        return xp.nan_to_num(log_evidence, nan=-math.inf, neginf=-math.inf)

    @property
    def step(self) -> Array:
        """Step to the mode of the quadratic expansion, 0 where it overflows: (M, B, l)."""
        step = ops.cholesky_solve(self.root, self.gradient)
        return namespace(step).nan_to_num(step, posinf=0.0, neginf=0.0)


class NormalProposal(NamedTuple):
    """A normal distribution of codes for each row."""

    loc: Array  # (M, B, l)
    whiten: Array  # (M, B, l, l), upper triangular: ``whiten @ (z - loc)`` is standard normal

    @classmethod
    def of(
        cls, loc: Array, information: Array, prior_precision: Array, scale: float = 1.0
    ) -> "NormalProposal":
        """Laplace approximation at codes, ``scale`` times as wide where the likelihood decides.

        Where the likelihood is flat, it is as wide as the prior, and where it overflows, standard.
        """
        xp = namespace(loc)
        root = ops.cholesky(information / scale**2 + ops.diagonal_matrix(prior_precision))
        whiten = root.swapaxes(-1, -2)
        is_bad = ~xp.isfinite(whiten).all(-1).all(-1)
        eye = ops.as_type(xp.eye(loc.shape[-1]), loc)
        return cls(loc, xp.where(is_bad[..., None, None], eye, whiten))

    def draw(self, noise: Array) -> Array:
        """Codes of standard normal draws: (1, K, 1, l) -> (M, K, B, l)."""
        root = namespace(noise).linalg.inv(self.whiten)  # (M, B, l, l)
        codes = noise.swapaxes(1, 2) @ root.swapaxes(-1, -2)  # (M, B, K, l)
        return self.loc[:, None] + codes.swapaxes(1, 2)

    def log_prob(self, z: Array) -> Array:
        """Log-density in nats of codes: (M, K, B, l) -> (M, K, B)."""
        log_det = namespace(z).log(self.whiten.diagonal(0, -2, -1)) - HALF_LOG_2PI
        return log_det.sum(-1)[:, None] - 0.5 * self.squared_distance(z)

    def squared_distance(self, z: Array) -> Array:
        """Squared Mahalanobis distance of codes: (M, K, B, l) -> (M, K, B)."""
        xp = namespace(z)
        difference = xp.moveaxis(z - self.loc[:, None], 1, -1)  # (M, B, l, K)
        return xp.moveaxis(xp.square(self.whiten @ difference).sum(-2), -1, 1)

    def select(self, rows: Array) -> "NormalProposal":
        """Index-select the rows."""
        return NormalProposal(ops.take(self.loc, rows, 1), ops.take(self.whiten, rows, 1))


def find_modes(
    expand: Callable[[Array, Array], Expansion], z: Array, tol: float = CONVERGED
) -> tuple[Array, Expansion]:
    """Find modes of p(z|x) by Fisher scoring with backtracking, from codes (M, B, l).

    ``expand`` takes codes (M, R, l) and the indices of rows (R,). A row takes no further step that
    gains less than half of ``tol`` nats. Return codes and expansions.
    """
    xp = namespace(z)
    z = xp.zeros_like(z) + z  # a copy, to be changed in place
    rows, size = ops.arange(z.shape[1], z), xp.ones_like(z[..., 0])
    local = expand(z, rows)
    for _ in range(MAX_STEPS):
        active = Expansion(*(ops.take(part, rows, 1) for part in local))
        step = active.step
        decrement = (step * active.gradient).sum(-1)
        length = ops.take(size, rows, 1)
        # twice the gain of the step by the quadratic expansion; rejected ones are shorter
        is_active = decrement * length * (2 - length) > tol
        (chosen,) = xp.where(is_active.any(0))
        if not len(chosen):
            break
        rows = rows[chosen]
        candidate = z[:, rows] + size[:, rows, None] * step[:, chosen]
        ahead = expand(candidate, rows)
        is_better = ahead.log_joint > local.log_joint[:, rows]
        size[:, rows] = xp.where(is_better, 1.0, 0.25 * size[:, rows])
        for old, new in zip((z, *local), (candidate, *ahead), strict=True):
            mask = is_better.reshape(*is_better.shape, *(1,) * (new.ndim - 2))
            old[:, rows] = xp.where(mask, new, old[:, rows])
    return z, local


def near_modes(expand: Callable[[Array, Array], Expansion], z: Array) -> tuple[Array, Expansion]:
    """Find codes next to modes; expansions are those of a step before, with its gain.

    The last step of a search is taken without an expansion there: curvatures differ little.
    """
    z, local = find_modes(expand, z, FIRST_CONVERGED)
    step = local.step
    decrement = (step * local.gradient).sum(-1)
    # a larger one, of a row whose search has not ended, may lead away from the mode
    is_small = decrement <= FIRST_CONVERGED
    xp = namespace(z)
    z = z + xp.where(is_small[..., None], step, 0.0)
    log_joint = local.log_joint + xp.where(is_small, 0.5 * decrement, 0.0)
    return z, local._replace(log_joint=log_joint)


def expand_prior(prior: Any, z: Array) -> tuple[Array, Array]:
    """Gradient of the prior's log-density, and its precisions: (M, B, l) -> (M, B, l) each.

    Of a mixture, precisions are averaged over the components by their probabilities given the code.
    """
    xp = namespace(z)
    if not hasattr(prior, "loc"):  # a standard normal distribution
        return -z, xp.ones_like(z)
    loc, log_scale = (part[:, None] for part in (prior.loc, prior.log_scale))  # (M, 1, C, l)
    precision, difference = xp.exp(-2 * log_scale), loc - z[..., None, :]
    log_prob = (-0.5 * xp.square(difference) * precision - log_scale).sum(-1)
    log_prob = log_prob + prior.log_weight[:, None]
    weight = ops.softmax(log_prob, -1)[..., None]
    return (weight * difference * precision).sum(-2), (weight * precision).sum(-2)


class JointDensity(NamedTuple):
    """p(x, z) of rows as a function of z."""

    model: Any  # VAE of PyTorch's tensors or numpy's arrays
    prior: Any  # p(z), with ``log_prob``
    x: Array  # (M or 1, B, n_columns + n_conditions), encoded, missing values replaced by zeros
    # (M or 1, B, n_values), mask of observed values; None if none is missing
    observed: Array | None

    @classmethod
    def from_rows(cls, model: Any, x: Array) -> "JointDensity":
        """Make it from rows whose missing values are NaN."""
        return cls(model, model.prior_distribution(), *model.likelihood.split_missing(x))

    def log_prob(self, z: Array) -> Array:
        """Log p(x, z) in nats: (M, K, B or 1, l) -> (M, K, B)."""
        return self.log_likelihood(z) + self.prior.log_prob(z)

    def log_likelihood(self, z: Array) -> Array:
        """Log p(x | z) in nats: (M, K, B or 1, l) -> (M, K, B)."""
        is_shared, log_prob = z.shape[2] == 1, []
        shared = self.model.decode(z) if is_shared and not self.model.decodes_per_row else None
        for rows in batches(self.x.shape[1], self.model.codes_per_chunk // z.shape[1]):
            part = self.select(rows)
            params = shared or self.model.decode(z if is_shared else z[:, :, rows], part.x)
            observed = None if part.observed is None else part.observed[:, None]
            log_prob.append(self.model.likelihood.log_prob(params, part.x[:, None], observed))
        return ops.concatenate(log_prob)

    def expand(self, z: Array, rows: Array) -> Expansion:
        """Quadratic expansion around codes (M, R, l) of rows (R,), by finite differences."""
        chosen, xp, n_latent = self.select(rows), namespace(z), z.shape[-1]
        log_joint = self.prior.log_prob(z[:, None])[:, 0]
        gradient, precision = expand_prior(self.prior, z)
        information = ops.zeros((*z.shape, n_latent), z)
        for at in batches(len(rows), self.model.codes_per_chunk // (1 + n_latent)):
            of_likelihood = chosen.select(at)._expand_likelihood(z[:, at])
            for total, term in zip((log_joint, gradient, information), of_likelihood, strict=True):
                total[:, at] += term
        return Expansion(log_joint, xp.nan_to_num(gradient), information, precision)

    def _expand_likelihood(self, z: Array) -> tuple[Array, Array, Array]:
        """Log p(x | z) at codes (M, B, l), its gradient and the Fisher information about z."""
        xp, (_, n_rows, n_latent) = namespace(z), z.shape
        eye = ops.as_type(xp.eye(n_latent), z)
        ahead = ops.concatenate([0 * eye[:1], DIFFERENCE * eye], 0)  # (1 + l, l)
        here, slopes = [], []
        for block in self.model.decode(z[:, None] + ahead[None, :, None], self.x):
            values, rises = [], []
            for param in block:  # (M, l + 1, B, size), or (M, 1, 1, size) if it is not decoded
                shape = *param.shape[:1], n_latent + 1, n_rows, param.shape[-1]
                param = xp.broadcast_to(param, shape)
                values.append(param[:, 0])
                rises.append(((param[:, 1:] - param[:, :1]) / DIFFERENCE).swapaxes(0, 1))
            here.append(values)
            slopes.append(rises)
        log_prob, gradient, features = self.model.likelihood.expand(
            here, slopes, self.x, self.observed
        )
        gradient, features = (xp.moveaxis(part, 0, 2) for part in (gradient, features))
        return log_prob, gradient, features @ features.swapaxes(-1, -2)

    def select(self, rows: Any) -> "JointDensity":
        """Index-select the rows."""
        observed = None if self.observed is None else self.observed[:, rows]
        return self._replace(x=self.x[:, rows], observed=observed)
