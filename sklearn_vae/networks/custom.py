"""Custom networks: the user's torch modules as encoder or decoder."""

import copy
import inspect
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from sklearn_vae._compat import DropoutNd, InstanceNorm, NormBase
from sklearn_vae.networks.base import Layout, Network, RowStructure
from sklearn_vae.networks.mlp import SkipNetwork
from sklearn_vae.networks.per_member import PerMember
from sklearn_vae.numerics.random import seeded
from sklearn_vae.persistence.registry import serializable

WIDTHS = (
    "(The input of an encoder has a number for each column of X that is not constant, for each "
    "class of a column of classes, and as many again where cells are missing.)"
)
OTHER_ROWS = (
    "depends on the other rows of a batch. Use LayerNorm or weight_decay; the running statistics "
    "of a module that is an instance, trained already, are used as they are."
)
# Rows with which a new module is called, to check its output.
N_TEST_ROWS = 2


@serializable
@dataclass(frozen=True)
class CustomNetwork:
    """A user's module and the arguments that build it.

    Attributes
    ----------
    made_by : type, callable or torch.nn.Module
        A module, or a callable that builds one from the widths of its input and output.
    arguments : tuple of (str, value)
        Further arguments of the callable, by name.
    """

    made_by: Any
    arguments: tuple[tuple[str, Any], ...] = ()

    def __repr__(self) -> str:
        """Show the callable by its name: checkpoints compare it with that of another process."""
        made_by = self.made_by
        if not isinstance(made_by, nn.Module):
            named = made_by if hasattr(made_by, "__qualname__") else type(made_by)
            made_by = f"{named.__module__}.{named.__qualname__}"
        return f"CustomNetwork({made_by}, {self.arguments})"

    def __eq__(self, other: object) -> bool:
        """Compare modules by their class, layers and state, not by where they lie in memory."""
        if not isinstance(other, CustomNetwork):
            return NotImplemented
        made_by = self.made_by, other.made_by
        if all(isinstance(module, nn.Module) for module in made_by):
            return self.arguments == other.arguments and _is_same_module(*made_by)
        return (self.made_by, self.arguments) == (other.made_by, other.arguments)

    def __hash__(self) -> int:
        """Hash the class of a module, which is compared by its state."""
        made_by = self.made_by
        return hash((type(made_by) if isinstance(made_by, nn.Module) else made_by, self.arguments))

    def copied(self) -> "CustomNetwork":
        """Copy a module, which remains the user's to change."""
        return replace(self, made_by=copy.deepcopy(self.made_by)) if self.is_module else self

    @property
    def is_module(self) -> bool:
        """True if the module is made already."""
        return isinstance(self.made_by, nn.Module)

    @classmethod
    def from_param(cls, value: Any) -> "CustomNetwork":
        """Make it from a value of the parameter ``encoder`` or ``decoder``."""
        if isinstance(value, partial):
            return cls(value.func, tuple(sorted(value.keywords.items())))
        return cls(value)

    def with_arguments(self, arguments: dict[str, Any]) -> Any:
        """Return a value of the parameter with some of the arguments changed.

        Raises
        ------
        ValueError
            If the parameter is a module, or a callable without these arguments.
        """
        if self.is_module:
            raise ValueError(
                f"{type(self.made_by).__name__} is a module that is made already, so its "
                f"{', '.join(map(repr, arguments))} cannot be set. Give its class instead."
            )
        params = inspect.signature(self.made_by).parameters.values()
        takes_all = any(param.kind is param.VAR_KEYWORD for param in params)
        names = [param.name for param in params][2:]
        for name in arguments:
            if name not in names and not takes_all:
                raise ValueError(
                    f"{_name(self.made_by)} takes no argument {name!r}. Its arguments, after the "
                    f"widths of its input and output, are {names!r}."
                )
        return partial(self.made_by, **{**dict(self.arguments), **arguments})

    def defaults(self) -> dict[str, Any]:
        """Return the arguments after the two widths that have a value."""
        # an invalid parameter is refused in fit, not before
        if self.is_module or not callable(self.made_by):
            return {}
        params = list(inspect.signature(self.made_by).parameters.values())[2:]
        values = {param.name: param.default for param in params if param.default is not param.empty}
        return {**values, **dict(self.arguments)}

    def build(self, parameter: str, n_members: int, n_in: int, n_out: int) -> PerMember:
        """Build the module of each member, and check its output.

        Raises
        ------
        ValueError
            If it cannot be built, draws random numbers, its output depends on other rows, or has
            another shape.
        """
        parameter = f"The '{parameter}' parameter"
        rows = torch.linspace(-1, 1, N_TEST_ROWS * n_in, dtype=torch.float).view(N_TEST_ROWS, n_in)
        try:
            if self.is_module:
                make = partial(copy.deepcopy, self.made_by)
            else:
                make = partial(self.made_by, n_in, n_out, **dict(self.arguments))
            network = PerMember(n_members, n_in, n_out, make, gated=True)
            if not n_members:  # without weights, for their shapes alone
                return network
            module = network.module
            rows = rows.to(next(module.parameters(), rows))
            with seeded(0):
                before = torch.get_rng_state()
                out = module(rows)
                is_random = not torch.equal(torch.get_rng_state(), before)
                alone = [module(row) for row in rows.split(1)]
        except Exception as error:
            raise ValueError(
                f"{parameter} must make a module of the widths of its input and output, here "
                f"{_name(self.made_by)}({n_in}, {n_out}), that takes rows of {n_in} numbers. "
                f"{WIDTHS} It failed: {error}"
            ) from error
        if not isinstance(out, torch.Tensor) or out.shape != (N_TEST_ROWS, n_out):
            raise ValueError(
                f"{parameter} must give {n_out} numbers per row: for rows of shape "
                f"{(N_TEST_ROWS, n_in)}, an output of shape {(N_TEST_ROWS, n_out)}. "
                f"{_name(self.made_by)} gave {_describe(out)}. {WIDTHS}"
            )
        for name, part in module.named_modules():
            if reason := self._obstacle(part):
                raise ValueError(
                    f"{parameter} must be a function of the row alone, and {type(part).__name__} "
                    f"({name or 'the module itself'}) {reason}"
                )
        if is_random or not torch.allclose(
            out, torch.cat(alone), rtol=1e-3, atol=1e-5, equal_nan=True
        ):
            reason = "draws from torch's global generator" if is_random else "differs with others"
            raise ValueError(
                f"{parameter} must be a function of the row alone, and the output of "
                f"{_name(self.made_by)} for a row {reason}."
            )
        return network

    def _obstacle(self, part: nn.Module) -> str | None:
        """Reason why the output of a row would not depend on that row alone; None if it does."""
        if isinstance(part, DropoutNd) and part.p > 0:
            return "draws what it drops by torch's global generator. Take nn.Dropout."
        if not isinstance(part, NormBase):
            return None
        if not part.track_running_stats:
            return None if isinstance(part, InstanceNorm) else OTHER_ROWS
        return None if self.is_module else OTHER_ROWS


