"""Pieces that ordinary torch modules are made of: layers in a row, and last ones of zeros."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from sklearn_vae.networks.mlp import ACTIVATIONS


class Activation(nn.Module):
    """A function between layers, by its name."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """Compute it number by number."""
        return ACTIVATIONS[self.name](x)


def stack(widths: Sequence[int], activation: str) -> nn.Sequential:
    """Layers from each width to the next, the function after each: (B, first) -> (B, last)."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), Activation(activation)]
    return nn.Sequential(*layers)


def zero_init_(layer: nn.Linear | nn.ConvTranspose2d) -> nn.Module:
    """Give a last layer, which starts at zero: the linear path beside it says all at first."""
    nn.init.zeros_(layer.weight)
    return layer
