"""Importance sampling of p(x) and of the posterior p(z|x) in numpy.

It is the counterpart of :mod:`sklearn_vae.inference.log_density`, where the method is documented,
with the same draws. Shapes: M members, K draws, B rows.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple, cast

import numpy as np
from numpy.random import Generator

from sklearn_vae.inference.adaptive_importance_sampling import refine
from sklearn_vae.inference.constants import (
    FAR_START,
    MAX_PROPOSALS,
    MAX_START_DIMENSIONS,
    MIN_DRAWS,
    MIN_STARTS,
    PRIOR_ONE_IN,
)
from sklearn_vae.inference.importance_sampling import (
    ImportanceSampler,
    PriorProposal,
    WeightedCodes,
    WidthCheck,
)
from sklearn_vae.inference.laplace import newton
from sklearn_vae.numerics.seeds import Stream, stream_seed
from sklearn_vae.runtime.functions import resample
from sklearn_vae.runtime.random import sobol_normal
from sklearn_vae.runtime.vae import VAE, StandardNormal, normal_log_density


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
            z = np.tile(self._noise(n_draws, 1)[0, :n_prior, 0], (vae.n_members, 1, 1))
            self.candidates, n_starts = np.concatenate([FAR_START * z, z], axis=1), 1
        else:
            z = vae.prior.transform(self._noise(n_draws, 1)[0, :n_prior, 0])
            self.candidates = vae.prior.loc
            n_starts = MIN_STARTS
        self.prior = z[:, :, None]  # (M, K, 1, l)
        self.n_starts = max(MAX_START_DIMENSIONS // self.n_latent, n_starts)

    def laplace(self, number: int) -> np.ndarray:
        """Standard normal draws for a further proposal: (1, K', 1, l)."""
        return self._noise(max(self.n_draws, MIN_DRAWS), 2 + number)

    def _noise(self, n_draws: int, proposal: int) -> np.ndarray:
        seed = stream_seed(self.seed, Stream.SCORE, 0, proposal)
        return sobol_normal(n_draws, self.n_latent, seed)[None, :, None]

    @cached_property
    def width_check(self) -> WidthCheck:
        """Test for a q(z|x) that is too narrow."""
        return WidthCheck(self.encoder)


class EncoderProposal(NamedTuple):
    """The encoder's q(z|x), widened: (M, B, l), (M, B, l)."""

    loc: np.ndarray
    log_scale: np.ndarray

    def draw(self, noise: np.ndarray) -> np.ndarray:
        """Codes of standard normal draws."""
        return self.loc[:, None] + np.exp(self.log_scale)[:, None] * noise

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        """Log-density in nats of codes."""
        return normal_log_density(z, self.loc[:, None], self.log_scale[:, None])

    def select(self, rows: np.ndarray) -> "EncoderProposal":
        """Index-select the rows."""
        return EncoderProposal(self.loc[:, rows], self.log_scale[:, rows])


class JointDensity(NamedTuple):
    """p(x, z) of rows (B, n) as a function of z."""

    vae: VAE
    x: np.ndarray

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        """Log p(x, z) in nats: (M, K, B or 1, l) -> (M, K, B)."""
        return self.vae.log_likelihood(self.x, z) + self.vae.prior.log_prob(z)

    def gradient(self, z: np.ndarray) -> np.ndarray:
        """Gradient of log p(x, z) in z, 0 for NaN: (M, K, B, l) -> (M, K, B, l)."""
        return np.nan_to_num(self.vae.gradient(self.x, z) + self.vae.prior.gradient(z))

    def select(self, rows: np.ndarray) -> "JointDensity":
        """Index-select the rows."""
        return self._replace(x=self.x[rows])


@np.errstate(all="ignore")
def log_evidence(vae: VAE, x: np.ndarray, points: Points, *, refines: bool = True) -> np.ndarray:
    """Log p(x) of encoded rows in nats, NaN a missing value: (B, n) -> (M, B).

    With ``refines``, rows with uneven weights get further draws.
    """
    sampler, is_poor = _first_proposals(vae, x, points, refines_incomplete=True)
    log_p = sampler.log_evidence()
    for rows, refined in _refine(sampler, is_poor & refines, points):
        log_p[:, rows] = refined.log_evidence()
    return log_p


@np.errstate(all="ignore")
def conditional_mean(vae: VAE, x: np.ndarray, points: Points) -> np.ndarray:
    """Mean of every column given the observed values: (B, n) -> (B, n_columns)."""
    # an encoder that has learned from rows with missing values needs no more codes
    refines_incomplete = not vae.architecture.n_factors
    codes = _weighted_codes(vae, x, points, refines_incomplete=refines_incomplete)
    return vae.average(codes.z, codes.weight, x)


@np.errstate(all="ignore")
def sample_given_observed(
    vae: VAE, x: np.ndarray, points: Points, n_draws: int, generator: Generator
) -> np.ndarray:
    """Rows drawn given their observed values: (B, n) -> (B, n_draws, n_columns)."""
    codes = _weighted_codes(vae, x, points, refines_incomplete=True)
    row = np.repeat(np.arange(len(x)), n_draws)
    chosen = resample(codes.log_weight.reshape(-1, len(x)), row, generator)
    member, code = np.divmod(chosen, codes.z.shape[1])
    rows = vae.sample_rows(codes.z[member, code, row][None], x[row], generator)
    return rows[member, np.arange(len(row))].reshape(len(x), n_draws, -1)


def _weighted_codes(
    vae: VAE, x: np.ndarray, points: Points, *, refines_incomplete: bool
) -> WeightedCodes:
    """Weighted codes of rows (B, n), whose missing values are NaN."""
    sampler, is_poor = _first_proposals(vae, x, points, refines_incomplete=refines_incomplete)
    codes = WeightedCodes(sampler.z, sampler.log_weight)
    for rows, refined in _refine(sampler, is_poor, points):
        codes = codes.replaced(rows, refined.z, refined.log_weight)
    return codes


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
    is_poor = (is_poor | sampler.is_uneven()).any(0)
    return sampler, is_poor | np.isnan(x).any(1) if refines_incomplete else is_poor


def _refine(
    sampler: ImportanceSampler, is_poor: np.ndarray, points: Points
) -> Iterator[tuple[np.ndarray, ImportanceSampler]]:
    """Yield indices of rows and their sampler with one more proposal, while weights are uneven."""
    is_incomplete = np.isnan(cast(JointDensity, sampler.target).x).any()
    n_starts = max(points.n_starts, MIN_STARTS) if is_incomplete else points.n_starts
    noise = map(points.laplace, range(MAX_PROPOSALS))
    return refine(sampler, is_poor, noise, points.proposal_scale, points.candidates, n_starts)
