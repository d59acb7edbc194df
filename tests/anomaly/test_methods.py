"""Scores by the name of a method, negative log tail probabilities and their sum."""

import numpy as np
import pytest
from scipy import stats

from sklearn_vae import VAEOutlierDetector
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.anomaly.scores import (
    METHODS,
    CombinedScore,
    HyperplaneDistance,
    NeighborDistance,
    TailDistribution,
    find_scorer,
)

MODEL = "NegativeLogLikelihood"


def test_the_survival_function_is_the_empirical_one_in_the_body():
    """scipy's empirical survival function, counting ties as at least as large."""
    scores = np.random.default_rng(0).integers(1, 30, size=200).astype(float)
    tail = TailDistribution.fit(scores)
    body = np.unique(scores[scores <= np.quantile(scores, 0.7)])
    expected = [(scores >= score).mean() for score in body]

    np.testing.assert_allclose(np.exp(-tail.negative_log_survival(body)), expected, rtol=1e-6)


def test_the_tail_of_pareto_scores_is_pareto():
    """log P(S >= s) is linear in log s, with the shape parameter as its slope."""
    shape = 3.0
    scores = stats.pareto(shape).rvs(20_000, random_state=0)
    tail = TailDistribution.fit(scores)
    far = np.array([5.0, 50.0, 5e3])

    np.testing.assert_allclose(
        tail.negative_log_survival(far), -stats.pareto(shape).logsf(far), rtol=0.05
    )


def test_tied_scores_have_a_finite_negative_log_survival():
    """All scores zero, or all equal: neither has a scale."""
    for scores in (np.zeros(20), np.ones(20)):
        found = TailDistribution.fit(scores).negative_log_survival(np.array([0.0, 1.0, 1e300]))

        assert np.isfinite(found).all()
        assert (np.diff(found) >= 0).all()


def test_rounding_errors_of_distances_of_zero_count_as_zero():
    """The Pareto tail of distances of 1e-17 would give one of 1e-16 a score of 230 nats."""
    errors = 1e-17 * np.arange(20)
    exact, rounded = TailDistribution.fit(np.zeros(20)), TailDistribution.fit(errors)
    scores = np.array([0.0, 1e-16, 0.5, 3.0])

    np.testing.assert_array_equal(
        rounded.negative_log_survival(scores), exact.negative_log_survival(scores)
    )


def test_rounding_errors_of_scores_tied_with_the_threshold_change_nothing():
    """They are not in the tail, whether above or below by rounding."""
    scores = np.repeat(np.arange(1.0, 8.0), 30)
    signs = np.random.default_rng(0).choice([-1, 1], len(scores), p=[0.8, 0.2])
    exact, rounded = TailDistribution.fit(scores), TailDistribution.fit(scores + 1e-14 * signs)
    new = np.linspace(0, 20, 50)

    np.testing.assert_allclose(
        rounded.negative_log_survival(new), exact.negative_log_survival(new), atol=1e-6
    )


def test_the_robust_tail_of_exponential_scores_is_exponential():
    """A few scores far out would change its mean excess, not the median."""
    scores = stats.expon.rvs(size=20_000, random_state=0)
    scores[:100] += 100.0
    tail = TailDistribution.fit(scores, is_robust=True)
    far = np.array([3.0, 10.0, 30.0])

    np.testing.assert_allclose(tail.negative_log_survival(far), far, rtol=0.05)


@pytest.mark.parametrize("weights", [(1.0, 0.5), (1.0, 1.0)])
def test_a_combined_score_is_the_weighted_sum_of_negative_log_survivals(weights):
    """Of two distances, but beyond the log of the number of rows."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    X[:2] *= 8
    detector = VAEOutlierDetector(max_iter=1, random_state=0).fit(X)
    rows = ScoredRows(X, detector.distance_encoder_, detector.estimator_._predictor())
    scorers = (HyperplaneDistance("inputs", 1), NeighborDistance("inputs", 5))
    combined = CombinedScore(scorers, weights).fit_score(rows)[0]
    scores = [scorer.score(rows) for scorer in scorers]
    nats = np.array(
        [
            TailDistribution.fit(score, is_robust=weight < 1).negative_log_survival(score)
            for score, weight in zip(scores, weights, strict=True)
        ]
    )
    beyond = np.maximum(nats - np.log(60), 0)
    expected = weights @ (nats - beyond) + beyond.sum(axis=0)
    assert beyond.any(axis=1).all()

    np.testing.assert_allclose(combined.score(rows), expected)


def test_a_combined_score_needs_a_tail_and_a_positive_weight_per_scorer():
    """As a loaded file might not have them."""
    tail = TailDistribution.fit(np.arange(1.0, 9))
    with pytest.raises(ValueError, match="one tail distribution per scorer"):
        CombinedScore((), ()).check()
    with pytest.raises(ValueError, match="one weight from 0 to 1 per scorer"):
        CombinedScore((NeighborDistance("inputs", 1),), (-0.1,), (tail,)).check()


@pytest.mark.parametrize(
    ("novelty", "has_classes", "parts"),
    [
        (True, False, {MODEL: 1, "HyperplaneDistance": 2}),
        (True, True, {MODEL: 1, "ClassSurprisal": 1, "HyperplaneDistance": 2}),
        (False, False, {MODEL: 1, "NeighborDistance": 1}),
        (False, True, {MODEL: 1, "ClassSurprisal": 1, "NeighborDistance": 0}),
    ],
)
def test_the_default_score_is_of_the_model_and_of_neighbors(novelty, has_classes, parts):
    """Weights by kind of part; without the model it is the score of neighbours."""
    alone = {name: weight or 0.1 for name, weight in parts.items()} | {MODEL: 0}
    for method, expected in (("auto", parts), ("neighbors", alone)):
        scorer = find_scorer(method, novelty=novelty, has_classes=has_classes)
        weights = dict.fromkeys(expected, 0.0)
        for part, weight in zip(scorer.scorers, scorer.weights, strict=True):
            weights[type(part).__name__] += weight

        assert weights == expected


@pytest.mark.parametrize("method", METHODS)
def test_a_method_of_the_model_is_one_score(method):
    assert not isinstance(find_scorer(method, novelty=False, has_classes=True), CombinedScore)
