"""Diagnostics: closed forms of probabilistic PCA and scipy as oracles."""

import copy
import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from sklearn_vae import VAETransformer
from sklearn_vae.metrics import (
    active_units,
    calibration,
    kl_per_unit,
    score_parts,
    total_correlation,
    train_validation_gap,
    warn_of_collapse,
)

# one step that goes nowhere: the model is probabilistic PCA of the standardised columns
AT_START = {"learning_rate": 1e-12, "max_iter": 1, "early_stopping": False, "random_state": 0}


def plane(n, seed):
    """Rows of a linear model with two factors in six columns."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(5).normal(size=(2, 6))
    return rng.normal(size=(n, 2)) @ loadings + 0.7 * rng.normal(size=(n, 6)) + 3


@pytest.fixture(scope="module")
def linear():
    """Training rows, new ones, and the fitted model."""
    X = plane(800, 0)
    return X, plane(600, 1), VAETransformer(2, **AT_START).fit(X)


def covariance_of(X, n_components):
    """Maximum-likelihood covariance of probabilistic PCA of standardised columns, in X's units."""
    scale = X.std(axis=0)
    Z = (X - X.mean(axis=0)) / scale * np.sqrt(1 - 1 / len(X))  # sklearn divides by n - 1
    return PCA(n_components, svd_solver="full").fit(Z).get_covariance() * np.outer(scale, scale)


def test_the_kl_of_probabilistic_pca_is_known(linear):
    """Averaged over its training rows, a unit's KL is half the log of variance over residual."""
    X, _, vae = linear
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    variances = np.linalg.eigvalsh(np.cov(Z, rowvar=False, ddof=0))[::-1]
    expected = 0.5 * np.log(variances[:2] / variances[2:].mean())

    np.testing.assert_allclose(kl_per_unit(vae, X), expected, rtol=1e-4)


def test_the_total_correlation_of_normal_codes_is_known(linear):
    """Codes of normal rows plus the posterior's noise are normal: -1/2 log det correlations."""
    X, _, vae = linear
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    variances = np.linalg.eigvalsh(np.cov(Z, rowvar=False, ddof=0))[::-1]
    noise = variances[2:].mean() / variances[:2]  # posterior variances
    rng = np.random.default_rng(3)
    turned = X.mean(axis=0) + 0.5 * rng.normal(size=(1500, 6)) @ rng.normal(size=(6, 6))
    for rows, about in [(X, 0.02), (turned, 0.03)]:
        covariance = np.cov(vae.transform(rows), rowvar=False) + np.diag(noise)
        scale = np.sqrt(np.diag(covariance))
        expected = -0.5 * np.log(np.linalg.det(covariance / np.outer(scale, scale)))

        assert total_correlation(vae, rows) == pytest.approx(expected, abs=about)
    assert expected > 0.05


def test_total_correlation_is_one_number_however_rows_are_divided(linear, monkeypatch):
    """Few rows at a time or all at once."""
    X, _, vae = linear
    expected = total_correlation(vae, X[:100], n_draws=3)
    monkeypatch.setattr("sklearn_vae.metrics.diagnostics.PAIRS", 1000)

    assert total_correlation(vae, X[:100], n_draws=3) == pytest.approx(expected)
    with pytest.raises(ValueError, match="n_draws"):
        total_correlation(vae, X, n_draws=0)


