"""Normal scores, and surprisal of classes given the other columns."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.base import clone
from sklearn.metrics import average_precision_score, roc_auc_score

from sklearn_vae import VAEOutlierDetector
from sklearn_vae.anomaly import rows as scored_rows
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.anomaly.scores import ClassSurprisal
from sklearn_vae.numerics.rows import spread_out
from tests.conftest import reread, slow

pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def table():
    """A lognormal number, a small count and a constant."""
    rng = np.random.default_rng(0)
    return np.column_stack([rng.lognormal(size=60), rng.poisson(2, 60), np.full(60, 3.0)])


@pytest.fixture(scope="module")
def model(table):
    """Units of distances and model, as ``ScoredRows`` takes them."""
    detector = VAEOutlierDetector(max_iter=1, novelty=True, random_state=0).fit(table)
    return detector.distance_encoder_, detector.estimator_._predictor()


def test_normal_scores_are_linear_between_and_beyond_the_reference_values(table, model):
    """Beyond them, one standard deviation is one, before the scaling; constants have 0."""
    reference = ScoredRows(table, *model)
    first, second = np.sort(table[:, 0])[[0, 1]]
    x = np.array([first - 2 * table[:, 0].std(), first, (first + second) / 2, second])
    rows = ScoredRows(np.column_stack([x, np.full((4, 2), 3.5)]), *model, reference)
    beyond, low, middle, high = rows.normal_scores[:, 0]
    sd = norm.ppf((np.arange(60) + 0.5) / 60).std()

    assert middle == pytest.approx((low + high) / 2)
    assert low - beyond == pytest.approx(2 / sd)
    assert not reference.normal_scores[:, 2:].any()


@pytest.fixture(scope="module")
def passengers():
    """A fare, and a port that is sometimes missing."""
    rng = np.random.default_rng(0)
    ports = pd.Categorical(rng.choice(["Cherbourg", "Queenstown"], 60), ["Cherbourg", "Queenstown"])
    frame = pd.DataFrame({"fare": rng.lognormal(size=60), "port": ports})
    frame.loc[:19, "port"] = None
    return frame


def test_categories_have_no_normal_scores(passengers):
    """They are 0 or 1 still."""
    reference = VAEOutlierDetector(max_iter=1, random_state=0).fit(passengers)._reference_rows()
    is_number = np.zeros(reference.inputs.shape[1], dtype=bool)
    is_number[list(reference.numbers_of_columns)] = True

    assert is_number.sum() == 1
    np.testing.assert_array_equal(
        reference.normal_scores[:, ~is_number], reference.inputs[:, ~is_number]
    )


def make_table(n_rows=60, seed=0):
    """A number, a class that depends on it, another class, and a truth value; some are missing."""
    rng = np.random.default_rng(seed)
    size = rng.normal(size=n_rows)
    kind = np.array(["small", "medium", "large"])[np.digitize(size, [-0.5, 0.5])].astype(object)
    kind[::17] = None
    return pd.DataFrame(
        {
            "size": size,
            "kind": pd.Categorical(kind),
            "colour": pd.Categorical(rng.choice(["red", "blue", "green"], n_rows)),
            "is_new": rng.random(n_rows) < 0.3,
        }
    )


@pytest.fixture(scope="module")
def fitted():
    detector = VAEOutlierDetector(random_state=0).fit(make_table())
    return detector, detector._reference_rows()


def grouped(table, reference):
    """All rows, those of each class, and those of each fifth of the reference's numbers."""
    groups = table.drop(columns="size").astype(object).astype(str).mask(table.isna(), "missing")
    values = np.sort(reference["size"])
    bounds = [values[int(q * len(values))] for q in (0.2, 0.4, 0.6, 0.8)]
    fifth = [sum(x >= bound for bound in bounds) for x in table["size"]]
    return groups.assign(all="all", size=fifth)


def surprisal(row, others, by, column, levels):
    """Of the row's class in a group of other rows."""
    is_own = others[column].to_numpy() == (row[column] if row[column] in levels else "new")
    is_alike = others[by].to_numpy() == row[by]
    frequency = (is_own.sum() + 1 / (len(levels) + 1)) / (len(others) + 1)
    return -np.log(((is_own & is_alike).sum() + frequency) / (is_alike.sum() + 1))


def scores_by_loops(rows, reference, indices, *, are_same):
    """By counts of frames of groups: each class by what tells the classes of some rows best."""
    scores, some = np.zeros(len(rows)), reference.iloc[indices]
    for column in ("kind", "colour", "is_new"):
        levels = sorted(set(reference[column]))
        others = [by for by in reference if by != column]
        total = dict.fromkeys(others, 0.0)
        for by, i in product(others, some.index):
            total[by] += surprisal(some.loc[i], some.drop(i), by, column, levels)
        by = min(total, key=total.__getitem__)
        for i, (label, row) in enumerate(rows.iterrows()):
            left = reference.drop(label) if are_same else reference
            alike, is_own = left[left[by] == row[by]], left[column] == row[column]
            expected = len(alike) * is_own.mean()
            observed = (alike[column] == row[column]).sum()
            scores[i] += max(np.log((expected + 0.5) / (observed + 0.5)), 0)
    return scores


