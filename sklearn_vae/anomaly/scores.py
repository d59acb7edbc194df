"""Anomaly scores: by the model, by classes, by nearest neighbours; their combinations, by name."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Self

import numpy as np

from sklearn_vae.anomaly.calibration import ROUNDING
from sklearn_vae.anomaly.rows import MAX_REFERENCE, ScoredRows
from sklearn_vae.inference.log_density import SCORE_DRAWS
from sklearn_vae.numerics.rows import NUMBERS_AT_A_TIME, batches, spread_out
from sklearn_vae.persistence.validation import check_integer, check_number, serializable

# Ridge of the hyperplane, as a fraction of the neighbours' mean squared distance from their mean.
RIDGE = 0.3
# Distances that differ by less are equal but for rounding, in standard deviations and relative.
DISTANCE_ROUNDING = 1e-13
# Fraction of the scores whose survival function is empirical; beyond, the tail is Pareto.
BODY_FRACTION = 0.8

Quantiles = Annotated[np.ndarray, "f<", "N_KNOTS"]


class Scorer(ABC):
    """Interface of anomaly scores."""

    # Whether scores are logarithms, such as of a density, or positive numbers, such as distances.
    is_logarithmic: ClassVar[bool] = False
    # Whether scores are added as they are, not by their tail probabilities.
    is_in_nats: ClassVar[bool] = False

    def fit_score(self, rows: ScoredRows) -> tuple[Self, np.ndarray]:
        """Return a scorer fitted to reference rows, and their anomaly scores (n,)."""
        return self.correct(rows, score_in_batches(self.score, rows))

    def correct(self, rows: ScoredRows, scores: np.ndarray) -> tuple[Self, np.ndarray]:
        """Return a scorer that allows for how reference rows differ from new ones: it, (n,)."""
        return self, scores

    @abstractmethod
    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row, higher is more anomalous: (n,)."""


