"""Target encoding: what the other rows that share a value have in the column to be predicted."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from sklearn_vae.data.arrays import as_single
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array

# Values of a column that scikit-learn's boosting tells apart, at most. A more frequent value than
# one of so many has a bin of its own there.
MAX_BINS = 255
# A column is encoded if the targets of rows that share a value are nearer to each other than those
# of rows with neighbouring values, by this part of their distance and so many standard errors, and
# if there are so many pairs of the former.
MIN_GAIN = 0.3
N_ERRORS = 5.0
MIN_PAIRS = 25
# Decimals of the means. Without rounding, the last bits of a sum that a row's own target is
# subtracted from would depend on this target.
DECIMALS = 6


@serializable
@dataclass(frozen=True, eq=False)
class TargetEncoding:
    """Target encoding of a column whose values repeat, by the rows that share its value.

    The encoding of a row is the mean target of the other rows with its value, shrunk towards 0 as
    by one more row; of a target with classes, it is the share of each class. It is NaN where there
    is no such row.

    References
    ----------
    .. [1] D. Micci-Barreca, "A Preprocessing Scheme for High-Cardinality Categorical Attributes in
       Classification and Prediction Problems", SIGKDD Explorations 3, 2001.
    """

    column: int  # column that is encoded
    values: np.ndarray  # (k,): values of the training rows, in ascending order
    counts: np.ndarray  # (k,): number of rows with each value; sample weights do not count
    totals: np.ndarray  # (k, width): sums of their targets, or numbers of rows in each of classes

    @classmethod
    def fit(
        cls, values: np.ndarray, targets: np.ndarray, column: int, n_classes: int
    ) -> Self | None:
        """Fit to training rows; None unless rows that share a value are more alike than neighbours.

        Missing values (n,) are NaN. ``targets`` (n,) are numbers, or indices of classes. Frequent
        values are left out, as boosting needs no encoding of them.
        """
        # in random order: rows that follow one another in a table may be alike for other reasons
        rows = np.random.default_rng(0).permutation(np.flatnonzero(~np.isnan(values)))
        rows = rows[values[rows].argsort(kind="stable")]
        values, targets = values[rows], targets[rows]
        _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
        if len(counts) <= MAX_BINS:
            return None
        is_rare = counts[index] * MAX_BINS <= len(values)
        # whether classes differ, or between the ranks of numbers
        ranks = targets if n_classes else np.sort(targets).searchsorted(targets)
        distance = np.abs(np.diff(ranks)).clip(max=1 if n_classes else None)
        is_shared = np.diff(index) == 0
        shared, others = distance[is_shared & is_rare[1:]], distance[~is_shared]
        if len(shared) < MIN_PAIRS:
            return None
        error = others.std() / np.sqrt(len(shared))
        if others.mean() - shared.mean() <= max(MIN_GAIN * others.mean(), N_ERRORS * error):
            return None
        unique, index, counts = np.unique(values[is_rare], return_inverse=True, return_counts=True)
        totals = np.zeros((len(unique), max(n_classes, 1)))
        np.add.at(totals, index, _to_columns(targets[is_rare], totals.shape[1]))
        return cls(column, unique, counts, totals)

    def transform(self, X: np.ndarray, left_out: np.ndarray | None = None) -> np.ndarray:
        """Encode rows (n, n_features): (n, width).

        ``left_out`` (n,) are the rows' own targets if they are training rows.
        """
        values, x = self._keys, X[:, self.column]
        x = as_single(x) if values.dtype == np.float32 else x
        index = values.searchsorted(x).clip(max=len(values) - 1)
        is_known = values[index] == x
        count, total = np.where(is_known, self.counts[index], 0), self.totals[index]
        if left_out is not None:
            count, total = count - 1, total - _to_columns(left_out, total.shape[1])
        encoded = total / np.maximum(count + 1, 1)[:, None]
        return np.where(count[:, None] > 0, encoded, np.nan).round(DECIMALS)

    @cached_property
    def _keys(self) -> np.ndarray:
        """Values in single precision if it tells them apart: rows may have either precision."""
        rounded = as_single(self.values)
        return rounded if (np.diff(rounded) > 0).all() else self.values

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        check_array("values", self.values, "f", (None,))
        check_array("counts", self.counts, "i", (len(self.values),))
        check_array("totals", self.totals, "f", (len(self.values), None))
        if not len(self.values) or (np.diff(self.values) <= 0).any() or (self.counts < 1).any():
            raise ValueError("'values' of encodings must ascend, and each be of some rows")


def _to_columns(targets: np.ndarray, width: int) -> np.ndarray:
    """Targets (n,) as a column, or as columns of 0 and 1: (n, width)."""
    columns = targets[:, None]
    return columns == np.arange(width) if width > 1 else columns
