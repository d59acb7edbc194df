"""The variational autoencoder in numpy: encoder, decoder, prior, posterior, importance sampling.

It is the counterpart of :class:`sklearn_vae.models.vae.VAE`, with its shapes: M members, K draws,
B rows.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sklearn_vae.runtime.functions import (
    HALF_LOG_2PI,
    bounded,
    log_softmax,
    logsumexp,
    perceptron,
)
from sklearn_vae.runtime.likelihoods import Likelihood, Limits, Parameters
from sklearn_vae.runtime.torch_random import TorchGenerator

# Bounds of the encoder's input and of log-scales of q(z|x), as in sklearn_vae.models and
# sklearn_vae.posteriors.
INPUT_CLIP, LOG_SCALE_BOUND = 5.0, 12.0
# The control variate changes an estimate by no more than this factor, as in
# sklearn_vae.inference.importance_sampling.
MAX_FACTOR = 1.5


@dataclass(frozen=True)
class FullyConnected:
    """Network: multilayer perceptrons."""


@dataclass(frozen=True)
class DiagonalGaussian:
    """Posterior: independent normal distributions."""


@dataclass(frozen=True)
class StandardNormal:
    """Prior: independent standard normal distributions."""


@dataclass(frozen=True)
class MixturePrior:
    """Prior: a mixture of diagonal normal distributions."""

    n_components: int = 10


@dataclass(frozen=True)
class VampPrior:
    """Prior: a mixture of the posteriors of pseudo-inputs."""

    n_components: int = 50


@dataclass(frozen=True)
class Architecture:
    """Shapes of a model's weights, with the fields of :class:`sklearn_vae.models.Architecture`."""

    n_components: int
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    blocks: tuple[tuple[Likelihood, int], ...]
    prior: StandardNormal | MixturePrior | VampPrior
    n_factors: int
    network: FullyConnected
    posterior: DiagonalGaussian
    n_conditions: int
    places: tuple[int, ...]

    @property
    def n_columns(self) -> int:
        """Columns of an encoded row."""
        return sum(n * likelihood.width for likelihood, n in self.blocks)

    @property
    def is_real_column(self) -> np.ndarray:
        """Mask of the columns of x with a scale: (n_columns,)."""
        is_real = [likelihood.scale_param is not None for likelihood, _ in self.blocks]
        return np.repeat(is_real, [n * likelihood.width for likelihood, n in self.blocks])


class NormalMixture:
    """Mixture of diagonal normal distributions: (M, C), (M, C, l), (M, C, l)."""

    def __init__(self, logit: np.ndarray, loc: np.ndarray, log_scale: np.ndarray):
        self.log_weight, self.loc, self.log_scale = log_softmax(logit), loc, log_scale

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        """Log-density in nats: (M, K, B, l) -> (M, K, B)."""
        loc, log_scale = (part[:, None, None] for part in (self.loc, self.log_scale))
        log_prob = normal_log_density(z[..., None, :], loc, log_scale)  # (M, K, B, C)
        return logsumexp(log_prob + self.log_weight[:, None, None], -1)

    def sample(self, n_rows: int, generator: np.random.Generator | TorchGenerator) -> np.ndarray:
        """Sample codes of each member: (M, n_rows, l)."""
        n_members, _, n_components = self.loc.shape
        noise = generator.standard_normal((n_members, n_rows, n_components))
        cumulative = np.exp(self.log_weight).cumsum(-1)[:, None, :-1]
        component = (generator.random((n_members, n_rows, 1)) >= cumulative).sum(-1)
        member = np.arange(n_members)[:, None]
        return self.loc[member, component] + np.exp(self.log_scale[member, component]) * noise


