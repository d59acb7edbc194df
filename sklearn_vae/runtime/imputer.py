"""A fitted VAEImputer in numpy."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_vae.data.arrays import is_missing
from sklearn_vae.data.fields import without_unknown
from sklearn_vae.imputation.average import AveragedImputation
from sklearn_vae.numerics.seeds import RandomState, draw_seed
from sklearn_vae.runtime.table import GenerativeModel, Model, as_rows, check_shape


@dataclass(eq=False, repr=False)
class ImputerModel(Model):
    """A fitted :class:`~sklearn_vae.VAEImputer` that computes with numpy; see :func:`load`."""

    model: GenerativeModel
    imputation: AveragedImputation
    indicated: np.ndarray
    is_kept: np.ndarray  # mask of the columns that are not left out
    missing_values: Any
    n_imputations: int | None
    random_state: RandomState

    @property
    def n_features_in_(self) -> int:  # type: ignore[override]
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
            the model was fitted to categories or dates. With ``n_imputations`` above 1, an array of
            shape (n_imputations, n_samples, n_features_out).
        """
        X = self._replace_by_nan(X)
        tables = self.impute_rows(self.model.read(X), self.n_imputations, X)
        return tables[0] if self.n_imputations in (None, 1) else tables

    def impute_rows(self, rows: np.ndarray, n_imputations: int | None, X: Any = None) -> np.ndarray:
        """Impute rows of numbers, those of X if given: (n_imputations or 1, n, n_features_out)."""
        known = without_unknown(rows, self.model.fields)
        if n_imputations is None:
            imputed = self.imputation.impute(known)[None]
        else:
            imputed = self.imputation.draw(known, n_imputations, draw_seed(self.random_state))
        imputed[:, np.isnan(rows) & self.model.columns.is_empty] = 0.0
        tables = self.model.write_imputed(imputed, rows, X)[:, :, self.is_kept]
        is_missing = np.isnan(rows[:, self.indicated]).astype(tables.dtype)
        return np.concatenate([tables, np.tile(is_missing, (len(tables), 1, 1))], axis=2)

    def _replace_by_nan(self, X: Any) -> Any:
        """Replace the value of missing cells by NaN."""
        missing, fields = self.missing_values, self.model.object_fields
        if is_missing(missing):
            return X
        table = np.array(as_rows(X), dtype=object)
        check_shape(table, self.n_features_in_)
        for (row, j), value in np.ndenumerate(table):
            # a category that equals a number is none, and neither are True and False
            may_hold = fields is None or fields[j].is_numeric != isinstance(missing, str)
            may_equal = may_hold and not (isinstance(value, bool | np.bool_) or is_missing(value))
            if may_equal and value == missing:
                table[row, j] = np.nan
        return table
