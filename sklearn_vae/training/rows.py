"""Encoded rows of tables that are not encoded as a whole: by batches or by windows."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.data.sources import DiskRows, window_rows

# Rows that are encoded at a time where all are read.
CHUNK_ROWS = 1 << 14


@dataclass(frozen=True, eq=False)
class LazyRows:
    """A read-only array of which rows are computed when they are indexed.

    Attributes
    ----------
    compute : callable
        Rows by an index or a slice.
    shape : tuple of int
        Numbers of rows and columns.
    dtype : dtype
        Dtype of the rows.
    """

    compute: Callable[[Any], np.ndarray]
    shape: tuple[int, int]
    dtype: np.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.compute(rows)


@dataclass(eq=False)
class EncodedRows:
    """A matrix whose rows are encoded on access, for tables too large to encode as a whole.

    It has the methods of a tensor that ``Dataset`` uses. The source may be a memory-mapped
    file, of which each step reads one batch.

    Parameters
    ----------
    source : ndarray or DiskRows of shape (n, n_features)
        Raw rows.
    encode : callable
        Maps raw rows (B, n_features) to encoded rows (B, n_columns).
    n_columns : int
        Number of encoded columns.
    dtype : torch.dtype
        dtype of the encoded rows.
    device : torch.device
        Device of the encoded rows.
    """

    source: np.ndarray | DiskRows
    encode: Callable[[np.ndarray], np.ndarray]
    n_columns: int
    dtype: torch.dtype
    device: torch.device

    nbytes: ClassVar[int] = 0  # memory in addition to the source

    def __len__(self) -> int:
        return len(self.source)

    @property
    def shape(self) -> torch.Size:
        """Numbers of rows and columns."""
        return torch.Size([len(self), self.n_columns])

    def __getitem__(self, rows: Tensor | np.ndarray | slice) -> Tensor:
        indices = rows.cpu().numpy() if isinstance(rows, Tensor) else rows
        return torch.as_tensor(self.encode(self.source[indices])).to(self.device, self.dtype)

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Encode the rows with these indices; ``dim`` is 0."""
        return self[rows]

    def view(self, row_indices: Tensor | None) -> LazyRows:
        """Return an array of the rows with these indices, of all for None."""
        indices = None if row_indices is None else row_indices.cpu().numpy()
        n_rows = len(self) if indices is None else len(indices)

        def encode(rows: Any) -> np.ndarray:
            return self[rows if indices is None else indices[rows]].cpu().numpy()

        dtype = torch.empty(0, dtype=self.dtype).numpy().dtype
        return LazyRows(encode, (n_rows, self.n_columns), dtype)


@dataclass(eq=False)
class WindowedRows(EncodedRows):
    """Rows of a file in random order, encoded window by window.

    Training shuffles the rows of a window and passes over one window after the other. While it
    trains on one, the next is read and encoded in the background: two are in memory.

    Parameters
    ----------
    source : DiskRows of shape (n, n_features)
        Raw rows.
    encode, n_columns, dtype, device
        As of ``EncodedRows``.

    Attributes
    ----------
    rows_per_window : int
        Number of rows of a window.
    """

    source: DiskRows

    def __post_init__(self) -> None:
        self.rows_per_window = window_rows(self.n_columns)
        self._executor = ThreadPoolExecutor(1)
        self._windows: dict[int, Future[Tensor]] = {}

    def after(self, n_rows: int) -> Self:
        """Return all rows but the first ``n_rows``."""
        return replace(self, source=self.source.after(n_rows))

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Encode the rows with these indices, of one window or two neighbours; ``dim`` is 0."""
        numbers = rows // self.rows_per_window
        first, last = int(numbers.min()), int(numbers.max())
        if last > first + 1:
            return self[rows]
        if last == first:
            return self._window(first).index_select(0, rows - first * self.rows_per_window)
        x = torch.empty(len(rows), self.n_columns, dtype=self.dtype, device=self.device)
        for number in (first, last):
            is_inside = numbers == number
            x[is_inside] = self._window(number)[rows[is_inside] - number * self.rows_per_window]
        return x

    def _window(self, number: int) -> Tensor:
        """Return the rows of a window, and begin to encode the next one."""
        following = (number + 1) % -(-len(self) // self.rows_per_window)
        self._windows = {
            n: self._windows.get(n) or self._executor.submit(self._encode_window, n)
            for n in (number, following)
        }
        return self._windows[number].result()

    def _encode_window(self, number: int) -> Tensor:
        first = number * self.rows_per_window
        return self[first : first + self.rows_per_window]


Rows = Tensor | EncodedRows
