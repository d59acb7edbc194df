"""Rows that are scored relative to reference rows.

A row that is itself a reference row is not its own neighbour, and its score by the model is
corrected (see ``ModelScore``). So training rows and new rows have scores of the same distribution.

scipy and scikit-learn are not imported at the top.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sklearn_vae.data.columns.binary import BinaryColumns, OneHotColumns
from sklearn_vae.data.columns.categories import CategoricalColumns
from sklearn_vae.data.fields import UNKNOWN, Field
from sklearn_vae.numerics.rows import repetitions, spread_out

if TYPE_CHECKING:
    from sklearn_vae.data.table_encoder import TableEncoder
    from sklearn_vae.inference.fitted_models import FittedVAE

# Largest number of reference rows, where time would grow with pairs of rows.
MAX_REFERENCE = 2000
CLASSES = BinaryColumns, OneHotColumns, CategoricalColumns
# Largest difference of equal rows, in interquartile ranges, by bytes per number. A PCA before the
# detector rounds by the batch, and in its ``fit_transform`` in another way than later.
MAX_ROUNDING = {4: 1e-5, 8: 1e-12}
MISSING = -1e6  # number of these ranges in the place of a missing value
# Models that were fitted to some of the rows, and the masks (n,) of all others.
Folds = Sequence[tuple["FittedVAE", np.ndarray]]


@dataclass(eq=False, repr=False)
class ScoredRows:
    """Rows with their coordinates, computed lazily."""

    X: np.ndarray  # (n, n_features), in their own units
    columns: "TableEncoder"  # standardization of the columns in distances
    model: "FittedVAE"
    # by default the rows themselves
    reference: "ScoredRows" = None  # type: ignore[assignment]
    folds: "Folds" = field(default=(), kw_only=True)
    # whether a row that equals a reference row is another row, not that one
    are_new: bool = field(default=False, kw_only=True)
    rounding: float = field(default=MAX_ROUNDING[8], kw_only=True)

    def __post_init__(self) -> None:
        if self.reference is None:
            self.reference = self

    def __len__(self) -> int:
        return len(self.X)

    def select(self, indices: np.ndarray | slice) -> "ScoredRows":
        """Rows at the indices, with the same reference."""
        return replace(self, X=self.X[indices], folds=())

    def split(self, model: "FittedVAE", is_new: np.ndarray) -> tuple["ScoredRows", "ScoredRows"]:
        """Split rows into new ones and their reference, to which another model was fitted.

        Classes that new rows alone have are ``UNKNOWN``.
        """
        reference = ScoredRows(self.X[~is_new], self.columns, model)
        new = ScoredRows(self.X[is_new], self.columns, model, reference)
        for j in np.flatnonzero(self.columns.mask(CategoricalColumns)).tolist():
            reference.mark_unknown(new.X, j)
        return new, reference

    def match(self, X: np.ndarray, fields: Sequence[Field], *, may_be_new: bool) -> "ScoredRows":
        """Rows (n, n_features) whose reference are these, in double precision.

        Classes that these rows do not have, as a dtype may declare them, are ``UNKNOWN``.
        ``fields`` are the columns', none of an array. Rows that often equal these ``may_be_new``.
        """
        X, rounding = X.astype(np.float64), MAX_ROUNDING[X.dtype.itemsize]
        for j in (j for j, f in enumerate(fields) if f.logical_type in ("boolean", "category")):
            self.mark_unknown(X, j)
        are_new = may_be_new and self.are_often_repeated
        return ScoredRows(X, self.columns, self.model, self, are_new=are_new, rounding=rounding)

    def mark_unknown(self, X: np.ndarray, column: int) -> None:
        """Replace classes of a column that these rows do not have, in place: (n, n_features)."""
        is_seen = np.isin(X[:, column], self.value_counts[column][0]) | np.isnan(X[:, column])
        X[~is_seen, column] = UNKNOWN

    @cached_property
    def inputs(self) -> np.ndarray:
        """Standardized rows: (n, n_inputs).

        Different classes have a distance of sqrt(2). Missing values are imputed by the model, and
        rounded: equal ones are ties whatever the other rows of the batch are. Behind, a column that
        is constant, of categories or of logarithms has a number that is 0, or 1 / sigma for an
        unseen value: the standard deviation if one value of n + 2 is unseen (Laplace's rule of
        succession), and one more for each class that a single reference row has (Good-Turing).
        """
        columns = self.columns
        n_new = np.ones(self.X.shape[1])  # expected in n + 2 rows
        for j, classes in self.reference.unique_classes.items():
            n_new[j] += len(classes)
        X, is_unseen = self.as_new, columns.is_unseen(self.as_new)
        unseen = np.exp(-columns.log_unseen / 2) / np.sqrt(n_new) * is_unseen
        unseen = unseen[:, columns.has_discrete_values | columns.is_positive]
        values = columns.transform(X)
        is_missing = np.isnan(values)
        rows = np.flatnonzero(is_missing.any(axis=1))
        if len(rows):
            X = np.where(is_unseen[rows], np.nan, X[rows])
            values[rows] = np.nan_to_num(columns.transform(self.model.fill(X)))  # logs of 0
        values *= columns.distance_scale[columns.column_of_input]
        values[is_missing] = values[is_missing].round(10)
        return np.hstack([values, unseen])

    @cached_property
    def class_columns(self) -> np.ndarray:
        """Indices of the k columns of X that are Booleans or have at most 128 categories: (k,)."""
        columns = np.flatnonzero(self.columns.mask(*CLASSES))
        n_values = [len(self.reference.value_counts[j][0]) for j in columns]
        return columns[np.array(n_values, dtype=int) <= 128]

    @cached_property
    def classes(self) -> np.ndarray:
        """Indices of classes among the values that the reference has in the column: (n, k)."""
        classes = []
        for j in self.reference.class_columns:
            values, x = self.reference.value_counts[j][0], self.X[:, j]
            position = np.minimum(values.searchsorted(x), len(values) - 1)
            nearest = values[position]
            is_found = (nearest == x) | (np.isnan(nearest) & np.isnan(x))
            classes.append(np.where(is_found, position, len(values)))  # of a new one, the last
        return np.stack(classes, axis=1)

    @cached_property
    def groups(self) -> np.ndarray:
        """Groups of rows: all, by columns of classes, by fifths of others: (n, n_groupings)."""
        columns = np.flatnonzero(~self.columns.mask(*CLASSES))
        pairs = zip(self.reference.fifths.T, self.X[:, columns].T, strict=True)
        # missing values are a group behind
        fifths = [bounds.searchsorted(x, side="right") for bounds, x in pairs]
        return np.column_stack([np.zeros(len(self), dtype=int), self.classes, *fifths])

    @cached_property
    def fifths(self) -> np.ndarray:
        """Lower bounds of four fifths of each column without classes, and infinity: (5, f)."""
        X = np.sort(self.X[:, ~self.columns.mask(*CLASSES)], axis=0)
        index = (np.arange(1, 5)[:, None] / 5 * (~np.isnan(X)).sum(axis=0)).astype(int)
        bounds = np.take_along_axis(X, index, axis=0)
        return np.vstack([np.nan_to_num(bounds, nan=np.inf), np.full(X.shape[1], np.inf)])

    @cached_property
    def as_new(self) -> np.ndarray:
        """Rows as if they were new: a class that no other reference row has is ``UNKNOWN``.

        The reference rows as a whole are not changed.
        """
        if self is self.reference or not self.reference.unique_classes:
            return self.X
        X, is_reference = self.X.copy(), self.reference_indices >= 0
        for j, classes in self.reference.unique_classes.items():
            X[is_reference & np.isin(X[:, j], classes), j] = UNKNOWN
        return X

    @cached_property
    @np.errstate(over="ignore")
    def reference_indices(self) -> np.ndarray:
        """Index of each row among the reference rows, but for rounding, -1 for a new row: (n,)."""
        if self.are_new:
            return np.full(len(self), -1)
        tree, indices, unit = self.reference.tree
        x = np.nan_to_num(self.X / unit, nan=MISSING)
        return indices[tree.query(x, p=np.inf, distance_upper_bound=self.rounding)[1]]

    @cached_property
    def normal_scores(self) -> np.ndarray:
        """Standardized rows with normal scores in place of numbers: (n, n_inputs)."""
        return self._with_numbers(NormalScores.score)

    @cached_property
    def deviations(self) -> np.ndarray:
        """Standardized rows with deviations from the median in place of numbers: (n, n_inputs).

        If the rows are not the reference rows as a whole, those among them are compared to all
        others, as a new row is.
        """
        is_itself = (self.reference_indices >= 0) & (self is not self.reference)
        return self._with_numbers(lambda column, x: column.deviation(x, is_itself))

    def _with_numbers(self, transform: Callable[..., np.ndarray]) -> np.ndarray:
        """Standardized rows with their columns of numbers transformed: (n, n_inputs)."""
        rows = self.inputs.copy()
        for j, column in self.reference.numbers_of_columns.items():
            rows[:, j] = transform(column, self.inputs[:, j])
        return rows

    @cached_property
    def numbers_of_columns(self) -> dict[int, "NormalScores"]:
        """Normal scores of these rows' numbers, by the index of a column of ``inputs``."""
        numbers = self.columns.inputs_of_numbers.tolist()
        return {j: NormalScores(self.inputs[:, j]) for j in numbers}

    @cached_property
    def class_counts(self) -> list[tuple[int, np.ndarray]]:
        """Of each column of classes, the groups that tell it best, and its classes' counts there.

        They are the column of ``groups`` in which some of these rows have the least mean surprisal,
        each by the frequencies of all others; and the counts (groups, classes), of new ones last.
        """
        groups, sizes = self.groups, self.groups.max(axis=0) + 2
        starts, some = sizes.cumsum() - sizes, spread_out(len(self), MAX_REFERENCE)
        codes = np.zeros((len(some), sizes.sum()))
        codes[np.arange(len(some))[:, None], (groups + starts)[some]] = 1
        found = []
        for k in range(1, len(self.class_columns) + 1):
            counts = codes.T @ codes[:, starts[k] : starts[k] + sizes[k]]
            frequency = (counts[0] - 1 + 1 / sizes[k]) / len(some)
            p = (counts - 1 + frequency) / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            surprisal = -(counts * np.log(np.maximum(p, np.finfo(float).tiny))).sum(axis=1)
            mean = np.add.reduceat(surprisal, starts)
            mean[k] = np.inf
            best = int(mean.argmin())
            counts = np.zeros((sizes[best], sizes[k]))
            np.add.at(counts, (groups[:, best], groups[:, k]), 1)
            found.append((best, counts))
        return found

    @cached_property
    def value_counts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Ascending values of each column of X, NaN last, and their counts."""
        return [np.unique(x, return_counts=True) for x in self.X.T]

    @cached_property
    def unique_classes(self) -> dict[int, np.ndarray]:
        """Classes that one row alone has, by the index of a column of three or more classes."""
        columns = np.flatnonzero(self.columns.mask(CategoricalColumns)).tolist()
        values_and_counts = ((j, *self.value_counts[j]) for j in columns)
        unique = {j: x[(counts == 1) & ~np.isnan(x)] for j, x, counts in values_and_counts}
        return {j: classes for j, classes in unique.items() if len(classes)}

    @cached_property
    @np.errstate(over="ignore")
    def tree(self) -> tuple[Any, np.ndarray, np.ndarray]:
        """Tree of the different rows, their indices in order, -1 behind, and units of columns."""
        from scipy.spatial import cKDTree

        low, high = np.quantile(np.nan_to_num(self.X) / 2, [0.25, 0.75], axis=0, method="lower")
        unit = np.where(high > low, high - low, 1)
        x = np.nan_to_num(self.X / unit, nan=MISSING)
        indices = sorted({row.tobytes(): i for i, row in enumerate(x)}.values())
        return cKDTree(x[indices], balanced_tree=False), np.array([*indices, -1]), unit

    @cached_property
    def different(self) -> np.ndarray:
        """Indices of all rows, or of one of equal rows where all were repeated, in order."""
        is_repeated = repetitions(self.X, np.ones(len(self))) > 1
        return self.tree[1][:-1] if is_repeated else np.arange(len(self))

    @cached_property
    def are_often_repeated(self) -> bool:
        """Whether so many rows are repeated that a new row may well equal one of them."""
        counts = np.bincount(self.reference_indices)
        return bool(counts[counts > 1].sum() > 0.01 * len(self))


class NormalScores:
    """Normal scores of the reference rows' numbers in a column, and deviations from their median.

    The normal score of a number is the standard normal quantile of its mid-rank [1]_. It is linear
    between the reference values, and beyond them has the slope of the standardized number. Scores
    are divided by their standard deviation. ``x`` (n,) are the standardized numbers.

    References
    ----------
    .. [1] H. Liu, J. Lafferty and L. Wasserman, "The Nonparanormal: Semiparametric Estimation
       of High Dimensional Undirected Graphs", JMLR 10, 2009.
    """

    def __init__(self, x: np.ndarray):
        from scipy.special import ndtri

        self.values, counts = np.unique(x, return_counts=True)
        frequency = counts / counts.sum()
        self.quantiles = ndtri(frequency.cumsum() - 0.5 * frequency)
        variance = frequency @ np.square(self.quantiles) - (frequency @ self.quantiles) ** 2
        self.scale = np.sqrt(variance) if variance > 0 else 1.0
        from_middle = np.abs(self.quantiles)
        is_middle = from_middle <= from_middle.min() + 1e-9  # two of an even number
        self.median = self.values[is_middle].mean()
        self.median_score = self.quantiles[is_middle].mean() / self.scale
        self.n_rows, self.mean = len(x), x.mean()
        self.squares = np.square(x - self.mean).sum()

    def score(self, x: np.ndarray) -> np.ndarray:
        """Normal scores: (n,) -> (n,)."""
        score = np.interp(x, self.values, self.quantiles)
        return (score + x - x.clip(self.values[0], self.values[-1])) / self.scale

    def deviation(self, x: np.ndarray, is_itself: np.ndarray) -> np.ndarray:
        """Deviations from the median: (n,), (n,) -> (n,).

        They are in standard deviations or in normal scores, whichever is larger, as normal scores
        are where a few extreme values make the standard deviation large. That of a reference row
        (``is_itself``) is of all others, which a value far out does not enlarge.
        """
        ratio = self.n_rows / max(self.n_rows - 1, 1)
        own = ratio * np.square(x - self.mean) / (self.squares if self.squares > 0 else 1.0)
        # as a share of that of all rows; less is a rounding error
        unit = np.sqrt(ratio * np.maximum(1 - own, 1e-12))
        score = self.score(x) - self.median_score
        x = (x - self.median) / np.where(is_itself, unit, 1.0)
        return np.where(np.abs(x) > np.abs(score), x, score)


def is_symmetric_as_logarithms(x: np.ndarray) -> bool:
    """Whether the logarithms of positive numbers are more symmetric than the numbers: (n,).

    Tails do not count, which may be gross errors.
    """
    low, median, high = np.nanquantile(x, [0.1, 0.5, 0.9])
    return bool(2 * median < (low + high) / 2 + np.sqrt(low * high))
