"""Numbers of rows at a time; batches have every row once; rows from all parts of a table."""

import numpy as np
import pytest
from sklearn.utils import gen_batches

from sklearn_vae.numerics import rows as rows_of_tables
from sklearn_vae.numerics.rows import (
    batches,
    repetitions,
    rows_in_cache,
    rows_in_memory,
    spread_out,
    validation_sizes,
)


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


@pytest.mark.parametrize(("width", "n_draws"), [(1, 1), (128, 1), (784, 64), (3, 1000)])
def test_a_chunk_is_as_long_as_its_numbers_allow(width, n_draws):
    """One more row would have too many numbers in its widest layer, or in one tensor."""
    in_cache, in_memory = rows_in_cache(width, n_draws), rows_in_memory(width * n_draws)

    assert (
        in_cache * width * n_draws
        <= rows_of_tables.CACHED_NUMBERS
        < (in_cache + 1) * width * n_draws
    )
    assert (
        in_memory * width * n_draws
        <= rows_of_tables.MAX_NUMBERS
        < (in_memory + 1) * width * n_draws
    )


def test_a_chunk_has_a_row_however_wide():
    """A row that exceeds the limits is computed alone, and a table may have no columns."""
    assert rows_in_cache(1 << 30, 4) == rows_in_memory(1 << 40) == 1
    assert rows_in_memory(0) == rows_of_tables.MAX_NUMBERS


@pytest.mark.parametrize("n_rows", [0, 1, 100, 1000, 10**6])
@pytest.mark.parametrize("per_value", [1, 5, 20])
def test_validation_draws_are_whole_bounds(n_rows, per_value):
    """Several draws make one importance-weighted bound: a validation loss averages bounds."""
    n_draws, _, n_together = validation_sizes(n_rows, per_value, widest=128)

    assert n_draws % per_value == 0 < n_draws
    assert n_together >= 1
    assert n_together == 1 or n_draws * n_together <= rows_of_tables.DRAWS_AT_A_TIME


@pytest.mark.parametrize("times", [2, 10, 1000])
def test_repetitions_of_a_table_are_counted(times, rng):
    """As copies or by weight, also beside a row that is more frequent."""
    X = np.vstack([np.zeros((30, 3)), rng.normal(size=(60, 3))])
    X[5:, 1] = np.nan
    copies, ones = np.repeat(X, times, axis=0)[: 10 * len(X)], np.ones(times * len(X))

    assert repetitions(X, np.full(len(X), float(times))) == times
    if len(copies) == len(ones):
        assert repetitions(copies, ones) == times
    assert repetitions(X, np.ones(len(X))) == 1


def test_rows_that_are_equal_by_chance_are_no_repetitions(rng):
    """As of one column, of small counts, or of a class beside its code."""
    hour, count = rng.integers(0, 24, 3000) * 1.0, rng.poisson(2, (3000, 2)) * 1.0
    for X in (hour[:, None], count, np.column_stack([hour, hour // 8])):
        assert repetitions(X, np.ones(len(X))) == 1
