"""Rows of a table as numbers, and back."""

from collections.abc import Callable, Sequence
from datetime import UTC
from numbers import Integral
from typing import Any

import numpy as np

from sklearn_vae.data.arrays import fill_masked, find_objects, has_missing_values, is_missing
from sklearn_vae.data.conditions import ConditionEncoder, split_array
from sklearn_vae.data.fields import (
    Field,
    check_column_names,
    has_time_zone,
    nearest_possible,
    rounded_columns,
    seconds,
    time_type,
    without_unknown,
)
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.inference.constants import SCORE_DRAWS
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.numerics.seeds import MAX_DRAWS
from sklearn_vae.persistence.validation import check_count

# Numbers in the widest array of a chunk of rows.
CHUNK_SIZE = 1 << 20


def check_shape(rows: np.ndarray, n_columns: int) -> None:
    """Raise an error unless there are rows, of so many columns."""
    if rows.ndim != 2 or rows.shape[1] != n_columns or not len(rows):
        raise ValueError(
            f"X must be of shape (n_samples, {n_columns}), with 1 sample or more. "
            f"Got shape {rows.shape} instead."
        )


def as_rows(X: Any) -> Any:
    """Convert a table of polars, pyarrow or scipy to rows; return other tables as they are.

    To numpy, dates of polars are numbers, missing categories of pyarrow other categories, and a
    sparse matrix is one object. None of the libraries is imported. Masked cells are missing.
    """
    if isinstance(X, np.ma.MaskedArray):
        return fill_masked(X)
    if hasattr(X, "toarray"):
        return X.toarray()
    if hasattr(X, "iter_rows"):  # polars
        return X.rows()
    if hasattr(X, "to_pydict"):  # pyarrow
        return list(zip(*(column.to_pylist() for column in X.columns), strict=True))
    return X


def column_names(X: Any) -> list[Any] | None:
    """Names of the columns of a data frame, or None for another table."""
    names = getattr(X, "column_names", getattr(X, "columns", None))  # the first is pyarrow's
    return None if names is None else list(names)


class Model:
    """Base class: a model in numpy, of a file."""

    n_features_in_: int

    def __repr__(self) -> str:
        return f"<sklearn_vae.runtime.{type(self).__name__} of {self.n_features_in_} columns>"


class TableModel(Model):
    """Base class: a model of the columns of a table.

    Rows are arrays of numbers, with NaN for missing values. If the model was fitted to a data
    frame with categories or dates, rows are lists, object arrays or data frames of these.

    Parameters
    ----------
    columns : TableEncoder
        Encoder and decoder of rows.
    fields : sequence of Field or None
        Types of the columns, if the model was fitted to a data frame or to objects.

    Attributes
    ----------
    object_fields : sequence of Field or None
        The same, if rows hold anything but real numbers.
    handle_unknown : {"error", "infrequent", "missing"}
        Treatment of values that the model gives no probability.
    """

    handle_unknown: str = "infrequent"

    def __init__(self, columns: TableEncoder, fields: Sequence[Field] | None):
        self.columns, self.fields = columns, fields
        self.n_features_in_ = columns.n_features
        is_real = all(field.is_real for field in fields or ())
        self.object_fields = None if is_real else fields

    def read(self, X: Any) -> np.ndarray:
        """Convert rows to numbers, with codes for categories: (n, n_features)."""
        self._check_names(X)
        table = np.asarray(as_rows(X), dtype=None if self.object_fields is None else object)
        check_shape(table, self.n_features_in_)
        if self.object_fields is not None:
            rows = self._read_fields(table, self.object_fields)
        else:
            if table.dtype == object:
                table = np.where(find_objects(is_missing, table), np.nan, table)
            is_single = table.dtype == np.float32  # in which values are compared with those of fit
            rows = table if is_single else table.astype(np.float64, copy=False)
        if np.isinf(rows).any():
            raise ValueError("X contains infinity.")
        if self.handle_unknown == "infrequent":
            return rows
        unknown_is_missing = self.handle_unknown == "missing"
        return self.columns.check_values(rows, self.fields, unknown_is_missing=unknown_is_missing)

    def _check_names(self, X: Any) -> None:
        """Raise an error if a data frame has other columns than in fit, or another order."""
        if (names := column_names(X)) is not None:
            check_column_names("X", names, self.columns.names, "X in fit")

    def _read_fields(self, table: np.ndarray, fields: Sequence[Field]) -> np.ndarray:
        """Convert a table of objects to numbers: None, NaN and pandas.NA are missing values."""
        rows = np.empty(table.shape)
        for j, (field, column) in enumerate(zip(fields, table.T, strict=True)):
            missing = find_objects(is_missing, column)
            rows[missing, j] = np.nan
            values = column[~missing].tolist()
            if field.categories is not None:
                if not field.has_types_of(values):
                    raise TypeError(
                        f"Column {field.name!r} had the dtype {field.dtype} "
                        f"({field.logical_type}) in fit, and has values such as {values[0]!r} now."
                    )
                values = field.recode(np.arange(len(values)), values, self.handle_unknown)
            elif time_type(field.dtype) is not None:
                if text := next((value for value in values if isinstance(value, str)), None):
                    raise TypeError(
                        f"Column {field.name!r} had the dtype {field.dtype} in fit, and has the "
                        f"string {text!r} now. Convert it, as by datetime.fromisoformat."
                    )
                values = [
                    seconds(value, field, f"X has the value {value!r} in column {field.name!r}")
                    for value in values
                ]
            try:
                rows[~missing, j] = values
            except (TypeError, ValueError) as error:
                raise ValueError(f"Column {field.name!r} holds numbers: {error}.") from None
        return rows

    def write(self, rows: np.ndarray, observed: np.ndarray | bool = False) -> np.ndarray:
        """Convert numbers to values of the columns' types; dates with a time zone are in UTC.

        Cells of the mask ``observed`` are not computed.
        """
        if self.object_fields is None:
            return rows
        rows = nearest_possible(rows, self.object_fields, self.columns.is_positive, observed)
        table = np.empty(rows.shape, dtype=object)
        for j, field in enumerate(self.object_fields):
            table[:, j] = field.decode(rows[:, j], missing=np.nan)
            if has_time_zone(field.dtype):
                table[:, j] = [date and date.replace(tzinfo=UTC) for date in table[:, j]]
        return table

    def write_imputed(self, imputed: np.ndarray, rows: np.ndarray, X: Any) -> np.ndarray:
        """Convert k tables (k, n, n_features), with texts of X that were not in fit."""
        observed = ~np.isnan(rows[:, : self.n_features_in_])
        if self.fields is not None:
            imputed = np.stack(
                [np.where(observed, table, self.columns.on_steps(table)) for table in imputed]
            )
        tables = np.stack([self.write(table, observed) for table in imputed])
        is_text = np.array([field.holds_any_text for field in self.fields or ()], dtype=bool)
        is_unknown = is_text & (rows[:, : len(is_text)] < 0)
        if is_unknown.any():
            tables[:, is_unknown] = np.asarray(as_rows(X), dtype=object)[is_unknown]
        return tables


