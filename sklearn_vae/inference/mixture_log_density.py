"""Log-density of a ``MixtureEnsemble``: importance sampling from Laplace approximations.

The latent variables of a row are a component c, of any member, and the code z. For each member and
likely component, Fisher scoring finds the mode of p(z | x, c) and the curvature there:
the Laplace approximation of p(z | x, c) and of the evidence p(x, c). Components are drawn in
proportion to the evidences, codes from the Laplace approximations, from wider ones and from the
prior. The weight of a draw is the joint density over the density of the proposals for its
component, so the estimate of p(x) is unbiased. Draws are stratified [1]_: those from one proposal
are consecutive Sobol points, which spread evenly.

An ensemble that is still a mixture needs no draws: p(x | z, c) does not depend on z.

Arrays are PyTorch's tensors, or in the runtime numpy's. Rows lie first: N codes, B rows, C
components.

References
----------
.. [1] A. B. Owen, "Monte Carlo Theory, Methods and Examples", 2013, chapter 8.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sklearn_vae.inference.constants import DIFFERENCE, PROPOSAL_SCALE, wide_scale
from sklearn_vae.inference.laplace import Expansion, NormalProposal, find_modes
from sklearn_vae.likelihoods.draws import Generator
from sklearn_vae.models.mixture_columns import Standardized
from sklearn_vae.models.mixture_ensemble import MixtureEnsemble
from sklearn_vae.numerics.array_api import (
    Array,
    arange,
    argsort,
    as_array,
    as_type,
    concatenate,
    empty,
    index_max,
    logsumexp,
    namespace,
    search_rows,
    softmax,
    sum_last,
    take,
    take_along,
)
from sklearn_vae.numerics.model_constants import HALF_LOG_2PI
from sklearn_vae.numerics.row_subsets import batches

# Components with an evidence so many nats below the row's best get no (further) steps: of a
# member's at the encoder's mean, and of all after a step. No more components of a member get any.
MAX_FIRST_GAP = 12.0
MAX_GAP = 5.0
MAX_COMPONENTS = 3
# Shares of the draws of z that are from the Laplace approximation, from a wider one and from the
# prior. The wider ones are for curved posteriors.
PROPOSAL_SHARES = (5 / 8, 1 / 4, 1 / 8)
# A row is far if its squared distance from the mode of its likeliest component is so many standard
# deviations above the mean of a chi-squared distribution. Its code is searched once more, from the
# best of N_STARTS normal codes of each of these scales, in FAR_COMPONENTS components.
FAR = 10.0
N_STARTS = 32
START_SCALES = (1.0, 2.0, 4.0)
FAR_COMPONENTS = 4
# A score of a larger standard error per observed value, in nats, is computed again with more draws,
# in proportion to it: as many times more as the next power of two, up to MAX_FACTOR. No standard
# error below the first of MAX_ERRORS is too large, and any above the second is. Standard errors of
# few draws predict errors badly, so that more draws for the largest ones would lower the mean error
# less.
MAX_ERROR_PER_VALUE = 0.0015
MAX_ERRORS = (0.03, 0.2)
MAX_DOUBLINGS = 4
MAX_FACTOR = 1 << MAX_DOUBLINGS
# Draws that are made again at a time.
MAX_DRAWS = 1 << 17
# Components of a smaller posterior probability get none, if the density does not depend on codes.
MIN_PROBABILITY = 1e-9


class LaplaceProposal:
    """Laplace approximations of p(z | x, c), for each component of an ensemble and each row.

    Parameters
    ----------
    model : MixtureEnsemble
        The ensemble.
    x : array of shape (B, n_columns)
        Encoded rows.

    Attributes
    ----------
    log_evidence : array of shape (C, B)
        Laplace approximations of log p(x, c), in nats.
    loc : array of shape (C, B, l)
        Modes.
    root, whiten : array of shape (2, C, B, l, l)
        Roots of the covariances, and of the wider ones, z = loc + root @ noise, and their
        inverses.
    """

    def __init__(self, model: MixtureEnsemble, x: Array):
        self.model, self.x, xp = model, x, namespace(x)
        white = model.whitened(x)
        self.white = white.reshape(len(white), white.shape[1] * len(x))  # (d, C B)
        self.others = model.others.split_missing(take(x, model.other_columns, 1))
        observed = ~xp.isnan(take(x, model.real_columns, 1))
        self.observed = None if observed.all() else observed
        self.loc, log_scale = (part[model.member] for part in model.encode(x))
        # q(z|x) is the proposal of components that get no steps, as the only one of a member does
        self.log_evidence = (log_scale + HALF_LOG_2PI).sum(-1) + model.log_weight[:, None]
        pairs = pairwise(model.ends)
        several = [c for first, end in pairs if end - first > 1 for c in range(first, end)]
        component, row = self._all_rows(as_array(np.array(several, dtype=int), x))
        at_mean = self.log_joint(self.loc[component, row], component, row)
        self.log_evidence[component, row] += at_mean - model.log_weight[component]
        self.eye = as_type(xp.eye(log_scale.shape[-1]), x)
        self.root, self.whiten = (
            xp.stack(2 * [xp.exp(sign * log_scale)[..., None] * self.eye]) for sign in (1, -1)
        )
        self._fit(*self._likeliest(MAX_COMPONENTS, MAX_FIRST_GAP))
        self._search_far()

    def _all_rows(self, components: Array) -> tuple[Array, Array]:
        """Pairs of components (C,) and of all rows: (C B,), (C B,)."""
        index, n_rows = arange(len(components) * len(self.x), self.x), len(self.x)
        return components[index // n_rows], index % n_rows

    def _likeliest(self, n: int, max_gap: float = math.inf) -> tuple[Array, Array]:
        """Up to n likely components of each member and row: components and rows, (N,) each."""
        components, rows = [], []
        for first, end in pairwise(self.model.ends):
            order = argsort(-self.log_evidence[first:end], 0)[:n]
            evidence = take_along(self.log_evidence[first:end], order, 0)
            rank, row = namespace(order).where(~(evidence < evidence[:1] - max_gap))
            components.append(first + order[rank, row])
            rows.append(row)
        return concatenate(components), concatenate(rows)

    def _search_far(self) -> None:
        """Search the modes of far rows from many starts: the encoders have not seen such rows."""
        xp, n_rows, (best, row) = namespace(self.x), len(self.x), self._likeliest(1)
        z = self.loc[best, row]
        standard = self._parts(z, best, row).standard
        n_dims = len(standard) + z.shape[1]
        distance = xp.square(standard).sum(0) + xp.square(z).sum(1)
        is_far = (distance > n_dims + FAR * math.sqrt(2 * n_dims)).reshape(-1, n_rows)  # (M, B)
        if not is_far.any():
            return
        normal = self.model.sobol_normal(N_STARTS, z.shape[1], 0)
        starts = concatenate((scale * normal for scale in START_SCALES), 0)
        for member, (first, end) in enumerate(pairwise(self.model.ends)):
            (far,) = xp.where(is_far[member])
            for component in range(first, end if len(far) else first):
                self._move_to_best(component, far, starts)
        likely, row = self._likeliest(FAR_COMPONENTS)
        likely_far = is_far[self.model.member[likely], row]
        self._fit(likely[likely_far], row[likely_far])

    def _move_to_best(self, component: int, rows: Array, starts: Array) -> None:
        """Replace a component's codes of rows (F,) by the most probable of them and starts."""
        xp, shape = namespace(starts), (len(starts), len(rows), starts.shape[1])
        codes = self.loc[component, rows][None], xp.broadcast_to(starts[:, None], shape)
        z = concatenate(codes, 0)  # (1 + S, F, l)
        repeated = rows[arange(z.shape[0] * z.shape[1], z) % len(rows)]
        components = xp.full_like(repeated, component)
        log_joint = self.log_joint(z.reshape(-1, z.shape[2]), components, repeated)
        log_joint = xp.nan_to_num(log_joint, nan=-math.inf).reshape(z.shape[:2])
        best = log_joint.argmax(0)[None]
        self.loc[component, rows] = take_along(z, best[..., None], 0)[0]
        self.log_evidence[component, rows] = take_along(log_joint, best, 0)[0]

    def _fit(self, component: Array, row: Array) -> None:
        """Find the modes of components and rows, (N,) each."""
        xp, n_latent = namespace(self.x), self.loc.shape[-1]

        def is_worth(local: Expansion, pairs: Array, gain: Array) -> Array:
            """Mask of the steps after which a component may be one of the row's likely ones."""
            log_evidence = local.log_evidence
            best = index_max(log_evidence[0], row, len(self.x))
            return log_evidence[:, pairs] + gain > best[row[pairs]] - MAX_GAP

        def expand(z: Array, pairs: Array) -> Expansion:
            return self.expand(z[0], component[pairs], row[pairs])

        z, local = find_modes(expand, self.loc[component, row][None], is_worth=is_worth)
        normals = [
            NormalProposal.from_expansion(z, local, scale)
            for scale in (PROPOSAL_SCALE, wide_scale(n_latent))
        ]
        whiten = xp.stack([normal.whiten[0] for normal in normals])
        log_evidence = local.log_evidence[0]
        good = xp.isfinite(log_evidence)
        component, row, whiten = component[good], row[good], whiten[:, good]
        self.log_evidence[component, row] = log_evidence[good]
        self.loc[component, row] = z[0, good]
        self.whiten[:, component, row] = whiten
        self.root[:, component, row] = xp.linalg.inv(whiten)

    def expand(self, z: Array, component: Array, row: Array) -> Expansion:
        """Expand log p(x, z, c) around codes (N, l)."""
        step = self._codes_per_chunk // (z.shape[1] + 1) or 1
        # at least one chunk, of no codes
        parts = [
            self._expand_chunk(z[part], component[part], row[part])
            for part in batches(max(len(z), 1), step)
        ]
        return Expansion(*(concatenate(part, 0)[None] for part in zip(*parts, strict=True)))

    def _expand_chunk(self, z: Array, component: Array, row: Array) -> Expansion:
        """Expand log p(x, z, c) around codes (N, l), by finite differences of the decoder."""
        xp, (n_codes, n_latent) = namespace(z), z.shape
        ahead = concatenate([0 * self.eye[:1], DIFFERENCE * self.eye], 0)  # (l + 1, l)
        index = arange(n_codes * (n_latent + 1), z) // (n_latent + 1)
        around = (z[:, None] + ahead).reshape(-1, n_latent)
        parts = self._parts(around, component[index], row[index])
        here = Standardized(*(part[..., :: n_latent + 1] for part in parts))
        features = _slopes(concatenate(parts[:2], 0), z)  # (N, l, 2 d)
        n_real = len(here.standard)
        gradient = (features[..., :n_real] @ here.standard.swapaxes(0, 1)[..., None])[..., 0]
        gradient = -gradient - features[..., n_real:].sum(-1)  # (N, l)
        log_prob = self.model.log_prob_of_real(here)
        if (others := self.model.others).blocks:
            slopes = _slopes(parts.params, z).swapaxes(0, 1)  # (l, N, n_params)
            params = others.split_params(here.params.swapaxes(0, 1))
            log_others, of_others, more = others.expand(
                params, others.split_params(slopes), *self._other_columns(row)
            )
            log_prob, gradient = log_prob + log_others, gradient + of_others.swapaxes(0, 1)
            features = concatenate([features, more.swapaxes(0, 1)])
        log_joint = log_prob + log_normal(z) + self.model.log_weight[component]
        return Expansion.of(log_joint, gradient - z, features, xp.ones_like(z))

    @property
    def _codes_per_chunk(self) -> int:
        return self.model.codes_per_chunk(is_complete=self.observed is None)

    def log_joint(self, z: Array, component: Array, row: Array) -> Array:
        """Log p(x, z, c) of codes (N, l), components (N,) and rows (N,): (N,)."""
        log_joint = empty((len(z),), z)
        for codes in batches(len(z), self._codes_per_chunk):
            part = z[codes], component[codes], row[codes]
            log_joint[codes] = self._log_joint(self._parts(*part), *part)
        return log_joint

    def _log_joint(self, parts: Standardized, z: Array, component: Array, row: Array) -> Array:
        log_prob = self.model.log_prob_of(parts, *self._other_columns(row))
        return log_prob + log_normal(z) + self.model.log_weight[component]

    def _parts(self, z: Array, component: Array, row: Array) -> Standardized:
        """Rows (N,) as seen by codes (N, l) and components (N,)."""
        white = take(self.white, component * len(self.x) + row, 1)
        observed = None if self.observed is None else self.observed[row]
        decoded = self.model.decode(z, component)
        return self.model.standardize(white, decoded, component, observed)

    def _other_columns(self, row: Array) -> tuple[Array, Array | None]:
        """Other columns of rows (N,), and the mask of their observed values: (N or 1, n)."""
        x, observed = self.others
        if len(x) == 1:
            return self.others
        return take(x, row, 0), None if observed is None else observed[row]

    def draw(self, noise: Array, rows: Array) -> "PosteriorDraws":
        """Draw for the rows with these indices (R,): their K draws share the normal noise.

        The last column of the noise (K, l + 1) chooses the component.
        """
        xp, n_draws = namespace(noise), len(noise)
        log_responsibility = self.log_evidence[:, rows]
        log_responsibility = log_responsibility - logsumexp(log_responsibility, 0)
        chosen, origin = _draw_proposals(xp.exp(log_responsibility), noise[:, -1])  # (R, K)
        log_weight, z = (
            empty(chosen.shape, noise),
            empty((*chosen.shape, noise.shape[1] - 1), noise),
        )
        # draws of one component are computed together, and those of one row are neighbours
        order = argsort(chosen.reshape(-1), 0)
        flat_weight, flat_z = log_weight.reshape(-1), z.reshape(-1, z.shape[2])
        for part in batches(len(order), self._codes_per_chunk):
            index = order[part]
            component, which = chosen.reshape(-1)[index], index // n_draws
            args = component, rows[which]
            codes = self.draw_codes(*args, noise[index % n_draws, :-1], origin.reshape(-1)[index])
            log_q = self.log_prob(codes, *args) + log_responsibility[component, which]
            flat_weight[index] = self.log_joint(codes, *args) - log_q
            flat_z[index] = codes
        return PosteriorDraws(log_weight, chosen, z)

    def draw_codes(self, component: Array, row: Array, noise: Array, origin: Array) -> Array:
        """Draw codes with standard normal noise (N, l): (N, l).

        Their origins (N,) are 0, the Laplace approximation, 1, a wider one, or 2, the prior.
        """
        root = self.root[namespace(origin).clip(origin, None, 1), component, row]
        scaled = (root @ noise[..., None])[..., 0]
        is_prior = (origin == 2)[:, None]
        return namespace(noise).where(is_prior, noise, self.loc[component, row] + scaled)

    def log_prob(self, z: Array, component: Array, row: Array) -> Array:
        """Log-density of codes (N, l) in the mixture of the three proposals: (N,)."""
        xp, whiten = namespace(z), self.whiten[:, component, row]  # (2, N, l, l)
        standard = (whiten @ (z - self.loc[component, row])[..., None])[..., 0]
        log_det = xp.log(whiten.diagonal(0, 2, 3)).sum(-1)
        laplace, wide, prior = (
            log_prob + math.log(share)
            for log_prob, share in zip(
                [*(log_det + log_normal(standard)), log_normal(z)], PROPOSAL_SHARES, strict=True
            )
        )
        return xp.logaddexp(xp.logaddexp(laplace, wide), prior)


