"""Batched matrix products, each by the routine that is fastest for its size.

torch computes products on the CPU by MKL, which stops at AVX2 on processors that are not Intel's.
oneDNN is faster there where products are large. torch's own switch between the two is one for the
whole process, so a fit in another thread would change the bits of a score. Here the routine
follows from the processor and from shape, type and device of the operands alone.
"""

import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from sklearn_vae._compat import linear_pointwise

# Multiplications from which on oneDNN is faster; smaller products lose by overhead.
MIN_PRODUCTS = 1 << 23
# Columns of oneDNN's products: fewer, or a multiple of them.
COLUMNS_OF_PRODUCT = 1 << 10


def bmm(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """Multiply matrices pairwise, as ``torch.bmm``: (M, n, k), (M, k, m) -> (M, n, m).

    Parameters
    ----------
    a, b : Tensor
        The factors.
    out : Tensor of shape (M, n, m), optional
        Buffer to write the product to, outside of autograd.
    """
    if not _suits_onednn(a, b):
        return torch.bmm(a, b, out=out)
    if out is None:
        product: Tensor = _OneDNNProduct.apply(a, b)
        return product
    for member, buffer in enumerate(out):
        buffer.copy_(_onednn_product(a[member], b[member]))
    return out


def baddbmm(bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Multiply matrices pairwise and add a bias, as ``torch.baddbmm``: -> (M, n, m)."""
    return bias + bmm(a, b) if _suits_onednn(a, b) else torch.baddbmm(bias, a, b)


def bmm_for(a: Tensor, b: Tensor) -> Callable[..., Tensor]:
    """Return ``bmm`` for factors of these shapes and types, without its tests of them."""
    return bmm if _suits_onednn(a, b) else torch.bmm


def _suits_onednn(a: Tensor, b: Tensor) -> bool:
    return (
        a.dtype == torch.float32
        and a.device.type == "cpu"
        and not torch.compiler.is_compiling()  # an exported graph holds standard operators
        and a.shape[1] * a.shape[2] * b.shape[2] >= MIN_PRODUCTS
        and _has_onednn()
    )


@cache
def _has_onednn() -> bool:
    is_x86 = platform.machine() in ("x86_64", "AMD64")
    try:
        processor = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        processor = platform.processor()
    is_intel = "GenuineIntel" in processor
    return is_x86 and torch.backends.mkldnn.is_available() and not is_intel


def _onednn_product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply two matrices in single precision by oneDNN: (n, k), (k, m) -> (n, m).

    oneDNN keeps the code of the last 1,024 shapes, some 0.5 MB each. So the last columns are
    multiplied apart, beside some of the others; a column has the same product in any matrix.
    """
    n_columns = b.shape[1]
    n_last = n_columns % COLUMNS_OF_PRODUCT
    if n_columns < COLUMNS_OF_PRODUCT or not n_last:
        return linear_pointwise(a, b.mT)
    first, last = b[:, :-n_last].contiguous(), b[:, -COLUMNS_OF_PRODUCT:].contiguous()
    parts = linear_pointwise(a, first.mT), linear_pointwise(a, last.mT)[:, -n_last:]
    return torch.cat(parts, dim=1)


class _OneDNNProduct(torch.autograd.Function):
    """The pairwise product by oneDNN, with its gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        products = [_onednn_product(left, right) for left, right in zip(a, b, strict=True)]
        return torch.stack(products) if len(products) > 1 else products[0].unsqueeze(0)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors  # type: ignore[attr-defined]
        needs_a, needs_b = ctx.needs_input_grad  # type: ignore[attr-defined]
        return bmm(grad, b.mT) if needs_a else None, bmm(a.mT, grad) if needs_b else None
