"""Random draws by a generator of PyTorch; uniform numbers and classes, also by one of numpy.

Those of PyTorch are drawn on the CPU, so that they are the same on every device.
"""

from typing import Any

import numpy as np

from sklearn_vae.numerics.array_api import Array, namespace

# A torch.Generator for tensors, a numpy.random.Generator for arrays of numpy.
Generator = Any


def draw_uniform(like: Array, generator: Generator) -> Array:
    """Draw uniform numbers with the shape, dtype and device of an array."""
    if isinstance(like, np.ndarray):
        return generator.random(like.shape)
    uniform = namespace(like).rand(like.shape, generator=generator, dtype=like.dtype)
    return uniform.to(like.device)


def draw_normal(like: Array, generator: Generator) -> Array:
    """Draw standard normal numbers with the shape, dtype and device of an array."""
    normal = namespace(like).randn(like.shape, generator=generator, dtype=like.dtype)
    return normal.to(like.device)


def draw_gamma(shape: Array, generator: Generator) -> Array:
    """Draw from gamma distributions of scale 1."""
    from sklearn_vae._compat import standard_gamma  # it imports PyTorch

    return standard_gamma(shape.cpu().contiguous(), generator).to(shape.device)


def draw_poisson(rate: Array, generator: Generator) -> Array:
    """Draw from Poisson distributions."""
    return namespace(rate).poisson(rate.cpu(), generator=generator).to(rate.device)


def draw_classes(probability: Array, generator: Generator) -> Array:
    """Draw classes with the given probabilities: (..., K) -> (...)."""
    uniform = draw_uniform(probability[..., :1], generator)
    return (uniform >= probability.cumsum(-1)[..., :-1]).sum(-1)
