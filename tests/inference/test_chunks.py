"""Chunks of rows on several threads: errors, and memory that runs out."""

import threading

import numpy as np
import pytest
import torch

from sklearn_vae.inference.chunks import map_chunks


def test_an_error_between_chunks_ends_the_chunks_that_wait(two_threads):
    """Also while the error is kept, as notebooks do with the last one."""
    computed, n_threads = [], threading.active_count()

    def compute(rows):
        computed.append(len(rows))
        return rows if len(computed) == 1 else np.zeros((2, 3))  # of another shape

    with pytest.raises(ValueError, match="could not broadcast") as kept:
        map_chunks(compute, np.zeros((5000, 1)), 1, is_thread_safe=True)

    assert threading.active_count() == n_threads
    assert len(computed) < 5000
    assert kept.value is not None


@pytest.mark.parametrize("rows_per_chunk", [1, 4])
def test_rows_without_memory_are_computed_alone(rows_per_chunk, two_threads):
    """Memory that chunks on other threads hold is free when they have ended."""
    running, both = [], threading.Barrier(2, timeout=60)

    def compute(rows):
        running.append(threading.get_ident())
        try:
            if threading.current_thread() is not threading.main_thread():
                both.wait()
                raise MemoryError("two at once")
            assert len(running) == 1
            assert torch.get_num_threads() == 1
            return 2 * rows
        finally:
            running.pop()

    X = np.arange(8.0)[:, None]
    with pytest.warns(UserWarning, match="half as many rows"):
        result = map_chunks(compute, X, rows_per_chunk, is_thread_safe=True)

    np.testing.assert_array_equal(result, 2 * X)


def test_a_row_that_never_fits_in_memory_is_an_error(two_threads):
    """It says so, and names the cause."""

    def compute(rows):
        raise MemoryError("too large")

    with (
        pytest.warns(UserWarning, match="half as many rows"),
        pytest.raises(MemoryError, match="no memory for one row: too large"),
    ):
        map_chunks(compute, np.zeros((8, 1)), 4, is_thread_safe=True)
