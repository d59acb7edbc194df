"""Columns that determine each other, such as a code and its label."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sklearn_vae.data.columns.base import find_in_order
from sklearn_vae.data.many_to_one import Followers
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array

# Rows that repeat an earlier value other than the most common one, at least: with fewer, columns
# may agree by chance.
MIN_REPEATS = 10
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
    X: np.ndarray, followers: Iterable[Followers], others: list[int]
) -> list[OneToOne]:
    """Find columns that determine each other in all rows that have both.

    Each value occurs in such a row, so that missing ones are those of the other column. Columns
    with indices ``others`` may be derived from those that they follow from; of several, from the
    first one.
    """
    pairs: list[OneToOne] = []
    for relation, counts in followers:
        for j, values, n_rows in zip(
            relation.labels.tolist(), relation.values.T, counts.T, strict=True
        ):
            source, derived = relation.code, [pair.derived for pair in pairs]
            is_used = {source, j} & {*derived} or j in [pair.source for pair in pairs]
            if is_used or j not in others or not _is_one_to_one(X[:, [source, j]], values):
                continue
            if n_rows.sum() - n_rows.max() - (len(n_rows) - 1) >= MIN_REPEATS:
                pairs.append(OneToOne(source, j, relation.codes, values))
    return pairs


def _is_one_to_one(X: np.ndarray, values: np.ndarray) -> bool:
    """Return whether codes, the first column, follow from labels, the second, by their values.

    Two values, or one in most rows, may agree by chance where other cells are missing.
    """
    missing, n_values = np.isnan(X), len(values)
    is_unique = len(np.unique(values)) == n_values and not np.isnan(values).any()
    if not is_unique or len(np.unique(X[~missing[:, 1], 1])) > n_values:
        return False
    return 2 < n_values < len(X) / 2 or bool((missing[:, 0] == missing[:, 1]).all())


def _look_up(X: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Indices of X among values; -1 for other X: (n,) -> (n,)."""
    order = np.argsort(values)
    index = find_in_order(X, values[order])
    return np.where(index >= 0, order[index], -1)
