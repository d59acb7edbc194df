"""Exact marginal distributions: point masses, recording steps and normal scores."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from sklearn_vae.data.bounds import lattice_step
from sklearn_vae.data.fields import Field
from sklearn_vae.data.fit import fit_encoder
from sklearn_vae.data.normal_scores import MAX_R2, find_explained_columns
from sklearn_vae.data.training_column import TrainingColumn
from sklearn_vae.likelihoods import Gaussian, LogNormal, ZeroInflated


def fit(values, *, weight=None, is_integer=False, likelihood="auto"):
    """Encoder of one column, or of several, with exact marginal distributions."""
    X = values.reshape(len(values), -1)
    logical_type = "integer" if is_integer else "number"
    fields = [Field(j, logical_type, None, "") for j in range(X.shape[1])]
    return fit_encoder(X, weight, likelihood, None, fields, exact_marginals=True)


@pytest.fixture
def skewed(rng):
    """A column with a hard edge at its most probable value, which no logarithm removes."""
    return np.where(rng.random(4000) < 0.3, 0.01 * rng.random(4000), rng.gamma(0.8, 2.0, 4000))


# -- normal scores -----------------------------------------------------------------------


def test_normal_scores_have_a_standard_normal_distribution(skewed):
    """Of the training rows and of others of the same distribution; numpy's quantiles agree."""
    columns = fit(skewed[:2000])
    scores = columns.transform(skewed[2000:, None])[:, 0]

    assert columns.groups[0].n_knots[0] > 0
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

    assert columns.groups[0].n_knots[0] > 0
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

    assert columns.groups[0].n_knots[0] > 0
    assert encoded.dtype == dtype
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(
        columns.inverse_transform(encoded), X, rtol=tolerance, atol=tolerance * unit
    )
    missing = columns.log_abs_det_jacobian(X)[::7]
    assert (missing == 0).all()


def test_well_behaved_columns_keep_their_encoding(rng):
    """Normal and log-normal ones, and columns of a requested likelihood."""
    X = np.column_stack([rng.normal(3, 2, 3000), np.exp(2 * rng.normal(size=3000))])
    columns = fit(X)

    assert columns.likelihoods == [Gaussian(), LogNormal()]
    assert all(not group.n_knots.any() for group in columns.groups)
    np.testing.assert_array_equal(
        columns.transform(X), fit_encoder(X, None, "auto", None).transform(X)
    )
    squared = fit(X[:, 1:] ** 2, likelihood="gaussian")
    assert squared.likelihoods == [Gaussian()]
    assert not squared.groups[0].n_knots.any()


