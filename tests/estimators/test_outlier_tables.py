"""VAEOutlierDetector on tables of numbers, classes and missing cells."""

from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

from sklearn_vae import VAEOutlierDetector
from tests.conftest import as_table, slow
from tests.estimators.test_outlier import ALL_METHODS, in_one_setting

pd = pytest.importorskip("pandas")

QUICK = {"max_iter": 2, "random_state": 0}
KINDS = ["cat", "dog", "horse"]
SIZES = ["small", "medium", "large"]


def draw(n, seed):
    """Animals: weight and birthday follow from kind and size, a tenth of the cells is missing."""
    rng = np.random.default_rng(seed)
    kind, size = rng.integers(0, 3, n), rng.integers(0, 3, n)
    born = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1000, n), "D")
    table = pd.DataFrame(
        {
            "kind": pd.Categorical.from_codes(kind, KINDS),
            "size": pd.Categorical.from_codes(size, SIZES, ordered=True),
            "has_hooves": kind == 2,
            "weight": 10.0**kind * (1 + size) * np.exp(0.1 * rng.normal(size=n)),
            "height": 20 + 50.0 * kind + 10 * size + 2 * rng.normal(size=n),
            "born": born,
        }
    )
    for name in ("kind", "weight", "born"):
        table.loc[rng.random(n) < 0.1, name] = None
    return table


@pytest.fixture(scope="module")
def train():
    return draw(300, 0)


@pytest.fixture(scope="module", params=[True, *slow(False)], ids=["novelty", "contaminated"])
def fitted(request, train):
    return VAEOutlierDetector(novelty=request.param, random_state=0, max_iter=8).fit(train)


@pytest.mark.parametrize("seed", [2, 4, 6])
def test_a_gross_error_is_first_beside_large_amounts(seed):
    """A weight in tons, six standard deviations off, beside amounts that are log-normal."""
    rng = np.random.default_rng(seed)
    size = rng.normal(size=400)
    table = pd.DataFrame(
        {
            "kg": 1350 + 220 * (0.8 * size + 0.6 * rng.normal(size=400)),
            "price": np.exp(7 + 0.5 * size + 0.9 * rng.normal(size=400)).round(2),
            "rent": np.exp(7 + 0.5 * size + 0.9 * rng.normal(size=400)).round(2),
            "fuel": rng.choice(["petrol", "diesel"], 400),
        }
    )
    table.loc[17, "kg"] /= 1000

    assert VAEOutlierDetector(**QUICK).fit(table).score_samples(table).argmin() == 17


def test_several_gross_errors_are_first_whatever_the_other_cells_are(rng):
    """Rows with overtime have densities where others have point masses: log p(x) is lower."""
    base = rng.normal(4200, 900, 300).clip(2200).round(-1)
    hours = np.where(rng.random(300) < 0.3, rng.gamma(2, 6, 300).round(1) + 0.5, 0)
    table = pd.DataFrame(
        {
            "department": rng.choice(["sales", "it", "hr"], 300),
            "age": rng.integers(20, 65, 300),
            "base": base,
            "rate": (base / 168).round(2),
            "hours": hours,
            "pay": (hours * base / 168 * 1.25).round(2),
            "bonus": np.where(rng.random(300) < 0.7, 0, rng.gamma(2, 300, 300).round(-1)),
        }
    )
    table.loc[7, "age"], table.loc[50, "age"] = 168, 190
    table.loc[120, "base"], table.loc[200, "rate"] = 14_000, 80.0
    table.loc[np.flatnonzero(hours)[0], "hours"] = 90
    gross = np.append([7, 50, 120, 200], np.flatnonzero(hours)[0])
    scores = VAEOutlierDetector(**QUICK).fit(table).score_samples(table)

    assert set(np.argsort(scores)[:8]) >= set(gross)


def test_a_wrong_amount_is_found_whatever_the_size_of_the_others(rng):
    """In the units of X, the density of log-normal amounts ranks rows by their size."""
    level, months = rng.normal(5, 0.8, size=(600, 1)), rng.normal(0, 0.1, size=(600, 8))
    X = np.exp(level + months.cumsum(axis=1)).round()
    wrong = rng.choice(len(X), 18, replace=False)
    X[wrong, rng.integers(0, 8, size=18)] *= 10
    scores = VAEOutlierDetector(max_iter=20, random_state=0).fit(X).score_samples(X)

    assert np.isin(wrong, scores.argsort()[:36]).mean() > 0.9


