"""VAEDensity of rows given classes or numbers: log p(x|y) = log p(x, y) - log p(y)."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LinearRegression
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from sklearn_vae import VAEDensity
from tests.estimators.test_conditional import rows_of_numbers

pd = pytest.importorskip("pandas")

SMALL = {
    "mixtures": [(3, "full"), (4, "diag")],
    "conditional": True,
    "max_iter": 3,
    "random_state": 0,
}


def rows_of_classes(n=600, seed=0):
    """Normal rows of three classes with overlapping densities and covariances of their own."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(1)
    loc, root = fixed.normal(size=(3, 2)), fixed.normal(size=(3, 2, 2))
    y = rng.choice(3, size=n, p=[0.5, 0.3, 0.2])
    return loc[y] + np.einsum("nij,nj->ni", root[y], rng.normal(size=(n, 2))), np.array([*"abc"])[y]


@pytest.fixture(scope="module")
def of_classes():
    X, y = rows_of_classes()
    return VAEDensity(**SMALL).fit(X, y), X, y


@pytest.fixture(scope="module")
def of_numbers():
    X, y, *_ = rows_of_numbers(600)
    return VAEDensity(**SMALL).fit(X, y), X, y


def grid(X, n=25):
    """Rows of a grid around two columns, and the area of a cell."""
    low, high = X.min(axis=0) - 2 * X.std(axis=0), X.max(axis=0) + 2 * X.std(axis=0)
    axes = [np.linspace(*ends, n) for ends in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, len(axes)), np.prod(
        [axis[1] - axis[0] for axis in axes]
    )


def test_the_initial_score_given_classes_is_the_normal_density_of_each_class():
    """With a component per class, EM keeps the classes apart: GaussianMixture is the oracle."""
    X, y = rows_of_classes()
    density = VAEDensity(
        mixtures=[(3, "full")], conditional=True, max_iter=0, early_stopping=False, random_state=0
    ).fit(X, y)

    for label in "abc":
        rows = X[y == label]
        expected = GaussianMixture(1).fit(rows).score_samples(rows)
        # a pseudo-observation of other classes per component lifts the density of far rows
        assert np.abs(density.score_samples(rows, label) - expected).mean() < 0.02


def test_the_initial_score_given_numbers_is_the_conditional_normal_density():
    """One component is a joint normal distribution with scikit-learn's LedoitWolf covariance."""
    X, y, *_ = rows_of_numbers(600)
    Z = StandardScaler().fit_transform(np.column_stack([X, y]))
    covariance = LedoitWolf(assume_centered=True).fit(Z).covariance_
    joint = stats.multivariate_normal(np.zeros(5), covariance).logpdf(Z)
    expected = joint - stats.norm(0, covariance[4, 4] ** 0.5).logpdf(Z[:, 4])

    density = VAEDensity(
        mixtures=[(1, "full")],
        likelihood="gaussian",  # two columns nearly tell each other
        conditional=True,
        max_iter=0,
        early_stopping=False,
        random_state=0,
    ).fit(X, y)

    found = density.score_samples(X, y) + np.log(X.std(axis=0)).sum()
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_the_density_given_y_integrates_to_one(of_classes):
    """Numerical integration over x, for each class, after training."""
    density, X, _ = of_classes
    rows, area = grid(X)

    for label in "abc":
        total = area * np.exp(density.score_samples(rows, label)).sum()
        assert total == pytest.approx(1, abs=0.01)


def test_the_mean_score_given_y_is_higher_by_the_mutual_information():
    """Given y the score is higher by I(x; y), the mean log-ratio of scipy's true densities."""
    X, y, slope, covariance = rows_of_numbers(600)
    test, given, *_ = rows_of_numbers(500, seed=5)
    marginal = covariance + 9 * np.outer(slope, slope)
    residuals = stats.multivariate_normal(np.zeros(4), covariance)
    log_ratio = residuals.logpdf(test - np.outer(given, slope))
    log_ratio -= stats.multivariate_normal(10 * slope, marginal).logpdf(test)

    density = VAEDensity(**{**SMALL, "mixtures": [(1, "full")], "max_iter": 20}).fit(X, y)

    assert density.score(test, given) - density.score(test) == pytest.approx(
        log_ratio.mean(), abs=0.05
    )


