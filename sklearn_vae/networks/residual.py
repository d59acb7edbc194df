"""Blocks of layers, each of which adds to what passes by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from sklearn_vae.networks.base import Layout, Unplaced
from sklearn_vae.networks.blocks import Activation, zero_init_
from sklearn_vae.networks.per_member import PerMember
from sklearn_vae.persistence.validation import check_integer


@dataclass(frozen=True)
class ResidualMLP(Unplaced):
    r"""Layers of which each adds to what it is given, for ``network="residual"``.

    A row becomes ``n_units`` numbers, and each of ``hidden_layer_sizes`` is the width of a
    block that adds to them,

    .. math:: h \leftarrow h + W_2 \, \sigma(W_1 \, \mathrm{norm}(h)),

    so that the gradient finds its way through any number of blocks. Depth pays where the
    table is large and bent; on a few thousand rows ``network="mlp"`` is as good, and faster.

    Parameters
    ----------
    n_units : int, default=128
        Numbers that the blocks add to.

    Raises
    ------
    ValueError
        If ``n_units`` is not an integer >= 1.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Identity Mappings in Deep Residual Networks",
       ECCV 2016.
    .. [2] Y. Gorishniy, I. Rubachev, V. Khrulkov and A. Babenko, "Revisiting Deep Learning
       Models for Tabular Data", NeurIPS 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae.networks import ResidualMLP
    >>> from sklearn_vae import VAETransformer
    >>> network = ResidualMLP(n_units=32)
    >>> vae = VAETransformer(2, network=network, hidden_layer_sizes=(64, 64), max_iter=2)
    >>> vae.fit_transform(load_iris().data).shape
    (150, 2)
    """

    n_units: int = 128

    supports_padding = False

    def __post_init__(self) -> None:
        check_integer(self, "n_units", self.n_units)

    def encoder(
        self, n_members: int, layout: Layout, hidden_layer_sizes: Sequence[int], activation: str
    ) -> PerMember:
        """Make encoders."""
        sizes = layout.n_seen, layout.n_posterior_params
        make = partial(ResidualBlocks, *sizes, self.n_units, tuple(hidden_layer_sizes), activation)
        return PerMember(n_members, *sizes, make)

    def decoder(
        self, n_members: int, layout: Layout, hidden_layer_sizes: Sequence[int], activation: str
    ) -> PerMember:
        """Make decoders, whose blocks are the encoder's in reverse."""
        sizes = layout.n_decoder_inputs, len(layout.param)
        make = partial(
            ResidualBlocks, *sizes, self.n_units, tuple(hidden_layer_sizes[::-1]), activation
        )
        return PerMember(n_members, *sizes, make)

    def layers(
        self, n_seen: int, n_decoder_inputs: int, hidden_layer_sizes: Sequence[int]
    ) -> list[int]:
        """About how many products each layer of one end takes, per row."""
        inside = [self.n_units * width for width in hidden_layer_sizes for _ in range(2)]
        return [
            n_seen * self.n_units,
            *inside,
            self.n_units * n_decoder_inputs,
            n_seen * n_decoder_inputs,
        ]

    def widest(self, hidden_layer_sizes: Sequence[int]) -> int:
        """Numbers per row in the widest hidden layer."""
        return max(self.n_units, *hidden_layer_sizes, 1)


class ResidualBlock(nn.Module):
    """Two layers that add to what they are given."""

    def __init__(self, n_units: int, width: int, activation: str):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(n_units),
            nn.Linear(n_units, width),
            Activation(activation),
            nn.Linear(width, n_units),
        )

    def forward(self, h: Tensor) -> Tensor:
        """(B, n_units) -> (B, n_units)."""
        return h + self.layers(h)


class ResidualBlocks(nn.Module):
    """A layer, blocks, and a last layer that starts at zero."""

    def __init__(self, n_in: int, n_out: int, n_units: int, widths: Sequence[int], activation: str):
        super().__init__()
        self.first = nn.Linear(n_in, n_units)
        self.blocks = nn.Sequential(
            *(ResidualBlock(n_units, width, activation) for width in widths)
        )
        self.norm = nn.LayerNorm(n_units)
        self.activation = Activation(activation)
        self.last = zero_init_(nn.Linear(n_units, n_out, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in) -> (B, n_out)."""
        return self.last(self.activation(self.norm(self.blocks(self.first(x)))))
