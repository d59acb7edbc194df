"""Anomaly scores of a fitted model: log-likelihood and ELBO."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from sklearn_vae.anomaly.base import Scorer
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_integer

# Maximum number of draws of a loaded scorer: the memory for a row grows with them.
MAX_LOADED_DRAWS = 1 << 12


@dataclass(frozen=True)
class _ScoreByDraws(Scorer):
    """Score that is a mean over draws of z."""

    n_draws: int

    def check(self) -> None:
        """Validate the fields of a loaded scorer."""
        check_integer(self, "n_draws", self.n_draws, 1, MAX_LOADED_DRAWS)


@serializable
@dataclass(frozen=True)
class NegativeLogLikelihood(_ScoreByDraws):
    """Negative log-density of the model, in nats and in X's units."""

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        log_density = rows.predictor.log_density_per_member(rows.X, self.n_draws)  # (M, n)
        log_sum = logsumexp(log_density, axis=0, b=rows.scoring_members)
        return np.log(rows.scoring_members.sum(axis=0)) - log_sum


@serializable
@dataclass(frozen=True)
class NegativeELBO(_ScoreByDraws):
    """Negative evidence lower bound, or its reconstruction term alone, in nats and X's units.

    The reconstruction term is -log p(x|z) averaged over draws from q(z|x), the reconstruction
    probability [1]_.

    References
    ----------
    .. [1] J. An and S. Cho, "Variational Autoencoder based Anomaly Detection using
       Reconstruction Probability", SNU Data Mining Center, 2015.
    """

    with_kl: bool = True

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        log_prob, kl = rows.predictor.elbo_terms(rows.X, self.n_draws)
        return rows.mean_over_members(kl - log_prob if self.with_kl else -log_prob)
