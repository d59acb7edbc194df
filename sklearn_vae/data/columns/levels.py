"""Many categories (levels) of a column in few classes: frequent ones alone, others in groups.

The probability of a level is that of its class times the level's share in it, a constant of the
table. So a model of the classes has a probability of each level, and the levels' number costs
neither memory nor time.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

from sklearn_vae.data.columns.base import in_coarser_dtype

# Columns of more levels than these have so many classes.
MAX_CLASSES = 128
# Rows of a level from which on it may be a class of its own.
MIN_ROWS_OF_CLASS = 10
# Groups of levels whose rows are alike, at most.
MAX_GROUPS = 32
# Effects of levels on other columns that are kept, at most, and how many standard errors they must
# exceed those by chance.
MAX_EFFECTS = 64
STANDARD_ERRORS = 3
# Variance within levels is at least so much of a column's.
MIN_WITHIN = 1e-4
# Levels in k-means, at most, and its iterations.
MAX_CLUSTERED = 10_000
MAX_ITER = 30
# Bounds of the logarithm of the pseudo-observations per level.
LOG_CONCENTRATION = (-7.0, 7.0)


@dataclass(frozen=True, eq=False)
class Levels:
    """Levels of one column, with their classes.

    Attributes
    ----------
    values : ndarray of shape (L,)
        The levels, in order.
    classes : ndarray of shape (L,)
        Class of each level, from 0 to C - 1.
    probabilities : ndarray of shape (L,)
        Probability of each level in its class.
    """

    values: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def from_groups(cls, values: np.ndarray, counts: np.ndarray, groups: np.ndarray) -> Self:
        """Fit the probabilities of levels in groups, numbered by their most frequent levels.

        Levels (L,) are in order; ``counts`` (L,) are the rows of each, by weight, and ``groups``
        (L,) have any numbering without gaps.
        """
        order = np.lexsort((-counts, groups))  # the most frequent level of a group comes first
        _, first = np.unique(groups[order], return_index=True)
        classes = np.argsort(np.argsort(order[first]))[groups]
        is_shared = np.bincount(classes)[classes] > 1
        smoothed = counts + concentration(counts[is_shared])
        return cls(values, classes, smoothed / np.bincount(classes, smoothed)[classes])

    @property
    def representatives(self) -> np.ndarray:
        """Most probable level of each class, in order: (C,)."""
        order = np.lexsort((-self.probabilities, self.classes))
        return self.values[order[np.unique(self.classes[order], return_index=True)[1]]]

    def index(self, x: np.ndarray) -> np.ndarray:
        """Look up levels, compared in the coarser of the two dtypes, -1 for others: (n,)."""
        x, values = in_coarser_dtype(x, self.values)
        index = np.searchsorted(values, x).clip(max=len(values) - 1)
        return np.where(values[index] == x, index, -1)

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


def count_classes(counts: np.ndarray) -> int:
    """Choose the number of classes of levels without an order, of which there are many."""
    n_frequent = int((counts >= MIN_ROWS_OF_CLASS).sum())
    return max(min(n_frequent + 1, MAX_CLASSES), 2)


def group_by_frequency(counts: np.ndarray, n_classes: int) -> np.ndarray:
    """Make the most frequent levels classes of their own, and the others one group: (L,)."""
    groups = np.full(len(counts), n_classes - 1)
    frequent = np.argsort(-counts, kind="stable")[: n_classes - 1]
    groups[frequent] = np.arange(n_classes - 1)
    return groups


def group_by_effects(counts: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """Make frequent levels classes of their own, and group others by their effects: (L,).

    ``counts`` (L,) are the rows of each level, ``effects`` (L, p) those of ``level_effects``.
    """
    from sklearn import config_context
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    order = np.argsort(-counts, kind="stable")
    n_frequent = int((counts >= MIN_ROWS_OF_CLASS).sum())
    n_alone = min(MAX_CLASSES - MAX_GROUPS, n_frequent)
    rare = order[n_alone:]
    kmeans = KMeans(MAX_GROUPS, n_init=1, max_iter=MAX_ITER, random_state=0)
    with warnings.catch_warnings(), config_context(array_api_dispatch=False):
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer distinct effects
        common = rare[:MAX_CLUSTERED]
        kmeans.fit(effects[common], sample_weight=counts[common] + 1e-6)
        clusters = kmeans.predict(effects[rare])
    groups = np.empty(len(counts), dtype=int)
    groups[order[:n_alone]] = np.arange(n_alone)
    groups[rare] = n_alone + np.unique(clusters, return_inverse=True)[1]
    return groups


def level_effects(
    index: np.ndarray, weights: np.ndarray, n_levels: int, others: Iterable[np.ndarray]
) -> np.ndarray:
    """Estimate the effects of levels on the means of other columns, the strongest ones: (L, p).

    Rows have the levels ``index`` (n,), and other columns (n,) are NaN where values are missing.
    Effects are in standard deviations within levels, shrunk towards 0 as the best linear
    predictors of random effects are.
    """
    strengths, effects = [], []
    for values in others:
        strength, effect = _random_effect(index, weights, n_levels, values)
        if effect is not None:
            strengths.append(strength)
            effects.append(effect)
            if len(effects) > MAX_EFFECTS:
                weakest = int(np.argmin(strengths))
                del strengths[weakest], effects[weakest]
    return np.stack(effects, axis=1) if effects else np.zeros((n_levels, 0))


def _random_effect(
    index: np.ndarray, weights: np.ndarray, n_levels: int, values: np.ndarray
) -> tuple[float, np.ndarray | None]:
    """Variance between levels over that within, and effects (L,); None if it may be by chance."""
    observed = ~np.isnan(values)
    index, weights, values = index[observed], weights[observed], values[observed]
    totals = np.bincount(index, weights, n_levels)
    n_between, n_within = (totals > 0).sum() - 1, weights.sum() - (totals > 0).sum()
    if min(n_between, n_within) < 1:
        return 0.0, None
    values = values - np.average(values, weights=weights)
    means = np.bincount(index, weights * values, n_levels) / np.maximum(totals, 1e-12)
    total, between = weights @ np.square(values), totals @ np.square(means)
    within = max((total - between) / n_within, MIN_WITHIN * total / weights.sum())
    excess = between / n_between - within
    by_chance = STANDARD_ERRORS * within * np.sqrt(2 / n_between + 2 / n_within)
    if not excess > by_chance:
        return 0.0, None
    rows_per_level = (totals.sum() - np.square(totals).sum() / totals.sum()) / n_between
    variance = excess / rows_per_level
    shrunk = means * (variance * totals / (variance * totals + within))
    return float(variance / within), shrunk / np.sqrt(within)


def group_in_order(counts: np.ndarray, n_classes: int) -> np.ndarray:
    """Group adjacent ones of ordered levels, with about as many rows in each group: (L,)."""
    position, total = np.arange(len(counts)), counts.sum()
    groups = ((counts.cumsum() - counts / 2) * (n_classes / total)).astype(int)
    groups = np.minimum(np.diff(groups, prepend=groups[:1]), 1).cumsum()
    # each group has a level: the last ones one each, if need be
    return np.maximum(groups.clip(max=n_classes - 1), n_classes - len(counts) + position)
