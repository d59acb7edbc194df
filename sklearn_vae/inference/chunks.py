"""Rows that are computed a chunk at a time, on several threads; smaller ones without memory."""

from collections.abc import Callable
from contextlib import closing
from itertools import chain

import numpy as np
import torch

from sklearn_vae.numerics.random import Stream, make_generator
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.system import warn
from sklearn_vae.system.compute import default_modes, is_out_of_memory, map_on_threads
from sklearn_vae.system.progress import advance


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

    results: np.ndarray | None = None

    def compute(chunks: list[slice]) -> list[tuple[slice, Exception]]:
        """Compute chunks at the same time; return those without memory."""
        nonlocal results
        failed = []
        with closing(map_on_threads(evaluate, chunks, is_thread_safe=is_thread_safe)) as evaluated:
            for rows, result in zip(chunks, evaluated, strict=True):
                if isinstance(result, Exception):
                    failed.append((rows, result))
                    continue
                # results kept per chunk would lie between chunks, whose memory could not be freed
                if results is None:
                    results = np.empty((len(X), *result.shape[1:]), result.dtype)
                results[rows] = result
                advance(rows.stop - rows.start)
        return failed

    failed = compute(list(batches(len(X), rows_per_chunk)))
    if failed:
        warn("Memory has run out: half as many rows are computed at a time.", UserWarning)
    while failed:
        rows, _ = failed.pop()
        middle = (rows.start + rows.stop + 1) // 2
        halves = [slice(rows.start, middle), slice(middle, rows.stop)][: rows.stop - rows.start]
        for half, error in chain.from_iterable(compute([half]) for half in halves):
            if half.stop - half.start == 1:
                raise MemoryError(f"There is no memory for one row: {error}") from error
            failed.append((half, error))
    return np.empty(0) if results is None else results
