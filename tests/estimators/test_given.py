"""Marginal and conditional densities, and samples given values, by names of columns."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp
from sklearn.base import clone

from sklearn_vae import VAEDensity, VAETransformer, load
from tests.conftest import condition_normal, slow

pd = pytest.importorskip("pandas")

ESTIMATORS = [
    VAETransformer(2, prior="normal", max_iter=4, random_state=0),
    VAEDensity(2, mixtures=[(1, "full"), (4, "diag")], max_iter=3, random_state=0),
]
NAMES = ["transformer", "density"]
N = 300


def column(kind, group, rng):
    """Values of a column that depends on a group, and its likelihood."""
    n = len(group)
    return {
        "real": lambda: (rng.normal(2 * group, 1), "gaussian"),
        "positive": lambda: (np.exp(rng.normal(group, 0.5)), "lognormal"),
        "count": lambda: (rng.poisson(1 + 2 * group), "poisson"),
        "category": lambda: (
            np.array(["a", "b", "c"])[(group + (rng.random(n) < 0.2)) % 3],
            "auto",
        ),
        "ordinal": lambda: (
            pd.Categorical.from_codes(
                np.clip(group + rng.integers(2, size=n), 0, 3), list("wxyz"), ordered=True
            ),
            "auto",
        ),
        "binary": lambda: (rng.random(n) < 0.2 + 0.3 * group, "auto"),
        "point mass": lambda: (
            np.where(rng.random(n) < 0.4, 0.0, rng.normal(6 + group, 1)),
            "auto",
        ),
    }[kind]()


def grid(kind):
    """All values of a column and the log-weights of their sum: (K,), (K,)."""
    if kind == "positive":
        log = np.linspace(-5, 7, 61)
        return np.exp(log), log + np.log(log[1] - log[0])
    if kind == "count":
        return np.arange(60), np.zeros(60)
    if kind in ("category", "ordinal", "binary"):
        values = {"category": list("abc"), "ordinal": list("wxyz"), "binary": [False, True]}[kind]
        return np.array(values), np.zeros(len(values))
    real = np.linspace(-9, 15, 61)
    log_weight = np.full(len(real), np.log(real[1] - real[0]))
    if kind == "point mass":  # the point has a probability, its neighbours a density
        real = np.delete(real, np.abs(real) < 1e-9)
        return np.append(real, 0.0), np.append(log_weight[: len(real)], 0.0)
    return real, log_weight


def fitted_pair(estimator, kind):
    """A model of two columns that depend on a group, and its rows."""
    rng = np.random.default_rng(0)
    group = rng.integers(3, size=150)
    values, likelihood = column(kind, group, rng)
    frame = pd.DataFrame({"asked": rng.normal(2 * group, 0.8), "other": values})
    requested = {"asked": "gaussian"} | ({} if likelihood == "auto" else {"other": likelihood})
    return clone(estimator).set_params(likelihood=requested).fit(frame), frame


def assert_sums_agree(model, frame, kind):
    """Compare marginals and conditionals of two columns with sums over complete rows."""
    for kept, summed, own in [("asked", "other", kind), ("other", "asked", "real")]:
        points, log_weight = grid(own)
        whole = frame.loc[frame.index.repeat(len(points))].reset_index(drop=True)
        whole[summed] = pd.Series(np.tile(points, len(frame))).astype(frame[summed].dtype)
        joint = model.score_samples(whole).reshape(len(frame), -1)
        expected = logsumexp(joint + log_weight, axis=1)

        marginal = model.score_samples(frame[[kept]], columns=[kept])
        conditional = model.score_samples(frame, given=[kept])

        np.testing.assert_allclose(marginal, expected, atol=0.04)
        np.testing.assert_allclose(conditional, model.score_samples(frame) - expected, atol=0.04)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=NAMES)
@pytest.mark.parametrize(
    "kind", [*["real", "count", "category", "point mass"], *slow("positive", "ordinal", "binary")]
)
def test_marginals_and_conditionals_are_sums_over_complete_rows(estimator, kind):
    """The density of one column is the integral of that of complete rows over the other one."""
    model, frame = fitted_pair(estimator, kind)
    assert_sums_agree(model, frame[:2], kind)


def test_marginals_of_a_trained_density_are_sums_over_complete_rows():
    """Training makes posteriors of classes far from normal; uneven rows get more draws."""
    model, frame = fitted_pair(clone(ESTIMATORS[1]).set_params(max_iter=6), "category")
    assert_sums_agree(model, frame[:3], "category")


@pytest.fixture(scope="module")
def normal():
    """Loc and covariance of a normal distribution of four columns, and rows of it."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(2, 4))
    loc, covariance = 3 * rng.normal(size=4), loadings.T @ loadings + np.diag([0.3, 0.4, 0.5, 0.6])
    return loc, covariance, rng.multivariate_normal(loc, covariance, 2000)


@pytest.fixture(scope="module", params=ESTIMATORS, ids=NAMES)
def of_normal(request, normal):
    """A model of normal rows; that of a density is a single normal distribution."""
    options = {"mixtures": [(1, "full")]} if isinstance(request.param, VAEDensity) else {}
    return clone(request.param).set_params(**options).fit(normal[2])