def _is_same_module(first: nn.Module, second: nn.Module) -> bool:
    """Return whether modules have the same class, layers, parameters and buffers."""
    if first is second:
        return True
    if type(first) is not type(second) or repr(first) != repr(second):
        return False
    states = [
        {**dict(module.named_parameters()), **dict(module.named_buffers())}
        for module in (first, second)
    ]
    return states[0].keys() == states[1].keys() and all(
        torch.equal(value, states[1][name]) for name, value in states[0].items()
    )


def _describe(out: Any) -> str:
    """Describe an output of the wrong shape, with advice if it is several tensors."""
    if isinstance(out, torch.Tensor):
        return f"shape {tuple(out.shape)}"
    if isinstance(out, tuple | list) and all(isinstance(part, torch.Tensor) for part in out):
        shapes = ", ".join(str(tuple(part.shape)) for part in out)
        return (
            f"{len(out)} tensors, of shapes {shapes}; give one, such as "
            f"torch.cat([location, log_scale], dim=1)"
        )
    return repr(out)


def _name(value: Any) -> str:
    cls = type(value) if isinstance(value, nn.Module) else value
    return getattr(cls, "__name__", repr(cls))


@serializable
@dataclass(frozen=True)
class EncoderDecoderPair(Network):
    """A network whose encoder, decoder or both are custom.

    Attributes
    ----------
    base : Network
        Network of the side that is not custom.
    custom_encoder, custom_decoder : CustomNetwork or None
        The user's modules.
    """

    base: Network
    custom_encoder: CustomNetwork | None = None
    custom_decoder: CustomNetwork | None = None

    @property
    def row_structure(self) -> RowStructure:
        """That of the base; custom encoders and decoders do not read rows step by step."""
        structure = self.base.row_structure
        return replace(
            structure,
            variable_length=structure.variable_length and self.custom_encoder is None,
            is_autoregressive=structure.is_autoregressive and self.custom_decoder is None,
        )

    def for_n_features(self, n_features: int) -> "EncoderDecoderPair":
        """Return the network for rows of ``n_features`` columns."""
        return replace(self, base=self.base.for_n_features(n_features))

    def encoder(self, n_members: int, layout: Layout) -> SkipNetwork:
        """Build encoders."""
        if self.custom_encoder is None:
            return self.base.encoder(n_members, layout)
        return self.custom_encoder.build("encoder", n_members, *layout.encoder_sizes)

    def decoder(self, n_members: int, layout: Layout) -> SkipNetwork:
        """Build decoders."""
        if self.custom_decoder is None:
            return self.base.decoder(n_members, layout)
        return self.custom_decoder.build("decoder", n_members, *layout.decoder_sizes)

    def layers(self, layout: Layout) -> list[tuple[int, int]]:
        """Widths and multiplications as if neither side were custom."""
        return self.base.layers(layout)
