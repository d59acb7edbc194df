"""Rows of a table that is too large to be encoded as a whole."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Rows that are encoded at a time where all are asked for one after the other.
CHUNK_ROWS = 1 << 14


class EncodedRows:
    """Rows that are encoded when they are asked for, and otherwise stay where they are.

    It has of a tensor what a ``Dataset`` asks of one. The rows may be a memory map of a file,
    of which a step then reads its own batch.

    Parameters
    ----------
    source : ndarray of shape (n, n_features)
        The rows as they came.
    encode : callable
        Makes (B, n_columns) of (B, n_features).
    n_columns : int
        Width of encoded rows.
    dtype : torch.dtype
        Their type.
    device : torch.device
        Where they are wanted.
    """

    def __init__(
        self,
        source: np.ndarray,
        encode: Callable[[np.ndarray], np.ndarray],
        n_columns: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        self.source, self.encode = source, encode
        self.shape = torch.Size([len(source), n_columns])
        self.dtype, self.device = dtype, device
        self.nbytes = 0  # that are held beside the source

    def __len__(self) -> int:
        return self.shape[0]

    def numel(self) -> int:
        """How many numbers there are."""
        return self.shape.numel()

    def __getitem__(self, rows: Any) -> Tensor:
        rows = rows.cpu().numpy() if isinstance(rows, Tensor) else rows
        return torch.as_tensor(self.encode(self.source[rows])).to(self.device, self.dtype)

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Encode some rows; ``dim`` is 0."""
        return self[rows]

    def aminmax(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest number of all, but for missing cells."""
        chunks = (self[first : first + CHUNK_ROWS] for first in range(0, len(self), CHUNK_ROWS))
        ends = [torch.stack(torch.aminmax(rows.nan_to_num())) for rows in chunks]
        low, high = torch.stack(ends).unbind(1)
        return low.min(), high.max()


Rows = Tensor | EncodedRows


class EncodedArray:
    """The same rows as an array that is read a chunk at a time.

    Parameters
    ----------
    rows : EncodedRows
        The rows.
    own : Tensor or None
        Numbers of those that are meant; None for all.
    """

    def __init__(self, rows: EncodedRows, own: Tensor | None):
        self.rows, self.own = rows, None if own is None else own.cpu().numpy()
        self.shape = (len(rows) if own is None else len(own), rows.shape[1])
        self.dtype = torch.empty(0, dtype=rows.dtype).numpy().dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.rows[rows if self.own is None else self.own[rows]].cpu().numpy()
