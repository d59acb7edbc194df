"""The parts that a gradient which is written out is made of.

Each part has a forward and a backward of its own, computes into buffers that are made once,
and writes its gradient where the optimizer reads it.

Tensors lie features first, (M, features, rows): products then have the rows along the
axis that the processor's vectors run along, which few and odd numbers of features would
leave half empty.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sklearn_vae import posteriors
from sklearn_vae.models.stacked import StackedModule
from sklearn_vae.networks import MLP, SkipNetwork
from sklearn_vae.networks.matmul import bmm

aten = torch.ops.aten

# For each activation: its value into ``out``, from its input; and the gradient before it into
# ``out``, from the gradient after it, its input and its value.
ACTIVATIONS_OUT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda x, out: out.copy_(x),
    "logistic": lambda x, out: torch.sigmoid(x, out=out),
    "tanh": lambda x, out: torch.tanh(x, out=out),
    "relu": lambda x, out: torch.clamp_min(x, 0, out=out),
    "silu": lambda x, out: aten.silu.out(x, out=out),
    "gelu": lambda x, out: aten.gelu.out(x, out=out),
}
ACTIVATION_GRADIENTS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "identity": lambda grad, x, value, out: out.copy_(grad),
    "logistic": lambda grad, x, value, out: aten.sigmoid_backward.grad_input(
        grad, value, grad_input=out
    ),
    "tanh": lambda grad, x, value, out: aten.tanh_backward.grad_input(grad, value, grad_input=out),
    "relu": lambda grad, x, value, out: aten.threshold_backward.grad_input(
        grad, value, 0, grad_input=out
    ),
    "silu": lambda grad, x, value, out: aten.silu_backward.grad_input(grad, x, grad_input=out),
    "gelu": lambda grad, x, value, out: aten.gelu_backward.grad_input(grad, x, grad_input=out),
}


class GradientBuffers:
    """Where parameters are read and their gradients are written.

    For one member, both are views of the model's flat tensors. The gradients of several
    members lie apart there, where matrix products are slow to write; they are written
    beside it, in one piece, and then moved.
    """

    def __init__(self, model: StackedModule):
        self.model = model
        self.is_direct = len(model.flat) == 1
        self.pieces: list[Tensor] = []

    def open(self, *params: Tensor) -> tuple[Tensor, Tensor]:
        """Give values and gradients of neighbouring parameters: (M, all their rows, n_out).

        Parameters have to be opened in the order in which they lie in the flat tensor.
        """
        value, grad = self.model.block(params)
        grad = grad if self.is_direct else contiguous(grad)
        self.pieces.append(grad.flatten(1))
        return value, grad

    def flow(self) -> None:
        """Move all gradients to the model."""
        if not self.is_direct:
            torch.cat(self.pieces, dim=1, out=self.model.flat_grad)


class Layers:
    """An MLP with its linear path.

    The last layer and the linear path are one product, of the values below the last layer
    and the input, which lie in one tensor; a row of ones stands for the bias. The first
    ``n_wanted`` features of the input have gradients, too.
    """

    def __init__(
        self, network: SkipNetwork, n_rows: int, outlet: GradientBuffers, n_wanted: int = 0
    ):
        if not isinstance(network, MLP):
            raise TypeError(f"{type(network).__name__} has no gradient that is written out.")
        n_members, n_in, _ = network.linear.weight.shape
        widths = [layer.weight.shape[2] for layer in network.layers]
        n_top = widths[-1] if widths else 0
        self.top = network.linear.weight.new_ones(n_members, n_top + n_in + 1, n_rows)
        self.x = self.top[:, n_top:-1]  # (M, n_in, rows), for the caller to fill
        self.activate = ACTIVATIONS_OUT[network.activation_name]
        self.gradient = ACTIVATION_GRADIENTS[network.activation_name]

        self.hidden: list[LinearOp] = []
        below, n_below = self.top[:, n_top:], n_wanted
        for layer, width in zip(network.layers, widths, strict=True):
            product = LinearOp(below, n_below, *outlet.open(layer.weight, layer.bias))
            self.hidden.append(product)
            below, n_below = self.top.new_ones(n_members, width + 1, n_rows), width
        # what each hidden layer gives is a part of the next one's input
        self.values = [product.x[:, :-1] for product in self.hidden[1:]]
        self.values += [self.top[:, :n_top]] if widths else []
        last = [] if network.last is None else [network.last]
        block = outlet.open(*last, network.linear.weight, network.linear.bias)
        self.last = LinearOp(self.top, n_top + n_wanted, *block)
        self.grad_top, self.grad_x = self.last.grad_x.split([n_top, n_wanted], dim=1)
        self.out, self.n_wanted = self.last.out, n_wanted

    def forward(self) -> None:
        """Compute ``out`` (M, n_out, rows) from ``x``."""
        for product, value in zip(self.hidden, self.values, strict=True):
            self.activate(product.forward(), value)
        self.last.forward()

    def backward(self, grad: Tensor) -> None:
        """Write the weights' gradients, and those of the input that are wanted into ``grad_x``."""
        self.last.backward(grad)
        grad = self.grad_top
        for product, value in zip(reversed(self.hidden), reversed(self.values), strict=True):
            grad = product.backward(self.gradient(grad, product.out, value, grad))
        if self.hidden and self.n_wanted:
            self.grad_x.add_(grad)


