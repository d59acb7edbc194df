"""Functions that numpy does not have: activations, perceptrons."""

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from sklearn_vae.numerics.array_api import sigmoid, softmax
from sklearn_vae.numerics.model_constants import HALF_LOG_2PI

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


# Their derivatives.
SLOPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": np.ones_like,
    "logistic": lambda x: sigmoid(x) * sigmoid(-x),
    "tanh": lambda x: 1 - np.square(np.tanh(x)),
    "relu": lambda x: x > 0,
    "silu": lambda x: sigmoid(x) * (1 + x * sigmoid(-x)),
    "gelu": lambda x: 0.5 * (1 + erf(x / math.sqrt(2))) + x * np.exp(-0.5 * x * x - HALF_LOG_2PI),
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


def perceptron_gradient(
    weights: dict[str, np.ndarray], name: str, n_hidden: int, activation: str, x: np.ndarray,
    gradient: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Gradient in a perceptron's inputs x (M, B, n_in), of that in its outputs (M, B, n_out)."""
    of_inputs = gradient @ weights[f"{name}.linear.weight"].swapaxes(1, 2)
    if not n_hidden:
        return of_inputs
    slopes = []
    for number in range(n_hidden):
        raw = _dense(weights, f"{name}.hidden.{number}", x)
        with np.errstate(over="ignore"):
            x = ACTIVATIONS[activation](raw)
        slopes.append(SLOPES[activation](raw))
    gradient = gradient @ weights[f"{name}.last"].swapaxes(1, 2)
    for number in reversed(range(n_hidden)):
        matrix = weights[f"{name}.hidden.{number}.weight"]
        gradient = (gradient * slopes[number]) @ matrix.swapaxes(1, 2)
    return of_inputs + gradient


def _dense(weights: dict[str, np.ndarray], layer: str, x: np.ndarray) -> np.ndarray:
    out = x @ weights[f"{layer}.weight"]
    out += weights[f"{layer}.bias"]
    return out
