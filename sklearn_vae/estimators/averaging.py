"""Fit what VAEImputer averages its model with: boosted trees, weighted on cells that are hidden."""

from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from sklearn_vae.estimators.base import MIN_ROWS_TO_VALIDATE
from sklearn_vae.estimators.transformer import VAETransformer
from sklearn_vae.imputation import BoostedTrees, find_shift, fit_boosted_trees
from sklearn_vae.inference.log_density import MEAN_DRAWS
from sklearn_vae.likelihoods import Gaussian, Ordinal
from sklearn_vae.numerics.random import Stream, make_generator, stream_seed

# Rows of tables whose trees are fitted to imputed rows, and draws spread, at most.
MAX_ROWS_TO_IMPUTE = 5_000


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
        residual, difference = self.rows - imputed, other - imputed
        weight = np.nansum(self.precision * difference * residual) / np.nansum(
            self.precision * np.square(difference)
        )
        return float(np.clip(weight, 0.0, 1.0)) if np.isfinite(weight) else 0.0

    def is_nearer(self, imputed: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Mask of the columns of numbers with smaller mean absolute errors: (n_features,)."""
        errors = [np.abs(each - self.rows) for each in (imputed, other)]
        return np.nansum(self.precision * (errors[1] - errors[0]), axis=0) > 0

    def cover(self, draws: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Share of each column's hidden numbers within the 90 % intervals of 20 k - 1 draws.

        Of columns of the mask ``columns`` (n_features,), shares (n_features,) are shrunk towards
        that of all, as by 200 more cells: a column's own are few. A number that equals draws has
        any of their ranks, each as likely.
        """
        cells = (self.precision > 0) & columns
        draws, numbers = draws[:, cells], self.rows[cells]
        lowest = (draws < numbers).sum(axis=0)
        highest = lowest + (draws == numbers).sum(axis=0)
        n_outside = (len(draws) + 1) // 20
        n_inside = np.minimum(highest, len(draws) - n_outside) - np.maximum(lowest, n_outside) + 1
        is_inside = np.maximum(n_inside, 0) / (highest - lowest + 1)
        column, n_columns = np.nonzero(cells)[1], cells.shape[1]
        counts = np.broadcast_to(self.counts[:, None], cells.shape)[cells]
        covered = np.bincount(column, counts * is_inside, n_columns)
        total = np.bincount(column, counts, n_columns)
        common = covered.sum() / total.sum()
        return (covered + 200 * common) / (total + 200)

    def has_no_more_errors(self, imputed: np.ndarray, other: np.ndarray) -> bool:
        """Test whether classes are wrong no more often than in another imputation."""
        is_wrong, is_other_wrong = imputed != self.rows, other != self.rows
        return _is_no_clear_rise(self.weight * (is_wrong.astype(float) - is_other_wrong))

    def has_no_larger_errors(self, imputed: np.ndarray, other: np.ndarray) -> bool:
        """Test whether squared errors of numbers, if any are hidden, are no larger than others."""
        if not self.precision.any():
            return False
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
    is_number: np.ndarray,
    is_class: np.ndarray,
) -> HiddenCells:
    """Hide those cells of held-out rows that are missing in other rows, drawn at random.

    Each held-out row is there three times. If all rows are complete, one in three cells is hidden.
    Of all rows, with weights (n,), ``indices`` (m,) are the held-out ones, ``counts`` (m,) their
    weights. Cells are hidden in the columns of the masks ``is_number`` and ``is_class``.
    """
    cells = np.where(np.isnan(rows), 0.0, 1.0 if weight is None else weight[:, None])
    total = np.maximum(cells.sum(axis=0), 1.0)
    mean = np.nansum(cells * rows, axis=0) / total
    variance = np.nansum(cells * np.square(rows - mean), axis=0) / total
    patterns = np.isnan(rows)
    patterns = patterns[patterns.any(axis=1)]
    if not len(patterns):
        generator = np.random.default_rng(stream_seed(seed, Stream.INPUT))
        patterns = generator.random(rows.shape) < 1 / 3
    generator = np.random.default_rng(stream_seed(seed, Stream.MASK))
    indices, counts = np.tile(indices, 3), np.tile(counts, 3)
    rows = rows[indices]
    pattern = patterns[generator.integers(len(patterns), size=len(rows))]
    hidden = pattern & ~np.isnan(rows) & (is_number | is_class)
    class_weight = np.where(hidden & is_class, counts[:, None], 0.0)
    precision = np.where(hidden & is_number & (variance > 0), counts[:, None] / variance, 0.0)
    return HiddenCells(rows, hidden, precision, class_weight, counts)