class LinearOp:
    """The product of transposed weights and x, whose first ``n_wanted`` rows have gradients."""

    def __init__(self, x: Tensor, n_wanted: int, weight: Tensor, grad_weight: Tensor):
        n_members, _, n_rows = x.shape
        self.x, self.n_wanted = x, n_wanted
        self.weight_t, self.wanted = weight.mT, weight[:, :n_wanted]
        self.grad_weight = grad_weight
        self.out = x.new_empty(n_members, weight.shape[2], n_rows)
        self.grad_x = x.new_empty(n_members, n_wanted, n_rows)
        self.grad: Tensor | None = None

    def forward(self) -> Tensor:
        """(M, n_in, rows) -> (M, n_out, rows)."""
        return bmm(self.weight_t, self.x, out=self.out)

    def backward(self, grad: Tensor) -> Tensor:
        """Write the weights' gradient; give that of the rows that were wanted."""
        if grad is not self.grad:  # it is the same buffer every time
            self.grad, self.grad_t = grad, grad.mT
        bmm(self.x, self.grad_t, out=self.grad_weight)
        return bmm(self.wanted, grad, out=self.grad_x) if self.n_wanted else self.grad_x


class Code:
    """Draws of a diagonal Gaussian posterior."""

    def __init__(self, params: Tensor, z: Tensor, grad_z: Tensor, n_draws: int):
        self.loc, self.raw = params.chunk(2, dim=1)  # (M, l, B)
        self.grad_params = torch.empty_like(params)
        self.grad_loc, self.grad_raw = self.grad_params.chunk(2, dim=1)
        self.log_scale, self.scale = (contiguous(self.loc) for _ in range(2))
        self.z = z.unflatten(2, (n_draws, -1))  # (M, l, K, B)
        self.grad_z = grad_z.unflatten(2, (n_draws, -1))
        self.towards_scale = contiguous(self.z)
        # their sums over draws, which are themselves where there is one draw
        self.has_one_draw = n_draws == 1
        both = self.grad_z, self.towards_scale
        self.pull, self.grad_scale = (
            part[:, :, 0] if self.has_one_draw else contiguous(self.loc) for part in both
        )
        self.loc_by_draw, self.scale_by_draw = self.loc.unsqueeze(2), self.scale.unsqueeze(2)
        self.bounded = TanhBound(self.raw, posteriors.LOG_SCALE_BOUND)
        self.bound, self.bent = self.bounded.bound, self.bounded.bent
        self.half = params.new_tensor(0.5)  # a Python number is turned into one at every call

    def forward(self, noise: Tensor) -> None:
        """Draw ``z`` (M, l, K B), with noise (M or 1, l, K, B or 1)."""
        torch.mul(self.bounded.forward(), self.bound, out=self.log_scale)
        torch.exp(self.log_scale, out=self.scale)
        torch.addcmul(self.loc_by_draw, self.scale_by_draw, noise, out=self.z)

    def collect(self, noise: Tensor) -> None:
        """Add up over draws what ``grad_z`` does to location and scale."""
        torch.mul(self.grad_z, noise, out=self.towards_scale)
        if not self.has_one_draw:
            torch.sum(self.grad_z, 2, out=self.pull)
            torch.sum(self.towards_scale, 2, out=self.grad_scale)


class TanhBound:
    """What keeps a log-scale within plus and minus a bound: ``bent`` times the bound."""

    def __init__(self, raw: Tensor, bound: float):
        self.raw, self.bent = raw, contiguous(raw)
        # as tensors: a Python number is turned into one at every call
        self.bound, self.twice_inverse, self.two = raw.new_tensor([bound, 2 / bound, 2.0]).unbind()

    def forward(self) -> Tensor:
        """Compute ``bent``, tanh(raw / bound)."""
        # by the sigmoid: tanh itself takes several times as long in torch's libraries
        torch.mul(self.raw, self.twice_inverse, out=self.bent).sigmoid_()
        return self.bent.mul_(self.two).sub_(1)

    def backward(self, grad: Tensor, out: Tensor) -> Tensor:
        """Give the gradient at the raw value, from that at the log-scale."""
        return aten.tanh_backward.grad_input(grad, self.bent, grad_input=out)


def contiguous(like: Tensor) -> Tensor:
    """Make a buffer of this shape."""
    return torch.empty_like(like, memory_format=torch.contiguous_format)
