"""Probability integral transforms: exact normal distributions and scipy as oracles."""

import numpy as np
import pytest
from scipy import stats

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.metrics import pit_calibration
from tests.metrics.conftest import linear_rows, ppca_covariance


def test_marginal_transforms_are_those_of_the_exact_normal(linear):
    """Columns of a linear model are normal with known variances; the KS statistic is scipy's."""
    X, new, vae = linear
    scale = np.sqrt(np.diag(ppca_covariance(X, 2)))
    expected = stats.norm(X.mean(axis=0), scale).cdf(new)
    calibration = pit_calibration(vae, new)

    np.testing.assert_allclose(calibration.pit, expected, atol=0.03)
    for column in range(6):
        exact = stats.kstest(new[:, column], stats.norm(X.mean(axis=0)[column], scale[column]).cdf)
        assert calibration.statistic[column] == pytest.approx(exact.statistic, abs=0.03)


def test_a_wrong_scale_and_a_wrong_mean_are_detected(linear):
    """Rows of the model pass the test; rescaled and shifted rows do not."""
    X, new, vae = linear
    mean = X.mean(axis=0)

    assert (pit_calibration(vae, new).pvalue > 1e-4).all()
    assert (pit_calibration(vae, mean + 2 * (new - mean)).pvalue < 1e-6).all()
    assert (pit_calibration(vae, new + X.std(axis=0)).pvalue < 1e-6).all()


def test_binary_columns_are_uniform_and_constant_columns_are_nan(rng):
    """A jump of the distribution function is filled in at random, the same in every call."""
    X = rng.normal(size=(600, 4))
    X[:, 1], X[:, 2] = X[:, 0] + X[:, 1] > 0.5, 7.0
    vae = VAETransformer(1, max_iter=10, random_state=0).fit(X[:400])
    first, second = (pit_calibration(vae, X[400:], n_draws=256) for _ in range(2))

    assert np.isnan(first.pit[:, 2]).all()
    assert np.isnan(first.pvalue[2])
    assert (first.pvalue[[0, 1, 3]] > 1e-4).all()
    np.testing.assert_array_equal(first.pit, second.pit)
    ones = X[400:, 1] == 1
    assert first.pit[~ones, 1].max() <= first.pit[ones, 1].min()


@pytest.mark.parametrize("estimator", [VAETransformer, VAEDensity])
def test_missing_cells_have_no_transform(estimator, rng):
    """A missing cell took part as the largest value, or made its column's statistic NaN."""
    X = rng.normal(size=(200, 3))
    X[:, 1], X[:, 2] = X[:, 0] + X[:, 1] > 0.5, rng.poisson(3, 200)
    holey = np.where(rng.random(X.shape) < 0.3, np.nan, X)
    holey[:, 2] = np.nan
    model = estimator(1, likelihood={2: "poisson"}, max_iter=2, random_state=0).fit(X)
    found = pit_calibration(model, holey, n_draws=256)

    np.testing.assert_array_equal(np.isnan(found.pit), np.isnan(holey))
    for column in range(2):
        pit = found.pit[~np.isnan(holey[:, column]), column]
        assert found.statistic[column] == stats.kstest(pit, "uniform").statistic
        assert found.pvalue[column] > 1e-4
    assert np.isnan(found.statistic[2])
    whole = pit_calibration(model, X, n_draws=256).pit
    observed = ~np.isnan(holey)
    np.testing.assert_array_equal(found.pit[observed], whole[observed])


def test_an_ensemble_predicts_the_mixture_of_its_members():
    """Its marginal is the mean of the members' marginals."""
    X = linear_rows(200, 0)
    vae = VAETransformer(1, n_init=2, ensemble=True, max_iter=3, random_state=0).fit(X)
    ensemble = pit_calibration(vae, X, n_draws=8192).pit
    weights, members = vae.state_dict_, []
    for member in range(2):
        vae.state_dict_ = {name: value[member : member + 1] for name, value in weights.items()}
        members.append(pit_calibration(vae, X, n_draws=8192).pit)

    np.testing.assert_allclose(ensemble, np.mean(members, axis=0), atol=0.02)


def test_invalid_arguments_are_refused(linear):
    """The error says what is allowed."""
    with pytest.raises(ValueError, match="n_draws"):
        pit_calibration(linear[2], linear[0], n_draws=0)
