"""Pairs of columns of which one is at most the other in all rows, as starts and ends."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sklearn_vae.data.training_column import MIN_EVIDENCE
from sklearn_vae.numerics.row_subsets import small_batches, spread_out
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array

# Columns among which orders are looked for, and rows by which they are found, at most.
MAX_COLUMNS = 128
MAX_ROWS = 2048
# Times that all pairs are put in order with values moved beyond fixed ones, at most: between two
# fixed values this need not end.
MAX_PASSES = 16


def _no_columns() -> np.ndarray:
    return np.zeros(0, dtype=int)


@serializable
@dataclass(frozen=True, eq=False)
class Orders:
    """Pairs of columns, of which the first one was never above the second one in ``fit``."""

    low: np.ndarray = field(default_factory=_no_columns)  # (m,), indices of the first columns
    high: np.ndarray = field(default_factory=_no_columns)  # (m,), of the second columns

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        check_array("low", self.low, "i", (None,))
        check_array("high", self.high, "i", self.low.shape)

    def __bool__(self) -> bool:
        return len(self.low) > 0

    @property
    def columns(self) -> np.ndarray:
        """Indices of the columns in a pair."""
        return np.union1d(self.low, self.high)

    def are_broken(self, X: np.ndarray, is_fixed: np.ndarray | None = None) -> np.ndarray:
        """Find rows with a pair that is not in order, but for fixed ones: (n, d) -> (n,)."""
        are_broken = np.zeros(len(X), dtype=bool)
        for a, b in self._pairs():
            is_broken = X[:, a] > X[:, b]
            if is_fixed is not None:
                is_broken &= ~(is_fixed[:, a] & is_fixed[:, b])
            are_broken |= is_broken
        return are_broken

    def restore(self, X: np.ndarray, is_fixed: np.ndarray, *, reach: float) -> None:
        """Put pairs in order, in place: values of which none is fixed change places.

        Next to a fixed value, the other one is moved beyond it, by ``reach`` times their distance:
        0 makes both equal, 1 reflects.
        """
        for n_done in range(
            MAX_PASSES + len(self.columns)
        ):  # each time, values pass one column at least
            if n_done == MAX_PASSES:
                reach = 0.0
            is_done = True
            for a, b in self._pairs():
                rows = np.flatnonzero((X[:, a] > X[:, b]) & ~(is_fixed[:, a] & is_fixed[:, b]))
                low, high = X[rows, a], X[rows, b]
                moved = reach * (high - low)
                X[rows, a] = np.where(is_fixed[rows, a], low, high + moved * is_fixed[rows, b])
                X[rows, b] = np.where(is_fixed[rows, b], high, low - moved * is_fixed[rows, a])
                is_done &= not len(rows)
            if is_done:
                return

    def _pairs(self) -> list[tuple[int, int]]:
        return list(zip(self.low.tolist(), self.high.tolist(), strict=True))


def find_orders(X: np.ndarray, columns: list[int], units: Sequence[object]) -> Orders:
    """Find pairs of columns that are in order in all rows with both, by more than chance.

    Columns are those with the indices ``columns``, and those of the same unit are compared, numbers
    or dates. By chance, that of independent columns, each row
    is in order with the probability that any two of their values are. Of pairs that follow from
    others, none is kept.
    """
    if not 1 < len(columns) <= MAX_COLUMNS:
        return Orders()
    indices = np.array(columns)
    rows = X[np.ix_(spread_out(len(X), MAX_ROWS), indices)]
    rows = np.unique(rows, axis=0)  # copies of rows are no evidence
    is_often = np.zeros(2 * [len(columns)], bool)
    for a, x in enumerate(rows.T):
        candidates = ~(x[:, None] > rows).any(axis=0)
        candidates[a] = False
        candidates &= np.array([unit == units[a] for unit in units])
        for b in np.flatnonzero(candidates).tolist():
            is_often[a, b] = _evidence(x, rows[:, b]) >= MIN_EVIDENCE
    for batch in small_batches(X):
        for a, b in np.argwhere(is_often).tolist():
            is_often[a, b] &= not (X[batch, columns[a]] > X[batch, columns[b]]).any()
    follows = is_often.astype(int) @ is_often > 0
    low, high = np.nonzero(is_often & ~follows)
    return Orders(indices[low], indices[high])


def _evidence(low: np.ndarray, high: np.ndarray) -> float:
    """Evidence in nats against two independent columns that are in order in each row by chance.

    Columns of two values are none, and those of equal values are not in order, but equal.
    """
    is_known = ~(np.isnan(low) | np.isnan(high))
    low, high = low[is_known], high[is_known]
    has_two = min(len(np.unique(low)), len(np.unique(high))) <= 2
    if has_two or (low == high).all():
        return 0.0
    n_below = np.searchsorted(np.sort(high), low)
    return -len(low) * float(np.log1p(-n_below.mean() / len(high)))