def test_a_category_that_contradicts_is_found_and_explained(fitted):
    new = draw(80, 1)
    new = new[new.notna().all(axis=1)].reset_index(drop=True)
    wrong = new.assign(has_hooves=~new["has_hooves"])
    scores = fitted.score_samples(pd.concat([new, wrong]))

    assert roc_auc_score(np.repeat([1, 0], len(new)), scores) > 0.95
    explained = fitted.explain(wrong).to_numpy().argmax(axis=1)
    assert np.isin(explained, [0, 2]).mean() > 0.9  # the kind, or the hooves that it has


def test_a_number_out_of_its_group_is_found_and_explained(fitted):
    new = draw(200, 2)
    new = new[(new["kind"] == "cat") & new.notna().all(axis=1)].reset_index(drop=True)
    wrong = new.assign(height=new["height"] + 60)  # that of a dog
    scores = fitted.score_samples(pd.concat([new, wrong]))

    assert roc_auc_score(np.repeat([1, 0], len(new)), scores) > 0.95
    assert np.isin(fitted.explain(wrong).to_numpy().argmax(axis=1), [0, 4]).mean() > 0.9
    impossible = new.assign(height=new["height"] + 600)  # that of no kind
    assert (fitted.explain(impossible).to_numpy().argmax(axis=1) == 4).all()


def test_attributions_add_up_and_missing_cells_have_none(fitted):
    new = draw(30, 3)
    attributions, scores = fitted.explain(new).to_numpy(), fitted.score_samples(new)

    total = -scores - fitted.attribution_baseline_.score
    np.testing.assert_allclose(attributions.sum(axis=1), total, atol=1e-9)
    assert (attributions[new.isna().to_numpy()] == 0).all()
    assert (attributions[new.notna().to_numpy()] != 0).all()


def test_an_unseen_category_is_strange(fitted):
    new = draw(60, 4)
    unicorns = new.assign(kind="unicorn")

    assert (fitted.score_samples(unicorns) < fitted.score_samples(new)).all()
    # one row has a strange height, too
    assert (fitted.explain(unicorns).to_numpy().argmax(axis=1) == 0).sum() >= 59


def people(n=300):
    """Columns of numbers of every kind, beside classes."""
    rng = np.random.default_rng(0)
    numbers = {
        "normal": rng.normal(size=n),
        "log_normal": np.exp(rng.normal(10, 0.5, n)),
        "age": rng.integers(18, 91, n),  # a value in several rows each
        "count": rng.poisson(2, n),
        "in_steps": rng.choice([20, 30, 35, 40, 45], n),
        "rounded": rng.normal(170, 10, n).round(1),
        "mostly_zero": np.where(rng.random(n) < 0.9, 0, rng.exponential(1000, n).round()),
    }
    classes = {"job": rng.choice(["nurse", "cook", "smith"], n), "sex": rng.choice([*"fm"], n)}
    return pd.DataFrame({**numbers, **classes})


@cache
def detector_of_people(has_classes):
    table = people() if has_classes else people().drop(columns=["job", "sex"])
    return VAEOutlierDetector(**QUICK).fit(table)


@pytest.mark.parametrize("has_classes", [True, *slow(False)])
@pytest.mark.parametrize(
    "column", ["log_normal", *slow("age", "normal", "count", "in_steps", "rounded"), "mostly_zero"]
)
def test_a_value_far_out_of_all_others_is_ranked_first_and_named(column, has_classes):
    """In a training row, which is part of what the model learns, and in a new row."""
    table = people() if has_classes else people().drop(columns=["job", "sex"])
    new, far = table[:1].copy(), table[column].max() + 50 * np.ptp(table[column])
    new[column] = far
    with_far = VAEOutlierDetector(**QUICK).fit(pd.concat([table[1:], new]))
    for detector in (detector_of_people(has_classes), with_far):
        assert detector.predict(new)[0] == -1
        assert detector.score_samples(new)[0] < detector.score_samples(table[1:]).min()
        assert detector.explain(new).iloc[0].idxmax() == column


@pytest.mark.parametrize("novelty", [*slow(True), False])
def test_a_category_that_no_training_row_has_is_strange_though_the_dtype_declares_it(novelty, rng):
    """A filtered frame keeps the categories of the rows that it no longer has."""
    table = pd.DataFrame(rng.normal(size=(150, 6)), columns=list("uvwxyz"))
    table["kind"] = rng.choice(KINDS[:2], len(table))
    horses = table[:40].assign(kind="horse")
    for kinds in (KINDS[:2], KINDS):
        typed = table.astype({"kind": pd.CategoricalDtype(kinds)})
        detector = VAEOutlierDetector(novelty=novelty, **QUICK).fit(typed)

        assert (detector.predict(horses) == -1).all()
        assert (detector.explain(horses).to_numpy().argmax(axis=1) == 6).mean() > 0.9


