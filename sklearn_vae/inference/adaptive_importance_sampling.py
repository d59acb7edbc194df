"""Adaptive importance sampling: further proposals for rows whose weights are uneven.

A normal distribution is added at a mode of the posterior (Laplace approximation). Where a mode
has a proposal already, a normal distribution is added at the draw of the largest weight
(incremental mixture importance sampling [1]_). Arrays are PyTorch's tensors, or in the runtime
numpy's.

References
----------
.. [1] A. E. Raftery and L. Bao, "Estimating and Projecting Trends in HIV/AIDS Generalized
   Epidemics Using Incremental Mixture Importance Sampling", Biometrics 66, 2010.
"""

import math
from collections.abc import Iterable, Iterator

from sklearn_vae.inference.constants import (
    CLUSTERS_PER_START,
    OTHER_MODE_ONE_IN,
    SAME_MODE,
    WIDE_ONE_IN,
    wide_scale,
)
from sklearn_vae.inference.importance_sampling import ImportanceSampler
from sklearn_vae.inference.laplace import NormalProposal, Target, laplace_approximation, newton
from sklearn_vae.numerics.array_api import Array, arange, argsort, namespace, softmax, take_along


def refine(
    sampler: ImportanceSampler,
    is_poor: Array,
    points: Iterable[Array],
    proposal_scale: float = 1.0,
    candidates: Array | None = None,
    n_starts: int = 1,
) -> Iterator[tuple[Array, ImportanceSampler]]:
    """Yield indices of rows and their sampler with one more proposal, until all weights are even.

    The first proposal is a Laplace approximation at each mode of the posterior, any further one a
    normal distribution near the draw of the largest weight. The rows of the mask ``is_poor`` (B,)
    need one. Each round has its standard normal draws (1, K, 1, l).

    Newton's method has ``n_starts`` starting points, some of them among the candidates (M, C, l).
    Without candidates, rows get more draws from the first proposal, as categorical codes need,
    whose posterior has no Laplace approximation.
    """
    xp = namespace(is_poor)
    (chosen,) = xp.where(is_poor)
    rows = chosen
    for number, noise in enumerate(points if len(chosen) else ()):
        sampler = sampler.select(chosen)
        if candidates is None:
            _, proposal = sampler.proposals[0]
            sampler.add(proposal, noise)
        elif number == 0:
            add_modes(sampler, noise, proposal_scale, candidates, n_starts)
        else:
            add_normal_at_largest_weight(sampler, noise, proposal_scale)
        yield rows, sampler
        (chosen,) = xp.where(sampler.is_uneven().any(0))
        if not len(chosen):
            return
        rows = rows[chosen]


def add_modes(
    sampler: ImportanceSampler,
    noise: Array,
    proposal_scale: float,
    candidates: Array,
    n_starts: int,
) -> None:
    """Add Laplace approximations at the modes that Newton's method finds from several starts.

    Most draws are from the mode with the largest part of p(x), a few from every other mode. The
    candidates (M, C, l) are codes far from each other: starting points beside the likelier of the
    likeliest draw and the draws' weighted mean. The noise is (1, K, 1, l).
    """
    xp = namespace(noise)
    log_joint = xp.nan_to_num(sampler.log_joint, nan=-math.inf)
    z = take_along(sampler.z, log_joint.argmax(1)[:, None, :, None], 1)  # (M, 1, B, l)
    mean = (softmax(sampler.log_weight, 1)[..., None] * sampler.z).sum(1)[:, None]
    is_better = sampler.target.log_prob(mean) > xp.amax(log_joint, 1)[:, None]
    z = xp.where(is_better[..., None], mean, z)
    if n_starts > 1:
        z = xp.concatenate([z, _likeliest_per_cluster(sampler.target, candidates, n_starts - 1)], 1)
    n_members, n_starts, n_rows, n_latent = z.shape
    target = sampler.target.select(xp.tile(arange(n_rows, z), (n_starts,)))
    normal = newton(target, z.reshape(n_members, n_starts * n_rows, n_latent))
    log_mass = target.log_prob(normal.loc[:, None])[:, 0] + xp.log(normal.scale).sum(-1)
    log_mass = xp.nan_to_num(log_mass, nan=-math.inf).reshape(n_members, n_starts, n_rows)
    per_start = [part.reshape(n_members, n_starts, n_rows, *part.shape[2:]) for part in normal]
    best = log_mass.argmax(1)[:, None, :, None]  # (M, 1, B, 1)
    loc, scale = (take_along(per_start[k], best, 1)[:, 0] for k in (0, 2))
    axes = take_along(per_start[1], best[..., None], 1)[:, 0]
    _add_normal(sampler, NormalProposal(loc, axes, scale), noise, proposal_scale)
    few = noise[:, : -(-noise.shape[1] // OTHER_MODE_ONE_IN)]
    if n_starts == 1:
        return
    for start in range(n_starts):
        loc, axes, scale = (part[:, start] for part in per_start)
        sampler.add(NormalProposal(loc, axes, proposal_scale * scale), few)


def add_normal_at_largest_weight(
    sampler: ImportanceSampler, noise: Array, proposal_scale: float
) -> None:
    """Add a normal distribution near the draw of the largest weight.

    Its mean is the mode next to the draw or, if the mode has a proposal already, the draw.
    """
    largest = sampler.log_weight.argmax(1)[:, None, :, None]  # (M, 1, B, 1)
    z = take_along(sampler.z, largest, 1)[:, 0]
    guess = newton(sampler.target, z)
    mode = guess.loc
    for _, proposal in sampler.proposals:
        if isinstance(proposal, NormalProposal):
            distance = proposal.squared_distance(mode[:, None])[:, 0] / z.shape[-1]
            mode = namespace(z).where((distance < SAME_MODE**2)[..., None], z, mode)
    normal, _ = laplace_approximation(sampler.target, guess._replace(loc=mode))
    _add_normal(sampler, normal, noise, proposal_scale)


def _add_normal(
    sampler: ImportanceSampler, normal: NormalProposal, noise: Array, proposal_scale: float
) -> None:
    """Add a normal distribution, and a wider one with heavier tails for a few draws."""
    n_wide = noise.shape[1] // WIDE_ONE_IN
    sampler.add(normal._replace(scale=proposal_scale * normal.scale), noise[:, n_wide:])
    if n_wide:
        wide = normal._replace(scale=wide_scale(noise.shape[-1]) * normal.scale)
        sampler.add(wide, noise[:, :n_wide])


def _likeliest_per_cluster(target: Target, candidates: Array, n_best: int) -> Array:
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
