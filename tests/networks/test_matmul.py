"""Products by the routine for their size: torch's numbers, its gradients, and no global switch."""

import pytest
import torch

from sklearn_vae.networks import matmul
from sklearn_vae.networks.matmul import MIN_PRODUCTS, baddbmm, bmm, bmm_for

LARGE = {
    "one member": (1, 256, 300, 128),
    "three members": (3, 300, 200, 150),
    "many columns": (1, 64, 64, 2500),
}
HAS_ONEDNN = matmul._has_onednn
SMALL = {"small": (2, 5, 7, 3), "no rows": (1, 5, 7, 0)}


@pytest.fixture(autouse=True, params=[False, True], ids=["MKL", "oneDNN"])
def routine(request, monkeypatch):
    """Whether oneDNN is faster for large products; tests of both hold on every processor."""
    if request.param and not torch.backends.mkldnn.is_available():
        pytest.skip("needs oneDNN")
    monkeypatch.setattr(matmul, "_has_onednn", lambda: request.param)


def factors(n_members, n, k, m):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(n_members, k, n, generator=generator).mT  # a transposed weight, as in layers
    return a, torch.randn(n_members, k, m, generator=generator)


@pytest.mark.parametrize("shape", {**LARGE, **SMALL}.values(), ids={**LARGE, **SMALL})
def test_products_are_those_of_double_precision(shape):
    """To the rounding of single precision, with and without a buffer."""
    a, b = factors(*shape)
    expected = a.double() @ b.double()
    buffer = torch.empty(expected.shape)

    torch.testing.assert_close(bmm(a, b).double(), expected, rtol=1e-4, atol=1e-3)
    assert bmm(a, b, out=buffer) is buffer
    torch.testing.assert_close(buffer.double(), expected, rtol=1e-4, atol=1e-3)
    assert torch.equal(bmm_for(a, b)(a, b, out=torch.empty(expected.shape)), buffer)
    torch.testing.assert_close(
        baddbmm(torch.ones(1), a, b).double(), expected + 1, rtol=1e-4, atol=1e-3
    )


def test_gradients_are_those_of_double_precision():
    """The routine has no gradient of its own in torch."""
    a, b = (factor.clone().requires_grad_() for factor in factors(*LARGE["three members"]))
    exact = [factor.detach().double().requires_grad_() for factor in (a, b)]
    bmm(a, b).square().mean().backward()
    (exact[0] @ exact[1]).square().mean().backward()

    for found, expected in zip((a, b), exact, strict=True):
        torch.testing.assert_close(found.grad.double(), expected.grad, rtol=1e-4, atol=1e-4)


def test_onednn_is_for_processors_on_which_mkl_is_slow(monkeypatch):
    """On Intel's, MKL is faster at every size."""
    has_onednn = HAS_ONEDNN.__wrapped__
    monkeypatch.setattr(matmul.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(matmul.Path, "read_text", lambda path: "vendor_id\t: GenuineIntel")
    assert not has_onednn()
    monkeypatch.setattr(matmul.Path, "read_text", lambda path: "vendor_id\t: AuthenticAMD")
    assert has_onednn() == torch.backends.mkldnn.is_available()


def test_both_routines_are_compared():
    """Or the tests above would test one of them twice."""
    sizes = [n * k * m for _, n, k, m in LARGE.values()]

    assert min(sizes) >= MIN_PRODUCTS > 5 * 7 * 3
