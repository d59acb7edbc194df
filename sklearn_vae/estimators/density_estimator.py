"""Base of the estimators of a density: scores, samples and imputations of rows, given y if any."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_vae._compat import check_sample_weight
from sklearn_vae.data.arrays import Rows, Table, Target, Weights, as_array
from sklearn_vae.data.fields import Name, Names, without_unknown
from sklearn_vae.data.sources import accepts_source, check_is_table
from sklearn_vae.estimators.base import PredictorT, RowsT, TableEstimator
from sklearn_vae.estimators.checks import (
    check_allows_missing,
    check_not_autoregressive,
    check_random_state,
    column_indices,
    given_row,
)
from sklearn_vae.inference.class_marginal import ClassMarginal
from sklearn_vae.inference.fitted_models import FittedVAE
from sklearn_vae.inference.log_density import IMPUTE_DRAWS, MEAN_DRAWS, SCORE_DRAWS
from sklearn_vae.numerics.random import MAX_DRAWS, RandomState, draw_seed
from sklearn_vae.persistence.validation import check_count

# Scramblings of the Sobol points, that of the score included, whose spread is the standard error.
STD_SCRAMBLINGS = 9


class DensityEstimator(TableEstimator[PredictorT, RowsT]):
    """Base of an estimator of p(x), or with ``conditional=True`` of p(x|y).

    The codes of y are further columns of the rows.
    """

    # Whether the model is one of p(x, y), which integrates out y where it is not given.
    _is_joint: ClassVar[bool] = False

    # -- conditions to numbers ---------------------------------------------------------

    def _encode_conditions(self, y: Target, n_rows: int, dtype: np.dtype) -> np.ndarray | None:
        """Encode y as codes and numbers (n_rows, n_y); None for a model without conditions."""
        if self.condition_encoder_ is None:
            return None
        return self.condition_encoder_.transform(self._read_conditions(y, n_rows), dtype)

    def _check_y_is_used(self, y: Target, method: str) -> None:
        """Refuse a y that the model would ignore."""
        if y is not None and self.condition_encoder_ is None:
            raise ValueError(
                f"{method} takes y if the model is conditional, and this one was fitted with "
                f"conditional=False. Fit {type(self).__name__}(conditional=True) to X and y."
            )

    def _validate_with_conditions(
        self, X: Rows, y: Target = None, columns: np.ndarray | None = None
    ) -> np.ndarray:
        """Validate rows, and append the codes of y: a joint model needs none."""
        rows = self._validate(X, columns)
        if self._is_joint and y is None:
            return rows
        codes = self._encode_conditions(y, len(rows), rows.dtype)
        return rows if codes is None else np.hstack([rows, codes])

    # -- densities -----------------------------------------------------------------------

    def _rows_and_model(
        self, X: Rows, y: Target = None, columns: np.ndarray | None = None
    ) -> tuple[np.ndarray, PredictorT | ClassMarginal]:
        """Validate rows, and return them with the model of p(x|y), or of p(x) if y is None."""
        if y is None:
            return self._validate(X, columns), self._marginal()
        return self._validate_with_conditions(X, y, columns), self._predictor()

    def _marginal(self) -> PredictorT | ClassMarginal:
        """Return the model of p(x), with conditions an average of p(x|y) over the classes y."""
        encoder, model = self.condition_encoder_, self._predictor()
        if encoder is None or self._is_joint:
            return model
        if not len(encoder.class_prior):
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: it was "
                f"fitted to a y of numbers or of several columns, over which no mean can be taken. "
                f"(A y of integers, strings or truth values is one of classes.)"
            )
        return ClassMarginal(cast(FittedVAE, model), encoder.class_prior)

    def score(self, X: Rows, y: Target = None, sample_weight: Weights = None) -> float:
        """Mean log-density of the rows, in nats and in X's own units.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score, or a source of chunks as in ``fit``.
        y : array-like of shape (n_samples,), default=None
            Conditions of a model with ``conditional=True``, as in ``score_samples``; otherwise
            ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Number of times that each row counts.

        Returns
        -------
        float
            Nats per row; higher is better.
        """
        log_density = self.score_samples(X, y)
        weight = check_sample_weight(as_array(sample_weight), log_density, ensure_non_negative=True)
        return float(np.average(log_density, weights=weight))

    @accepts_source
    def score_samples(
        self,
        X: Rows,
        y: Target = None,
        *,
        columns: Names = None,
        given: Names = None,
        n_draws: int = SCORE_DRAWS,
        return_std: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Log-density of each row, in nats and in X's own units: higher is more typical.

        It can be compared between models, and with ``GaussianMixture`` and ``KernelDensity``. A
        row has the same score in any batch.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score, or a source of chunks as in ``fit``.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the conditions: the score is then log p(x|y). Without y it is
            log p(x), by the frequencies of the classes in ``fit``.
        columns : list of str or int, default=None
            Columns to score, by name, or by position if X has no names. A data frame X needs no
            other columns but the ``given`` ones. By default, all that are not ``given``.
        given : list of str or int, default=None
            Columns that the score is conditional on: it is log p(columns | given).
        n_draws : int, default=128
            Codes drawn per row, at most 65,536; powers of two are best. More draws lower the error.
            To rank rows by ``VAETransformer``, set 16: they take a third to two thirds of the time,
            and err by about .1 nats.
        return_std : bool, default=False
            True to return the standard error of the scores, too, for nine times the work.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Nats per row. Classes, counts and constant columns count as probabilities.
        std : ndarray of shape (n_samples,)
            Only with ``return_std=True``. Intervals of 90 % cover 85 to 90 % of the rows of most
            tables.

        Raises
        ------
        ValueError
            If X does not have the columns of ``fit``, y is missing or not allowed, or another
            argument is invalid.
        """
        check_is_fitted(self)
        n_draws = check_count("n_draws", n_draws, maximum=MAX_DRAWS)
        if columns is None and given is None:
            try:
                rows, model = self._rows_and_model(X, y)
            except ValueError as error:
                if "yet now missing" in str(error):  # scikit-learn's, of a data frame
                    error.add_note("Pass columns=[...] for the density of some of the columns.")
                raise
            log_density: Callable[..., np.ndarray] = partial(model.log_density, rows, n_draws)
        else:
            log_density = self._conditional_log_density(X, y, n_draws, columns, given)
        if not return_std:
            return log_density()
        scrambled = [log_density(s) for s in range(STD_SCRAMBLINGS)]
        return scrambled[0], np.std(scrambled, axis=0, ddof=1)

    def _conditional_log_density(
        self, X: Rows, y: Target, n_draws: int, columns: Names, given: Names
    ) -> Callable[..., np.ndarray]:
        """Return a function (scrambling) of the log-density of columns given other columns."""
        caller = f"{type(self).__name__}.score_samples"
        check_allows_missing(self, "score_samples of some columns")
        names = self.columns_.names
        fixed = column_indices([] if given is None else given, names, "given", caller)
        scored = np.setdiff1d(np.arange(self.n_features_in_), fixed)
        if columns is not None:
            scored = column_indices(columns, names, "columns", caller)
        if not len(scored) or len(both := np.intersect1d(scored, fixed)):
            problem = f"both have {names[both[0]]!r}" if len(scored) else "leave none to score"
            raise ValueError(
                f"The 'columns' and 'given' parameters of {caller} must be different columns, and "
                f"{problem}. Got columns={columns!r} and given={given!r}."
            )
        rows, model = self._rows_and_model(X, y, np.union1d(scored, fixed))
        is_given = np.zeros(rows.shape[1], dtype=bool)
        is_given[[*fixed, *range(self.n_features_in_, rows.shape[1])]] = True
        conditions = np.where(is_given, rows, np.nan)

        def log_density(scrambling: int = 0) -> np.ndarray:
            joint = model.log_density(rows, n_draws, scrambling)
            if not len(fixed):
                return joint
            return joint - model.log_density(conditions, n_draws, scrambling)

        return log_density

    # -- samples ---------------------------------------------------------------------------

    def sample(
        self,
        n_samples: int = 1,
        random_state: RandomState = None,
        *,
        y: Target = None,
        given: Mapping[Name, object] | None = None,
    ) -> Any:
        """Draw new rows.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws; None takes the estimator's own.
        y : scalar, dict or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the condition: one value for all rows, or one for each; of
            several columns a dict. Without y, classes are drawn by their frequencies in ``fit``.
        given : dict, default=None
            Values that all rows have, by name of the column, or by position if X had no names.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features)
            Rows in X's own units; a data frame, if X was one in ``fit``, with its columns,
            types and categories.

        Raises
        ------
        ValueError
            If there is no such column, or a column cannot have a given value.
        """
        check_is_fitted(self)
        n_samples = check_count("n_samples", n_samples)
        caller = f"{type(self).__name__}.sample"
        check_random_state(random_state, caller=caller)
        self._check_y_is_used(y, "sample")
        row = np.full(self.n_features_in_, np.nan, self.dtype_)
        if given is not None and (type(given) is not dict or given):
            check_allows_missing(self, "sample with given values")
            row = given_row(given, self._fields, self.columns_, caller, self.dtype_)
        model = self._marginal() if y is None else self._predictor()
        conditions = () if y is None else (self._encode_conditions(y, n_samples, self.dtype_),)
        seed = draw_seed(self.random_state if random_state is None else random_state)
        if np.isnan(row).all() and (y is None or not self._is_joint):
            rows = model.sample(n_samples, seed, self.dtype_, *conditions)
        else:
            rows = model.sample_given(row, n_samples, seed, *conditions)
        return self._restore_table(rows, observed=~np.isnan(row))

    # -- missing values ----------------------------------------------------------------------

    def impute(
        self,
        X: Table,
        n_imputations: int | None = None,
        *,
        random_state: RandomState = None,
        y: Target = None,
    ) -> Any:
        """Fill in missing values by what the other values of their rows suggest.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, missing values of which are NaN (or None, or ``pandas.NA``).
        n_imputations : int, default=None
            Number of tables to draw, for multiple imputation, at most 65,536. None makes one table
            of means, of medians in positive columns and ordered classes, and of the likeliest class
            in other columns.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws; None takes the estimator's own.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the conditions of the rows. VAEDensity does not need it.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features)
            X without missing values, of the type that X had in ``fit``. With ``n_imputations``, an
            array of shape (n_imputations, n_samples, n_features), or a list of data frames.
        """
        check_is_fitted(self)
        self._check_y_is_used(y, "impute")
        check_is_table(X, "impute")
        rows = self._validate_with_conditions(X, y)
        missing = np.isnan(rows[:, : self.n_features_in_])
        if n_imputations is None:
            return self._restore_imputed(self._impute(rows)[0], missing, X)
        n_imputations = check_count("n_imputations", n_imputations, maximum=MAX_DRAWS)
        check_random_state(random_state, caller=f"{type(self).__name__}.impute")
        imputed = self._impute(rows, n_imputations, random_state)
        if self.schema_ is None:
            return imputed
        return [self._restore_imputed(table, missing, X) for table in imputed]

    def _impute(
        self, rows: np.ndarray, n_imputations: int | None = None, random_state: RandomState = None
    ) -> np.ndarray:
        """Impute missing cells of validated rows: (n_imputations or 1, n, n_features)."""
        check_not_autoregressive(self.architecture_.network, "impute")
        rows = without_unknown(rows, self._fields)
        model = self._predictor()
        if n_imputations is None:
            return model.impute(rows, MEAN_DRAWS, self._is_rounded)[None]
        is_incomplete = np.isnan(rows.min(axis=1))
        imputed = np.repeat(rows[None, :, : self.n_features_in_], n_imputations, axis=0)
        if is_incomplete.any():
            seed = draw_seed(self.random_state if random_state is None else random_state)
            imputed[:, is_incomplete] = model.sample_missing(
                rows[is_incomplete], n_imputations, IMPUTE_DRAWS, seed
            )
        return imputed
