"""Densities, codes and samples without y of a model of p(x|y), by averages over the classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_vae.inference.log_density import SCORE_DRAWS
from sklearn_vae.numerics.array_api import softmax
from sklearn_vae.numerics.random import Stream, stream_seed


@dataclass(frozen=True)
class ClassMarginal:
    """The marginal density p(x), the sum of p(y) p(x|y) over the classes y."""

    predictor: Any  # FittedVAE of p(x|y), whose rows end with the code of their class
    class_prior: np.ndarray  # (n_classes,), p(y)

    def joint_log_density(self, X: np.ndarray, n_draws: int, scrambling: int = 0) -> np.ndarray:
        """Log p(x|y) + log p(y), in nats: (n, n_features) -> (n, n_classes)."""
        with np.errstate(divide="ignore"):
            log_prior = np.log(self.class_prior).astype(X.dtype)
        log_density = [
            self.predictor.log_density(_append_code(X, code), n_draws, scrambling)
            for code in range(len(log_prior))
        ]
        return np.stack(log_density, axis=1) + log_prior

    def log_density(self, X: np.ndarray, n_draws: int, scrambling: int = 0) -> np.ndarray:
        """Log p(x), in nats: (n, n_features) -> (n,)."""
        return np.logaddexp.reduce(self.joint_log_density(X, n_draws, scrambling), axis=1)

    def codes(self, X: np.ndarray) -> np.ndarray:
        """Mean of q(z|x, y) over p(y|x): (n, n_features) -> (n, l)."""
        probability = softmax(self.joint_log_density(X, SCORE_DRAWS), 1)
        return sum(
            weight[:, None] * self.predictor.codes(_append_code(X, code))
            for code, weight in enumerate(probability.T)
        )

    def sample(self, n_samples: int, seed: int, dtype: np.dtype) -> np.ndarray:
        """Draw rows from p(x), each of a class drawn from p(y): (n_samples, n_features)."""
        codes = self._draw_classes(self.class_prior, n_samples, seed)
        return self.predictor.sample(n_samples, seed, dtype, codes.astype(dtype))

    def sample_given(self, row: np.ndarray, n_samples: int, seed: int) -> np.ndarray:
        """Draw rows given the values of one row (n_features,) that are not NaN."""
        joint = self.joint_log_density(row[None], SCORE_DRAWS)[0].astype(np.float64)
        codes = self._draw_classes(softmax(joint, 0), n_samples, seed)
        return self.predictor.sample_given(row, n_samples, seed, codes.astype(row.dtype))

    def _draw_classes(self, p: np.ndarray, n_samples: int, seed: int) -> np.ndarray:
        generator = np.random.default_rng(stream_seed(seed, Stream.SAMPLE))
        return generator.choice(len(p), n_samples, p=p)[:, None]


def _append_code(X: np.ndarray, code: int) -> np.ndarray:
    """Append the code of one class to all rows: (n, n_features) -> (n, n_features + 1)."""
    return np.hstack([X, np.full((len(X), 1), code, X.dtype)])
