"""The only source of randomness: an integer seed and named streams that follow from it.

Every draw in the package comes from a stream that is named by what it is for and where it stands.
So nothing depends on what was drawn before. The global states of numpy, torch and python are never
read or changed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from torch import Tensor

from sklearn_vae.numerics.seeds import (
    MAX_DRAWS as MAX_DRAWS,
    MAX_SEED as MAX_SEED,
    RandomState as RandomState,
    Stream as Stream,
    draw_seed as draw_seed,
    start_seeds as start_seeds,
    stream_seed as stream_seed,
)
from sklearn_vae.numerics.sobol import MAX_DIMS as MAX_DIMS, sobol_normal as sobol_normal

# torch's vectorized normal draws fill blocks of 16 and redraw the last, incomplete one
_BLOCK = 16

# held by who draws from torch's global generator
_GLOBAL = Lock()


def make_generator(seed: int, stream: Stream, *indices: int) -> torch.Generator:
    """Generator of the stream for one purpose and its indices (of a layer, an iteration, ...)."""
    return torch.Generator().manual_seed(stream_seed(seed, stream, *indices))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator for modules that draw from it, and put it back.

    They are made in single precision, whose draws are others than those of torch's default type.
    One thread at a time; nothing else in the package draws from it.
    """
    with _GLOBAL, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def normal_rows(n_dims: int, n_rows: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Draw standard normal numbers dimension by dimension: (n_dims, n_rows).

    The first dimensions are the same however many dimensions follow, so a model with few latent
    dimensions sees the numbers of one with many.
    """
    padded = -(-n_rows // _BLOCK) * _BLOCK
    return torch.randn(n_dims, padded, generator=generator, dtype=dtype)[:, :n_rows]


def sample_categorical(cdf: Tensor, uniform: Tensor) -> Tensor:
    """Sample categories at uniform numbers by the inverse CDF: (..., K), (..., n) -> (..., n).

    Weights need not be normalized if ``uniform`` lies between 0 and their sum.
    """
    return torch.searchsorted(cdf[..., :-1].contiguous(), uniform.contiguous(), right=True)
