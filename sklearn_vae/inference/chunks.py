"""Rows that are computed a chunk at a time, on several threads; smaller ones without memory."""

from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import torch

from sklearn_vae.numerics.random import Stream, make_generator
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.system.device import default_modes, is_out_of_memory
from sklearn_vae.system.progress import advance
from sklearn_vae.system.threads import map_on_threads
from sklearn_vae.system.warnings import warn


def map_chunks(
    function: Callable[..., np.ndarray],
    X: np.ndarray,
    rows_per_chunk: int,
    *,
    is_thread_safe: bool,
    seed: int | None = None,
) -> np.ndarray:
    """Apply a function to chunks of rows without gradients, and join their results.

    With ``seed``, its second argument is a generator of the chunk. Chunks are computed at the same
    time, each on one thread, if the function is thread-safe. Where memory runs out, a chunk is
    halved, and its halves are computed when no others are.
    """

    @default_modes()  # where the modes of a row are searched by gradients
    @torch.no_grad()
    def evaluate(rows: slice) -> np.ndarray | Exception:
        generator = () if seed is None else (make_generator(seed, Stream.SAMPLE, rows.start),)
        try:
            return function(X[rows], *generator)
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                return error.with_traceback(None)  # whose frames hold the memory
            raise

    def halve(rows: slice) -> Iterator[tuple[slice, np.ndarray]]:
        middle = (rows.start + rows.stop) // 2
        for half in (slice(rows.start, middle), slice(middle, rows.stop)):
            if half.start == half.stop:  # of one row
                continue
            for result in map_on_threads(evaluate, [half], is_thread_safe=is_thread_safe):
                if not isinstance(result, Exception):
                    yield half, result
                elif half.stop - half.start > 1:
                    yield from halve(half)
                else:
                    raise MemoryError(f"There is no memory for one row: {result}") from result

    chunks = list(batches(len(X), rows_per_chunk))
    failed: list[slice] = []
    results = np.empty(0)
    with closing(map_on_threads(evaluate, chunks, is_thread_safe=is_thread_safe)) as evaluated:
        for rows, result in zip(chunks, evaluated, strict=True):
            if isinstance(result, Exception):
                failed.append(rows)
                continue
            # a result kept per chunk would lie between the chunks, whose memory could not be freed
            results = results if len(results) else _empty(len(X), result)
            results[rows] = result
            advance(rows.stop - rows.start)
    if failed:
        warn("Memory has run out: half as many rows are computed at a time.", UserWarning)
    for rows in failed:
        for half, result in halve(rows):
            results = results if len(results) else _empty(len(X), result)
            results[half] = result
        advance(rows.stop - rows.start)
    return results


def _empty(n_rows: int, chunk: np.ndarray) -> np.ndarray:
    """Make an array for the results of all rows, of which a chunk has some."""
    return np.empty((n_rows, *chunk.shape[1:]), chunk.dtype)
