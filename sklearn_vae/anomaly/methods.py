"""Anomaly scores by the name of the detector's ``method``."""

from sklearn_vae.anomaly.base import Scorer
from sklearn_vae.anomaly.combination import CombinedScore
from sklearn_vae.anomaly.knn import HyperplaneDistance, NeighborDistance
from sklearn_vae.anomaly.scores import (
    NegativeLogLikelihood,
    ReconstructionError,
    ReconstructionProbability,
)
from sklearn_vae.anomaly.surprisal import ClassSurprisal
from sklearn_vae.inference.constants import SCORE_DRAWS

# k of outlier detection, as a fraction of the reference rows and at least. It is to exceed the size
# of a group of outliers, which would be each other's neighbours.
NEIGHBOR_FRACTION = 0.5
MIN_NEIGHBORS = 20
# k of the hyperplane distance.
HYPERPLANE_NEIGHBORS = 8
# Draws per row of the density in the default score.
RANKING_DRAWS = 8

# A score and its weight in a sum of negative log tail probabilities.
Part = tuple[Scorer, float]
# Ranks need no exact density.
RANKING: Part = (NegativeLogLikelihood(n_draws=RANKING_DRAWS, refines=False), 1.0)
DISTANCE = NeighborDistance("deviations", MIN_NEIGHBORS, fraction=NEIGHBOR_FRACTION)
# Neighbours of clean training rows, and of those that may contain outliers in tables of numbers and
# in tables with classes.
CLEAN: tuple[Part, ...] = tuple(
    (HyperplaneDistance(space, HYPERPLANE_NEIGHBORS), 1.0) for space in ("inputs", "normal_scores")
)
NUMBERS: tuple[Part, ...] = ((DISTANCE, 1.0),)
CLASSES: tuple[Part, ...] = ((ClassSurprisal(), 0.5), (DISTANCE, 0.25))
# Scores by the model alone.
METHODS: dict[str, Scorer] = {
    "log_likelihood": NegativeLogLikelihood(n_draws=SCORE_DRAWS),
    "reconstruction": ReconstructionError(),
    "reconstruction_probability": ReconstructionProbability(n_draws=SCORE_DRAWS),
}


def find_scorer(method: str, *, novelty: bool, has_classes: bool) -> Scorer:
    """Scorer of a method, for clean training rows or contaminated ones with or without classes."""
    if method in METHODS:
        return METHODS[method]
    parts = CLEAN if novelty else CLASSES if has_classes else NUMBERS
    if method == "auto":
        parts = (RANKING, *parts)
    scorers, weights = zip(*parts, strict=True)
    return CombinedScore(scorers, weights)
