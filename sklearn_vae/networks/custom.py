"""Custom networks: the user's torch modules as encoder or decoder."""

import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from sklearn_vae.networks.base import Layout, Network, RowStructure
from sklearn_vae.networks.mlp import SkipNetwork
from sklearn_vae.networks.per_member import PerMember
from sklearn_vae.numerics.random import seeded
from sklearn_vae.persistence.registry import serializable

WIDTHS = (
    "(The input of an encoder has a number for each column of X that is not constant, for each "
    "class of a column of classes, and as many again where cells are missing.)"
)
# Rows with which a new module is called, to check its output: together and in two halves.
N_TEST_ROWS = 4


@serializable
@dataclass(frozen=True)
class CustomNetwork:
    """What builds a user's module.

    Attributes
    ----------
    made_by : type or callable
        Builds the module from the widths of its input and output.
    arguments : tuple of (str, value)
        Further arguments, by name.
    """

    made_by: Any
    arguments: tuple[tuple[str, Any], ...] = ()

    def __repr__(self) -> str:
        """Show the callable by its name: checkpoints compare it with that of another process."""
        named = self.made_by if hasattr(self.made_by, "__qualname__") else type(self.made_by)
        return f"CustomNetwork({named.__module__}.{named.__qualname__}, {self.arguments})"

    @property
    def name(self) -> str:
        """Name of the callable, for messages."""
        return getattr(self.made_by, "__name__", repr(self.made_by))

    @classmethod
    def from_param(cls, value: Any) -> "CustomNetwork":
        """Make it from a value of the parameter ``encoder`` or ``decoder``."""
        if isinstance(value, partial):
            return cls(value.func, tuple(sorted(value.keywords.items())))
        return cls(value)

    def build(self, parameter: str, n_members: int, n_in: int, n_out: int) -> PerMember:
        """Build the module of each member, and check its output.

        Raises
        ------
        ValueError
            If it cannot be built, draws random numbers, its output depends on other rows, or has
            another shape.
        """
        parameter = f"The '{parameter}' parameter"
        if isinstance(self.made_by, nn.Module):
            raise ValueError(
                f"{parameter} is a {type(self.made_by).__name__} that is made already. Give its "
                f"class, or a function of the two widths that returns a copy of it."
            )
        try:
            make = partial(self.made_by, n_in, n_out, **dict(self.arguments))
            network = PerMember(n_members, n_in, n_out, make, gated=True)
            if not n_members:  # without weights, for their shapes alone
                return network
            module = copy.deepcopy(network.module).train()
            rows = torch.linspace(-1, 1, N_TEST_ROWS * n_in).view(N_TEST_ROWS, n_in)
            rows = rows.to(next(module.parameters(), rows))
            with seeded(0):
                before = torch.get_rng_state()
                out = module(rows)
                is_random = not torch.equal(torch.get_rng_state(), before)
                halves = [module(half) for half in rows.chunk(2)]
        except Exception as error:
            raise ValueError(
                f"{parameter} must make a module of the widths of its input and output, here "
                f"{self.name}({n_in}, {n_out}), that takes rows of {n_in} numbers. "
                f"{WIDTHS} It failed: {error}"
            ) from error
        if not isinstance(out, torch.Tensor) or out.shape != (N_TEST_ROWS, n_out):
            raise ValueError(
                f"{parameter} must give {n_out} numbers per row: for rows of shape "
                f"{(N_TEST_ROWS, n_in)}, an output of shape {(N_TEST_ROWS, n_out)}. "
                f"{self.name} gave {_describe(out)}. {WIDTHS}"
            )
        depends_on_rows = not torch.allclose(
            out, torch.cat(halves), rtol=1e-3, atol=1e-5, equal_nan=True
        )
        if is_random or depends_on_rows:
            random = (
                "draws from torch's global generator; of torch's layers only nn.Dropout has ours"
            )
            others = "depends on the other rows of a batch; take LayerNorm in place of BatchNorm"
            raise ValueError(
                f"{parameter} must be a function of the row alone, and the output of {self.name} "
                f"{random if is_random else others}."
            )
        return network


def _describe(out: Any) -> str:
    """Describe an output of the wrong shape, with advice if it is several tensors."""
    if isinstance(out, torch.Tensor):
        return f"shape {tuple(out.shape)}"
    if isinstance(out, tuple | list):
        return f"{len(out)} outputs; give one, such as torch.cat([location, log_scale], dim=1)"
    return repr(out)


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
