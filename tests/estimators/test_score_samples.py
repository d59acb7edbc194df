"""score_samples is log p(x), in nats and in X's own units: held against what is known."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.preprocessing import StandardScaler

from sklearn_vae import VAETransformer
from sklearn_vae.likelihoods import Gaussian
from tests.conftest import bent_cloud, slow


def linear_gaussian(n, rng, n_columns=6, n_factors=2):
    """Rows of a factor model, and the model's mean and covariance."""
    loadings = np.random.default_rng(5).normal(size=(n_factors, n_columns))
    noise = np.linspace(0.5, 1.5, n_columns)
    X = rng.normal(size=(n, n_factors)) @ loadings + noise * rng.normal(size=(n, n_columns))
    return X, np.zeros(n_columns), loadings.T @ loadings + np.diag(noise**2)


LINEAR = {"hidden_layer_sizes": (), "likelihood": Gaussian(scale="per_column"), "prior": "normal"}


@pytest.fixture(scope="module")
def factor_rows():
    rng = np.random.default_rng(0)
    train, mean, covariance = linear_gaussian(2000, rng)
    test, _, _ = linear_gaussian(500, rng)
    return train, test, multivariate_normal(mean, covariance)


def test_the_initial_score_is_that_of_probabilistic_pca(factor_rows):
    """The start is probabilistic PCA of the standardized columns, within the score's own noise."""
    train, test = factor_rows[0], factor_rows[1][:100]
    scaler = StandardScaler().fit(train)
    expected = PCA(2).fit(scaler.transform(train)).score(scaler.transform(test))
    vae = VAETransformer(
        2, prior="normal", learning_rate=1e-12, max_iter=1, early_stopping=False, random_state=0
    )
    actual = vae.fit(train).score_samples(test, n_draws=4096).mean()

    assert actual == pytest.approx(expected - np.log(scaler.scale_).sum(), abs=1e-3)


def test_a_trained_linear_decoder_has_the_score_of_factor_analysis(factor_rows):
    """Trained to the end, a linear model with a scale per column is factor analysis."""
    train, test, _ = factor_rows
    expected = FactorAnalysis(2, tol=1e-4, max_iter=3000).fit(train).score(test)
    vae = VAETransformer(2, **LINEAR, early_stopping=False, max_iter=160, random_state=0)
    actual = vae.fit(train).score(test)

    assert actual == pytest.approx(expected, abs=0.05)


def test_the_score_is_the_exact_density(factor_rows):
    """Of few draws nearly so, as their proposal is the posterior."""
    train, test, _ = factor_rows
    vae = VAETransformer(2, **LINEAR, early_stopping=False, max_iter=40, random_state=0).fit(train)
    likelihood = vae.module_
    loadings = likelihood.decoder.linear.weight[0].numpy()
    scale = 7 * np.tanh(likelihood.free[0, 0].numpy() / 7)
    (group,) = vae.columns_.groups
    sd = group.scale * 2.0**group.exponent
    mean = vae.columns_.inverse_transform(likelihood.decoder.linear.bias[0].numpy())[0]
    covariance = (loadings.T @ loadings + np.diag(np.exp(2 * scale))) * np.outer(sd, sd)
    exact = multivariate_normal(mean, covariance).logpdf(test).mean()
    density = vae._predictor().log_density
    by_draws = [
        np.mean([density(test, n, scrambling).mean() for scrambling in range(4)])
        for n in (1, 16, 256)
    ]

    np.testing.assert_allclose(by_draws, exact, atol=0.1)
    assert by_draws[1] == pytest.approx(exact, abs=0.01)
    assert by_draws[-1] == pytest.approx(exact, abs=0.003)
    assert vae.score(test) == pytest.approx(exact, abs=0.01)


def test_probabilities_of_all_binary_rows_sum_to_one(rng):
    """Eight binary columns have 256 rows; exp(score) is a distribution over them."""
    kind = rng.integers(0, 2, size=(600, 1))
    X = (rng.random((600, 8)) < np.where(kind, 0.8, 0.2)).astype(float)
    everything = (np.arange(256)[:, None] >> np.arange(8)) & 1
    vae = VAETransformer(2, max_iter=20, random_state=0).fit(X)
    total = np.exp(vae.score_samples(everything.astype(float), n_draws=512)).sum()

    assert total == pytest.approx(1, abs=0.03)


def test_the_density_integrates_to_one_on_a_plane():
    """A bent cloud in two dimensions, with a density that is far from Gaussian."""
    X = bent_cloud(600)
    vae = VAETransformer(2, hidden_layer_sizes=(32,), max_iter=20, random_state=0).fit(X)
    x, y = np.linspace(-9, 9, 41), np.linspace(-8, 25, 75)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    total = np.exp(vae.score_samples(grid)).sum() * (x[1] - x[0]) * (y[1] - y[0])

    assert total == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("n_rows", [200, *slow(600)])
