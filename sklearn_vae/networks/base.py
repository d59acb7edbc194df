"""Kinds of networks: values that make the encoder and the decoder of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from sklearn_vae.networks.mlp import MLP, Path
from sklearn_vae.persistence.validation import check_integer


@dataclass(frozen=True)
class Layout:
    """What the numbers at both ends of a model are, for networks that ask for it.

    Encoders see a row's numbers, then, of rows with holes, which of them are there (1 or 0), and
    last its conditions. Decoders see a code and then the conditions.

    Attributes
    ----------
    n_components : int
        Latent dimensions.
    n_conditions : int
        Numbers that are given with a row and not modelled.
    n_posterior_params : int
        Parameters of q(z|x), which the encoder gives.
    column : ndarray of shape (n_columns,)
        Column of X of each number that the model sees of a row; constant columns have none.
    part : ndarray of shape (n_columns,)
        Which of the numbers of a value of that column it is: 0 but for classes.
    param_column, param : ndarray of shape (n_of_z,)
        Column of X of each of the decoder's numbers, and which of the numbers that say p(x|z)
        of a value of that column it is.
    has_holes : bool
        Whether the encoder is told which values are there.
    """

    n_components: int
    n_conditions: int
    n_posterior_params: int
    column: np.ndarray
    part: np.ndarray
    param_column: np.ndarray
    param: np.ndarray
    has_holes: bool

    @classmethod
    def of(
        cls, blocks: Sequence[tuple[Any, int]], places: Sequence[int], **others: Any
    ) -> "Layout":
        """Work out whose the numbers are, for kinds of neighbouring columns and their places.

        Without places, the columns of X are taken for those of the model.
        """
        waiting = iter(places or range(sum(n for _, n in blocks)))
        seen: list[tuple[int, int]] = []
        said: list[tuple[int, int]] = []
        for kind, n in blocks:
            own = [next(waiting) for _ in range(n)]
            seen += [(column, part) for column in own for part in range(kind.width)]
            first = 0
            for size, depends_on_z in zip(kind.sizes, kind.depends_on_z, strict=True):
                if depends_on_z:
                    said += [(column, first + k) for column in own for k in range(size)]
                    first += size
        column, part = np.array(seen, dtype=int).reshape(-1, 2).T
        param_column, param = np.array(said, dtype=int).reshape(-1, 2).T
        return cls(column=column, part=part, param_column=param_column, param=param, **others)

    @property
    def n_seen(self) -> int:
        """Numbers that the encoder sees."""
        return (2 if self.has_holes else 1) * len(self.column) + self.n_conditions

    @property
    def n_decoder_inputs(self) -> int:
        """Numbers that the decoder sees."""
        return self.n_components + self.n_conditions

    @cached_property
    def n_parts(self) -> int:
        """Numbers of a value at the most."""
        return int(self.part.max(initial=0)) + 1

    @cached_property
    def n_params(self) -> int:
        """Numbers that say p(x|z) of a value at the most."""
        return int(self.param.max(initial=0)) + 1


@runtime_checkable
class Network(Protocol):
    """What an architecture asks of a kind of network."""

    @property
    def supports_padding(self) -> bool:
        """Whether members with fewer latent dimensions can ride along with others."""

    @property
    def shared_scale(self) -> bool:
        """Whether columns are alike, and scaled by one number and not each by its own."""

    @property
    def n_values(self) -> int:
        """Which column is the next one like the first, where columns are alike."""

    @property
    def variable_length(self) -> bool:
        """Whether rows may end early: what is missing is then the end of a row.

        The encoder knows such rows, and is asked for their codes.
        """

    @property
    def is_autoregressive(self) -> bool:
        """Whether decoders see, in each place of a row, what comes before it."""

    def for_n_features(self, n_features: int) -> Self:
        """Give the kind for rows of so many columns.

        Raises
        ------
        ValueError
            If there is none.
        """

    def check_holes(self, X: np.ndarray) -> None:
        """Refuse rows (n, n_features) with missing cells, NaN, where there may be none."""

    def encoder(
        self, n_members: int, layout: Layout, hidden_layer_sizes: Sequence[int], activation: str
    ) -> Path:
        """Make encoders: rows (M, B, n_seen) to parameters of q(z|x) (M, B, n_recognised)."""

    def decoder(
        self, n_members: int, layout: Layout, hidden_layer_sizes: Sequence[int], activation: str
    ) -> Path:
        """Make decoders: codes (M, B, n_coded) to parameters of p(x|z) (M, B, n_of_z)."""

    def layers(
        self, n_seen: int, n_decoder_inputs: int, hidden_layer_sizes: Sequence[int]
    ) -> list[int]:
        """About how many products each layer of one end takes, per row."""

    def widest(self, hidden_layer_sizes: Sequence[int]) -> int:
        """Numbers per row in the widest hidden layer."""


class Unplaced:
    """What kinds of networks have in common to which columns may stand in any order."""

    shared_scale = False
    n_values = 1
    variable_length = False
    is_autoregressive = False

    def for_n_features(self, n_features: int) -> Self:
        """It takes rows of any length."""
        return self

    def check_holes(self, X: np.ndarray) -> None:
        """Rows may have holes anywhere."""


@dataclass(frozen=True)
class FullyConnected(Unplaced):
    """Layers of which each number is connected with all of the next layer.

    It is what ``network="mlp"`` stands for.
    """

    supports_padding = True

    def encoder(
        self, n_members: int, layout: Layout, hidden_layer_sizes: Sequence[int], activation: str
    ) -> MLP:
        """Make encoders."""
        sizes = layout.n_seen, layout.n_posterior_params
        return MLP(n_members, *sizes, hidden_layer_sizes, activation)

    def decoder(
        self, n_members: int, layout: Layout, hidden_layer_sizes: Sequence[int], activation: str
    ) -> MLP:
        """Make decoders, whose widths are the encoder's in reverse."""
        sizes = layout.n_decoder_inputs, len(layout.param)
        return MLP(n_members, *sizes, hidden_layer_sizes[::-1], activation)

    def layers(
        self, n_seen: int, n_decoder_inputs: int, hidden_layer_sizes: Sequence[int]
    ) -> list[int]:
        """About how many products each layer of one end takes, per row."""
        widths = [n_seen, *hidden_layer_sizes, n_decoder_inputs]
        return [*(a * b for a, b in pairwise(widths)), n_seen * n_decoder_inputs]

    def widest(self, hidden_layer_sizes: Sequence[int]) -> int:
        """Numbers per row in the widest hidden layer."""
        return max(hidden_layer_sizes, default=1)


def check_positive_ints(owner: Any, name: str, values: Any) -> tuple[int, ...]:
    """Check that a parameter of a kind of network holds whole numbers above 0."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(
            f"The '{name}' parameter of {type(owner).__name__} must be a tuple of integers. "
            f"Got {values!r} instead."
        )
    return tuple(check_integer(owner, name, value) for value in values)