@pytest.mark.parametrize(("n_rows", "has_scores"), [(2000, False), (10_000, True)])
def test_small_gains_are_enough_in_many_rows(n_rows, has_scores, rng):
    """Normal scores of a gamma distribution gain .12 nats; rows count by their weights."""
    values = rng.gamma(3.0, size=n_rows)
    half = values[: n_rows // 2]

    assert bool(fit(values).groups[0].n_knots[0]) is has_scores
    assert bool(fit(half, weight=np.full(len(half), 2.0)).groups[0].n_knots[0]) is has_scores


def test_small_gains_are_not_enough_in_explained_columns(rng):
    """Normal scores would bend the relation of a value to its sum with another."""
    a, b = rng.gamma(3.0, size=(2, 10_000))
    columns = fit(np.column_stack([a, a + 0.2 * b, b]))

    assert [int(k) > 0 for k in columns.groups[0].n_knots] == [False, False, False]
    assert [int(k) > 0 for k in fit(np.column_stack([a, b])).groups[0].n_knots] == [True, True]


def test_explained_columns_are_those_of_regressions(rng):
    """In any unit, with missing values and constants; weights are copies; scikit-learn agrees."""
    X = rng.normal(size=(600, 6)) @ np.diag([1.0, 2, 0.1, 1, 1, 1])
    X[:, 2:4] += X[:, :1] + X[:, 1:2]
    X[:, 5], X[rng.random(600) < 0.1, 4] = 3.0, np.nan
    filled = np.where(np.isnan(X), np.nanmean(X, axis=0), X)
    r2 = [
        LinearRegression()
        .fit(others := np.delete(filled, j, 1), filled[:, j])
        .score(others, filled[:, j])
        for j in range(5)
    ]
    expected = 1 - (1 - np.array(r2)) * 599 / 594 > MAX_R2
    weights = rng.integers(1, 3, 600)
    copies = np.repeat(X, weights, axis=0)

    assert 0 < expected.sum() < 5
    np.testing.assert_array_equal(find_explained_columns(X, None), [*expected, False])
    np.testing.assert_array_equal(find_explained_columns(1e300 * X, None), [*expected, False])
    np.testing.assert_array_equal(
        find_explained_columns(X, weights.astype(float)), find_explained_columns(copies, None)
    )
    assert find_explained_columns(X[:6], None).all()


def test_weights_count_as_copies(skewed, rng):
    """The scores of rows with weights are those of a table with copies, up to the ends."""
    weight = rng.integers(1, 4, len(skewed)).astype(float)
    grid = np.quantile(skewed, np.linspace(0.05, 0.95, 30))[:, None]
    copies = fit(np.repeat(skewed, weight.astype(int)))

    np.testing.assert_allclose(
        fit(skewed, weight=weight).transform(grid), copies.transform(grid), atol=0.06
    )


def test_knots_from_a_file_are_checked(skewed):
    """They must increase, and belong to the columns."""
    for break_ in ("order", "number", "count"):
        group = fit(skewed).groups[0]
        if break_ == "order":
            group.knots = group.knots[::-1].copy()
        elif break_ == "number":
            group.knots = group.knots[1:]
        else:
            group.n_knots = np.array([1])
        with pytest.raises(ValueError, match="knots"):
            group.check()


# -- recording steps ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([3.0, 1.0, 1.0, 2.0, 7.0], 1.0),
        ([0.25, 0.5, 0.25, 1.5], 0.25),
        ([10.0, 20.0, 20.0, 60.0], 10.0),
        ([0.0, 2.0, 5.0, 5.0], 1.0),
        (np.array([0.1, 0.3, 0.3, 0.7], dtype=np.float32), 0.2),
        (0.01 * np.array([101, 102, 102, 250]) / 3, 0.01 / 3),
        ([0.0, 1.0, 1.0, np.pi], 0.0),
        ([1.0, 2.0, 3.0], 0.0),
    ],
)
def test_recording_steps_are_found_in_any_unit(values, step):
    """All values are multiples, counted from the smallest; without repeats there is none."""
    column = TrainingColumn(0, np.asarray(values), None, len(values), Field(0, "number", None, ""))

    assert lattice_step(column) == pytest.approx(step, rel=1e-5)


@pytest.mark.parametrize("step", [1.0, 0.01, 5.0])
def test_samples_of_a_normal_model_are_the_training_values(step, rng):
    """Steps and bounds are exact, and each value is as frequent as in training."""
    values = np.round(step * np.floor(60 * rng.beta(0.7, 0.7, 20_000) + 3), 2)
    columns = fit(values, is_integer=step >= 1)
    group = columns.groups[0]
    samples = columns.inverse_transform(rng.normal(size=(20_000, 1)), is_sample=True)[:, 0]

    assert type(columns.likelihoods[0]) is Gaussian
    assert group.n_knots[0] > 0
    assert set(samples) <= set(values)
    unique, counts = np.unique(values, return_counts=True)
    observed = np.array([(samples == value).sum() for value in unique])
    assert stats.chi2_contingency([counts, observed]).pvalue > 1e-3


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


