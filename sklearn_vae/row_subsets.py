"""Rows of long tables: a batch at a time, and some that are evenly spaced."""

from collections.abc import Iterator

import numpy as np


def batches(n_rows: int, batch_size: int) -> Iterator[slice]:
    """Slices of consecutive rows, of ``batch_size`` at most."""
    for first in range(0, n_rows, batch_size):
        yield slice(first, min(first + batch_size, n_rows))


def evenly_spaced(n_rows: int, max_rows: int) -> np.ndarray:
    """Indices of at most ``max_rows`` rows, evenly spaced from the first to the last."""
    return np.unique(np.linspace(0, n_rows - 1, min(n_rows, max_rows)).astype(int))
