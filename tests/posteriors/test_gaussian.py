"""q(z|x) and p(z): densities and KL against torch.distributions and scipy."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats
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


def test_kl_is_the_integral_of_the_log_ratio(params):
    """The closed form and the densities tell the same story."""
    q = by_torch(params)
    loc, scale = q.loc[0, 0, 0].item(), q.scale[0, 0, 0].item()
    q, p = stats.norm(loc, scale), stats.norm()
    expected, _ = integrate.quad(
        lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), loc - 12 * scale, loc + 12 * scale
    )

    assert POSTERIOR.kl(params)[0, 0, 0].item() == pytest.approx(expected, abs=1e-6)


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


@pytest.mark.parametrize("shape", [(1, 20_000, 1, 3), (2, 20_000, 5, 3)])
def test_draws_have_the_posteriors_moments(shape, params, generator):
    """Noise may be shared by rows and members or be their own."""
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    z = POSTERIOR.rsample(params, noise)
    q = by_torch(params)

    assert z.shape == (2, 20_000, 5, 3)
    torch.testing.assert_close((z.mean(1) - q.mean) / q.stddev, torch.zeros(2, 5, 3).double(),
                               rtol=0, atol=0.03)  # fmt: skip
    torch.testing.assert_close(z.std(1) / q.stddev, torch.ones(2, 5, 3).double(), rtol=0, atol=0.03)
