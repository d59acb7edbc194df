"""Log-density of a ``MixtureEnsemble``: importance sampling of codes given likely components.

The latent variables of a row are a component c, of any member, and the code z. Fisher scoring finds
the modes of p(z | x, c) of each member's likely components, and Laplace approximations there say
how much of p(x) each component has. The largest parts are estimated by importance sampling, of
pairs of a component and a row. Of the others, the approximations are good enough.

An ensemble that is still a mixture needs no draws: p(x | z, c) does not depend on z.

Shapes: N pairs, B rows, C components.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from sklearn_vae.inference.importance_sampling import (
    ImportanceSampler,
    WeightedCodes,
    add_draws,
    laplace_proposals,
    refine,
)
from sklearn_vae.inference.laplace import JointDensity, near_modes
from sklearn_vae.inference.log_density import PRIOR_ONE_IN, Points
from sklearn_vae.likelihoods.columnwise import Parameters
from sklearn_vae.models.mixture_ensemble import MixtureEnsemble, log_normal
from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import HALF_LOG_2PI, Array, namespace
from sklearn_vae.numerics.rows import batches, rows_in_cache
from sklearn_vae.priors import StandardNormal

# Components are searched up to so many nats below their member's best at the encoder's mean, at
# most so many. Those that are so many nats below the row's best at the mode get no draws.
MAX_FIRST_GAP = 12.0
MAX_COMPONENTS = 3
MAX_GAP = 5.0
# A larger part in the bias of the score, in nats, needs further draws.
MAX_BIAS = 0.002
# Each likely component gets one in so many of the draws of a row.
COMPONENT_ONE_IN = 4


class ComponentConditional:
    """p(x | z, c) of encoded rows x (B, n_columns), as a model whose rows are pairs (c, x).

    Pairs are indices (1, N, 2), in the order of the components. Parameters depend on x, too.
    """

    decodes_per_row = True

    def __init__(self, model: MixtureEnsemble, x: Array):
        self.model, self.likelihood, xp = model, self, namespace(x)
        white = model.whitened(x)
        self.white = white.reshape(len(white), white.shape[1] * len(x))  # (d, C B)
        self.others = model.others.split_missing(ops.take(x, model.other_columns, 1))
        observed = ~xp.isnan(ops.take(x, model.real_columns, 1))
        self.observed = None if observed.all() else observed
        self.n_rows = len(x)
        self.codes_per_chunk = model.codes_per_chunk(is_complete=self.observed is None)

    def target(self, component: Array, row: Array) -> JointDensity:
        """p(x, z | c) of components and rows, (N,) each."""
        pairs = namespace(row).stack([component, row], -1)[None]
        return JointDensity(self, StandardNormal(), pairs, None)

    def all_pairs(self) -> tuple[Array, Array]:
        """All components and rows: (C B,), (C B,)."""
        index = ops.arange(self.white.shape[1], self.white)
        return index // self.n_rows, index % self.n_rows

    def log_likelihood(self, z: Array, component: Array, row: Array) -> Array:
        """Log p(x | z, c) in nats, of codes (N, l): (N,)."""
        return self.target(component, row).log_likelihood(z[None, None])[0, 0]

    def decode(self, z: Array, pairs: Array) -> list[Parameters]:
        """Parameters by block, real columns first: (1, K, N or 1, l), (1, N, 2) -> (1, K, N, n)."""
        xp, n_draws, n_pairs, n_latent = namespace(z), z.shape[1], pairs.shape[1], z.shape[3]
        z = xp.broadcast_to(z[0], (n_draws, n_pairs, n_latent))
        codes = z.swapaxes(0, 1).reshape(n_pairs * n_draws, n_latent)
        index = ops.arange(len(codes), z) // n_draws
        component, row = (part[index] for part in xp.moveaxis(pairs[0], 1, 0))
        white = ops.take(self.white, component * self.n_rows + row, 1)
        observed = None if self.observed is None else self.observed[row]
        decoded = self.model.decode(codes, component)
        parts = self.model.standardize(white, decoded, component, observed)
        shape = -1, n_pairs, n_draws
        standard, log_scale, params, log_det = (
            part.reshape(*shape).swapaxes(0, 2)[None] for part in parts
        )
        return [[standard, log_scale, log_det], *self.model.others.split_params(params)]

    def log_prob(self, params: list[Parameters], pairs: Array, observed: None) -> Array:
        """Log p(x | z, c) in nats: (1, K, N)."""
        (standard, log_scale, log_det), *of_others = params
        log_prob = log_normal(standard, log_scale, log_det[..., 0], -1)
        if self.model.others.blocks:
            log_prob = log_prob + self.model.others.log_prob(of_others, *self._others(pairs))
        return log_prob

    def expand(
        self, params: list[Parameters], slopes: list[Parameters], pairs: Array, observed: None
    ) -> tuple[Array, Array, Array]:
        """Expand ``log_prob`` quadratically in z, as ``Columnwise.expand``."""
        (standard, log_scale, log_det), (of_standard, of_scale, _) = params[0], slopes[0]
        log_prob = log_normal(standard, log_scale, log_det[..., 0], -1)
        gradient = -(of_standard * standard).sum(-1) - of_scale.sum(-1)
        features = ops.concatenate([of_standard, of_scale])
        if self.model.others.blocks:
            parts = self.model.others.expand(params[1:], slopes[1:], *self._others(pairs))
            log_prob, gradient = log_prob + parts[0], gradient + parts[1]
            features = ops.concatenate([features, parts[2]])
        return log_prob, gradient, features

    def _others(self, pairs: Array) -> tuple[Array, Array | None]:
        """Other columns of the rows, and the mask of their observed values: (N, n)."""
        (x, observed), row = self.others, pairs.reshape(-1, 2)[:, 1]
        return ops.take(x, row, 0), None if observed is None else observed[row]


class LikelyComponents:
    """Laplace approximations of p(z | x, c) for each component and row; draws of likely pairs."""

    def __init__(self, model: MixtureEnsemble, x: Array, points: Points):
        self.model, self.points, xp = model, points, namespace(x)
        self.pairs = ComponentConditional(model, x)
        # modes (C, B, l), which begin at the encoders' means
        self.loc, log_scale = (part[model.member] for part in model.encode(x))
        # q(z|x) is the approximation of components that get no steps: (C, B)
        self.log_joint = (log_scale + HALF_LOG_2PI).sum(-1) + model.log_weight[:, None]
        # Fisher information about z of p(x | z, c) at the modes: (C, B, l, l)
        self.information = ops.diagonal_matrix(xp.exp(-2 * log_scale) - 1)
        at = self.pairs.all_pairs()
        log_prior = StandardNormal().log_prob(self.loc[at])
        self.log_joint[at] += self.pairs.log_likelihood(self.loc[at], *at) + log_prior
        self._fit(self._likeliest(MAX_COMPONENTS, MAX_FIRST_GAP))
        self._search_far()
        best = xp.amax(self.log_joint, 0)
        # the N likely pairs, in ascending order of the components
        self.component, self.row = xp.where(~(self.log_joint < best - MAX_GAP))

    def _likeliest(self, n: int, max_gap: float = math.inf) -> Array:
        """Mask of up to n likely components of each member: (C, B)."""
        masks = []
        for first, end in pairwise(self.model.ends):
            log_joint = self.log_joint[first:end]
            ordered = ops.take_along(log_joint, ops.argsort(-log_joint, 0)[:n], 0)
            least = namespace(ordered).maximum(ordered[-1], ordered[0] - max_gap)
            masks.append(~(log_joint < least))
        return ops.concatenate(masks, 0)

    def _fit(self, mask: Array) -> None:
        """Find the modes of the pairs of a mask (C, B)."""
        xp, at = namespace(mask), namespace(mask).where(mask)
        z, local = near_modes(self.pairs.target(*at).expand, self.loc[at][None])
        log_evidence = local.log_evidence[0] + self.model.log_weight[at[0]]
        good = xp.isfinite(log_evidence)
        at = at[0][good], at[1][good]
        self.log_joint[at], self.loc[at] = log_evidence[good], z[0, good]
        self.information[at] = local.information[0, good]

    def _search_far(self) -> None:
        """Search the modes of far rows from many starts: the encoders have not seen such rows.

        A row is far if its squared distance from the mode of its likeliest component is ten
        standard deviations above the mean of a chi-squared distribution.
        """
        xp, n_rows = namespace(self.loc), self.pairs.n_rows
        ends = pairwise(self.model.ends)
        best = xp.stack([first + self.log_joint[first:end].argmax(0) for first, end in ends])
        at = best.reshape(-1), ops.arange(best.shape[0] * n_rows, best) % n_rows
        z = self.loc[at]
        standard = self.pairs.decode(z[None, None], xp.stack(at, -1)[None])[0][0][0, 0]  # (M B, d)
        n_dims = standard.shape[1] + z.shape[1]
        distance = sum(xp.square(part).sum(1) for part in (standard, z)).reshape(best.shape)
        is_far = (distance > n_dims + 10 * math.sqrt(2 * n_dims))[self.model.member]  # (C, B)
        if not is_far.any():
            return
        normal = self.points.prior[0, :32]  # (S, 1, l)
        starts = ops.concatenate((scale * normal for scale in (1.0, 2.0, 4.0)), 0)
        component, row = xp.where(is_far)
        for part in batches(len(row), self.pairs.codes_per_chunk // (1 + len(starts))):
            at = component[part], row[part]
            shape = len(starts), len(at[0]), starts.shape[2]
            z = ops.concatenate([self.loc[at][None], xp.broadcast_to(starts, shape)], 0)
            log_joint = xp.nan_to_num(self.pairs.target(*at).log_prob(z[None])[0], nan=-math.inf)
            index = log_joint.argmax(0)[None]
            self.loc[at] = ops.take_along(z, index[..., None], 0)[0]
            best = ops.take_along(log_joint, index, 0)[0]
            self.log_joint[at] = best + self.model.log_weight[at[0]]
        self._fit(self._likeliest(4) & is_far)

    def samplers(self) -> Iterator[tuple[Array, Array, ImportanceSampler]]:
        """Yield components and rows, and the sampler of their codes; refined ones come again."""
        first, n_prior = self.points.first, -(-self.points.prior.shape[1] // PRIOR_ONE_IN)
        weight = ops.softmax(self.log_joint, 0)[self.component, self.row]
        for part in batches(len(weight), rows_in_cache(first.shape[-1], first.shape[1] + n_prior)):
            at = self.component[part], self.row[part]
            sampler = ImportanceSampler(self.pairs.target(*at), MAX_BIAS / weight[part])
            loc, information = self.loc[at][None], self.information[at][None]
            normals = laplace_proposals(loc, information, namespace(loc).ones_like(loc), first)
            sampler.add(normals, self.points.prior[:, :n_prior])
            yield *at, sampler
            is_poor = sampler.is_uneven()[0]
            for rows, refined in refine(sampler, is_poor, self.points.further, add_draws):
                yield at[0][rows], at[1][rows], refined


class PosteriorDraws(NamedTuple):
    """Components and codes drawn given rows."""

    component: Array  # (S, B), up to S of each row
    codes: WeightedCodes  # (S, K, B, l), K of each component


def posterior_draws(model: MixtureEnsemble, x: Array, points: Points) -> PosteriorDraws:
    """Draw given rows; all components, if the density given these does not depend on codes."""
    if not model.depends_on_code:
        return posterior_components(model, x)
    points = points.fewer(COMPONENT_ONE_IN)._replace(further=())
    xp, likely = namespace(x), LikelyComponents(model, x, points)
    mask = ops.zeros(likely.log_joint.shape, likely.row)
    mask[likely.component, likely.row] = 1
    rank = mask.cumsum(0) - 1  # of a likely component among those of its row
    n_draws = points.first.shape[1] + -(-points.prior.shape[1] // PRIOR_ONE_IN)
    shape = int(rank.max()) + 1, n_draws, len(x)
    component = ops.zeros((shape[0], shape[2]), likely.row)
    z = ops.zeros((*shape, points.first.shape[-1]), x)
    log_weight = ops.zeros(shape, x) - math.inf
    for chosen, row, sampler in likely.samplers():
        at = rank[chosen, row]
        component[at, row] = chosen
        z[at, :, row] = xp.moveaxis(sampler.z[0], 1, 0)
        log_weight[at, :, row] = (sampler.log_weight[0] + model.log_weight[chosen]).swapaxes(0, 1)
    return PosteriorDraws(component, WeightedCodes(z, log_weight))


def conditional_mean(model: MixtureEnsemble, x: Array, points: Points) -> Array:
    """Mean of every column of encoded rows given their observed values: (B, n_columns)."""
    component, codes = posterior_draws(model, x, points)
    xp, weight = namespace(x), codes.weight  # (S, K, B)
    chosen, draw, row = xp.where(weight > 0)
    order = ops.argsort(component[chosen, row], 0)  # codes of a member lie together
    real = ops.zeros((*weight.shape, len(model.real_columns)), x)
    params = ops.zeros((*weight.shape, model.others.n_params), x)
    for part in batches(len(order), model.codes_per_chunk(is_complete=False)):
        at = chosen[order[part]], draw[order[part]], row[order[part]]
        real[at], params[at] = model.conditional(x[at[2]], codes.z[at], component[at[0], at[2]])
    filled = ops.zeros(x.shape, x)
    filled[:, model.real_columns] = (weight[..., None] * real).sum((0, 1))
    if model.others.blocks:
        blocks = model.others.split_params(params)
        filled[:, model.other_columns] = model.others.average_over_draws(blocks, weight)
    return filled


def log_density(model: MixtureEnsemble, x: Array, points: Points) -> Array:
    """Log-density of an ensemble at encoded rows, in nats: (B, n_columns) -> (B,)."""
    xp = namespace(x)
    if not model.depends_on_code:
        log_joint = posterior_components(model, x).codes.log_weight[:, 0]
    else:
        likely = LikelyComponents(model, x, points.fewer(COMPONENT_ONE_IN))
        log_joint = likely.log_joint
        for component, row, sampler in likely.samplers():
            log_joint[component, row] = sampler.log_evidence()[0] + model.log_weight[component]
    # of rows without values the density is 1: draws err, and negligible components are left out
    return xp.where(xp.isnan(x).all(1), 0.0, ops.logsumexp(log_joint, 0))


def posterior_components(model: MixtureEnsemble, x: Array) -> PosteriorDraws:
    """Return all components of an ensemble whose p(x|z, c) does not depend on z."""
    xp, pairs = namespace(x), ComponentConditional(model, x)
    shape = len(model.log_weight), len(x)
    component, row = pairs.all_pairs()
    z = ops.zeros((*shape, model.architecture.n_components), x)
    log_joint = pairs.log_likelihood(z[component, row], component, row).reshape(shape)
    log_joint = log_joint + model.log_weight[:, None]
    is_likely = ops.softmax(log_joint, 0) >= 1e-9
    log_weight = xp.where(is_likely, log_joint, -math.inf)[:, None]
    return PosteriorDraws(component.reshape(shape), WeightedCodes(z[:, None], log_weight))
