"""Multiple importance sampling of the posterior p(z|x), and of the evidence p(x).

Codes z of a row are drawn from several proposals. Each draw is weighted by the mixture of all of
them (the balance heuristic [1]_), so that a good proposal makes up for a bad one.

Rows whose weights are uneven get further proposals: Laplace approximations at further modes of the
posterior. Where a mode has a proposal already, a normal distribution is added at the draw of the
largest weight (incremental mixture importance sampling [2]_).

References
----------
.. [1] E. Veach and L. J. Guibas, "Optimally Combining Sampling Techniques for Monte Carlo
   Rendering", SIGGRAPH 1995.
.. [2] A. E. Raftery and L. Bao, "Estimating and Projecting Trends in HIV/AIDS Generalized
   Epidemics Using Incremental Mixture Importance Sampling", Biometrics 66, 2010.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from sklearn_vae.inference.laplace import JointDensity, NormalProposal, find_modes
from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import Array, namespace
from sklearn_vae.numerics.rows import batches

# Bias of the log of an average of weights, in nats, that needs no further proposal.
TOLERANCE = 0.025
# Factor of the proposals' standard deviations, as far as the likelihood determines them. Where the
# likelihood is flat, the proposal of a fitted mode is the prior, and the estimate is exact.
PROPOSAL_SCALE = 1.2


class WeightedCodes(NamedTuple):
    """Codes of rows with importance weights."""

    z: Array  # (M, K, B, l)
    log_weight: Array  # (M, K, B), of weights whose sum is an estimate of p(x)

    @property
    def weight(self) -> Array:
        """Weights that sum to 1 over the codes of all members: (M, K, B)."""
        n_members, n_codes, n_rows = self.log_weight.shape
        flat = self.log_weight.reshape(n_members * n_codes, n_rows)
        return ops.softmax(flat, 0).reshape(n_members, n_codes, n_rows)

    def chunks(self, codes_per_chunk: int) -> Iterator[tuple[slice, "WeightedCodes"]]:
        """Slice rows of which all codes can be decoded at a time."""
        for rows in batches(self.z.shape[2], codes_per_chunk // self.z.shape[1]):
            yield rows, WeightedCodes(self.z[:, :, rows], self.log_weight[:, :, rows])

    def replaced(self, rows: Array, z: Array, log_weight: Array) -> "WeightedCodes":
        """Replace the codes of some rows by as many or more: the other rows get weights of 0."""
        n_members, n_codes, *shape = self.z.shape
        more = ops.zeros((n_members, z.shape[1] - n_codes, *shape), self.z)
        all_z = ops.concatenate([self.z, more], 1)
        all_log_weight = ops.concatenate([self.log_weight, more[..., 0] - math.inf], 1)
        all_z[:, :, rows], all_log_weight[:, :, rows] = z, log_weight
        return WeightedCodes(all_z, all_log_weight)


class ImportanceSampler:
    """Codes drawn from several proposals, weighted by the mixture of all proposals.

    The target is p(x, z) as a function of z. A bias of log p(x) up to the tolerance, in nats, for
    all rows or each (B,), needs no further proposal.
    """

    z: Array  # (M, K, B, l), the codes
    log_prior: Array  # (M, K, B), log p(z) of each
    log_joint: Array  # (M, K, B), log p(x, z) of each
    log_mixture: Array  # (M, K, B), log of the sum of the proposals' densities times their draws

    def __init__(self, target: JointDensity, tolerance: Any = TOLERANCE):
        self.target, self.tolerance = target, tolerance
        # number of draws, and proposal: a normal distribution or, as None, the prior
        self.proposals: list[tuple[int, NormalProposal | None]] = []

    def add(
        self, normals: Iterable[tuple[NormalProposal, Array]] = (), of_prior: Array | None = None
    ) -> None:
        """Add codes of normal distributions, each for standard normal draws (1, K, 1, l).

        Those of the prior (M, K, 1, l), which all rows share, are drawn already.
        """
        drawn: list[tuple[Any, Array]] = [(normal, normal.draw(noise)) for normal, noise in normals]
        if of_prior is not None:
            drawn.append((None, of_prior))
        xp, n_rows = namespace(drawn[0][1]), max(z.shape[2] for _, z in drawn)
        z = ops.concatenate(
            (xp.broadcast_to(z, (*z.shape[:2], n_rows, z.shape[3])) for _, z in drawn), 1
        )  # (M, K, B or 1, l)
        log_prior = self.target.prior.log_prob(z)  # (M, K, B or 1)
        log_joint = self.target.log_likelihood(z) + log_prior  # (M, K, B)
        new = [(part.shape[1], proposal) for proposal, part in drawn]
        z = xp.broadcast_to(z, (*log_joint.shape, z.shape[-1]))
        log_prior = xp.broadcast_to(log_prior, log_joint.shape)
        before, self.proposals = self.proposals, [*self.proposals, *new]
        added = z, log_prior, log_joint, _log_mixture(self.proposals, z, log_prior)
        if before:
            mixed = xp.logaddexp(self.log_mixture, _log_mixture(new, self.z, self.log_prior))
            old = self.z, self.log_prior, self.log_joint, mixed
            added = (*(xp.concatenate(parts, 1) for parts in zip(old, added, strict=True)),)
        self.z, self.log_prior, self.log_joint, self.log_mixture = added

    def select(self, rows: Array) -> "ImportanceSampler":
        """Index-select the rows."""
        is_shared = isinstance(self.tolerance, float)
        tolerance = self.tolerance if is_shared else self.tolerance[rows]
        chosen = ImportanceSampler(self.target.select(rows), tolerance)
        chosen.proposals = [
            (n_draws, part and part.select(rows)) for n_draws, part in self.proposals
        ]
        for name in ("z", "log_prior", "log_joint", "log_mixture"):
            setattr(chosen, name, ops.take(getattr(self, name), rows, 2))
        return chosen

    @property
    def log_weight(self) -> Array:
        """Logarithms of weights whose sum is an estimate of p(x): (M, K, B)."""
        return namespace(self.z).nan_to_num(self.log_joint - self.log_mixture, nan=-math.inf)

    def log_evidence(self) -> Array:
        """Log of the estimate of p(x) in nats, with control variates: (M, B)."""
        xp, log_weight = namespace(self.z), self.log_weight
        log_sum = ops.logsumexp(log_weight, 1)
        weight = xp.exp(log_weight - log_sum[:, None])  # their sum is 1
        factor, tiny = xp.ones_like(log_sum), xp.finfo(log_sum.dtype).eps
        for control, expected in self._control_variates():
            centred = control - control.mean(1)[:, None]
            spread = xp.square(centred).sum(1)
            slope = (centred * weight).sum(1) / spread
            corrected = factor - slope * (control.sum(1) - expected)
            most = 1.5  # control variates change an estimate by no more than this factor
            is_good = (corrected > 1 / most) & (corrected < most)
            # one that does not vary, but for rounding, says nothing
            is_good = is_good & (spread > tiny * xp.square(control).sum(1))
            factor = xp.where(is_good, corrected, factor)
            weight = weight - xp.where(is_good, slope, 0.0)[:, None] * centred
        return log_sum + xp.log(factor)

    def _control_variates(self) -> Iterator[tuple[Array, float]]:
        """Yield functions of the codes (M, K, B) and the expectations of their sums over K.

        With the prior's weights, the estimate is exact where the posterior is the prior. With
        squared distances from the first normal approximation, it varies less with the draws.
        """
        xp = namespace(self.z)
        yield xp.exp(self.log_prior - self.log_mixture), 1.0
        normal = next(part for _, part in self.proposals if part)
        excess = normal.squared_distance(self.z) - self.z.shape[-1]
        yield xp.exp(normal.log_prob(self.z) - self.log_mixture) * excess, 0.0

    def is_uneven(self) -> Array:
        """Mask of rows whose estimate of log p(x) is biased by more than the tolerance: (M, B).

        By the delta method the bias is half the relative variance of an average of K weights,
        1 / ESS - 1 / K with the effective sample size ESS.
        """
        xp, log_weight = namespace(self.z), self.log_weight
        weight = ops.softmax(log_weight, 1)
        bias = 0.5 * (xp.square(weight).sum(1) - 1 / weight.shape[1])
        # without any finite log-weight, all are the lowest number, or overflow to NaN
        return ~(
            (bias < self.tolerance) & (xp.amax(log_weight, 1) > xp.finfo(log_weight.dtype).min)
        )


def _log_mixture(
    proposals: list[tuple[int, NormalProposal | None]], z: Array, log_prior: Array
) -> Array:
    """Log of the sum of the proposals' densities times the numbers of their draws: (M, K, B)."""
    log_densities = [
        (part.log_prob(z) if part else log_prior) + math.log(n) for n, part in proposals
    ]
    return ops.logsumexp(namespace(z).stack(log_densities), 0)


