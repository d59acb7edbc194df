"""Observed cells of held-out rows that are hidden: imputations are compared on them."""

from typing import NamedTuple

import numpy as np

from sklearn_vae.numerics.random import Stream, stream_seed

# Patterns of missing cells that each held-out row gets, and their share of cells if the rows of
# the fit are complete.
N_PATTERNS = 3
HIDDEN_SHARE = 1 / 3
# Share of the hidden cells that intervals of draws should cover.
COVER = 0.9
# Cells with the cover of all columns that are added to those of each column: its own are few.
CELLS_OF_ALL = 200


class HiddenCells(NamedTuple):
    """Observed cells of held-out rows that are hidden, to be imputed."""

    rows: np.ndarray  # (n, n_features)
    hidden: np.ndarray  # (n, n_features): mask of the hidden cells
    # (n, n_features): ``counts`` over the column's variance; 0 for other cells and for classes
    precision: np.ndarray
    weight: np.ndarray  # (n, n_features): ``counts``; 0 for other cells and for numbers
    counts: np.ndarray  # (n,): number of times that each row counts

    @property
    def incomplete(self) -> np.ndarray:
        """Rows without the hidden cells."""
        return np.where(self.hidden, np.nan, self.rows)

    def best_weight(self, imputed: np.ndarray, other: np.ndarray) -> float:
        """Weight from 0 to 1 of the other imputation, for the average's least squared error."""
        with np.errstate(all="ignore"):  # numbers near the largest ones overflow
            residual, difference = self.rows - imputed, other - imputed
            weight = np.nansum(self.precision * difference * residual) / np.nansum(
                self.precision * np.square(difference)
            )
        return float(np.clip(weight, 0.0, 1.0)) if np.isfinite(weight) else 0.0

    def is_nearer(self, imputed: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Mask of the columns of numbers with smaller mean absolute errors: (n_features,)."""
        with np.errstate(all="ignore"):
            errors = [np.abs(each - self.rows) for each in (imputed, other)]
            gain = np.nansum(self.precision * (errors[1] - errors[0]), axis=0)
        return gain > 0

    def cover(self, draws: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Share of each column's hidden numbers within the 90 % intervals of 20 k - 1 draws.

        They are in the columns of the mask ``columns`` (n_features,). A number that equals
        draws has any of their ranks, each as likely. The shares (n_features,) are shrunk towards
        that of all columns, which they have where no cell is hidden.
        """
        cells = (self.precision > 0) & columns
        draws, numbers = draws[:, cells], self.rows[cells]
        lowest = (draws < numbers).sum(axis=0)
        highest = lowest + (draws == numbers).sum(axis=0)
        n_outside = round((1 - COVER) / 2 * (len(draws) + 1))
        n_inside = np.minimum(highest, len(draws) - n_outside) - np.maximum(lowest, n_outside) + 1
        is_inside = np.maximum(n_inside, 0) / (highest - lowest + 1)
        column, n_columns = np.nonzero(cells)[1], cells.shape[1]
        counts = np.broadcast_to(self.counts[:, None], cells.shape)[cells]
        covered = np.bincount(column, counts * is_inside, n_columns)
        total = np.bincount(column, counts, n_columns)
        common = covered.sum() / total.sum()
        return (covered + CELLS_OF_ALL * common) / (total + CELLS_OF_ALL)

    def has_no_more_errors(self, imputed: np.ndarray, other: np.ndarray) -> bool:
        """Test whether classes are wrong no more often than in another imputation."""
        is_wrong, is_other_wrong = imputed != self.rows, other != self.rows
        return _is_no_clear_rise(self.weight * (is_wrong.astype(float) - is_other_wrong))

    def has_no_larger_errors(self, imputed: np.ndarray, other: np.ndarray) -> bool:
        """Test whether squared errors of numbers, if any are hidden, are no larger than others."""
        if not self.precision.any():
            return False
        with np.errstate(all="ignore"):  # numbers near the largest ones overflow
            squares = [np.square(each - self.rows) for each in (imputed, other)]
            return _is_no_clear_rise(np.nan_to_num(self.precision * (squares[0] - squares[1])))


def _is_no_clear_rise(differences: np.ndarray) -> bool:
    """Test whether the sum of differences is at most its standard error, or negative."""
    return bool(differences.sum() <= np.sqrt(np.square(differences).sum()))


def hide_cells(
    rows: np.ndarray,
    weight: np.ndarray | None,
    indices: np.ndarray,
    counts: np.ndarray,
    seed: int,
    *,
    is_number: np.ndarray,
    is_class: np.ndarray | None,
) -> HiddenCells:
    """Hide those cells of held-out rows that are missing in other rows, drawn at random.

    ``weight`` (n,) are those of all rows (n, n_features); ``indices`` (m,) are the held-out ones,
    and ``counts`` (m,) their weights. Cells are hidden in the columns of the masks ``is_number``
    and ``is_class`` (n_features,). With classes, a row ends with as many missing cells as the
    row that its pattern is from, and with one more if all rows miss equally many.
    """
    with np.errstate(all="ignore"):  # numbers near the largest ones overflow
        cells = np.where(np.isnan(rows), 0.0, 1.0 if weight is None else weight[:, None])
        total = np.maximum(cells.sum(axis=0), 1.0)
        mean = np.nansum(cells * rows, axis=0) / total
        variance = np.nansum(cells * np.square(rows - mean), axis=0) / total
    patterns = np.isnan(rows)
    patterns = patterns[patterns.any(axis=1)]
    if not len(patterns):
        generator = np.random.default_rng(stream_seed(seed, Stream.INPUT))
        patterns = generator.random(rows.shape) < HIDDEN_SHARE
    generator = np.random.default_rng(stream_seed(seed, Stream.MASK))
    indices, counts = np.tile(indices, N_PATTERNS), np.tile(counts, N_PATTERNS)
    rows = rows[indices]
    pattern = patterns[generator.integers(len(patterns), size=len(rows))]
    may_hide = is_number if is_class is None else is_number | is_class
    hidden = pattern & ~np.isnan(rows) & may_hide
    class_weight = np.zeros(rows.shape)
    if is_class is not None:
        n_hidden = pattern.sum(axis=1) - np.isnan(rows).sum(axis=1)
        if (n_hidden <= 0).all():  # every row has as many missing cells
            n_hidden = np.ones_like(n_hidden)
        order = np.where(hidden, generator.random(hidden.shape), 1.0)
        hidden &= order.argsort(axis=1).argsort(axis=1) < n_hidden[:, None]
        class_weight = np.where(hidden & is_class, counts[:, None], 0.0)
    with np.errstate(all="ignore"):
        precision = np.where(hidden & is_number & (variance > 0), counts[:, None] / variance, 0.0)
    return HiddenCells(rows, hidden, precision, class_weight, counts)
