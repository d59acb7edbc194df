"""Normal scores, and values that are recorded in steps."""

import numpy as np
import pytest
from scipy import stats

from sklearn_vae.likelihoods import Gaussian
from tests.conftest import decode_samples
from tests.data.test_marginals import fit


@pytest.fixture
def skewed(rng):
    """A column with a hard edge at its most probable value, which no logarithm removes."""
    return np.where(rng.random(4000) < 0.3, 0.01 * rng.random(4000), rng.gamma(0.8, 2.0, 4000))


def test_normal_scores_have_a_standard_normal_distribution(skewed):
    """Of the training rows and of others of the same distribution; numpy's quantiles agree."""
    columns = fit(skewed[:2000])
    scores = columns.transform(skewed[2000:, None])[:, 0]

    assert columns.groups[0].has_knots[0]
    assert stats.kstest(scores, "norm").statistic < 0.04
    at_medians = columns.transform(np.quantile(skewed[:2000], [0.25, 0.5, 0.9])[:, None])[:, 0]
    np.testing.assert_allclose(at_medians, stats.norm.ppf([0.25, 0.5, 0.9]), atol=0.03)


def test_the_log_determinant_is_that_of_the_derivative(skewed):
    """Between the knots and beyond them, by finite differences."""
    columns = fit(skewed - 1)
    x = np.concatenate([np.quantile(skewed, np.linspace(0, 1, 55)) - 1, [-30, 80]])[:, None]
    difference = columns.transform(x + 1e-7) - columns.transform(x - 1e-7)
    log_det = columns.log_abs_det_jacobian(x)
    is_smooth = np.isclose(log_det, columns.log_abs_det_jacobian(x - 1e-7))

    assert columns.groups[0].has_knots[0]
    assert is_smooth.mean() > 0.5
    np.testing.assert_allclose(
        log_det[is_smooth], np.log(difference[is_smooth, 0] / 2e-7), rtol=1e-4
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_normal_scores_are_inverted(skewed, unit, dtype):
    """In every unit and both precisions; missing values stay missing."""
    X = (unit * skewed).astype(dtype)[:, None]
    X[::7] = np.nan
    columns = fit(X)
    encoded = columns.transform(X)

    assert columns.groups[0].has_knots[0]
    assert encoded.dtype == dtype
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(
        columns.inverse_transform(encoded), X, rtol=tolerance, atol=tolerance * unit
    )
    missing = columns.log_abs_det_jacobian(X)[::7]
    assert (missing == 0).all()


def test_knots_from_a_file_are_checked(skewed):
    """They must increase, and belong to the columns."""
    for break_ in ("number", "count"):
        group = fit(skewed).groups[0]
        if break_ == "number":
            group.knots = []
        else:
            group.knots = [group.knots[0][:1]]
        with pytest.raises(ValueError, match="knots"):
            group.check()


@pytest.mark.parametrize("step", [1.0, 0.01, 5.0])
def test_samples_of_a_normal_model_are_the_training_values(step, rng):
    """Steps and bounds are exact, and values are as frequent as in training, common ends too."""
    values = np.round(step * np.floor(300 * rng.beta(0.7, 0.7, 20_000) + 3), 2)
    columns = fit(values)
    group = columns.groups[0]
    samples = decode_samples(columns, rng.normal(size=(20_000, 1)))[:, 0]

    assert type(columns.likelihoods[0]) is Gaussian
    assert group.has_knots[0]
    assert set(samples) <= set(values)
    unique, counts = np.unique(values, return_counts=True)
    observed = np.array([(samples == value).sum() for value in unique])
    assert stats.kstest(samples, values).pvalue > 1e-3
    assert (np.abs(observed - counts)[[0, -1]] < 5 * np.sqrt(2 * counts[[0, -1]])).all()


@pytest.mark.parametrize("degrees", [2, 3])
def test_heavy_tails_are_those_of_the_values(degrees, rng):
    """One segment for a twentieth of the rows would double the share of far values."""
    values = rng.standard_t(degrees, 1500)
    columns = fit(values)
    assert columns.groups[0].has_knots[0]
    samples = decode_samples(columns, rng.normal(size=(200_000, 1)))[:, 0]

    for share in (0.04, 0.02):
        low, high = np.quantile(values, [share / 2, 1 - share / 2])
        assert ((samples < low) | (samples > high)).mean() == pytest.approx(share, rel=0.25)


def test_values_are_dequantized_over_their_step_only(rng):
    """Uniform noise of one step in columns with normal scores, none beside them."""
    price = np.round(rng.beta(0.7, 0.7, 5000), 2)
    normal = rng.normal(10, 2, 5000).round(1)
    X = np.column_stack([price, normal, rng.normal(size=5000)])
    X[::9] = np.nan
    columns = fit(X)
    noisy = columns.dequantize(X, np.random.default_rng(0))
    noise = (noisy - X)[~np.isnan(X[:, 0]), 0]

    np.testing.assert_array_equal(noisy[:, 1:], X[:, 1:])
    assert np.isnan(noisy[::9]).all()
    assert stats.kstest(noise, "uniform", (-0.005, 0.01)).pvalue > 1e-3
    assert stats.kstest(columns.transform(noisy)[:, 0][~np.isnan(X[:, 0])], "norm").pvalue > 1e-3
