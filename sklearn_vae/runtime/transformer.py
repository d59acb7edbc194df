"""A fitted VAETransformer in numpy."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sklearn_vae.inference.constants import MEAN_DRAWS, SCORE_DRAWS
from sklearn_vae.inference.decoder_correction import check_range, correction_at
from sklearn_vae.inference.log_density import (
    log_evidence,
    posterior_mode,
    sample_posterior,
)
from sklearn_vae.numerics.array_api import logsumexp, softmax
from sklearn_vae.runtime.table import GenerativeModel, check_shape, chunks, map_classes
from sklearn_vae.runtime.vae import VAE


@dataclass(eq=False, repr=False, kw_only=True)
class TransformerModel(GenerativeModel):
    """A fitted :class:`~sklearn_vae.VAETransformer` that computes with numpy; see :func:`load`.

    Rows are arrays of numbers, with NaN for missing values. If the model was fitted to a data
    frame with categories, rows are lists or object arrays, with the categories themselves. So are
    the rows of the other models.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X.
    """

    vae: VAE
    correction: np.ndarray | None
    code_range: np.ndarray | None

    @property
    def n_components(self) -> int:
        """Number of latent dimensions."""
        return self.vae.architecture.n_components

    @property
    def n_noise(self) -> int:
        """One standard normal number per latent dimension."""
        return self.n_components

    def transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Encode rows: the mean of q(z|x), as ``VAETransformer.transform``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the conditions of the rows. Without y, codes are averaged
            over the classes.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Codes.
        """
        rows = self.read_with_y(X, y)
        if not self._averages_classes(rows):
            return self._codes(rows)
        class_prior = self._class_prior
        log_p = self.joint_log_density(rows, class_prior, SCORE_DRAWS)
        z = map_classes(self._codes, rows, len(class_prior))
        return np.einsum("nc,ncl->nl", softmax(log_p, -1), z)

    @property
    def _class_prior(self) -> np.ndarray:
        """Frequencies of the classes y; empty if there are no classes."""
        return np.empty(0) if self.conditions is None else self.conditions.class_prior

    def _averages_classes(self, rows: np.ndarray) -> bool:
        """Return whether rows lack y, and the model has classes to average over."""
        return rows.shape[1] == self.n_features_in_ and len(self._class_prior) > 0

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Encode rows, with codes of y if the model is one of p(x|y)."""
        if rows.shape[1] < self.n_features_in_ + self.columns.n_condition_columns:
            raise ValueError("y must be passed to a model that was fitted with conditional=True.")
        return self.columns.transform(rows)

    def _codes(self, rows: np.ndarray) -> np.ndarray:
        """Codes of rows of numbers: (n, l)."""
        x, z = self.encode(rows), np.empty((len(rows), self.n_components))
        has_mode = self.columns.is_incomplete(rows) & (not self.vae.architecture.n_factors)

        def encode(function: Callable[..., np.ndarray], x: np.ndarray) -> np.ndarray:
            return function(self.vae.first_member, x[None])[0]

        for function, mask in ((VAE.mean_code, ~has_mode), (posterior_mode, has_mode)):
            if mask.any():
                n_draws = 1 + self.n_components
                z[mask] = self._map(partial(encode, function), x[mask], n_draws)
        return z

    def inverse_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Decode codes: the mean of p(x|z), as ``VAETransformer.inverse_transform``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Codes.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the conditions of the rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows; objects if the model was fitted to categories.
        """
        z = np.asarray(X, dtype=np.float64)
        check_shape(z.shape, self.n_components)
        if not np.isfinite(z).all():
            raise ValueError("X contains NaN or infinity.")
        check_range(z)
        conditions = np.empty((len(z), 0)) if y is None else self.codes_of(y, len(z))
        return self.write(self.decode(z, conditions))

    def decode(self, z: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        """Decode codes, given conditions: (n, l), (n, n_y) -> (n, n_features)."""
        rows = np.hstack([z, self.encode_conditions(conditions)])
        ends, vae = [self.n_components], self.vae.first_member
        mean = self._map(lambda rows: vae.mean(*np.split(rows[None], ends, axis=2))[0], rows, 1)
        if self.correction is not None:
            mean = mean + correction_at(z, self.correction, self.code_range)
        return self.columns.inverse_transform(mean)

    def log_density(self, rows: np.ndarray, n_draws: int, *, refines: bool = True) -> np.ndarray:
        """Log p(x), or log p(x|y) of rows with codes of y, by importance sampling: (n,)."""
        if self._averages_classes(rows):
            return logsumexp(self.joint_log_density(rows, self._class_prior, n_draws), 1)
        points = self.points(n_draws)

        def log_density(x: np.ndarray) -> np.ndarray:
            log_p = log_evidence(self.vae, x[None], points, len(x), refines=refines)
            return np.logaddexp.reduce(log_p, axis=0) - np.log(len(log_p))

        x, log_p = self.encode(rows), self.columns.log_abs_det_jacobian(rows)
        is_incomplete = self.columns.is_incomplete(rows)
        for mask in (~is_incomplete, is_incomplete):  # these get more starting points
            if mask.any():
                log_p[mask] += self._map(log_density, x[mask], 2 * n_draws)
        return log_p

    def conditional_mean(self, x: np.ndarray) -> np.ndarray:
        """Mean of every column of encoded rows given the observed values: (n, n_columns)."""
        points, vae = self.points(MEAN_DRAWS), self.vae

        def average(x: np.ndarray) -> np.ndarray:
            # an encoder that has learned from rows with missing values needs no more codes
            is_poor = not vae.architecture.n_factors
            codes = sample_posterior(vae, x[None], points, refines_incomplete=is_poor)
            return vae.likelihood.average_over_draws(vae.decode(codes.z, x[None]), codes.weight)

        return self._map(average, x, 2 * MEAN_DRAWS)

    def fill(self, X: np.ndarray) -> np.ndarray:
        """Replace missing values by those of the row's reconstruction: (n, n_features)."""
        vae, x = self.vae.first_member, self.columns.transform(X)[None]
        mean = vae.mean(vae.mean_code(x), x)[0]
        return self.columns.fill_missing(X, mean, self.columns.has_discrete_values)

    def residuals(self, X: np.ndarray) -> np.ndarray:
        """Residuals of the first member's reconstructions, in the encoded units: (n, n_values)."""
        return self.vae.first_member.residuals(self.columns.transform(X)[None])[0]

    def _map(
        self, function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, n_draws: int
    ) -> np.ndarray:
        """Apply a function to chunks of rows, with so many draws for each."""
        architecture = self.vae.architecture
        widest = max(*architecture.hidden_layer_sizes, architecture.n_columns, 1)
        parts = chunks(rows, widest * n_draws * self.vae.n_members)
        with np.errstate(all="ignore"):
            return np.concatenate([function(part) for part in parts])