class PosteriorDraws(NamedTuple):
    """Components and codes drawn given rows, with importance weights.

    Attributes
    ----------
    log_weight : array of shape (B, K)
        Log-weights, whose exponentials have the mean p(x); or the sum p(x), if codes make no
        difference and all components are here.
    component : array of shape (B, K)
        Indices of the components.
    z : array of shape (B, K, l)
        Codes.
    """

    log_weight: Array
    component: Array
    z: Array

    def conditional_mean(self, model: MixtureEnsemble, x: Array) -> Array:
        """Mean of every column of encoded rows given their observed values: (B, n_columns)."""
        weight = softmax(self.log_weight, 1)
        row, draw = namespace(weight).where(weight > 0)
        order = argsort(self.component[row, draw], 0)
        at = row, draw = row[order], draw[order]
        mean, of_draws = model.conditional(x[row], self.z[at], self.component[at])
        real = empty((*weight.shape, mean.shape[1]), x)
        params = empty((*weight.shape, model.others.n_params), x)
        real[:], params[:] = 0, 0
        real[at], params[at] = mean, of_draws
        filled = empty(x.shape, x)
        filled[:, model.real_columns] = (weight[..., None] * real).sum(1)
        if model.others.blocks:
            blocks = model.others.split_params(params.swapaxes(0, 1)[None])
            weights = weight.swapaxes(0, 1)[None]  # (1, K, B)
            filled[:, model.other_columns] = model.others.average_over_draws(blocks, weights)
        return filled

    def sample(
        self, model: MixtureEnsemble, x: Array, row: Array, draw: Array, generator: Generator
    ) -> Array:
        """Draw rows given the observed values of rows, at some of their draws.

        (B, n_columns), (n,), (n,) -> (n, n_columns).
        """
        at = row, draw
        return model.sample_given(x[row], self.z[at], self.component[at], generator)


