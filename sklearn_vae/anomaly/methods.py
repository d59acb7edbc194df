"""Anomaly scores by the name of the detector's ``method``."""

from sklearn_vae.anomaly.base import Scorer
from sklearn_vae.anomaly.combination import CombinedScore
from sklearn_vae.anomaly.knn import (
    HyperplaneDistance,
    NeighborDistance,
    deviations,
    inputs,
    normal_scores,
)
from sklearn_vae.anomaly.scores import (
    NegativeLogLikelihood,
    ReconstructionError,
    ReconstructionProbability,
)
from sklearn_vae.anomaly.surprisal import ClassSurprisal
from sklearn_vae.inference.constants import SCORE_DRAWS

# k of outlier detection, as a fraction of the reference rows and at least. It is to exceed the size
# of a group of outliers, which would be each other's neighbours.
NEIGHBOR_FRACTION = 0.1
MIN_NEIGHBORS = 20
# k of the hyperplane distance.
HYPERPLANE_NEIGHBORS = 8
# Draws per row of the density in the default score.
RANKING_DRAWS = 16

# A score and its weight in a sum of negative log tail probabilities.
Part = tuple[Scorer, float]
# Ranks need no exact density.
RANKING = NegativeLogLikelihood(n_draws=RANKING_DRAWS, refines=False)
# Neighbours of clean training rows, and of those that may contain outliers.
CLEAN = tuple(HyperplaneDistance(space, HYPERPLANE_NEIGHBORS) for space in (inputs, normal_scores))
CONTAMINATED = (NeighborDistance(deviations, MIN_NEIGHBORS, NEIGHBOR_FRACTION),)
# Weights in tables with classes, of the surprisal of a row's classes and of the distance. The other
# parts of a score have a weight of 1.
SURPRISAL_WEIGHT, DISTANCE_WEIGHT = 0.5, 0.25
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
    parts: tuple[Part, ...] = tuple(
        (scorer, 1.0) for scorer in (CLEAN if novelty else CONTAMINATED)
    )
    if has_classes and not novelty:
        parts = (
            (ClassSurprisal(), SURPRISAL_WEIGHT),
            *((each, DISTANCE_WEIGHT) for each, _ in parts),
        )
    if method == "auto":
        parts = (RANKING, 1.0), *parts
    scorers, weights = zip(*parts, strict=True)
    return CombinedScore(scorers, weights)
