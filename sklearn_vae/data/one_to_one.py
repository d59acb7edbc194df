"""Columns that determine each other, such as a code and its label."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from sklearn_vae.data.columns.base import find_in_order
from sklearn_vae.numerics.row_subsets import spread_out
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array

# Rows that repeat an earlier value other than the most common one, at least: with fewer, columns
# may agree by chance.
MIN_REPEATS = 10
# Rows that are compared first.
FEW_ROWS = 1024
# Encoding of a value that contradicts the source; that of one that agrees is 0.
CONTRADICTION = 1.0


@serializable
@dataclass(frozen=True, eq=False)
class OneToOne:
    """A column with one value for each value of another column, its source, and the reverse.

    Only the source has a likelihood. The derived column is a constant: its values are replaced
    by 0 where they agree with the source, and by 1 where they contradict it.

    Attributes
    ----------
    source, derived : int
        Indices of the two columns in X.
    source_values, derived_values : ndarray of shape (L,)
        Their pairs of values, those of the source in order.
    """

    source: int
    derived: int
    source_values: np.ndarray
    derived_values: np.ndarray

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        check_array("source_values", self.source_values, "f", (None,))
        check_array("derived_values", self.derived_values, "f", self.source_values.shape)
        if len(self.source_values) < 2 or not (np.diff(self.source_values) > 0).all():
            raise ValueError("'source_values' must be in order, and at least two")

    def fill(self, X: np.ndarray) -> None:
        """Replace missing values of either column by those of the other one, in place."""
        for column, values, other, other_values in (
            (self.source, self.source_values, self.derived, self.derived_values),
            (self.derived, self.derived_values, self.source, self.source_values),
        ):
            code = _look_up(X[:, other], other_values)
            is_filled = np.isnan(X[:, column]) & (code >= 0)
            X[is_filled, column] = values[code[is_filled]]

    def encode(self, X: np.ndarray) -> None:
        """Fill in the source, and replace the derived values by 0 or 1, in place."""
        is_missing = np.isnan(X[:, self.derived])
        self.fill(X)
        code = _look_up(X[:, self.derived], self.derived_values)
        agrees = (code >= 0) & (code == _look_up(X[:, self.source], self.source_values))
        X[:, self.derived] = np.where(agrees, 0, CONTRADICTION)
        X[is_missing, self.derived] = np.nan

    def decode(self, X: np.ndarray) -> None:
        """Derive the column from the source, in place; linearly between two values."""
        X[:, self.derived] = np.interp(X[:, self.source], self.source_values, self.derived_values)


def find_one_to_one(
    X: np.ndarray, sources: np.ndarray, others: np.ndarray, weight: np.ndarray | None = None
) -> list[OneToOne]:
    """Find columns that determine each other in all rows that have both.

    Each value occurs in such a row, so that missing ones are those of the other column. Columns
    with indices ``others`` may be derived from those with indices ``sources``; of several sources,
    from the first one. The weight (n,) is the number of times that each row counts.
    """
    weight = np.ones(len(X)) if weight is None else weight
    n_values = {j: len(_unique(X[:, j])) for j in np.union1d(sources, others).tolist()}
    pairs: list[OneToOne] = []
    for source, j in product(sources.tolist(), others.tolist()):
        taken = source in [pair.derived for pair in pairs] or j in [
            index for pair in pairs for index in (pair.source, pair.derived)
        ]
        if taken or source == j or n_values[source] != n_values[j]:
            continue
        few = spread_out(len(X), FEW_ROWS)
        if _find_pair(X[few], source, j, weight[few]) is None:
            continue
        pair, n_repeats = _find_pair(X, source, j, weight) or (None, 0)
        if pair and len(pair.source_values) == n_values[j] and n_repeats >= MIN_REPEATS:
            pairs.append(pair)
    return pairs


def _find_pair(
    X: np.ndarray, source: int, j: int, weight: np.ndarray
) -> tuple[OneToOne, float] | None:
    """Return the pair, if either column determines the other, and the rows that repeat values."""
    is_whole = ~np.isnan(X[:, [source, j]]).any(axis=1)
    x, y = X[is_whole][:, [source, j]].T
    values, first, codes = np.unique(x, return_index=True, return_inverse=True)
    if not (y == y[first][codes]).all() or len(np.unique(y)) != len(values):
        return None
    counts = np.bincount(codes, weight[is_whole], 1)
    n_repeats = counts.sum() - counts.max() - (len(counts) - 1)
    return OneToOne(source, j, values, y[first]), float(n_repeats)


def _unique(x: np.ndarray) -> np.ndarray:
    """Unique values, but for missing ones."""
    return np.unique(x[~np.isnan(x)])


def _look_up(X: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Indices of X among values; -1 for other X: (n,) -> (n,)."""
    order = np.argsort(values)
    index = find_in_order(X, values[order])
    return np.where(index >= 0, order[index], -1)
