"""Columns that determine each other, such as a code and its label."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, permutations

import numpy as np

from sklearn_vae.data.recording import ROUNDING
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array

# Rows that repeat an earlier value other than the most common one, at least: with fewer, columns
# may agree by chance.
MIN_REPEATS = 10
# Columns with holes and as many values as each other that are compared, at most.
MAX_ALIKE = 32
# Rows that are compared first.
SUBSAMPLE_SIZE = 1024
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
    pairs: list[OneToOne] = []
    columns = np.union1d(sources, others).tolist()
    for alike in _group_alike(X[:SUBSAMPLE_SIZE], columns):
        for group in _group_alike(X, alike):
            source = next((j for j in group if j in sources), None)
            if source is not None:
                derived = (j for j in group if j != source and j in others)
                pairs += [pair for j in derived for pair in _pair(X, source, j, weight)]
    taken = {pair.derived for pair in pairs}
    free = [j for j in columns if j not in taken]
    for source, j in _pairs_with_holes(X, free, sources, others):
        if not {source, j} & taken:
            found = _pair(X, source, j, weight)
            pairs, taken = pairs + found, taken | {pair.derived for pair in found}
    return pairs


def _pair(X: np.ndarray, source: int, j: int, weight: np.ndarray | None) -> list[OneToOne]:
    """Return the pair, or none where repeated values are too few to tell it from chance."""
    is_whole = ~np.isnan(X[:, [source, j]]).any(axis=1)
    values, first, codes = np.unique(X[is_whole, source], return_index=True, return_inverse=True)
    counts = np.bincount(codes, None if weight is None else weight[is_whole])
    if counts.sum() - counts.max() - (len(counts) - 1) < MIN_REPEATS:
        return []
    return [OneToOne(source, j, values, X[is_whole, j][first])]


def _pairs_with_holes(
    X: np.ndarray, columns: Iterable[int], sources: np.ndarray, others: np.ndarray
) -> Iterator[tuple[int, int]]:
    """Yield columns that determine each other where both have values, and either misses some.

    Not of two values, nor among many columns of as many values as each other.
    """
    by_number: dict[int, list[int]] = {}
    for j in columns if np.isnan(X).any() else ():
        values = np.unique(X[:, j])
        by_number.setdefault(int((~np.isnan(values)).sum()), []).append(j)
    for n_values, alike in by_number.items():
        if not 2 < n_values < len(X) / 2 or len(alike) > MAX_ALIKE:
            continue
        for source, j in permutations(alike, 2):
            is_whole = ~np.isnan(X[:, [source, j]]).any(axis=1)
            if source not in sources or j not in others or is_whole.all():
                continue
            both = np.unique(X[is_whole][:, [source, j]], axis=0)
            if n_values == len(both) == len(np.unique(both[:, 0])) == len(np.unique(both[:, 1])):
                yield source, j


def _group_alike(X: np.ndarray, columns: Iterable[int]) -> list[list[int]]:
    """Group columns whose values are equal in the same pairs of rows; groups of at least two."""
    keys = {j: _codes(X[:, j]).tobytes() for j in columns}
    groups = groupby(sorted(keys, key=lambda j: (keys[j], j)), key=keys.__getitem__)
    return [alike for _, group in groups if len(alike := list(group)) > 1]


def _codes(values: np.ndarray) -> np.ndarray:
    """Number values by their first rows; -1 where they are missing: (n,) -> (n,)."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.where(np.isnan(values), -1, np.argsort(np.argsort(first))[inverse])


def _look_up(X: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Indices of X among values, up to rounding errors; -1 for other X: (n,) -> (n,)."""
    rounding = max(ROUNDING, np.finfo(X.dtype).eps, np.finfo(values.dtype).eps)
    order = np.argsort(values)
    X, ordered = X.astype(np.float64), values[order].astype(np.float64)
    above = np.searchsorted(ordered, X).clip(1, len(ordered) - 1)
    with np.errstate(over="ignore"):
        nearest = above - (X - ordered[above - 1] < ordered[above] - X)
        tolerance = np.minimum(rounding * np.abs(ordered[nearest]), np.diff(ordered).min() / 4)
        is_near = np.abs(ordered[nearest] - X) <= tolerance
    return np.where(is_near, order[nearest], -1)