@in_one_setting(ALL_METHODS)
def test_every_method_scores_every_table(train, method, novelty):
    detector = VAEOutlierDetector(method=method, novelty=novelty, **QUICK).fit(train[:150])
    new = draw(20, 5)
    new.loc[0, [name for name in new if name != "has_hooves"]] = None
    scores = detector.score_samples(new)

    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores[7:8], detector.score_samples(new[7:8]), rtol=1e-5)


def test_a_training_row_with_missing_cells_is_recognized_alone(fitted, train):
    """Its imputed values are rounded otherwise than among other rows."""
    incomplete = train[train.isna().any(axis=1)][:20]
    alone = [fitted.score_samples(incomplete[i : i + 1])[0] for i in range(len(incomplete))]

    np.testing.assert_allclose(alone, fitted.score_samples(train)[incomplete.index], rtol=1e-9)


def test_classes_are_as_far_apart_as_numbers(rng):
    table = pd.DataFrame({"a": rng.normal(size=90), "b": ["x", "y", "z"] * 30, "c": [0, 1, 1] * 30})
    table["c"] = table["c"].astype(bool)
    detector = VAEOutlierDetector(**QUICK).fit(table)
    rows = detector._reference_rows()
    a = (table["a"] - table["a"].mean()) / table["a"].std(ddof=0)
    differ = (table["b"].to_numpy()[:, None] != table["b"].to_numpy()).astype(float)
    differ += table["c"].to_numpy()[:, None] != table["c"].to_numpy()
    expected = np.sqrt(np.subtract.outer(a.to_numpy(), a.to_numpy()) ** 2 + 2 * differ)
    order = np.lexsort(table[["c", "b", "a"]].to_numpy().T)  # as the reference is

    np.testing.assert_allclose(
        cdist(rows.inputs, rows.inputs), expected[np.ix_(order, order)], atol=1e-6
    )


@pytest.mark.parametrize("container", ["array", "pandas", "polars", *slow("pyarrow")])
def test_expected_values_of_some_columns_are_a_part_of_the_table(train, container):
    """In the order of X, with its types and names; by position if it has none."""
    X, names = train[:60], ["weight", "kind"]
    if container == "array":
        X, names = X[["kind", "size", "weight"]].to_numpy(), [2, 0]
    elif container != "pandas":
        X = as_table(X.astype({"size": str, "kind": object}), container)
    detector = VAEOutlierDetector(**QUICK).fit(X)
    every, some = detector.expected_values(X[:5]), detector.expected_values(X[:5], columns=names)

    assert type(some) is type(every)
    if container == "array":
        every = every[:, [0, 2]]
    elif container == "pyarrow":
        every, some = every.select(["kind", "weight"]).to_pandas(), some.to_pandas()
    else:
        every = every[["kind", "weight"]]
    if container == "polars":
        every, some = every.to_pandas(), some.to_pandas()
    pd.testing.assert_frame_equal(pd.DataFrame(some), pd.DataFrame(every))
    with pytest.raises(ValueError, match=r"'columns' parameter of .*expected_values"):
        detector.expected_values(X[:5], columns=["colour"])


@pytest.mark.parametrize(
    ("method", "novelty"),
    [("neighbors", True), *slow(*product(["auto", "log_likelihood"], [False, True]))],
)
def test_new_rows_of_new_categories_are_flagged_at_the_contamination(method, novelty, rng):
    """A fifth of the new rows has one, and of the training rows one that no other row has."""
    zone = np.floor(150 ** rng.random(3000)).astype(int).astype(str)
    table = pd.DataFrame({"zone": zone, "x": rng.normal(size=3000)})
    params = QUICK | {"contamination": 0.05, "novelty": novelty, "method": method}
    rates = []
    for seed in range(3):
        train = table.iloc[1000 * seed : 1000 * seed + 150]
        new = table.drop(train.index)
        assert 0.1 < (~new["zone"].isin(train["zone"])).mean() < 0.4
        rates.append((VAEOutlierDetector(**params).fit(train).predict(new) == -1).mean())

    assert 0.02 < np.mean(rates) < 0.08


@pytest.mark.parametrize("end", [*slow(0.0), -13.0])
def test_a_missing_amount_that_is_at_most_0_has_a_score(end, rng):
    """A net amount is below the gross one, which is wrong: it has no logarithm."""
    net = np.exp(rng.normal(3, 1, 200)).round(2)
    table = pd.DataFrame({"net": net, "gross": (net * np.exp(rng.gamma(2, 0.2, 200))).round(2)})
    table["kind"] = rng.choice(["a", "b"], 200)
    table.loc[7, ["net", "gross"]] = [np.nan, end]
    scores = VAEOutlierDetector(random_state=0).fit(table).score_samples(table)

    assert np.isfinite(scores).all()
    assert (scores < scores[7]).sum() < 50
