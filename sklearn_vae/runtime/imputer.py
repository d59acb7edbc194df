"""A fitted VAEImputer in numpy."""

from typing import Any

import numpy as np

from sklearn_vae.data.arrays import is_missing
from sklearn_vae.runtime.density import DensityModel
from sklearn_vae.runtime.likelihoods import Bernoulli, Categorical, Ordinal
from sklearn_vae.runtime.table import GenerativeModel, as_rows, check_shape


class ImputerModel:
    """A fitted :class:`~sklearn_vae.VAEImputer` that computes with numpy; see :func:`load`.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X.
    """

    def __init__(
        self,
        model: GenerativeModel,
        mixture: DensityModel | None,
        mixture_weight: float,
        indicated: np.ndarray,
        missing_values: Any,
        keep_empty_features: bool,
    ):
        self.model, self.mixture, self.mixture_weight = model, mixture, mixture_weight
        self.indicated, self.missing_values = indicated, missing_values
        self.n_features_in_ = model.n_features_in_
        self.is_kept = keep_empty_features | ~model.columns.is_empty

    def transform(self, X: Any) -> np.ndarray:
        """Impute the missing cells of X, as ``VAEImputer.transform``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            Rows without missing cells, then columns of indicators if there are any; objects if
            the model was fitted to categories or dates.
        """
        rows = self.model.read(self._replace_by_nan(X))
        imputed = self.model.impute_rows(rows)
        if self.mixture is not None and self.mixture_weight:
            difference = self.mixture.impute_rows(rows) - imputed
            mean = imputed + self.mixture_weight * difference
            imputed = np.where(self._is_averaged & np.isnan(rows), mean, imputed)
        imputed[:, self.model.columns.is_empty] = 0.0
        table = self.model.write(imputed)[:, self.is_kept]
        return np.hstack([table, np.isnan(rows[:, self.indicated]).astype(table.dtype)])

    def _replace_by_nan(self, X: Any) -> Any:
        """Replace the value of missing cells by NaN."""
        missing, fields = self.missing_values, self.model.fields
        if is_missing(missing):
            return X
        table = np.array(as_rows(X), dtype=object)
        check_shape("X", table, self.n_features_in_)
        for (row, j), value in np.ndenumerate(table):
            # a category that equals a number is none, and neither are True and False
            may_hold = fields is None or fields[j].is_numeric != isinstance(missing, str)
            may_equal = may_hold and not (isinstance(value, bool | np.bool_) or is_missing(value))
            if may_equal and value == missing:
                table[row, j] = np.nan
        return table

    @property
    def _is_averaged(self) -> np.ndarray:
        """Mask of the columns that are imputed by means, not by classes or one of two values."""
        pairs = zip(self.model.columns.likelihoods, self.model.is_rounded, strict=True)
        return np.array(
            [
                not isinstance(likelihood, Categorical | Ordinal | None)
                and not (is_rounded and isinstance(likelihood, Bernoulli))
                for likelihood, is_rounded in pairs
            ]
        )
