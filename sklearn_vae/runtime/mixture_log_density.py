"""Log-density of ``MixtureVAE`` models in numpy.

It is the counterpart of :mod:`sklearn_vae.inference.mixture_log_density`, where the method and its
constants are documented. Rows lie first: N codes, B rows, C components.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sklearn_vae.runtime.functions import HALF_LOG_2PI, cholesky, logsumexp
from sklearn_vae.runtime.mixture_vae import LOG_ZERO_WEIGHT, MixtureVAE, Standardised
from sklearn_vae.runtime.sobol import sobol_normal

MAX_STEPS = 8
CONVERGED = 0.01
BACKTRACKING = 0.25
DIFFERENCE = 0.05
MAX_FIRST_GAP = 12.0
MAX_GAP = 5.0
MAX_COMPONENTS = 3
PROPOSAL_SCALE = 1.2
PRIOR_SHARE = 1 / 8
FAR = 10.0
N_STARTS = 32
START_SCALES = (1.0, 2.0, 4.0)
FAR_COMPONENTS = 4
FAR_STEPS = 20
CODES_PER_CHUNK = 1 << 11
MAX_ERROR, MAX_FACTOR, MAX_DRAWS = 0.03, 16, 1 << 17


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
    """Laplace approximations of p(z | x, c), for each component of a model and each row.

    Parameters
    ----------
    model : MixtureVAE
        The model.
    x : ndarray of shape (B, n_columns)
        Encoded rows.

    Attributes
    ----------
    log_evidence : ndarray of shape (C, B)
        Laplace approximations of log p(x, c), in nats.
    loc : ndarray of shape (C, B, l)
        Modes.
    root, whiten : ndarray of shape (C, B, l, l)
        Roots of the covariances, z = loc + root @ noise, and their inverses.
    """

    def __init__(self, model: MixtureVAE, x: np.ndarray):
        self.model, self.x = model, x
        self.log_weight = model.log_weight[model.log_weight > 0.5 * LOG_ZERO_WEIGHT]
        self.white, self.others = model.whitened(x), x[:, ~model.is_real]
        self.observed = ~np.isnan(x[:, model.is_real])
        loc, log_scale = model.encode(x)
        n_mixture, n_rows = len(self.log_weight), len(x)
        component, row = (part.ravel() for part in np.indices((n_mixture, n_rows)))
        self.loc = np.tile(loc, (n_mixture, 1, 1))
        self.log_evidence = np.tile((log_scale + HALF_LOG_2PI).sum(-1), (n_mixture, 1))
        if n_mixture > 1:
            at_mean = self.log_joint(self.loc[component, row], component, row)
            self.log_evidence += at_mean.reshape(n_mixture, n_rows)
        eye = np.eye(loc.shape[1])
        self.root = np.tile(np.exp(log_scale)[..., None] * eye, (n_mixture, 1, 1, 1))
        self.whiten = np.tile(np.exp(-log_scale)[..., None] * eye, (n_mixture, 1, 1, 1))
        best = _top(self.log_evidence, MAX_COMPONENTS)  # (T, B)
        evidence = np.take_along_axis(self.log_evidence, best, axis=0)
        rank, row = (evidence >= evidence[:1] - MAX_FIRST_GAP).nonzero()
        self._fit(best[rank, row], row, MAX_STEPS)
        self._search_far()

    def _search_far(self) -> None:
        """Search the modes of far rows from many starts: the encoder has not seen such rows."""
        row, best = np.arange(len(self.x)), self.log_evidence.argmax(0)
        z = self.loc[best, row]
        standard = self._parts(z, best, row).standard
        n_dims = standard.shape[1] + z.shape[1]
        distance = np.square(standard).sum(1) + np.square(z).sum(1)
        far = np.flatnonzero(distance > n_dims + FAR * math.sqrt(2 * n_dims))
        if len(far) == 0:
            return
        normal = sobol_normal(N_STARTS, z.shape[1], 0)
        starts = np.concatenate([scale * normal for scale in START_SCALES])
        for component in range(len(self.log_weight)):
            tiled = np.broadcast_to(starts[:, None], (len(starts), len(far), z.shape[1]))
            codes = np.concatenate([self.loc[component, far][None], tiled])
            rows = np.tile(far, len(codes))
            components = np.full_like(rows, component)
            log_joint = self.log_joint(codes.reshape(len(rows), -1), components, rows)
            log_joint = np.nan_to_num(log_joint, nan=-np.inf).reshape(len(codes), -1)
            chosen, index = log_joint.argmax(0), np.arange(len(far))
            self.loc[component, far] = codes[chosen, index]
            self.log_evidence[component, far] = log_joint[chosen, index]
        likeliest = _top(self.log_evidence[:, far], FAR_COMPONENTS)
        self._fit(likeliest.ravel(), np.tile(far, len(likeliest)), FAR_STEPS)

    def _fit(self, component: np.ndarray, row: np.ndarray, max_steps: int) -> None:
        """Find the modes of components and rows, (N,) each, by Fisher scoring with backtracking."""
        z, size = self.loc[component, row], np.ones(len(row))
        local, active = self._expand(z, component, row), np.arange(len(row))
        for _ in range(max_steps):
            gradient = local.gradient[active]
            step = np.linalg.solve(local.precision[active], gradient[..., None])[..., 0]
            decrement = (step * gradient).sum(-1)
            best = np.full(len(self.x), -np.inf)
            np.maximum.at(best, row, local.log_evidence)
            attainable = local.log_evidence[active] + 0.5 * decrement
            is_active = (decrement > CONVERGED) & (attainable > best[row[active]] - MAX_GAP)
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
        lower = cholesky(PROPOSAL_SCALE**-2 * (local.precision - eye) + eye)
        good = np.isfinite(local.log_evidence) & ~np.isnan(lower).any((1, 2))
        indices, whiten = (component[good], row[good]), lower[good].swapaxes(1, 2)
        self.log_evidence[indices], self.loc[indices] = local.log_evidence[good], z[good]
        self.whiten[indices], self.root[indices] = whiten, np.linalg.inv(whiten)

    def _expand(self, z: np.ndarray, component: np.ndarray, row: np.ndarray) -> LocalExpansion:
        """Expand log p(x, z, c) around codes (N, l), by finite differences of the decoder."""
        n_codes, n_latent = z.shape
        around = np.concatenate([z[None], z + DIFFERENCE * np.eye(n_latent)[:, None]])
        repeated = np.tile(component, n_latent + 1), np.tile(row, n_latent + 1)
        parts = self._parts(around.reshape(-1, n_latent), *repeated)
        parts = Standardised(
            *(part.reshape(n_latent + 1, n_codes, *part.shape[1:]) for part in parts)
        )
        here = Standardised(*(part[0] for part in parts))
        standard, log_scale, params = ((part[1:] - part[0]) / DIFFERENCE for part in parts[:3])
        gradient = -log_scale.sum(-1) - (standard * here.standard).sum(-1)  # (l, N)
        features = [standard, log_scale]
        if (others := self.model.others).blocks:
            x = self.others[row]
            gradient += (params * others.gradient(here.params, x)).sum(-1)
            features.append(others.fisher_features(here.params, params, x))
        feature = np.concatenate(features, axis=-1).swapaxes(0, 1)  # (N, l, F)
        precision = feature @ feature.swapaxes(1, 2) + np.eye(n_latent)
        log_joint = self._log_joint(here, z, component, row)
        lower = cholesky(precision)
        precision[np.isnan(lower).any((1, 2))] = np.nan  # it may be singular
        log_det = np.log(lower.diagonal(axis1=1, axis2=2)).sum(-1)
        log_evidence = log_joint - log_det + n_latent * HALF_LOG_2PI
        log_evidence = np.nan_to_num(log_evidence, nan=-np.inf)
        return LocalExpansion(log_joint, gradient.T - z, precision, log_evidence)

    def log_joint(self, z: np.ndarray, component: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Log p(x, z, c) of codes (N, l), components (N,) and rows (N,): (N,)."""
        log_joint = np.empty(len(z))
        for first in range(0, len(z), CODES_PER_CHUNK):
            codes = slice(first, first + CODES_PER_CHUNK)
            part = z[codes], component[codes], row[codes]
            log_joint[codes] = self._log_joint(self._parts(*part), *part)
        return log_joint

    def _log_joint(
        self, parts: Standardised, z: np.ndarray, component: np.ndarray, row: np.ndarray
    ) -> np.ndarray:
        log_prob = self.model.log_prob_of(parts, self.others[row])
        return log_prob + log_normal(z) + self.log_weight[component]

    def _parts(self, z: np.ndarray, component: np.ndarray, row: np.ndarray) -> Standardised:
        """Rows (N,) as seen by codes (N, l) and components (N,)."""
        white, observed = self.white[component, row], self.observed[row]
        return self.model.standardise(white, z, component, observed)

    def draw(
        self, component: np.ndarray, row: np.ndarray, noise: np.ndarray, from_prior: np.ndarray
    ) -> np.ndarray:
        """Draw codes with standard normal noise (N, l), some from the prior: (N, l)."""
        scaled = (self.root[component, row] * noise[:, None]).sum(-1)
        return np.where(from_prior[:, None], noise, self.loc[component, row] + scaled)

    def log_prob(self, z: np.ndarray, component: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Log-density of codes (N, l) in the mixture of Laplace approximation and prior: (N,)."""
        whiten = self.whiten[component, row]
        standard = (whiten * (z - self.loc[component, row])[:, None]).sum(-1)
        log_det = np.log(whiten.diagonal(axis1=1, axis2=2)).sum(-1)
        log_proposal = log_det + log_normal(standard) + math.log1p(-PRIOR_SHARE)
        return np.logaddexp(log_proposal, log_normal(z) + math.log(PRIOR_SHARE))


class PosteriorDraws(NamedTuple):
    """Members, components and codes drawn given rows, with importance weights.

    Attributes
    ----------
    log_weight : ndarray of shape (K, B)
        Log-weights, whose exponentials have the mean p(x); or the sum p(x), if codes make no
        difference and all components are here.
    member, component : ndarray of shape (K, B)
        Indices of the models and of their components.
    z : ndarray of shape (K, B, l)
        Codes.
    """

    log_weight: np.ndarray
    member: np.ndarray
    component: np.ndarray
    z: np.ndarray

    def conditional_mean(self, models: Sequence[MixtureVAE], x: np.ndarray) -> np.ndarray:
        """Mean of every column of encoded rows given their observed values: (B, n_columns)."""
        model, weight = models[0], np.exp(self.log_weight - logsumexp(self.log_weight, 0))
        real = np.zeros((len(x), model.loc.shape[1]))
        params = np.zeros((*weight.shape, model.others.n_params))
        for index, mixture in enumerate(models):
            draw, row = (self.member == index).nonzero()
            mean, params[draw, row] = mixture.conditional(
                x[row], self.z[draw, row], self.component[draw, row]
            )
            np.add.at(real, row, weight[draw, row, None] * mean)
        filled = np.empty_like(x)
        filled[:, model.is_real] = real
        if model.others.blocks:
            filled[:, ~model.is_real] = model.others.average(params, weight)
        return filled


class EnsembleProposal:
    """Proposals of the members, components and codes of rows.

    Parameters
    ----------
    models : sequence of MixtureVAE
        Models.
    log_weight : ndarray of shape (M,)
        Log-weights of the models.
    x : ndarray of shape (B, n_columns)
        Encoded rows.
    """

    def __init__(self, models: Sequence[MixtureVAE], log_weight: np.ndarray, x: np.ndarray):
        self.log_weight = log_weight
        self.proposals = [LaplaceProposal(model, x) for model in models]
        pairs = zip(self.proposals, log_weight, strict=True)
        log_evidence = np.concatenate([part.log_evidence + log for part, log in pairs])  # (T, B)
        self.log_responsibility = log_evidence - logsumexp(log_evidence, 0)

    def draw(self, noise: np.ndarray, rows: np.ndarray) -> PosteriorDraws:
        """Draw for the rows with these indices (R,): their K draws share the normal noise.

        The last column of the noise (K, l + 1) chooses model and component.
        """
        log_responsibility = self.log_responsibility[:, rows]
        chosen, from_prior = _draw_proposals(np.exp(log_responsibility), noise[:, -1])
        log_ratio = np.empty(chosen.shape)  # (K, R)
        member, component = np.zeros_like(chosen), np.zeros_like(chosen)
        z = np.empty((*chosen.shape, noise.shape[1] - 1))
        first = 0  # index of the model's first component among those of all models
        for index, (proposal, log) in enumerate(zip(self.proposals, self.log_weight, strict=True)):
            end = first + len(proposal.log_evidence)
            at = ((chosen >= first) & (chosen < end)).nonzero()
            own, row = chosen[at] - first, rows[at[1]]
            codes = proposal.draw(own, row, noise[at[0], :-1], from_prior[at])
            log_q = proposal.log_prob(codes, own, row)
            log_ratio[at] = proposal.log_joint(codes, own, row) - log_q + log
            member[at], component[at], z[at] = index, own, codes
            first = end
        log_weight = log_ratio - np.take_along_axis(log_responsibility, chosen, axis=0)
        return PosteriorDraws(log_weight, member, component, z)


def posterior_draws(
    models: Sequence[MixtureVAE], log_weight: np.ndarray, x: np.ndarray, noise: np.ndarray
) -> PosteriorDraws:
    """Draw given rows; all components, if the density given these does not depend on codes.

    The parameters are those of ``log_density``.
    """
    if not any(model.depends_on_code for model in models):
        return _components(models, log_weight, x)
    return EnsembleProposal(models, log_weight, x).draw(noise, np.arange(len(x)))


def log_density(
    models: Sequence[MixtureVAE],
    log_weight: np.ndarray,
    x: np.ndarray,
    noise: np.ndarray,
    n_draws: int,
) -> np.ndarray:
    """Log of the models' weighted mean density, in nats and units of x: (B,).

    Parameters
    ----------
    models : sequence of MixtureVAE
        Models.
    log_weight : ndarray of shape (M,)
        Log-weights of the models.
    x : ndarray of shape (B, n_columns)
        Encoded rows.
    noise : ndarray of shape (MAX_FACTOR * n_draws, l + 1)
        Standard normal draws, shared by the rows; the last column chooses model and component.
    n_draws : int
        Draws of a row: the first of these, or 2 or 16 times as many if its weights are uneven.
    """
    if not any(model.depends_on_code for model in models):
        log_p = logsumexp(_components(models, log_weight, x).log_weight, 0)
        return np.where(np.isnan(x).all(1), 0.0, log_p)  # negligible components are left out
    proposal = EnsembleProposal(models, log_weight, x)
    log_mean, error = _log_mean(proposal.draw(noise[:n_draws], np.arange(len(x))).log_weight)
    factor = np.where(error > 2 * MAX_ERROR, MAX_FACTOR, 2) * (error > MAX_ERROR)
    for more in (2, MAX_FACTOR):
        points, uneven = noise[: more * n_draws], np.flatnonzero(factor == more)
        for start in range(0, len(uneven), step := max(MAX_DRAWS // len(points), 1)):
            part = uneven[start : start + step]
            log_mean[part], _ = _log_mean(proposal.draw(points, part).log_weight)
    return np.where(np.isnan(x).all(1), 0.0, log_mean)  # nothing is observed, but draws err


def _log_mean(log_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log of the mean of weights (K, B), and its error if draws were independent: (B,) each."""
    n_draws = len(log_weight)
    log_mean, log_mean_square = (logsumexp(k * log_weight, 0) - math.log(n_draws) for k in (1, 2))
    variance = np.maximum(np.expm1(log_mean_square - 2 * log_mean), 0)
    return log_mean, np.sqrt(variance / n_draws)


def _components(
    models: Sequence[MixtureVAE], log_weight: np.ndarray, x: np.ndarray
) -> PosteriorDraws:
    """Return all components of models whose p(x|z, c) does not depend on z."""
    parts = [_log_joint(model, x) + log for model, log in zip(models, log_weight, strict=True)]
    pairs = [(m, c) for m, part in enumerate(parts) for c in range(len(part))]
    member, component = np.array(pairs).T[..., None]
    log_joint = np.concatenate(parts)
    member, component = (np.broadcast_to(index, log_joint.shape) for index in (member, component))
    codes = np.zeros((*log_joint.shape, models[0].architecture.n_components))
    return PosteriorDraws(log_joint, member, component, codes)


def _log_joint(model: MixtureVAE, x: np.ndarray) -> np.ndarray:
    """Log p(x, c) of a model whose p(x|z, c) does not depend on z: (C, B)."""
    others, n_latent = x[:, ~model.is_real], model.architecture.n_components
    z, observed = np.zeros((len(x), n_latent)), ~np.isnan(x[:, model.is_real])
    parts = [
        model.standardise(white, z, np.full(len(x), component), observed)
        for component, white in enumerate(model.whitened(x))
    ]
    log_prob = [model.log_prob_of(part, others) for part in parts]
    # padding is no component, however far a row is from the others
    log_weight = np.where(model.log_weight > 0.5 * LOG_ZERO_WEIGHT, model.log_weight, -np.inf)
    return np.stack(log_prob) + log_weight[:, None]


def _draw_proposals(probability: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw components (T, B), and whether their codes are from the prior: (K, B) each.

    Consecutive draws are from the same proposal: systematic sampling, which the first of the
    normal draws (K,) starts.
    """
    joint = np.stack([(1 - PRIOR_SHARE) * probability, PRIOR_SHARE * probability], axis=1)
    cumulative = joint.reshape(2 * len(probability), probability.shape[1]).cumsum(0)[:-1].T
    start = 0.5 * math.erfc(-math.sqrt(0.5) * noise[0])
    quantile = (np.arange(len(noise)) + start) / len(noise)
    chosen = np.stack([np.searchsorted(row, quantile, "right") for row in cumulative], axis=1)
    return chosen // 2, chosen % 2 == 1


def log_normal(z: np.ndarray) -> np.ndarray:
    """Standard normal log-density in nats: (..., l) -> (...)."""
    return -(0.5 * np.square(z) + HALF_LOG_2PI).sum(-1)


def _top(values: np.ndarray, n: int) -> np.ndarray:
    """Indices of the n largest values along the first axis, in descending order."""
    return np.argsort(-values, axis=0, kind="stable")[:n]
