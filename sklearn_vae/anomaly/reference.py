"""Reference rows: distinct rows with counts, from sample weights, and random subsets of them."""

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    import torch

# Fraction of repeated training rows from which on a new row may well equal a training row.
MAX_REPEATED_FRACTION = 0.01


class CountedRows(NamedTuple):
    """Rows and the number of times that each one occurs.

    Attributes
    ----------
    X : ndarray of shape (n, n_features)
        The rows.
    counts : ndarray of shape (n,), int, or None
        Multiplicities; None if each row occurs once.
    """

    X: np.ndarray
    counts: np.ndarray | None

    @property
    def n_rows(self) -> int:
        """Number of rows, each as often as it occurs."""
        return len(self.X) if self.counts is None else int(self.counts.sum())

    @classmethod
    def from_weights(
        cls, X: np.ndarray, weights: np.ndarray | None, min_rows: int, max_rows: int
    ) -> Self:
        """Round weights to counts by systematic resampling.

        A count differs from its weight by less than 1 if the counts add up to the sum of the
        weights. That sum is first clipped to ``min_rows`` and to ``max_rows``, or to the number
        of rows if that is larger.
        """
        if weights is None:
            return cls(X, None)
        n_rows = np.clip(np.round(weights.sum()), min_rows, max(len(X), max_rows))
        ends = np.round(weights.cumsum() * (n_rows / weights.sum())).astype(int)
        return cls(X, None)._counted(np.diff(ends, prepend=0))

    def unique(self) -> Self:
        """Distinct rows in lexicographic order, with their counts."""
        X, missing = self.X + 0.0, np.isnan(self.X)  # no -0.0
        if missing.any():  # NaN is no number that could be ordered
            keys = np.hstack([np.where(missing, 0, X), missing])
            _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
            X = X[first]
        else:
            X, inverse = np.unique(X, axis=0, return_inverse=True)
        return type(self)(X, None)._counted(np.bincount(inverse.ravel(), self.counts).astype(int))

    def select(self, indices: np.ndarray) -> Self:
        """Rows at the indices, with their counts."""
        counts = None if self.counts is None else self.counts[indices]
        return type(self)(self.X[indices], counts)

    def split(self, n_drawn: int, generator: "torch.Generator") -> tuple[Self, Self]:
        """Split at random into ``n_drawn`` rows, by their counts, and all others, both in order."""
        import torch

        index = np.repeat(np.arange(len(self.X)), 1 if self.counts is None else self.counts)
        order = torch.randperm(len(index), generator=generator).numpy()
        drawn, left = (
            np.bincount(index[part], minlength=len(self.X))
            for part in (order[:n_drawn], order[n_drawn:])
        )
        return self._counted(drawn), self._counted(left)

    def _counted(self, counts: np.ndarray) -> Self:
        """Rows with other counts, without those of count 0."""
        is_kept = counts > 0
        has_counts = (counts > 1).any()
        return type(self)(self.X[is_kept], counts[is_kept] if has_counts else None)


def are_often_repeated(counts: np.ndarray | None) -> bool:
    """Return whether repeated rows are so many that a new row may well equal a reference row."""
    if counts is None:
        return False
    return bool(counts[counts > 1].sum() > MAX_REPEATED_FRACTION * counts.sum())
