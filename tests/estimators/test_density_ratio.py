"""Samples corrected by the ratio of densities of reference rows and draws."""

import numpy as np
import pytest
from scipy import stats

from sklearn_vae import VAEDensity
from sklearn_vae.estimators.density_ratio import DensityRatio
from sklearn_vae.metrics import quality_report

pd = pytest.importorskip("pandas")

# the distance of two samples of 1,000 rows exceeds it with a probability of 1 %


def clusters(n_rows, seed=0):
    """Rows of a class and a number, which a model of independent columns cannot have."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(["a", "b"], n_rows, p=[0.3, 0.7])
    return pd.DataFrame({"kind": kind, "x": np.where(kind == "a", -2, 1) + rng.normal(size=n_rows)})


def independent(X, y=None):
    """Fit a model whose columns are independent, or are so given y."""
    conditional = y is not None
    model = VAEDensity(mixtures=[(1, "diag")], max_iter=0, conditional=conditional, random_state=0)
    return model.fit(X, y)


@pytest.fixture(scope="module")
def table():
    return clusters(2_000)


@pytest.fixture(scope="module")
def density(table):
    return independent(table)


def test_the_ratio_of_two_normals_is_the_exact_one():
    rng = np.random.default_rng(0)
    rows, draws = rng.normal(0.5, 1, (5_000, 1)), rng.normal(0, 1, (15_000, 1))
    ratio = DensityRatio(rows, draws, np.array([False]), 0)
    x = np.linspace(-1.5, 2, 50)[:, None]
    exact = stats.norm(0.5, 1).logpdf(x) - stats.norm(0, 1).logpdf(x)
    error = np.abs(ratio.log_ratio(x) - exact[:, 0]).mean()
    assert error < 0.15


def test_accepted_draws_have_the_distribution_of_the_reference():
    rng = np.random.default_rng(0)
    ratio = DensityRatio(
        rng.normal(0.5, 0.8, (5_000, 1)), rng.normal(size=(15_000, 1)), np.array([False]), 0
    )
    draws = rng.normal(size=(10_000, 1))
    ratio.fit_maximum(draws)
    accepted = draws[ratio.accepts(draws, 0)]
    assert len(accepted) > 2_000
    assert stats.kstest(accepted[:, 0], stats.norm(0.5, 0.8).cdf).statistic < 0.05


def test_samples_are_as_the_reference_where_the_model_is_not(table, density):
    new = clusters(1_000, seed=1)
    plain = density.sample(1_000)
    corrected = density.sample(1_000, reference=table)
    assert quality_report(new, plain, random_state=0).c2st < 0.6
    assert quality_report(new, corrected, random_state=0).c2st > 0.9
    assert list(corrected.dtypes) == list(table.dtypes)
    for kind in "ab":
        distance = stats.ks_2samp(new.x[new.kind == kind], corrected.x[corrected.kind == kind])
        assert distance.pvalue > 0.001
    assert abs((corrected["kind"] == "a").mean() - 0.3) < 0.05


def test_samples_given_a_value_have_the_conditional_distribution(table, density):
    given = density.sample(1_000, given={"kind": "a"}, reference=table)
    assert (given["kind"] == "a").all()
    exact = stats.norm(-2, 1).cdf
    plain = density.sample(1_000, given={"kind": "a"})
    assert stats.kstest(given["x"], exact).statistic < 0.15
    assert stats.kstest(plain["x"], exact).statistic > 0.5


def test_rules_hold_beside_a_reference(table, density):
    ruled = density.sample(500, rules=["x > 0"], reference=table)
    assert (ruled["x"] > 0).all()
    assert (ruled["kind"] == "b").mean() > 0.97  # 99.3 % are
    plain = density.sample(500, rules=["x > 0"])
    assert (plain["kind"] == "b").mean() < 0.8


def test_missing_cells_of_the_reference_are_imputed(table, density):
    holes = np.random.default_rng(0).random(table.shape) < 0.2
    corrected = density.sample(1_000, reference=table.mask(holes))
    assert not corrected.isna().any().any()
    # imputed cells are the model's, whose columns are independent
    assert corrected.x[corrected.kind == "a"].mean() < -0.8
    assert corrected.x[corrected.kind == "b"].mean() > 0.4


def test_unlike_references_are_refused():
    X = np.random.default_rng(0).normal(size=(200, 2))
    model = independent(X)
    with pytest.raises(ValueError, match=r"'reference' parameter of VAEDensity.sample must have"):
        model.sample(reference=X[:99])
    with pytest.raises(ValueError, match="3 features") as error:
        model.sample(reference=np.hstack([X, X[:, :1]]))
    assert "'reference' parameter of VAEDensity.sample" in error.value.__notes__[0]
    conditional = independent(X, X[:, 0] > 0)
    with pytest.raises(ValueError, match=r"'reference' parameter .* None with conditional=True"):
        conditional.sample(reference=X)