def test_without_y_the_score_is_that_of_the_marginal(of_classes):
    """Y is integrated out: p(x) is the mean of p(x|y) over the classes."""
    density, X, y = of_classes
    share = [np.mean(y == label) for label in "abc"]
    given = np.stack([density.score_samples(X, label) for label in "abc"])

    # the model's probabilities of classes differ a little from their frequencies
    expected = logsumexp(given, b=np.array(share)[:, None], axis=0)
    np.testing.assert_allclose(density.score_samples(X), expected, atol=0.1)
    assert density.score(X) == pytest.approx(expected.mean(), abs=0.02)


def test_without_y_numbers_are_integrated_out(of_numbers):
    """The marginal of a normal joint distribution has a closed form."""
    density, X, _ = of_numbers
    expected = stats.multivariate_normal(X.mean(axis=0), np.cov(X.T)).logpdf(X)

    assert density.score(X) == pytest.approx(expected.mean(), abs=0.1)


def test_marginals_and_conditionals_of_columns_are_given_y(of_classes):
    """The chain rule: p(a, b|y) = p(a|y) p(b|a, y)."""
    density, X, y = of_classes

    first = density.score_samples(X, y, columns=[0])
    rest = density.score_samples(X, y, given=[0])

    np.testing.assert_allclose(first + rest, density.score_samples(X, y), atol=1e-9)
    expected = [stats.norm(*norm).logpdf(X[y == k, 0]).mean() for k in "abc"
                for norm in [(X[y == k, 0].mean(), X[y == k, 0].std())]]  # fmt: skip
    found = [first[y == label].mean() for label in "abc"]
    np.testing.assert_allclose(found, expected, atol=0.15)


def test_samples_given_a_class_have_its_frequencies_and_moments(rng):
    """A column of categories and one of numbers, given each class, within binomial noise."""
    y = rng.integers(2, size=2000)
    colour = np.where(rng.random(2000) < np.array([0.2, 0.7])[y], "red", "blue")
    table = pd.DataFrame({"colour": colour, "mass": rng.normal(5 + 4 * y, 1 + y)})
    density = VAEDensity(**SMALL).fit(table, y == 1)

    for label in (False, True):
        rows, drawn = table[y == label], density.sample(2000, random_state=0, y=label)
        assert drawn.dtypes.equals(table.dtypes)
        assert np.mean(drawn.colour == "red") == pytest.approx(
            np.mean(rows.colour == "red"), abs=0.05
        )
        assert drawn.mass.mean() == pytest.approx(rows.mass.mean(), abs=0.2)
        assert drawn.mass.std() == pytest.approx(rows.mass.std(), rel=0.12)

    mixed = density.sample(3, random_state=0, y=[True, False, True])
    assert len(mixed) == 3
    assert density.sample(2000, random_state=0).mass.mean() == pytest.approx(
        table.mass.mean(), abs=0.25
    )
    reds = density.sample(50, random_state=0, y=True, given={"colour": "red"})
    assert (reds.colour == "red").all()


def test_missing_values_are_imputed_given_y(of_numbers):
    """Given y and no columns, the mean is the regression on y; without y it is the mean."""
    density, X, y = of_numbers
    missing = np.full((3, 4), np.nan)
    expected = LinearRegression().fit(y[:, None], X).predict(np.array([[7.0], [10.0], [13.0]]))

    np.testing.assert_allclose(density.impute(missing, y=[7.0, 10.0, 13.0]), expected, atol=0.5)
    np.testing.assert_allclose(density.impute(missing), np.tile(X.mean(axis=0), (3, 1)), atol=0.5)
    draws = density.impute(missing, n_imputations=4, y=7.0)
    assert draws.shape == (4, 3, 4)
    holed = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    refitted = VAEDensity(**SMALL).fit(holed, y)
    assert np.isfinite(refitted.score_samples(holed[:60], y[:60])).all()
