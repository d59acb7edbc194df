"""A fitted VAEImputer in numpy."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_vae.data.arrays import as_array, replace_by_nan
from sklearn_vae.data.fields import without_unknown
from sklearn_vae.imputation.average import AveragedImputation
from sklearn_vae.runtime.table import GenerativeModel


@dataclass(eq=False, repr=False)
class ImputerModel:
    """A fitted :class:`~sklearn_vae.VAEImputer` that computes with numpy; see :func:`load`."""

    model: GenerativeModel
    imputation: AveragedImputation
    indicated: np.ndarray
    is_kept: np.ndarray  # mask of the columns that are not left out
    missing_values: Any

    @property
    def n_features_in_(self) -> int:
        """Number of columns of X."""
        return self.model.n_features_in_

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
        X = replace_by_nan(as_array(X), self.missing_values)
        return self.impute_rows(self.model.read(X), X)

    def impute_rows(self, rows: np.ndarray, X: Any = None) -> np.ndarray:
        """Impute rows of numbers, those of X if given: (n, n_features_out)."""
        imputed = self.imputation.impute(without_unknown(rows, self.model.fields))
        imputed[np.isnan(rows) & self.model.columns.is_empty] = 0.0
        table = self.model.write_imputed(imputed, rows, X)[:, self.is_kept]
        return np.hstack([table, np.isnan(rows[:, self.indicated]).astype(table.dtype)])
