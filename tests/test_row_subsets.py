"""Batches have every row once, and evenly spaced rows include both ends."""

import pytest
from sklearn.utils import gen_batches

from sklearn_vae.row_subsets import batches, evenly_spaced


@pytest.mark.parametrize("n_rows", [1, 6, 7])
def test_batches_are_those_of_scikit_learn(n_rows):
    """The last one may be shorter, and ends with the table."""
    assert list(batches(n_rows, 3)) == list(gen_batches(n_rows, 3))
    assert not list(batches(0, 3))


def test_evenly_spaced_rows_include_both_ends():
    """And all of them if there are few."""
    assert evenly_spaced(10, 4).tolist() == [0, 3, 6, 9]
    assert evenly_spaced(3, 4).tolist() == [0, 1, 2]
