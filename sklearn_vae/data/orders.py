"""Pairs of columns of which one is at most the other in all rows, as starts and ends."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sklearn_vae.data.training_column import MIN_EVIDENCE
from sklearn_vae.numerics.rows import distinct, small_batches, spread_out
from sklearn_vae.persistence.validation import check_array, serializable

# Columns among which orders are looked for, and rows by which they are found, at most.
MAX_COLUMNS = 128
MAX_ROWS = 2048
# Times that all pairs are put in order with values moved beyond fixed ones, at most: between two
# fixed values this need not end.
MAX_PASSES = 16
# Relative difference that is due to rounding, in double precision.
ROUNDING = 1e-12


@serializable
@dataclass(frozen=True, eq=False)
class Orders:
    """Pairs of columns, of which the first one was never above the second one in ``fit``."""

    pairs: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), int))  # (m, 2), indices

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        check_array("pairs", self.pairs, "i", (None, 2))

    def __bool__(self) -> bool:
        return len(self.pairs) > 0

    def are_broken(self, X: np.ndarray, is_fixed: np.ndarray | None = None) -> np.ndarray:
        """Find rows with a pair that is not in order, but for fixed ones: (n, d) -> (n,)."""
        are_broken = np.zeros(len(X), dtype=bool)
        for a, b in self.pairs.tolist():
            are_broken |= _is_broken(X, a, b, is_fixed)
        return are_broken

    def restore(self, X: np.ndarray, is_fixed: np.ndarray, *, reach: float) -> None:
        """Put pairs in order, in place: values of which none is fixed change places.

        Next to a fixed value, the other one is moved beyond it, by ``reach`` times their distance:
        0 makes both equal, 1 reflects.
        """
        # each time, values pass one column at least
        for n_done in range(MAX_PASSES + len(np.unique(self.pairs))):
            if n_done == MAX_PASSES:
                reach = 0.0
            is_done = True
            for a, b in self.pairs.tolist():
                rows = np.flatnonzero(_is_broken(X, a, b, is_fixed))
                low, high = X[rows, a], X[rows, b]
                moved = reach * (high - low)
                X[rows, a] = np.where(is_fixed[rows, a], low, high + moved * is_fixed[rows, b])
                X[rows, b] = np.where(is_fixed[rows, b], high, low - moved * is_fixed[rows, a])
                is_done &= not len(rows)
            if is_done:
                return


def _is_broken(X: np.ndarray, a: int, b: int, is_fixed: np.ndarray | None) -> np.ndarray:
    """Find rows whose value in column a is above that in b, but where both are fixed: (n,).

    Rounding errors do not count, as of a part that is a difference.
    """
    low, high = X[:, a], X[:, b]
    with np.errstate(invalid="ignore"):
        is_above = low - high > ROUNDING * np.maximum(np.abs(low), np.abs(high))
    return is_above if is_fixed is None else is_above & ~(is_fixed[:, a] & is_fixed[:, b])


def find_orders(X: np.ndarray, columns: list[int], units: Sequence[object]) -> Orders:
    """Find pairs of columns that are in order in all rows with both, by more than chance.

    Columns are those with the indices ``columns``, and those of the same unit are compared, numbers
    or dates. By chance, that of independent columns, each row is in order with the probability
    that any two of their values are. Of pairs that follow from others, or that go in a circle, none
    is kept.
    """
    if not 1 < len(columns) <= MAX_COLUMNS:
        return Orders()
    rows = X[np.ix_(spread_out(len(X), MAX_ROWS), np.array(columns))]
    rows = rows[distinct(rows)]  # copies of rows are no evidence
    has_many = np.array([len(np.unique(x[~np.isnan(x)])) > 2 for x in rows.T])
    rows, indices = rows[:, has_many], np.array(columns)[has_many]
    ordered = np.sort(rows, axis=0)  # missing values are last
    n_known = (~np.isnan(rows)).sum(axis=0)
    is_often = np.zeros(2 * [len(indices)], bool)
    for a, x in enumerate(rows.T):
        candidates = ~(x[:, None] > rows).any(axis=0) & (x[:, None] < rows).any(axis=0)
        for b in np.flatnonzero(candidates).tolist():
            low = x[~(np.isnan(x) | np.isnan(rows[:, b]))]
            below = np.searchsorted(ordered[: n_known[b], b], low).mean() / n_known[b]
            is_often[a, b] = -len(low) * np.log1p(-below) >= MIN_EVIDENCE
    kinds = [units[k] for k in np.flatnonzero(has_many).tolist()]
    is_often &= np.array([[one == other for one in kinds] for other in kinds], bool)
    for batch in small_batches(X):
        for a, b in np.argwhere(is_often).tolist():
            is_often[a, b] &= not (X[batch, indices[a]] > X[batch, indices[b]]).any()
    follows = is_often.copy()
    for _ in range(len(indices).bit_length()):
        follows |= follows.astype(int) @ follows > 0
    is_often &= ~follows.T
    return Orders(indices[np.argwhere(is_often & ~(is_often.astype(int) @ follows > 0))])
