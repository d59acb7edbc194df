"""A density that is still a mixture is scored and imputed exactly, component by component."""

from copy import copy

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

from sklearn_vae import VAEDensity
from sklearn_vae.inference.mixture_log_density import conditional_mean, log_density
from sklearn_vae.likelihoods import Limits
from sklearn_vae.numerics.random import Stream, make_generator


@pytest.fixture(scope="module")
def rows():
    """Two groups of three columns, with missing cells in the last 100 rows."""
    rng = np.random.default_rng(0)
    group = rng.integers(2, size=(400, 1))
    X = 4 * group + rng.normal(size=(400, 3)) @ np.array([[1, 0.8, 0.3], [0, 0.6, 0.5], [0, 0, 1]])
    hidden = rng.random(X.shape) < 0.3
    hidden[:300] = hidden[hidden.all(axis=1)] = False
    return np.where(hidden, np.nan, X)


@pytest.fixture(scope="module")
def mixture(rows):
    """A mixture of two mixtures."""
    mixtures = [(3, "full"), (4, "diag")]
    mixture = VAEDensity(
        2, mixtures=mixtures, likelihood="gaussian", max_iter=0, random_state=0
    ).fit(rows)
    assert len(mixture.mixtures_) == 2
    return mixture


class Components:
    """The mixture's components, in the units of the encoded rows, as scipy has them."""

    def __init__(self, density):
        self.density, self.weight, self.normals = density, [], []
        weights = (density.state_dict_[name] for name in ("mixture_logit", "loc", "whiten"))
        for share, logits, locs, roots in zip(density.weights_, *weights, strict=True):
            logit = logits[0].astype(float)
            parts = zip(np.exp(logit - logsumexp(logit)), locs, strict=True)
            for (weight, loc), whiten in zip(parts, roots.astype(float), strict=True):
                root = whiten if whiten.ndim == 2 else np.diag(whiten)
                if weight > 1e-100:  # not padding
                    self.weight.append(share * weight)
                    self.normals.append((loc.astype(float), np.linalg.inv(root.T @ root)))

    def log_joint(self, row):
        """Log-density of an encoded row's observed cells with each component."""
        seen = ~np.isnan(row)
        return np.log(self.weight) + [
            stats.multivariate_normal(loc[seen], covariance[np.ix_(seen, seen)]).logpdf(row[seen])
            for loc, covariance in self.normals
        ]

    def mean(self, row):
        """Conditional mean of an encoded row."""
        seen, log_joint = ~np.isnan(row), self.log_joint(row)
        means = []
        for loc, covariance in self.normals:
            gain = np.linalg.solve(covariance[np.ix_(seen, seen)], row[seen] - loc[seen])
            means.append(np.where(seen, row, loc + covariance[:, seen] @ gain))
        return np.exp(log_joint - logsumexp(log_joint)) @ means


def test_scores_are_those_of_the_mixture(rows, mixture):
    encoder, oracle = mixture.columns_, Components(mixture)
    log_p = [logsumexp(oracle.log_joint(row)) for row in encoder.transform(rows)]

    np.testing.assert_allclose(
        mixture.score_samples(rows), log_p + encoder.log_abs_det_jacobian(rows), atol=1e-5
    )
    assert (mixture.score_samples(rows, return_std=True)[1] < 1e-12).all()


def test_missing_cells_get_the_mean_of_the_mixture(rows, mixture):
    oracle, incomplete = Components(mixture), rows[300:]
    mean = np.array([oracle.mean(row) for row in mixture.columns_.transform(incomplete)])

    imputed = mixture.columns_.transform(mixture.impute(incomplete))
    np.testing.assert_allclose(imputed, mean, atol=1e-5)


def test_draws_of_missing_cells_have_the_moments_of_the_mixture(rows, mixture):
    incomplete = rows[300:][np.isnan(rows[300:]).any(axis=1)][:20]
    drawn, mean = mixture.impute(incomplete, 800, random_state=0), mixture.impute(incomplete)

    spread = drawn.std(axis=0)
    assert (np.abs(drawn.mean(axis=0) - mean) <= 0.15 * np.maximum(spread, 0.1)).all()
    assert (spread[np.isnan(incomplete)] > 0.2).all()


