"""Networks of the user's own: ordinary torch modules as encoder or decoder."""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from sklearn_vae.networks.base import Layout, Network
from sklearn_vae.networks.mlp import Path
from sklearn_vae.networks.per_member import PerMember

# Where widths come from that are not those of X.
WIDTHS = (
    "(The input of an encoder has a number for each column of X that is not constant, for each "
    "class of a column of classes, and as many again where cells are missing.)"
)
OTHER_ROWS = (
    "depends on the other rows of a batch. Use LayerNorm or weight_decay; in a module that is "
    "made and trained already, its running statistics are taken as they are."
)
# Rows with which a module is tried before it is trusted.
ROWS_TO_TRY = 2


@dataclass(frozen=True)
class CustomNetwork:
    """A user's module, and the arguments that it is made with.

    Attributes
    ----------
    made_by : type, callable or torch.nn.Module
        Makes the module of the widths of its input and output, or is one.
    arguments : tuple of (str, value)
        Further arguments, by name.
    """

    made_by: Any
    arguments: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, value: Any) -> "CustomNetwork":
        """Take what the parameters ``encoder`` and ``decoder`` may be."""
        if isinstance(value, partial):
            return cls(value.func, tuple(sorted(value.keywords.items())))
        return cls(value)

    def with_arguments(self, arguments: dict[str, Any]) -> Any:
        """Give a value for the parameter with some of the arguments changed.

        Raises
        ------
        ValueError
            If the module is made already, or does not take such an argument.
        """
        if isinstance(self.made_by, nn.Module):
            raise ValueError(
                f"{type(self.made_by).__name__} is a module that is made already, so its "
                f"{', '.join(map(repr, arguments))} cannot be set. Give its class instead."
            )
        known = inspect.signature(self.made_by).parameters.values()
        takes_all = any(own.kind is own.VAR_KEYWORD for own in known)
        names = [own.name for own in known][2:]
        for name in arguments:
            if name not in names and not takes_all:
                raise ValueError(
                    f"{_name(self.made_by)} takes no argument {name!r}. Its arguments, after the "
                    f"widths of its input and output, are {names!r}."
                )
        return partial(self.made_by, **{**dict(self.arguments), **arguments})

    def defaults(self) -> dict[str, Any]:
        """Give all arguments after the two widths that have a value."""
        # whatever else a parameter may hold is refused in fit, and not before
        if isinstance(self.made_by, nn.Module) or not callable(self.made_by):
            return {}
        known = list(inspect.signature(self.made_by).parameters.values())[2:]
        told = {own.name: own.default for own in known if own.default is not own.empty}
        return {**told, **dict(self.arguments)}

    def path(self, parameter: str, n_members: int, n_in: int, n_out: int) -> PerMember:
        """Make it for each member, and see whether it does what it has to.

        Raises
        ------
        ValueError
            If it cannot be made, draws by chance, or gives an output of another shape.
        """
        said = f"The '{parameter}' parameter"
        try:
            path = PerMember(n_members, n_in, n_out, self._maker(n_in, n_out), gated=True)
            if not n_members:  # shapes alone, which take no memory, are asked for
                return path
            module = path.module
            out = module(torch.zeros(ROWS_TO_TRY, n_in))
        except Exception as error:
            raise ValueError(
                f"{said} must make a module of the widths of its input and output, here "
                f"{_name(self.made_by)}({n_in}, {n_out}), that takes rows of {n_in} numbers. "
                f"{WIDTHS} It failed: {error}"
            ) from error
        if not isinstance(out, torch.Tensor) or out.shape != (ROWS_TO_TRY, n_out):
            raise ValueError(
                f"{said} must give {n_out} numbers per row: for rows of shape "
                f"{(ROWS_TO_TRY, n_in)}, an output of shape {(ROWS_TO_TRY, n_out)}. "
                f"{_name(self.made_by)} gave {_shown(out)}. {WIDTHS}"
            )
        for name, part in module.named_modules():
            if reason := self._obstacle(part):
                raise ValueError(
                    f"{said} must be a function of the row alone, and {type(part).__name__} "
                    f"({name or 'the module itself'}) {reason}"
                )
        return path

    def _obstacle(self, part: nn.Module) -> str | None:
        """Why a part cannot be computed for each row and member alone, if so."""
        if isinstance(part, _DropoutNd) and part.p > 0:
            return "draws what it drops by torch's global generator. Take nn.Dropout."
        if not isinstance(part, _NormBase):
            return None
        is_trained = isinstance(self.made_by, nn.Module)
        if not part.track_running_stats:
            return None if isinstance(part, _InstanceNorm) else OTHER_ROWS
        return None if is_trained else OTHER_ROWS

    def _maker(self, n_in: int, n_out: int) -> Callable[[], nn.Module]:
        if isinstance(self.made_by, nn.Module):
            return lambda: copy.deepcopy(self.made_by)
        return lambda: self.made_by(n_in, n_out, **dict(self.arguments))


