"""Columns of many categories: few classes, exact probabilities, draws of every level."""

import numpy as np
import pytest
from scipy import stats

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.data.columns.categories import MAX_CLASSES, Levels
from sklearn_vae.data.fields import Field
from sklearn_vae.data.fit import fit_encoder
from tests.conftest import assert_file_agrees

pd = pytest.importorskip("pandas")

QUICK = {"max_iter": 2, "hidden_layer_sizes": (8,), "random_state": 0}
N_LEVELS, MIXTURES = 200, [(3, "diag")]
NUMBER = Field(0, "number", None, "float64")
NAMES = np.array([f"level {i:04d}" for i in range(N_LEVELS)], dtype=object)


def zipf(n_levels, n_rows, seed=0):
    """Levels of rows, the r-th with a probability proportional to 1/r: (n_rows,)."""
    p = 1 / np.arange(1, n_levels + 1)
    return np.random.default_rng(seed).choice(n_levels, n_rows, p=p / p.sum())


@pytest.fixture(scope="module")
def shops():
    """A number, and a column of 200 declared levels, 20 of which have no row: (1000, 2)."""
    level = zipf(N_LEVELS - 20, 1000)
    sales = np.random.default_rng(1).normal(size=1000) + (level % 2)
    shop = pd.Categorical.from_codes(level, categories=NAMES)
    return pd.DataFrame({"sales": sales, "shop": shop})


def every_level(table):
    """The first row of a table, once with each level."""
    rows = table.iloc[np.zeros(N_LEVELS, dtype=int)].reset_index(drop=True)
    rows["shop"] = pd.Categorical(NAMES, categories=NAMES)
    return rows


def test_shares_are_smoothed_frequencies_in_a_class():
    counts = np.array([5.0, 0, 2, 7, 1, 0])
    levels = Levels.fit(np.arange(6.0), counts, 3)
    shared = [1, 2, 4, 5]

    assert levels.representatives.tolist() == [0, 2, 3]
    assert levels.classes.tolist() == [0, 1, 1, 2, 1, 1]
    np.testing.assert_allclose(levels.probabilities[shared], (counts[shared] + 1) / 7)
    assert (levels.probabilities[[0, 3]] == 1).all()


def test_draws_have_the_shares_of_their_class(rng):
    """20,000 draws of each class, by the chi-squared test."""
    levels = Levels.fit(np.arange(60.0) * 3, rng.poisson(20, 60).astype(float), 5)
    for c in range(5):
        drawn = levels.index(levels.draw(np.full(20_000, c), rng))
        own = levels.classes == c
        observed = np.bincount(drawn, minlength=60)

        assert observed[~own].sum() == 0
        assert own.sum() in (1, 56)
        if own.sum() > 1:
            expected = 20_000 * levels.probabilities[own]
            assert stats.chisquare(observed[own], expected).pvalue > 1e-3


@pytest.mark.parametrize("n_levels", [1000, 100_000])
def test_the_model_has_few_inputs_however_many_levels(n_levels):
    X = np.column_stack([np.random.default_rng(0).normal(size=2000), zipf(n_levels, 2000)])
    schema = [NUMBER, Field(1, "category", tuple(range(n_levels)), "")]
    encoder = fit_encoder(X, None, "auto", schema)
    encoded = encoder.transform(X)

    assert encoded.shape[1] <= 1 + MAX_CLASSES
    assert encoder.likelihoods[1].n_classes <= MAX_CLASSES
    assert len(encoder.groups[1].values(0)) == n_levels
    for group in encoder.groups:
        group.check()


def test_weights_are_repetitions():
    X = np.column_stack([zipf(300, 3000), np.random.default_rng(0).normal(size=3000)])
    X[:, 1] += X[:, 0] % 2
    weight = np.random.default_rng(1).integers(1, 4, 3000)
    schema = [Field(0, "category", tuple(range(300)), ""), NUMBER]
    weighted = fit_encoder(X, weight.astype(float), "auto", schema).groups[0]
    repeated = fit_encoder(np.repeat(X, weight, axis=0), None, "auto", schema).groups[0]

    assert weighted.likelihood == repeated.likelihood
    np.testing.assert_array_equal(weighted.categories, repeated.categories)
    np.testing.assert_allclose(weighted.levels[0].probabilities, repeated.levels[0].probabilities)


def test_levels_of_other_classes_are_refused():
    schema = [Field(0, "category", tuple(range(300)), "")]
    [columns] = fit_encoder(zipf(300, 3000)[:, None].astype(float), None, "auto", schema).groups
    columns.levels[0].classes[5] = 10_000

    with pytest.raises(ValueError, match="must be classes"):
        columns.check()


@pytest.fixture(
    scope="module",
    params=[VAETransformer(1, prior="normal", **QUICK), VAEDensity(mixtures=MIXTURES, **QUICK)],
    ids=repr,
)
def fitted(request, shops):
    return request.param.fit(shops)


def test_probabilities_of_all_levels_sum_to_one(fitted, shops):
    """Also given the number; n + 2 has one left for levels that were not declared."""
    rows = every_level(shops)

    for given in (None, ["sales"]):
        mass = np.exp(fitted.score_samples(rows, columns=["shop"], given=given)).sum()

        assert mass == pytest.approx(1001 / 1002, abs=5e-3)


def test_a_level_is_given_imputed_and_drawn(fitted, shops):
    rare = NAMES[N_LEVELS - 40]
    drawn = fitted.sample(50, given={"shop": rare}, random_state=0)
    holes = shops.iloc[:200].assign(shop=pd.Categorical([None] * 200, categories=NAMES))
    tables = fitted.impute(holes, n_imputations=10, random_state=0)

    assert (drawn["shop"] == rare).all()
    assert set(fitted.impute(holes)["shop"]) <= set(NAMES[:4])  # the likeliest ones
    assert len(set().union(*(set(table["shop"]) for table in tables))) > 100


def test_files(fitted, shops, tmp_path):
    assert_file_agrees(fitted, shops[:50], tmp_path)


@pytest.mark.parametrize("n_rows_each", [1, 4, 5, 9])
@pytest.mark.parametrize("n_levels", [127, 128, 129, 140, 254, 255, 256, 300])
def test_each_number_of_levels_has_its_inputs(n_levels, n_rows_each):
    """With many rows of each level, with few, and with few of one level alone."""
    levels = np.arange(float(n_levels)).repeat(n_rows_each)
    field = Field(0, "category", tuple(range(n_levels)), "int64")
    for x in (levels, levels[1:], np.append(levels, levels[-1])):
        X = x[:, None]
        encoder = fit_encoder(X, None, "auto", fields=[field])
        encoded = encoder.transform(X)
        assert encoded.shape == (len(X), encoder.n_columns)
        assert (encoded.sum(axis=1) == 1).all()