@dataclass
class VAE:
    """A variational autoencoder with a member axis.

    Attributes
    ----------
    architecture : Architecture
        Shapes.
    weights : dict of ndarray
        Parameters by name, with the member axis in front.
    limits : tuple of ndarray
        Limits of samples, see ``TableEncoder.limits``.
    """

    architecture: Architecture
    weights: dict[str, np.ndarray]
    limits: Limits

    @cached_property
    def prior(self) -> NormalMixture:
        """p(z); a standard normal distribution is a mixture of one."""
        names = ("logit", "loc", "log_scale")
        if isinstance(self.architecture.prior, MixturePrior):
            logit, loc, log_scale = (self.weights[f"prior_weights.{name}"] for name in names)
            return NormalMixture(logit[:, 0], loc, log_scale)
        if isinstance(self.architecture.prior, VampPrior):
            loc, log_scale = self.encode(self.weights["prior_weights.pseudo_input"])
            return NormalMixture(np.zeros(loc.shape[:2]), loc, log_scale)
        zeros = np.zeros((self.n_members, 1, self.architecture.n_components))
        return NormalMixture(zeros[..., 0], zeros, zeros)

    @property
    def n_members(self) -> int:
        """Number of members."""
        return len(self.weights["free"])

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Location and log-scale of q(z|x): (M or 1, B, n_columns) -> (M, B, l), (M, B, l)."""
        x = np.clip(x, -INPUT_CLIP, INPUT_CLIP)
        if self.architecture.n_factors:
            observed = ~np.isnan(x)
            mask = np.broadcast_to(observed, (self.n_members, *observed.shape[1:]))
            x = np.concatenate([self._impute_inputs(x, observed), mask], axis=-1)
        loc, raw = np.split(self._network("encoder", x), 2, axis=-1)
        return loc, bounded(raw, LOG_SCALE_BOUND)

    def _impute_inputs(self, x: np.ndarray, observed: np.ndarray) -> np.ndarray:
        """Impute missing values by conditional means of the factor model: (M, B, n_columns)."""
        loc, loadings = self.weights["filler.loc"], self.weights["filler.loadings"]
        precision = observed * self.weights["filler.precision"]  # (M, B, d)
        score = (np.where(observed, x - loc, 0) * precision) @ loadings.swapaxes(1, 2)
        information = np.einsum("mbd,mjd,mkd->mbjk", precision, loadings, loadings, optimize=True)
        information += np.eye(loadings.shape[1])
        factors = np.linalg.solve(information, score[..., None])[..., 0]
        return np.where(observed, x, loc + factors @ loadings)

    def _network(self, name: str, x: np.ndarray) -> np.ndarray:
        architecture = self.architecture
        n_hidden = len(architecture.hidden_layer_sizes)
        return perceptron(self.weights, name, n_hidden, architecture.activation, x)

    def decode(self, z: np.ndarray) -> list[Parameters]:
        """Parameters of p(x|z) by block: (M or 1, K, B, l) -> (M, K, B, k * size)."""
        out = self._network("decoder", z.reshape(len(z), -1, z.shape[-1]))
        decoded = out.reshape(len(out), *z.shape[1:-1], out.shape[-1])
        free, first, n_free = self.weights["free"][:, None], 0, 0
        params: list[Parameters] = []
        for likelihood, n in self.architecture.blocks:
            block = []
            for size, depends in zip(likelihood.param_sizes, likelihood.depends_on_z, strict=True):
                if depends:
                    block.append(decoded[..., first : (first := first + n * size)])
                else:
                    block.append(free[..., n_free : (n_free := n_free + n * size)])
            params.append(block)
        return params

    def log_likelihood(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Log p(x|z) of observed values: (B, n_columns), (M, K, B or 1, l) -> (M, K, B)."""
        total, first = np.zeros(()), 0
        for (likelihood, n), params in zip(self.architecture.blocks, self.decode(z), strict=True):
            values = x[:, first : (first := first + n * likelihood.width)]
            observed = ~np.isnan(values[:, :: likelihood.width])
            log_prob = likelihood.log_prob(params, np.nan_to_num(values))
            total = total + (log_prob * observed).sum(-1)
        return total

    def log_evidence(self, x: np.ndarray, noise: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Log p(x) in nats, by importance sampling from the encoder and the prior.

        Parameters
        ----------
        x : ndarray of shape (B, n_columns)
            Encoded rows; NaN is a missing value.
        noise : ndarray of shape (K, l)
            Standard normal draws of the encoder's proposals.
        z : ndarray of shape (M, K, l)
            Draws from the prior.

        Returns
        -------
        ndarray of shape (M, B)
            Log of the average weight, with the prior's weights as a control variate.
        """
        _, log_weight, log_prior, log_mixture = self._importance_sample(x, noise, z)
        log_sum = logsumexp(log_weight, 1)
        control = np.exp(log_prior - log_mixture)
        centred = control - control.mean(1, keepdims=True)
        with np.errstate(invalid="ignore"):
            weight = np.exp(log_weight - log_sum[:, None])
            slope = (centred * weight).sum(1) / np.square(centred).sum(1)
        factor = 1 - slope * (control.sum(1) - 1)
        is_good = (factor > 1 / MAX_FACTOR) & (factor < MAX_FACTOR)
        return log_sum + np.log(np.where(is_good, factor, 1.0))

    def _importance_sample(
        self, x: np.ndarray, noise: np.ndarray, prior_draws: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Codes (M, 2 K, B, l), log-weights, log p(z), and the log of the proposals' mixture."""
        loc, log_scale = self.encode(self._fill(x[None]))
        # q(z|x) is widened, as in sklearn_vae.models.Architecture.proposal_scale
        scale = math.sqrt(1 + 1 / math.sqrt(self.architecture.n_components))
        loc, log_scale = loc[:, None], log_scale[:, None] + math.log(scale)  # (M, 1, B, l)
        proposed = loc + np.exp(log_scale) * noise[:, None]
        prior_draws = prior_draws[:, :, None]  # (M, K, 1, l), decoded once for all rows
        log_prob = [self.log_likelihood(x, z) for z in (proposed, prior_draws)]
        shape = (len(loc), prior_draws.shape[1], *loc.shape[2:])
        z = np.concatenate([proposed, np.broadcast_to(prior_draws, shape)], axis=1)
        log_prior, log_q = self.prior.log_prob(z), normal_log_density(z, loc, log_scale)
        log_mixture = np.logaddexp(log_q, log_prior) + math.log(len(noise))
        log_weight = np.concatenate(log_prob, axis=1) + log_prior - log_mixture
        return z, np.where(np.isnan(log_weight), -np.inf, log_weight), log_prior, log_mixture

    def fill_missing(self, x: np.ndarray) -> np.ndarray:
        """Replace missing values as the first member's encoder input: (B, n_columns)."""
        if not np.isnan(x).any():
            return x
        if self.architecture.n_factors:
            return self._impute_inputs(x[None], ~np.isnan(x[None]))[0]
        return self._fill(x[None])[0]

    def _fill(self, x: np.ndarray) -> np.ndarray:
        """Replace missing values by the mean of p(x|z=0), without an imputation layer."""
        if self.architecture.n_factors or not np.isnan(x).any():
            return x
        return np.where(np.isnan(x), self.mean(np.zeros((1, self.architecture.n_components))), x)

    def conditional_mean(
        self, x: np.ndarray, noise: np.ndarray, prior_draws: np.ndarray
    ) -> np.ndarray:
        """Mean of every column given the observed values: (B, n_columns)."""
        z, log_weight, _, _ = self._importance_sample(x, noise, prior_draws)
        weight = np.exp(log_weight - logsumexp(logsumexp(log_weight, 1), 0))
        blocks = zip(self.architecture.blocks, self.decode(z), strict=True)
        means = [likelihood.average(params, weight) for (likelihood, _), params in blocks]
        return np.concatenate(means, axis=-1)

    def reconstruct(
        self, x: np.ndarray, shift: np.ndarray | None = None, mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Codes (M, B, l) and residuals (M, B, n) of encoded rows (B, n_columns).

        The encoder sees rows plus ``shift`` (n_columns,), without the values of ``mask`` (M, n).
        Residuals of missing values are 0.
        """
        inputs = self._fill(x[None])
        if shift is not None:
            inputs = inputs + shift
        if mask is not None:
            widths = [
                likelihood.width for likelihood, n in self.architecture.blocks for _ in range(n)
            ]
            masked = np.nan if self.architecture.n_factors else 0.0
            inputs = np.where(np.repeat(mask, widths, axis=1)[:, None], masked, inputs)
        z, _ = self.encode(inputs)
        blocks, first = [], 0
        for (likelihood, n), params in zip(
            self.architecture.blocks, self.decode(z[:, None]), strict=True
        ):
            values = x[:, first : (first := first + n * likelihood.width)]
            residual = likelihood.residual(params, np.nan_to_num(values))[:, 0]
            blocks.append(residual * ~np.isnan(values[:, :: likelihood.width]))
        return z, np.concatenate(blocks, axis=-1)

    def mean(self, z: np.ndarray) -> np.ndarray:
        """Mean of p(x|z): (B, l) -> (M, B, n_columns)."""
        blocks = zip(self.architecture.blocks, self.decode(z[None, None]), strict=True)
        return np.concatenate(
            [likelihood.mean(params)[:, 0] for (likelihood, _), params in blocks], axis=-1
        )

    def sample(self, n_rows: int, generator: np.random.Generator) -> np.ndarray:
        """Draw rows from p(x), each from a random member: (n_rows, n_columns)."""
        params, rows, first = self.decode(self.prior.sample(n_rows, generator)[:, None]), [], 0
        for (likelihood, n), block in zip(self.architecture.blocks, params, strict=True):
            low, high, excluded, radius = (limit[first : first + n] for limit in self.limits)
            draws = likelihood.sample(block, generator, (low, high, excluded, radius))
            rows.append(draws[:, 0])
            first += n
        member = generator.integers(self.n_members, size=n_rows)
        return np.concatenate(rows, axis=-1)[member, np.arange(n_rows)]


def normal_log_density(z: np.ndarray, loc: np.ndarray, log_scale: np.ndarray) -> np.ndarray:
    """Log-density in nats of independent normal distributions: (..., l) -> (...)."""
    residual = (z - loc) * np.exp(-log_scale)
    return (-0.5 * np.square(residual) - log_scale - HALF_LOG_2PI).sum(-1)
