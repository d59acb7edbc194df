"""Rows of long tables: a batch at a time, or some from all parts."""

from collections.abc import Iterator

import numpy as np

# Numbers of a table of which temporary arrays are made.
NUMBERS_AT_A_TIME = 1 << 20


def batches(n_rows: int, batch_size: int) -> Iterator[slice]:
    """Slices of consecutive rows, of ``batch_size`` at most."""
    for first in range(0, n_rows, batch_size):
        yield slice(first, min(first + batch_size, n_rows))


def small_batches(X: np.ndarray) -> Iterator[slice]:
    """Slices of so few rows of a table (n, d) that temporary arrays are small."""
    return batches(len(X), max(NUMBERS_AT_A_TIME // max(X.shape[1], 1), 1))


def distinct(X: np.ndarray) -> np.ndarray:
    """Indices of the first of equal rows of a table (n, d), in the order of their values.

    Missing values, NaN, are equal to each other.
    """
    return np.unique(np.nan_to_num(X, nan=np.inf), axis=0, return_index=True)[1]


def spread_out(n_rows: int, max_rows: int) -> np.ndarray:
    """Indices of at most ``max_rows`` rows, one of each of equal parts of a table, in order.

    Which one is random, by a fixed seed: of rows at equal distances, a table that alternates
    between two sources could lose one.
    """
    if n_rows <= max_rows:
        return np.arange(n_rows)
    ends = np.linspace(0, n_rows, max_rows + 1).astype(int)
    position = np.random.default_rng(0).random(max_rows)
    return ends[:-1] + (position * np.diff(ends)).astype(int)
