"""q(z|x) and p(z): densities and KL against torch.distributions and scipy."""

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch.distributions import Normal, kl_divergence

from sklearn_vae.numerics.functional import log_mean_exp
from sklearn_vae.posteriors import DiagonalGaussian
from sklearn_vae.priors import StandardNormal

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


def test_kl_is_zero_where_the_posterior_is_the_prior():
    """A silent dimension costs nothing."""
    assert (POSTERIOR.kl(torch.zeros(1, 4, 6)) == 0).all()


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


def test_mean_is_the_location(params):
    """transform() gives the mean, which has no chance in it."""
    torch.testing.assert_close(POSTERIOR.mean(params), by_torch(params).mean)


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


def test_draws_pass_the_gradient_on_to_the_encoder(params, generator):
    """Without the reparameterization the encoder would learn nothing from reconstruction."""
    noise = torch.randn(2, 3, 5, 3, generator=generator, dtype=torch.float64)

    assert torch.autograd.gradcheck(
        lambda params: POSTERIOR.rsample(params, noise), params.requires_grad_()
    )


def test_no_noise_gives_the_location(params):
    """The noise is the only chance in a draw."""
    z = POSTERIOR.rsample(params, torch.zeros(1, 1, 1, 3).double())

    torch.testing.assert_close(z[:, 0], by_torch(params).mean)


@pytest.mark.parametrize("offset", [0.0, -2000.0, 2000.0])
def test_log_mean_exp_neither_overflows_nor_underflows(offset, rng):
    """Log-weights of rows far out are in the thousands."""
    values = rng.standard_normal((3, 4, 5)) + offset
    expected = special.logsumexp(values, axis=1, b=1 / 4)

    np.testing.assert_allclose(log_mean_exp(torch.tensor(values), dim=1).numpy(), expected)


def test_the_priors_log_prob_is_that_of_the_standard_normal(generator):
    """p(z) enters every score."""
    z = 3 * torch.randn(2, 4, 5, 3, generator=generator, dtype=torch.float64)
    expected = stats.multivariate_normal(np.zeros(3)).logpdf(z.numpy())

    np.testing.assert_allclose(StandardNormal().log_prob(z).numpy(), expected, rtol=1e-12)


def test_the_priors_draws_are_standard_normal(generator):
    """sample() begins here."""
    z = StandardNormal().sample((3, 5000, 2), generator, torch.float64)

    assert z.shape == (3, 5000, 2)
    z = z.flatten(0, 1)
    assert stats.kstest(z.numpy().ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(z.numpy().T)[0, 1]) < 0.05
