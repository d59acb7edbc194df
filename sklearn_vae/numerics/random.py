"""The only source of randomness: an integer seed and named streams that follow from it.

Every draw in the package comes from a stream that is named by what it is for and where it stands.
So nothing depends on what was drawn before. The global states of numpy, torch and python are never
read or changed. PyTorch is imported by those who draw from its generators.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Step of an additive sequence of quantiles, which are evenly spread however many there are
GOLDEN_RATIO = 0.6180339887498949
# Type of the parameter random_state, as in scikit-learn.
RandomState = int | np.random.RandomState | None

# Draws of a score, and imputed tables, at the most: Sobol points of them all exist at once
MAX_DRAWS = 1 << 16

# scipy's Sobol points have no more dimensions
MAX_DIMS = 21201

# held by who draws from torch's global generator
_GLOBAL = Lock()


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
    CLUSTERS = 14
    DROPOUT = 16
    CONDITIONAL = 17
    LEVELS = 19


def draw_seed(random_state: Any) -> int:
    """Convert scikit-learn's ``random_state`` to the seed of all random streams, below 2**32.

    None takes fresh entropy, an integer is used as it is, a RandomState gives its next integer.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(np.iinfo(np.int32).max))
    return int(random_state)


def stream_seed(seed: int, stream: Stream, *indices: int) -> int:
    """Seed of the stream for one purpose and its indices (of a layer, an iteration, ...).

    A purpose always has the same number of indices: trailing zeros do not count.
    """
    return int(np.random.SeedSequence([seed, stream, *indices]).generate_state(1)[0])


def start_seeds(seed: int, n_starts: int) -> list[int]:
    """Seeds of several starts; the first one has the seed itself."""
    return [seed, *(stream_seed(seed, Stream.RESTART, k) for k in range(1, n_starts))]


def make_generator(seed: int, stream: Stream, *indices: int) -> "torch.Generator":
    """Generator of the stream for one purpose and its indices (of a layer, an iteration, ...)."""
    import torch

    return torch.Generator().manual_seed(stream_seed(seed, stream, *indices))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator for modules that draw from it, and put it back.

    One thread at a time. They are in single precision, which has other draws than double.
    """
    import torch

    with _GLOBAL, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def normal_rows(
    n_dims: int, n_rows: int, generator: "torch.Generator", dtype: "torch.dtype"
) -> "Tensor":
    """Draw standard normal numbers dimension by dimension: (n_dims, n_rows).

    The first dimensions are the same however many dimensions follow.
    """
    import torch

    # vectorized draws fill blocks of 16 and redraw the last, incomplete one
    padded = -(-n_rows // 16) * 16
    return torch.randn(n_dims, padded, generator=generator, dtype=dtype)[:, :n_rows]


def sample_categorical(cdf: "Tensor", uniform: "Tensor") -> "Tensor":
    """Sample categories at uniform numbers by the inverse CDF: (..., K), (..., n) -> (..., n).

    Weights need not be normalized if ``uniform`` lies between 0 and their sum.
    """
    import torch

    return torch.searchsorted(cdf[..., :-1].contiguous(), uniform.contiguous(), right=True)


def sobol_normal(n_draws: int, n_dims: int, seed: int) -> np.ndarray:
    """Scrambled Sobol points [1]_ (quasi-Monte Carlo), made standard normal: (n_draws, n_dims).

    In double precision. Averages over them err less than those over as many random points, over
    a power of two the least. The seed decides the scrambling.

    References
    ----------
    .. [1] A. B. Owen, "Scrambling Sobol' and Niederreiter-Xing points",
       Journal of Complexity 14, 1998.
    """
    from scipy.special import ndtri
    from scipy.stats import qmc  # its import takes most of a second

    engine = qmc.Sobol(n_dims, scramble=True, rng=np.random.default_rng(seed))
    # a power of two is drawn and cut: Sobol points are balanced only in such blocks
    points = engine.random_base2(max(int(np.ceil(np.log2(n_draws))), 0))[:n_draws]
    if points.size > n_dims and np.array_equal(points[0], points[1]):
        raise KeyboardInterrupt  # Ctrl-C while scipy read its table, which it ignores
    smallest = np.finfo(np.float64).eps
    return ndtri(np.clip(points, smallest, 1 - smallest))
