"""Unseen values have a low, positive probability, and the total mass is 1."""

import numpy as np
import pytest
from scipy import integrate

from sklearn_vae import VAEDensity, VAEImputer, VAETransformer
from tests.conftest import slow

pd = pytest.importorskip("pandas")

QUICK = {"max_iter": 2, "hidden_layer_sizes": (8,), "random_state": 0}


def fitted(values, likelihood="auto", **params):
    """A model of one column."""
    model = VAETransformer(1, likelihood=likelihood, prior="normal", **{**QUICK, **params})
    return model.fit(values[:, None] if isinstance(values, np.ndarray) else values)


@pytest.fixture(scope="module")
def positive():
    """A column whose values span orders of magnitude."""
    return np.exp(2 * np.random.default_rng(0).standard_normal(98))


@pytest.fixture(scope="module")
def people():
    """A table in which a category, a zero and a year are rare: (500, 4)."""
    rng = np.random.default_rng(1)
    skill = rng.standard_normal(500)
    table = pd.DataFrame(
        {
            "paid": np.exp(3 + 2 * skill + 0.5 * rng.standard_normal(500)),
            "city": rng.choice(["Oslo", "Bergen"], 500),
            "visits": rng.poisson(np.exp(1 + 0.5 * skill)),
            "cell": rng.choice(["a", "b", "c"], 500),
        }
    )
    table.loc[7, "paid"] = 0.0
    table.loc[100, "city"] = "Vadsø"
    table.loc[200, "cell"] = "z"
    return table


# -- total mass --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Every column of X has one value")
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("bernoulli", np.resize([2.0, 5.0], 98)),
        ("categorical", np.resize([1.0, 2.0, 2.0, 4.0], 98)),
        ("ordinal", np.resize([1.0, 2.0, 3.0, 3.0, 7.0], 98)),
        ("poisson", np.resize([0.0, 1.0, 1.0, 3.0], 98)),
        ("negative_binomial", np.resize([0.0, 1.0, 1.0, 9.0], 98)),
        ("auto", np.full(98, 3.0)),
    ],
)
def test_seen_values_of_a_discrete_column_have_the_mass_n_plus_1_in_n_plus_2(name, values):
    """The sum over all seen values."""
    model = fitted(np.append(values, values[:2]), name if name == "auto" else {0: name})
    support = np.arange(400.0) if "po" in name or "bin" in name else np.unique(values)
    mass = np.exp(model.score_samples(support[:, None], n_draws=256)).sum()

    assert mass == pytest.approx(101 / 102, abs=2e-3)


@pytest.mark.parametrize("name", ["categorical", "ordinal"])
def test_an_unseen_class_has_the_probability_of_the_rule_of_succession(name):
    """1/(n + 2), up to the error of the score."""
    model = fitted(np.resize([1.0, 2.0, 2.0, 4.0], 100), {0: name})

    scores = model.score_samples([[-1.0], [2.5], [100.0]])
    np.testing.assert_allclose(scores, -np.log(102), atol=0.05)


@pytest.mark.parametrize(
    "model", [VAETransformer(1, prior="normal", **QUICK), *slow(VAEDensity(1, **QUICK))], ids=repr
)
def test_the_density_of_a_positive_column_at_and_below_zero_is_positive(model, positive):
    """Its integral over positive numbers is (n + 1) / (n + 2), that over the others the rest."""
    model.fit(np.append(positive, positive[:2])[:, None])

    def integral(low, high, sign):
        u = np.linspace(low, high, 2001)
        density = np.exp(model.score_samples(sign * np.exp(u)[:, None]) + u)
        return integrate.simpson(density, x=u)

    above, below = integral(-25, 25, 1), integral(-25, 25, -1)
    zero = model.score_samples([[0.0]])[0]

    assert above == pytest.approx(101 / 102, abs=5e-3)
    assert below == pytest.approx(1 / 102, rel=1e-3)
    assert zero < model.score_samples(positive[:, None]).mean()
    assert zero == pytest.approx(model.score_samples([[-1e-12]])[0], abs=1e-6)


def test_an_unseen_integer_of_a_column_of_point_masses_has_a_finite_low_score():
    """The probability 1/(n + 2) is a Cauchy density over unseen numbers."""
    table = pd.DataFrame({"year": np.resize([70, 71, 71, 75, 80, 81], 300)})
    model = fitted(table, max_iter=20)
    seen, *unseen = model.score_samples(pd.DataFrame({"year": [71, 70, 72, 82, 60]}))
    mass = np.exp(model.score_samples(pd.DataFrame({"year": [70, 71, 75, 80, 81]}))).sum()

    assert str(model.columns_.likelihoods[0]) == "ZeroInflated(n_spikes=5)"
    assert mass == pytest.approx(301 / 302, abs=5e-3)
    assert max(unseen[1:]) < unseen[0] < seen
    assert min(unseen) > -20
    assert set(model.sample(3000)["year"]) <= set(table["year"])


# -- estimators --------------------------------------------------------------------------


