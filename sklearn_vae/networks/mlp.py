"""Layers with a member axis in front: one program for one model or eighty.

Weights are (M, n_in, n_out), data are (M, rows, n_in). A model alone is M = 1.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_vae.networks.matmul import baddbmm
from sklearn_vae.random import Stream, make_generator

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "logistic": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "silu": F.silu,
    "gelu": F.gelu,
}


def bounded(raw: Tensor, bound: float) -> Tensor:
    """Keep a log-scale within plus and minus ``bound``, smoothly."""
    return bound * torch.tanh(raw / bound)


def unbounded(log_scale: Tensor, bound: float) -> Tensor:
    """Find the raw value whose bounded one is ``log_scale``."""
    return bound * torch.atanh((log_scale / bound).clamp(-0.999, 0.999))


class Dense(nn.Module):
    """An affine map per member, zero until drawn.

    Parameters
    ----------
    n_members, n_in, n_out : int
        Number of members, width of the input and of the output.
    """

    def __init__(self, n_members: int, n_in: int, n_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_members, n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_members, 1, n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (M, n_in, rows) to (M, n_out, rows)."""
        return baddbmm(self.bias.mT, self.weight.mT, x)

    @torch.no_grad()
    def draw(self, member: int, generator: torch.Generator, n_in: int | None = None) -> None:
        """Draw one member's weights, uniform with the variance of 1 / n_in.

        A member whose input is narrower than the others' gets its ``n_in`` rows.
        """
        n_in, n_out = n_in or self.weight.shape[1], self.weight.shape[2]
        bound = 1 / math.sqrt(max(n_in, 1))
        # row by row, weights before biases: a narrower input draws a prefix of the same numbers
        uniform = torch.rand(n_out + n_in * n_out, generator=generator).mul_(2).sub_(1)
        self.bias[member, 0].copy_(uniform[:n_out] * bound)
        self.weight[member, :n_in] = uniform[n_out:].view(n_in, n_out) * (math.sqrt(3) * bound)


class Path(nn.Module):
    """A network of all members, with a linear path beside it that can start at a solution.

    Attributes
    ----------
    linear : Dense
        The linear path.
    is_autoregressive : bool
        Whether it is given rows beside codes, of which it sees in each place what comes
        before.
    has_dropout : bool
        Whether training steps draw by chance what is dropped.
    word_dropout : float
        Share of the places of these rows that training hides from it.
    """

    linear: Dense
    is_autoregressive = False
    word_dropout = 0.0
    has_dropout = False
    # of each member, while an iteration of training lasts; without them nothing is dropped
    dropout_generators: Sequence[torch.Generator] | None = None

    def matrices(self) -> list[nn.Parameter]:
        """Weights that weight decay shrinks."""
        raise NotImplementedError

    def flat_parameters(self) -> list[nn.Parameter]:
        """All parameters, in the order in which they lie in memory."""
        raise NotImplementedError

    def draw(self, member: int, seed: int, side: int, n_in: int | None = None) -> None:
        """Draw one member's weights from its seed: side 0 is the encoder, 1 the decoder.

        Of a member whose input is narrower than the others', ``n_in`` rows are drawn.
        """
        raise NotImplementedError


class MLP(Path):
    """Hidden layers with a linear path beside them.

    The output is ``linear(x) + network(x)``. The network's last layer starts at zero,
    so that the whole is linear before the first step and can start at a known solution.

    Parameters
    ----------
    n_members, n_in, n_out : int
        Number of members, width of the input and of the output.
    hidden_layer_sizes : sequence of int
        Widths between them; empty for the linear path alone.
    activation : str
        Name of the function between the layers, a key of ``ACTIVATIONS``.
    """

    def __init__(
        self,
        n_members: int,
        n_in: int,
        n_out: int,
        hidden_layer_sizes: Sequence[int],
        activation: str,
    ):
        super().__init__()
        widths = [n_in, *hidden_layer_sizes]
        self.linear = Dense(n_members, n_in, n_out)
        self.hidden = nn.ModuleList(Dense(n_members, a, b) for a, b in pairwise(widths))
        # without a bias, which would repeat the linear path's
        last = nn.Parameter(torch.zeros(n_members, widths[-1], n_out)) if self.hidden else None
        self.last: nn.Parameter | None
        self.register_parameter("last", last)
        self.activation_name = activation
        self.activation = ACTIVATIONS[activation]

    @property
    def layers(self) -> list[Dense]:
        """The hidden layers."""
        return cast(list[Dense], list(self.hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Map (M, rows, n_in) to (M, rows, n_out)."""
        # inside, features lie first: products are faster with the rows along the last axis
        x = x.mT  # (M, n_in, rows)
        out = self.linear(x)
        if self.last is None:
            return out.mT
        for layer in self.layers:
            x = self.activation(layer(x))
        return baddbmm(out, self.last.mT, x).mT

    def matrices(self) -> list[nn.Parameter]:
        """Weights of the hidden layers and the last one."""
        return [*(layer.weight for layer in self.layers), *self._last()]

    def flat_parameters(self) -> list[nn.Parameter]:
        """All parameters: layer by layer, weights before biases, the linear path at the end."""
        hidden = [param for layer in self.layers for param in (layer.weight, layer.bias)]
        return [*hidden, *self._last(), self.linear.weight, self.linear.bias]

    def _last(self) -> list[nn.Parameter]:
        return [] if self.last is None else [self.last]

    def draw(self, member: int, seed: int, side: int, n_in: int | None = None) -> None:
        """Draw one member's hidden layers, each from a stream of its own."""
        for place, layer in enumerate(self.layers):
            layer.draw(member, make_generator(seed, Stream.WEIGHTS, side, place), n_in)
            n_in = None  # only the first layer sees the input

    @torch.no_grad()
    def draw_last(self, member: int, seed: int, side: int, columns: np.ndarray) -> None:
        """Draw some columns of one member's last layer, with variance 1 / (3 n_in)."""
        last = cast(nn.Parameter, self.last)
        n_in = last.shape[1]
        generator = make_generator(seed, Stream.WEIGHTS, side, len(self.layers))
        # column by column: fewer of them are a prefix of the same numbers
        uniform = torch.rand(len(columns), n_in, generator=generator).mul_(2).sub_(1)
        last[member][:, columns] = uniform.T.to(last) / math.sqrt(n_in)