def score_in_batches(score: Callable[[ScoredRows], np.ndarray], rows: ScoredRows) -> np.ndarray:
    """Anomaly scores of rows by a function of a batch, computed in bounded memory: (..., n)."""
    batch_size = max(NUMBERS_AT_A_TIME // max(rows.X.shape[1], rows.columns.n_columns), 1)
    scores = [score(rows.select(batch)) for batch in batches(len(rows), batch_size)]
    return np.concatenate(scores, axis=-1)


@dataclass(frozen=True)
class ModelScore(Scorer):
    """Score by the model, corrected in the rows that it was fitted to."""

    # quantiles of training rows' scores, and by how much they are lower than those of new rows: by
    # the differences of the quantiles of models that were fitted to some of the rows
    knots: Quantiles = field(default_factory=lambda: np.zeros(1), repr=False)
    optimism: Quantiles = field(default_factory=lambda: np.zeros(1), repr=False)

    def correct(self, rows: ScoredRows, scores: np.ndarray) -> tuple[Self, np.ndarray]:
        """Return a scorer with the optimism of these rows, and their scores with it: it, (n,)."""
        if not rows.folds:
            return self, scores
        differences, levels = [], (0.1, 0.3, 0.5, 0.7, 0.9)
        for model, is_new in rows.folds:
            scores_of_parts = (
                score_in_batches(self.score_as_new, part.select(spread_out(len(part), 250)))
                for part in rows.split(model, is_new)
            )
            new, old = (np.quantile(part, levels) for part in scores_of_parts)
            differences.append(new - old)
        optimism = np.maximum.accumulate(np.maximum(np.mean(differences, axis=0), 0))
        # of equal quantiles, as where most rows are equal, rounding would choose one
        quantiles = np.round(np.quantile(scores, levels), 6)
        knots, index, counts = np.unique(quantiles, return_inverse=True, return_counts=True)
        mean = np.bincount(index, optimism) / counts
        return replace(self, knots=knots, optimism=mean), scores + np.interp(scores, knots, mean)

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        scores = self.score_as_new(rows)
        optimism = np.interp(scores, self.knots, self.optimism)
        return scores + (rows.reference_indices >= 0) * optimism

    @abstractmethod
    def score_as_new(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row by the model, as of a new row: (n,)."""


@serializable
@dataclass(frozen=True)
class NegativeLogLikelihood(ModelScore):
    """Negative log-density of the model, in nats.

    It is in X's units, in which the density of a log-normal amount falls with its size, or
    ``in_model_units``, in which columns are about normal. With ``refines``, rows whose draws have
    uneven weights get more. Without, as for ranks, a missing cell has the nats that such cells of
    the reference rows have on average: else ranks would depend on holes, and these on units.
    """

    n_draws: int = 0
    refines: bool = True
    in_model_units: bool = False
    # mean of -log p(x_j | the other columns) over reference rows
    nats_of_cells: Annotated[np.ndarray, "f", "n_cells"] = field(
        default_factory=lambda: np.zeros(1), repr=False
    )
    is_logarithmic: ClassVar[bool] = True

    def check(self) -> None:
        """Validate the fields of a loaded scorer."""
        check_integer(self, "n_draws", self.n_draws, 1, 1 << 12)  # memory grows with them

    def correct(self, rows: ScoredRows, scores: np.ndarray) -> tuple[Self, np.ndarray]:
        """Return a scorer with the nats of missing cells, too, and scores with them: it, (n,)."""
        if self.refines:
            return super().correct(rows, scores)
        n_columns = rows.X.shape[1]
        X = rows.X[spread_out(len(rows), max(300 // n_columns, 1))]
        # without each column, and with all
        hidden = np.where(np.eye(n_columns + 1, n_columns, dtype=bool)[:, None], np.nan, X)
        parts = replace(rows, X=hidden.reshape(-1, n_columns), folds=(), are_new=True)
        nats = score_in_batches(self.score_as_new, parts).reshape(n_columns + 1, -1)
        is_known = ~np.isnan(X.T)
        total = ((nats[-1] - nats[:-1]) * is_known).sum(axis=1)
        fitted = replace(self, nats_of_cells=total / np.maximum(is_known.sum(axis=1), 1))
        return ModelScore.correct(fitted, rows, scores + fitted._nats_of_missing(rows.X))

    def score_as_new(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row by the model: (n,)."""
        X, model = rows.as_new, rows.model
        options = {"refines": self.refines, "in_units": not self.in_model_units}
        return self._nats_of_missing(X) - model.log_density(X, self.n_draws, **options)

    def _nats_of_missing(self, X: np.ndarray) -> np.ndarray:
        """Nats of the missing cells of each row: (n, d) -> (n,)."""
        return (np.isnan(X) * self.nats_of_cells).sum(axis=1)


@serializable
@dataclass(frozen=True)
class ReconstructionProbability(NegativeLogLikelihood):
    """-log p(x|z) averaged over draws from q(z|x) [1]_, in nats and X's units.

    References
    ----------
    .. [1] J. An and S. Cho, "Variational Autoencoder based Anomaly Detection using
       Reconstruction Probability", SNU Data Mining Center, 2015.
    """

    def score_as_new(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row by the model: (n,)."""
        return -rows.model.mean_log_prob(rows.as_new, self.n_draws)


@serializable
@dataclass(frozen=True)
class ReconstructionError(ModelScore):
    """Squared distance to the reconstruction, summed over standardized columns.

    The squared residual of a class is its deviance, -2 log p, also of one that is unseen.
    """

    def score_as_new(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row by the model: (n,)."""
        columns = rows.model.columns
        n_unseen = columns.is_unseen(rows.as_new).sum(axis=1)
        errors = np.square(rows.model.residuals(rows.as_new)).sum(axis=1)
        return errors - 2 * columns.log_unseen * n_unseen


@serializable
@dataclass(frozen=True)
class ClassSurprisal(Scorer):
    """How much rarer a row's classes are beside another column than in all rows, in nats.

    That of a class is log((e + .5) / (k + .5)), if it is positive: k of the reference rows that are
    alike in another column have it, and e are expected by its frequency in all rows. A rare class
    alone is no contradiction, as e is small. The other column is that which tells this one best, or
    none; rows of one class there are alike, or of numbers in one fifth. Nats are summed over the
    columns of Booleans and of at most 128 categories, of which there must be one. A missing value
    is a class.
    """

    is_in_nats: ClassVar[bool] = True

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        score, index = np.zeros(len(rows)), np.arange(len(rows))
        is_itself = rows.reference_indices >= 0
        for k, (best, counts) in enumerate(rows.reference.class_counts):
            own, in_group = rows.classes[:, k], counts[rows.groups[:, best]]
            in_all, alike = counts.sum(axis=0)[own], in_group[index, own]
            # without the row itself
            n_all, n_group = counts.sum() - is_itself, in_group.sum(axis=1) - is_itself
            expected = n_group * (in_all - is_itself) / n_all
            score += np.log(np.maximum((expected + 0.5) / (alike - is_itself + 0.5), 1))
        return score


@dataclass(frozen=True)
class NeighborScorer(Scorer):
    """Score by the nearest reference rows."""

    space: str  # coordinates in which distances are computed
    n_neighbors: int  # at least

    def check(self) -> None:
        """Validate the fields of a loaded scorer."""
        check_integer(self, "n_neighbors", self.n_neighbors)
        spaces = "inputs", "normal_scores", "deviations"
        if self.space not in spaces:
            raise ValueError(f"'space' must be one of {spaces}. Got {self.space!r} instead.")

    def coordinates(self, rows: ScoredRows) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of rows and of their reference: (n, f), (m, f)."""
        return getattr(rows, self.space), getattr(rows.reference, self.space)


@serializable
@dataclass(frozen=True)
class NeighborDistance(NeighborScorer):
    """Mean distance to one in ``divisor`` of the reference rows, the nearest ones.

    Half of them are more than a group of outliers, which would be each other's neighbours. At most
    2,000 of the rows are the reference, so that time is linear in the rows.
    """

    divisor: int = 2

    def check(self) -> None:
        """Validate the fields of a loaded scorer."""
        super().check()
        check_integer(self, "divisor", self.divisor)

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        from scipy.spatial.distance import cdist

        indices = spread_out(len(rows.reference), MAX_REFERENCE)
        x, reference = self.coordinates(rows)
        reference, n_reference, distances = reference[indices], len(indices), np.empty(len(x))
        k = min(max(self.n_neighbors, round(n_reference / self.divisor)), n_reference - 1)
        for batch in batches(len(x), NUMBERS_AT_A_TIME // n_reference):
            of_batch = cdist(x[batch], reference)
            of_batch[rows.reference_indices[batch, None] == indices] = np.inf
            of_batch.partition(k - 1, axis=1)
            distances[batch] = of_batch[:, :k].mean(axis=1)
        return distances


@serializable
@dataclass(frozen=True)
class HyperplaneDistance(NeighborScorer):
    """Distance to the hyperplane through the k nearest reference rows [1]_, with a ridge.

    The ridge penalizes points of the hyperplane that are far from the neighbours' mean. If more
    reference rows are tied for the last of the k places than there are, all of them are taken, as
    their mean in each of these places: the distance does not depend on the order of the rows.

    References
    ----------
    .. [1] P. Vincent and Y. Bengio, "K-Local Hyperplane and Convex Distance Nearest
       Neighbor Algorithms", NeurIPS 2001.
    """

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        from sklearn import config_context
        from sklearn.neighbors import NearestNeighbors

        (x, reference), different = self.coordinates(rows), rows.reference.different
        reference, itself = reference[different], rows.reference_indices
        itself = np.where(itself >= 0, different.searchsorted(itself), -1)
        # two more: the row itself, and one that may be tied with the last neighbour
        distances, n_found = np.empty(len(x)), min(self.n_neighbors + 2, len(reference))
        # a query cannot be interrupted
        batch_size = min(NUMBERS_AT_A_TIME // (n_found * x.shape[1]), 1 << 10)
        # by a tree, ties do not depend on the other rows of the query; "auto" has none for more
        is_wide = reference.shape[1] > 15
        with config_context(array_api_dispatch=False):
            tree = NearestNeighbors(n_neighbors=n_found, algorithm="auto" if is_wide else "kd_tree")
            tree.fit(reference)
            for batch in batches(len(x), batch_size):
                nearest = tree.kneighbors(x[batch], return_distance=False)
                neighbors = self._neighbors(x[batch], reference, itself[batch], nearest)
                distances[batch] = self.distance(x[batch], neighbors)
        return distances

    def _neighbors(
        self, x: np.ndarray, reference: np.ndarray, itself: np.ndarray, index: np.ndarray
    ) -> np.ndarray:
        """Coordinates of k of the nearest rows, with tied ones as their mean: (n, k, f).

        ``index`` (n, m) are the nearest rows, among which the row itself may be.
        """
        k = min(self.n_neighbors, len(reference) - 1)
        is_itself = index == itself[:, None]
        order = is_itself.argsort(axis=1, kind="stable")[:, :k]
        neighbors = reference[np.take_along_axis(index, order, axis=1)]
        radius = np.linalg.norm(neighbors[:, -1] - x, axis=1)
        excess = np.linalg.norm(reference[index] - x[:, None], axis=2) - radius[:, None]
        margin = DISTANCE_ROUNDING * (1 + radius[:, None])
        is_within = (excess <= margin) & ~is_itself
        is_at_radius = is_within & (excess >= -margin)
        is_tied = (is_at_radius.sum(axis=1) > 1) & (is_within.sum(axis=1) > k)
        rows = np.flatnonzero(is_tied & (radius > DISTANCE_ROUNDING))
        for batch in batches(len(rows), NUMBERS_AT_A_TIME // len(reference)):
            tied = rows[batch]
            mean, n_closer = _mean_at(x[tied], reference, itself[tied], radius[tied])
            is_closer = np.arange(k) < n_closer[:, None]
            neighbors[tied] = np.where(is_closer[:, :, None], neighbors[tied], mean[:, None])
        return neighbors

    def distance(self, x: np.ndarray, neighbors: np.ndarray) -> np.ndarray:
        """Distance of rows (n, f) to the hyperplane through their neighbours (n, k, f): (n,)."""
        mean = neighbors.mean(axis=1)
        basis, residual = neighbors - mean[:, None], x - mean
        gram = basis @ basis.transpose(0, 2, 1)  # (n, k, k)
        ridge = RIDGE * np.trace(gram, axis1=1, axis2=2) / gram.shape[1]
        # identical neighbours span nothing, but for rounding errors of their mean
        smallest = np.square(DISTANCE_ROUNDING * (1 + np.linalg.norm(mean, axis=1)))
        ridge = np.where(ridge > smallest, ridge, 1)
        gram += ridge[:, None, None] * np.eye(gram.shape[1])
        coefficients = np.linalg.solve(gram, basis @ residual[:, :, None])  # (n, k, 1)
        return np.linalg.norm(residual - (basis * coefficients).sum(axis=1), axis=1)


def _mean_at(
    x: np.ndarray, reference: np.ndarray, itself: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the reference rows at a distance, and the number of closer ones: (n, f), (n,)."""
    # all squared distances by one product; their rounding errors are less than the margin
    square, bound = np.square(x).sum(axis=1), np.square(radius)
    excess = np.square(reference).sum(axis=1) - 2 * x @ reference.T
    excess += (square - bound)[:, None]
    margin = 4 * DISTANCE_ROUNDING * (square + bound)[:, None]
    is_other = np.arange(len(reference)) != itself[:, None]
    weight = ((np.abs(excess) <= margin) & is_other).astype(float)
    n_closer = ((excess < -margin) & is_other).sum(axis=1)
    return weight @ reference / weight.sum(axis=1, keepdims=True), n_closer


# -- combination ---------------------------------------------------------------------------


@serializable
@dataclass(frozen=True)
class TailDistribution:
    """Survival function of a score: empirical, with a Pareto tail above the 80% quantile.

    The tail of scores that are logarithms is exponential. So is a robust one, which a few outliers
    do not change: its scale is that of the median excess.
    """

    # scores in ascending order and the fraction of reference scores at least as large; linear in
    # between, so that rounding does not change a rank
    knots: Quantiles
    survival: Annotated[np.ndarray, "f+", "N_KNOTS"]
    threshold: float  # score at which the tail begins, of a Pareto tail its logarithm
    scale: float  # mean excess of the scores, or of their logarithms
    min_score: float  # of scores in a Pareto tail; 0 if it is exponential

    def check(self) -> None:
        """Validate the fields of a loaded distribution."""
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
