"""The marginal density p(x) of a model of p(x|y), and its class probabilities p(y|x)."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from sklearn_vae.inference.log_density import SCORE_DRAWS
from sklearn_vae.inference.predictor import Predictor
from sklearn_vae.random import Stream, stream_seed


@dataclass(frozen=True)
class ClassMarginal:
    """What a model of p(x|y) says where y is not known: the mean over classes.

    Attributes
    ----------
    fitted : Predictor
        The model, of rows with the places of their classes in the last column.
    share : ndarray of shape (n_classes,)
        Probability of each class.
    """

    fitted: Predictor
    share: np.ndarray

    def by_class(self, X: np.ndarray, n_draws: int, scrambling: int = 0) -> np.ndarray:
        """Log p(x|y) + log p(y), in nats: (n, n_features) -> (n, n_classes)."""
        with np.errstate(divide="ignore"):
            log_share = np.log(self.share)
        scores = [
            self.fitted.log_density(_beside(X, place), n_draws, scrambling)
            for place in range(len(log_share))
        ]
        return np.stack(scores, axis=1) + log_share.astype(X.dtype)

    def log_density(self, X: np.ndarray, n_draws: int, scrambling: int = 0) -> np.ndarray:
        """Log p(x), in nats: (n, n_features) -> (n,)."""
        return logsumexp(self.by_class(X, n_draws, scrambling), axis=1)

    def codes(self, X: np.ndarray) -> np.ndarray:
        """Mean of q(z|x, y) over p(y|x): (n, n_features) -> (n, l)."""
        joint = self.by_class(X, SCORE_DRAWS)
        posterior = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        given = (self.fitted.codes(_beside(X, place)) for place in range(len(self.share)))
        return sum(own * code for own, code in zip(posterior.T[..., None], given, strict=True))

    def sample(self, n_samples: int, seed: int, dtype: np.dtype) -> np.ndarray:
        """Rows drawn from p(x): (n_samples, n_features)."""
        generator = np.random.default_rng(stream_seed(seed, Stream.SAMPLE))
        drawn = generator.choice(len(self.share), n_samples, p=self.share)
        return self.fitted.sample(n_samples, seed, dtype, drawn[:, None].astype(dtype))


def _beside(X: np.ndarray, place: int) -> np.ndarray:
    """Rows of one class: (n, n_features) -> (n, n_features + 1)."""
    return np.hstack([X, np.full((len(X), 1), place, X.dtype)])
