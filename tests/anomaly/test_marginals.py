"""Normal scores and frequencies of values."""

from collections import Counter

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from sklearn_vae import VAEOutlierDetector
from sklearn_vae.anomaly.knn import normal_scores
from sklearn_vae.anomaly.marginals import NegativeLogFrequency
from sklearn_vae.anomaly.rows import ScoredRows

pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def table():
    """A lognormal number, a small count and a constant."""
    rng = np.random.default_rng(0)
    return np.column_stack([rng.lognormal(size=60), rng.poisson(2, 60), np.full(60, 3.0)])


@pytest.fixture(scope="module")
def predictor(table):
    return VAEOutlierDetector(max_iter=1, n_init=1, random_state=0).fit(table)._predictor()


def test_normal_scores_are_normal_quantiles_of_mid_ranks(table, predictor):
    """By scipy's ranks, where ties have their mean rank; scaled to unit variance."""
    scores = normal_scores(ScoredRows(table, predictor))[0]
    expected = norm.ppf((rankdata(table[:, :2], axis=0) - 0.5) / 60)

    np.testing.assert_allclose(scores[:, :2], expected / expected.std(axis=0))
    np.testing.assert_array_equal(scores[:, 2:], 0)


def test_normal_scores_are_linear_between_and_beyond_the_reference_values(table, predictor):
    """Beyond them, one standard deviation of the column is one, before the scaling."""
    reference = ScoredRows(table, predictor)
    first, second = np.sort(table[:, 0])[[0, 1]]
    x = np.array([first - 2 * table[:, 0].std(), first, (first + second) / 2, second])
    rows = ScoredRows(np.column_stack([x, np.full((4, 2), 3.5)]), predictor, reference)
    beyond, low, middle, high = normal_scores(rows)[0][:, 0]
    sd = norm.ppf((np.arange(60) + 0.5) / 60).std()

    assert middle == pytest.approx((low + high) / 2)
    assert low - beyond == pytest.approx(2 / sd)


def test_reference_rows_are_ranked_without_themselves(table, predictor):
    """Their normal scores are those of new rows among the 59 others."""
    reference = ScoredRows(table, predictor)
    found = normal_scores(reference.select(slice(None)))[0][:, 0]
    sd = norm.ppf((np.arange(60) + 0.5) / 60).std()
    expected = []
    for i, x in enumerate(reference.inputs[:, 0]):
        others = np.sort(np.delete(reference.inputs[:, 0], i))
        beyond = x - np.clip(x, others[0], others[-1])
        expected.append(np.interp(x, others, norm.ppf((np.arange(59) + 0.5) / 59)) + beyond)

    np.testing.assert_allclose(found, np.array(expected) / sd)


def test_frequencies_are_those_of_a_counter(table, predictor):
    """Of the other rows for a reference row, of all for a new one; -log of their product."""
    reference = ScoredRows(table, predictor)
    new = np.column_stack([table[:5, 0], [0.0, 1.0, 2.0, 50.0, np.nan], np.full(5, 4.0)])

    def oracle(row, n_own):
        nll = 0.0
        for value, column in zip(row, table.T, strict=True):
            counter = Counter(column.tolist())
            pseudo = (sum(c == 1 for c in counter.values()) + 1) / 61
            nll -= np.log((max(counter[value] - n_own, 0) + pseudo) / 61)
        return nll

    scorer = NegativeLogFrequency()
    np.testing.assert_allclose(scorer.score(reference), [oracle(row, 1) for row in table])
    np.testing.assert_allclose(
        scorer.score(ScoredRows(new, predictor, reference)), [oracle(row, 0) for row in new]
    )


@pytest.fixture(scope="module")
def passengers():
    """A fare, and a port that is sometimes missing."""
    rng = np.random.default_rng(0)
    ports = pd.Categorical(rng.choice(["Cherbourg", "Queenstown"], 60), ["Cherbourg", "Queenstown"])
    frame = pd.DataFrame({"fare": rng.lognormal(size=60), "port": ports})
    frame.loc[:19, "port"] = None
    return frame


def test_a_missing_value_is_a_value_and_categories_have_no_normal_scores(passengers):
    """It is as rare as it is among the reference rows, and categories are 0 or 1 still."""
    detector = VAEOutlierDetector(max_iter=1, n_init=1, random_state=0).fit(passengers)
    reference = detector._reference_rows()
    new = passengers.iloc[[0, 0, 59]].copy()
    new.loc[:, "fare"] = passengers["fare"].mean()
    X = detector._validate(new).astype(float)
    rows = ScoredRows(X, detector._predictor(), reference)
    score = NegativeLogFrequency().score(rows)
    n_alike = (passengers["port"] == passengers["port"].iloc[59]).sum()

    assert score[0] - score[2] == pytest.approx(np.log(n_alike / 20), abs=0.05)
    is_number = np.zeros(rows.inputs.shape[1], dtype=bool)
    is_number[reference.normal_score_knots.columns] = True
    assert is_number.sum() == 1
    np.testing.assert_array_equal(
        normal_scores(reference)[0][:, ~is_number], reference.inputs[:, ~is_number]
    )


@pytest.mark.parametrize("method", [normal_scores, NegativeLogFrequency().score])
def test_counts_are_copies(table, predictor, method):
    counts = np.arange(60) % 3 + 1
    counted = ScoredRows(table, predictor, counts=counts)
    repeated = ScoredRows(np.repeat(table, counts, axis=0), predictor)
    new = table[::7] * 1.1
    scores = [method(ScoredRows(new, predictor, reference)) for reference in (counted, repeated)]

    np.testing.assert_allclose(*scores)