def refine(
    sampler: ImportanceSampler,
    is_poor: Array,
    points: Iterable[Array],
    add: Callable[[ImportanceSampler, Array, int], None],
) -> Iterator[tuple[Array, ImportanceSampler]]:
    """Yield indices of rows and their sampler with one more proposal, until all weights are even.

    The rows of the mask ``is_poor`` (B,) need one. ``add`` adds it to the sampler, by the standard
    normal draws (1, K, 1, l) of a round and its number.
    """
    (chosen,) = namespace(is_poor).where(is_poor)
    rows = chosen
    for number, noise in enumerate(points if len(chosen) else ()):
        sampler = sampler.select(chosen)
        add(sampler, noise, number)
        yield rows, sampler
        (chosen,) = namespace(is_poor).where(sampler.is_uneven().any(0))
        if not len(chosen):
            return
        rows = rows[chosen]


def laplace_proposals(
    z: Array, information: Array, prior_precision: Array, noise: Array
) -> Iterator[tuple[NormalProposal, Array]]:
    """Yield the Laplace approximation at codes (M, B, l), and a wider one for a few draws."""
    scales = PROPOSAL_SCALE, 1 + 2 / math.sqrt(z.shape[-1])
    for scale, part in zip(scales, _split(noise), strict=True):
        if part.shape[1]:
            yield NormalProposal.of(z, information, prior_precision, scale), part