# -- point masses ------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1.0, 0.1])
def test_few_values_are_point_masses_with_a_density_per_step(step, rng):
    """Probabilities over the step, so that their sum times the step is 1, less the unseen."""
    values = step * rng.binomial(20, 0.3, 2000)
    columns = fit(values)
    group = columns.groups[0]
    unique = np.unique(values)
    log_det = columns.log_abs_det_jacobian(unique[:, None])

    assert columns.likelihoods == [ZeroInflated(len(unique))]
    np.testing.assert_allclose(log_det, np.log1p(-1 / 2002) - np.log(step), rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(group.point_masses[0], unique)
    encoded = columns.transform(unique[:, None])
    np.testing.assert_array_equal(columns.inverse_transform(encoded, is_sample=True)[:, 0], unique)


def test_common_values_anywhere_are_point_masses_and_the_rest_has_normal_scores(rng):
    """Twenty hours and forty among others, as recorded; both parts come back exactly."""
    hours = rng.gamma(1.5, 24, 8000).round() + 1
    chosen = rng.random(8000)
    hours[chosen < 0.4], hours[chosen < 0.1] = 40, 20
    columns = fit(hours, is_integer=True)
    group = columns.groups[0]
    encoded = columns.transform(columns.dequantize(hours[:, None], rng))
    is_number = ~np.isin(hours, [20, 40])

    assert group.point_masses.tolist() == [[20, 40]]
    np.testing.assert_array_equal(columns.inverse_transform(encoded, is_sample=True)[:, 0], hours)
    assert stats.kstest(encoded[is_number, 2], "norm").statistic < 0.05


def test_uneven_values_are_all_point_masses(rng):
    """Hours that people round to tens, and fines that have few amounts among thousands of steps."""
    hours = rng.integers(1, 90, 6000)
    hours = np.where(rng.random(6000) < 0.5, 10 * (hours // 10) + 10, hours)
    amounts = np.cumsum(rng.integers(1, 200, 70))
    fines = np.where(rng.random(6000) < 0.6, 0, rng.choice(amounts, 6000))
    for values in (hours, fines):
        columns = fit(values.astype(float), is_integer=True)
        np.testing.assert_array_equal(columns.groups[0].point_masses[0], np.unique(values))


@pytest.mark.parametrize("n_common", [0, 2])
def test_even_values_are_numbers_beside_the_common_ones(n_common, rng):
    """Ages, a tenth of whom are 20 and a tenth 40: the others are still smooth."""
    ages = (90 * rng.beta(2, 3, 6000)).round()
    ages[: 600 * n_common] = np.repeat([20.0, 40.0], 600)[: 600 * n_common]
    columns = fit(ages, is_integer=True)
    masses = getattr(columns.groups[0], "point_masses", np.zeros((1, 0)))

    assert len(np.unique(ages)) > 60
    assert masses.tolist() == [[20.0, 40.0][:n_common]]


def test_a_small_table_does_not_show_that_values_are_few():
    """Ten values in fifty rows are numbers."""
    values = np.arange(50) % 10 * 1.0
    assert fit(values).likelihoods == [Gaussian()]


@pytest.mark.parametrize("values", [[0.1, 0.2, 0.4], [1.0, 5.0, 5.5, 9.0], list(range(40))])
def test_exact_marginals_take_weights_as_copies(values):
    """Point masses, recording steps and decimals are those of the repeated rows."""
    X = np.array(values, dtype=float)[:, None]
    weight = np.arange(len(X)) % 5 + 20.0
    fits = [
        fit_encoder(rows, weights, "auto", None, exact_marginals=True)
        for rows, weights in ((X, weight), (np.repeat(X, weight.astype(int), axis=0), None))
    ]
    weighted, repeated = (encoder.groups[0] for encoder in fits)

    assert weighted.likelihood == repeated.likelihood
    np.testing.assert_array_equal(weighted.point_masses, repeated.point_masses)
    np.testing.assert_array_equal(weighted.steps, repeated.steps)
    np.testing.assert_array_equal(weighted.decimals, repeated.decimals)
