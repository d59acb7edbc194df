"""The start in closed form: scikit-learn's PCA and the multivariate normal as oracles."""

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import make_circles, make_moons, make_s_curve, make_swiss_roll
from sklearn.decomposition import PCA

from sklearn_vae import VAETransformer
from sklearn_vae.initialization.ppca import (
    MIN_VARIANCE,
    CorrelationPCA,
    LinearGaussian,
)

OPTIONAL = ("imputation", "regression", "intercept")
FIELDS = [name for name in LinearGaussian.__dataclass_fields__ if name not in OPTIONAL]


def probabilistic_pca(x, weight, n_components):
    """The linear model of a table."""
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


def assert_same(expected, start, **kwargs):
    """All of both linear models is the same."""
    for field in FIELDS:
        np.testing.assert_allclose(
            getattr(start, field), getattr(expected, field), err_msg=field, **kwargs
        )


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_the_noise_is_that_of_sklearns_pca(n_components, table):
    """Probabilistic PCA's noise is the mean of the variances left out."""
    expected = as_sklearn(table, n_components).noise_variance_
    start = probabilistic_pca(table, None, n_components)

    np.testing.assert_allclose(start.residual**2, np.full(4, expected), rtol=1e-9)


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


def test_loadings_are_in_the_units_of_the_table(table):
    """Columns in other units are the same model in other units."""
    units, shift = np.array([3.0, 0.1, 1.0, 20.0]), np.array([5.0, 0.0, -2.0, 100.0])
    own, other = (probabilistic_pca(x, None, 2) for x in (table, table * units + shift))
    expected = LinearGaussian(
        own.loc * units + shift,
        own.loadings * units,
        own.residual * units,
        own.posterior_weights / units[:, None],
        own.posterior_scale,
    )

    assert_same(expected, other, rtol=1e-7, atol=1e-10)


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


@pytest.mark.parametrize("n_components", [4, 5, 9])
def test_enough_components_keep_the_multivariate_normal(n_components, table):
    """With as many latent dimensions as columns nothing of the covariance is lost."""
    expected = stats.multivariate_normal(
        table.mean(axis=0), np.cov(table, rowvar=False, ddof=0)
    ).logpdf(table)
    start = probabilistic_pca(table, None, n_components)

    np.testing.assert_allclose(log_density(start, table), expected, rtol=1e-8)
    assert (n_components, 4) == start.loadings.shape


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
        shared = CorrelationPCA.fit(white, None, n_axes).linear_gaussian(2)
        np.testing.assert_array_equal(shared.loadings, expected.loadings)


@pytest.fixture
def ring(rng):
    """A noisy circle in 12 columns, two factors: (600, 12)."""
    angle = rng.uniform(0, 2 * np.pi, 600)
    axes = np.linalg.qr(rng.normal(size=(12, 2)))[0].T
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    return 4 * circle @ axes + 0.1 * rng.normal(size=(600, 12))


@pytest.mark.slow
def test_a_random_start_finds_two_factors_in_a_ring_and_leaves_the_others_silent(ring):
    """From probabilistic PCA, spare dimensions stand for noise, and training stays near it."""
    train, test = ring[:300], ring[300:]
    settings = {"n_components": 5, "refit": False, "random_state": 0}
    linear, best = (VAETransformer(n_init=n, **settings).fit(train) for n in (1, 2))
    kl = best._predictor().kl_per_dimension(test).mean(axis=0)

    assert (kl > 0.5).sum() == 2
    assert best.score(test) > max(linear.score(test), PCA(2).fit(train).score(test)) + 0.2


def sphere(n_rows, random_state):
    x = np.random.default_rng(random_state).normal(size=(n_rows, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True), None


def in_noisy_columns(make, rng):
    """Training and test rows on a surface rotated into 24 columns, and its own columns' number."""
    x = make(2000, random_state=0)[0][rng.permutation(2000)]
    axes = np.linalg.qr(rng.normal(size=(24, x.shape[1])))[0].T
    X = (x - x.mean(0)) / x.std(0) @ axes + 0.1 * rng.normal(size=(2000, 24))
    return X[:1000], X[1000:], x.shape[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "least_gain"),
    [
        (lambda n, random_state: make_circles((n, 0), random_state=random_state), 0.8),
        (make_moons, 0.45),
        (sphere, 0.5),
        (make_s_curve, 0.25),
        (make_swiss_roll, -0.05),
    ],
    ids=["ring", "moons", "sphere", "s_curve", "swiss_roll"],
)
def test_three_starts_find_curved_surfaces_in_many_noisy_columns(make, least_gain, rng):
    """Held-out nats over probabilistic PCA; without scales that are held, the last two lose."""
    train, test, n_components = in_noisy_columns(make, rng)

    linear = PCA(n_components).fit(train).score(test)
    assert VAETransformer(n_init=3, random_state=0).fit(train).score(test) > linear + least_gain


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "textbook"),
    [(lambda n, random_state: make_circles((n, 0), random_state=random_state), 1.11),
     (make_moons, 0.62)],
    ids=["ring", "moons"],
)  # fmt: skip
def test_the_default_finds_a_ring_and_two_moons(make, textbook, rng):
    """Four fifths of what a textbook VAE gains over probabilistic PCA in benchmarks/curved.py."""
    train, test, _ = in_noisy_columns(make, rng)

    gain = VAETransformer(random_state=0).fit(train).score(test) - PCA(2).fit(train).score(test)
    assert gain > 0.8 * textbook
