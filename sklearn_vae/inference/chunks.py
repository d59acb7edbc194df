"""Rows computed chunk by chunk: on threads, and in halves where memory runs out."""

from collections import deque
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from sklearn_vae.numerics.array_api import Array
from sklearn_vae.numerics.random import Stream, make_generator
from sklearn_vae.numerics.rows import batches
from sklearn_vae.system import warn
from sklearn_vae.system.compute import default_modes, is_out_of_memory, map_on_threads


class Backend(NamedTuple):
    """A model in one library, and how it computes rows."""

    model: Any
    convert: Callable[[np.ndarray], Array]  # an array of numpy to one of the library
    is_thread_safe: bool = True
    seed: int | None = None  # of generators of chunks, if they have any

    def map(
        self,
        function: Callable[..., Array],
        rows: np.ndarray,
        rows_per_chunk: int,
        encode: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Apply a function (model, encoded rows, generator if any) to rows, chunk by chunk."""

        def evaluate(chunk: np.ndarray, *generator: Any) -> np.ndarray:
            with np.errstate(all="ignore"):
                result = function(self.model, self.convert(encode(chunk)), *generator)
            return result if isinstance(result, np.ndarray) else result.cpu().numpy()

        is_safe = self.is_thread_safe
        return map_chunks(evaluate, rows, rows_per_chunk, is_thread_safe=is_safe, seed=self.seed)


def map_chunks(
    function: Callable[..., np.ndarray],
    X: np.ndarray,
    rows_per_chunk: int,
    *,
    is_thread_safe: bool,
    seed: int | None = None,
) -> np.ndarray:
    """Apply a function to chunks of rows, and join their results.

    With ``seed``, its second argument is a generator of the chunk. Chunks are computed each on one
    thread if the function is thread-safe. Where memory runs out, a chunk's halves are, alone.
    """

    @default_modes()
    def evaluate(rows: slice) -> np.ndarray | Exception:
        generator = () if seed is None else (make_generator(seed, Stream.SAMPLE, rows.start),)
        try:
            return function(X[rows], *generator)
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                return error.with_traceback(None)  # whose frames hold the memory
            raise

    results: np.ndarray | None = None
    # chunks of a group are computed at the same time, halves of those without memory alone
    groups, has_failed = deque([list(batches(len(X), rows_per_chunk))]), False
    while groups:
        chunks = groups.popleft()
        with closing(map_on_threads(evaluate, chunks, is_thread_safe=is_thread_safe)) as evaluated:
            for rows, result in zip(chunks, evaluated, strict=True):
                n_rows = rows.stop - rows.start
                if not isinstance(result, Exception):
                    # kept per chunk, they would lie between chunks, whose memory is then not freed
                    if results is None:
                        results = np.empty((len(X), *result.shape[1:]), result.dtype)
                    results[rows] = result
                    continue
                if n_rows == len(chunks) == 1:
                    raise MemoryError(f"There is no memory for one row: {result}") from result
                if not has_failed:
                    warn("Memory has run out: half as many rows are computed at a time.")
                has_failed, middle = True, rows.start + (n_rows + 1) // 2
                halves = [slice(rows.start, middle), slice(middle, rows.stop)][:n_rows]
                groups.extend([half] for half in halves)
    return np.empty(0) if results is None else results


@default_modes()
def to_tensor(x: np.ndarray, dtype: np.dtype, device: str) -> Array:
    """Convert an array to a tensor."""
    import torch

    return torch.from_numpy(x.astype(dtype, copy=False)).to(device)
