"""Numbers of a row in their places: pixels of an image, steps of a sequence.

A model sees the columns of a table by kind, and constant ones not at all. Networks that know
which places are neighbours put the numbers back first, and take theirs from there at the end.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_vae.networks.base import Layout


class Scatter(nn.Module):
    """Puts what is known of a row in its places, zeros elsewhere.

    Parameters
    ----------
    layout : Layout
        What the numbers are.
    n_places : int
        Columns of X.
    with_holes : bool, default=True
        Whether rows are followed by which of their numbers are there, if the layout says so.

    Attributes
    ----------
    n_numbers : int
        Numbers in a place; with holes, half of them say what is there.
    """

    source: Tensor

    def __init__(self, layout: Layout, n_places: int, *, with_holes: bool = True):
        super().__init__()
        self.n_columns = len(layout.column)
        self.n_sheets = 2 if with_holes and layout.has_holes else 1
        self.n_numbers = self.n_sheets * layout.n_parts
        source = np.full((n_places, layout.n_parts), self.n_columns)  # behind the row is a zero
        source[layout.column, layout.part] = np.arange(self.n_columns)
        self.n_places = n_places
        self.register_buffer("source", torch.as_tensor(source.ravel()), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B, n) in places (B, n_places, n_numbers), and what follows them (B, n_others)."""
        sizes = [self.n_columns] * self.n_sheets
        *sheets, others = x.split([*sizes, x.shape[1] - sum(sizes)], dim=1)
        placed = [
            F.pad(sheet, (0, 1)).index_select(1, self.source).unflatten(1, (self.n_places, -1))
            for sheet in sheets
        ]
        return placed[0] if len(placed) == 1 else torch.cat(placed, dim=2), others


class Gather(nn.Module):
    """Takes the numbers that say p(x|z) from their places.

    Parameters
    ----------
    layout : Layout
        What the numbers are.
    """

    source: Tensor

    def __init__(self, layout: Layout):
        super().__init__()
        source = layout.param_column * layout.n_params + layout.param
        self.register_buffer("source", torch.as_tensor(source), persistent=False)

    def forward(self, placed: Tensor) -> Tensor:
        """(B, ..., n_params), which are the places in C order, -> (B, n_of_z)."""
        return placed.flatten(1).index_select(1, self.source)
