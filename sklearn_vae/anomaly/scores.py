"""Anomaly scores by the model: negative log-likelihood and errors of reconstructions."""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from sklearn_vae.anomaly.base import Scorer, score_in_batches
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array, check_integer

if TYPE_CHECKING:
    from sklearn_vae.inference.predictor import Predictor

# Maximum number of draws of a loaded scorer: the memory for a row grows with them.
MAX_LOADED_DRAWS = 1 << 12
# Quantiles of a score at which its optimism is known, and decimals to which scores are equal.
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
DECIMALS = 6


@dataclass(frozen=True)
class ModelScore(Scorer):
    """Score by the model, corrected in the rows that it was fitted to.

    Attributes
    ----------
    knots, optimism : ndarray of shape (n_quantiles,)
        Quantiles of training rows' scores, and by how much these are lower than those of new rows:
        the differences of the quantiles of models that were fitted to some of the rows. They are
        interpolated between the knots.
    """

    knots: np.ndarray = field(default_factory=lambda: np.zeros(1), repr=False)
    optimism: np.ndarray = field(default_factory=lambda: np.zeros(1), repr=False)

    def check(self) -> None:
        """Validate the fields of a loaded scorer."""
        check_array("knots", self.knots, "f", (None,))
        check_array("optimism", self.optimism, "f", self.knots.shape)
        if not len(self.knots) or any((np.diff(x) < 0).any() for x in (self.knots, self.optimism)):
            raise ValueError("the optimism of a score must not fall with the score")

    def correct(self, rows: ScoredRows, scores: np.ndarray) -> tuple[Self, np.ndarray]:
        """Return a scorer with the optimism of these rows, and their scores with it: it, (n,)."""
        if not rows.folds:
            return self, scores
        differences = []
        for model, is_new in rows.folds:
            score_by, parts = partial(self.score_by, model), rows.split(is_new)
            new, old = (np.quantile(score_in_batches(score_by, part), QUANTILES) for part in parts)
            differences.append(new - old)
        optimism = np.maximum.accumulate(np.maximum(np.mean(differences, axis=0), 0))
        # of equal quantiles, as where most rows are equal, rounding would choose one
        quantiles = np.round(np.quantile(scores, QUANTILES), DECIMALS)
        knots, index, counts = np.unique(quantiles, return_inverse=True, return_counts=True)
        mean = np.bincount(index, optimism) / counts
        corrected = replace(self, knots=knots, optimism=mean)
        return corrected, scores + corrected._optimism_of(scores)

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        scores = self.score_by(rows.model, rows)
        return scores + (rows.reference_indices >= 0) * self._optimism_of(scores)

    def _optimism_of(self, scores: np.ndarray) -> np.ndarray:
        """By how much scores of training rows are too low: (n,) -> (n,)."""
        return np.interp(scores, self.knots, self.optimism)

    @abstractmethod
    def score_by(self, model: "Predictor", rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row by a model, as of a new row: (n,)."""


@serializable
@dataclass(frozen=True)
class NegativeLogLikelihood(ModelScore):
    """Negative log-density of the model, in nats and in X's units.

    With ``refines``, rows whose draws have uneven weights get more.
    """

    n_draws: int = 0
    refines: bool = True
    is_logarithmic: ClassVar[bool] = True

    def check(self) -> None:
        """Validate the fields of a loaded scorer."""
        super().check()
        check_integer(self, "n_draws", self.n_draws, 1, MAX_LOADED_DRAWS)

    def score_by(self, model: "Predictor", rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row by a model: (n,)."""
        return -model.log_density(rows.as_new, self.n_draws, refines=self.refines)


@serializable
@dataclass(frozen=True)
class ReconstructionProbability(NegativeLogLikelihood):
    """-log p(x|z) averaged over draws from q(z|x) [1]_, in nats and X's units.

    References
    ----------
    .. [1] J. An and S. Cho, "Variational Autoencoder based Anomaly Detection using
       Reconstruction Probability", SNU Data Mining Center, 2015.
    """

    def score_by(self, model: "Predictor", rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row by a model: (n,)."""
        return -model.elbo_terms(rows.as_new, self.n_draws)[0][0]


@serializable
@dataclass(frozen=True)
class ReconstructionError(ModelScore):
    """Squared distance to the reconstruction, summed over standardized columns.

    The squared residual of a class is its deviance, -2 log p, also of one that is unseen.
    """

    def score_by(self, model: "Predictor", rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row by a model: (n,)."""
        columns = model.columns
        n_unseen = columns.is_unseen(rows.as_new).sum(axis=1)
        errors = np.square(model.residuals(rows.as_new)).sum(axis=1)
        return errors - 2 * columns.log_unseen * n_unseen