class GenerativeModel(TableModel):
    """Base class: a model that scores and draws rows, and imputes missing values.

    Attributes
    ----------
    seed : int
        Seed of the fit.
    conditions : ConditionEncoder or None
        Encoder of y, of a model of p(x|y).
    """

    seed: int
    conditions: ConditionEncoder | None = None

    def read_with_y(self, X: Any, y: Any) -> np.ndarray:
        """Convert rows to numbers, with codes of y behind them if it is given: (n, n)."""
        rows = self.read(X)
        return rows if y is None else np.hstack([rows, self.codes_of(y, len(rows))])

    def codes_of(self, y: Any, n_rows: int) -> np.ndarray:
        """Encode y as codes of classes and numbers: (n_rows, n_y)."""
        if self.conditions is None:
            raise ValueError("y is given, and the model was fitted with conditional=False.")
        names = column_names(y)
        if names is not None and len(names) > 1:  # one column may have any name
            self.conditions.check_names(names)
        return self.conditions.transform(split_array(as_rows(y), n_rows))

    def encode_conditions(self, codes: np.ndarray) -> np.ndarray:
        """Encode codes of y beside missing values: (n, n_y) -> (n, n_inputs)."""
        return self.encode(
            np.pad(codes, [(0, 0), (self.n_features_in_, 0)], constant_values=np.nan)
        )

    def score_samples(self, X: Any, y: Any = None, n_draws: int = SCORE_DRAWS) -> np.ndarray:
        """Log-density of each row in nats and X's units, as the estimator's ``score_samples``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows. A missing value is integrated out.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the condition of the rows: the score is then log p(x|y).
            Without y it is log p(x), as that of the estimator.
        n_draws : int, default=64
            Draws per row; rows with uneven weights get more.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log-densities.
        """
        n_draws = check_count("n_draws", n_draws, maximum=MAX_DRAWS)
        return self.log_density(self.read_with_y(X, y), n_draws)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log-density of the rows, in nats and in X's units.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : scalar or array-like of shape (n_samples,), default=None
            Conditions of a model with ``conditional=True``; otherwise ignored.

        Returns
        -------
        float
            Nats per row; higher is better.
        """
        return float(self.score_samples(X, None if self.conditions is None else y).mean())

    def impute(
        self,
        X: Any,
        n_imputations: int | None = None,
        *,
        random_state: int | None = None,
        y: Any = None,
    ) -> np.ndarray:
        """Replace missing values by their means, or likeliest classes, given the observed ones.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        n_imputations : int, default=None
            Number of imputed tables to draw in place of the table of means.
        random_state : int, default=None
            Seed of the draws; None takes that of the fit.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the conditions of the rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features) or (n_imputations, n_samples, n_features)
            Rows without missing values; objects if the model was fitted to categories.
        """
        rows = self.read_with_y(X, y)
        if n_imputations is None:
            return self.write_imputed(self.impute_rows(rows), rows, X)[0]
        seed = self.seed if random_state is None else check_seed(random_state)
        draws = self.impute_rows(
            rows, check_count("n_imputations", n_imputations, maximum=MAX_DRAWS), seed
        )
        return self.write_imputed(draws, rows, X)

    @property
    def is_rounded(self) -> np.ndarray:
        """Mask of the columns whose type holds no means: all but those of real numbers."""
        return rounded_columns(self.fields, self.n_features_in_)

    def impute_rows(
        self, rows: np.ndarray, n_imputations: int | None = None, seed: int = 0
    ) -> np.ndarray:
        """Impute rows of numbers, with codes for categories: (n_imputations or 1, n, n_features).

        Codes of y may come after the columns of X.
        """
        X, y = np.split(rows, [self.n_features_in_], axis=1)
        X = without_unknown(X, self.fields)
        imputed, incomplete = np.repeat(X[None], n_imputations or 1, axis=0), has_missing_values(X)
        if not incomplete.any():
            return imputed
        X, x = X[incomplete], self.encode(np.hstack([X, y])[incomplete])
        if n_imputations is None:
            imputed[0, incomplete] = self.columns.fill_missing(
                X, self.conditional_mean(x), self.is_rounded
            )
        else:
            draws = self.sample_missing(x, n_imputations, seed)
            imputed[:, incomplete] = self.columns.fill_missing_with_draws(X, draws, seed)
        return imputed

    def sample(
        self, n_samples: int = 1, random_state: int | None = None, *, y: Any = None
    ) -> np.ndarray:
        """Draw rows from the model's density.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, default=None
            Seed; None takes that of the fit.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the condition: one value for all rows, or one for each.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows; objects if the model was fitted to categories.
        """
        seed = self.seed if random_state is None else check_seed(random_state)
        n_samples = check_count("n_samples", n_samples)
        if y is None:
            x = self.sample_encoded(n_samples, seed)
        else:
            x = self.sample_given(self.codes_of(y, n_samples), seed)
        return self.write(self.columns.inverse_transform(x, is_sample=True, seed=seed))

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Encode rows of numbers, of a model of p(x|y) with codes of y: (n, n_inputs)."""
        return self.columns.transform(rows)

    def log_density(self, rows: np.ndarray, n_draws: int) -> np.ndarray:
        """Log-density of rows of numbers, in nats of their units: (n,).

        Of a model of p(x|y), codes of y come after the columns of X.
        """
        raise NotImplementedError

    def joint_log_density(
        self, rows: np.ndarray, class_prior: np.ndarray, n_draws: int
    ) -> np.ndarray:
        """Log p(x|y) + log p(y) of each class y: (n, n_features) -> (n, n_classes)."""
        with np.errstate(divide="ignore"):
            log_prior = np.log(class_prior)
        log_p = map_classes(lambda rows: self.log_density(rows, n_draws), rows, len(log_prior))
        return log_p + log_prior

    def conditional_mean(self, x: np.ndarray) -> np.ndarray:
        """Mean of every column of encoded rows given the observed values: (n, n_columns)."""
        raise NotImplementedError

    def sample_missing(self, x: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
        """Draw encoded rows given their observed values: (n, n_draws, n_columns)."""
        raise NotImplementedError

    def sample_encoded(self, n_samples: int, seed: int) -> np.ndarray:
        """Draw encoded rows: (n_samples, n_columns)."""
        raise NotImplementedError

    def sample_given(self, codes: np.ndarray, seed: int) -> np.ndarray:
        """Draw encoded rows given codes of y: (n, n_y) -> (n, n_columns)."""
        raise NotImplementedError


def map_classes(
    function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, n_classes: int
) -> np.ndarray:
    """Apply a function to rows with the code of each class: (n, d) -> (n, n_classes, ...)."""
    step, results = max(CHUNK_SIZE // (n_classes * rows.shape[1]), 1), []
    for batch in batches(len(rows), step):
        repeated = np.repeat(rows[batch], n_classes, axis=0)
        codes = np.arange(len(repeated)) % n_classes
        result = function(np.column_stack([repeated, codes]))
        results.append(result.reshape(-1, n_classes, *result.shape[1:]))
    return np.concatenate(results)


def check_seed(random_state: Any) -> int:
    """Raise an error unless this is a seed."""
    is_integer = isinstance(random_state, Integral) and not isinstance(random_state, bool)
    if not is_integer or not 0 <= random_state < 1 << 32:
        raise ValueError(
            f"random_state must be None or an integer from 0 to 2**32 - 1. Got {random_state!r} "
            f"instead."
        )
    return int(random_state)