@pytest.mark.parametrize("max_reference", [2000, 30])
def test_scores_are_those_of_loops(fitted, monkeypatch, max_reference):
    """Of reference rows without themselves, and of new rows with unseen and missing classes."""
    monkeypatch.setattr(scored_rows, "MAX_REFERENCE", max_reference)
    detector, reference = fitted
    reference = ScoredRows(reference.X, reference.columns, reference.model)
    new = make_table(12, seed=1)
    new["colour"] = new["colour"].cat.add_categories("black")
    new.loc[:2, "colour"] = "black"
    new.loc[3:4, "kind"] = None
    others = reference.match(detector._validate(new).astype(float), (), may_be_new=False)
    table = grouped(make_table(), make_table())
    same = reference.match(detector._validate(make_table()).astype(float), (), may_be_new=False)
    table = table.set_index(same.reference_indices).sort_index()
    indices = spread_out(len(reference), max_reference)
    found = ClassSurprisal().score(reference)
    expected = scores_by_loops(table, table, indices, are_same=True)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    found = ClassSurprisal().score(others)
    rows = grouped(new, make_table())
    expected = scores_by_loops(rows, table, indices, are_same=False)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_table_of_equal_rows_has_no_surprises():
    equal = pd.DataFrame({"a": ["x"] * 30 + ["y"], "b": [True] * 31, "c": np.arange(31) > 29})
    detector = VAEOutlierDetector(random_state=0).fit(equal)
    np.testing.assert_allclose(ClassSurprisal().score(detector._reference_rows()), 0, atol=0.1)
    assert detector.score_samples(equal).argmin() == 30


@pytest.mark.parametrize("novelty", [True, *slow(False)])
def test_a_broken_rule_is_first_whatever_else_the_table_holds(novelty):
    """Four of 400 products have the category of another one, beside numbers and other classes.

    With ``novelty=True`` they are not among the rows of ``fit``.
    """
    rng = np.random.default_rng(1)
    product = rng.integers(0, 12, 400)
    table = pd.DataFrame(rng.lognormal(size=(400, 3)).round(2), columns=list("abc"))
    table["product"] = [f"p{k:02d}" for k in product]
    table["category"] = np.array(["food", "toys", "tools", "books"])[product // 3]
    table["country"] = rng.choice(["DE", "FR", "AT", "CH"], 400)
    table.loc[:3, "category"] = table["category"].map(
        {"food": "toys", "toys": "tools", "tools": "books", "books": "food"}
    )
    detector = VAEOutlierDetector(novelty=novelty, max_iter=3, random_state=0)
    scores = detector.fit(table[4:] if novelty else table).score_samples(table)

    assert (np.argsort(scores)[:7] < 4).sum() == 4


@pytest.mark.parametrize(("method", "least"), [("auto", 0.65), ("neighbors", 0.5)])
def test_classes_that_say_nothing_do_not_hide_wrong_numbers(method, least):
    """Eight of 400 weights are in other units, beside four columns of classes drawn by chance."""
    rng = np.random.default_rng(1)
    size = rng.normal(size=400)
    table = pd.DataFrame({"height": size + rng.normal(size=400) / 4, "length": size})
    table["weight"] = size + rng.normal(size=400) / 4
    table.loc[:7, "weight"] = 2.2 * table.loc[:7, "weight"] + 4
    for name in "abcd":
        table[name] = rng.choice(["x", "y", "z"], 400, p=[0.6, 0.35, 0.05])
    detector = VAEOutlierDetector(method=method, max_iter=10, random_state=0).fit(table)

    assert average_precision_score(np.arange(400) < 8, -detector.score_samples(table)) > least


def test_columns_of_many_classes_are_left_out():
    """Their classes are hardly ever shared, and say as little as row numbers."""
    table = make_table(300)
    table["name"] = pd.Categorical([f"n{i % 150}" for i in range(300)])
    detector = VAEOutlierDetector(max_iter=1, random_state=0).fit(table)
    without = clone(detector).fit(table.drop(columns="name"))
    assert detector._reference_rows().class_columns.tolist() == [1, 2, 3]
    scores = [ClassSurprisal().score(each._reference_rows()) for each in (detector, without)]
    np.testing.assert_allclose(*scores, rtol=1e-6)


def test_contradictions_among_training_rows_are_outliers(tmp_path):
    """One row in twenty has another country than its city's, beside numbers that say nothing."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame(rng.normal(size=(400, 4)), columns=list("abcd"))
    table["city"] = rng.choice(["oslo", "rome", "york"], 400)
    table["country"] = table["city"].map({"oslo": "norway", "rome": "italy", "york": "england"})
    table["colour"] = rng.choice(["red", "blue", "green"], 400)
    is_wrong = rng.random(400) < 0.05
    table.loc[is_wrong, "country"] = table["country"].map(
        {"norway": "italy", "italy": "england", "england": "norway"}
    )
    detector = VAEOutlierDetector(max_iter=10, random_state=0).fit(table)
    scores = detector.score_samples(table)

    assert roc_auc_score(is_wrong, -scores) > 0.9
    np.testing.assert_array_equal(reread(detector, tmp_path).score_samples(table), scores)
