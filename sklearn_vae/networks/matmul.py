"""Large products of matrices in training, which may be computed in bfloat16."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

# Multiplications from which on bfloat16 is faster; smaller products lose by overhead.
MIN_PRODUCTS = 1 << 23


def suits_bfloat16(a: Tensor, b: Tensor) -> bool:
    """Return whether ``a @ b`` is large and the processor has instructions for bfloat16."""
    return (
        a.dtype == torch.float32
        and a.device.type == "cpu"
        and a.shape[1] * a.shape[2] * b.shape[2] >= MIN_PRODUCTS
        and _has_bfloat16()
    )


@cache
def _has_bfloat16() -> bool:
    try:
        processor = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return False
    return torch.backends.mkldnn.is_available() and "avx512_bf16" in processor
