"""Ordinary torch modules, one per member, beside a linear path."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sklearn_vae.networks.mlp import Dense, Path
from sklearn_vae.random import Stream, seeded, stream_seed

# A gate moves so many times as fast as weights do: of 1, 10 and 30 the best held-out scores on
# three tables, for copies of our own networks.
GATE_SPEED = 10.0


class Dropout(nn.Module):
    """Dropout by a generator that is handed in, the identity without one.

    torch's own draws from the global generator, which belongs to the user.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Set values to zero by chance, and scale the others up."""
        if self.generator is None:
            return x
        chance = torch.rand(x.shape, generator=self.generator, dtype=x.dtype)
        return torch.where(chance.to(x.device) < self.p, 0, x / (1 - self.p))


def _with_own_dropout(module: nn.Module) -> list[Dropout]:
    """Put our dropout in the place of torch's, and give all of ours."""
    for parent in list(module.modules()):
        for name, part in parent.named_children():
            if type(part) is nn.Dropout and part.p < 1:
                setattr(parent, name, Dropout(part.p))
    return [part for part in module.modules() if isinstance(part, Dropout)]


class PerMember(Path):
    """A module that knows nothing of members, computed for each of them.

    The output is ``linear(x) + gate * module(x)``. Either the module's own output starts at
    zero, or the gate does, so that the whole starts at a known solution.

    Parameters
    ----------
    n_members, n_in, n_out : int
        Number of members, width of the input and of the output.
    make : callable
        Makes the module, its weights drawn from torch's global generator.
    gated : bool, default=False
        Whether there is a gate; else it is 1.
    is_autoregressive : bool, default=False
        Whether the module is given rows beside codes, of which it sees in each place what
        comes before.

    References
    ----------
    .. [1] T. Bachlechner et al., "ReZero is All You Need: Fast Convergence at Large Depth",
       UAI 2021, for the gate.
    """

    def __init__(
        self,
        n_members: int,
        n_in: int,
        n_out: int,
        make: Callable[[], nn.Module],
        *,
        gated: bool = False,
        is_autoregressive: bool = False,
    ):
        super().__init__()
        self.make, self.is_autoregressive = make, is_autoregressive
        # without members no weight takes any memory, whatever a file says of their shapes
        with seeded(0), torch.device("cpu" if n_members else "meta"):
            module = make().eval().requires_grad_(False)
        self._dropouts = tuple(_with_own_dropout(module))
        self.has_dropout = bool(self._dropouts)
        # in a tuple, or torch would count its weights among ours
        self._module = (module,)
        self.weights = nn.ParameterDict(
            {
                name.replace(".", "/"): nn.Parameter(torch.zeros(n_members, *own.shape))
                for name, own in module.named_parameters()
            }
        )
        self.gate = nn.Parameter(torch.zeros(n_members, 1, 1)) if gated else None
        self.linear = Dense(n_members, n_in, n_out)

    @property
    def module(self) -> nn.Module:
        """The module, with weights that are no member's."""
        return self._module[0]

    def forward(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Map (M, rows, n_in), and rows (M, rows, n_columns) if autoregressive, to outputs."""
        n_members = len(x)
        names = [name.replace("/", ".") for name in self.weights]
        inputs = (x,) if rows is None else (x, rows)
        outputs = []
        for m in range(n_members):
            for part in self._dropouts:
                part.generator = self.dropout_generators[m] if self.dropout_generators else None
            weights = zip(names, (own[m] for own in self.weights.values()), strict=True)
            rows_of_member = tuple(own[m] for own in inputs)
            outputs.append(functional_call(self.module, dict(weights), rows_of_member))
        out = outputs[0].unsqueeze(0) if n_members == 1 else torch.stack(outputs)
        if self.gate is not None:
            out = GATE_SPEED * self.gate * out
        return self.linear(x.mT).mT + out

    def matrices(self) -> list[nn.Parameter]:
        """Weights of two axes and more."""
        return [own for own in self.weights.values() if own.dim() > 2]

    def flat_parameters(self) -> list[nn.Parameter]:
        """All parameters, the linear path at the end."""
        gate = [] if self.gate is None else [self.gate]
        return [*self.weights.values(), *gate, self.linear.weight, self.linear.bias]

    @torch.no_grad()
    def draw(self, member: int, seed: int, side: int, n_in: int | None = None) -> None:
        """Draw one member's module: side 0 is the encoder, 1 the decoder."""
        with seeded(stream_seed(seed, Stream.WEIGHTS, side)):
            fresh = dict(self.make().named_parameters())
        for name, own in self.weights.items():
            own[member] = fresh[name.replace("/", ".")].detach()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PerMember":
        self.module._apply(fn, recurse)  # its buffers go where the weights go
        return super()._apply(fn, recurse)
