"""A linear Gaussian model whose metrics are known in closed form."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from sklearn_vae import VAETransformer

# one step with a vanishing learning rate: the model is probabilistic PCA of standardized columns
PPCA = {
    "prior": "normal",
    "learning_rate": 1e-12,
    "max_iter": 1,
    "early_stopping": False,
    "random_state": 0,
}


def linear_rows(n, seed):
    """Rows of a linear model with two factors in six columns."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(5).normal(size=(2, 6))
    return rng.normal(size=(n, 2)) @ loadings + 0.7 * rng.normal(size=(n, 6)) + 3


def ppca_covariance(X, n_components):
    """Maximum-likelihood covariance of probabilistic PCA of standardized columns, in X's units."""
    scale = X.std(axis=0)
    Z = (X - X.mean(axis=0)) / scale * np.sqrt(1 - 1 / len(X))  # sklearn divides by n - 1
    return PCA(n_components, svd_solver="full").fit(Z).get_covariance() * np.outer(scale, scale)


@pytest.fixture(scope="session")
def linear():
    """Training rows, new rows, and the fitted model."""
    X = linear_rows(800, 0)
    return X, linear_rows(600, 1), VAETransformer(2, **PPCA).fit(X)
