"""A fitted VAETransformer in numpy."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from sklearn_vae.data.encoder import TableEncoder
from sklearn_vae.data.fields import Field
from sklearn_vae.inference.correction import correction_at
from sklearn_vae.runtime.importance_sampling import (
    Points,
    conditional_mean,
    log_evidence,
    posterior_mean,
    posterior_mode,
)
from sklearn_vae.runtime.table import SCORE_DRAWS, GenerativeModel, check_shape
from sklearn_vae.runtime.vae import VAE
from sklearn_vae.seeds import Stream, stream_seed

# Draws from each of the first two proposals for imputed means.
MEAN_DRAWS = 128
# Numbers in the widest array of a chunk of rows.
CHUNK_SIZE = 1 << 20


class TransformerModel(GenerativeModel):
    """A fitted :class:`~sklearn_vae.VAETransformer` that computes with numpy; see :func:`load`.

    Rows are arrays of numbers, with NaN for missing values. If the model was fitted to a data
    frame with categories, rows are lists or object arrays, with the categories themselves. So are
    the rows of the other models.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X.
    n_components : int
        Number of latent dimensions.
    """

    def __init__(
        self,
        columns: TableEncoder,
        vae: VAE,
        seed: int,
        correction: np.ndarray | None,
        code_range: np.ndarray | None,
        fields: Sequence[Field] | None,
        handle_unknown: str,
    ):
        super().__init__(columns, fields, handle_unknown)
        self.vae, self.seed, self.correction, self.code_range = vae, seed, correction, code_range
        self.n_components = vae.architecture.n_components
        self._kept: dict[int, Points] = {}

    def transform(self, X: Any) -> np.ndarray:
        """Encode rows: the mean of q(z|x), as ``VAETransformer.transform``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Codes.

        """
        rows = self.read(X)
        x, z = self.columns.transform(rows), np.empty((len(rows), self.n_components))
        has_mode = self.columns.is_incomplete(rows) & (not self.vae.architecture.n_factors)
        for function, mask in ((posterior_mean, ~has_mode), (posterior_mode, has_mode)):
            if mask.any():
                encode = partial(function, self.vae)
                z[mask] = self._map(encode, x[mask], 4 * self.n_components)
        return z

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Decode codes: the mean of p(x|z), as ``VAETransformer.inverse_transform``.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows; objects if the model was fitted to categories.
        """
        z = np.asarray(Z, dtype=np.float64)
        check_shape("Z", z, self.n_components)
        if not np.isfinite(z).all():
            raise ValueError("Z contains NaN or infinity.")
        mean = self._map(lambda z: self.vae.mean(z)[0], z, 1)
        if self.correction is not None:
            mean = mean + correction_at(z, self.correction, self.code_range)
        return self.write(self.columns.inverse_transform(mean))

    def log_density(self, rows: np.ndarray, n_draws: int) -> np.ndarray:
        """Log-density of rows of numbers, by importance sampling: (n,)."""
        points = self._points(n_draws)

        def log_density(x: np.ndarray) -> np.ndarray:
            log_p = log_evidence(self.vae, x, points)
            return np.logaddexp.reduce(log_p, axis=0) - np.log(len(log_p))

        x, log_p = self.columns.transform(rows), self.columns.log_abs_det_jacobian(rows)
        is_incomplete = self.columns.is_incomplete(rows)
        for mask in (~is_incomplete, is_incomplete):  # these get more starts of Newton's method
            if mask.any():
                log_p[mask] += self._map(log_density, x[mask], 2 * n_draws)
        return log_p

    def conditional_mean(self, x: np.ndarray) -> np.ndarray:
        """Mean of every column of encoded rows given the observed values: (n, n_columns)."""
        points = self._points(MEAN_DRAWS)
        return self._map(lambda x: conditional_mean(self.vae, x, points), x, 2 * MEAN_DRAWS)

    def sample_encoded(self, n_samples: int, seed: int) -> np.ndarray:
        """Draw encoded rows: (n_samples, n_columns)."""
        generator = np.random.default_rng(stream_seed(seed, Stream.SAMPLE))
        return self.vae.sample(n_samples, generator)

    def _map(
        self, function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, n_draws: int
    ) -> np.ndarray:
        """Apply a function to chunks of rows, with so many draws for each."""
        architecture = self.vae.architecture
        widest = max(*architecture.hidden_layer_sizes, architecture.n_columns, 1)
        step = max(CHUNK_SIZE // (widest * n_draws * self.vae.n_members), 1)
        starts = range(0, len(rows), step)
        return np.concatenate([function(rows[first : first + step]) for first in starts])

    def _points(self, n_draws: int) -> Points:
        """Random numbers of the proposals, those of the estimator; of the default numbers kept."""
        points = self._kept.get(n_draws) or Points(self.vae, n_draws, self.seed)
        if n_draws in (SCORE_DRAWS, MEAN_DRAWS):
            self._kept[n_draws] = points
        return points
