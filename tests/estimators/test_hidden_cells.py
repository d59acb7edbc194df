"""Choices between two imputations by hidden cells."""

import numpy as np
import pytest

from sklearn_vae.estimators.averaging import HiddenCells, hide_cells


def test_classes_of_trees_are_refused_where_they_are_clearly_worse():
    truth = np.zeros((100, 1))
    cells = HiddenCells(truth, truth == 0, truth, truth + 1, np.ones(100))
    few, many = (np.arange(100) < n for n in (20, 60))

    assert cells.has_no_more_errors(few[:, None], many[:, None])
    assert not cells.has_no_more_errors(many[:, None], few[:, None])
    assert cells.has_no_more_errors(truth + 1, truth + 1)


def test_numbers_of_trees_are_refused_where_they_are_clearly_worse():
    """One cell far off, as of a heavy tail, decides nothing; other cells do not count."""
    truth, precision = np.zeros((100, 1)), np.ones((100, 1))
    precision[0] = 0
    cells = HiddenCells(truth, precision > 0, precision, truth, np.ones(100))
    near, far, once = np.full((100, 1), 0.1), np.full((100, 1), 0.2), np.full((100, 1), 0.1)
    near[0], once[1] = np.nan, 20

    assert cells.has_no_larger_errors(near, far)
    assert not cells.has_no_larger_errors(far, near)
    assert cells.has_no_larger_errors(once, near)
    assert cells.has_no_larger_errors(near, near)
    assert not cells._replace(precision=truth).has_no_larger_errors(near, far)


def test_an_imputation_is_nearer_by_its_absolute_errors():
    """A few large errors decide squared ones; other cells and columns of classes do not count."""
    truth = np.zeros((100, 3))
    precision = np.tile([1.0, 1.0, 0.0], (100, 1))
    precision[0] = 0
    cells = HiddenCells(truth, precision > 0, precision, truth, np.ones(100))
    often, once = np.full((100, 3), 0.1), np.zeros((100, 3))
    once[:2], often[0] = [5.0, 20.0, 0.0], -100

    assert cells.is_nearer(once, often).tolist() == [True, False, False]
    assert cells.is_nearer(often, once).tolist() == [False, True, False]


def test_the_cover_of_draws_is_that_of_intervals_between_them(rng):
    """Weights count as copies of the rows do; the second column does not count."""
    truth, draws = rng.normal(size=(500, 2)), 0.7 * rng.normal(size=(39, 500, 2))
    counts = rng.integers(1, 4, 500)
    precision = np.where(rng.random(truth.shape) < 0.5, counts[:, None] / 7, 0.0)
    cells = HiddenCells(truth, precision > 0, precision, 0 * truth, counts)
    low, high = np.sort(draws[:, :, 0], axis=0)[[1, -2]]
    is_inside = np.repeat((low <= truth[:, 0]) & (truth[:, 0] <= high), counts)

    cover = cells.cover(draws, np.array([True, False]))[0]
    np.testing.assert_allclose(cover, is_inside[np.repeat(precision[:, 0] > 0, counts)].mean())
    assert 0.6 < cover < 0.8


def test_draws_of_few_values_cover_as_often_as_ranks_among_equal_ones():
    """Of 40 ranks, 36 lie within the interval: all of them are as likely where all are equal."""
    truth = np.array([[0.0], [0.0], [1.0]])
    draws = np.zeros((39, 3, 1))
    draws[:20, 1] = 1.0  # 20 of the 39 are above: ranks are 0 to 19, of which 18 lie within
    cells = HiddenCells(truth, truth < 2, truth + 1, 0 * truth, np.ones(3))

    np.testing.assert_allclose(cells.cover(draws, np.array([True])), (36 / 40 + 18 / 20 + 0) / 3)


@pytest.mark.parametrize("has_classes", [False, True])
def test_hidden_cells_are_observed_and_missing_in_another_row(has_classes):
    rows = np.random.default_rng(0).normal(size=(40, 4))
    rows[:10, :2], rows[10:20, 2], rows[20:24, 0] = np.nan, np.nan, np.nan
    patterns = {tuple(row) for row in np.isnan(rows).tolist() if any(row)}
    is_number, held_out = np.array([True, True, False, False]), np.arange(5, 40)
    is_class = ~is_number & has_classes
    cells = hide_cells(rows, None, held_out, np.ones(35), 0, is_number, is_class)

    kinds = is_number | is_class
    assert len(cells.rows) == 3 * len(held_out)
    assert cells.hidden.any(axis=0).tolist() == [True, True, has_classes, False]
    assert not np.isnan(cells.rows[cells.hidden]).any()
    np.testing.assert_array_equal(cells.precision > 0, cells.hidden & is_number)
    np.testing.assert_array_equal(cells.weight > 0, cells.hidden & ~is_number)
    for row, hidden in zip(cells.rows, cells.hidden, strict=True):
        missing = np.isnan(row)
        assert not hidden.any() or any(
            (hidden <= np.array(pattern) & kinds & ~missing).all() for pattern in patterns
        )
