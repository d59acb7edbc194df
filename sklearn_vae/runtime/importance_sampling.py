"""Importance sampling of p(x) and of the posterior p(z|x) in numpy.

It is the counterpart of :mod:`sklearn_vae.inference.log_density`, of ``importance_sampling`` and of
``adaptive_importance_sampling`` there, where the method is documented, with the same draws.
Shapes: M members, K draws, B rows.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from sklearn_vae.inference.constants import (
    CLUSTERS_PER_START,
    DRAWS_PER_FEATURE,
    FAR_START,
    MAX_CURVATURE,
    MAX_FACTOR,
    MAX_PRODUCTS,
    MAX_PROPOSALS,
    MAX_START_DIMENSIONS,
    MIN_DRAWS,
    MIN_STARTS,
    OTHER_MODE_ONE_IN,
    PRIOR_ONE_IN,
    SAME_MODE,
    TOLERANCE,
    WIDE_ONE_IN,
    WIDTH_TOLERANCE,
    wide_scale,
)
from sklearn_vae.runtime.functions import logsumexp, resample
from sklearn_vae.runtime.laplace import JointDensity, NormalProposal, laplace_approximation, newton
from sklearn_vae.runtime.random import TorchGenerator, sobol_normal
from sklearn_vae.runtime.vae import VAE, NormalMixture, StandardNormal, normal_log_density
from sklearn_vae.seeds import Stream, stream_seed


class Points:
    """Random numbers of all proposals, shared by all rows.

    Parameters
    ----------
    vae : VAE
        The model.
    n_draws : int
        Draws from the encoder and from the prior.
    seed : int
        Seed of the fit.

    Attributes
    ----------
    proposal_scale : float
        Factor of the standard deviations of q(z|x) and of Laplace approximations.
    """

    def __init__(self, vae: VAE, n_draws: int, seed: int):
        self.architecture, self.n_draws, self.seed = vae.architecture, n_draws, seed
        self.n_latent = vae.architecture.n_components
        self.proposal_scale = math.sqrt(1 + 1 / math.sqrt(self.n_latent))
        self.encoder = self._noise(n_draws, 0)
        n_prior = -(-n_draws // PRIOR_ONE_IN) if vae.architecture.n_conditions else n_draws
        if isinstance(vae.architecture.prior, StandardNormal):
            z = np.tile(self._noise(n_draws, 1)[:n_prior], (vae.n_members, 1, 1))
            self.candidates, n_starts = np.concatenate([FAR_START * z, z], axis=1), 1
        else:
            generator = TorchGenerator(stream_seed(seed, Stream.PARTS, 0))
            z, self.candidates = vae.prior.sample(n_prior, generator), vae.prior.loc
            n_starts = MIN_STARTS
        self.prior = z  # (M, K, l)
        self.n_starts = max(MAX_START_DIMENSIONS // self.n_latent, n_starts)

    def laplace(self, number: int) -> np.ndarray:
        """Standard normal draws for a further proposal: (K', l)."""
        return self._noise(max(self.n_draws, MIN_DRAWS), 2 + number)

    def _noise(self, n_draws: int, proposal: int) -> np.ndarray:
        seed = stream_seed(self.seed, Stream.SCORE, 0, proposal)
        return sobol_normal(n_draws, self.n_latent, seed)

    @cached_property
    def width_check(self) -> "WidthCheck":
        """Test for a q(z|x) that is too narrow."""
        return WidthCheck(self.encoder)


class PriorProposal(NamedTuple):
    """The prior, and codes drawn from it (M, K, l), which all rows share."""

    prior: NormalMixture
    z: np.ndarray

    def draw(self, noise: np.ndarray) -> np.ndarray:
        """The codes, whatever the noise."""
        return self.z[:, :, None]

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        """Log-density in nats of codes."""
        return self.prior.log_prob(z)

    def select(self, rows: np.ndarray) -> "PriorProposal":
        """Return itself."""
        return self


class EncoderProposal(NamedTuple):
    """The encoder's q(z|x), widened: (M, B, l), (M, B, l)."""

    loc: np.ndarray
    log_scale: np.ndarray

    def draw(self, noise: np.ndarray) -> np.ndarray:
        """Codes of standard normal draws."""
        return self.loc[:, None] + np.exp(self.log_scale)[:, None] * noise[:, None]

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        """Log-density in nats of codes."""
        return normal_log_density(z, self.loc[:, None], self.log_scale[:, None])

    def select(self, rows: np.ndarray) -> "EncoderProposal":
        """Index-select the rows."""
        return EncoderProposal(self.loc[:, rows], self.log_scale[:, rows])


# A distribution of codes for each of B rows.
Proposal = EncoderProposal | PriorProposal | NormalProposal


class ImportanceSampler:
    """Codes drawn from several proposals, weighted by the mixture of all proposals.

    Attributes
    ----------
    z : ndarray of shape (M, K, B, l)
        The codes.
    log_joint : ndarray of shape (M, K, B)
        Log p(x, z) of each.
    log_mixture : ndarray of shape (M, K, B)
        Log of the sum over proposals of their density times the number of their draws.
    """

    def __init__(self, target: JointDensity):
        self.target, self.proposals = target, list[tuple[int, Proposal]]()
        vae, n_rows = target.vae, len(target.x)
        self.z = np.empty((vae.n_members, 0, n_rows, vae.architecture.n_components))
        self.log_joint = self.log_mixture = np.empty(self.z.shape[:-1])

    def add(self, proposal: Proposal, noise: np.ndarray) -> None:
        """Draw codes from one more proposal, for standard normal draws (K, l)."""
        drawn = proposal.draw(noise)
        log_joint = self.target.log_prob(drawn)
        z = np.broadcast_to(drawn, (*log_joint.shape, drawn.shape[-1]))
        log_n_draws = math.log(drawn.shape[1])
        before = np.logaddexp(self.log_mixture, proposal.log_prob(self.z) + log_n_draws)
        self.proposals.append((drawn.shape[1], proposal))
        new = np.logaddexp.reduce(
            [part.log_prob(z) + math.log(n_draws) for n_draws, part in self.proposals]
        )
        self.z = np.concatenate([self.z, z], axis=1)
        self.log_joint = np.concatenate([self.log_joint, log_joint], axis=1)
        self.log_mixture = np.concatenate([before, new], axis=1)

    def select(self, rows: np.ndarray) -> "ImportanceSampler":
        """Index-select the rows."""
        chosen = ImportanceSampler(self.target.select(rows))
        chosen.proposals = [(n_draws, part.select(rows)) for n_draws, part in self.proposals]
        chosen.z, chosen.log_joint, chosen.log_mixture = (
            part[:, :, rows] for part in (self.z, self.log_joint, self.log_mixture)
        )
        return chosen

    @property
    def log_weight(self) -> np.ndarray:
        """Logarithms of weights whose sum is an estimate of p(x): (M, K, B)."""
        return np.nan_to_num(self.log_joint - self.log_mixture, nan=-np.inf)

    def log_evidence(self) -> np.ndarray:
        """Log of the estimate of p(x) in nats, with control variates: (M, B)."""
        log_weight = self.log_weight
        log_sum = logsumexp(log_weight, 1)
        weight = np.exp(log_weight - log_sum[:, None])
        factor = np.ones_like(log_sum)
        for control, expected in self._control_variates():
            centred = control - control.mean(1, keepdims=True)
            slope = (centred * weight).sum(1) / np.square(centred).sum(1)
            corrected = factor - slope * (control.sum(1) - expected)
            is_good = (corrected > 1 / MAX_FACTOR) & (corrected < MAX_FACTOR)
            factor = np.where(is_good, corrected, factor)
            weight = weight - np.where(is_good, slope, 0.0)[:, None] * centred
        return log_sum + np.log(factor)

    def _control_variates(self) -> Iterator[tuple[np.ndarray, float]]:
        """Yield functions of the codes (M, K, B) and the expectations of their sums over K."""
        yield np.exp(self.target.vae.prior.log_prob(self.z) - self.log_mixture), 1.0
        proposals = (proposal for _, proposal in self.proposals)
        normal = next((part for part in proposals if isinstance(part, NormalProposal)), None)
        if normal is not None:
            excess = normal.squared_distance(self.z) - self.z.shape[-1]
            yield np.exp(normal.log_prob(self.z) - self.log_mixture) * excess, 0.0

    def is_uneven(self) -> np.ndarray:
        """Mask of rows whose estimate of log p(x) is biased by more than ``TOLERANCE``: (B,)."""
        log_weight = self.log_weight
        weight = np.exp(log_weight - logsumexp(log_weight, 1)[:, None])
        bias = 0.5 * (np.square(weight).sum(1) - 1 / weight.shape[1])
        return ~(bias < TOLERANCE).all(0)


class WidthCheck:
    """Test for a proposal that is narrower than the posterior in some direction.

    Parameters
    ----------
    noise : ndarray of shape (K, l)
        Standard normal draws of the proposal.
    """

    def __init__(self, noise: np.ndarray):
        n_draws, n_latent = noise.shape
        self.row, self.column = np.triu_indices(n_latent)
        n_features = 1 + n_latent + len(self.row)
        if len(self.row) > MAX_PRODUCTS or DRAWS_PER_FEATURE * n_features > n_draws:
            self.row = self.column = np.arange(n_latent)
        products = noise[:, self.row] * noise[:, self.column]
        features = np.hstack([np.ones((n_draws, 1)), noise, products])
        self.n_latent, self.is_possible = n_latent, features.shape[1] <= n_draws
        if self.is_possible:
            self.inverse = np.linalg.pinv(features)[1 + n_latent :]  # (F, K), of the products

    def is_narrow(self, log_weight: np.ndarray) -> np.ndarray:
        """Mask of rows whose log p(x, z) - log q(z|x) rises outwards: (M, K, B) -> (B,)."""
        if not self.is_possible:
            return np.zeros(log_weight.shape[2], dtype=bool)
        slopes = (self.inverse @ log_weight).swapaxes(1, 2)  # (M, B, F)
        if len(self.row) == self.n_latent:
            return ~(2 * slopes.max(-1) < WIDTH_TOLERANCE).all(0)
        curvature = np.zeros((*slopes.shape[:2], self.n_latent, self.n_latent))
        curvature[..., self.row, self.column] = np.nan_to_num(slopes, nan=np.inf)
        curvature = (curvature + curvature.swapaxes(-1, -2)).clip(-MAX_CURVATURE, MAX_CURVATURE)
        largest: np.ndarray = np.linalg.eigvalsh(curvature)[..., -1].max(0)
        return largest >= WIDTH_TOLERANCE


@np.errstate(all="ignore")
def log_evidence(vae: VAE, x: np.ndarray, points: Points) -> np.ndarray:
    """Log p(x) of encoded rows in nats, NaN a missing value: (B, n) -> (M, B)."""
    sampler, is_poor = _first_proposals(vae, x, points, refines_incomplete=True)
    log_p = sampler.log_evidence()
    for rows, refined in _refine(sampler, is_poor, points):
        log_p[:, rows] = refined.log_evidence()
    return log_p


@np.errstate(all="ignore")
def conditional_mean(vae: VAE, x: np.ndarray, points: Points) -> np.ndarray:
    """Mean of every column given the observed values: (B, n) -> (B, n_columns)."""
    # an encoder that has learned from rows with missing values needs no more codes
    refines_incomplete = not vae.architecture.n_factors
    z, log_weight = _weighted_codes(vae, x, points, refines_incomplete=refines_incomplete)
    weight = np.exp(log_weight - logsumexp(logsumexp(log_weight, 1), 0))
    return vae.average(z, weight, x)


@np.errstate(all="ignore")
def sample_given_observed(
    vae: VAE, x: np.ndarray, points: Points, n_draws: int, generator: Generator
) -> np.ndarray:
    """Rows drawn given their observed values: (B, n) -> (B, n_draws, n_columns)."""
    z, log_weight = _weighted_codes(vae, x, points, refines_incomplete=True)
    row = np.repeat(np.arange(len(x)), n_draws)
    chosen = resample(log_weight.reshape(-1, len(x)), row, generator)
    member, code = np.divmod(chosen, z.shape[1])
    rows = vae.sample_rows(z[member, code, row][None], x[row], generator)
    return rows[member, np.arange(len(row))].reshape(len(x), n_draws, -1)


def _weighted_codes(
    vae: VAE, x: np.ndarray, points: Points, *, refines_incomplete: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Codes given rows (B, n), and the logarithms of their weights: (M, K, B, l), (M, K, B)."""
    sampler, is_poor = _first_proposals(vae, x, points, refines_incomplete=refines_incomplete)
    z, log_weight = sampler.z, sampler.log_weight
    for rows, refined in _refine(sampler, is_poor, points):
        n_more = refined.z.shape[1] - z.shape[1]
        z = np.pad(z, ((0, 0), (0, n_more), (0, 0), (0, 0)))
        log_weight = np.pad(log_weight, ((0, 0), (0, n_more), (0, 0)), constant_values=-np.inf)
        z[:, :, rows], log_weight[:, :, rows] = refined.z, refined.log_weight
    return z, log_weight


def posterior_mean(vae: VAE, x: np.ndarray) -> np.ndarray:
    """Mean of the first member's q(z|x): (B, n) -> (B, l)."""
    return vae.first_member.encode(x[None])[0][0]


@np.errstate(all="ignore")
def posterior_mode(vae: VAE, x: np.ndarray) -> np.ndarray:
    """Mode of the first member's p(z|x), where NaN is a missing value: (B, n) -> (B, l)."""
    vae = vae.first_member  # its steps do not depend on those of the others
    loc, _ = vae.encode(vae.fill(x))
    return newton(JointDensity(vae, x), loc).loc[0]


def _first_proposals(
    vae: VAE, x: np.ndarray, points: Points, *, refines_incomplete: bool
) -> tuple[ImportanceSampler, np.ndarray]:
    """Draws from q(z|x) and the prior, and the mask of rows (B,) that need further proposals."""
    loc, log_scale = vae.encode_proposal(vae.fill(x))
    sampler = ImportanceSampler(JointDensity(vae, x))
    sampler.add(EncoderProposal(loc, log_scale + math.log(points.proposal_scale)), points.encoder)
    is_poor = points.width_check.is_narrow(sampler.log_weight)
    sampler.add(PriorProposal(vae.prior, points.prior), points.encoder)
    is_poor = is_poor | sampler.is_uneven()
    return sampler, is_poor | np.isnan(x).any(1) if refines_incomplete else is_poor


def _refine(
    sampler: ImportanceSampler, is_poor: np.ndarray, points: Points
) -> Iterator[tuple[np.ndarray, ImportanceSampler]]:
    """Yield indices of rows and their sampler with one more proposal, while weights are uneven."""
    is_incomplete = np.isnan(sampler.target.x).any()
    n_starts = max(points.n_starts, MIN_STARTS) if is_incomplete else points.n_starts
    rows = np.arange(len(is_poor))
    for number in range(MAX_PROPOSALS):
        chosen = np.flatnonzero(is_poor)
        if not len(chosen):
            return
        rows, sampler, noise = rows[chosen], sampler.select(chosen), points.laplace(number)
        if number == 0:
            _add_modes(sampler, noise, points, n_starts)
        else:
            _add_normal_at_largest_weight(sampler, noise, points.proposal_scale)
        yield rows, sampler
        is_poor = sampler.is_uneven()


def _add_modes(
    sampler: ImportanceSampler, noise: np.ndarray, points: Points, n_starts: int
) -> None:
    """Add Laplace approximations at the modes that Newton's method finds from several starts."""
    log_joint = np.nan_to_num(sampler.log_joint, nan=-np.inf)
    z = np.take_along_axis(sampler.z, log_joint.argmax(1)[:, None, :, None], 1)  # (M, 1, B, l)
    log_weight = sampler.log_weight
    weight = np.exp(log_weight - logsumexp(log_weight, 1)[:, None])
    mean = (weight[..., None] * sampler.z).sum(1, keepdims=True)
    is_better = sampler.target.log_prob(mean) > log_joint.max(1, keepdims=True)
    z = np.where(is_better[..., None], mean, z)
    if n_starts > 1:
        likeliest = _likeliest_per_cluster(sampler.target, points.candidates, n_starts - 1)
        z = np.concatenate([z, likeliest], axis=1)
    n_members, n_starts, n_rows, n_latent = z.shape
    target = sampler.target.select(np.tile(np.arange(n_rows), n_starts))
    normal = newton(target, z.reshape(n_members, -1, n_latent))
    log_mass = target.log_prob(normal.loc[:, None])[:, 0] + np.log(normal.scale).sum(-1)
    log_mass = np.nan_to_num(log_mass, nan=-np.inf).reshape(n_members, n_starts, n_rows)
    per_start = [part.reshape(n_members, n_starts, n_rows, *part.shape[2:]) for part in normal]
    best = np.arange(n_members)[:, None], log_mass.argmax(1), np.arange(n_rows)
    largest = NormalProposal(*(part[best] for part in per_start))
    _add_normal(sampler, largest, noise, points.proposal_scale)
    if n_starts == 1:
        return
    few = noise[: -(-len(noise) // OTHER_MODE_ONE_IN)]
    for start in range(n_starts):
        loc, axes, scale = (part[:, start] for part in per_start)
        sampler.add(NormalProposal(loc, axes, points.proposal_scale * scale), few)


def _add_normal_at_largest_weight(
    sampler: ImportanceSampler, noise: np.ndarray, proposal_scale: float
) -> None:
    """Add a normal distribution near the draw of the largest weight."""
    largest = sampler.log_weight.argmax(1)[:, None, :, None]  # (M, 1, B, 1)
    z = np.take_along_axis(sampler.z, largest, 1)[:, 0]
    guess = newton(sampler.target, z)
    mode = guess.loc
    for _, proposal in sampler.proposals:
        if isinstance(proposal, NormalProposal):
            distance = proposal.squared_distance(mode[:, None])[:, 0] / z.shape[-1]
            mode = np.where((distance < SAME_MODE**2)[..., None], z, mode)
    normal, _ = laplace_approximation(sampler.target, guess._replace(loc=mode))
    _add_normal(sampler, normal, noise, proposal_scale)


def _add_normal(
    sampler: ImportanceSampler, normal: NormalProposal, noise: np.ndarray, proposal_scale: float
) -> None:
    """Add a normal distribution, and a wider one with heavier tails for a few draws."""
    n_wide = len(noise) // WIDE_ONE_IN
    sampler.add(normal._replace(scale=proposal_scale * normal.scale), noise[n_wide:])
    wide = normal._replace(scale=wide_scale(noise.shape[-1]) * normal.scale)
    sampler.add(wide, noise[:n_wide])


def _likeliest_per_cluster(target: JointDensity, candidates: np.ndarray, n_best: int) -> np.ndarray:
    """Likeliest codes of different clusters: (M, C, l) -> (M, n_best, B, l).

    The first codes are the clusters' centres.
    """
    log_joint = np.nan_to_num(target.log_prob(candidates[:, :, None]), nan=-np.inf)  # (M, C, B)
    n_clusters = min(CLUSTERS_PER_START * n_best, candidates.shape[1])
    difference = candidates[:, :, None] - candidates[:, None, :n_clusters]
    cluster = np.square(difference).sum(-1).argmin(-1)  # (M, C)
    is_in = cluster == np.arange(n_clusters)[:, None, None]  # (G, M, C)
    per_cluster = np.where(is_in[..., None], log_joint, -np.inf)  # (G, M, C, B)
    best = np.argsort(-per_cluster.max(2), axis=0, kind="stable")[:n_best]  # (n_best, M, B)
    chosen = np.take_along_axis(per_cluster.argmax(2), best, 0)
    return candidates[np.arange(len(candidates))[:, None], chosen].swapaxes(0, 1)
