"""Columns of a curved surface, and dependent counts, by the evidence of the other columns."""

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.data import fit as fit_module
from tests.data.test_marginals import fit


def circle(rng, n_rows, n_columns=6):
    """Columns of a circle, each with many values where it turns, and little noise."""
    angle = rng.uniform(0, 2 * np.pi, n_rows)
    X = np.column_stack([np.cos(angle), np.sin(angle)]) @ rng.normal(size=(2, n_columns))
    return X + 0.05 * rng.normal(size=X.shape)


def has_knots(X):
    """Mask of the columns that have normal scores: (n_columns,)."""
    mask = np.zeros(X.shape[1], dtype=bool)
    for group in fit(X).groups:
        mask[group.indices] = group.has_knots
    return mask


@pytest.mark.parametrize("mean", [1.4, 4])
def test_counts_that_depend_keep_their_dependence(mean):
    """Of 300 rows. Given codes, Poisson variables of these means would be independent."""
    rng = np.random.default_rng(0)
    goals, new = rng.poisson(mean, size=(2, 300)).astype(float)
    X, rows = (np.column_stack([n, rng.binomial(n.astype(int), 0.45)]) for n in (goals, new))
    truth = stats.poisson(mean).logpmf(rows[:, 0]) + stats.binom(rows[:, 0], 0.45).logpmf(
        rows[:, 1]
    )
    vae = VAETransformer(max_iter=20, random_state=0).fit(X)

    assert vae.score(rows) > truth.mean() - 0.12
    assert np.corrcoef(vae.sample(2000).T)[0, 1] > 0.8 * np.corrcoef(X.T)[0, 1]


def test_independent_counts_are_poisson_variables(rng):
    X = rng.poisson([1, 2, 3], size=(300, 3)).astype(float)

    assert {str(each) for each in fit(X).likelihoods} == {"Poisson()"}


@pytest.fixture
def scored(monkeypatch):
    """Fit with normal scores whatever the other columns tell."""

    def fit_scored(function, *args):
        with monkeypatch.context() as patch:
            patch.setattr(fit_module, "find_curved", lambda *_: [])
            return function(*args)

    return fit_scored


def test_columns_of_a_curved_surface_are_read_as_they_are(scored, rng):
    """In any units; most of them with missing cells, too."""
    X = circle(rng, 1500) * 10.0 ** np.arange(-3, 3)

    assert scored(has_knots, X).sum() >= 4
    assert not has_knots(X).any()
    X[rng.random(X.shape) < 0.05] = np.nan
    assert has_knots(X).sum() <= 2


@pytest.mark.parametrize("has_factors", [False, True])
def test_columns_of_no_curved_surface_keep_their_normal_scores(has_factors, rng):
    """Uniform ones, independent or with a Gaussian copula, whose scores lie in a plane."""
    z = rng.normal(size=(1500, 8))
    if has_factors:
        z = 0.5 * z + rng.normal(size=(1500, 2)) @ rng.normal(size=(2, 8))
    X = stats.norm.cdf(z / z.std(axis=0))

    assert has_knots(X).all()


def test_the_evidence_is_that_of_nearest_neighbors(scored, rng):
    """The log-density about the mean of scikit-learn's neighbours, beyond three errors."""
    X = np.column_stack([circle(rng, 1000, 4), rng.beta(0.5, 0.5, size=(1000, 2))])
    columns = scored(fit, X)
    (group,) = (each for each in columns.groups if each.has_knots.any())
    numbers = group.standardize(X[:, group.indices])
    scores, log_slope = group.normalize(X[:, group.indices])
    inputs = np.empty_like(X)
    for each in columns.groups:
        inputs[:, each.indices] = each.standardize(X[:, each.indices])
    expected = []
    for k in np.flatnonzero(group.has_knots):
        j = group.indices[k]
        others = NearestNeighbors(n_neighbors=10).fit(np.delete(inputs, j, axis=1))
        nearest = others.kneighbors(return_distance=False)
        of_numbers, of_scores = (
            stats.norm.logpdf(error, scale=np.sqrt(np.mean(error**2)))
            for values in (numbers[:, k], scores[:, k])
            if len(error := values - values[nearest].mean(axis=1))
        )
        gain = of_numbers - of_scores - log_slope[:, k]
        if gain.mean() > 3 * gain.std() / np.sqrt(len(gain)):
            expected.append(j)
    plain = np.flatnonzero(scored(has_knots, X) & ~has_knots(X))

    assert 0 < len(plain) < group.has_knots.sum()
    np.testing.assert_array_equal(plain, sorted(expected))


@pytest.mark.slow
@pytest.mark.parametrize("model", [VAETransformer, VAEDensity])
def test_a_curved_surface_has_a_higher_density_as_it_is(model, scored):
    """On new rows, than with normal scores: the mean of three circles."""
    gains = []
    for seed in range(3):
        X = circle(np.random.default_rng(seed), 2500)
        fit_model = model(random_state=0).fit
        plain = fit_model(X[:1500]).score(X[1500:])
        gains.append(plain - scored(fit_model, X[:1500]).score(X[1500:]))

    assert np.mean(gains) > 0.1
