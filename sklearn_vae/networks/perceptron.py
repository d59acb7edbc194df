"""The forward pass of multilayer perceptrons, of PyTorch's tensors or numpy's arrays."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from sklearn_vae.numerics.array_api import Array, affine, silu


class Layer(NamedTuple):
    """Weights (M, n_in, n_out) and biases (M, 1, n_out) of a fully connected layer."""

    weight: Array
    bias: Array


def dense(layer: Any, x: Array) -> Array:
    """Outputs of a fully connected layer: (M, n_in, rows) -> (M, n_out, rows)."""
    return affine(layer.bias.swapaxes(1, 2), layer.weight.swapaxes(1, 2), x)


class Perceptron:
    """A multilayer perceptron with a linear skip connection: ``linear(x) + layers(x)``."""

    linear: Any
    hidden: Sequence[Any]
    # weights, without hidden layers None; a bias would repeat that of ``linear``
    last: Any

    def forward(self, x: Array) -> Array:
        """Map (M, rows, n_in) to (M, rows, n_out)."""
        # inside, features lie first: products are faster with the rows along the last axis
        x = x.swapaxes(1, 2)  # (M, n_in, rows)
        out = dense(self.linear, x)
        if len(self.hidden):
            out = self.add_hidden(out, dense(self.hidden[0], x))
        return out.swapaxes(1, 2)

    def add_hidden(self, out: Array, x: Array) -> Array:
        """Add the hidden layers, of which the first has the sums x: (M, n_out, rows)."""
        x = silu(x)
        for layer in islice(self.hidden, 1, None):
            x = silu(dense(layer, x))
        return affine(out, self.last.swapaxes(1, 2), x)


class FittedPerceptron(Perceptron):
    """A perceptron of ``n_hidden`` layers, "encoder" or "decoder", of a fitted model's weights."""

    time_steps = None  # see ``SkipNetwork``
    __call__ = Perceptron.forward

    def __init__(self, weights: Mapping[str, Array], name: str, n_hidden: int):
        self.linear, *self.hidden = (
            Layer(weights[f"{name}.{layer}.weight"], weights[f"{name}.{layer}.bias"])
            for layer in ("linear", *(f"hidden.{number}" for number in range(n_hidden)))
        )
        self.last = weights[f"{name}.last"] if n_hidden else None
