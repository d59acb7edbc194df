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
from collections.abc import Iterable, Iterator

from sklearn_vae.inference.constants import (
    CLUSTERS_PER_START,
    FIRST_CONVERGED,
    OTHER_MODE_ONE_IN,
    PROPOSAL_SCALE,
    SAME_MODE,
    WIDE_ONE_IN,
    wide_scale,
)
from sklearn_vae.inference.importance_sampling import ImportanceSampler, JointTarget
from sklearn_vae.inference.laplace import Expansion, NormalProposal, find_modes
from sklearn_vae.numerics.array_api import Array, arange, argsort, namespace, take_along


def refine(
    sampler: ImportanceSampler,
    is_poor: Array,
    points: Iterable[Array],
    candidates: Array,
    n_starts: int,
) -> Iterator[tuple[Array, ImportanceSampler]]:
    """Yield indices of rows and their sampler with one more proposal, until all weights are even.

    The rows of the mask ``is_poor`` (B,) need one. Each round has its standard normal draws
    (1, K, 1, l). Modes are searched from the draw of the largest weight, and in the first round
    from the likeliest of the candidates (M, C, l), ``n_starts`` starting points in all.
    """
    xp = namespace(is_poor)
    (chosen,) = xp.where(is_poor)
    rows = chosen
    for number, noise in enumerate(points if len(chosen) else ()):
        sampler = sampler.select(chosen)
        largest = sampler.log_weight.argmax(1)[:, None, :, None]  # (M, 1, B, 1)
        starts = take_along(sampler.z, largest, 1)
        if number == 0 and n_starts > 1:
            others = _likeliest_per_cluster(sampler.target, candidates, n_starts - 1)
            starts = xp.concatenate([starts, others], 1)
        _add_modes(sampler, starts, noise)
        yield rows, sampler
        (chosen,) = xp.where(sampler.is_uneven().any(0))
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
    _add_laplace(sampler, z + step, local, noise)


def _add_laplace(sampler: ImportanceSampler, z: Array, local: Expansion, noise: Array) -> None:
    """Add a Laplace approximation at codes (M, B, l), and a wider one for a few draws."""
    n_wide = noise.shape[1] // WIDE_ONE_IN
    normal = NormalProposal.from_expansion(z, local, PROPOSAL_SCALE)
    sampler.add(normal, noise[:, n_wide:])
    if n_wide:
        wide = NormalProposal.from_expansion(z, local, wide_scale(z.shape[-1]))
        sampler.add(wide, noise[:, :n_wide])


def _add_modes(sampler: ImportanceSampler, starts: Array, noise: Array) -> None:
    """Add Laplace approximations at the modes next to starting points (M, S, B, l).

    Most draws are from the mode with the largest part of p(x), a few from every other mode. If a
    mode has a proposal already, the starting point takes its place.
    """
    xp, (n_members, n_starts, n_rows, n_latent) = namespace(noise), starts.shape
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
    log_mass = xp.nan_to_num(local.log_evidence, nan=-math.inf, neginf=-math.inf)
    best = log_mass.reshape(n_members, n_starts, n_rows).argmax(1)  # (M, B)

    def at(part: Array, start: int | None) -> Array:
        """Part of an expansion at one starting point of each row, or at the best one."""
        by_start = part.reshape(n_members, n_starts, n_rows, *part.shape[2:])
        if start is not None:
            return by_start[:, start]
        return take_along(by_start, best.reshape(n_members, 1, n_rows, *(1,) * (part.ndim - 2)), 1)[
            :, 0
        ]

    few = noise[:, : -(-noise.shape[1] // OTHER_MODE_ONE_IN)]
    _add_laplace(sampler, at(modes, None), Expansion(*(at(part, None) for part in local)), noise)
    for start in range(n_starts if n_starts > 1 else 0):
        expansion = Expansion(*(at(part, start) for part in local))
        normal = NormalProposal.from_expansion(at(modes, start), expansion, PROPOSAL_SCALE)
        sampler.add(normal, few)


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
