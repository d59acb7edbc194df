"""Adaptive importance sampling: further proposals for rows whose weights are uneven.

Laplace approximations are added at further modes of the posterior. Where a mode has a proposal
already, a normal distribution is added at the draw of the largest weight (incremental mixture
importance sampling [1]_). Arrays are PyTorch's tensors, or in the runtime numpy's.

References
----------
.. [1] A. E. Raftery and L. Bao, "Estimating and Projecting Trends in HIV/AIDS Generalized
   Epidemics Using Incremental Mixture Importance Sampling", Biometrics 66, 2010.
"""

import math
from collections.abc import Callable, Iterable, Iterator

from sklearn_vae.inference.constants import (
    CLUSTERS_PER_START,
    FAR_START,
    FIRST_CONVERGED,
    MAX_START_DIMENSIONS,
    MIN_STARTS,
    OTHER_MODE_ONE_IN,
    PROPOSAL_SCALE,
    SAME_MODE,
    WIDE_ONE_IN,
    wide_scale,
)
from sklearn_vae.inference.importance_sampling import (
    ImportanceSampler,
    JointTarget,
    PriorProposal,
    Proposal,
)
from sklearn_vae.inference.laplace import Expansion, NormalProposal, find_modes
from sklearn_vae.numerics.array_api import (
    Array,
    arange,
    argsort,
    concatenate,
    namespace,
    take_along,
)


def refine(
    sampler: ImportanceSampler,
    is_poor: Array,
    points: Iterable[Array],
    add: Callable[[ImportanceSampler, Array, int], None],
) -> Iterator[tuple[Array, ImportanceSampler]]:
    """Yield indices of rows and their sampler with one more proposal, until all weights are even.

    The rows of the mask ``is_poor`` (B,) need one. Each round has its standard normal draws
    (1, K, 1, l), with which ``add`` adds a proposal to the sampler; its last argument is the number
    of the round.
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


def add_first(sampler: ImportanceSampler, z: Array, noise: Array) -> None:
    """Add a Laplace approximation at the mode next to codes (M, B, l).

    A last step of a small gain is taken without an expansion there: curvatures differ little. A
    larger one, of a row whose search has not ended, may lead away from the mode.
    """
    z, local = find_modes(sampler.target, z, tol=FIRST_CONVERGED)
    is_small = (local.step * local.gradient).sum(-1) <= FIRST_CONVERGED
    step = namespace(z).where(is_small[..., None], local.step, 0.0)
    sampler.add(*_laplace(z + step, local, noise))


def _laplace(z: Array, local: Expansion, noise: Array) -> Iterator[tuple[Proposal, Array]]:
    """Laplace approximation at codes (M, B, l), and a wider one for a few draws."""
    n_wide = noise.shape[1] // WIDE_ONE_IN
    yield NormalProposal.from_expansion(z, local, PROPOSAL_SCALE), noise[:, n_wide:]
    if n_wide:
        wide = NormalProposal.from_expansion(z, local, wide_scale(z.shape[-1]))
        yield wide, noise[:, :n_wide]


def add_modes(sampler: ImportanceSampler, noise: Array, number: int, prior: PriorProposal) -> None:
    """Add Laplace approximations at the modes next to several starting points.

    These are the draw of the largest weight, and in the first round (0) likely ones of the prior's
    components or draws. Most draws are from the mode with the largest part of p(x), a few from
    every other mode. If a mode has a proposal already, the starting point takes its place.
    """
    xp = namespace(noise)
    largest = sampler.log_weight.argmax(1)[:, None, :, None]  # (M, 1, B, 1)
    starts = take_along(sampler.z, largest, 1)
    if number == 0:
        starts = xp.concatenate([starts, _likely_codes(sampler.target, prior)], 1)
    n_members, n_starts, n_rows, n_latent = starts.shape
    flat = starts.reshape(n_members, n_starts * n_rows, n_latent)
    target = sampler.target.select(xp.tile(arange(n_rows, flat), (n_starts,)))
    modes, local = find_modes(target, flat)
    is_known = xp.zeros_like(starts[..., 0], dtype=bool)
    for _, proposal in sampler.proposals:
        if isinstance(proposal, NormalProposal):
            distance = proposal.squared_distance(modes.reshape(starts.shape)) / n_latent
            is_known = is_known | (distance < SAME_MODE**2)
    is_known = is_known.reshape(n_members, -1)
    if is_known.any():
        modes = xp.where(is_known[..., None], flat, modes)
        local = target.expand(modes)
    by_start = [part.reshape(*starts.shape[:3], *part.shape[2:]) for part in (modes, *local)]
    best = local.log_evidence.reshape(starts.shape[:3]).argmax(1)  # (M, B)

    def at(start: Array) -> tuple[Array, Expansion]:
        """Codes at one start of each row (M, B), and the expansion there."""
        z, *expansion = (
            take_along(part, start.reshape(n_members, 1, n_rows, *(1,) * (part.ndim - 3)), 1)[:, 0]
            for part in by_start
        )
        return z, Expansion(*expansion)

    proposals = list(_laplace(*at(best), noise))
    few = noise[:, : -(-noise.shape[1] // OTHER_MODE_ONE_IN)]
    for start in range(n_starts if n_starts > 1 else 0):
        z, expansion = at(xp.full_like(best, start))
        proposals.append((NormalProposal.from_expansion(z, expansion, PROPOSAL_SCALE), few))
    sampler.add(*proposals)


def _likely_codes(target: JointTarget, prior: PriorProposal) -> Array:
    """Likely codes far from each other: (M, S, B, l).

    They are centres of a mixture prior's components, or draws from the prior.
    """
    if hasattr(prior.prior, "loc"):
        candidates = prior.prior.loc
    else:
        z = prior.z[:, :, 0]
        candidates = concatenate([FAR_START * z, z], 1)
    n_starts = max(MAX_START_DIMENSIONS // candidates.shape[-1], MIN_STARTS)
    return _likeliest_per_cluster(target, candidates, n_starts - 1)


def _likeliest_per_cluster(target: JointTarget, candidates: Array, n_best: int) -> Array:
    """Likeliest codes of different clusters: (M, C, l) -> (M, n_best, B, l).

    The first codes are the clusters' centres.
    """
    xp = namespace(candidates)
    log_joint = xp.nan_to_num(target.log_prob(candidates[:, :, None]), nan=-math.inf)  # (M, C, B)
    n_clusters = min(CLUSTERS_PER_START * n_best, candidates.shape[1])
    difference = candidates[:, :, None] - candidates[:, None, :n_clusters]
    cluster = xp.square(difference).sum(-1).argmin(-1)[..., None]  # (M, C, 1)
    per_cluster = [xp.where(cluster == k, log_joint, -math.inf) for k in range(n_clusters)]
    values = xp.stack([xp.amax(part, 1) for part in per_cluster], 1)  # (M, G, B)
    numbers = xp.stack([part.argmax(1) for part in per_cluster], 1)
    chosen = take_along(numbers, argsort(-values, 1)[:, :n_best], 1)  # (M, n_best, B)
    index = chosen.reshape(len(chosen), -1)[..., None]
    shape = *chosen.shape, candidates.shape[-1]
    return take_along(candidates, index, 1).reshape(shape)
