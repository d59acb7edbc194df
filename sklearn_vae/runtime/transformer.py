"""A fitted VAETransformer in numpy."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sklearn_vae.data.encoder import TableEncoder
from sklearn_vae.data.fields import Field
from sklearn_vae.inference.correction import correction_at
from sklearn_vae.persistence.validation import check_count
from sklearn_vae.runtime.sobol import sobol_normal
from sklearn_vae.runtime.table import GenerativeModel
from sklearn_vae.runtime.torch_random import TorchGenerator
from sklearn_vae.runtime.vae import VAE, StandardNormal
from sklearn_vae.seeds import Stream, stream_seed

# Draws from each of the two proposals, for a score and for imputed means.
SCORE_DRAWS, MEAN_DRAWS = 64, 128
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
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

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

        Raises
        ------
        ValueError
            If values are missing, and the model was fitted to complete rows.
        """
        encoded = self.columns.transform(self._read(X))
        if not self.vae.architecture.n_factors and np.isnan(encoded).any():
            raise ValueError(
                "The numpy runtime does not encode rows with missing or unknown values by a model "
                "that was fitted to complete rows; sklearn_vae.load reads the estimator that does."
            )
        return self._map(lambda x: self.vae.encode(x[None])[0][0], encoded, 1)

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
        if z.ndim != 2 or z.shape[1] != self.n_components or not np.isfinite(z).all():
            raise ValueError(
                f"Z must be finite and of shape (n_samples, {self.n_components}). "
                f"Got shape {z.shape} instead."
            )
        mean = self._map(lambda z: self.vae.mean(z)[0], z, 1)
        if self.correction is not None:
            mean = mean + correction_at(z, self.correction, self.code_range)
        return self._write(self.columns.inverse_transform(mean))

    def score_samples(self, X: Any, n_draws: int = SCORE_DRAWS) -> np.ndarray:
        """Log p(x) of each row in nats and X's units, by importance sampling.

        Codes are drawn from the encoder and from the prior, as ``VAETransformer.score_samples``
        does first; the estimator goes on to better proposals where these are poor.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows. A missing value is integrated out.
        n_draws : int, default=64
            Draws from each of the two.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log-densities.
        """
        rows, points = self._read(X), self._points(check_count("n_draws", n_draws))

        def log_density(x: np.ndarray) -> np.ndarray:
            log_p = self.vae.log_evidence(x, *points)
            return np.logaddexp.reduce(log_p, axis=0) - np.log(len(log_p))

        log_p = self._map(log_density, self.columns.transform(rows), 2 * n_draws)
        return log_p + self.columns.log_abs_det_jacobian(rows)

    def conditional_mean(self, x: np.ndarray) -> np.ndarray:
        """Mean of every column of encoded rows given the observed values: (n, n_columns)."""
        points = self._points(MEAN_DRAWS)
        return self._map(lambda x: self.vae.conditional_mean(x, *points), x, 2 * MEAN_DRAWS)

    def sample_encoded(self, n_samples: int, seed: int) -> np.ndarray:
        """Draw encoded rows: (n_samples, n_columns)."""
        generator = np.random.default_rng(stream_seed(seed, Stream.SAMPLE))
        return self.vae.sample(n_samples, generator)

    def _map(self, function: Any, rows: np.ndarray, n_draws: int) -> np.ndarray:
        """Apply a function to chunks of rows, with so many draws for each."""
        architecture = self.vae.architecture
        widest = max(*architecture.hidden_layer_sizes, architecture.n_columns, 1)
        step = max(CHUNK_SIZE // (widest * n_draws * self.vae.n_members), 1)
        starts = range(0, max(len(rows), 1), step)
        return np.concatenate([function(rows[first : first + step]) for first in starts])

    def _points(self, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
        """Normal draws for the encoder's proposals (K, l), and draws from the prior (M, K, l).

        They are the estimator's. Those of the default numbers are kept.
        """
        if n_draws in self._kept:
            return self._kept[n_draws]
        noise, z = (
            sobol_normal(
                n_draws, self.n_components, stream_seed(self.seed, Stream.SCORE, 0, proposal)
            )
            for proposal in (0, 1)
        )
        if isinstance(self.vae.architecture.prior, StandardNormal):
            z = np.broadcast_to(z, (self.vae.n_members, *z.shape))
        else:
            generator = TorchGenerator(stream_seed(self.seed, Stream.PARTS, 0))
            z = self.vae.prior.sample(n_draws, generator)
        points = noise, z
        if n_draws in (SCORE_DRAWS, MEAN_DRAWS):
            self._kept[n_draws] = points
        return points
