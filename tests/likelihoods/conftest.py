"""Random parameters of likelihoods."""

import torch


def draw(*shape, seed=0):
    """Random numbers in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)
