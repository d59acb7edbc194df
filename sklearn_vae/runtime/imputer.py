"""A fitted VAEImputer in numpy."""

from typing import Any

import numpy as np

from sklearn_vae.data.arrays import is_missing
from sklearn_vae.data.boosted_trees import BoostedTrees
from sklearn_vae.data.fields import without_unknown
from sklearn_vae.data.imputation import AveragedImputation, averaged_columns
from sklearn_vae.data.repeated_values import RepeatedValues
from sklearn_vae.runtime.density import DensityModel
from sklearn_vae.runtime.table import GenerativeModel, as_rows, check_shape
from sklearn_vae.seeds import RandomState, draw_seed


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
        trees: BoostedTrees | None,
        trees_weight: float,
        spread: np.ndarray | None,
        repeated_values: RepeatedValues | None,
        indicated: np.ndarray,
        missing_values: Any,
        keep_empty_features: bool,
        n_draws: int | None,
        random_state: RandomState,
    ):
        self.model = model
        self.imputation = AveragedImputation(
            model.impute_rows,
            None if mixture is None else mixture.impute_rows,
            model.columns,
            averaged_columns(model.columns.likelihoods, model.is_rounded),
            model.columns.is_empty,
            mixture_weight,
            trees,
            trees_weight,
            spread,
            repeated_values,
        )
        self.imputation.check()
        self.indicated, self.missing_values = indicated, missing_values
        self.n_draws, self.random_state = n_draws, random_state
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
            the model was fitted to categories or dates. With ``n_draws`` above 1, an array of
            shape (n_draws, n_samples, n_features_out).
        """
        X = self._replace_by_nan(X)
        tables = self.impute_rows(self.model.read(X), self.n_draws, X)
        return tables[0] if self.n_draws in (None, 1) else tables

    def impute_rows(self, rows: np.ndarray, n_draws: int | None, X: Any = None) -> np.ndarray:
        """Impute rows of numbers, those of X if it is given: (n_draws or 1, n, n_features_out)."""
        known = without_unknown(rows, self.model.fields)
        if n_draws is None:
            imputed = self.imputation.impute(known)[None]
        else:
            imputed = self.imputation.draw(known, n_draws, draw_seed(self.random_state))
        imputed[:, np.isnan(rows) & self.model.columns.is_empty] = 0.0
        tables = self.model.write_imputed(imputed, rows, X)[:, :, self.is_kept]
        is_missing = np.isnan(rows[:, self.indicated]).astype(tables.dtype)
        return np.concatenate([tables, np.tile(is_missing, (len(tables), 1, 1))], axis=2)

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
