"""Reference rows with counts."""

import numpy as np
import torch

from sklearn_vae.anomaly.reference import CountedRows


def test_counts_differ_from_fractional_weights_by_less_than_one():
    """And they add up to the rounded sum of the weights."""
    weights = np.random.default_rng(0).exponential(2, size=300)
    rows = CountedRows.from_weights(np.arange(300.0)[:, None], weights, 2, 20_000)
    counts = np.bincount(rows.X[:, 0].astype(int), rows.counts, minlength=300)

    assert np.abs(counts - weights).max() < 1.01
    assert counts.sum() == round(weights.sum())


def test_the_sum_of_counts_is_bounded():
    """Tiny weights make the minimum of rows, huge ones the maximum."""
    X = np.arange(10.0)[:, None]

    assert CountedRows.from_weights(X, np.full(10, 1e-6), 2, 50).counts.sum() == 2
    assert CountedRows.from_weights(X, np.full(10, 1e9), 2, 50).counts.sum() == 50


def test_unique_rows_are_those_of_numpy_with_their_counts():
    """Negative zero equals zero."""
    X = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, -0.0]])
    rows = CountedRows(X, np.array([1, 4, 2])).unique()

    np.testing.assert_array_equal(rows.X, [[0.0, 2.0], [1.0, 0.0]])
    np.testing.assert_array_equal(rows.counts, [4, 3])
    assert CountedRows(X[:2], None).unique().counts is None


def test_a_split_divides_the_rows_in_order_with_their_counts():
    """Every row is in one part, and the order within a part is that of the rows."""
    rows = CountedRows(np.arange(20.0)[:, None], np.arange(1, 21))
    parts = rows.split(5, torch.Generator().manual_seed(0))

    assert [len(part.X) for part in parts] == [5, 15]
    assert all((np.diff(part.X[:, 0]) > 0).all() for part in parts)
    assert all((part.counts == part.X[:, 0] + 1).all() for part in parts)
    assert sorted(np.concatenate([part.X[:, 0] for part in parts])) == list(range(20))
