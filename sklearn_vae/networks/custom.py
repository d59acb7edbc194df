"""Custom networks: the user's torch modules as encoder or decoder."""

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from sklearn_vae.networks.base import FullyConnected, Layout
from sklearn_vae.networks.mlp import SkipNetwork
from sklearn_vae.networks.per_member import PerMember
from sklearn_vae.numerics.random import seeded
from sklearn_vae.persistence.validation import invalid_parameter, serializable

WIDTHS = (
    "(The input of an encoder has a number for each column of X that is not constant, for each "
    "class of a column of classes, and as many again where cells are missing.)"
)
# Rows with which a new module is called, to check its output: together and in two halves.
N_TEST_ROWS = 4


@serializable
@dataclass(frozen=True)
class CustomModule:
    """What builds a user's module."""

    made_by: Any  # type or callable that builds it from the widths of its input and output
    arguments: tuple[tuple[str, Any], ...] = ()  # further arguments, by name

    def __repr__(self) -> str:
        """Show the callable by its name."""
        named = self.made_by if hasattr(self.made_by, "__qualname__") else type(self.made_by)
        name = f"{named.__module__}.{named.__qualname__}"
        arguments = "".join(f", {key}={value!r}" for key, value in self.arguments)
        return f"partial({name}{arguments})" if arguments else name

    def build(self, parameter: str, n_members: int, n_in: int, n_out: int) -> PerMember:
        """Build the module of each member, unless its outputs are no functions of a row alone."""
        parameter = f"The '{parameter}' parameter of CustomNetwork"
        name = getattr(self.made_by, "__name__", repr(self.made_by))
        try:
            make = partial(self.made_by, n_in, n_out, **dict(self.arguments))
            network = PerMember(n_members, (n_in, n_out), make, gated=True)
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
                f"{name}({n_in}, {n_out}), that takes rows of {n_in} numbers. "
                f"{WIDTHS} It failed: {error}"
            ) from error
        if not isinstance(out, torch.Tensor) or out.shape != (N_TEST_ROWS, n_out):
            raise ValueError(
                f"{parameter} must give {n_out} numbers per row: for rows of shape "
                f"{(N_TEST_ROWS, n_in)}, an output of shape {(N_TEST_ROWS, n_out)}. "
                f"{name} gave {_describe(out)}. {WIDTHS}"
            )
        if not torch.isfinite(out).all():
            raise ValueError(
                f"{parameter} must give finite numbers: of rows of numbers from -1 to 1, "
                f"{name} gave {out[~torch.isfinite(out)][0].item()}."
            )
        depends_on_rows = not torch.allclose(out, torch.cat(halves), rtol=1e-3, atol=1e-5)
        if is_random or depends_on_rows:
            random = (
                "draws from torch's global generator; of torch's layers only nn.Dropout has ours"
            )
            others = "depends on the other rows of a batch; take LayerNorm in place of BatchNorm"
            raise ValueError(
                f"{parameter} must be a function of the row alone, and the output of {name} "
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
class CustomNetwork(FullyConnected):
    """Use your own PyTorch modules as encoder, decoder or both.

    A side without a module is a multilayer perceptron of ``hidden_layer_sizes``, as with
    ``network="mlp"``. Beside each module is a linear skip connection, at which training starts.

    Parameters
    ----------
    encoder, decoder : class of torch.nn.Module, or callable, default=None
        Returns a module. It is called with the widths of the module's input and output;
        ``functools.partial`` sets further arguments by name.

    Raises
    ------
    ValueError
        If a parameter is not callable, or a module that is made already, and in ``fit``, if the
        module does not map rows of the width of its input to rows of the width of its output.

    Examples
    --------
    >>> from torch import nn
    >>> from sklearn_vae.networks import CustomNetwork
    >>> CustomNetwork(encoder=nn.Linear)
    CustomNetwork(encoder=torch.nn.modules.linear.Linear, decoder=None)
    """

    encoder: Any = None
    decoder: Any = None

    def __post_init__(self) -> None:
        for side in ("encoder", "decoder"):
            value, arguments = getattr(self, side), ()
            if value is None or isinstance(value, CustomModule):
                continue
            is_partial = isinstance(value, partial)
            if isinstance(value, nn.Module) or not callable(value) or (is_partial and value.args):
                expected = (
                    "be a class of modules, or a function that returns a module; it is called with "
                    "the widths of its input and output, and functools.partial gives it others by "
                    "name"
                )
                raise invalid_parameter(self, side, expected, value)
            if is_partial:
                value, arguments = value.func, tuple(sorted(value.keywords.items()))
            object.__setattr__(self, side, CustomModule(value, arguments))

    def build(self, n_members: int, layout: Layout) -> tuple[SkipNetwork, SkipNetwork]:
        """Build encoder and decoder."""
        encoder, decoder = super().build(n_members, layout)
        if self.encoder is not None:
            encoder = self.encoder.build("encoder", n_members, *layout.encoder_sizes)
        if self.decoder is not None:
            decoder = self.decoder.build("decoder", n_members, *layout.decoder_sizes)
        return encoder, decoder
