"""Many categories (levels) of a column in few classes: frequent ones alone, all others in one.

The probability of a level is that of its class times the level's share in it, a constant of the
table. So a model of the classes has a probability of each level, and the levels' number costs
neither memory nor time.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from sklearn_vae.data.columns.base import find_in_order
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array

# Columns of more levels than these have fewer classes: at most so many, one for each level of at
# least so many rows.
MANY_LEVELS = 128
MAX_CLASSES = 256
MIN_ROWS_OF_CLASS = 5
# Bounds of the logarithm of the pseudo-observations per level.
LOG_CONCENTRATION = (-7.0, 7.0)


@serializable
@dataclass(frozen=True, eq=False)
class Levels:
    """Levels of one column, with their classes."""

    values: np.ndarray  # (L,), the levels in order
    classes: np.ndarray  # (L,), class of each level, from 0 to C - 1
    probabilities: np.ndarray  # (L,), probability of each level in its class

    @classmethod
    def fit(cls, values: np.ndarray, counts: np.ndarray, n_classes: int) -> Self:
        """Make the most frequent levels classes of their own, and all others one class.

        Levels (L,) are in order; ``counts`` (L,) are the rows of each, by weight. Classes are in
        the order of their most frequent levels.
        """
        groups = np.full(len(counts), n_classes - 1)
        groups[np.argsort(-counts, kind="stable")[: n_classes - 1]] = np.arange(n_classes - 1)
        order = np.lexsort((-counts, groups))  # the most frequent level of a group comes first
        _, first = np.unique(groups[order], return_index=True)
        classes = np.argsort(np.argsort(order[first]))[groups]
        is_shared = np.bincount(classes)[classes] > 1
        smoothed = counts + concentration(counts[is_shared])
        return cls(values, classes, smoothed / np.bincount(classes, smoothed)[classes])

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        check_array("values", self.values, "f", (None,))
        check_array("classes", self.classes, "i", self.values.shape)
        check_array("probabilities", self.probabilities, "f", self.values.shape)
        if not len(self.values):
            raise ValueError("there must be levels")

    @property
    def representatives(self) -> np.ndarray:
        """Most probable level of each class, in order: (C,)."""
        order = np.lexsort((-self.probabilities, self.classes))
        return self.values[order[np.unique(self.classes[order], return_index=True)[1]]]

    def index(self, x: np.ndarray) -> np.ndarray:
        """Look up levels, -1 for others: (n,) -> (n,)."""
        return find_in_order(x, self.values)

    def draw(self, classes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw a level of each class by their probabilities: (n,) -> (n,)."""
        order = np.argsort(self.classes, kind="stable")
        cumulative = np.cumsum(self.probabilities[order])  # of class c from c to c + 1
        last = np.cumsum(np.bincount(self.classes)) - 1
        first = np.append(0, last[:-1] + 1)
        index = np.searchsorted(cumulative, classes + generator.random(len(classes)), "right")
        return self.values[order[np.clip(index, first[classes], last[classes])]]


def concentration(counts: np.ndarray) -> float:
    """Fit pseudo-observations per level by the Dirichlet-multinomial likelihood of the counts."""
    from scipy.optimize import minimize_scalar
    from scipy.special import gammaln

    if not len(counts):
        return 1.0
    unique, repeats = np.unique(counts, return_counts=True)
    total, n_levels = counts.sum(), len(counts)

    def loss(log_concentration: float) -> float:
        a = np.exp(log_concentration)
        log_prob = repeats @ (gammaln(unique + a) - gammaln(a))
        return float(gammaln(total + n_levels * a) - gammaln(n_levels * a) - log_prob)

    return float(np.exp(minimize_scalar(loss, bounds=LOG_CONCENTRATION, method="bounded").x))
