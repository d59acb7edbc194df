"""Anomaly scores by the name of the detector's ``method``, and their combination."""

from dataclasses import dataclass, replace
from typing import Annotated, Self

import numpy as np

from sklearn_vae.anomaly.calibration import ROUNDING
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.anomaly.scores import (
    ClassSurprisal,
    HyperplaneDistance,
    NegativeLogLikelihood,
    NeighborDistance,
    ReconstructionError,
    ReconstructionProbability,
    Scorer,
    score_in_batches,
)
from sklearn_vae.inference.log_density import SCORE_DRAWS
from sklearn_vae.persistence.validation import check_number, serializable

# Fraction of the scores whose survival function is empirical; beyond, the tail is Pareto.
BODY_FRACTION = 0.8


@serializable
@dataclass(frozen=True)
class TailDistribution:
    """Survival function of a score: empirical, with a Pareto tail above the 80% quantile.

    The tail of scores that are logarithms is exponential. So is a robust one, which a few outliers
    do not change: its scale is that of the median excess.
    """

    # scores in ascending order and the fraction of reference scores at least as large; linear in
    # between, so that rounding does not change a rank
    knots: Annotated[np.ndarray, "f", "n_knots"]
    survival: Annotated[np.ndarray, "f", "n_knots"]
    threshold: float  # score at which the tail begins, of a Pareto tail its logarithm
    scale: float  # mean excess of the scores, or of their logarithms
    min_score: float  # of scores in a Pareto tail; 0 if it is exponential

    def check(self) -> None:
        """Validate the fields of a loaded distribution."""
        is_survival = (self.survival > 0).all() and (self.survival <= 1 + 1e-6).all()
        if not len(self.knots) or not (np.diff(self.knots) > 0).all() or not is_survival:
            raise ValueError("knots must ascend and survival must lie in (0, 1]")
        check_number(self, "scale", self.scale, positive=True)
        check_number(self, "min_score", self.min_score)

    @classmethod
    def fit(
        cls, scores: np.ndarray, *, is_logarithmic: bool = False, is_robust: bool = False
    ) -> Self:
        """Fit the distribution to scores of the reference rows, logarithms or at least 0: (n,)."""
        scores = np.sort(scores)
        root_mean_square = float(np.sqrt(np.square(scores).mean()))
        unit = max(1e-6 * root_mean_square, ROUNDING)  # the least score: 0 has no logarithm
        if is_logarithmic or is_robust:
            min_score, log_scores = 0.0, scores
        else:
            min_score = unit = 1.0 if root_mean_square < ROUNDING else unit
            log_scores = np.log(np.maximum(scores, min_score))
        threshold = float(np.quantile(log_scores, BODY_FRACTION))
        # of scores tied with the threshold, rounding would decide
        excess = log_scores[log_scores > threshold + ROUNDING] - threshold
        mean = (np.median(excess) / np.log(2) if is_robust else excess.mean()) if len(excess) else 0
        least = max(threshold, ROUNDING) if is_robust else 1.0
        scale = max(float(mean), 0.01 * least)  # that of ties is 0
        knots = np.unique(np.round(scores / unit)) * unit
        n_at_least = len(scores) - np.searchsorted(scores, knots - 0.5 * unit)
        return cls(knots, n_at_least / len(scores), threshold, scale, min_score)

    def negative_log_survival(self, scores: np.ndarray) -> np.ndarray:
        """Negative log tail probability, -log P(S >= s), in nats: (n,) -> (n,)."""
        survival = np.interp(scores, self.knots, self.survival)
        is_exponential = self.min_score == 0
        log_scores = scores if is_exponential else np.log(np.maximum(scores, self.min_score))
        excess = log_scores - self.threshold
        return np.maximum(excess, 0) / self.scale - np.log(np.maximum(survival, 1 - BODY_FRACTION))


@serializable
@dataclass(frozen=True)
class CombinedScore(Scorer):
    """Weighted sum of scores' negative log tail probabilities [1]_, in nats, and of scores in nats.

    Beyond the nats of the largest of n reference scores, log n without ties, the weight is 1: such
    a row is an outlier whatever its other scores are. The tail of distances with a weight below 1
    is robust, so that several such rows among the reference rows do not hide each other.

    References
    ----------
    .. [1] I. J. Good, "On the Weighted Combination of Significance Tests", Journal of the Royal
       Statistical Society B 17, 1955.
    """

    scorers: tuple[Scorer, ...]
    weights: tuple[float, ...]  # with weights of 1 the sum is that of Fisher's method
    # of each score over the reference rows, None of one in nats
    tails: tuple[TailDistribution | None, ...] = ()

    def check(self) -> None:
        """Validate the fields of a loaded scorer."""
        if len(self.tails) != len(self.scorers) or not self.tails:
            raise ValueError("a combined score must have one tail distribution per scorer")
        if len(self.weights) != len(self.scorers) or not all(0 <= w <= 1 for w in self.weights):
            raise ValueError("a combined score must have one weight from 0 to 1 per scorer")

    def fit_score(self, rows: ScoredRows) -> tuple[Self, np.ndarray]:
        """Return a scorer fitted to reference rows, and their anomaly scores (n,)."""
        # batch by batch, for all scorers share what they compute of a batch
        pairs = zip(self.scorers, score_in_batches(self._scores, rows), strict=True)
        scorers, scores = zip(*(s.correct(rows, of_rows) for s, of_rows in pairs), strict=True)
        tails = tuple(
            None
            if scorer.is_in_nats
            else TailDistribution.fit(
                score,
                is_logarithmic=scorer.is_logarithmic,
                is_robust=weight < 1 and isinstance(scorer, NeighborDistance),
            )
            for scorer, score, weight in zip(scorers, scores, self.weights, strict=True)
        )
        fitted = replace(self, scorers=scorers, tails=tails)
        return fitted, fitted._combine(np.stack(scores))

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        return self._combine(self._scores(rows))

    def _scores(self, rows: ScoredRows) -> np.ndarray:
        """Score by each scorer: (n_scorers, n)."""
        return np.stack([scorer.score(rows) for scorer in self.scorers])

    def _combine(self, scores: np.ndarray) -> np.ndarray:
        """Weighted sum of negative log tail probabilities, of scores (n_scorers, n): (n,)."""
        total = np.zeros(scores.shape[1])
        for weight, tail, score in zip(self.weights, self.tails, scores, strict=True):
            if tail is None:
                total += weight * score
                continue
            nats = tail.negative_log_survival(score)
            limit = -np.log(tail.survival[-1])
            total += weight * np.minimum(nats, limit) + np.maximum(nats - limit, 0)
        return total


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
    scorers: list[Scorer]
    if novelty:
        scorers = [HyperplaneDistance("inputs", 8), HyperplaneDistance("normal_scores", 8)]
        weights = [1.0, 1.0]
    else:
        scorers, weights = [NeighborDistance("deviations", 20)], [1.0]
        if has_classes:  # distances find gross errors, which the model has learned
            scorers = [NeighborDistance("deviations", 20, divisor=10)]
            weights = [0.0 if method == "auto" else 0.1]
    if has_classes:
        scorers, weights = [*scorers, ClassSurprisal()], [*weights, 1.0]
    if method == "auto":
        # a rank needs no exact density
        ranking = NegativeLogLikelihood(n_draws=8, refines=False, in_model_units=not novelty)
        scorers, weights = [ranking, *scorers], [1.0, *weights]
    return CombinedScore(tuple(scorers), tuple(weights))
