"""Functions that PyTorch does not have: bounds, means of exponentials, one-hot codes."""

import math

import torch
from torch import Tensor


def bounded(raw: Tensor, bound: float) -> Tensor:
    """Map raw numbers into (-bound, bound), by tanh."""
    # tanh(a) = 2 sigmoid(2 a) - 1: torch's tanh takes three times as long
    return 2 * bound * torch.sigmoid(raw * (2 / bound)) - bound


def bounded_slope(raw: Tensor, bound: float) -> Tensor:
    """Compute the derivative of ``bounded``."""
    return 1 - torch.tanh(raw / bound).square()


def unbounded(value: Tensor, bound: float) -> Tensor:
    """Invert ``bounded``."""
    return bound * torch.atanh((value / bound).clamp(-0.999, 0.999))


def log_mean_exp(values: Tensor, dim: int) -> Tensor:
    """Log of the mean of exp(values) along one dimension."""
    return torch.logsumexp(values, dim) - math.log(values.shape[dim])


def one_hot(chosen: Tensor, n_classes: int, dtype: torch.dtype, *, flat: bool = True) -> Tensor:
    """One-hot encode classes (..., V): (..., V C), or (..., V, C) if not ``flat``."""
    codes = (chosen.unsqueeze(-1) == torch.arange(n_classes, device=chosen.device)).to(dtype)
    return codes.flatten(-2) if flat else codes
