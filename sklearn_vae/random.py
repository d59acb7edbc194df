"""The only source of randomness: an integer seed and named streams that follow from it.

Every draw in the package comes from a stream that is named by what it is for and
where it stands, so nothing depends on what was drawn before, and the global states
of numpy, torch and python are never read or changed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import qmc
from torch import Tensor

# Type of the parameter random_state, as in scikit-learn.
RandomState = int | np.random.RandomState | None

# scipy's Sobol points have no more dimensions
MOST_DIMS = qmc.Sobol.MAXDIM
# The largest seed that scikit-learn takes
MOST_SEED = (1 << 32) - 1
# Draws of a score at the most: Sobol points of them all exist at once
MOST_DRAWS = 1 << 16
# torch's vectorised normal draws fill blocks of 16 and redraw the last, incomplete one
_BLOCK = 16

# held by who draws from torch's global generator
_GLOBAL = Lock()

# Sets of points of no more numbers are kept for the next call.
MOST_NUMBERS_KEPT = 1 << 13


class Stream(IntEnum):
    """Purpose of a stream of random numbers."""

    WEIGHTS = 0
    SPLIT = 1
    ROWS = 2
    NOISE = 3
    VALIDATION = 4
    SCORE = 5
    SAMPLE = 6
    RESTART = 7
    PRIOR = 8
    CALIBRATION = 9
    DEQUANTIZE = 10
    INPUT = 11
    MASK = 12
    PARTS = 13
    CLUSTERS = 14
    WORDS = 15
    DROPOUT = 16
    CONDITIONAL = 17
    REJECTION = 18
    LEVELS = 19


def draw_seed(random_state: Any) -> int:
    """Turn scikit-learn's ``random_state`` into the integer that everything follows from.

    Parameters
    ----------
    random_state : None, int or numpy.random.RandomState
        None takes fresh entropy from the operating system, an integer is used as it
        is, and a RandomState gives its next integer.

    Returns
    -------
    int
        The seed, between 0 and 2**32 - 1.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(np.iinfo(np.int32).max))
    return int(random_state)


def stream_seed(seed: int, stream: Stream, *place: int) -> int:
    """Seed of the stream for one purpose at one place (a layer, an iteration, ...).

    A purpose has places of one length only: trailing zeros do not count.
    """
    return int(np.random.SeedSequence([seed, stream, *place]).generate_state(1)[0])


def start_seeds(seed: int, n_starts: int) -> list[int]:
    """Seeds of several starts; the first one has the seed itself."""
    return [seed, *(stream_seed(seed, Stream.RESTART, k) for k in range(1, n_starts))]


def make_generator(seed: int, stream: Stream, *place: int) -> torch.Generator:
    """Generator of the stream for one purpose at one place (a layer, an iteration, ...)."""
    return torch.Generator().manual_seed(stream_seed(seed, stream, *place))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator for modules that draw from it, and put it back.

    One thread at a time; nothing else in the package draws from it.
    """
    with _GLOBAL, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def normal_rows(n_dims: int, n_rows: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Draw standard normal numbers dimension by dimension.

    Parameters
    ----------
    n_dims, n_rows : int
        Shape of the result.
    generator : torch.Generator
        Where the numbers come from.
    dtype : torch.dtype
        Type of the result.

    Returns
    -------
    Tensor of shape (n_dims, n_rows)
        The first dimensions are the same however many dimensions follow, so a model
        with few latent dimensions sees the numbers of one with many.
    """
    padded = -(-n_rows // _BLOCK) * _BLOCK
    return torch.randn(n_dims, padded, generator=generator, dtype=dtype)[:, :n_rows]


def sample_categorical(cdf: Tensor, uniform: Tensor) -> Tensor:
    """Sample categories at uniform numbers by the inverse CDF: (..., K), (..., n) -> (..., n).

    Weights need not be normalised if ``uniform`` lies between 0 and their sum.
    """
    return torch.searchsorted(cdf[..., :-1].contiguous(), uniform.contiguous(), right=True)


def sobol_normal(n_draws: int, n_dims: int, seed: int) -> np.ndarray:
    """Scrambled Sobol points, made standard normal.

    Parameters
    ----------
    n_draws : int
        Number of points; a power of two spreads most evenly.
    n_dims : int
        Their dimension, at most ``MOST_DIMS``.
    seed : int
        Decides the scrambling.

    Returns
    -------
    ndarray of shape (n_draws, n_dims), float64
        Points whose averages err less than those of as many random ones.

    References
    ----------
    .. [1] A. B. Owen, "Scrambling Sobol' and Niederreiter-Xing points",
       Journal of Complexity 14, 1998.
    """
    if n_draws * n_dims > MOST_NUMBERS_KEPT:
        return _sobol_normal.__wrapped__(n_draws, n_dims, seed)
    return _sobol_normal(n_draws, n_dims, seed).copy()


@lru_cache(maxsize=64)
def _sobol_normal(n_draws: int, n_dims: int, seed: int) -> np.ndarray:
    engine = qmc.Sobol(n_dims, scramble=True, rng=np.random.default_rng(seed))
    # a power of two is drawn and cut: Sobol points are balanced only in such blocks
    points = engine.random_base2(max(int(np.ceil(np.log2(n_draws))), 0))[:n_draws]
    smallest = np.finfo(np.float64).eps
    return ndtri(np.clip(points, smallest, 1 - smallest))