def test_silent_units_are_not_counted():
    """One factor that all columns share alike: the other axes are all as long as the residual."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 1)) + rng.normal(size=(5000, 8))
    vae = VAETransformer(3, **AT_START).fit(X)

    assert active_units(vae, X).tolist() == [True, False, False]
    assert active_units(vae, X, threshold=0.0).all()


def test_the_gap_is_that_of_the_history_or_of_two_tables(linear):
    """By default where the validation loss was lowest."""
    X, new, vae = linear
    expected = vae.score(X) - vae.score(new)
    trained = VAETransformer(2, max_iter=6, random_state=0).fit(X)
    first_run = [row for row in trained.history_ if not row["refit"]]
    best = min(first_run, key=lambda row: row["val_loss"])

    assert train_validation_gap(vae, X, new) == pytest.approx(expected)
    assert train_validation_gap(trained) == pytest.approx(best["val_loss"] - best["loss"])


def test_a_gap_that_cannot_be_known_is_refused(linear):
    """No rows set aside, or one table of two."""
    X, _, vae = linear
    with pytest.raises(ValueError, match="early_stopping=True"):
        train_validation_gap(vae)
    with pytest.raises(ValueError, match="both or neither"):
        train_validation_gap(vae, X)


def test_a_collapse_is_warned_of_with_what_to_change():
    """None active, few active, enough active."""
    X = plane(300, 0)
    none = VAETransformer(2, beta=300.0, max_iter=30, early_stopping=False, random_state=0).fit(X)
    with pytest.warns(ConvergenceWarning, match=r"0 of 2 .* collapsed.*beta.*300.*free_bits"):
        warn_of_collapse(none, X)

    start = VAETransformer(5, **AT_START).fit(X)
    kl = np.sort(kl_per_unit(start, X))
    with pytest.warns(ConvergenceWarning, match=r"2 of 5 .*n_components=2"):
        warn_of_collapse(start, X, threshold=float(kl[-3:-1].mean()))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert warn_of_collapse(VAETransformer(2, **AT_START).fit(X), X).all()


def test_marginal_transforms_are_those_of_the_exact_normal(linear):
    """Columns of a linear model are normal with known variances; the KS statistic is scipy's."""
    X, new, vae = linear
    scale = np.sqrt(np.diag(covariance_of(X, 2)))
    expected = stats.norm(X.mean(axis=0), scale).cdf(new)
    found = calibration(vae, new)

    np.testing.assert_allclose(found.pit, expected, atol=0.03)
    for column in range(6):
        exact = stats.kstest(new[:, column], stats.norm(X.mean(axis=0)[column], scale[column]).cdf)
        assert found.statistic[column] == pytest.approx(exact.statistic, abs=0.03)


def test_conditional_transforms_are_those_of_the_exact_normal(linear):
    """Given the other columns a normal distribution's column is normal, by Schur's complement."""
    X, new, vae = linear
    precision = np.linalg.inv(covariance_of(X, 2))
    centred = new - X.mean(axis=0)
    residual = centred @ precision / np.diag(precision)  # minus its conditional mean
    expected = stats.norm.cdf(residual * np.sqrt(np.diag(precision)))

    np.testing.assert_allclose(calibration(vae, new, given="others").pit, expected, atol=0.02)


def test_wrong_spread_and_wrong_place_show(linear):
    """Rows that the model is right about pass; wider and shifted ones do not."""
    X, new, vae = linear
    centre = X.mean(axis=0)

    for given in ("nothing", "others"):
        assert (calibration(vae, new, given=given).pvalue > 1e-4).all()
    assert (calibration(vae, centre + 2 * (new - centre)).pvalue < 1e-6).all()
    assert (calibration(vae, new + X.std(axis=0)).pvalue < 1e-6).all()


def test_binary_columns_are_uniform_and_constant_ones_are_left_out():
    """A jump of the distribution function is filled in by chance, the same every time."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4))
    X[:, 1], X[:, 2] = X[:, 0] + X[:, 1] > 0.5, 7.0
    vae = VAETransformer(1, max_iter=10, random_state=0).fit(X[:400])
    found, again = (calibration(vae, X[400:], n_draws=256) for _ in range(2))

    assert np.isnan(found.pit[:, 2]).all()
    assert np.isnan(found.pvalue[2])
    assert (found.pvalue[[0, 1, 3]] > 1e-4).all()
    np.testing.assert_array_equal(found.pit, again.pit)
    ones = X[400:, 1] == 1
    assert found.pit[~ones, 1].max() <= found.pit[ones, 1].min()


def test_a_mixture_of_members_is_asked_as_a_whole():
    """Its marginal is the mean of the members' marginals."""
    X = plane(200, 0)
    vae = VAETransformer(1, n_init=2, ensemble=True, max_iter=3, random_state=0).fit(X)
    found = calibration(vae, X, n_draws=8192).pit
    weights, parts = vae.state_dict_, []
    for member in range(2):
        vae.state_dict_ = {name: value[member : member + 1] for name, value in weights.items()}
        parts.append(calibration(vae, X, n_draws=8192).pit)

    np.testing.assert_allclose(found, np.mean(parts, axis=0), atol=0.02)


