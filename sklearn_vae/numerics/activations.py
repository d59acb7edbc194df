"""Activation functions of networks, of PyTorch's tensors and of numpy's arrays."""

from collections.abc import Callable

import numpy as np

from sklearn_vae.numerics.array_api import Array, namespace, sigmoid


def relu(x: Array) -> Array:
    """Compute x where it is positive, else 0."""
    return np.maximum(x, 0) if isinstance(x, np.ndarray) else x.relu()


def silu(x: Array) -> Array:
    """Compute x times its logistic function; the exponential may overflow."""
    if not isinstance(x, np.ndarray):
        return namespace(x).nn.functional.silu(x)
    with np.errstate(over="ignore"):
        value = np.exp(-x)
    value += 1
    return np.divide(x, value, out=value)


def gelu(x: Array) -> Array:
    """Compute x times the standard normal distribution function."""
    if not isinstance(x, np.ndarray):
        return namespace(x).nn.functional.gelu(x)
    from scipy.special import ndtr

    return x * ndtr(x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "logistic": sigmoid,
    "tanh": lambda x: namespace(x).tanh(x),
    "relu": relu,
    "silu": silu,
    "gelu": gelu,
}
