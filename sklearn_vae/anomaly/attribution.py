"""Which column is to blame: how the model's conditional densities share a score out."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from sklearn_vae.inference.predictor import Predictor
from sklearn_vae.persistence.validation import check_array

# Draws of codes by which a value's density given the others is computed.
N_DRAWS = 64
# Surprises beyond which none is told from another.
LARGEST = 1e300


@dataclass(frozen=True)
class AttributionBaseline:
    """What is usual among training rows, from which a row departs.

    Attributes
    ----------
    surprise : ndarray of shape (n_features,)
        Mean of -log p(x_j | the other columns), in nats.
    strangeness : float
        Mean of what is shared out.
    """

    surprise: np.ndarray
    strangeness: float

    def check(self) -> None:
        """Check that it can be, as when it comes from a file."""
        check_array("surprise", self.surprise, "f", (None,))

    @classmethod
    def of(
        cls, fitted: Predictor, X: np.ndarray, counts: np.ndarray | None, strangeness: np.ndarray
    ) -> Self:
        """Learn from rows (n, n_features) with counts, and how strange all training rows are."""
        usual = np.average(surprises(fitted, X), axis=0, weights=counts)
        return cls(usual, float(strangeness.mean()))

    def parts(self, fitted: Predictor, X: np.ndarray, strangeness: np.ndarray) -> np.ndarray:
        """Share out by how much rows are stranger than usual: (n, n_features).

        Parameters
        ----------
        fitted : Predictor
            The model.
        X : ndarray of shape (n, n_features)
            Rows in their own units.
        strangeness : ndarray of shape (n,)
            How strange each is.
        """
        return shared(strangeness - self.strangeness, surprises(fitted, X) - self.surprise)


def surprises(fitted: Predictor, X: np.ndarray) -> np.ndarray:
    """-log p(x_j | the row's other columns), in nats of the model's units: (n, n_features)."""
    columns, found = fitted.columns, np.empty(X.shape)
    with np.errstate(over="ignore"):
        found[:, columns.order] = -fitted.log_conditionals(X, N_DRAWS)
    is_known = columns.known_values(X)
    found[:, columns.is_constant] = np.where(is_known, 0.0, -columns.log_unseen)
    return np.nan_to_num(found, nan=LARGEST, posinf=LARGEST, neginf=-LARGEST)


def shared(departure: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """Parts that add up to the departure, in the order of the excess.

    A part is the departure times a share. The shares are as log(1 + exp(excess)), the excess
    itself where that is large; for a row that is less strange than usual, whose parts are
    negative, as log(1 + exp(-excess)). So the column with the largest excess has the
    largest part in both cases.

    Parameters
    ----------
    departure : ndarray of shape (n,)
        What is shared out.
    excess : ndarray of shape (n, d)
        How much more surprising each value is than its column's usually are, in nats.
    """
    sign = np.where(departure < 0, -1.0, 1.0)[:, None]
    weight = np.logaddexp(0, sign * np.clip(excess, -LARGEST, LARGEST))
    weight = np.maximum(weight, np.finfo(float).tiny)  # exp(-excess) may be 0 in all columns
    weight /= weight.max(axis=1, keepdims=True)
    return departure[:, None] * (weight / weight.sum(axis=1, keepdims=True))
