"""Normal scores, and surprisal of classes given the other columns."""

import numpy as np
import pytest
from scipy.stats import entropy, norm
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from sklearn_vae import VAEOutlierDetector
from sklearn_vae.anomaly import rows as scored_rows
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.anomaly.scores import ClassSurprisal
from sklearn_vae.numerics.rows import spread_out
from tests.conftest import reread

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


def make_table(n_rows=90, seed=0):
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


def scores_by_loops(rows, reference, indices):
    """By distances in the other columns alone, and scipy's entropy."""
    columns, counts = reference.class_columns, np.ones(len(reference))

    def value(x):
        return "missing" if np.isnan(x) else x

    scores = []
    for i, itself in enumerate(rows.reference_indices):
        n = counts.copy()
        n[itself] -= itself >= 0

        def mismatches(r, columns, i=i):
            return sum(value(rows.X[i, j]) != value(reference.X[r, j]) for j in columns)

        square = {r: ((rows.numbers[i] - reference.numbers[r]) ** 2).sum() for r in indices}
        distance = [square[r] + 2 * mismatches(r, columns) for r in indices]
        bandwidth = max(0.05 * np.average(distance, weights=n[indices]), 0.01)
        score = 0.0
        for j in columns:
            others = [k for k in columns if k != j]
            weights = {}
            for r in indices:
                near = np.exp(-(square[r] + 2 * mismatches(r, others)) / bandwidth)
                level = value(reference.X[r, j])
                weights[level] = weights.get(level, 0.0) + n[r] * near
            own, total = value(rows.X[i, j]), sum(weights.values())
            levels = {value(x) for x in reference.X[:, j]}
            n_own = sum(n[r] for r in range(len(n)) if value(reference.X[r, j]) == own)
            frequency = (n_own + 1 / (len(levels) + 1)) / (n.sum() + 1)
            p = 0.95 * weights.get(own, 0.0) / total + 0.05 * frequency
            score += max(-np.log(p) - entropy(list(weights.values())), 0)
        scores.append(score)
    return scores


@pytest.mark.parametrize("max_reference", [2000, 40])
def test_scores_are_those_of_loops(fitted, monkeypatch, max_reference):
    """Of reference rows without themselves, and of new rows with unseen and missing classes."""
    monkeypatch.setattr(scored_rows, "MAX_CLASS_REFERENCE", max_reference)
    detector, reference = fitted
    reference = ScoredRows(reference.X, reference.columns, reference.model)
    new = make_table(12, seed=1)
    new["colour"] = new["colour"].cat.add_categories("black")
    new.loc[:2, "colour"] = "black"
    new.loc[3:4, "kind"] = None
    others = reference.match(detector._validate(new).astype(float), (), may_be_new=False)
    indices = spread_out(len(reference), max_reference)
    for rows in (reference, others):
        expected = scores_by_loops(rows, reference, indices)
        np.testing.assert_allclose(ClassSurprisal().score(rows), expected, rtol=1e-9)
    assert np.count_nonzero(expected) > 3


def test_tables_of_equal_rows_and_of_numbers_have_no_surprises():
    equal = pd.DataFrame({"a": ["x"] * 30 + ["y"], "b": [True] * 31, "c": np.arange(31) > 29})
    rows = VAEOutlierDetector(random_state=0).fit(equal)._reference_rows()
    *common, other = ClassSurprisal().score(rows)
    assert 0 <= max(common) < 0.1 < other < np.inf
    numbers = VAEOutlierDetector(random_state=0).fit(np.random.default_rng(0).normal(size=(40, 3)))
    assert not ClassSurprisal().score(numbers._reference_rows()).any()


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
    _, in_numpy = reread(detector, tmp_path)
    np.testing.assert_allclose(in_numpy.score_samples(table), scores, atol=1e-6)
