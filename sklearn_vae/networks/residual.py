"""Multilayer perceptrons of residual blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from sklearn_vae.networks.base import Layout, Network
from sklearn_vae.networks.layers import Activation, zero_init_
from sklearn_vae.networks.per_member import PerMember
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_integer


@serializable
@dataclass(frozen=True)
class ResidualMLP(Network):
    r"""Multilayer perceptron of residual blocks; ``network="residual"``.

    A first layer maps a row to ``n_units`` numbers. Each of ``hidden_layer_sizes`` is the width
    of a residual block,

    .. math:: h \leftarrow h + W_2 \, \sigma(W_1 \, \mathrm{norm}(h)),

    through which the gradient passes unchanged, however many there are. Depth pays on large
    tables with nonlinear structure; on a few thousand rows ``network="mlp"`` is as good, and
    faster.

    Parameters
    ----------
    n_units : int, default=128
        Width of the residual stream.

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

    def __post_init__(self) -> None:
        check_integer(self, "n_units", self.n_units)

    def encoder(self, n_members: int, layout: Layout) -> PerMember:
        """Build encoders."""
        return self._build(
            n_members, *layout.encoder_sizes, layout.hidden_layer_sizes, layout.activation
        )

    def decoder(self, n_members: int, layout: Layout) -> PerMember:
        """Build decoders, whose blocks are the encoder's in reverse."""
        return self._build(
            n_members, *layout.decoder_sizes, layout.hidden_layer_sizes[::-1], layout.activation
        )

    def _build(
        self, n_members: int, n_in: int, n_out: int, widths: Sequence[int], activation: str
    ) -> PerMember:
        make = partial(ResidualBlocks, n_in, n_out, self.n_units, widths, activation)
        return PerMember(n_members, n_in, n_out, make)

    def layers(self, layout: Layout) -> list[tuple[int, int]]:
        """Width of each layer of the encoder and its multiplications per row."""
        n_units, n_encoded, n_components = self.n_units, layout.n_encoded, layout.n_components
        blocks = [pair for width in layout.hidden_layer_sizes for pair in [(n_units, width)] * 2]
        pairs = [(n_encoded, n_units), *blocks, (n_units, n_components), (n_encoded, n_components)]
        return [(b, a * b) for a, b in pairs]


class ResidualBlock(nn.Module):
    """Two layers whose output is added to their input."""

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
    """A first layer, residual blocks, and a last layer that starts at zero."""

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