def posterior_draws(model: MixtureEnsemble, x: Array, noise: Array) -> PosteriorDraws:
    """Draw given rows; all components, if the density given these does not depend on codes.

    The parameters are those of ``log_density``.
    """
    if not model.depends_on_code:
        return posterior_components(model, x)
    return LaplaceProposal(model, x).draw(noise, arange(len(x), x))


def log_density(model: MixtureEnsemble, x: Array, noise: Array, n_draws: int) -> Array:
    """Log-density of an ensemble, in nats and units of x: (B,).

    Parameters
    ----------
    model : MixtureEnsemble
        The ensemble.
    x : array of shape (B, n_columns)
        Encoded rows.
    noise : array of shape (MAX_FACTOR * n_draws, l + 1)
        Standard normal draws, shared by the rows; the last column chooses the component.
    n_draws : int
        Draws of a row: the first of these, or 2 to 16 times as many if its weights are uneven.
    """
    xp = namespace(x)
    if not model.depends_on_code:
        log_mean = logsumexp(posterior_components(model, x).log_weight, 1)
    else:
        proposal = LaplaceProposal(model, x)
        draws = proposal.draw(noise[:n_draws], arange(len(x), x))
        log_mean, error = _log_mean(draws.log_weight)
        error = error / xp.clip(MAX_ERROR_PER_VALUE * model.n_observed(x), *MAX_ERRORS)
        limits = [*(2**k for k in range(MAX_DOUBLINGS)), math.inf]
        for number, (low, high) in enumerate(pairwise(limits), start=1):
            points, (uneven,) = (
                noise[: n_draws << number],
                xp.where((low < error) & (error <= high)),
            )
            for part in batches(len(uneven), max(MAX_DRAWS // len(points), 1)):
                rows = uneven[part]
                log_mean[rows], _ = _log_mean(proposal.draw(points, rows).log_weight)
    # of rows without values the density is 1: draws err, and negligible components are left out
    return xp.where(xp.isnan(x).all(1), 0.0, log_mean)


def posterior_components(model: MixtureEnsemble, x: Array) -> PosteriorDraws:
    """Return all components of an ensemble whose p(x|z, c) does not depend on z.

    Those of a negligible posterior probability have the log-weight -inf.
    """
    xp, (n_mixture, n_rows) = namespace(x), (len(model.log_weight), len(x))
    index = arange(n_mixture * n_rows, x)
    component, row = index // n_rows, index % n_rows
    *real, params = model.decoded_components
    white = model.whitened(x).reshape(len(model.real_columns), len(index))
    decoded = [*(take(part, component, 1) for part in real), params[:0]]
    observed = ~xp.isnan(take(x, model.real_columns, 1))
    parts = model.standardize(white, decoded, component, None if observed.all() else observed[row])
    log_joint = model.log_prob_of_real(parts).reshape(n_mixture, n_rows)
    log_joint = log_joint + model.log_weight[:, None]
    if model.others.blocks:
        others, mask = model.others.split_missing(take(x, model.other_columns, 1))
        blocks = model.others.split_params(params.swapaxes(0, 1)[None])
        mask = None if mask is None else mask[None]
        log_joint = log_joint + model.others.log_prob_by_component(blocks, others[None], mask)[0]
    is_likely = softmax(log_joint, 0) >= MIN_PROBABILITY
    log_weight = xp.where(is_likely, log_joint, -math.inf).swapaxes(0, 1)
    z = empty((n_rows, n_mixture, model.architecture.n_components), x)
    z[:] = 0
    return PosteriorDraws(log_weight, component.reshape(n_mixture, n_rows).swapaxes(0, 1), z)


def _slopes(values: Array, z: Array) -> Array:
    """Finite differences of values at and around codes: (n, N (l + 1)) -> (N, l, n)."""
    values = values.reshape(len(values), len(z), z.shape[1] + 1)
    slopes = (values[..., 1:] - values[..., :1]) / DIFFERENCE
    return namespace(z).moveaxis(slopes, 0, 2)


def _log_mean(log_weight: Array) -> tuple[Array, Array]:
    """Log of the mean of weights (B, K), and its error if draws were independent: (B,) each."""
    xp, n_draws = namespace(log_weight), log_weight.shape[1]
    highest = xp.amax(log_weight, 1)
    highest = xp.where(xp.isfinite(highest), highest, 0.0)
    weight = xp.exp(log_weight - highest[:, None])
    mean, mean_square = (part.mean(1) for part in (weight, xp.square(weight)))
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = xp.clip(mean_square / xp.square(mean) - 1, 0, None)
        return xp.log(mean) + highest, xp.sqrt(variance / n_draws)


def _draw_proposals(probability: Array, noise: Array) -> tuple[Array, Array]:
    """Draw components (T, B), and which of their proposals codes are from: (B, K) each.

    Consecutive draws are from the same proposal: systematic sampling, which the first of the
    normal draws (K,) starts.
    """
    n_draws, n_proposals = len(noise), len(PROPOSAL_SHARES)
    joint = namespace(noise).stack([share * probability for share in PROPOSAL_SHARES], 1)
    cumulative = joint.reshape(-1, probability.shape[1]).cumsum(0)[:-1].swapaxes(0, 1)
    start = 0.5 * math.erfc(-math.sqrt(0.5) * float(noise[0]))
    quantile = (as_type(arange(n_draws, noise), noise) + start) / n_draws
    chosen = search_rows(cumulative, quantile)
    return chosen // n_proposals, chosen % n_proposals


def log_normal(z: Array) -> Array:
    """Standard normal log-density in nats: (..., l) -> (...)."""
    return -0.5 * sum_last(namespace(z).square(z)) - z.shape[-1] * HALF_LOG_2PI
