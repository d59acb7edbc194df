"""The start in closed form: scikit-learn's PCA and the multivariate normal as oracles."""

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA

from sklearn_vae.initialization.ppca import MIN_VARIANCE, CorrelationPCA, LinearGaussian

OPTIONAL = ("imputation", "regression", "rows")
FIELDS = [name for name in LinearGaussian.__dataclass_fields__ if name not in OPTIONAL]


def probabilistic_pca(x, weight, n_components):
    """The linear model of a table."""
    weight = np.ones(len(x)) if weight is None else weight
    return CorrelationPCA.fit(x, weight, n_components).linear_gaussian(n_components)


def log_density(start, x):
    """log p(x) of the linear model: z integrated out by hand, the rest by scipy."""
    covariance = start.loadings.T @ start.loadings + np.diag(start.residual**2)
    return stats.multivariate_normal(start.loc, covariance).logpdf(x)


def as_sklearn(table, n_components):
    """PCA whose covariance is the maximum-likelihood one (sklearn divides by n - 1)."""
    pca = PCA(n_components, svd_solver="full").fit(table * np.sqrt(1 - 1 / len(table)))
    pca.mean_ = table.mean(axis=0)
    return pca


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_the_density_is_that_of_sklearns_pca(n_components, table, rng):
    """On rows it has seen and on others."""
    x = np.vstack([table, 3 * rng.standard_normal((20, 4))])
    expected = as_sklearn(table, n_components).score_samples(x)
    start = probabilistic_pca(table, None, n_components)

    np.testing.assert_allclose(log_density(start, x), expected, rtol=1e-9)


def test_the_axes_are_pcas_the_largest_first(table):
    """z_0 says most, as users of PCA expect; signs are settled by the largest entry."""
    components = as_sklearn(table, 3).components_
    loadings = probabilistic_pca(table, None, 3).loadings
    lengths = np.linalg.norm(loadings, axis=1)

    np.testing.assert_allclose(np.abs(loadings / lengths[:, None]), np.abs(components), atol=1e-9)
    assert (np.diff(lengths) < 0).all()
    assert (loadings[np.arange(3), np.abs(loadings).argmax(axis=1)] > 0).all()


@pytest.mark.parametrize("units", [1.0, np.array([3.0, 0.1, 1.0, 20.0])])
def test_the_posterior_is_bayes_rule(units, table):
    """q(z|x) starts exact: conditioning a joint normal on x gives its mean and covariance."""
    start = probabilistic_pca(table * units, None, 2)
    W = start.loadings
    covariance = W.T @ W + np.diag(start.residual**2)
    gain = np.linalg.solve(covariance, W.T)  # (d, l)

    np.testing.assert_allclose(start.posterior_weights, gain, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(np.diag(start.posterior_scale**2), np.eye(2) - W @ gain, atol=1e-12)


@pytest.mark.parametrize("n_components", [1, 3])
def test_more_columns_than_rows_give_the_same_model(n_components, rng):
    """The small Gram matrix is a short cut, not another model."""
    x = rng.standard_normal((12, 30))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False, ddof=0))
    noise = values[:-n_components].mean()
    axes = vectors[:, -n_components:]
    signal = axes @ np.diag(values[-n_components:] - noise) @ axes.T
    start = probabilistic_pca(x, None, n_components)

    np.testing.assert_allclose(start.residual**2, np.full(30, noise), rtol=1e-9)
    np.testing.assert_allclose(start.loadings.T @ start.loadings, signal, atol=1e-10)


def test_dimensions_beyond_the_rank_are_silent(rng):
    """They say nothing: the posterior is the prior, and the loadings are 0."""
    x = rng.standard_normal((5, 30))  # rank 4
    start = probabilistic_pca(x, None, 8)

    np.testing.assert_allclose(start.loadings[4:], 0, atol=1e-12)
    np.testing.assert_allclose(start.posterior_scale[4:], 1, atol=1e-9)
    assert (np.linalg.norm(start.loadings[:4], axis=1) > 0.1).all()


def test_rows_on_a_plane_keep_a_smallest_noise(rng):
    """A residual of 0 has no density."""
    x = rng.standard_normal((50, 2)) @ rng.standard_normal((2, 5))
    start = probabilistic_pca(x, None, 2)

    np.testing.assert_allclose((start.residual / x.std(axis=0)) ** 2, MIN_VARIANCE, rtol=1e-9)
    assert all(np.isfinite(getattr(start, field)).all() for field in FIELDS)


@pytest.mark.parametrize("value", [0.0, 7.0])
@pytest.mark.parametrize("n_rows", [3, 80])
def test_constant_columns_are_left_where_they_are(n_rows, value, table):
    """A split of a table may leave a column without variation; nothing may be divided by it."""
    x = table[:n_rows].copy()
    x[:, 1] = value
    start = probabilistic_pca(x, None, 2)

    assert all(np.isfinite(getattr(start, field)).all() for field in FIELDS)
    assert start.loc[1] == pytest.approx(value)
    np.testing.assert_allclose(start.loadings[:, 1], 0, atol=1e-12)


def test_the_start_does_not_follow_from_how_many_axes_others_need():
    """Where all variances are equal, any axes are leading ones; they have to be the same ones."""
    x = np.random.default_rng(0).normal(size=(200, 6))
    white = PCA(whiten=True).fit_transform(x)
    expected = probabilistic_pca(white, None, 2)

    for n_axes in (3, 4, 6):
        shared = CorrelationPCA.fit(white, np.ones(200), n_axes).linear_gaussian(2)
        np.testing.assert_array_equal(shared.loadings, expected.loadings)
