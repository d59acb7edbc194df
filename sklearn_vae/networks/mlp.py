"""Fully connected layers, and multilayer perceptrons with a linear skip connection.

All have a member axis in front: weights are (M, n_in, n_out), rows (M, B, n_in).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_vae.networks.perceptron import Perceptron
from sklearn_vae.numerics.random import Stream, make_generator


class FlatParameter(NamedTuple):
    """A parameter of a network, and what its optimizer needs to know."""

    value: nn.Parameter
    decays: bool = False  # whether weight decay shrinks it
    reads_input: bool = False  # its learning rate is lower where the input is wide


class Dense(nn.Module):
    """A fully connected layer per member, zero until ``reset_parameters``."""

    def __init__(self, n_members: int, n_in: int, n_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_members, n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_members, 1, n_out))

    def flat_parameters(
        self, *, decays: bool = False, reads_input: bool = True
    ) -> list[FlatParameter]:
        """Weights, then biases."""
        return [FlatParameter(self.weight, decays, reads_input), FlatParameter(self.bias)]

    @torch.no_grad()
    def reset_parameters(self, member: int, generator: torch.Generator) -> None:
        """Draw one member's weights, uniform with variance 1 / n_in."""
        n_in, n_out = self.weight[0].shape
        bound = 1 / math.sqrt(max(n_in, 1))
        # row by row, weights before biases: a narrower input draws a prefix of the same numbers
        n_numbers = n_out + n_in * n_out
        uniform = 2 * torch.rand(n_numbers, generator=generator, dtype=torch.float) - 1
        self.bias[member, 0].copy_(uniform[:n_out] * bound)
        self.weight[member] = uniform[n_out:].view(n_in, n_out) * (math.sqrt(3) * bound)


class SkipNetwork(nn.Module):
    """A network per member with a linear skip connection, which can start at a linear model."""

    linear: Dense  # the skip connection
    # columns of each time step, for an autoregressive decoder: it reads rows beside codes, and of
    # them the steps before each. None if it reads codes alone
    time_steps: list[Tensor] | None = None

    def flat_parameters(self) -> list[FlatParameter]:
        """All parameters, in the order in which they lie in memory."""
        raise NotImplementedError

    def output_weights(self) -> list[nn.Parameter]:
        """Weights (M, n_in, n_out) whose columns are those of the output."""
        return [self.linear.weight]

    def reset_parameters(self, member: int, seed: int, side: int) -> None:
        """Draw one member's weights from its seed: side 0 is the encoder, 1 the decoder."""
        raise NotImplementedError


class MLP(Perceptron, SkipNetwork):
    """A multilayer perceptron with a linear skip connection.

    The output is ``linear(x) + layers(x)``, with SiLU as activation. The last layer starts at zero.
    """

    def __init__(self, n_members: int, n_in: int, n_out: int, hidden_layer_sizes: Sequence[int]):
        super().__init__()
        widths = [n_in, *hidden_layer_sizes]
        self.linear = Dense(n_members, n_in, n_out)
        hidden = nn.ModuleList(Dense(n_members, a, b) for a, b in pairwise(widths))
        self.hidden = cast(Sequence[Dense], hidden)
        last = torch.zeros(n_members, widths[-1], n_out)
        self.last = nn.Parameter(last) if self.hidden else None

    def flat_parameters(self) -> list[FlatParameter]:
        """All parameters: layer by layer, weights before biases, the skip connection at the end."""
        hidden = [
            param
            for number, layer in enumerate(self.hidden)
            for param in layer.flat_parameters(decays=True, reads_input=number == 0)
        ]
        last = [] if self.last is None else [FlatParameter(self.last, decays=True)]
        return [*hidden, *last, *self.linear.flat_parameters()]

    def output_weights(self) -> list[nn.Parameter]:
        """Weights of the skip connection and of the last layer."""
        return [self.linear.weight, *([] if self.last is None else [self.last])]

    def reset_parameters(self, member: int, seed: int, side: int) -> None:
        """Draw one member's hidden layers, each from its own random stream."""
        for number, layer in enumerate(self.hidden):
            generator = make_generator(seed, Stream.WEIGHTS, side, number)
            layer.reset_parameters(member, generator)

    @torch.no_grad()
    def reset_last_layer(self, member: int, seed: int, side: int, columns: np.ndarray) -> None:
        """Draw columns of one member's last layer, uniform with variance 1 / (3 n_in)."""
        last = cast(nn.Parameter, self.last)
        n_in = last.shape[1]
        generator = make_generator(seed, Stream.WEIGHTS, side, len(self.hidden))
        # column by column: fewer of them are a prefix of the same numbers
        shape = len(columns), n_in
        uniform = 2 * torch.rand(shape, generator=generator, dtype=torch.float) - 1
        last[member][:, columns] = uniform.T.to(last) / math.sqrt(n_in)
