"""The variational autoencoder in numpy: encoder, decoder, prior, posterior.

It is the counterpart of :class:`sklearn_vae.models.vae.VAE`, with its shapes: M members, K draws,
B rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sklearn_vae.inference.log_density import StandardNormal
from sklearn_vae.likelihoods import Likelihood
from sklearn_vae.likelihoods.columnwise import Columnwise, Parameters
from sklearn_vae.numerics.array_api import log_softmax, logsumexp, silu
from sklearn_vae.numerics.functional import bounded
from sklearn_vae.numerics.model_constants import (
    GOLDEN_RATIO,
    HALF_LOG_2PI,
    INPUT_CLIP,
    POSTERIOR_LOG_SCALE_BOUND,
)


@dataclass(frozen=True)
class DefaultPart:
    """Multilayer perceptrons, a diagonal Gaussian posterior, or a standard normal prior."""


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
    """Shapes, with the fields of :class:`sklearn_vae.models.architecture.Architecture`."""

    n_components: int
    hidden_layer_sizes: tuple[int, ...]
    blocks: tuple[tuple[Likelihood, int], ...]
    prior: DefaultPart | MixturePrior | VampPrior
    n_factors: int
    network: DefaultPart
    posterior: DefaultPart
    n_conditions: int
    column_indices: tuple[int, ...]

    # NaN does not stand for the end of a row
    variable_length = False

    @property
    def decodes_per_row(self) -> bool:
        """True if p(x|z) depends on the row, by conditions."""
        return self.n_conditions > 0

    @property
    def n_columns(self) -> int:
        """Columns of an encoded row."""
        return sum(n * likelihood.width for likelihood, n in self.blocks)


class NormalMixture:
    """Mixture of diagonal normal distributions: (M, C), (M, C, l), (M, C, l)."""

    def __init__(self, logit: np.ndarray, loc: np.ndarray, log_scale: np.ndarray):
        self.log_weight, self.loc, self.log_scale = log_softmax(logit), loc, log_scale

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        """Log-density in nats: (M, K, B, l) -> (M, K, B)."""
        loc, log_scale = (part[:, None, None] for part in (self.loc, self.log_scale))
        residual = (z[..., None, :] - loc) * np.exp(-log_scale)
        log_prob = (-0.5 * np.square(residual) - log_scale - HALF_LOG_2PI).sum(-1)  # (M, K, B, C)
        return logsumexp(log_prob + self.log_weight[:, None, None], -1)

    def transform(self, noise: np.ndarray) -> np.ndarray:
        """Codes of standard normal draws, with each component's share: (K, l) -> (M, K, l)."""
        quantile = GOLDEN_RATIO * np.arange(1, len(noise) + 1) % 1
        cumulative = np.exp(self.log_weight).cumsum(-1)[:, None, :-1]
        component = (quantile[:, None] >= cumulative).sum(-1)  # (M, K)
        member = np.arange(len(self.loc))[:, None]
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
    """

    architecture: Architecture
    weights: dict[str, np.ndarray]

    def prior_distribution(self) -> StandardNormal | NormalMixture:
        """p(z), with ``log_prob``."""
        return self._prior

    @cached_property
    def _prior(self) -> StandardNormal | NormalMixture:
        if isinstance(self.architecture.prior, MixturePrior):
            names = ("logit", "loc", "log_scale")
            logit, loc, log_scale = (self.weights[f"prior_weights.{name}"] for name in names)
            return NormalMixture(logit[:, 0], loc, log_scale)
        if isinstance(self.architecture.prior, VampPrior):
            loc, log_scale = self.encode(self.weights["prior_weights.pseudo_input"])
            return NormalMixture(np.zeros(loc.shape[:2]), loc, log_scale)
        return StandardNormal()

    @property
    def n_members(self) -> int:
        """Number of members."""
        return len(self.weights["free"])

    @cached_property
    def first_member(self) -> "VAE":
        """The first member alone."""
        return replace(self, weights={name: value[:1] for name, value in self.weights.items()})

    @cached_property
    def likelihood(self) -> Columnwise:
        """Joint likelihood of the columns."""
        return Columnwise(self.architecture.blocks)

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Location and log-scale of q(z|x): (M or 1, B, n) -> (M, B, l), (M, B, l)."""
        x = np.clip(x, -INPUT_CLIP, INPUT_CLIP)
        inputs, n_columns = self.likelihood.inputs, self.architecture.n_columns
        x, conditions = x[..., inputs], x[..., n_columns:]
        parts = [x, conditions]
        if self.architecture.n_factors:
            observed = ~np.isnan(x)
            parts = [self._impute_inputs(x, observed, conditions), observed, conditions]
        loc, raw = np.split(self._network("encoder", _joined(parts)), 2, axis=-1)
        return loc, bounded(raw, POSTERIOR_LOG_SCALE_BOUND)

    def mean_code(self, x: np.ndarray) -> np.ndarray:
        """Mean of q(z|x), where NaN is a missing value: (M or 1, B, n) -> (M, B, l)."""
        return self.encode(self.fill(x))[0]

    def _impute_inputs(
        self, x: np.ndarray, observed: np.ndarray, conditions: np.ndarray
    ) -> np.ndarray:
        """Impute missing values by conditional means of the factor model: (M, B, n_columns)."""
        loc, loadings = self.weights["filler.loc"], self.weights["filler.loadings"]
        if self.architecture.n_conditions:
            loc = loc + conditions @ self.weights["filler.slopes"]
        precision = observed * self.weights["filler.precision"]  # (M, B, d)
        score = (np.where(observed, x - loc, 0) * precision) @ loadings.swapaxes(1, 2)
        information = np.einsum("mbd,mjd,mkd->mbjk", precision, loadings, loadings, optimize=True)
        information += np.eye(loadings.shape[1])
        factors = np.linalg.solve(information, score[..., None])[..., 0]
        return np.where(observed, x, loc + factors @ loadings)

    def _network(self, name: str, x: np.ndarray) -> np.ndarray:
        """Multilayer perceptron with a linear skip connection: (M, B, n_in) -> (M, B, n_out)."""
        out = self._dense(f"{name}.linear", x)
        if not self.architecture.hidden_layer_sizes:
            return out
        for number in range(len(self.architecture.hidden_layer_sizes)):
            x = silu(self._dense(f"{name}.hidden.{number}", x))
        out += x @ self.weights[f"{name}.last"]
        return out

    def _dense(self, layer: str, x: np.ndarray) -> np.ndarray:
        out: np.ndarray = x @ self.weights[f"{layer}.weight"]
        out += self.weights[f"{layer}.bias"]
        return out

    def decode(self, z: np.ndarray, x: np.ndarray | None = None) -> Sequence[Parameters]:
        """Parameters of p(x|z) by block: (M or 1, K, B, l), (M or 1, B, n) -> (M, K, B, size).

        Rows x provide the conditions.
        """
        if x is not None and self.architecture.n_conditions:
            z = _joined([z, x[:, None, :, self.architecture.n_columns :]])
        out = self._network("decoder", z.reshape(len(z), -1, z.shape[-1]))
        out = out.reshape(len(out), *z.shape[1:-1], out.shape[-1])
        out = np.maximum(out, self.weights["least_outputs"][:, None])
        free = np.maximum(self.weights["free"], self.weights["least_free"])
        return self.likelihood.split(out, free[:, None])

    def fill(self, x: np.ndarray) -> np.ndarray:
        """Replace missing values by the mean of p(x|z=0): (M or 1, B, n) -> (M or 1, B, n).

        Not if there is an imputation layer, which replaces them by conditional means.
        """
        if self.architecture.n_factors or not np.isnan(x).any():
            return x
        centre = np.zeros((1, 1, self.architecture.n_components))
        filled = np.tile(x, (self.n_members // len(x), 1, 1))
        values = filled[..., : self.architecture.n_columns]
        np.copyto(values, self.mean(centre, x), where=np.isnan(values))
        return filled

    def mean(self, z: np.ndarray, x: np.ndarray | None = None) -> np.ndarray:
        """Mean of p(x|z): (M or 1, B or 1, l), (M or 1, B, n) -> (M, B, n_columns)."""
        return self.likelihood.mean(self.decode(z[:, None], x))[:, 0]

    def residuals(self, x: np.ndarray) -> np.ndarray:
        """Residuals of reconstructions, 0 of missing values: (M or 1, B, n) -> (M, B, n_values)."""
        values, observed = self.likelihood.split_missing(x)
        params = self.decode(self.mean_code(x)[:, None])
        residual = self.likelihood.residual(params, values[:, None])[:, 0]
        return residual if observed is None else residual * observed


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Join arrays along the last axis, after broadcasting along the others."""
    shape = np.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return np.concatenate([np.broadcast_to(p, (*shape, p.shape[-1])) for p in parts], axis=-1)
