"""Architectures of networks: values that build the encoders and the decoders of a model."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sklearn_vae.persistence.validation import serializable

if TYPE_CHECKING:
    from sklearn_vae.networks.mlp import SkipNetwork


@dataclass(frozen=True)
class RowStructure:
    """Structure of a row on which a network relies."""

    # of so many neighbouring columns, each shares scale and categories with those a multiple of it
    # away: all pixels, or columns at one position of a time step; None if none do
    period: int | None = None
    # time steps of a sequence of variable length: missing values are whole steps at its end
    n_steps: int | None = None
    is_autoregressive: bool = False  # the decoder reads, at each time step, the steps before it

    def check_missing(self, X: np.ndarray) -> None:
        """Refuse sequences (n, n_features) with a missing value, NaN, before their end."""
        if self.n_steps is None:
            return
        missing, values_per_step = np.isnan(X), X.shape[1] // self.n_steps
        has_step = ~missing.reshape(len(X), self.n_steps, values_per_step).all(axis=2)
        lengths = np.where(has_step.any(axis=1), self.n_steps - has_step[:, ::-1].argmax(axis=1), 0)
        lengths *= values_per_step
        gaps = np.argwhere(missing & (np.arange(X.shape[1]) < lengths[:, None]))
        if len(gaps):
            row, column = gaps[0].tolist()
            raise ValueError(
                f"A sequence may end early, but has no missing values before its end: X is missing "
                f"in row {row}, column {column}, though the row goes on until column "
                f"{lengths[row] - 1}."
            )


@dataclass(frozen=True)
class Layout:
    """Widths of a model's networks, and the columns of X of their inputs and outputs.

    Encoders read an encoded row, then, if values may be missing, its mask (1 is observed), and
    last the conditions. Decoders read a code and then the conditions.
    """

    n_components: int  # latent dimensions
    # widths of the encoder's hidden layers; the decoder mirrors them
    hidden_layer_sizes: tuple[int, ...]
    blocks: tuple[tuple[Any, int], ...]  # likelihoods, and the number of columns of each
    n_conditions: int = 0  # columns of the conditions, behind those of x
    # column of X of each column of x, for networks that need it; else empty: they are in order
    column_indices: tuple[int, ...] = ()
    # of the imputation layer before the encoder, which then reads a mask; 0 for complete rows
    n_factors: int = 0

    @property
    def has_missing(self) -> bool:
        """Whether the encoder reads the mask of the observed values."""
        return self.n_factors > 0

    @property
    def n_posterior_params(self) -> int:
        """Parameters of q(z|x), which are the encoder's outputs."""
        raise NotImplementedError

    @property
    def n_encoded(self) -> int:
        """Numbers of an encoded row, without its mask and its conditions."""
        return sum(n * likelihood.input_width for likelihood, n in self.blocks)

    @property
    def encoder_sizes(self) -> tuple[int, int]:
        """Widths of the encoder's input and output."""
        n_inputs = (2 if self.has_missing else 1) * self.n_encoded + self.n_conditions
        return n_inputs, self.n_posterior_params

    @property
    def decoder_sizes(self) -> tuple[int, int]:
        """Widths of the decoder's input and output, the parameters of p(x|z) that depend on z."""
        n_outputs = sum(n * sum(likelihood.decoded_sizes) for likelihood, n in self.blocks)
        return self.n_components + self.n_conditions, n_outputs

    @cached_property
    def input_positions(self) -> np.ndarray:
        """Column of X and position within its encoding of each encoded number: (n_encoded, 2)."""
        return self._positions([[likelihood.input_width] for likelihood, _ in self.blocks])

    @cached_property
    def output_positions(self) -> np.ndarray:
        """Column of X and position among its parameters of each output: (n_out, 2)."""
        return self._positions([likelihood.decoded_sizes for likelihood, _ in self.blocks])

    def _positions(self, sizes_of_blocks: Sequence[Sequence[int]]) -> np.ndarray:
        """Columns of X, and positions among a column's numbers, which lie in parts by size."""
        indices, pairs = iter(self.column_indices or range(sum(n for _, n in self.blocks))), []
        for (_, n), sizes in zip(self.blocks, sizes_of_blocks, strict=True):
            columns, first = list(islice(indices, n)), 0
            for size in sizes:
                pairs += [(column, first + k) for column in columns for k in range(size)]
                first += size
        return np.array(pairs, dtype=int).reshape(-1, 2)


class Network(ABC):
    """Architecture of encoder and decoder: a value that holds no weights."""

    @property
    def row_structure(self) -> RowStructure:
        """Structure of a row on which the network relies; by default none."""
        return RowStructure()

    def for_n_features(self, n_features: int) -> Self:
        """Return the network for rows of ``n_features`` columns, or refuse that number."""
        return self

    @abstractmethod
    def build(self, n_members: int, layout: Layout) -> "tuple[SkipNetwork, SkipNetwork]":
        """Build encoder and decoder of the layout's sizes: (M, B, n_in) -> (M, B, n_out)."""

    @abstractmethod
    def layers(self, layout: Layout) -> list[tuple[int, int]]:
        """Width of each layer of the encoder and its multiplications per row, roughly."""


@serializable
@dataclass(frozen=True)
class FullyConnected(Network):
    """Multilayer perceptron of fully connected layers; ``network="mlp"``."""

    def build(self, n_members: int, layout: Layout) -> "tuple[SkipNetwork, SkipNetwork]":
        """Build encoder and decoder."""
        from sklearn_vae.networks.mlp import MLP  # it imports PyTorch

        widths = layout.hidden_layer_sizes
        encoder = MLP(n_members, *layout.encoder_sizes, widths)
        return encoder, MLP(n_members, *layout.decoder_sizes, widths[::-1])

    def layers(self, layout: Layout) -> list[tuple[int, int]]:
        """Width of each layer of the encoder and its multiplications per row."""
        n_encoded, n_components = layout.n_encoded, layout.n_components
        widths = [n_encoded, *layout.hidden_layer_sizes, n_components]
        return [(b, a * b) for a, b in [*pairwise(widths), (n_encoded, n_components)]]


def check_size(owner: Any, name: str, shape: tuple[int, ...], n_features: int) -> None:
    """Check that rows of a network's shape have as many numbers as X has columns."""
    if math.prod(shape) != n_features:
        raise ValueError(
            f"The '{name}' parameter of {type(owner).__name__} is {shape}, which are "
            f"{math.prod(shape)} numbers, but X has {n_features} columns."
        )