def test_samples_given_values_have_the_moments_of_the_closed_form(normal, of_normal):
    """Of a normal distribution, every conditional distribution is known."""
    loc, covariance, _ = normal
    given = {0: loc[0] + 1.0, 2: loc[2] - 1.0}
    _, mean, conditional = condition_normal(
        loc, covariance, np.array([given.get(j, np.nan) for j in range(4)])
    )
    drawn = of_normal.sample(8000, given=given, random_state=1)

    assert (drawn[:, [0, 2]] == list(given.values())).all()
    np.testing.assert_allclose(drawn[:, [1, 3]].mean(axis=0), mean, atol=0.1)
    np.testing.assert_allclose(np.cov(drawn[:, [1, 3]].T), conditional, atol=0.1)


def test_conditional_scores_are_those_of_the_closed_form(normal, of_normal):
    """log p(x_1, x_3 | x_0, x_2), with arrays by positions."""
    loc, covariance, X = normal
    expected = []
    for row in X[:50]:
        _, mean, conditional = condition_normal(loc, covariance, row * [1, np.nan, 1, np.nan])
        expected.append(stats.multivariate_normal(mean, conditional).logpdf(row[[1, 3]]))
    found = of_normal.score_samples(X[:50], given=[0, 2])
    by_columns = of_normal.score_samples(X[:50], columns=[3, 1], given=[0, 2])

    assert np.mean(found) == pytest.approx(np.mean(expected), abs=0.05)
    np.testing.assert_array_equal(by_columns, found)


@pytest.fixture(scope="module")
def passengers():
    rng = np.random.default_rng(0)
    group = rng.integers(3, size=N)
    return pd.DataFrame(
        {
            "age": (20 + 15 * group + rng.normal(0, 6, N)).round(1),
            "siblings": rng.poisson(0.5 + group),
            "sex": rng.choice(["female", "male"], N),
            "class": pd.Categorical(np.array(["first", "second", "third"])[group]),
            "born": pd.Timestamp("1880-01-01")
            + pd.to_timedelta(9000 * rng.random(N), "D").round("D"),
        }
    )


@pytest.fixture(scope="module")
def of_passengers(passengers):
    return VAETransformer(3, max_iter=10, random_state=0).fit(passengers)


def test_a_table_is_sampled_given_values(passengers, of_passengers):
    """Columns, types and categories are those of the table; the given values stay as they are."""
    given = {"class": "third", "age": 50, "born": pd.Timestamp("1890-05-01")}
    drawn = of_passengers.sample(500, given=given, random_state=0)
    third = passengers[passengers["class"] == "third"]

    assert drawn.dtypes.equals(passengers.dtypes)
    assert all((drawn[name] == value).all() for name, value in given.items())
    assert drawn["siblings"].mean() == pytest.approx(third["siblings"].mean(), abs=0.4)
    pd.testing.assert_frame_equal(drawn, of_passengers.sample(500, given=given, random_state=0))
    assert not drawn.equals(of_passengers.sample(500, given=given, random_state=1))
    pd.testing.assert_frame_equal(of_passengers.sample(5, given={}), of_passengers.sample(5))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sx": "male"}, "column 'sx', which X did not have in fit; its columns were 'age'"),
        ({"sex": "other"}, "'other' for column 'sex', whose categories were 'female', 'male'"),
        ({"sex": ["male"]}, "column 'sex', whose categories were"),
        ({"age": "old"}, "'old' for column 'age', which holds numbers"),
        ({"age": np.nan}, "must be finite"),
        ({"siblings": 1.5}, "1.5 for column 'siblings', which holds whole numbers"),
        ({"siblings": -1}, "-1 for column 'siblings', which a column of .* cannot have"),
        ({"born": 1890}, "which holds dates"),
        ({"born": "tomorrow"}, "which holds dates"),
        ({"born": "NaT"}, "which holds dates"),
        ({"born": "1890-05-01T00:00+02:00"}, "give a date without a time zone"),
        ({"born": pd.NaT}, "leave out columns that are not given"),
        (
            {"siblings": 10**30},
            r"1000* for column 'siblings', .* beyond the range of its dtype int64",
        ),
        ({"age": 10**400}, "for column 'age', which is beyond the range of float64"),
        (["sex"], "must be a dict"),
        (pd.Series({"sex": "male"}), "must be a dict"),
    ],
)
def test_given_values_that_cannot_be_are_named(of_passengers, given, message):
    with pytest.raises(ValueError, match=message):
        of_passengers.sample(2, given=given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["fare"]}, "'columns' parameter .* column 'fare'"),
        ({"given": ["fare"]}, "'given' parameter .* column 'fare'"),
        ({"columns": "age"}, "must be a list of columns"),
        ({"columns": ["age"], "given": ["age"]}, "both have 'age'"),
        ({"columns": []}, "leave none to score"),
        ({"given": {"sex": "male"}}, "'given' parameter .* must be a list of columns"),
    ],
)
def test_columns_that_cannot_be_scored_are_named(passengers, of_passengers, options, message):
    with pytest.raises(ValueError, match=message):
        of_passengers.score_samples(passengers[:3], **options)


