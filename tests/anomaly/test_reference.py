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

    assert CountedRows.from_weights(X, np.full(10, 1e-6), 2, 50).n_rows == 2
    assert CountedRows.from_weights(X, np.full(10, 1e9), 2, 50).n_rows == 50


def test_unique_rows_are_those_of_numpy_with_their_counts():
    """Negative zero equals zero."""
    X = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, -0.0]])
    rows = CountedRows(X, np.array([1, 4, 2])).unique()

    np.testing.assert_array_equal(rows.X, [[0.0, 2.0], [1.0, 0.0]])
    np.testing.assert_array_equal(rows.counts, [4, 3])
    assert CountedRows(X[:2], None).unique().counts is None


def test_a_split_divides_the_rows_in_order_with_their_counts():
    """A row of count k is k rows, and the order within a part is that of the rows."""
    X, counts = np.arange(20.0)[:, None], np.arange(1, 21)
    parts = CountedRows(X, counts).split(50, torch.Generator().manual_seed(0))
    copies = CountedRows(np.repeat(X, counts, axis=0), None).split(
        50, torch.Generator().manual_seed(0)
    )

    assert [part.counts.sum() for part in parts] == [50, 160]
    assert all((np.diff(part.X[:, 0]) > 0).all() for part in parts)
    total = [np.repeat(part.X[:, 0], part.counts) for part in parts]
    np.testing.assert_array_equal(np.sort(np.concatenate(total)), np.repeat(X[:, 0], counts))
    for part, copied in zip(total, copies, strict=True):
        np.testing.assert_array_equal(part, copied.X[:, 0])
