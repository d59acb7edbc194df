"""Evidence p(x) and posterior p(z|x), by importance sampling of codes.

One-hot codes are summed over, by PyTorch alone.

Other codes of a row are drawn from the Laplace approximation at the mode of p(z|x) next to the
encoder's mean, from a wider one and from the prior. All rows share the same Sobol points. Rows with
uneven weights, and those with missing values, get Laplace approximations at further modes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

from sklearn_vae.inference.importance_sampling import (
    TOLERANCE,
    ImportanceSampler,
    WeightedCodes,
    add_modes,
    laplace_proposals,
    refine,
)
from sklearn_vae.inference.laplace import JointDensity, find_modes, near_modes
from sklearn_vae.models.base import BaseVAE
from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import Array, namespace
from sklearn_vae.numerics.rows import batches

# Sobol points of the score; benchmarks/score_draws.py shows bias and noise by number.
SCORE_DRAWS = 128
# Weighted draws of codes per row for imputation: a mean needs fewer than several imputations do.
MEAN_DRAWS = 128
IMPUTE_DRAWS = 256
# Further proposals per row at most, and the fewest draws from each.
MAX_PROPOSALS = 3
MIN_DRAWS = 128
# Up to so many dimensions, a row has all draws from the prior, as they find far modes. With more,
# its first score has one in so many, and so has every draw that is decoded for each row.
MAX_PRIOR_DIMENSIONS = 3
PRIOR_ONE_IN = 8
# Draws from the prior for a row with half as many values as latent dimensions, or fewer. Its
# posterior is as wide as the prior in most directions, and all rows share what is decoded.
VAGUE_DRAWS = 1 << 10
# Twice the gain in nats of a last step to a mode that is the code of a row with missing values.
CODE_CONVERGED = 1e-3


class Points(NamedTuple):
    """Standard normal draws of the proposals, shared by all rows."""

    first: Array  # (1, K, 1, l), for the first proposal
    vague: Array  # (1, K', 1, l), for the prior, of rows with few values
    further: Sequence[Array]  # of (1, K'', 1, l), for each further proposal

    @property
    def prior(self) -> Array:
        """Those for the prior of other rows: (1, K, 1, l)."""
        return self.vague[:, : self.first.shape[1]]

    @classmethod
    def make(cls, n_draws: int, noise: Callable[[int, int], Array]) -> "Points":
        """Make them by a function of the number of draws and of the index of the proposal."""
        further = [noise(max(n_draws, MIN_DRAWS), 2 + k) for k in range(MAX_PROPOSALS)]
        return cls(noise(n_draws, 0), noise(max(n_draws, VAGUE_DRAWS), 1), further)

    def fewer(self, one_in: int) -> "Points":
        """One in so many draws for the first proposal and for the prior, rounded up."""
        return self._replace(first=self.first[:, : -(-self.first.shape[1] // one_in)])

    def map(self, function: Callable[[Array], Array]) -> "Points":
        """Apply a function to the draws for each proposal."""
        return Points(function(self.first), function(self.vague), [*map(function, self.further)])

    def last(self, n_dims: int) -> "Points":
        """The last dimensions of the draws."""
        return self.map(lambda draws: draws[..., -n_dims:])


def log_density(
    model: BaseVAE, x: Array, points: Points, *, refines: bool = True, is_refined: bool = False
) -> Array:
    """Log p(x) in nats, of the average of the members' densities: (M, B, n) -> (B,).

    With ``refines`` it is NaN of rows with uneven weights or missing values, which are to be
    computed with ``is_refined``: those of many batches together. Without, as for ranks, the first
    draws are enough.
    """
    if model.architecture.n_codes:
        return ops.log_mean_exp(all_codes(model, x).log_weight.logsumexp(1), 0)
    xp, log_p = namespace(x), ops.zeros(x.shape[1:2], x)
    # rows with missing values get further proposals, unless the encoder has learned from such rows
    is_incomplete = xp.isnan(x).any(-1).any(0) & (not model.architecture.variable_length)
    n_observed = model.likelihood.observed(x[0, :, : model.likelihood.n_columns]).sum(-1)
    is_vague = (2 * n_observed <= points.first.shape[-1]) & (not model.decodes_per_row)
    for incomplete, vague in product((False, True), repeat=2):
        # of rows without values the density is 1, but draws err
        mask = (is_incomplete == incomplete) & (is_vague == vague) & (n_observed > 0)
        (rows,) = xp.where(mask)
        if not len(rows):
            continue
        chosen = ops.take(x, rows, 1)
        if is_refined:
            log_p[rows] = ops.log_mean_exp(refined_log_evidence(model, chosen, points, vague), 0)
        elif refines and incomplete:
            log_p[rows] = math.nan
        else:
            log_p[rows] = ops.log_mean_exp(log_evidence(model, chosen, points, refines), 0)
    return log_p


def log_evidence(model: BaseVAE, x: Array, points: Points, refines: bool) -> Array:
    """Log p(x) in nats by importance sampling [1]_, of few draws: (M, B).

    With ``refines`` it is NaN where weights are uneven.

    References
    ----------
    .. [1] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance Weighted Autoencoders",
       ICLR 2016.
    """
    sampler = FirstSampler(model, x, points).of(ops.arange(x.shape[1], x), has_few=True)
    log_p = sampler.log_evidence()
    return namespace(x).where(sampler.is_uneven().any(0), math.nan, log_p) if refines else log_p


def refined_log_evidence(model: BaseVAE, x: Array, points: Points, vague: bool) -> Array:
    """Log p(x) in nats, with further draws and proposals, of rows ``vague`` or not: (M, B)."""
    samplers = _samplers(model, x, points, refines_incomplete=not vague, vague=vague)
    log_p = next(samplers)[1].log_evidence()
    for rows, refined in samplers:
        log_p[:, rows] = refined.log_evidence()
    return log_p


def sample_posterior(
    model: BaseVAE, x: Array, points: Points, *, refines_incomplete: bool = True
) -> WeightedCodes:
    """Weighted codes of rows (M, B, n_columns + n_conditions), whose missing values are NaN.

    With ``refines_incomplete``, all incomplete rows get further proposals, else uneven ones do.
    """
    if model.architecture.n_codes:
        return all_codes(model, x)
    samplers = _samplers(model, x, points, refines_incomplete=refines_incomplete)
    _, sampler = next(samplers)
    codes = WeightedCodes(sampler.z, sampler.log_weight)
    for rows, refined in samplers:
        codes = codes.replaced(rows, refined.z, refined.log_weight)
    return codes


def _samplers(
    model: BaseVAE, x: Array, points: Points, *, refines_incomplete: bool, vague: bool = False
) -> Iterator[tuple[Array, ImportanceSampler]]:
    """Yield indices of rows and their sampler: of all, and then of those that are refined."""
    first, rows = FirstSampler(model, x, points), ops.arange(x.shape[1], x)
    sampler = first.of(rows, vague=vague)
    yield rows, sampler
    is_poor = sampler.is_uneven().any(0)
    # an encoder of rows of variable length has learned from rows with NaN, others may not have
    if refines_incomplete and not model.architecture.variable_length:
        is_poor = is_poor | namespace(x).isnan(x).any(-1).any(0)
    add = partial(add_modes, of_prior=first.of_prior)
    yield from refine(sampler, is_poor, points.further, add)


def all_codes(model: BaseVAE, x: Array) -> WeightedCodes:
    """All codes of a categorical posterior, whose weights sum to p(x)."""
    z = model.posterior.enumerate_codes(model.architecture.n_components, x)
    z = z[:, None].expand(len(x), -1, -1, -1)
    log_joint = JointDensity.from_rows(model, x).log_prob(z)
    return WeightedCodes(z.expand(-1, -1, x.shape[1], -1), log_joint)


def codes_of_rows(model: BaseVAE, x: Array) -> Array:
    """Codes of rows, the means of q(z|x): (M, B, n) -> (M, B, l).

    Without an imputation layer, those of rows with missing values, NaN, are ``posterior_code``.
    """
    z, missing = model.posterior.mean(model.encode(x)), namespace(x).isnan(x)
    if model.filler is not None or not missing.any():
        return z
    (incomplete,) = namespace(x).where(missing.any(-1).any(0))
    n_rows = model.codes_per_chunk // (model.architecture.n_codes or 1)
    for part in batches(len(incomplete), n_rows):
        rows = incomplete[part]
        z[:, rows] = posterior_code(model, x[:, rows])
    return z


def posterior_code(model: BaseVAE, x: Array) -> Array:
    """Mode of p(z|x), or mean of classes: (M, B, l)."""
    if model.architecture.n_codes:
        codes = all_codes(model, x)
        return (codes.log_weight.softmax(1).unsqueeze(-1) * codes.z).sum(1)
    target = JointDensity.from_rows(model, x)
    return find_modes(target.expand, model.mean_code(x), tol=CODE_CONVERGED)[0]


def conditional_mean(model: BaseVAE, x: Array, points: Points) -> Array:
    """Mean of every column given the observed values: (M, B, n) -> (B, n_columns)."""
    # a mean needs no more codes where the encoder has learned from rows with missing values
    codes = sample_posterior(model, x, points, refines_incomplete=model.filler is None)
    means = (
        model.likelihood.average_over_draws(model.decode(part.z, x[:, rows]), part.weight)
        for rows, part in codes.chunks(model.codes_per_chunk)
    )
    return ops.concatenate(means, 0)


class FirstSampler:
    """First draws of rows: Laplace approximations next to the encoder's means, and the prior."""

    def __init__(self, model: BaseVAE, x: Array, points: Points):
        self.target = JointDensity.from_rows(model, x)
        prior, noise, xp = self.target.prior, points.vague, namespace(x)
        if hasattr(prior, "transform"):
            self.of_vague = prior.transform(noise[0, :, 0])[:, :, None]
        else:  # a standard normal distribution
            self.of_vague = xp.broadcast_to(noise, (model.n_members, *noise.shape[1:]))
        self.of_prior, z = self.of_vague[:, : points.prior.shape[1]], model.mean_code(x)
        z, local = near_modes(self.target.expand, z)
        precisions = local.information, local.prior_precision
        # a user who asks for few draws accepts a larger error
        self.tolerance = TOLERANCE * max(SCORE_DRAWS / points.first.shape[1], 1.0)
        self.normals = list(laplace_proposals(z, *precisions, points.first))

    def of(self, rows: Array, *, has_few: bool = False, vague: bool = False) -> ImportanceSampler:
        """Draw codes of some rows; with ``has_few``, in many dimensions few are from the prior."""
        sampler = ImportanceSampler(self.target.select(rows), self.tolerance)
        sampler.add((normal.select(rows), noise) for normal, noise in self.normals)
        _, n_prior, _, n_latent = self.of_prior.shape
        if (has_few and n_latent > MAX_PRIOR_DIMENSIONS) or self.target.model.decodes_per_row:
            n_prior = -(-n_prior // PRIOR_ONE_IN)
        sampler.add(of_prior=self.of_vague if vague else self.of_prior[:, :n_prior])
        return sampler