@pytest.mark.parametrize(
    ("argument", "error"), [({"given": "all"}, "'others'"), ({"n_draws": 0}, "n_draws")]
)
def test_wrong_arguments_are_refused(argument, error, linear):
    """With their names."""
    with pytest.raises(ValueError, match=error):
        calibration(linear[2], linear[0], **argument)


@pytest.mark.parametrize(
    "diagnosis",
    [
        kl_per_unit,
        active_units,
        total_correlation,
        train_validation_gap,
        warn_of_collapse,
        calibration,
    ],
)
def test_an_estimator_that_is_not_fitted_is_refused(diagnosis):
    """Before anything is computed."""
    arguments = [] if diagnosis is train_validation_gap else [np.ones((3, 2))]
    with pytest.raises(NotFittedError):
        diagnosis(VAETransformer(), *arguments)


def test_importing_diagnostics_does_not_import_torch():
    """They may be asked for before there is any model."""
    code = "import sys, sklearn_vae.metrics.diagnostics; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "False"


def curved(n, seed, width=1.0):
    rng = np.random.default_rng(seed)
    a = width * rng.normal(size=n)
    return np.stack([a, a**2 + 0.3 * width * rng.normal(size=n)], axis=1)


@pytest.fixture(scope="module")
def several():
    vae = VAETransformer(n_components=2, n_init=3, ensemble=True, max_iter=30, random_state=0)
    return vae.fit(curved(200, 0))


def test_parts_of_a_score_are_those_of_the_members_alone(several):
    """The epistemic part is the members' disagreement: Jensen's gap of their scores."""
    X = curved(40, 1)
    scores = []
    for member in range(3):
        alone = copy.deepcopy(several)
        alone.state_dict_ = {k: w[[member]] for k, w in several.state_dict_.items()}
        scores.append(alone.score_samples(X))
    expected, epistemic = score_parts(several, X)

    np.testing.assert_allclose(expected, np.mean(scores, axis=0), rtol=1e-6)
    np.testing.assert_allclose(expected + epistemic, several.score_samples(X), rtol=1e-6)
    assert (epistemic > -1e-6).all()


def test_members_disagree_where_they_have_seen_nothing(several):
    """That is what the epistemic part is for."""
    near, far = (score_parts(several, curved(200, 1, width)).epistemic for width in (1, 4))

    assert np.median(far) > 3 * np.median(near)


def test_parts_of_a_score_with_holes(several):
    """What is not known is integrated out by every member."""
    X = curved(30, 2)
    X[::2, 1] = np.nan

    np.testing.assert_allclose(sum(score_parts(several, X)), several.score_samples(X), rtol=1e-6)


def test_one_member_has_nobody_to_disagree_with():
    """The error says how to get several."""
    with pytest.raises(ValueError, match="n_init=5 and ensemble=True"):
        score_parts(VAETransformer(max_iter=1, random_state=0).fit(curved(60, 0)), curved(3, 1))


def test_the_kl_of_rows_with_missing_cells_is_a_number_whatever_the_fit_had():
    """An encoder that has seen whole rows is shown means in the place of missing cells."""
    X = np.random.default_rng(0).normal(size=(200, 4))
    vae = VAETransformer(2, max_iter=2, random_state=0).fit(X)
    X[:100, 0] = np.nan

    assert np.isfinite(kl_per_unit(vae, X)).all()
