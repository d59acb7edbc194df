"""Products that may be in bfloat16."""

import pytest
import torch

from sklearn_vae.networks import matmul
from sklearn_vae.networks.matmul import suits_bfloat16

HAS_BFLOAT16 = matmul._has_bfloat16


def test_bfloat16_is_for_large_products_in_single_precision(monkeypatch):
    """On processors with instructions for it."""
    a, b = torch.zeros(1, 256, 300), torch.zeros(1, 300, 128)
    monkeypatch.setattr(matmul, "_has_bfloat16", lambda: True)
    assert suits_bfloat16(a, b)
    assert not suits_bfloat16(a[:, :5], b)
    assert not suits_bfloat16(a.double(), b.double())

    monkeypatch.setattr(matmul, "_has_bfloat16", lambda: False)
    assert not suits_bfloat16(a, b)


@pytest.mark.parametrize(("flags", "expected"), [("avx2 avx512_bf16", True), ("avx512f", False)])
def test_bfloat16_is_for_processors_with_instructions_for_it(flags, expected, monkeypatch):
    """Others emulate it, at several times the cost."""
    monkeypatch.setattr(matmul.Path, "read_text", lambda path: f"flags\t: {flags}")

    assert HAS_BFLOAT16.__wrapped__() == (expected and torch.backends.mkldnn.is_available())
