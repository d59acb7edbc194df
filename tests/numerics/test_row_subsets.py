"""Batches have every row once, and rows are spread over all parts of a table."""

import pytest
from sklearn.utils import gen_batches

from sklearn_vae.numerics.row_subsets import batches, spread_out


@pytest.mark.parametrize("n_rows", [1, 6, 7])
def test_batches_are_those_of_scikit_learn(n_rows):
    """The last one may be shorter, and ends with the table."""
    assert list(batches(n_rows, 3)) == list(gen_batches(n_rows, 3))
    assert not list(batches(0, 3))


def test_rows_are_spread_over_all_parts_of_a_table():
    """And all of them are taken if there are few."""
    rows = spread_out(10_000, 100)
    assert (rows // 100).tolist() == list(range(100))
    assert spread_out(3, 4).tolist() == [0, 1, 2]


@pytest.mark.parametrize("n_rows", [2_048, 4_096, 10_000])
def test_a_period_of_the_table_is_not_lost(n_rows):
    """Rows at equal distances would all be even."""
    assert 0.4 < (spread_out(n_rows, 1_024) % 2).mean() < 0.6
