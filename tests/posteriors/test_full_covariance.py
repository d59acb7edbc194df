"""The Gaussian posterior with full covariance, against torch, scipy and closed forms."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import MultivariateNormal, kl_divergence

from sklearn_vae.initialization.ppca import LinearGaussian
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.vae import VAE
from sklearn_vae.posteriors import DiagonalGaussian, FullCovarianceGaussian

N, SIZE = 2 * 3 + 3, 3
DISTRIBUTION = FullCovarianceGaussian().distribution(SIZE)


def by_torch(params):
    """The same posterior as torch.distributions states it."""
    loc, raw, below = params[..., :3], params[..., 3:6], params[..., 6:]
    factor = torch.diag_embed(torch.ones_like(loc))
    factor[..., 1, 0], factor[..., 2, 0], factor[..., 2, 1] = below.unbind(-1)
    scale = (12 * torch.tanh(raw / 12)).exp()
    return MultivariateNormal(loc, scale_tril=scale.unsqueeze(-1) * factor)


@pytest.fixture
def params(generator):
    """Parameters (M, B, n_params) = (2, 5, 9) of three latent dimensions."""
    return torch.randn(2, 5, N, generator=generator, dtype=torch.float64)


# -- density, KL and draws -------------------------------------------------------------


def test_log_prob_is_the_multivariate_normals(params, generator):
    """An importance weight with a wrong denominator is a wrong score."""
    z = torch.randn(2, 4, 5, 3, generator=generator, dtype=torch.float64)
    expected = by_torch(params.unsqueeze(1)).log_prob(z)

    torch.testing.assert_close(DISTRIBUTION.log_prob(params, z), expected)


def test_kl_is_that_from_the_standard_normal(params):
    """Exact, so that beta weighs what the history shows."""
    zeros, eye = torch.zeros(3).double(), torch.eye(3).double()
    expected = kl_divergence(by_torch(params), MultivariateNormal(zeros, eye))

    torch.testing.assert_close(DISTRIBUTION.kl(params).squeeze(-1), expected)


def test_draws_are_the_multivariate_normals(params, generator):
    """The same numbers as loc + L noise."""
    noise = torch.randn(1, 7, 1, 3, generator=generator, dtype=torch.float64)
    q = by_torch(params)
    expected = q.loc.unsqueeze(1) + torch.einsum(
        "mbij,mkbj->mkbi", q.scale_tril, noise.expand(2, 7, 5, 3)
    )

    torch.testing.assert_close(DISTRIBUTION.rsample(params, noise), expected)


def linear_model(posterior, d=4):
    """A linear Gaussian model whose loadings are not orthogonal, and its exact posterior."""
    rng = np.random.default_rng(0)
    loadings, residual = rng.standard_normal((2, d)), np.full(d, 0.5)
    loadings[1] += 2 * loadings[0]
    covariance = np.linalg.inv(np.eye(2) + (loadings / residual**2) @ loadings.T)
    posterior_weights = (loadings / residual**2).T @ covariance
    scale, intercept = np.ones(2), np.zeros(2)
    start = LinearGaussian(np.zeros(d), loadings, residual, posterior_weights, scale, intercept)
    model = VAE(Architecture(2, (), ((Gaussian("per_column"), d),), posterior=posterior))
    model = model.double()
    model.flatten()
    model.initialize(0, start)
    z, noise = rng.standard_normal((50, 2)), rng.standard_normal((50, d))
    rows = z @ loadings + residual * noise
    rows = rows[np.abs(rows).max(axis=1) < 5]  # the encoder cuts others off
    x = torch.as_tensor(rows)[None]
    exact = stats.multivariate_normal(np.zeros(d), loadings.T @ loadings + np.diag(residual**2))
    return model, x, covariance, exact.logpdf(x[0].numpy())


def test_the_bound_of_a_full_posterior_is_exact_where_dimensions_depend():
    """Of the linear model it is log p(x); a diagonal posterior cannot say as much."""
    gap = {}
    draws = np.random.default_rng(1).standard_normal((1, 4000, 1, 2))
    noise = torch.as_tensor(np.concatenate([draws, -draws], axis=1))
    for posterior in (FullCovarianceGaussian(), DiagonalGaussian()):
        model, x, covariance, expected = linear_model(posterior)
        factor = np.linalg.cholesky(covariance)
        own = np.diag(factor)
        if isinstance(posterior, FullCovarianceGaussian):
            rest = [12 * np.arctanh(np.log(own) / 12), [factor[1, 0] / own[1]]]
        else:  # the best independent dimensions, by the precision's diagonal
            rest = [12 * np.arctanh(-0.5 * np.log(np.diag(np.linalg.inv(covariance))) / 12)]
        with torch.no_grad():
            model.encoder.linear.bias[0, 0, 2:] = torch.as_tensor(np.concatenate(rest))
            log_prob, kl = model.elbo_terms(x, noise)
        gap[type(posterior)] = expected - (log_prob - kl.sum(-1))[0].numpy()

    np.testing.assert_allclose(gap[FullCovarianceGaussian], 0, atol=0.02)
    assert gap[DiagonalGaussian].mean() > 0.3
