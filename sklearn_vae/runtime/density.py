"""A fitted VAEDensity in numpy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sklearn_vae.data.conditions import ConditionEncoder
from sklearn_vae.data.fields import Field
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.inference.constants import (
    IMPUTE_DRAWS,
    MAX_GIVEN_DRAWS,
    MEAN_DRAWS,
    MIN_GIVEN_DRAWS,
)
from sklearn_vae.inference.mixture_log_density import MAX_FACTOR, log_density, posterior_draws
from sklearn_vae.models.mixture_columns import MixtureColumns
from sklearn_vae.models.mixture_ensemble import MixtureEnsemble
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.numerics.seeds import Stream, stream_seed
from sklearn_vae.runtime.functions import ACTIVATIONS, resample
from sklearn_vae.runtime.random import sobol_normal
from sklearn_vae.runtime.table import CHUNK_SIZE, GenerativeModel
from sklearn_vae.runtime.vae import Architecture


@dataclass(frozen=True)
class MixtureArchitecture(MixtureColumns, Architecture):
    """Shapes, with the fields of :class:`sklearn_vae.models.mixture_vae.MixtureArchitecture`."""

    n_mixture: int = 1
    covariance_type: str = "full"
    n_shears: int = 0
    steps: tuple[float, ...] = ()
    has_missing: bool = False


class NumpyMixtureEnsemble(MixtureEnsemble):
    """A ``MixtureEnsemble`` of numpy's arrays."""

    def activate(self, x: np.ndarray) -> np.ndarray:
        """Apply the networks' activation function."""
        with np.errstate(over="ignore"):
            return ACTIVATIONS[self.architecture.activation](x)

    def sobol_normal(self, n_draws: int, n_dims: int, seed: int) -> np.ndarray:
        """Scrambled Sobol points, made standard normal: (n_draws, n_dims)."""
        return sobol_normal(n_draws, n_dims, seed)


class DensityModel(GenerativeModel):
    """A fitted :class:`~sklearn_vae.VAEDensity` that computes with numpy; see :func:`load`.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X.
    """

    def __init__(
        self,
        columns: TableEncoder,
        model: NumpyMixtureEnsemble,
        seed: int,
        fields: Sequence[Field] | None,
        conditions: ConditionEncoder | None,
    ):
        super().__init__(columns, fields)
        self.model, self.seed, self.conditions = model, seed, conditions

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Encode rows, with NaN for y where it is not given: it is integrated out."""
        n_missing = self.n_features_in_ + self.columns.n_condition_columns - rows.shape[1]
        if n_missing:
            rows = np.pad(rows, [(0, 0), (0, n_missing)], constant_values=np.nan)
        return self.columns.joint.transform(rows)

    def conditional_mean(self, x: np.ndarray) -> np.ndarray:
        """Mean of every column of encoded rows given the observed values: (n, n_columns)."""
        noise = self._noise(MEAN_DRAWS)
        draws = [
            posterior_draws(self.model, chunk, noise).conditional_mean(self.model, chunk)
            for chunk in self._chunks(x, MEAN_DRAWS)
        ]
        return np.concatenate(draws)

    def sample_missing(self, x: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
        """Draw encoded rows given their observed values: (n, n_draws, n_columns)."""
        noise, tables = self._noise(IMPUTE_DRAWS), []
        generator = np.random.default_rng(stream_seed(seed, Stream.SAMPLE))
        for chunk in self._chunks(x, IMPUTE_DRAWS):
            index = np.repeat(np.arange(len(chunk)), n_draws)
            draws = posterior_draws(self.model, chunk, noise)
            chosen = resample(draws.log_weight.T, index, generator)
            tables.append(draws.sample(self.model, chunk, index, chosen, generator))
        return np.concatenate(tables).reshape(len(x), n_draws, -1)

    def sample_encoded(self, n_samples: int, seed: int) -> np.ndarray:
        """Draw encoded rows: (n_samples, n_columns)."""
        generator = np.random.default_rng(stream_seed(seed, Stream.SAMPLE))
        return self.model.sample(n_samples, generator)

    def sample_given(self, codes: np.ndarray, seed: int) -> np.ndarray:
        """Draw encoded rows given codes of y, from weighted draws: (n, n_y) -> (n, n_columns)."""
        unique, index = np.unique(codes, axis=0, return_inverse=True)
        conditions, index = self.encode_conditions(unique), index.ravel()
        max_rows = int(np.bincount(index).max())
        n_draws = min(max(1 << (max_rows - 1).bit_length(), MIN_GIVEN_DRAWS), MAX_GIVEN_DRAWS)
        noise = sobol_normal(
            n_draws, self.model.architecture.n_components + 1, stream_seed(seed, Stream.CONDITIONAL)
        )
        generator = np.random.default_rng(stream_seed(seed, Stream.SAMPLE))
        rows, first = np.empty((len(codes), self.model.n_columns)), 0
        for chunk in self._chunks(conditions, n_draws):
            chosen = np.flatnonzero((index >= first) & (index < first + len(chunk)))
            draws, row = posterior_draws(self.model, chunk, noise), index[chosen] - first
            draw = resample(draws.log_weight.T, row, generator)
            rows[chosen] = draws.sample(self.model, chunk, row, draw, generator)
            first += len(chunk)
        return rows

    def log_density(self, rows: np.ndarray, n_draws: int) -> np.ndarray:
        """Log p(x), or log p(x|y) = log p(x, y) - log p(y) of rows with codes of y: (n,)."""
        log_p = self._log_density(self.encode(rows), n_draws)
        y = rows[:, self.n_features_in_ :]
        if y.shape[1]:
            unique, index = np.unique(y, axis=0, return_inverse=True)
            log_p_y = self._log_density(self.encode_conditions(unique), n_draws)
            log_p -= log_p_y[index.ravel()]
        return log_p + self.columns.log_abs_det_jacobian(rows)

    def _log_density(self, x: np.ndarray, n_draws: int) -> np.ndarray:
        """Log-density of encoded rows, in nats of their units: (n, n_columns) -> (n,)."""
        noise = self._noise(MAX_FACTOR * n_draws)
        chunks = self._chunks(x, n_draws)
        return np.concatenate([log_density(self.model, chunk, noise, n_draws) for chunk in chunks])

    def _noise(self, n_draws: int) -> np.ndarray:
        """Sobol points as standard normal draws: (n_draws, l + 1)."""
        n_dims = self.model.architecture.n_components + 1
        return sobol_normal(n_draws, n_dims, stream_seed(self.seed, Stream.SCORE, 0, 0))

    def _chunks(self, x: np.ndarray, n_draws: int) -> Iterator[np.ndarray]:
        """Yield chunks of rows, whose draws fit in memory."""
        architecture = self.model.architecture
        widest = max(*architecture.hidden_layer_sizes, self.model.n_columns, 1)
        # each draw of an incomplete row has a covariance
        if np.isnan(x).any() and not self.model.architecture.is_independent:
            widest = max(widest, self.model.n_columns**2)
        step = max(CHUNK_SIZE // (widest * max(n_draws, len(self.model.log_weight))), 1)
        return (x[rows] for rows in batches(len(x), step))