def _shown(out: Any) -> str:
    """Say what a module gave, and what to give in its place if it is several tensors."""
    if isinstance(out, torch.Tensor):
        return f"shape {tuple(out.shape)}"
    if isinstance(out, tuple | list) and all(isinstance(own, torch.Tensor) for own in out):
        shapes = ", ".join(str(tuple(own.shape)) for own in out)
        return (
            f"{len(out)} tensors, of shapes {shapes}; give one, such as "
            f"torch.cat([location, log_scale], dim=1)"
        )
    return repr(out)


def _name(value: Any) -> str:
    kind = type(value) if isinstance(value, nn.Module) else value
    return getattr(kind, "__name__", repr(kind))


@dataclass(frozen=True)
class EncoderDecoderPair:
    """An encoder, a decoder or both of the user's own, beside a network of ours.

    Attributes
    ----------
    ours : network
        What the other one is.
    own_encoder, own_decoder : CustomNetwork or None
        The user's.
    """

    ours: Network
    own_encoder: CustomNetwork | None = None
    own_decoder: CustomNetwork | None = None

    supports_padding = False

    @property
    def shared_scale(self) -> bool:
        """As the network of ours has it."""
        return self.ours.shared_scale

    @property
    def n_values(self) -> int:
        """As the network of ours has it."""
        return self.ours.n_values

    @property
    def variable_length(self) -> bool:
        """As the network of ours has it, if the encoder is ours."""
        return self.ours.variable_length and self.own_encoder is None

    @property
    def is_autoregressive(self) -> bool:
        """As the network of ours has it, if the decoder is ours."""
        return self.ours.is_autoregressive and self.own_decoder is None

    def for_n_features(self, n_features: int) -> "EncoderDecoderPair":
        """Give the kind for rows of so many columns."""
        return replace(self, ours=self.ours.for_n_features(n_features))

    def check_holes(self, X: np.ndarray) -> None:
        """Refuse rows with missing cells where the network of ours takes none."""
        self.ours.check_holes(X)

    def encoder(
        self, n_members: int, layout: Layout, hidden_layer_sizes: Sequence[int], activation: str
    ) -> Path:
        """Make encoders."""
        if self.own_encoder is None:
            return self.ours.encoder(n_members, layout, hidden_layer_sizes, activation)
        return self.own_encoder.path("encoder", n_members, layout.n_seen, layout.n_posterior_params)

    def decoder(
        self, n_members: int, layout: Layout, hidden_layer_sizes: Sequence[int], activation: str
    ) -> Path:
        """Make decoders."""
        if self.own_decoder is None:
            return self.ours.decoder(n_members, layout, hidden_layer_sizes, activation)
        return self.own_decoder.path(
            "decoder", n_members, layout.n_decoder_inputs, len(layout.param)
        )

    def layers(
        self, n_seen: int, n_decoder_inputs: int, hidden_layer_sizes: Sequence[int]
    ) -> list[int]:
        """About how many products each layer takes, as if all were ours."""
        return self.ours.layers(n_seen, n_decoder_inputs, hidden_layer_sizes)

    def widest(self, hidden_layer_sizes: Sequence[int]) -> int:
        """Numbers per row in the widest hidden layer, as if all were ours."""
        return self.ours.widest(hidden_layer_sizes)