def test_rescaling_columns_changes_every_score_by_the_log_abs_det_jacobian(n_rows):
    """A density in other units: exactly -sum(log s), whatever the units."""
    rng = np.random.default_rng(1)
    X, _, _ = linear_gaussian(n_rows, rng)
    s = np.array([1e-6, 1e-3, 0.5, 3.0, 1e3, 1e6])
    plain = VAETransformer(2, max_iter=6, random_state=0).fit(X).score_samples(X)
    scaled = VAETransformer(2, max_iter=6, random_state=0).fit(X * s).score_samples(X * s)

    np.testing.assert_allclose(scaled, plain - np.log(s).sum(), rtol=0, atol=1e-5)


def test_samples_have_the_mean_and_covariance_of_the_data(factor_rows):
    """sample() includes the decoder's noise: the covariance is not that of the means."""
    train, _, truth = factor_rows
    vae = VAETransformer(2, max_iter=30, random_state=0).fit(train)
    X = vae.sample(20000, random_state=0)
    error = np.linalg.norm(np.cov(X.T) - truth.cov) / np.linalg.norm(truth.cov)

    assert np.abs(X.mean(0) / np.sqrt(np.diag(truth.cov))).max() < 0.08
    assert error < 0.10


def test_score_is_the_mean_of_score_samples(factor_rows):
    """As GaussianMixture's, and weighted if asked to."""
    train, test, _ = factor_rows
    vae = VAETransformer(2, max_iter=2, random_state=0).fit(train)
    weight = np.random.default_rng(0).random(len(test))
    scores = vae.score_samples(test)

    assert vae.score(test) == pytest.approx(scores.mean(), rel=1e-12)
    assert vae.score(test, sample_weight=weight) == pytest.approx(
        np.average(scores, weights=weight), rel=1e-12
    )


def test_the_standard_error_has_the_size_of_the_error(factor_rows):
    """return_std is of the size of the distance to a score with many draws."""
    train, test = factor_rows[0], factor_rows[1][:100]
    vae = VAETransformer(2, max_iter=30, random_state=0).fit(train)
    score, std = vae.score_samples(test, n_draws=16, return_std=True)
    error = score - vae.score_samples(test, n_draws=512)

    assert 0.3 < np.sqrt(np.mean(error**2)) / np.sqrt(np.mean(std**2)) < 3


def by_a_grid_of_codes(vae, X, reach=9.0, n_points=361):
    """log p(x) of a model with two latent dimensions, integrated over a grid of codes."""
    axis = torch.linspace(-reach, reach, n_points, dtype=torch.float64)
    codes = torch.cartesian_prod(axis, axis)
    fitted = vae._predictor()
    model = fitted.module(np.dtype(np.float64))
    rows = torch.as_tensor(fitted.columns.transform(X))[None, None]  # (1, 1, B, d)
    log_joint = []
    for z in codes.split(50_000):
        log_prob = model.likelihood.log_prob(model.decode(z[None, :, None]), rows)[0]
        prior = model.prior_distribution().log_prob(z[None, None])[0, 0]
        log_joint.append(log_prob + prior[:, None])
    step = 2 * reach / (n_points - 1)
    total = torch.logsumexp(torch.cat(log_joint), dim=0)
    return total.numpy() + 2 * np.log(step) + fitted.columns.log_abs_det_jacobian(X)


@pytest.mark.parametrize("beta", [0.0, *slow(0.05), 1.0])
def test_the_score_is_log_p_of_x_for_every_beta(beta):
    """Where the encoder is narrower than the posterior, other proposals make up for it."""
    X = bent_cloud(500).round(1)  # scales that a grid can see
    vae = VAETransformer(2, beta=beta, prior="normal", max_iter=30, random_state=1).fit(X)
    scores, expected = vae.score_samples(X[:12]), by_a_grid_of_codes(vae, X[:12])

    assert scores.mean() == pytest.approx(expected.mean(), abs=0.05)
    np.testing.assert_allclose(scores, expected, atol=0.5)


@pytest.mark.slow
def test_intervals_of_the_standard_error_cover_log_p():
    """Of 90 %, on average over seeds of the points, which all rows share."""
    X = bent_cloud(600)
    vae = VAETransformer(2, max_iter=10, random_state=0).fit(X[40:])
    expected = vae.score_samples(X[:40], n_draws=4096)
    covered = []
    for vae.seed_ in range(16):
        score, std = vae.score_samples(X[:40], return_std=True)
        covered.append(np.abs(score - expected) < 1.645 * std)

    assert np.mean(covered) == pytest.approx(0.9, abs=0.05)
