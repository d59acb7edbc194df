"""Ordinary torch modules, one per member, with a linear skip connection, and layers they share.

A model orders the columns of a table by likelihood and leaves out constant ones. Networks that
rely on neighbouring pixels or steps scatter them to their columns of X first.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from sklearn_vae.networks.base import Layout
from sklearn_vae.networks.mlp import Dense, FlatParameter, SkipNetwork
from sklearn_vae.networks.perceptron import dense
from sklearn_vae.numerics.random import Stream, make_generator, seeded, stream_seed

# Learning rate of a gate relative to the weights': of 1, 10 and 30 the best scores on three tables.
GATE_SPEED = 10.0


class Dropout(nn.Module):
    """Dropout by its own generator, not torch's global one; the identity without any."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Set values to zero with probability p, and divide the rest by 1 - p."""
        if self.generator is None:
            return x
        uniform = torch.rand(x.shape, generator=self.generator, dtype=x.dtype)
        return torch.where(uniform.to(x.device) < self.p, 0, x / (1 - self.p))


def _replace_dropout(module: nn.Module) -> list[Dropout]:
    """Replace torch's Dropout layers in place, and return the new ones."""
    for parent in list(module.modules()):
        for name, part in parent.named_children():
            if type(part) is nn.Dropout and part.p < 1:
                setattr(parent, name, Dropout(part.p))
    return [part for part in module.modules() if isinstance(part, Dropout)]


class PerMember(SkipNetwork):
    """One torch module per member, with a linear skip connection.

    The output is ``linear(x) + gate * module(x)``. Either the module's own output starts at zero,
    or the gate does (ReZero, Bachlechner et al., 2021). ``make`` builds the module, its weights
    drawn from torch's global generator. An autoregressive one is called with codes and rows.
    """

    module: nn.Module  # its forward pass computes every member; its own weights are unused

    def __init__(
        self,
        n_members: int,
        sizes: tuple[int, int],
        make: Callable[[], nn.Module],
        gated: bool = False,
    ):
        super().__init__()
        self.make = make
        # without members no weight takes any memory, whatever shapes a file states
        with seeded(0), torch.device("cpu" if n_members else "meta"):
            module = make().eval()
        names = [name for name, weight in module.named_parameters() if weight.requires_grad]
        module.requires_grad_(False)
        self._dropouts = tuple(_replace_dropout(module))
        # one per member during an iteration of training; without them nothing is dropped
        self._dropout_generators: list[torch.Generator] = []
        # not registered: torch would count its weights among the parameters
        object.__setattr__(self, "module", module)
        params = dict(module.named_parameters())
        # names in the module by those of the weights; frozen parameters are not trained
        self._names = {name.replace(".", "/"): name for name in names}
        shapes = {key: params[name].shape for key, name in self._names.items()}
        weights = {key: torch.zeros(n_members, *shape) for key, shape in shapes.items()}
        self.weights = nn.ParameterDict(weights)
        self.gate = nn.Parameter(torch.zeros(n_members, 1, 1)) if gated else None
        self.linear = Dense(n_members, *sizes)

    def forward(self, x: Tensor, *rows: Tensor) -> Tensor:
        """Map (M, rows, n_in), and rows (M, rows, n_columns) if autoregressive, to outputs."""
        outputs = []
        for m, inputs in enumerate(zip(x, *rows, strict=True)):
            for part in self._dropouts:
                part.generator = self._dropout_generators[m] if self._dropout_generators else None
            weights = {self._names[key]: weight[m] for key, weight in self.weights.items()}
            outputs.append(functional_call(self.module, weights, inputs))
        out = torch.stack(outputs).to(x.dtype)
        if self.gate is not None:
            out = GATE_SPEED * self.gate * out
        return dense(self.linear, x.mT).mT + out

    def flat_parameters(self) -> list[FlatParameter]:
        """All parameters, the skip connection at the end."""
        weights = [FlatParameter(weight, weight.dim() > 2) for weight in self.weights.values()]
        gate = [] if self.gate is None else [FlatParameter(self.gate)]
        return [*weights, *gate, *self.linear.flat_parameters()]

    @contextmanager
    def dropout(self, seeds: Sequence[int], epoch: int, side: int) -> Iterator[None]:
        """Within the block, an epoch of training, drop numbers at random, by each member's seed."""
        self._dropout_generators = [
            make_generator(seed, Stream.DROPOUT, epoch, side) for seed in seeds
        ]
        try:
            yield
        finally:
            self._dropout_generators = []

    @torch.no_grad()
    def reset_parameters(self, member: int, seed: int, side: int) -> None:
        """Draw one member's module: side 0 is the encoder, 1 the decoder."""
        with seeded(stream_seed(seed, Stream.WEIGHTS, side)):
            fresh = dict(self.make().named_parameters())
        for key, weight in self.weights.items():
            weight[member] = fresh[self._names[key]].detach()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PerMember":
        self.module._apply(fn, recurse)  # its buffers move with the weights
        return super()._apply(fn, recurse)


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

    The mask of observed values follows the row, if the layout has one, unless not ``with_mask``.
    """

    source: Tensor

    def __init__(self, layout: Layout, n_columns: int, *, with_mask: bool = True):
        super().__init__()
        self.n_columns, self.n_encoded = n_columns, layout.n_encoded
        self.n_parts = 2 if with_mask and layout.has_missing else 1  # the row and its mask
        column, position = layout.input_positions.T
        self.width = int(position.max(initial=0)) + 1
        self.n_channels = self.n_parts * self.width  # per column
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
    """Gathers the parameters of p(x|z) from the columns of X."""

    source: Tensor

    def __init__(self, layout: Layout):
        super().__init__()
        column, position = layout.output_positions.T
        self.n_channels = int(position.max(initial=0)) + 1  # parameters per column, at most
        source = torch.as_tensor(column * self.n_channels + position)
        self.register_buffer("source", source, persistent=False)

    def forward(self, columns: Tensor) -> Tensor:
        """Columns of X in C order (B, ..., n_channels) -> parameters of p(x|z) (B, n_out)."""
        return columns.flatten(1).index_select(1, self.source)
