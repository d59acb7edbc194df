"""Total correlation: the closed form of normal distributions as the oracle."""

from importlib import import_module

import numpy as np
import pytest

from sklearn_vae.metrics import total_correlation


def test_the_total_correlation_of_normal_codes_is_in_closed_form(linear):
    """The aggregated posterior of normal rows is normal: -1/2 log det of its correlations."""
    X, _, vae = linear
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    variances = np.linalg.eigvalsh(np.cov(Z, rowvar=False, ddof=0))[::-1]
    posterior_variances = variances[2:].mean() / variances[:2]
    rng = np.random.default_rng(3)
    rotated = X.mean(axis=0) + 0.5 * rng.normal(size=(1500, 6)) @ rng.normal(size=(6, 6))
    for rows, tolerance in [(X, 0.02), (rotated, 0.03)]:
        covariance = np.cov(vae.transform(rows), rowvar=False) + np.diag(posterior_variances)
        scale = np.sqrt(np.diag(covariance))
        expected = -0.5 * np.log(np.linalg.det(covariance / np.outer(scale, scale)))

        assert total_correlation(vae, rows) == pytest.approx(expected, abs=tolerance)
    assert expected > 0.05


def test_total_correlation_does_not_depend_on_the_batch_size(linear, monkeypatch):
    """Small batches and a single batch give the same number."""
    X, _, vae = linear
    expected = total_correlation(vae, X[:100], n_draws=3)
    # the package attribute of this name is the function
    module = import_module("sklearn_vae.metrics.total_correlation")
    monkeypatch.setattr(module, "MAX_DENSITIES", 1000)

    assert total_correlation(vae, X[:100], n_draws=3) == pytest.approx(expected)


def test_rows_with_missing_cells_have_a_total_correlation(linear):
    """A model of complete rows shows its encoder the mean of the decoder, here of the column."""
    X, _, vae = linear
    hidden = np.random.default_rng(0).random((300, X.shape[1])) < 0.2
    missing = np.where(hidden, np.nan, X[:300])
    filled = np.where(hidden, X.mean(axis=0), X[:300])

    assert total_correlation(vae, missing) == pytest.approx(
        total_correlation(vae, filled), abs=0.02
    )