def test_a_frame_needs_only_the_columns_that_are_used(passengers, of_passengers):
    """In any order, as their names say what they are; without columns=, all are needed."""
    asked = of_passengers.score_samples(passengers, columns=["age", "sex"])
    reordered = of_passengers.score_samples(passengers[["sex", "age"]], columns=["age", "sex"])
    hidden = passengers.astype({"siblings": float}).copy()
    hidden[["siblings", "class", "born"]] = None, None, pd.NaT

    np.testing.assert_array_equal(asked, reordered)
    np.testing.assert_allclose(asked, of_passengers.score_samples(hidden), atol=1e-9)
    with pytest.raises(ValueError, match="lacks the column 'sex'"):
        of_passengers.score_samples(passengers[["age"]], columns=["age", "sex"])
    with pytest.raises(ValueError, match="now missing") as caught:
        of_passengers.score_samples(passengers[["age", "sex"]])
    assert "columns=[...]" in caught.value.__notes__[0]


@pytest.mark.filterwarnings("ignore:Every column of X has one value")
@pytest.mark.parametrize(
    "model", [VAETransformer(1), VAEDensity(1)], ids=lambda m: type(m).__name__
)
def test_a_table_of_constants_is_sampled_and_imputed(model, tmp_path):
    """The model of such a table has no columns. It is read from a file."""
    table = pd.DataFrame({"number": [1.5, 1.5], "word": ["a", "a"]})
    model.fit(table).save(tmp_path / "model.vae")
    model = load(tmp_path / "model.vae")
    (drawn,) = model.impute(table.assign(word=None), n_imputations=1)

    pd.testing.assert_frame_equal(drawn, table)
    pd.testing.assert_frame_equal(model.sample(2, given={"number": 1.5}), table)


def test_conditional_models_take_both(passengers):
    """p(x|y) given columns; without y, the class of each row is drawn given the columns."""
    X, y = passengers[["age", "siblings"]], passengers["class"].astype(str)
    model = VAETransformer(1, conditional=True, max_iter=20, random_state=0).fit(X, y)
    conditions = np.resize(["first", "third", "third"], 999)
    drawn = model.sample(999, given={"age": 40}, y=conditions, random_state=0)
    means = {name: X[y == name]["siblings"].mean() for name in set(y)}
    young = model.sample(2000, given={"age": 18}, random_state=0)
    joint = [
        model.score_samples(X[:5], np.repeat(name, 5), columns=["age"]) for name in sorted(means)
    ]
    share = y.value_counts(normalize=True).sort_index().to_numpy()

    for name in ("first", "third"):
        assert drawn["siblings"][conditions == name].mean() == pytest.approx(means[name], abs=0.4)
    assert young["siblings"].mean() == pytest.approx(means["first"], abs=0.4)
    np.testing.assert_allclose(
        model.score_samples(X[:5], columns=["age"]),
        logsumexp(np.array(joint) + np.log(share)[:, None], axis=0), atol=1e-6,
    )  # fmt: skip


def test_given_values_far_outside_of_the_training_rows_are_warned_of(rng):
    """Rows given a number that no code explains are equal."""
    frame = pd.DataFrame(
        {
            "a": rng.normal(size=80),
            "n": rng.poisson(3, 80),
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(80), "D"),
            "c": rng.choice(["x", "y"], 80),
        }
    )
    model = VAETransformer(1, max_iter=1, random_state=0).fit(frame)
    model.sample(3, given={"a": 5.0, "n": 12, "when": frame["when"].max(), "c": "x"})
    message = (
        r"has a value far outside .*: 1000000.0 for column 'a' \(-\d.* to \d.* in fit\), "
        r"datetime.datetime\(1999.* for column 'when' \(2024-01-01 to 2024-03-20 in fit\)\."
    )
    with pytest.warns(UserWarning, match=message):
        model.sample(3, given={"a": 1e6, "when": dt.datetime(1999, 1, 1)})


def test_samples_of_polars_are_given_values(passengers):
    """As those of pandas."""
    pl = pytest.importorskip("polars")
    frame = pl.from_pandas(passengers[["age", "siblings"]])
    model = VAETransformer(1, max_iter=3, random_state=0).fit(frame)
    drawn = model.sample(100, given={"siblings": 1}, random_state=0)

    assert isinstance(drawn, pl.DataFrame)
    assert set(drawn["siblings"]) == {1}
    assert model.score_samples(frame[["age"]], columns=["age"]).shape == (N,)


def test_decimals_are_given_as_decimals():
    """A value of the table itself is a value that may be given."""
    a, b = np.random.default_rng(0).normal(100, 20, (2, 60)).round(2)
    X = pd.DataFrame({"a": [Decimal(str(x)) for x in a], "b": b})
    sample = VAEDensity(1, max_iter=2, random_state=0).fit(X).sample(5, given={"a": X["a"][3]})

    assert (sample["a"] == a[3]).all()
