"""Activation functions of numpy arrays, by the names that PyTorch's have."""

from collections.abc import Callable

import numpy as np

from sklearn_vae.numerics.array_api import sigmoid


def silu(x: np.ndarray) -> np.ndarray:
    """Compute x times its logistic function; the exponential may overflow."""
    with np.errstate(over="ignore"):
        value = np.exp(-x)
    value += 1
    return np.divide(x, value, out=value)


def gelu(x: np.ndarray) -> np.ndarray:
    """Compute x times the standard normal distribution function."""
    from scipy.special import ndtr

    return x * ndtr(x)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda x: x,
    "logistic": sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "silu": silu,
    "gelu": gelu,
}
