"""A fitted VAEDensity in numpy."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sklearn_vae.inference.constants import MEAN_DRAWS
from sklearn_vae.inference.mixture_log_density import log_density, posterior_draws
from sklearn_vae.models.mixture_columns import MixtureColumns
from sklearn_vae.models.mixture_ensemble import MixtureEnsemble
from sklearn_vae.runtime.table import GenerativeModel, chunks
from sklearn_vae.runtime.vae import Architecture


@dataclass(frozen=True)
class MixtureArchitecture(MixtureColumns, Architecture):
    """Shapes, with the fields of :class:`sklearn_vae.models.mixture_vae.MixtureArchitecture`."""

    n_mixture: int = 1
    covariance_type: str = "full"
    n_shears: int = 0
    steps: tuple[float, ...] = ()
    has_missing: bool = False


@dataclass(eq=False, repr=False, kw_only=True)
class DensityModel(GenerativeModel):
    """A fitted :class:`~sklearn_vae.VAEDensity` that computes with numpy; see :func:`load`.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X.
    """

    model: MixtureEnsemble

    @property
    def n_noise(self) -> int:
        """Standard normal numbers per draw: one per latent dimension, one for the component."""
        return self.model.architecture.n_components + 1

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Encode rows, with NaN for y where it is not given: it is integrated out."""
        n_missing = self.n_features_in_ + self.columns.n_condition_columns - rows.shape[1]
        if n_missing:
            rows = np.pad(rows, [(0, 0), (0, n_missing)], constant_values=np.nan)
        return self.columns.joint.transform(rows)

    def conditional_mean(self, x: np.ndarray) -> np.ndarray:
        """Mean of every column of encoded rows given the observed values: (n, n_columns)."""
        points = self.points(MEAN_DRAWS).last(self.n_noise - 1)
        draws = [
            posterior_draws(self.model, chunk, points).conditional_mean(self.model, chunk)
            for chunk in self._chunks(x, MEAN_DRAWS)
        ]
        return np.concatenate(draws)

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
        points = self.points(n_draws).last(self.n_noise - 1)
        parts = self._chunks(x, n_draws)
        return np.concatenate([log_density(self.model, part, points) for part in parts])

    def _chunks(self, x: np.ndarray, n_draws: int) -> Iterator[np.ndarray]:
        """Yield chunks of rows, whose draws fit in memory."""
        architecture = self.model.architecture
        widest = max(*architecture.hidden_layer_sizes, self.model.n_columns, 1)
        # each draw of an incomplete row has a covariance
        if np.isnan(x).any() and not architecture.is_independent:
            widest = max(widest, self.model.n_columns**2)
        return chunks(x, widest * max(n_draws, len(self.model.log_weight)))
