"""The bound of the Gaussian posterior with full covariance, against a closed form."""

import numpy as np
import torch
from scipy import stats

from sklearn_vae.initialization.ppca import LinearGaussian
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.vae import VAE
from sklearn_vae.posteriors import DiagonalGaussian, FullCovarianceGaussian


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
