"""Functions that numpy does not have: activations, perceptrons."""

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from sklearn_vae.numerics.array_api import sigmoid, softmax

erf = np.vectorize(math.erf, otypes=[float])


def ndtri(probability: np.ndarray) -> np.ndarray:
    """Quantiles of the standard normal distribution."""
    from statistics import NormalDist  # its import takes a while

    inside = (probability > 0) & (probability < 1)
    quantile = np.where(probability > 0, np.inf, -np.inf)
    quantile[inside] = list(map(NormalDist().inv_cdf, probability[inside].tolist()))
    return quantile


def silu(x: np.ndarray) -> np.ndarray:
    """Compute x times its logistic function; the exponential may overflow."""
    value = np.exp(-x)
    value += 1
    return np.divide(x, value, out=value)


def resample(log_weight: np.ndarray, index: np.ndarray, generator: Generator) -> np.ndarray:
    """Draw one of K, by the weights of the columns with these indices: (K, B), (n,) -> (n,)."""
    weight = softmax(log_weight, 0)
    # of all columns at once: that of column b is between b and b + 1
    cumulative = (weight.cumsum(0) / weight.sum(0) + np.arange(weight.shape[1])).T.ravel()
    drawn = np.searchsorted(cumulative, index + generator.random(len(index)), "right")
    return np.clip(drawn - len(weight) * index, 0, len(weight) - 1)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda x: x,
    "logistic": sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "silu": silu,
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
}


def perceptron(
    weights: dict[str, np.ndarray], name: str, n_hidden: int, activation: str, x: np.ndarray
) -> np.ndarray:
    """Multilayer perceptron with a linear skip connection: (M, B, n_in) -> (M, B, n_out)."""
    out = _dense(weights, f"{name}.linear", x)
    if n_hidden:
        first = _dense(weights, f"{name}.hidden.0", x)
        out += perceptron_after_first(weights, name, n_hidden, activation, first)
    return out


def perceptron_after_first(
    weights: dict[str, np.ndarray], name: str, n_hidden: int, activation: str, first: np.ndarray
) -> np.ndarray:
    """Hidden layers of a perceptron after the first product: (M, B, n_hidden) -> (M, B, n_out)."""
    with np.errstate(over="ignore"):
        x = ACTIVATIONS[activation](first)
        for number in range(1, n_hidden):
            x = ACTIVATIONS[activation](_dense(weights, f"{name}.hidden.{number}", x))
    out: np.ndarray = x @ weights[f"{name}.last"]
    return out


def _dense(weights: dict[str, np.ndarray], layer: str, x: np.ndarray) -> np.ndarray:
    out = x @ weights[f"{layer}.weight"]
    out += weights[f"{layer}.bias"]
    return out
