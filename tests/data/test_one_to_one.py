"""Columns that determine each other: one is modelled, and the others are derived from it."""

import numpy as np
import pytest

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.data.relations import find_followers, find_one_to_one
from tests.conftest import assert_file_agrees

pd = pytest.importorskip("pandas")

NAMES = {1: "first", 2: "second", 3: "third"}


@pytest.fixture(scope="module")
def table():
    """A number, classes of passengers by number and by name, and a flag."""
    rng = np.random.default_rng(0)
    code = rng.integers(1, 4, size=200)
    return pd.DataFrame(
        {
            "fare": 10.0 * code + rng.normal(size=200),
            "code": code,
            "name": pd.Series(code).map(NAMES),
            "flag": rng.random(200) < 0.3,
        }
    )


def density(table):
    return VAEDensity(2, mixtures=[(3, "diag")], max_iter=0, random_state=0).fit(table)


@pytest.fixture(scope="module")
def fitted(table):
    return density(table)


def test_codes_and_labels_are_found(rng):
    """Columns of the same partition of the rows, by any values."""
    code = rng.integers(3, size=100).astype(float)
    X = np.column_stack([rng.normal(size=100), code, np.array([5.0, -2.0, 0.5])[code.astype(int)]])
    X[::9, 1:] = np.nan
    (pair,) = find_one_to_one(
        X, [find_followers(X, 1, np.array([0, 2]), np.ones(len(X)))], [0, 1, 2]
    )

    assert (pair.source, pair.derived) == (1, 2)
    np.testing.assert_array_equal(pair.source_values, [0, 1, 2])
    np.testing.assert_array_equal(pair.derived_values, [5, -2, 0.5])


@pytest.mark.parametrize("draw", [lambda r: r.poisson(2, 200), lambda r: r.integers(9, size=200)])
def test_a_number_beside_its_label_is_derived(draw, rng):
    """Also one that would be a count, or have normal scores."""
    number = draw(rng)
    x = number + rng.normal(size=200)
    table = pd.DataFrame({"label": [f"level {k}" for k in number], "number": number, "x": x})
    sample = density(table).sample(100)

    assert (sample["label"] == "level " + sample["number"].astype(str)).all()


@pytest.mark.parametrize("holed", [[1], [2], [1, 2]])
def test_codes_and_labels_with_holes_are_found(holed, rng):
    """In either column, or in both: what is missing is known from the other one."""
    code = rng.integers(5, size=300).astype(float)
    whole = np.column_stack([rng.normal(size=300), code, code**2 - 7])
    X = whole.copy()
    X[::7, holed[0]], X[3::7, holed[-1]] = np.nan, np.nan
    (pair,) = find_one_to_one(
        X, [find_followers(X, 1, np.array([0, 2]), np.ones(len(X)))], [0, 1, 2]
    )
    pair.fill(X)

    np.testing.assert_array_equal(X, whole)


@pytest.mark.parametrize("difference", ["value", "rare", "unique"])
def test_other_columns_are_not(difference):
    """One exception, or too few repeated values to tell it from chance."""
    code = np.arange(100.0) % 3
    other = code + 1
    if difference == "value":
        other[99] = 2
    elif difference == "rare":
        code = (np.arange(100) < 10).astype(float)
        other = 1 - code
    else:
        code, other = np.arange(100.0), np.arange(100.0)[::-1].copy()

    X = np.column_stack([code, other])

    assert find_one_to_one(X, [find_followers(X, 0, np.array([1]), np.ones(len(X)))], [1]) == []


def test_scores_are_those_without_the_derived_column(fitted, table):
    """But for the probability that a row contradicts no row of the fit, of n + 1 in n + 2."""
    reduced = table.drop(columns="code")

    np.testing.assert_allclose(
        fitted.score_samples(table),
        density(reduced).score_samples(reduced) + np.log(201 / 202),
        rtol=1e-12,
    )
    assert "code  one-to-one with name" in repr(fitted.columns_)


def test_a_contradiction_has_the_mass_of_unseen_values(fitted, table):
    """Its probability is one in n + 2, instead of n + 1."""
    changed = table.assign(code=table["code"] % 3 + 1)

    np.testing.assert_allclose(
        fitted.score_samples(table) - fitted.score_samples(changed), np.log(201), rtol=1e-9
    )


@pytest.mark.parametrize("estimator", [None, VAETransformer(2, max_iter=2, random_state=0)])
def test_samples_have_pairs_of_the_fit(estimator, fitted, table):
    """Drawn by themselves, two columns would contradict each other."""
    model = fitted if estimator is None else estimator.fit(table)
    samples = model.sample(500, random_state=1)

    assert (samples["code"].map(NAMES) == samples["name"]).all()
    assert set(samples["code"]) == {1, 2, 3}
    assert samples.dtypes.equals(table.dtypes)


def test_a_missing_value_is_that_of_the_other_column(fitted, table):
    """Where both are missing, the imputed values agree."""
    incomplete = table.astype({"code": "Int64"})
    incomplete.loc[:99, "code"] = pd.NA
    incomplete.loc[50:149, "name"] = None
    model = density(table.astype({"code": "Int64"}))
    for imputed in (model.impute(incomplete), *model.impute(incomplete, 2, random_state=0)):
        pd.testing.assert_series_equal(imputed["code"].astype(int).map(NAMES), imputed["name"],
                                       check_names=False, check_dtype=False)  # fmt: skip
        rows = [*range(50), *range(100, 200)]
        assert (imputed["code"][rows] == table["code"][rows]).all()


def test_given_values_fill_each_other_and_must_agree(fitted):
    """A row drawn given a code has its label."""
    assert set(fitted.sample(20, given={"code": 3}, random_state=0)["name"]) == {"third"}
    with pytest.raises(ValueError, match=r"contradicts itself.*values of 'name'"):
        fitted.sample(1, given={"code": 3, "name": "first"})


def test_files(fitted, table, tmp_path):
    assert_file_agrees(fitted, table, tmp_path)
