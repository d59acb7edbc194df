"""EM of shallow mixtures, against closed forms, scipy and scikit-learn."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture

from sklearn_vae.likelihoods import Bernoulli, Categorical, Gaussian, Ordinal, Poisson
from sklearn_vae.models import mixture_init
from sklearn_vae.models.mixture_init import EM, MIN_VARIANCE
from sklearn_vae.models.mixture_vae import MixtureArchitecture


def architecture_of(*blocks):
    return MixtureArchitecture(1, (2,), blocks)


def em_of(x, *blocks, covariance_type="full", weight=None):
    weight = np.ones(len(x)) if weight is None else weight
    return EM(x, weight, architecture_of(*blocks), covariance_type)


def fitted(em, n_mixture, **options):
    return em.fit(em.clusters(n_mixture, 0), **options)


EXACT = {"tol": 1e-12, "max_iter": 5000}  # EM until nothing changes


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_numbers_are_fitted_as_scikit_learn_does(covariance_type, rng):
    """From the same clusters of k-means, the same mean log-likelihood."""
    X = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 3)) + 4 * rng.integers(3, size=(400, 1))
    options = {"covariance_type": covariance_type, "reg_covar": MIN_VARIANCE}
    oracle = GaussianMixture(3, random_state=0, **options).fit(X)
    em = em_of(X, (Gaussian(), 3), covariance_type=covariance_type)
    log_density = fitted(em, 3).log_joint().logsumexp(0)

    np.testing.assert_allclose(log_density.numpy(), oracle.score_samples(X), rtol=1e-8)


def test_latent_classes_are_found():
    """A table in which every pattern is there as often as two latent classes say."""
    weight = np.array([0.4, 0.6])
    bits = np.array([[0.9, 0.8, 0.85], [0.2, 0.1, 0.3]])
    classes = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    patterns = np.array(list(np.ndindex(2, 2, 2, 3)))
    given = np.prod(np.where(patterns[:, None, :3] == 1, bits, 1 - bits), axis=2)
    probability = given * classes[:, patterns[:, 3]].T  # (n, 2)
    x = np.hstack([patterns[:, :3], np.eye(3)[patterns[:, 3]]])
    blocks = (Bernoulli(), 3), (Categorical(3), 1)
    em = em_of(x, *blocks, covariance_type="diag", weight=1e7 * probability @ weight)
    mixture = fitted(em, 2, **EXACT)
    order = np.argsort(mixture.weight.numpy())

    np.testing.assert_allclose(mixture.weight[order], weight, atol=1e-3)
    np.testing.assert_allclose(mixture.params[order, :3].sigmoid(), bits, atol=1e-3)
    np.testing.assert_allclose(mixture.params[order, 3:].softmax(1), classes, atol=1e-3)


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_missing_numbers_are_integrated_out(covariance_type, rng):
    """The maximum of the likelihood has a closed form where one of two columns is complete.

    T. W. Anderson, "Maximum Likelihood Estimates for a Multivariate Normal Distribution when Some
    Observations Are Missing", JASA 52, 1957.
    """
    X = rng.normal(size=(300, 2)) @ [[1, 0.8], [0, 0.5]]
    X[X[:, 0] > 0.5, 1] = np.nan  # at random, but not completely
    seen = X[~np.isnan(X[:, 1])]
    mixture = fitted(em_of(X, (Gaussian(), 2), covariance_type=covariance_type), 1, **EXACT)
    mean, covariance = seen.mean(axis=0), np.cov(seen.T, bias=True)
    mean_0, variance_0 = X[:, 0].mean(), X[:, 0].var()
    slope = covariance[0, 1] / covariance[0, 0] if covariance_type == "full" else 0
    residual = covariance[1, 1] - slope * covariance[0, 1]

    expected = np.array([mean_0, mean[1] + slope * (mean_0 - mean[0])])
    np.testing.assert_allclose(mixture.loc[0], expected, atol=1e-4)
    found = mixture.covariance()[0].numpy()
    if covariance_type == "full":
        expected = [[variance_0, slope * variance_0], [slope * variance_0, 0]]
        expected[1][1] = residual + slope**2 * variance_0
    else:
        expected = [variance_0, residual]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("max_numbers", [1 << 22, 1000])
def test_the_density_of_incomplete_rows_is_the_marginal(max_numbers, rng, monkeypatch):
    """Against scipy, with numbers, classes and counts, in one batch of rows or several."""
    for name in ("MAX_NUMBERS", "CACHED_NUMBERS"):
        monkeypatch.setattr(f"sklearn_vae.numerics.rows.{name}", max_numbers)
    X = np.column_stack(
        [
            rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3)),
            rng.integers(2, size=200),
            np.sqrt(rng.poisson(3, size=200)),
        ]
    )
    X[rng.random(X.shape) < 0.3] = np.nan
    mixture = fitted(em_of(X, (Gaussian(), 3), (Bernoulli(), 1), (Poisson(), 1)), 2)
    log_joint, covariance = mixture.log_joint().numpy(), mixture.covariance().numpy()
    for row in range(20):
        for component in range(2):
            known = ~np.isnan(X[row])
            real = known[:3]
            expected = np.log(mixture.weight[component].item())
            if real.any():
                normal = stats.multivariate_normal(
                    mixture.loc[component][real], covariance[component][np.ix_(real, real)]
                )
                expected += normal.logpdf(X[row, :3][real])
            logit, raw = mixture.params[component].tolist()
            if known[3]:
                expected += stats.bernoulli.logpmf(X[row, 3], 1 / (1 + np.exp(-logit)))
            if known[4]:
                rate = np.exp(12 * np.tanh(raw / 12))
                expected += stats.poisson.logpmf(round(X[row, 4] ** 2), rate)
            assert log_joint[component, row] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_every_step_raises_the_likelihood(covariance_type, rng):
    """Of rows with missing cells of every kind, up to the pseudo-observations."""
    X = np.column_stack(
        [
            rng.normal(size=(300, 2)),
            rng.integers(3, size=300) / 2,
            np.eye(3)[rng.integers(3, size=300)],
        ]
    )
    missing = rng.random((300, 4)) < 0.3
    X[missing[:, [0, 1, 2, 3, 3, 3]]] = np.nan
    blocks = (Gaussian(), 2), (Ordinal(3), 1), (Categorical(3), 1)
    em = em_of(X, *blocks, covariance_type=covariance_type, weight=rng.random(300))
    bounds, responsibility = [], em.clusters(4, 0)
    for _ in range(30):
        em._maximize(responsibility)
        log_joint = em.log_joint()
        bounds.append(float(log_joint.logsumexp(0) @ em.row_weight))
        responsibility = (log_joint - log_joint.logsumexp(0)).exp()

    assert (np.diff(bounds) > -0.02).all()
    assert bounds[-1] > bounds[0] + 1


def test_a_single_full_covariance_is_ledoit_and_wolfs(rng):
    X = rng.normal(size=(30, 8)) @ rng.normal(size=(8, 8))
    mixture = fitted(em_of(X, (Gaussian(), 8)), 1)
    expected = LedoitWolf().fit(X).covariance_ + MIN_VARIANCE * np.eye(8)

    np.testing.assert_allclose(mixture.covariance(shrinks=True)[0], expected)


@pytest.mark.parametrize(("covariance_type", "min_rows"), [("full", 9), ("diag", 5)])
def test_a_component_of_few_rows_is_completed_by_rows_of_the_table(covariance_type, min_rows, rng):
    """One far row is a component; it becomes that of this row and of the whole table's rows."""
    X = np.vstack([rng.normal(size=(60, 2)), [[50.0, 50.0]]])
    mixture = EM(X, np.ones(61), architecture_of((Gaussian(), 2)), covariance_type)
    is_far = np.arange(61) == 60
    mixture._maximize(torch.as_tensor(np.stack([is_far, ~is_far]).astype(float)))
    weights = is_far + (min_rows - 1) / 61
    mean = np.average(X, axis=0, weights=weights)
    variance = np.average(np.square(X - mean), axis=0, weights=weights) + MIN_VARIANCE
    found = mixture.covariance()[0].numpy()

    np.testing.assert_allclose(mixture.loc[0], mean)
    np.testing.assert_allclose(np.diag(found) if found.ndim == 2 else found, variance)
    mixture = EM(X, np.ones(61), architecture_of((Gaussian(), 2)), covariance_type)
    found = mixture.initial(2, seed=0)
    order = np.argsort(found.weight)
    np.testing.assert_allclose(found.min_log_scale[order], [0, -3], atol=2e-3)


