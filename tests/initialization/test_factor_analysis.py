"""The number of factors: what was put in comes out, and scikit-learn's likelihood as an oracle."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import FactorAnalysis
from sklearn.preprocessing import StandardScaler

from sklearn_vae import VAETransformer
from sklearn_vae.estimators.config import MORE_COMPONENTS
from sklearn_vae.initialization.factor_analysis import (
    FactorModel,
    discrepancy,
    n_factors,
)
from sklearn_vae.initialization.ppca import CorrelationPCA
from sklearn_vae.metrics import active_units
from tests.conftest import slow


def factor_rows(n_rows, n_factors, *, n_columns=15, bend=0.0, seed=0):
    """Rows of a factor model with unequal noise, its columns bent a little."""
    rng = np.random.default_rng(seed)
    loadings, noise = rng.normal(size=(n_factors, n_columns)), np.linspace(0.3, 1.0, n_columns)
    X = rng.normal(size=(n_rows, n_factors)) @ loadings + noise * rng.normal(
        size=(n_rows, n_columns)
    )
    return X if bend == 0 else np.tanh(bend * X) / bend


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_discrepancy_is_what_sklearns_likelihood_lacks(n):
    """Twice the gap between the normal distribution's log-likelihood and factor analysis's."""
    X = StandardScaler().fit_transform(factor_rows(400, 3, n_columns=8))
    S = X.T @ X / len(X)
    saturated = -0.5 * (8 * np.log(2 * np.pi) + np.linalg.slogdet(S)[1] + 8)
    fitted = FactorAnalysis(n, tol=1e-8, max_iter=10_000, svd_method="lapack").fit(X).score(X)

    assert discrepancy(S, n) == pytest.approx(2 * (saturated - fitted), abs=2e-3)


@pytest.mark.parametrize("bend", [0.0, 0.3])
@pytest.mark.parametrize("n_rows", [300, 1000])
@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_factors_that_were_put_in_are_found(n, n_rows, bend, seed):
    """Linear, and bent a little."""
    X = factor_rows(n_rows, n, bend=bend, seed=seed)

    assert n_factors(X, np.ones(n_rows), 8) == n


@pytest.mark.parametrize("load", [load_breast_cancer, load_digits])
def test_real_tables_are_no_factor_models(load):
    """There the rule has nothing to say, and the usual number is taken."""
    X = load().data

    assert n_factors(X, np.ones(len(X)), 8) == 8


@pytest.mark.parametrize("n", [8, 12, 16, 20])
@pytest.mark.parametrize("weight", [np.ones(600), np.full(600, 2.0)])
def test_many_factors_are_found_by_the_information_criterion(n, weight):
    """Of numbers that are compared; with weights, too."""
    X = factor_rows(600, n, n_columns=40)

    assert n_factors(X, weight, 8, MORE_COMPONENTS) == n


def test_wide_tables_of_numbers_have_more_dimensions():
    """A table with a class, whose binary columns depend on each other, has 8."""
    X = factor_rows(600, 12, n_columns=40)
    codes = VAETransformer(max_iter=1, random_state=0).fit_transform(X)
    frame = pd.DataFrame(X).add_prefix("x").assign(group=np.tile(["a", "b", "c"], 200))
    codes_with_classes = VAETransformer(max_iter=1, random_state=0).fit_transform(frame)

    assert codes.shape == (600, 12)
    assert codes_with_classes.shape == (600, 8)


def test_a_code_is_no_longer_than_a_row(rng):
    """Also where classes have more binary columns: longer codes memorize small tables."""
    ages = rng.normal(60, 12, 120).round()
    sites = rng.choice(list("ABCDEF"), 120)
    frame = pd.DataFrame({"age": ages, "site": sites, "clinic": np.roll(sites, 1)})
    vae = VAETransformer(max_iter=1, random_state=0).fit(frame)

    assert vae.n_components_ <= 3


@pytest.mark.parametrize("seed", range(20))
def test_factors_of_two_columns_with_missing_cells_have_signs_of_their_own(seed):
    """Rounding errors decide the signs of eigenvectors; copies of rows sum in another order."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(40, 2)) @ [[1, 1], [0, 0.5]]
    X[rng.random(X.shape) < 0.15] = np.nan
    weight = rng.integers(1, 4, 40)
    weighted = FactorModel.fit(X, weight.astype(float), 1)
    copied = FactorModel.fit(np.repeat(X, weight, axis=0), np.ones(weight.sum()), 1)
    starts = [model.pca(1).linear_gaussian(1).loadings for model in (weighted, copied)]

    np.testing.assert_allclose(*starts, rtol=1e-9)
    np.testing.assert_allclose(weighted.loadings, copied.loadings, rtol=1e-9)


@pytest.mark.parametrize(
    "X",
    [
        np.ones((20, 4)),
        np.random.default_rng(0).normal(size=(200, 5)),
        np.zeros((5, 1)),
        np.ones((3, 101)),
        np.eye(4),
    ],
)
def test_odd_tables_are_no_reason_to_fail(X):
    """Constant, independent, single or too many columns, fewer rows than columns."""
    assert n_factors(X, np.ones(len(X)), 8, MORE_COMPONENTS) == 8


@pytest.mark.parametrize("n", [3, *slow(2, 5)])
def test_a_fit_has_as_many_active_dimensions_as_there_are_factors(n):
    """n_components="auto" ends with the factors' number, by the KL of each unit."""
    X = factor_rows(600, n)
    vae = VAETransformer(random_state=0).fit(X)

    assert active_units(vae, X).sum() == n


def test_rows_with_the_same_missing_values_share_a_covariance(monkeypatch, rng):
    """In any order and any chunks, rows have the same model but for rounding errors."""
    X = rng.normal(size=(2_500, 2)) @ rng.normal(size=(2, 6)) + rng.normal(size=(2_500, 6))
    X[rng.random(X.shape) < 0.2] = np.nan
    model = FactorModel.fit(X, np.ones(len(X)), 2)
    monkeypatch.setattr("sklearn_vae.numerics.rows.CACHED_NUMBERS", 100)
    unsorted = FactorModel.fit(X[::-1], np.ones(len(X)), 2)

    for name in ("loc", "loadings", "residual"):
        np.testing.assert_allclose(getattr(model, name), getattr(unsorted, name), atol=1e-10)


def test_missing_cells_do_not_change_where_a_model_starts(rng):
    """At the largest principal component, not at two columns that determine each other."""
    factor, pair = rng.normal(size=(2, 1000, 1))
    X = np.hstack([factor + 0.4 * rng.normal(size=(1000, 4)), pair, pair])
    whole = CorrelationPCA.fit(X, np.ones(len(X)), 1).linear_gaussian(1)
    X[rng.random(X.shape) < 0.05] = np.nan
    holes = FactorModel.fit(X, np.ones(len(X)), 4)
    start = holes.pca(1).linear_gaussian(1)

    np.testing.assert_allclose(start.loadings, whole.loadings, atol=0.05)
    np.testing.assert_allclose(start.residual, whole.residual, rtol=0.05)
    np.testing.assert_allclose(start.posterior_weights, whole.posterior_weights, atol=0.02)
