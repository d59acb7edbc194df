"""Rows of a table as numbers, and back."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_vae.data.arrays import as_array, has_missing_values
from sklearn_vae.data.conditions import ConditionEncoder, column_names, split_columns
from sklearn_vae.data.fields import (
    Field,
    check_column_names,
    nearest_possible,
    rounded_columns,
    without_unknown,
)
from sklearn_vae.data.frames import cells_of
from sklearn_vae.data.reading import read_table
from sklearn_vae.data.schema import Schema
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.inference.constants import MEAN_DRAWS, SCORE_DRAWS
from sklearn_vae.inference.log_density import Points
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.numerics.seeds import MAX_DRAWS, Stream, stream_seed
from sklearn_vae.numerics.sobol import sobol_normal
from sklearn_vae.persistence.validation import check_count

# Numbers in the widest array of a chunk of rows.
CHUNK_SIZE = 1 << 20


def check_shape(shape: tuple[int, ...], n_columns: int) -> None:
    """Raise an error unless there are rows, of so many columns."""
    if len(shape) != 2 or shape[1] != n_columns or not shape[0]:
        raise ValueError(
            f"X must be of shape (n_samples, {n_columns}), with 1 sample or more. "
            f"Got shape {shape} instead."
        )


@dataclass(eq=False, repr=False, kw_only=True)
class TableModel:
    """Base class: a model of the columns of a table.

    Rows are arrays of numbers, with NaN for missing values. If the model was fitted to a data
    frame with categories or dates, rows are lists, object arrays or data frames of these.

    Attributes
    ----------
    columns : TableEncoder
        Encoder and decoder of rows.
    schema : Schema
        Types of the columns.
    handle_unknown : {"error", "infrequent", "missing"}
        Treatment of values that the model gives no probability.
    """

    columns: TableEncoder
    schema: Schema
    handle_unknown: str = "infrequent"

    @property
    def n_features_in_(self) -> int:
        """Number of columns of X."""
        return self.columns.n_features

    @property
    def fields(self) -> Sequence[Field]:
        """Types of the columns."""
        return self.schema.fields

    def read(self, X: Any) -> np.ndarray:
        """Convert rows to numbers, with codes for categories: (n, n_features)."""
        table = read_table(as_array(X))
        if table.names is not None:
            check_column_names("X", table.names, self.columns.names, "X in fit")
        check_shape(table.shape, self.n_features_in_)
        rows = self.schema.transform(table, handle_unknown=self.handle_unknown)
        if np.isinf(rows).any():
            raise ValueError("X contains infinity.")
        if self.handle_unknown == "infrequent":
            return rows
        unknown_is_missing = self.handle_unknown == "missing"
        return self.columns.check_values(rows, self.fields, unknown_is_missing=unknown_is_missing)

    def write(self, rows: np.ndarray, observed: np.ndarray | bool = False) -> np.ndarray:
        """Convert numbers to values of the columns' types; dates with a time zone are in UTC.

        Cells of the mask ``observed`` are not computed.
        """
        if all(field.is_real for field in self.fields):
            return rows
        rows = nearest_possible(rows, self.fields, self.columns.is_positive, observed)
        return self.schema.to_objects(rows)

    def write_imputed(self, imputed: np.ndarray, rows: np.ndarray, X: Any) -> np.ndarray:
        """Convert imputed rows (n, n_features), with texts of X that were not in fit."""
        observed = ~np.isnan(rows[:, : self.n_features_in_])
        if self.schema.container != "array":
            imputed = np.where(observed, imputed, self.columns.on_steps(imputed))
        table = self.write(imputed, observed)
        is_text = np.array([field.holds_any_text for field in self.fields])
        unknown = np.nonzero(is_text & (rows[:, : self.n_features_in_] < 0))
        if len(unknown[0]):
            table[unknown] = cells_of(X, *(indices.tolist() for indices in unknown))
        return table


@dataclass(eq=False, repr=False, kw_only=True)
class GenerativeModel(TableModel):
    """Base class: a model that scores rows, and imputes missing values.

    Attributes
    ----------
    seed : int
        Seed of the fit.
    conditions : ConditionEncoder or None
        Encoder of y, of a model of p(x|y).
    """

    seed: int
    conditions: ConditionEncoder | None
    _kept: dict[int, Points] = dataclasses.field(default_factory=dict, init=False)

    def read_with_y(self, X: Any, y: Any) -> np.ndarray:
        """Convert rows to numbers, with codes of y behind them if it is given: (n, n)."""
        rows = self.read(X)
        return rows if y is None else np.hstack([rows, self.codes_of(y, len(rows))])

    def codes_of(self, y: Any, n_rows: int) -> np.ndarray:
        """Encode y as codes of classes and numbers: (n_rows, n_y)."""
        if self.conditions is None:
            raise ValueError("y is given, and the model was fitted with conditional=False.")
        self.conditions.check_names(column_names(y))
        return self.conditions.transform(split_columns(y, n_rows))

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

    def impute(self, X: Any, y: Any = None) -> np.ndarray:
        """Replace missing values by their means, or likeliest classes, given the observed ones.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the conditions of the rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows without missing values; objects if the model was fitted to categories.
        """
        rows = self.read_with_y(X, y)
        return self.write_imputed(self.impute_rows(rows), rows, X)

    @property
    def is_rounded(self) -> np.ndarray:
        """Mask of the columns whose type holds no means: all but those of real numbers."""
        return rounded_columns(self.fields, self.n_features_in_)

    def impute_rows(self, rows: np.ndarray) -> np.ndarray:
        """Impute rows of numbers, with codes for categories: (n, n_features).

        Codes of y may come after the columns of X.
        """
        X, y = np.split(rows, [self.n_features_in_], axis=1)
        X = without_unknown(X, self.fields)
        imputed, incomplete = X.copy(), has_missing_values(X)
        if incomplete.any():
            X, x = X[incomplete], self.encode(np.hstack([X, y])[incomplete])
            mean = self.conditional_mean(x)
            imputed[incomplete] = self.columns.fill_missing(X, mean, self.is_rounded)
        return imputed

    def imputations(self, rows: np.ndarray) -> np.ndarray:
        """Impute rows, as a table alone: (1, n, n_features)."""
        return self.impute_rows(rows)[None]

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Encode rows of numbers, of a model of p(x|y) with codes of y: (n, n_inputs)."""
        raise NotImplementedError

    def log_density(self, rows: np.ndarray, n_draws: int) -> np.ndarray:
        """Log-density of rows of numbers, in nats of their units: (n,).

        Of a model of p(x|y), codes of y come after the columns of X.
        """
        raise NotImplementedError

    def conditional_mean(self, x: np.ndarray) -> np.ndarray:
        """Mean of every column of encoded rows given the observed values: (n, n_columns)."""
        raise NotImplementedError

    def joint_log_density(
        self, rows: np.ndarray, class_prior: np.ndarray, n_draws: int
    ) -> np.ndarray:
        """Log p(x|y) + log p(y) of each class y: (n, n_features) -> (n, n_classes)."""
        with np.errstate(divide="ignore"):
            log_prior = np.log(class_prior)
        log_p = map_classes(lambda rows: self.log_density(rows, n_draws), rows, len(log_prior))
        return log_p + log_prior

    @property
    def n_noise(self) -> int:
        """Standard normal numbers per draw."""
        raise NotImplementedError

    def points(self, n_draws: int) -> Points:
        """Random numbers of the proposals, those of the estimator; of the default numbers kept."""

        def noise(n_draws: int, proposal: int) -> np.ndarray:
            seed = stream_seed(self.seed, Stream.SCORE, 0, proposal)
            return sobol_normal(n_draws, self.n_noise, seed)[None, :, None]

        points = self._kept.get(n_draws)
        if points is None:
            points = Points.make(n_draws, noise)
        if n_draws in (SCORE_DRAWS, MEAN_DRAWS):
            self._kept[n_draws] = points
        return points


def chunks(rows: np.ndarray, n_numbers: int) -> Iterator[np.ndarray]:
    """Yield chunks of rows, of which each takes so many numbers."""
    return (rows[batch] for batch in batches(len(rows), max(CHUNK_SIZE // n_numbers, 1)))


def map_classes(
    function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, n_classes: int
) -> np.ndarray:
    """Apply a function to rows with the code of each class: (n, d) -> (n, n_classes, ...)."""
    codes = np.arange(float(n_classes))
    return np.stack(
        [function(np.column_stack([rows, np.full(len(rows), code)])) for code in codes], axis=1
    )
