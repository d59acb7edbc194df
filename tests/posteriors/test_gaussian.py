"""q(z|x) and p(z): densities and KL against torch.distributions and scipy."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal, kl_divergence

from sklearn_vae.posteriors import DiagonalGaussian

POSTERIOR = DiagonalGaussian()


@pytest.fixture
def params(generator):
    """Parameters (M, B, 2 l) = (2, 5, 6) of three latent dimensions."""
    return 1.5 * torch.randn(2, 5, 6, generator=generator, dtype=torch.float64)


def by_torch(params):
    """The same posterior as torch.distributions states it."""
    loc, raw = params[..., :3], params[..., 3:]
    return Normal(loc, (12 * torch.tanh(raw / 12)).exp())


def test_kl_is_the_textbook_kl_from_the_standard_normal(params):
    """The regularizer must be exact: beta multiplies it, and histories show it in nats."""
    expected = kl_divergence(by_torch(params), Normal(0.0, 1.0))

    torch.testing.assert_close(POSTERIOR.kl(params), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("raw", [-1e6, 1e6])
def test_kl_and_its_gradient_are_finite_for_any_raw_scale(raw):
    """One wild step must not end a training in NaN."""
    params = torch.full((1, 1, 2), raw, requires_grad=True)
    (gradient,) = torch.autograd.grad(POSTERIOR.kl(params).sum(), params)

    assert POSTERIOR.kl(params).isfinite().all()
    assert gradient.isfinite().all()


def test_log_prob_is_the_normal_log_density(params, generator):
    """An importance weight with a wrong denominator is a wrong score."""
    z = torch.randn(2, 4, 5, 3, generator=generator, dtype=torch.float64)  # (M, K, B, l)
    q = by_torch(params)
    loc, scale = q.loc.numpy()[:, None], q.scale.numpy()[:, None]
    expected = stats.norm(loc, scale).logpdf(z.numpy()).sum(-1)

    np.testing.assert_allclose(POSTERIOR.log_prob(params, z).numpy(), expected, rtol=1e-9)
