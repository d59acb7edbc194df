"""Adaptive importance sampling: further proposals for rows whose weights are uneven.

A normal distribution is added at a mode of the posterior (Laplace approximation). Where a mode
has a proposal already, a normal distribution is added at the draw of the largest weight
(incremental mixture importance sampling [1]_).

References
----------
.. [1] A. E. Raftery and L. Bao, "Estimating and Projecting Trends in HIV/AIDS Generalized
   Epidemics Using Incremental Mixture Importance Sampling", Biometrics 66, 2010.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sklearn_vae.inference.constants import (
    CLUSTERS_PER_START,
    OTHER_MODE_ONE_IN,
    SAME_MODE,
    WIDE_ONE_IN,
    wide_scale,
)
from sklearn_vae.inference.importance_sampling import ImportanceSampler
from sklearn_vae.inference.laplace import NormalProposal, Target, laplace_approximation, newton


def refine(
    sampler: ImportanceSampler,
    is_poor: Tensor,
    points: Sequence[Tensor],
    proposal_scale: float = 1.0,
    candidates: Tensor | None = None,
    n_starts: int = 1,
) -> Iterator[tuple[Tensor, ImportanceSampler]]:
    """Yield indices of rows and their sampler with one more proposal, until all weights are even.

    The first proposal is a Laplace approximation at each mode of the posterior, any further one a
    normal distribution near the draw of the largest weight. The rows of the mask ``is_poor`` (B,)
    need one. Each round has its standard normal draws (1, K, 1, l).

    Newton's method has ``n_starts`` starting points, some of them among the candidates (M, C, l).
    Without candidates, rows get more draws from the first proposal, as categorical codes need,
    whose posterior has no Laplace approximation.
    """
    rows = torch.arange(len(is_poor), device=is_poor.device)
    for number, noise in enumerate(points):
        chosen = is_poor.nonzero()[:, 0]
        if not len(chosen):
            return
        rows, sampler = rows[chosen], sampler.select(chosen)
        if candidates is None:
            _, proposal = sampler.proposals[0]
            sampler.add(proposal, noise)
        elif number == 0:
            add_modes(sampler, noise, proposal_scale, candidates, n_starts)
        else:
            add_normal_at_largest_weight(sampler, noise, proposal_scale)
        yield rows, sampler
        is_poor = sampler.is_uneven().any(0)


def add_modes(
    sampler: ImportanceSampler,
    noise: Tensor,
    proposal_scale: float,
    candidates: Tensor,
    n_starts: int,
) -> None:
    """Add Laplace approximations at the modes that Newton's method finds from several starts.

    Most draws are from the mode with the largest part of p(x), a few from every other mode. The
    candidates (M, C, l) are codes far from each other: starting points beside the likelier of the
    likeliest draw and the draws' weighted mean. The noise is (1, K, 1, l).
    """
    log_joint = sampler.log_joint.nan_to_num(nan=-math.inf)
    z = sampler.z.take_along_dim(log_joint.argmax(1, keepdim=True).unsqueeze(-1), 1)  # (M, 1, B, l)
    mean = (sampler.log_weight.softmax(1).unsqueeze(-1) * sampler.z).sum(1, keepdim=True)
    is_better = sampler.target.log_prob(mean) > log_joint.amax(1, keepdim=True)
    z = torch.where(is_better.unsqueeze(-1), mean, z)
    if n_starts > 1:
        z = torch.cat([z, _likeliest_per_cluster(sampler.target, candidates, n_starts - 1)], dim=1)
    n_starts, n_rows = z.shape[1:3]
    rows = torch.arange(n_rows, device=z.device).repeat(n_starts)
    target = sampler.target.select(rows)
    normal = newton(target, z.flatten(1, 2))
    at_modes = target.log_prob(normal.loc.unsqueeze(1))[:, 0]
    log_mass = at_modes + normal.scale.log().sum(-1)  # (M, S B)
    best = log_mass.nan_to_num(nan=-math.inf).unflatten(1, (n_starts, n_rows)).argmax(1)
    per_start = [part.unflatten(1, (n_starts, n_rows)) for part in normal]
    row = torch.arange(n_rows, device=best.device)
    member = torch.arange(len(best), device=best.device).unsqueeze(1)
    largest = NormalProposal(*(part[member, best, row] for part in per_start))
    _add_normal(sampler, largest, noise, proposal_scale)
    few = noise[:, : -(-noise.shape[1] // OTHER_MODE_ONE_IN)]
    if n_starts == 1:
        return
    for start in range(n_starts):
        loc, axes, scale = (part[:, start] for part in per_start)
        sampler.add(NormalProposal(loc, axes, proposal_scale * scale), few)


def add_normal_at_largest_weight(
    sampler: ImportanceSampler, noise: Tensor, proposal_scale: float
) -> None:
    """Add a normal distribution near the draw of the largest weight.

    Its mean is the mode next to the draw or, if the mode has a proposal already, the draw.
    """
    largest = sampler.log_weight.argmax(1, keepdim=True).unsqueeze(-1)  # (M, 1, B, 1)
    z = sampler.z.take_along_dim(largest, 1).squeeze(1)
    guess = newton(sampler.target, z)
    mode = guess.loc
    for _, proposal in sampler.proposals:
        if isinstance(proposal, NormalProposal):
            distance = proposal.squared_distance(mode.unsqueeze(1)).squeeze(1) / z.shape[-1]
            mode = torch.where((distance < SAME_MODE**2).unsqueeze(-1), z, mode)
    normal, _ = laplace_approximation(sampler.target, guess._replace(loc=mode))
    _add_normal(sampler, normal, noise, proposal_scale)


def _add_normal(
    sampler: ImportanceSampler, normal: NormalProposal, noise: Tensor, proposal_scale: float
) -> None:
    """Add a normal distribution, and a wider one with heavier tails for a few draws."""
    n_wide = noise.shape[1] // WIDE_ONE_IN
    sampler.add(normal._replace(scale=proposal_scale * normal.scale), noise[:, n_wide:])
    if n_wide:
        wide = normal._replace(scale=wide_scale(noise.shape[-1]) * normal.scale)
        sampler.add(wide, noise[:, :n_wide])


def _likeliest_per_cluster(target: Target, candidates: Tensor, n_best: int) -> Tensor:
    """Likeliest codes of different clusters: (M, C, l) -> (M, n_best, B, l).

    The first codes are the clusters' centres.
    """
    log_joint = target.log_prob(candidates.unsqueeze(2)).nan_to_num(nan=-math.inf)  # (M, C, B)
    n_clusters = min(CLUSTERS_PER_START * n_best, candidates.shape[1])
    # exact: codes that are equal are in one cluster
    mode = "donot_use_mm_for_euclid_dist"
    centres = candidates[:, :n_clusters]
    cluster = torch.cdist(candidates, centres, compute_mode=mode).argmin(-1)  # (M, C)
    likeliest = [
        log_joint.masked_fill((cluster != number).unsqueeze(-1), -math.inf).max(1)
        for number in range(n_clusters)
    ]
    values, numbers = (
        torch.stack(part, dim=1) for part in zip(*likeliest, strict=True)
    )  # (M, G, B)
    best = values.topk(min(n_best, n_clusters), dim=1).indices
    chosen = numbers.gather(1, best)  # (M, n_best, B)
    index = chosen.flatten(1).unsqueeze(-1).expand(-1, -1, candidates.shape[-1])
    return candidates.gather(1, index).unflatten(1, chosen.shape[1:])
