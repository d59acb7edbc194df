"""Rows of long tables: how many are computed at a time, batches of them, or some from all parts."""

from collections.abc import Iterator

import numpy as np

# Numbers of a table, or rows of it, of which temporary arrays are made.
NUMBERS_AT_A_TIME = 1 << 20
ROWS_AT_A_TIME = 1 << 12
# Draws of codes that are decoded at a time.
DRAWS_AT_A_TIME = 1 << 11
# Numbers in the widest layer of a chunk of rows: they fit the cache.
CACHED_NUMBERS = 1 << 18
# Rows that are compared to find copies, at most; distinct ones that show that a table is repeated.
MAX_DISTINCT_ROWS, MIN_DISTINCT_ROWS = 20_000, 20
# Numbers of one tensor, of all draws or all components of a chunk of rows, at most.
MAX_NUMBERS = 1 << 22


def batches(n_rows: int, batch_size: int) -> Iterator[slice]:
    """Slices of consecutive rows, of ``batch_size`` at most, but of one at least."""
    step = max(batch_size, 1)
    for first in range(0, n_rows, step):
        yield slice(first, min(first + step, n_rows))


def small_batches(X: np.ndarray) -> Iterator[slice]:
    """Slices of so few rows of a table (n, d) that temporary arrays are small."""
    return batches(len(X), NUMBERS_AT_A_TIME // max(X.shape[1], 1))


def distinct(X: np.ndarray) -> np.ndarray:
    """Indices of the first of equal rows of a table (n, d), in the order of their values.

    Missing values, NaN, are equal to each other.
    """
    return np.unique(np.nan_to_num(X, nan=np.inf), axis=0, return_index=True)[1]


def without_copies(X: np.ndarray) -> np.ndarray:
    """Indices of the distinct rows of a table (n, d), or of all where copies are due to chance.

    So they are where half of the rows or more would be copies if columns were independent, but
    not of fewer than eight distinct rows, which few rules contradict.
    """
    chosen = distinct(X)
    if not 8 <= len(chosen) < len(X):
        return chosen
    shuffled = np.random.default_rng(0).permuted(X, axis=0)
    return np.arange(len(X)) if 2 * len(distinct(shuffled)) <= len(X) else chosen


def repetitions(X: np.ndarray, weight: np.ndarray) -> float:
    """Number of times that a table (n, d) was repeated as a whole, 1 or more.

    It is that of nine tenths of the different rows, at least. The weight (n,) counts copies, which
    are looked for in tables of up to ``MAX_DISTINCT_ROWS`` rows. Where shuffled columns have half
    as many, they are due to chance.
    """
    if len(X) > MAX_DISTINCT_ROWS:
        return max(float(np.quantile(weight, 0.1)), 1.0)
    index = np.unique(np.nan_to_num(X, nan=np.inf), axis=0, return_inverse=True)[1].ravel()
    total = np.bincount(index, weight)
    times = float(np.quantile(total, 0.1, method="lower"))
    if times < 1.001 or len(total) < MIN_DISTINCT_ROWS:  # weights may be in single precision
        return 1.0
    ends, n_rows = weight.cumsum(), min(round(weight.sum()), 4 * len(total))
    drawn = X[ends.searchsorted((np.arange(n_rows) + 0.5) * (ends[-1] / n_rows))]
    shuffled = np.random.default_rng(0).permuted(drawn, axis=0)
    is_by_chance = 2 * (n_rows - len(distinct(shuffled))) >= n_rows - len(distinct(drawn))
    return 1.0 if is_by_chance else times


def spread_out(n_rows: int, max_rows: int = 2048) -> np.ndarray:
    """Indices of at most ``max_rows`` rows, one of each of equal parts of a table, in order.

    Which one is random, by a fixed seed: rows at equal distances may be of one kind.
    """
    if n_rows <= max_rows:
        return np.arange(n_rows)
    ends = np.linspace(0, n_rows, max_rows + 1).astype(int)
    position = np.random.default_rng(0).random(max_rows)
    return ends[:-1] + (position * np.diff(ends)).astype(int)


def aligned(n: int) -> int:
    """Round rows of a batch, or parameters of a member, up to two vectors of AVX-512.

    Vector instructions treat the same numbers alike then, and members round as one alone does.
    """
    return -(-n // 32) * 32


def rows_in_cache(width: int, n_draws: int = 1) -> int:
    """Rows whose widest layer, of this width, fits the cache with so many draws (or members)."""
    return max(CACHED_NUMBERS // (width * n_draws), 1)


def rows_in_memory(numbers_per_row: int) -> int:
    """Rows whose largest tensor, of so many numbers per row, is not too large."""
    return max(MAX_NUMBERS // max(numbers_per_row, 1), 1)


def spread_rows(n_rows: int, max_rows: int) -> int:
    """Rows of a chunk, of at least 64: a short table has up to eight, for several threads."""
    return min(max(-(-n_rows // 8), 64), max_rows)


def power_of_two(n: int, least: int, most: int) -> int:
    """Largest power of two up to ``n``, within bounds that are powers, too."""
    return int(2 ** int(np.log2(np.clip(n, least, most))))


def validation_sizes(
    n_rows: int, per_value: int, widest: int, n_draws: int | None = None
) -> tuple[int, int, int]:
    """Draws of z per validation row, rows with draws of their own, and rows validated at a time.

    All rows together have 4,096 draws, and a row 16 at most, but a multiple of those of one bound
    (``per_value``).
    """
    n_draws = n_draws or power_of_two(4096 // max(n_rows, 1), 1, 16)
    n_draws = -(-n_draws // per_value) * per_value
    n_own = min(n_rows, 4096 // n_draws) if n_draws < 16 else 1
    at_a_time = min(DRAWS_AT_A_TIME, NUMBERS_AT_A_TIME // widest)
    return n_draws, n_own, max(at_a_time // n_draws, 1)
