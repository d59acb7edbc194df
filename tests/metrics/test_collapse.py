"""Posterior collapse: the KL of probabilistic PCA in closed form as the oracle."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from sklearn_vae import VAETransformer
from sklearn_vae.metrics import active_units, kl_per_dimension
from tests.metrics.conftest import PPCA, linear_rows


def test_the_kl_of_probabilistic_pca_is_in_closed_form(linear):
    """Averaged over training rows, it is half the log of eigenvalue over residual variance."""
    X, _, vae = linear
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    variances = np.linalg.eigvalsh(np.cov(Z, rowvar=False, ddof=0))[::-1]
    expected = 0.5 * np.log(variances[:2] / variances[2:].mean())

    np.testing.assert_allclose(kl_per_dimension(vae, X), expected, rtol=1e-4)


def test_inactive_dimensions_are_not_counted(rng):
    """One factor with equal loadings: all other eigenvalues equal the residual variance."""
    X = rng.normal(size=(5000, 1)) + rng.normal(size=(5000, 8))
    vae = VAETransformer(3, **PPCA).fit(X)

    with pytest.warns(ConvergenceWarning, match="1 of 3"):
        assert active_units(vae, X).tolist() == [True, False, False]
    assert active_units(vae, X, threshold=0.0).all()


def test_a_collapse_is_warned_of_with_advice():
    """No active dimension, few active dimensions, enough active dimensions."""
    X = linear_rows(300, 0)
    collapsed = VAETransformer(2, beta=300.0, max_iter=30, early_stopping=False, random_state=0)
    collapsed.fit(X)
    with pytest.warns(ConvergenceWarning, match=r"0 of 2 .* collapsed.*beta.*300.*free_bits"):
        active_units(collapsed, X)

    ppca = VAETransformer(5, **PPCA).fit(X)
    kl = np.sort(kl_per_dimension(ppca, X))
    with pytest.warns(ConvergenceWarning, match=r"2 of 5 .*n_components=2"):
        active_units(ppca, X, threshold=float(kl[-3:-1].mean()))

    assert active_units(VAETransformer(2, **PPCA).fit(X), X).all()  # a warning would be an error


def test_the_kl_of_rows_with_missing_values_is_finite_if_training_rows_had_none():
    """The encoder then sees column means in place of missing values."""
    X = np.random.default_rng(0).normal(size=(200, 4))
    vae = VAETransformer(2, max_iter=2, random_state=0).fit(X)
    X[:100, 0] = np.nan

    assert np.isfinite(kl_per_dimension(vae, X)).all()
