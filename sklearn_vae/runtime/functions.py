"""Functions that numpy does not have: activations, bounds, sums of exponentials."""

import math
from collections.abc import Callable

import numpy as np

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)

lgamma = np.vectorize(math.lgamma, otypes=[float])
erf = np.vectorize(math.erf, otypes=[float])


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def softplus(x: np.ndarray) -> np.ndarray:
    """Compute log(1 + exp(x))."""
    return np.logaddexp(0, x)


def bounded(raw: np.ndarray, bound: float) -> np.ndarray:
    """Map raw numbers into (-bound, bound), by tanh."""
    return bound * np.tanh(raw / bound)


def logsumexp(x: np.ndarray, axis: int) -> np.ndarray:
    """Log of a sum of exponentials along an axis; -inf where all terms are."""
    highest = np.maximum(x.max(axis, keepdims=True), np.finfo(np.float64).min)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(x - highest).sum(axis)) + highest.squeeze(axis)


def log_softmax(x: np.ndarray) -> np.ndarray:
    """Log-probabilities of logits along the last axis."""
    return x - logsumexp(x, -1)[..., None]


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda x: x,
    "logistic": sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
}


def normal_points(n_points: int, n_dims: int, generator: np.random.Generator) -> np.ndarray:
    """Draw evenly spread standard normal points: a Latin hypercube sample, transformed.

    Two uniform numbers become two normal ones, by Box and Muller's transform.

    References
    ----------
    .. [1] M. D. McKay, R. J. Beckman and W. J. Conover, "A Comparison of Three Methods for
       Selecting Values of Input Variables in the Analysis of Output from a Computer Code",
       Technometrics 21, 1979.
    """
    n_pairs = -(-n_dims // 2)
    cells = generator.permuted(np.tile(np.arange(n_points), (2 * n_pairs, 1)), axis=1).T
    uniform = (cells + generator.random(cells.shape)) / n_points
    radius = np.sqrt(-2 * np.log1p(-uniform[:, :n_pairs]))
    angle = 2 * math.pi * uniform[:, n_pairs:]
    return np.hstack([radius * np.cos(angle), radius * np.sin(angle)])[:, :n_dims]
