"""Numbers of rows that are computed at a time."""

import pytest

from sklearn_vae.models import sizes
from sklearn_vae.models.sizes import rows_in_cache, rows_in_memory, validation_sizes


@pytest.mark.parametrize(("width", "n_draws"), [(1, 1), (128, 1), (784, 64), (3, 1000)])
def test_a_chunk_is_as_long_as_its_numbers_allow(width, n_draws):
    """One more row would have too many numbers in its widest layer, or in one tensor."""
    in_cache, in_memory = rows_in_cache(width, n_draws), rows_in_memory(width * n_draws)

    assert in_cache * width * n_draws <= sizes.CACHED_NUMBERS < (in_cache + 1) * width * n_draws
    assert in_memory * width * n_draws <= sizes.MAX_NUMBERS < (in_memory + 1) * width * n_draws


def test_a_chunk_has_a_row_however_wide():
    """A row that exceeds the limits is computed alone, and a table may have no columns."""
    assert rows_in_cache(1 << 30, 4) == rows_in_memory(1 << 40) == 1
    assert rows_in_memory(0) == sizes.MAX_NUMBERS


@pytest.mark.parametrize("n_rows", [0, 1, 100, 1000, 10**6])
@pytest.mark.parametrize("per_value", [1, 5, 20])
def test_validation_draws_are_whole_bounds(n_rows, per_value):
    """Several draws make one importance-weighted bound: a validation loss averages bounds."""
    n_draws, n_together = validation_sizes(n_rows, per_value, widest=128)

    assert n_draws % per_value == 0 < n_draws
    assert n_together >= 1
    assert n_together == 1 or n_draws * n_together <= sizes.VALIDATION_DRAWS_AT_A_TIME