def test_no_class_has_probability_0(rng):
    """Though a component has no row of it."""
    X = np.column_stack([np.repeat([-5.0, 5.0], 100), np.eye(3)[np.repeat([0, 1], 100)]])
    architecture = architecture_of((Gaussian(), 1), (Categorical(3), 1))
    found = EM(X, np.ones(200), architecture, "diag").initial(2, seed=0)
    probability = torch.as_tensor(found.params).softmax(1).numpy()

    np.testing.assert_allclose(np.sort(probability[:, :2]), [[0.005, 0.995]] * 2, atol=2e-4)
    assert (probability > 1e-7).all()


def test_rare_and_common_patterns_of_missing_values_are_alike(rng, monkeypatch):
    """Rows of one pattern at a time, or each row by itself in batches: the same fit."""
    X = rng.normal(size=(150, 4)) @ rng.normal(size=(4, 4))
    X[rng.random(X.shape) < 0.3] = np.nan
    found = []
    for fewest in (1, 1000):
        monkeypatch.setattr(mixture_init, "COMMON_PATTERN", fewest)
        monkeypatch.setattr("sklearn_vae.numerics.rows.MAX_NUMBERS", 2000)  # several batches
        found.append(fitted(em_of(X, (Gaussian(), 4)), 3))

    np.testing.assert_allclose(found[0].covariance(), found[1].covariance(), rtol=1e-6)
    np.testing.assert_allclose(found[0].log_joint(), found[1].log_joint(), rtol=1e-6)
