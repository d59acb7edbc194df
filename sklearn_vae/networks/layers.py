"""Layers that several networks share: fully connected ones, and the table's columns as an array.

A model orders the columns of a table by likelihood and leaves out constant ones. Networks that
rely on neighbouring pixels or steps scatter them to their columns of X first.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_vae.networks.base import Layout


def fully_connected(widths: Sequence[int]) -> nn.Sequential:
    """Fully connected layers, each followed by SiLU: (B, first) -> (B, last)."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.SiLU()]
    return nn.Sequential(*layers)


def zero_init_(layer: nn.Linear | nn.ConvTranspose2d) -> nn.Module:
    """Set a last layer's weights to zero: the network starts as its skip connection."""
    nn.init.zeros_(layer.weight)
    return layer


class Scatter(nn.Module):
    """Scatters an encoded row to the columns of X; constant columns become zeros.

    Parameters
    ----------
    layout : Layout
        Columns of the encoded row.
    n_columns : int
        Number of columns of X.
    with_mask : bool, default=True
        Whether the mask of observed values follows the row, if the layout has one.

    Attributes
    ----------
    n_channels : int
        Numbers per column; half of them are the mask, if there is one.
    """

    source: Tensor

    def __init__(self, layout: Layout, n_columns: int, *, with_mask: bool = True):
        super().__init__()
        self.n_columns, self.n_encoded = n_columns, layout.n_encoded
        self.n_parts = 2 if with_mask and layout.has_missing else 1  # the row and its mask
        column, position = layout.inputs.T
        self.width = int(position.max(initial=0)) + 1
        self.n_channels = self.n_parts * self.width
        # the index past the row's end is padded with a zero
        source = np.full((n_columns, self.width), self.n_encoded)
        source[column, position] = np.arange(self.n_encoded)
        self.register_buffer("source", torch.as_tensor(source.ravel()), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (B, n) -> columns (B, n_columns, n_channels), conditions (B, n_conditions)."""
        sizes = [self.n_encoded] * self.n_parts
        *parts, conditions = x.split([*sizes, x.shape[1] - sum(sizes)], dim=1)
        scattered = [
            F.pad(part, (0, 1)).index_select(1, self.source).unflatten(1, (self.n_columns, -1))
            for part in parts
        ]
        return scattered[0] if len(scattered) == 1 else torch.cat(scattered, dim=2), conditions


class Gather(nn.Module):
    """Gathers the parameters of p(x|z) from the columns of X.

    Parameters
    ----------
    layout : Layout
        Columns of the decoder's outputs.

    Attributes
    ----------
    n_channels : int
        Parameters per column, of which a column may have fewer.
    """

    source: Tensor

    def __init__(self, layout: Layout):
        super().__init__()
        column, position = layout.outputs.T
        self.n_channels = int(position.max(initial=0)) + 1
        source = torch.as_tensor(column * self.n_channels + position)
        self.register_buffer("source", source, persistent=False)

    def forward(self, columns: Tensor) -> Tensor:
        """Columns of X in C order (B, ..., n_channels) -> parameters of p(x|z) (B, n_out)."""
        return columns.flatten(1).index_select(1, self.source)
