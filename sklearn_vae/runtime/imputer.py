"""A fitted VAEImputer in numpy."""

from typing import Any

import numpy as np

from sklearn_vae.data.arrays import is_missing
from sklearn_vae.data.boosted_trees import BoostedTrees
from sklearn_vae.data.imputed_draws import check_spread, correct_draws
from sklearn_vae.data.repeated_values import RepeatedValues
from sklearn_vae.runtime.density import DensityModel
from sklearn_vae.runtime.likelihoods import (
    Bernoulli,
    Categorical,
    Ordinal,
)
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
        self.model, self.mixture, self.mixture_weight = model, mixture, mixture_weight
        self.trees, self.trees_weight, self.spread = trees, trees_weight, spread
        self.repeated_values = repeated_values
        self.indicated, self.missing_values = indicated, missing_values
        self.n_draws, self.random_state = n_draws, random_state
        self.n_features_in_ = model.n_features_in_
        self.is_kept = keep_empty_features | ~model.columns.is_empty
        if trees is not None:
            trees.check_columns(model.columns, self._is_averaged)
        if spread is not None:
            check_spread(spread, self.n_features_in_)
        if repeated_values is not None:
            repeated_values.check_columns(self.n_features_in_)

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
        known = self.model.without_unknown(rows)
        imputed = self._means(known)[None] if n_draws is None else self._draws(known, n_draws)
        imputed[:, :, self.model.columns.is_empty] = 0.0
        tables = self.model.write_imputed(imputed, rows, X)[:, :, self.is_kept]
        is_missing = np.isnan(rows[:, self.indicated]).astype(tables.dtype)
        return np.concatenate([tables, np.tile(is_missing, (len(tables), 1, 1))], axis=2)

    def _means(self, rows: np.ndarray) -> np.ndarray:
        """Replace missing cells by the models' weighted means: (n, n_features)."""
        if self.trees is None:
            return self._average(rows)
        known = np.where(self.model.columns.is_empty, 0.0, rows)
        is_left = self.trees.leaves_missing(known, self.trees_weight)
        imputed = rows.copy()
        imputed[is_left] = self._average(rows[is_left])
        return self.trees.correct(rows, imputed, self.trees_weight)

    def _average(self, rows: np.ndarray) -> np.ndarray:
        """Replace missing cells by the weighted means of model and mixture: (n, n_features)."""
        imputed = self.model.impute_rows(rows)[0]
        if self.mixture is None or not self.mixture_weight:
            return imputed
        mean = imputed + self.mixture_weight * (self.mixture.impute_rows(rows)[0] - imputed)
        return np.where(self._is_averaged & np.isnan(rows), mean, imputed)

    def _draws(self, rows: np.ndarray, n_draws: int) -> np.ndarray:
        """Replace missing cells by draws, of random models: (n_draws, n, n_features)."""
        seed = draw_seed(self.random_state)
        imputed = np.empty((n_draws, *rows.shape))
        is_of_mixture = np.random.default_rng(seed).random(n_draws) < self.mixture_weight
        for model, mask in ((self.model, ~is_of_mixture), (self.mixture, is_of_mixture)):
            if model is not None and mask.any():
                imputed[mask] = model.impute_rows(rows, int(mask.sum()), seed)
        share, columns = self.trees_weight, self.model.columns
        imputed = correct_draws(
            imputed, rows, self._average, self.trees, share, self.spread, columns, seed
        )
        if self.repeated_values is None:
            return imputed
        # the model draws real numbers beside the values of a column
        return np.where(np.isnan(rows), self.repeated_values.round(imputed), imputed)

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