class AverageFitter:
    """Fits trees of a VAEImputer to the validated rows that its model was fitted to.

    ``first_weights`` are the model's weights before the refit: they have not seen held-out rows.
    """

    def __init__(
        self,
        imputer: Any,
        first_weights: dict[str, np.ndarray],
        rows: np.ndarray,
        weight: np.ndarray | None,
    ):
        self.imputer, self.rows, self.weight = imputer, rows, weight
        self.model: VAETransformer = imputer.estimator_
        self.first_model = copy(self.model)
        self.first_model.state_dict_ = first_weights
        columns = self.model.columns_
        self.likelihoods = columns.likelihoods
        self.is_number = imputer._imputation.is_averaged
        self.has_classes = ~self.is_number & ~columns.is_constant
        self.is_real = np.array([type(each) is Gaussian for each in self.likelihoods])
        n_rows = len(rows) if weight is None else round(weight.sum())
        self.is_large = n_rows > MAX_ROWS_TO_IMPUTE
        self.has_trees = rows.shape[1] <= 50  # time grows with the square of these
        is_possible = self.has_trees if self.is_large else self.is_number.any()
        self.is_needed = n_rows >= MIN_ROWS_TO_VALIDATE and is_possible
        self.hidden_cells: HiddenCells
        self.mean: np.ndarray  # (n, n_features), by which the model imputes these cells

    @np.errstate(all="ignore")  # numbers near the largest ones overflow
    def fit(self) -> None:
        """Fit trees, and choose their weight and the spread of draws."""
        if not self.is_needed:
            return
        rows, weight, first_model = self.rows, self.weight, self.first_model
        # the same seed makes the same split: no model has seen the held-out rows
        table = first_model._encode(rows, weight)
        held_out: Any = first_model._split(table, first_model._n_validation_rows(table))[1]
        if held_out.n_weighted_rows > 1_000:  # 256 are too few where columns have heavy tails
            generator = make_generator(self.model.seed_, Stream.SPLIT, 1)
            held_out = held_out.split(1_000, generator)[1]
        indices, counts = held_out.indices().cpu().numpy(), held_out.sample_weight()
        columns = self.is_number, self.has_classes & self.is_large
        cells = hide_cells(rows, weight, indices, counts, self.model.seed_, *columns)
        self.hidden_cells, self.mean = cells, first_model._impute(cells.incomplete)[0]
        left = np.ones(len(rows)) if weight is None else weight.copy()
        np.subtract.at(left, indices, counts)
        trees = self._fit_correction(left) if self.has_trees else None
        if not self.is_large and (cells.precision > 0)[:, self.is_real].any():
            predictor, seed = first_model._predictor(), self.model.seed_
            draws = predictor.draw_missing(cells.incomplete, 79, MEAN_DRAWS, seed)
            self._fit_spread(draws, trees)

    def _fit_correction(self, left: np.ndarray) -> BoostedTrees:
        """Fit trees to the rows of weights ``left``, and choose their weight in the average.

        The trees that are returned have not seen the hidden cells.
        """
        # smaller weights are rounding errors: all copies of the row are held out
        rows, weight, is_left = self.rows, self.weight, left > 1e-6
        hidden_cells, mean = self.hidden_cells, self.mean
        columns = self._columns_of_trees(rows[is_left])
        left_weight = None if weight is None else left[is_left]
        trees = self._fit_trees(self.first_model, rows[is_left], left_weight, columns)
        predicted = trees.correct(hidden_cells.incomplete, mean, 1.0)
        if self.is_large:  # one of both alone: averages gain little, and take long
            trees_weight = float(hidden_cells.has_no_larger_errors(predicted, mean))
        else:
            trees_weight = hidden_cells.best_weight(mean, predicted)
        has_good_classes = hidden_cells.has_no_more_errors(predicted, mean)
        is_used = np.where(self.has_classes, has_good_classes, trees_weight > 0)
        fitted = None
        if is_used[columns].any():
            if self.is_large:  # the mean absolute error follows the CRPS of draws
                nearer = hidden_cells.is_nearer(predicted, mean)
                fitted = replace(trees, is_real=trees.is_real & nearer)
            else:
                fitted = self._fit_trees(self.model, rows, weight, columns)
            fitted = fitted.select(columns[is_used[columns]])
        self.imputer.trees_, self.imputer.trees_weight_ = fitted, trees_weight
        return trees

    def _columns_of_trees(self, rows: np.ndarray) -> np.ndarray:
        """Columns that trees may predict: numbers that get means, and classes of large tables."""
        columns, encoder = [], self.model.columns_
        for j in np.flatnonzero(~(encoder.is_positive | encoder.is_constant)).tolist():
            values = rows[~np.isnan(rows[:, j]), j]
            # each class has trees of its own
            n_classes = len(np.unique(values)) if self.has_classes[j] else 0
            max_classes = min(32, len(values) // 2) if self.is_large else 0
            if len(values) and n_classes <= max_classes:
                columns.append(j)
        return np.array(columns, dtype=int)

    def _fit_trees(
        self,
        model: VAETransformer,
        rows: np.ndarray,
        weight: np.ndarray | None,
        columns: np.ndarray,
    ) -> BoostedTrees:
        """Fit trees to the observed values of some columns, with imputed inputs in small tables."""
        inputs = rows if self.is_large else model._impute(rows)[0]
        trees = fit_boosted_trees(inputs, ~np.isnan(rows), columns, weight, self.has_classes)
        is_ordered = np.array([isinstance(each, Ordinal) for each in self.likelihoods])
        return replace(trees, is_real=self.is_real, is_ordered=is_ordered)

    def _fit_spread(self, draws: np.ndarray, trees: BoostedTrees | None) -> None:
        """Choose factors of the spread of draws, so that intervals cover hidden cells.

        ``draws`` (n_draws, n, n_features) impute these, which ``trees`` have not seen.
        """
        is_real, rows, mean = self.is_real, self.hidden_cells.incomplete, self.mean
        shift = find_shift(trees, rows, mean)
        covers, factors = [], np.linspace(0.3, 1.5, 13)
        for factor in factors.tolist():
            tried = replace(self.imputer._imputation, spread=np.where(is_real, factor, 1.0))
            moved = tried.move(draws, rows, mean, shift, self.model.seed_)
            covers.append(self.hidden_cells.cover(moved, is_real))
        # for each column the smallest one with this cover, or the largest one
        spread = [np.interp(0.9, cover, factors) for cover in np.maximum.accumulate(covers).T]
        self.imputer.spread_ = np.where(is_real, spread, 1.0)