def _split(noise: Array) -> tuple[Array, Array]:
    """Split draws into those from a Laplace approximation and a quarter from a wider one.

    The tails of the latter are heavier.
    """
    n_wide = noise.shape[1] // 4
    return noise[:, n_wide:], noise[:, :n_wide]


def add_draws(sampler: ImportanceSampler, noise: Array, _number: int) -> None:
    """Add draws from the first Laplace approximation."""
    normals = [part for _, part in sampler.proposals if part]
    sampler.add(zip(normals[:2], _split(noise), strict=False))


def add_modes(sampler: ImportanceSampler, noise: Array, number: int, of_prior: Array) -> None:
    """Add Laplace approximations at the modes next to several starting points.

    These are the draw of the largest weight, and in the first round (0) likely ones of the prior's
    components or draws ``of_prior`` (M, K, 1, l). Most draws are from the mode of the largest part
    of p(x), a few from others. The starting point replaces a mode that has a proposal already.
    """
    xp, (n_members, _, n_rows, n_latent) = namespace(noise), sampler.z.shape
    member, row = ops.arange(n_members, noise)[:, None], ops.arange(n_rows, noise)
    starts = sampler.z[member, sampler.log_weight.argmax(1), row][:, None]  # (M, 1, B, l)
    if number == 0:
        starts = xp.concatenate([starts, _likely_codes(sampler.target, of_prior)], 1)
    n_starts = starts.shape[1]
    flat = starts.reshape(n_members, n_starts * n_rows, n_latent)
    target, repeated = sampler.target, xp.tile(row, (n_starts,))
    modes, local = find_modes(lambda z, rows: target.expand(z, repeated[rows]), flat)
    has_proposal = xp.zeros_like(starts[..., 0], dtype=bool)
    for _, proposal in sampler.proposals:
        if proposal:
            distance = proposal.squared_distance(modes.reshape(starts.shape)) / n_latent
            has_proposal = has_proposal | (distance < 1)  # a standard deviation
    has_proposal = has_proposal.reshape(n_members, -1)
    if has_proposal.any():
        modes = xp.where(has_proposal[..., None], flat, modes)
        local = target.expand(modes, repeated)
    parts = modes, local.information, local.prior_precision
    by_start = [part.reshape(*starts.shape[:3], *part.shape[2:]) for part in parts]
    best = local.log_evidence.reshape(starts.shape[:3]).argmax(1)  # (M, B)
    z, information, precision = (part[member, best, row] for part in by_start)
    proposals = list(laplace_proposals(z, information, precision, noise))
    few = noise[:, : -(-noise.shape[1] // 8)]  # for every mode but the largest
    for start in range(n_starts if n_starts > 1 else 0):
        z, information, precision = (part[:, start] for part in by_start)
        proposals.append((NormalProposal.of(z, information, precision, PROPOSAL_SCALE), few))
    sampler.add(proposals)


def _likely_codes(target: JointDensity, of_prior: Array) -> Array:
    """Likeliest centres of a mixture prior's components, or draws from the prior: (M, S, B, l)."""
    if hasattr(target.prior, "loc"):
        candidates = target.prior.loc
    else:
        z = of_prior[:, :, 0]
        # also three times as far out as draws from the prior
        candidates = ops.concatenate([3 * z, z], 1)  # (M, C, l)
    n_members, _, n_latent = candidates.shape
    # the search takes as long as starts times dimensions, of which there are about twelve
    n_starts = max(12 // n_latent, 3) - 1
    log_joint = target.log_prob(candidates[:, :, None])  # (M, C, B)
    log_joint = namespace(log_joint).nan_to_num(log_joint, nan=-math.inf)
    chosen = ops.argsort(-log_joint, 1)[:, :n_starts]  # (M, S, B)
    return candidates[ops.arange(n_members, chosen)[:, None, None], chosen]