def test_samples_have_the_moments_of_the_mixture(rows, mixture):
    """Of all members together, but for the limits of the table."""
    model, components = copy(mixture._predictor().module(rows.dtype)), Components(mixture)
    high, excluded = torch.full((3,), torch.inf), torch.full((3, 1), torch.nan)
    model.limits = Limits(-high, high, excluded, torch.zeros(3))
    samples = model.sample(50_000, make_generator(0, Stream.SAMPLE)).numpy()

    mean = np.average([loc for loc, _ in components.normals], axis=0, weights=components.weight)
    square = [covariance + np.outer(loc, loc) for loc, covariance in components.normals]
    covariance = np.average(square, axis=0, weights=components.weight) - np.outer(mean, mean)
    np.testing.assert_allclose(samples.mean(axis=0), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(samples.T), covariance, atol=0.03)
    # the share of rows on one side of the middle, which depends on the weights most
    below = [stats.norm.cdf(mean[0], loc[0], root[0, 0] ** 0.5) for loc, root in components.normals]
    share = np.average(below, weights=components.weight)
    assert (samples[:, 0] < mean[0]).mean() == pytest.approx(share, abs=0.01)


def test_a_trained_density_depends_on_codes(rows, mixture):
    trained = VAEDensity(2, mixtures=[(1, "full")], max_iter=2, early_stopping=False).fit(rows)

    assert not mixture._predictor().module(rows.dtype).depends_on_code
    assert trained._predictor().module(rows.dtype).depends_on_code


def test_rows_and_columns_without_values_have_the_probability_1(rows):
    """Also where codes are drawn."""
    trained = VAEDensity(2, mixtures=[(3, "full")], max_iter=2, early_stopping=False).fit(rows)
    X = np.full((2, 3), np.nan)
    X[1, 0] = 1.0

    assert trained.score_samples(X)[0] == 0
    assert (trained.score_samples(X, columns=[1, 2]) == 0).all()
    assert trained.score_samples(X)[1] != 0


def test_far_rows_are_not_those_of_padding(rng):
    """Members are padded to the largest number of components by ones that do not exist."""
    t = rng.normal(size=(500, 1))
    X = t * [1, 1, 2] + 0.05 * rng.normal(size=(500, 3))
    mixtures = [(1, "full"), (4, "diag")]
    density = VAEDensity(2, mixtures=mixtures, max_iter=0, random_state=0).fit(X)
    alone = VAEDensity(2, mixtures=mixtures[:1], max_iter=0, random_state=0).fit(X)
    density.state_dict_ = {name: value[:1] for name, value in density.state_dict_.items()}
    density.mixtures_, density.weights_ = density.mixtures_[:1], np.ones(1)
    if density.mixtures_ != [(1, "full")]:
        pytest.fail(f"the best mixture is {density.mixtures_}")
    far = np.array([[1, 40.0, np.nan], [1, 1.0, 60.0]])

    np.testing.assert_allclose(density.score_samples(far), alone.score_samples(far), rtol=1e-4)
    np.testing.assert_allclose(density.impute(far), alone.impute(far), rtol=1e-4)


def test_importance_sampling_agrees_on_a_mixed_table(rng):
    """Scores and imputed values, by components' own parameters and by those of each draw."""
    group = rng.integers(3, size=300)
    X = np.column_stack(
        [
            group + 0.5 * rng.normal(size=300),
            rng.poisson(1 + 2 * group),
            np.where(rng.random(300) < 0.4, 0.0, group + rng.normal(size=300)),
            (group + rng.integers(2, size=300)) % 3,
        ]
    )
    X[rng.random(X.shape) < 0.2] = np.nan
    kinds = ["gaussian", "poisson", "zero_inflated", "categorical"]
    density = VAEDensity(
        1, likelihood=kinds, mixtures=[(3, "full"), (6, "diag")], max_iter=0, random_state=0
    )
    predictor = density.fit(X)._predictor()
    model, x = predictor.module(X.dtype), torch.from_numpy(predictor.encoder.transform(X[:40]))
    points = predictor.points(2048).last(1).map(torch.from_numpy)
    exact, mean = log_density(model, x, points), conditional_mean(model, x, points)
    model.depends_on_code = True

    np.testing.assert_allclose(log_density(model, x, points), exact, atol=0.02)
    np.testing.assert_allclose(conditional_mean(model, x, points), mean, atol=0.03)
