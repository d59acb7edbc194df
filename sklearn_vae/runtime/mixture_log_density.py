"""Log-density of a ``MixtureEnsemble`` in numpy.

It is the counterpart of :mod:`sklearn_vae.inference.mixture_log_density`, where the method is
documented. Rows lie first: N codes, B rows, C components.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from sklearn_vae.array_api import LOWEST, logsumexp, softmax
from sklearn_vae.inference.constants import wide_scale
from sklearn_vae.inference.mixture_constants import (
    BACKTRACKING,
    CONVERGED,
    DIFFERENCE,
    FAR,
    FAR_COMPONENTS,
    FAR_STEPS,
    MAX_COMPONENTS,
    MAX_DOUBLINGS,
    MAX_DRAWS,
    MAX_ERROR,
    MAX_FIRST_GAP,
    MAX_GAP,
    MAX_STEPS,
    N_STARTS,
    PROPOSAL_SCALE,
    PROPOSAL_SHARES,
    START_SCALES,
)
from sklearn_vae.model_constants import HALF_LOG_2PI
from sklearn_vae.runtime.functions import cholesky, nan_to_num, resample, sum_last
from sklearn_vae.runtime.likelihoods import columnwise_gradient
from sklearn_vae.runtime.mixture_vae import MixtureEnsemble, Standardised
from sklearn_vae.runtime.random import sobol_normal


class LocalExpansion(NamedTuple):
    """Quadratic expansion of log p(x, z, c) around codes.

    Attributes
    ----------
    log_joint : ndarray of shape (N,)
        Its value in nats.
    gradient : ndarray of shape (N, l)
        Its gradient with respect to z.
    precision : ndarray of shape (N, l, l)
        Fisher information about z plus the prior's precision.
    log_evidence : ndarray of shape (N,)
        Laplace approximation of log p(x, c), -inf where the curvature overflows.
    """

    log_joint: np.ndarray
    gradient: np.ndarray
    precision: np.ndarray
    log_evidence: np.ndarray


class LaplaceProposal:
    """Laplace approximations of p(z | x, c), for each component of an ensemble and each row.

    Parameters
    ----------
    model : MixtureEnsemble
        The ensemble.
    x : ndarray of shape (B, n_columns)
        Encoded rows.

    Attributes
    ----------
    log_evidence : ndarray of shape (C, B)
        Laplace approximations of log p(x, c), in nats.
    loc : ndarray of shape (C, B, l)
        Modes.
    root, whiten : ndarray of shape (2, C, B, l, l)
        Roots of the covariances, z = loc + root @ noise, and their inverses.
    """

    def __init__(self, model: MixtureEnsemble, x: np.ndarray):
        self.model, self.x = model, x
        self.white = model.whitened(x)
        self.others = model.others.split_missing(x[:, ~model.is_real])
        observed = ~np.isnan(x[:, model.is_real])
        self.observed = None if observed.all() else observed
        self.loc, log_scale = (part[model.member] for part in model.encode(x))
        # the only component of a member gets steps in any case
        several = np.flatnonzero(np.bincount(model.member)[model.member] > 1)
        component, row = np.repeat(several, len(x)), np.tile(np.arange(len(x)), len(several))
        at_mean = np.tile(model.log_weight[:, None], len(x))
        at_mean[component, row] = self.log_joint(self.loc[component, row], component, row)
        self.log_evidence = at_mean + (log_scale + HALF_LOG_2PI).sum(-1)
        eye = np.eye(log_scale.shape[-1])
        self.root, self.whiten = (
            np.stack(2 * [np.exp(sign * log_scale)[..., None] * eye]) for sign in (1, -1)
        )
        self._fit(*self._likeliest(MAX_COMPONENTS, MAX_FIRST_GAP), MAX_STEPS)
        self._search_far()

    def _likeliest(self, n: int, max_gap: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
        """Up to n likely components of each member and row: components and rows, (N,) each."""
        member = self.model.member
        members = np.broadcast_to(member[:, None], self.log_evidence.shape)
        order = np.lexsort((-self.log_evidence, members), axis=0)
        evidence = np.take_along_axis(self.log_evidence, order, axis=0)
        first = np.searchsorted(member, member)
        is_first = (np.arange(len(member)) < first + n)[:, None]
        index, row = (is_first & ~(evidence < evidence[first] - max_gap)).nonzero()
        return order[index, row], row

    def _search_far(self) -> None:
        """Search the modes of far rows from many starts: the encoders have not seen such rows."""
        member, (best, row) = self.model.member, self._likeliest(1)
        z = self.loc[best, row]
        standard = self._parts(z, best, row).standard
        n_dims = standard.shape[1] + z.shape[1]
        distance = np.square(standard).sum(1) + np.square(z).sum(1)
        is_far = distance > n_dims + FAR * math.sqrt(2 * n_dims)
        if not is_far.any():
            return
        is_far = is_far.reshape(-1, len(self.x))  # (M, B)
        normal = sobol_normal(N_STARTS, z.shape[1], 0)
        starts = np.concatenate([scale * normal for scale in START_SCALES])
        for component in np.flatnonzero(is_far.any(1)[member]):
            far = np.flatnonzero(is_far[member[component]])
            tiled = np.broadcast_to(starts[:, None], (len(starts), len(far), z.shape[1]))
            codes = np.concatenate([self.loc[component, far][None], tiled])
            rows = np.tile(far, len(codes))
            components = np.full_like(rows, component)
            log_joint = self.log_joint(codes.reshape(len(rows), -1), components, rows)
            log_joint = np.nan_to_num(log_joint, nan=-np.inf).reshape(len(codes), -1)
            chosen, index = log_joint.argmax(0), np.arange(len(far))
            self.loc[component, far] = codes[chosen, index]
            self.log_evidence[component, far] = log_joint[chosen, index]
        likely, row = self._likeliest(FAR_COMPONENTS)
        likely_far = is_far[member[likely], row]
        self._fit(likely[likely_far], row[likely_far], FAR_STEPS)

    def _fit(self, component: np.ndarray, row: np.ndarray, max_steps: int) -> None:
        """Find the modes of components and rows, (N,) each, by Fisher scoring with backtracking."""
        member = self.model.member[component]
        z, size = self.loc[component, row], np.ones(len(row))
        local, active = self._expand(z, component, row), np.arange(len(row))
        for _ in range(max_steps):
            gradient = local.gradient[active]
            step = np.linalg.solve(local.precision[active], gradient[..., None])[..., 0]
            decrement = (step * gradient).sum(-1)
            best = np.full((len(self.model.members), len(self.x)), -np.inf)
            np.maximum.at(best, (member, row), local.log_evidence)
            attainable = local.log_evidence[active] + 0.5 * decrement
            is_likely = attainable > best[member[active], row[active]] - MAX_GAP
            is_active = (decrement > CONVERGED) & is_likely
            active, step = active[is_active], step[is_active]
            if len(active) == 0:
                break
            candidate = z[active] + size[active, None] * step
            expansion = self._expand(candidate, component[active], row[active])
            better = expansion.log_joint > local.log_joint[active]
            size[active] = np.where(better, 1.0, BACKTRACKING * size[active])
            z[active[better]] = candidate[better]
            for old, new in zip(local, expansion, strict=True):
                old[active[better]] = new[better]
        eye = np.eye(z.shape[1])
        scale = np.reshape([PROPOSAL_SCALE, wide_scale(z.shape[1])], (2, 1, 1, 1))
        precision = (local.precision - eye) / np.square(scale) + eye  # (2, N, l, l)
        lower = cholesky(precision.reshape(-1, *eye.shape)).reshape(precision.shape)
        good = np.isfinite(local.log_evidence) & ~np.isnan(lower).any((0, 2, 3))
        component, row, whiten = component[good], row[good], lower[:, good].swapaxes(2, 3)
        self.log_evidence[component, row] = local.log_evidence[good]
        self.loc[component, row] = z[good]
        self.whiten[:, component, row] = whiten
        self.root[:, component, row] = np.linalg.inv(whiten)

    def _expand(self, z: np.ndarray, component: np.ndarray, row: np.ndarray) -> LocalExpansion:
        """Expand log p(x, z, c) around codes (N, l), by finite differences of the decoder."""
        n_latent = z.shape[1]
        around = z[:, None] + DIFFERENCE * np.eye(n_latent + 1, n_latent, -1)  # (N, l + 1, l)
        repeated = component.repeat(n_latent + 1), row.repeat(n_latent + 1)
        parts = self._parts(around.reshape(-1, n_latent), *repeated)
        here = Standardised(*(part[:: n_latent + 1] for part in parts))
        feature = self._slopes(np.hstack(parts[:2]), z.shape)  # (N, l, 2 d)
        n_real = here.standard.shape[1]
        gradient = -(feature[..., :n_real] @ here.standard[..., None])[..., 0]  # (N, l)
        gradient -= feature[..., n_real:].sum(-1)
        if (others := self.model.others).blocks:
            x, params = self._other_columns(row), self._slopes(parts.params, z.shape)
            blocks, slopes = map(others.split_params, (here.params, params.swapaxes(0, 1)))
            gradient += (params @ columnwise_gradient(others, blocks, *x)[..., None])[..., 0]
            of_others = others.fisher_features(blocks, slopes, x[1])
            feature = np.concatenate([feature, of_others.swapaxes(0, 1)], axis=-1)
        precision = feature @ feature.swapaxes(1, 2) + np.eye(n_latent)
        log_joint = self._log_joint(here, z, component, row)
        lower = cholesky(precision)
        precision[np.isnan(lower).any((1, 2))] = np.nan  # it may be singular
        log_det = np.log(lower.diagonal(axis1=1, axis2=2)).sum(-1)
        log_evidence = log_joint - log_det + n_latent * HALF_LOG_2PI
        log_evidence = nan_to_num(log_evidence, -np.inf)
        return LocalExpansion(log_joint, gradient - z, precision, log_evidence)

    @staticmethod
    def _slopes(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Finite differences of values at and around codes: (N (l + 1), n) -> (N, l, n)."""
        values = values.reshape(shape[0], shape[1] + 1, values.shape[1])
        slopes: np.ndarray = values[:, 1:] - values[:, :1]
        slopes /= DIFFERENCE
        return slopes

    def log_joint(self, z: np.ndarray, component: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Log p(x, z, c) of codes (N, l), components (N,) and rows (N,): (N,)."""
        step = self.model.codes_per_chunk(is_complete=self.observed is None)
        log_joint = np.empty(len(z))
        for first in range(0, len(z), step):
            codes = slice(first, first + step)
            part = z[codes], component[codes], row[codes]
            log_joint[codes] = self._log_joint(self._parts(*part), *part)
        return log_joint

    def _log_joint(
        self, parts: Standardised, z: np.ndarray, component: np.ndarray, row: np.ndarray
    ) -> np.ndarray:
        log_prob = self.model.log_prob_of(parts, *self._other_columns(row))
        return log_prob + log_normal(z) + self.model.log_weight[component]

    def _parts(self, z: np.ndarray, component: np.ndarray, row: np.ndarray) -> Standardised:
        """Rows (N,) as seen by codes (N, l) and components (N,)."""
        decoded = self.model.decode(z, component)
        observed = None if self.observed is None else self.observed[row]
        return self.model.standardise(self.white[component, row], decoded, component, observed)

    def _other_columns(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Other columns of rows (N,), and the mask of their observed values: (N or 1, n)."""
        x, observed = self.others
        if len(x) == 1:
            return self.others
        return x[row], None if observed is None else observed[row]

    def draw(self, noise: np.ndarray, rows: np.ndarray) -> "PosteriorDraws":
        """Draw for the rows with these indices (R,): their K draws share the normal noise.

        The last column of the noise (K, l + 1) chooses the component.
        """
        log_responsibility = self.log_evidence[:, rows]
        log_responsibility = log_responsibility - logsumexp(log_responsibility, 0)
        chosen, origin = _draw_proposals(np.exp(log_responsibility), noise[:, -1])
        draw, index = _in_order(chosen)
        component, row = chosen[draw, index], rows[index]
        codes = self._draw_codes(component, row, noise[draw, :-1], origin[draw, index])
        log_q = self.log_prob(codes, component, row) + log_responsibility[component, index]
        log_weight, z = np.empty(chosen.shape), np.empty((*chosen.shape, codes.shape[1]))
        log_weight[draw, index] = self.log_joint(codes, component, row) - log_q
        z[draw, index] = codes
        return PosteriorDraws(log_weight, chosen, z)

    def _draw_codes(
        self, component: np.ndarray, row: np.ndarray, noise: np.ndarray, origin: np.ndarray
    ) -> np.ndarray:
        """Draw codes with standard normal noise (N, l): (N, l).

        Their origins (N,) are 0, the Laplace approximation, 1, a wider one, or 2, the prior.
        """
        root = self.root[origin.clip(max=1), component, row]
        scaled = np.einsum("nij,nj->ni", root, noise)
        return np.where((origin == 2)[:, None], noise, self.loc[component, row] + scaled)

    def log_prob(self, z: np.ndarray, component: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Log-density of codes (N, l) in the mixture of the three proposals: (N,)."""
        whiten = self.whiten[:, component, row]  # (2, N, l, l)
        standard = np.einsum("pnij,nj->pni", whiten, z - self.loc[component, row])
        log_det = np.log(self.whiten.diagonal(axis1=3, axis2=4)).sum(-1)[:, component, row]
        laplace, wide, prior = (
            log_prob + math.log(share)
            for log_prob, share in zip(
                [*(log_det + log_normal(standard)), log_normal(z)], PROPOSAL_SHARES, strict=True
            )
        )
        return np.logaddexp(np.logaddexp(laplace, wide), prior)


class PosteriorDraws(NamedTuple):
    """Components and codes drawn given rows, with importance weights.

    Attributes
    ----------
    log_weight : ndarray of shape (K, B)
        Log-weights, whose exponentials have the mean p(x); or the sum p(x), if codes make no
        difference and all components are here.
    component : ndarray of shape (K, B)
        Indices of the components.
    z : ndarray of shape (K, B, l)
        Codes.
    """

    log_weight: np.ndarray
    component: np.ndarray
    z: np.ndarray

    def conditional_mean(self, model: MixtureEnsemble, x: np.ndarray) -> np.ndarray:
        """Mean of every column of encoded rows given their observed values: (B, n_columns)."""
        weight = softmax(self.log_weight, 0)
        at = _in_order(self.component)
        mean, of_draws = model.conditional(x[at[1]], self.z[at], self.component[at])
        real = np.zeros((*weight.shape, mean.shape[1]))
        params = np.empty((*weight.shape, model.others.n_params))
        real[at], params[at] = mean, of_draws
        filled = np.empty_like(x)
        filled[:, model.is_real] = (weight[..., None] * real).sum(0)
        if model.others.blocks:
            filled[:, ~model.is_real] = model.others.average_over_draws(
                model.others.split_params(params[None]), weight[None]
            )
        return filled

    def sample(
        self, model: MixtureEnsemble, x: np.ndarray, index: np.ndarray, generator: Generator
    ) -> np.ndarray:
        """Draw rows given the observed values of the encoded rows with these indices.

        (B, n_columns), (n,) -> (n, n_columns).
        """
        draw = resample(self.log_weight, index, generator)
        order = self.component[draw, index].argsort(kind="stable")
        at, rows = (draw[order], index[order]), np.empty((len(index), x.shape[1]))
        rows[order] = model.sample_given(x[at[1]], self.z[at], self.component[at], generator)
        return rows


def posterior_draws(model: MixtureEnsemble, x: np.ndarray, noise: np.ndarray) -> PosteriorDraws:
    """Draw given rows; all components, if the density given these does not depend on codes.

    The parameters are those of ``log_density``.
    """
    if not model.depends_on_code:
        return _components(model, x)
    return LaplaceProposal(model, x).draw(noise, np.arange(len(x)))


def log_density(
    model: MixtureEnsemble, x: np.ndarray, noise: np.ndarray, n_draws: int
) -> np.ndarray:
    """Log-density of an ensemble, in nats and units of x: (B,).

    Parameters
    ----------
    model : MixtureEnsemble
        The ensemble.
    x : ndarray of shape (B, n_columns)
        Encoded rows.
    noise : ndarray of shape (MAX_FACTOR * n_draws, l + 1)
        Standard normal draws, shared by the rows; the last column chooses the component.
    n_draws : int
        Draws of a row: the first of these, or 2, 4, 8 or 16 times as many if its weights are
        uneven.
    """
    if not model.depends_on_code:
        log_p = logsumexp(_components(model, x).log_weight, 0)
        return np.where(np.isnan(x).all(1), 0.0, log_p)  # negligible components are left out
    proposal = LaplaceProposal(model, x)
    log_mean, error = _log_mean(proposal.draw(noise[:n_draws], np.arange(len(x))).log_weight)
    with np.errstate(divide="ignore", invalid="ignore"):  # as of rows without an error
        doublings = np.minimum(np.ceil(np.log2(error / MAX_ERROR)), MAX_DOUBLINGS)
    for exponent in range(1, MAX_DOUBLINGS + 1):
        points, uneven = noise[: n_draws << exponent], np.flatnonzero(doublings == exponent)
        for start in range(0, len(uneven), step := max(MAX_DRAWS // len(points), 1)):
            part = uneven[start : start + step]
            log_mean[part], _ = _log_mean(proposal.draw(points, part).log_weight)
    return np.where(np.isnan(x).all(1), 0.0, log_mean)  # nothing is observed, but draws err


def _log_mean(log_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log of the mean of weights (K, B), and its error if draws were independent: (B,) each."""
    n_draws = len(log_weight)
    highest = np.maximum(log_weight.max(0), LOWEST)
    weight = np.exp(log_weight - highest)
    mean, mean_square = (part.sum(0) / n_draws for part in (weight, np.square(weight)))
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.maximum(mean_square / np.square(mean) - 1, 0)
        return np.log(mean) + highest, np.sqrt(variance / n_draws)


def _components(model: MixtureEnsemble, x: np.ndarray) -> PosteriorDraws:
    """Return all components of an ensemble whose p(x|z, c) does not depend on z."""
    n_mixture, n_rows = len(model.log_weight), len(x)
    component, z = np.arange(n_mixture), np.zeros((n_mixture, model.architecture.n_components))
    decoded = [part.repeat(n_rows, axis=0) for part in model.decode(z, component)]
    rows, component = np.tile(x, (n_mixture, 1)), component.repeat(n_rows)
    white = np.concatenate(model.whitened(x))
    parts = model.standardise(white, decoded, component, ~np.isnan(rows[:, model.is_real]))
    others = model.others.split_missing(rows[:, ~model.is_real])
    log_joint = model.log_prob_of(parts, *others) + model.log_weight[component]
    shape = n_mixture, n_rows
    return PosteriorDraws(
        log_joint.reshape(shape), component.reshape(shape), np.zeros((*shape, z.shape[1]))
    )


def _draw_proposals(probability: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw components (T, B), and which of their proposals codes are from: (K, B) each.

    Consecutive draws are from the same proposal: systematic sampling, which the first of the
    normal draws (K,) starts.
    """
    n_proposals = len(PROPOSAL_SHARES)
    joint = np.stack([share * probability for share in PROPOSAL_SHARES], axis=1)
    cumulative = joint.reshape(-1, probability.shape[1]).cumsum(0)[:-1].T
    start = 0.5 * math.erfc(-math.sqrt(0.5) * noise[0])
    quantile = (np.arange(len(noise)) + start) / len(noise)
    chosen = np.stack([np.searchsorted(row, quantile, "right") for row in cumulative], axis=1)
    return chosen // n_proposals, chosen % n_proposals


def log_normal(z: np.ndarray) -> np.ndarray:
    """Standard normal log-density in nats: (..., l) -> (...)."""
    return -0.5 * sum_last(np.square(z)) - z.shape[-1] * HALF_LOG_2PI


def _in_order(component: np.ndarray) -> tuple[np.ndarray, ...]:
    """Indices of components (K, B) in ascending order: (K B,), (K B,)."""
    return np.unravel_index(component.argsort(axis=None, kind="stable"), component.shape)
