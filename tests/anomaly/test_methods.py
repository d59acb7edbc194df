"""Scores by the name of a method."""

import pytest

from sklearn_vae.anomaly.combination import CombinedScore
from sklearn_vae.anomaly.methods import METHODS, find_scorer

MODEL = "NegativeLogLikelihood"


@pytest.mark.parametrize(
    ("novelty", "has_classes", "parts"),
    [
        (True, False, {MODEL: 1, "HyperplaneDistance": 2}),
        (True, True, {MODEL: 1, "HyperplaneDistance": 2}),
        (False, False, {MODEL: 1, "NeighborDistance": 1}),
        (False, True, {MODEL: 1, "ClassSurprisal": 0.5, "NeighborDistance": 0.25}),
    ],
)
def test_the_default_score_is_of_the_model_and_of_neighbors(novelty, has_classes, parts):
    """Weights by kind of part; without the model it is the score of neighbours."""
    for method, expected in (("auto", parts), ("neighbors", {**parts, MODEL: 0})):
        scorer = find_scorer(method, novelty=novelty, has_classes=has_classes)
        weights = dict.fromkeys(expected, 0.0)
        for part, weight in zip(scorer.scorers, scorer.weights, strict=True):
            weights[type(part).__name__] += weight

        assert weights == expected


@pytest.mark.parametrize("method", METHODS)
def test_a_method_of_the_model_is_one_score(method):
    assert not isinstance(find_scorer(method, novelty=False, has_classes=True), CombinedScore)
