"""Ratio of the densities of reference rows and of a model's draws, by a classifier."""

import numpy as np

from sklearn_vae.numerics.random import Stream, stream_seed
from sklearn_vae.system.threads import one_openmp_thread

# Reference rows that the classifier is fitted to, and draws for each of them, at most.
MAX_REFERENCE_ROWS = 50_000
DRAWS_PER_ROW = 3
# Fewer rows say too little about a ratio.
MIN_REFERENCE_ROWS = 100
# Draws whose ratios give the largest one. Larger ones count as this one, so that not almost all
# draws are rejected: fractions of the rows that are lost by this, at most, and of the draws that
# are accepted, at least.
N_DRAWS_OF_MAXIMUM = 10_000
MAX_LOST = 0.005
MIN_ACCEPTED = 0.02
# Categories of a column, at most: scikit-learn takes no more.
MAX_CATEGORIES = 255
# scikit-learn adds two neighbouring values.
LARGEST = 1e300


class DensityRatio:
    """Ratio of the density of reference rows to that of draws, as a rejection rule [1]_, [2]_.

    A classifier separates both kinds of rows. The log-odds of its probabilities are the
    log-ratio.

    Parameters
    ----------
    rows : ndarray of shape (n, n_features)
        Reference rows, complete but for columns that are empty in the draws, too.
    draws : ndarray of shape (m, n_features)
        Draws of the model.
    is_category : ndarray of shape (n_features,)
        Mask of the columns whose values have no order.
    seed : int
        Seed of the split into training and validation rows.

    References
    ----------
    .. [1] A. Grover et al., "Bias Correction of Learned Generative Models using Likelihood-Free
       Importance Weighting", NeurIPS 2019.
    .. [2] S. Azadi et al., "Discriminator Rejection Sampling", ICLR 2019.
    """

    def __init__(self, rows: np.ndarray, draws: np.ndarray, is_category: np.ndarray, seed: int):
        from sklearn.ensemble import HistGradientBoostingClassifier  # its import takes a while

        X = _inputs(np.concatenate([rows, draws]))
        has_codes = is_category & (X.max(axis=0) < MAX_CATEGORIES)
        is_reference = np.repeat([1, 0], [len(rows), len(draws)])
        # both kinds of rows weigh the same, so the odds of equal densities are 1
        weight = np.where(is_reference, len(draws) / len(rows), 1.0)
        self._classifier = HistGradientBoostingClassifier(
            max_iter=2_000,
            l2_regularization=100.0,
            early_stopping=True,
            n_iter_no_change=15,
            categorical_features=has_codes,
            random_state=seed,
        )
        with one_openmp_thread():
            self._classifier.fit(X, is_reference, weight)
        self._log_maximum = 0.0

    def fit_maximum(self, draws: np.ndarray) -> None:
        """Take the largest ratio from draws that the classifier has not seen: (n, n_features)."""
        log_ratio = np.sort(self.log_ratio(draws))[::-1]
        ratio = np.exp(log_ratio - log_ratio[0])
        lost = (np.cumsum(ratio) - ratio * np.arange(1, len(ratio) + 1)) / ratio.sum()
        maximum = ratio[np.flatnonzero(lost <= MAX_LOST)[-1]]
        maximum = min(maximum, ratio.mean() / MIN_ACCEPTED)
        self._log_maximum = float(log_ratio[0] + np.log(maximum))

    def log_ratio(self, rows: np.ndarray) -> np.ndarray:
        """Log-ratio of the densities, in nats: (n, n_features) -> (n,)."""
        with one_openmp_thread():
            log_odds: np.ndarray = self._classifier.decision_function(_inputs(rows))
        return log_odds

    def accepts(self, rows: np.ndarray, seed: int) -> np.ndarray:
        """Accept draws with probabilities proportional to their ratios: (n, n_features) -> (n,)."""
        generator = np.random.default_rng(stream_seed(seed, Stream.RATIO, 2))
        return self.log_ratio(rows) - self._log_maximum > -generator.exponential(size=len(rows))


def _inputs(rows: np.ndarray) -> np.ndarray:
    """Replace empty columns by 0, and the largest numbers: (n, n_features)."""
    return np.clip(np.nan_to_num(rows.astype(np.float64), nan=0.0), -LARGEST, LARGEST)