def test_an_unknown_category_is_missing_to_the_encoder(people):
    """The score is that of the observed cells minus log(n + 2)."""
    model = VAETransformer(2, **QUICK).fit(people)
    unknown = people.head(5).assign(cell="new")
    missing = people.head(5).assign(cell=None)

    np.testing.assert_allclose(model.transform(unknown), model.transform(missing))
    np.testing.assert_allclose(
        model.score_samples(unknown), model.score_samples(missing) - np.log(502), rtol=1e-6
    )
    model.set_params(handle_unknown="missing")
    np.testing.assert_array_equal(model.score_samples(unknown), model.score_samples(missing))


def test_handle_unknown_error_refuses_unseen_values(people):
    """The message names the column."""
    table = people.drop(index=[7, 100, 200]).assign(same=1.0)
    model = VAETransformer(2, handle_unknown="error", **QUICK).fit(table)

    for column, value in {"paid": 0.0, "city": "new", "visits": -3, "same": 2.0}.items():
        with pytest.raises(ValueError, match=f"olumn '{column}'"):
            model.score_samples(table.head(3).assign(**{column: value}))


@pytest.mark.parametrize("columns", [["paid"], ["paid", "city"]])
def test_a_misspelt_handle_unknown_is_refused_after_fit(columns, people):
    """By a model of an array of numbers, too."""
    table = people[columns].to_numpy() if columns == ["paid"] else people[columns]
    model = VAETransformer(1, **QUICK).fit(table).set_params(handle_unknown="mising")

    with pytest.raises(ValueError, match=r"handle_unknown must be .* Got 'mising' instead"):
        model.score_samples(table)


def test_unseen_dates_are_refused_with_the_dates_in_fit():
    """And not with the seconds that the model has for them."""
    days = pd.to_datetime(["2020-01-01", "2020-02-07", "2020-03-15"])
    table = pd.DataFrame({"day": np.resize(days, 60)})
    model = VAETransformer(1, handle_unknown="error", **QUICK).fit(table)

    with pytest.raises(ValueError, match=r"2021-05-05.* in fit its values were 2020-01-01"):
        model.score_samples(pd.DataFrame({"day": pd.to_datetime(["2021-05-05"])}))


def test_imputation_keeps_unknown_categories_and_unseen_numbers(people):
    """The dtype of the column gets the unknown category."""
    table = people.drop(index=[7]).astype({"cell": "category"})
    rows = table.head(4).assign(cell="new", paid=[0.0, 1.0, np.nan, -2.0])
    for filled in (
        VAETransformer(2, **QUICK).fit(table).impute(rows),
        VAEImputer(VAETransformer(2, **QUICK)).fit(table).transform(rows),
    ):
        assert [*filled["cell"]] == ["new"] * 4
        assert [*filled["cell"].cat.categories] == [*table["cell"].cat.categories, "new"]
        np.testing.assert_array_equal(filled["paid"][[0, 1, 3]], [0.0, 1.0, -2.0])
        assert filled["paid"][2] > 0


def test_an_unseen_value_is_replaced_where_a_network_takes_no_missing_values(rng):
    """An unseen symbol in a sequence."""
    X = rng.choice([1.0, 2.0, 4.0], (60, 4))
    model = VAETransformer(2, network="gru", likelihood="categorical", **QUICK).fit(X)
    rows = np.array([[1.0, 2.0, 9.0, 4.0], [1.0, 2.0, 1.0, 4.0]])
    unseen, seen = model.score_samples(rows)

    assert np.isfinite(model.transform(rows)).all()
    assert np.isfinite(unseen)
    assert unseen < seen


@pytest.mark.parametrize("is_frame", [False, True])
def test_partial_fit_warns_of_unseen_values_and_scores_them(is_frame, rng):
    """Likelihoods are those of the first chunk; the warning names each column."""
    first = pd.DataFrame(
        {
            "constant": np.zeros(60),
            "bit": np.resize([0.0, 1.0], 60),
            "positive": np.exp(3 * rng.standard_normal(60)),
            "free": rng.standard_normal(60),
        }
    )
    later = first.assign(constant=rng.standard_normal(60), bit=2.0, positive=-1.0)
    if is_frame:
        first, later = first.assign(word=["a", "b", "b"] * 20), later.assign(word="c")
    chunks = (first, later) if is_frame else (first.to_numpy(), later.to_numpy())
    model = VAETransformer(2, **QUICK).partial_fit(chunks[0])
    names = ["constant", "bit", "positive", "word"] if is_frame else [0, 1, 2]

    model.partial_fit(chunks[0])  # says nothing
    with pytest.warns(UserWarning, match="later rows have other values") as caught:
        model.partial_fit(chunks[1])
    assert all(f"Column {name!r}" in str(caught[0].message) for name in names)
    assert np.isfinite(model.score_samples(chunks[1])).all()
    assert np.isfinite([row["loss"] for row in model.history_]).all()
    assert model.score(chunks[1]) < model.score(chunks[0]) - 10


def test_a_constant_up_to_rounding_errors_is_seen():
    """As 100 * part / total of equal columns; all rows are those of the fit."""
    X = np.column_stack([100 * (0.1 * np.arange(1.0, 41) / (0.1 * np.arange(1.0, 41))), np.eye(40)])
    X[:, 0] = 0.1 + 0.2
    X[::2, 0] = 0.3
    columns = VAETransformer(1, **QUICK).fit(X).columns_

    assert columns.is_constant[0]
    assert not columns.is_unseen(X).any()
    assert columns.is_unseen(X + 1e-9)[:, 0].all()
