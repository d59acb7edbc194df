"""Columns of categories: one-hot encoding, and evenly spaced numbers for ordered ones.

In a data frame, ``Column.read_as`` (``data/reading.py``) has replaced them by integer codes before.
Many categories (levels) of a column are in few classes: frequent ones alone, all others in one. The
probability of a level is that of its class times the level's share in it, a constant of the table.
So a model of the classes has a probability of each level, and the levels' number costs neither
memory nor time.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import numpy as np

from sklearn_vae.data.columns.base import (
    CLASS_SQUARED_DISTANCE,
    Columns,
    Draws,
    find_in_order,
    is_category,
    one_hot,
    take_categories,
)
from sklearn_vae.data.training_column import TrainingColumn
from sklearn_vae.likelihoods import Bernoulli, Categorical, Likelihood, Ordinal
from sklearn_vae.persistence.validation import check_array, serializable

# Classes of a column of many levels, at most.
MAX_CLASSES = 256


@serializable
@dataclass(frozen=True, eq=False)
class Levels:
    """Levels of one column, with their classes."""

    values: Annotated[np.ndarray, "f", "L"]  # the levels in order
    classes: Annotated[np.ndarray, "i", "L"]  # class of each level, from 0 to C - 1
    probabilities: Annotated[np.ndarray, "f", "L"]  # probability of each level in its class

    @classmethod
    def fit(cls, values: np.ndarray, counts: np.ndarray, n_classes: int) -> Self:
        """Make the most frequent levels classes of their own, and all others one class.

        Levels (L,) are in order, ``counts`` (L,) their rows, and classes as their frequent levels.
        """
        groups = np.full(len(counts), n_classes - 1)
        groups[np.argsort(-counts, kind="stable")[: n_classes - 1]] = np.arange(n_classes - 1)
        order = np.lexsort((-counts, groups))  # the most frequent level of a group comes first
        _, first = np.unique(groups[order], return_index=True)
        classes = np.argsort(np.argsort(order[first]))[groups]
        smoothed = counts + 1  # by the rule of succession
        return cls(values, classes, smoothed / np.bincount(classes, smoothed)[classes])

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


@serializable
@dataclass(eq=False)
class CategoricalColumns(Columns):
    """Categories without an order, or the classes of many levels, one-hot encoded."""

    # (k, C), categories of each column, in order, in the dtype of the rows in ``fit``; of a column
    # with many levels, the most frequent level of each class
    categories: np.ndarray
    levels: list[Levels | None]  # of each column that has many; None if each is a class

    likelihoods: ClassVar[tuple[type, ...]] = (Categorical,)
    groups_levels: ClassVar[bool] = True

    @classmethod
    def fit(cls, column: TrainingColumn, likelihood: Any) -> Self:
        """Keep the categories, or group them if the likelihood has fewer classes."""
        index, values = np.array([column.index]), _levels_of(column)
        if len(values) <= likelihood.n_classes:
            return cls(index, likelihood, values[None], [None])
        levels = Levels.fit(values, _count(column, values), likelihood.n_classes)
        likelihood = type(likelihood)(int(levels.classes.max()) + 1)
        return cls(index, likelihood, levels.representatives[None], [levels])

    @classmethod
    def contradiction(cls, column: TrainingColumn) -> tuple[str, str] | None:
        """Return the number of classes; None if it is the requested one."""
        requested = getattr(column.requested, "n_classes", None)
        n_levels = len(_levels_of(column))
        agrees = requested in (None, n_levels)
        return None if agrees else (f"{requested} classes", f"{n_levels}")

    @classmethod
    def resolve(cls, column: TrainingColumn) -> Likelihood:
        """Return the likelihood with the requested or chosen number of classes; two are binary.

        Of more than 128 levels, those of fewer than five rows share a class.
        """
        levels = _levels_of(column)
        n_classes = len(levels)
        if n_classes == 2:
            return Bernoulli()
        groups_levels = cls.groups_levels and column.groups_levels
        if n_classes > 128 and groups_levels and not hasattr(column.requested, "n_classes"):
            n_frequent = int((_count(column, levels) >= 5).sum())
            n_classes = max(min(n_frequent + 1, MAX_CLASSES, n_classes), 2)
        return cls.likelihoods[0](n_classes)

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        super().check()
        k, n_classes = len(self.indices), self.likelihood.n_classes
        check_array("categories", self.categories, "f", (k, n_classes))
        classes: list[Any] = [0, *(levels.classes for _, levels in self._many_levels())]
        if len(self.levels) != k or not np.isin(np.hstack(classes), range(n_classes)).all():
            raise ValueError("'levels' must be classes of each column")

    def _many_levels(self) -> list[tuple[int, Levels]]:
        """Columns with many levels, by their index in ``indices``, and the levels."""
        return [(column, levels) for column, levels in enumerate(self.levels) if levels is not None]

    def values(self, column: int) -> np.ndarray:
        """Return the categories of one column, by its index in ``indices``: all its levels."""
        levels = self.levels[column]
        return self.categories[column] if levels is None else levels.values

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find values that are no categories: (n, k) -> (n, k)."""
        is_seen = is_category(X, self.categories)
        for column, levels in self._many_levels():
            is_seen[:, column] = levels.index(X[:, column]) >= 0
        return ~(np.isnan(X) | is_seen)

    def nearest(self, X: np.ndarray) -> np.ndarray:
        """Return the first category of each column."""
        return self.categories[:, 0]

    def encode(self, X: np.ndarray) -> np.ndarray:
        """One-hot encode categories, or classes of levels: (n, k) -> (n, k * C)."""
        many_levels = self._many_levels()
        X = X.copy() if many_levels else X
        for column, levels in many_levels:
            index = levels.index(X[:, column])
            category = self.categories[column, levels.classes[index]]
            X[:, column] = np.where(index >= 0, category, X[:, column])
        values = one_hot(X, self.categories, np.float64)
        values[np.isnan(X)] = np.nan
        return values.reshape(len(X), X.shape[1] * self.categories.shape[1])

    def decode(self, values: np.ndarray, rounds: np.ndarray, generator: Draws) -> np.ndarray:
        """Return the most probable categories, drawn from their classes: (n, k * C) -> (n, k)."""
        probability = values.reshape(len(values), *self.categories.shape)
        if many_levels := self._many_levels():  # of categories, not of their classes
            probability_in_class = np.ones(self.categories.shape)
            for column, levels in many_levels:
                index = levels.index(self.categories[column])
                probability_in_class[column] = levels.probabilities[index]
            probability = probability * probability_in_class
        missing = np.isnan(probability)
        codes = np.where(missing, 0, probability).argmax(axis=-1)
        X = np.where(missing.any(axis=-1), np.nan, take_categories(self.categories, codes))
        if generator is not None:
            for column, levels in many_levels:
                index = levels.index(X[:, column])
                observed = index >= 0
                X[observed, column] = levels.draw(levels.classes[index[observed]], generator)
        return X

    def log_derivative(self, X: np.ndarray) -> np.ndarray:
        """Log-probability of levels in their classes: (n, k) -> (n, k)."""
        log_prob = super().log_derivative(X)
        for column, levels in self._many_levels():
            log_prob[:, column] = np.log(levels.probabilities)[levels.index(X[:, column])]
        return log_prob


@serializable
@dataclass(eq=False)
class OrdinalColumns(CategoricalColumns):
    """Categories with an order, encoded as evenly spaced numbers from 0 to 1."""

    likelihoods: ClassVar[tuple[type, ...]] = (Ordinal,)
    groups_levels: ClassVar[bool] = False

    @property
    def distance_scale(self) -> float:
        """Ratio of standard deviations of two values with the distance of classes, and of these.

        All values are as frequent as each other.
        """
        n_classes = self.likelihood.n_classes
        return math.sqrt(3 * CLASS_SQUARED_DISTANCE * (n_classes - 1) / (n_classes + 1))

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Encode categories as numbers from 0 to 1: (n, k) -> (n, k)."""
        codes = one_hot(X, self.categories).argmax(axis=-1)
        return np.where(np.isnan(X), np.nan, codes / (self.likelihood.n_classes - 1))

    def decode(self, values: np.ndarray, rounds: np.ndarray, generator: Draws) -> np.ndarray:
        """Return the nearest categories: (n, k) -> (n, k)."""
        missing = np.isnan(values)
        codes = np.where(missing, 0, values).clip(0, 1) * (self.likelihood.n_classes - 1)
        X = take_categories(self.categories, np.rint(codes).astype(int))
        return np.where(missing, np.nan, X)


def _levels_of(column: TrainingColumn) -> np.ndarray:
    """Codes of a categorical dtype, or else the unique values: (L,)."""
    if column.field.categories is None:
        return np.unique(column.values)
    return np.arange(len(column.field.categories), dtype=column.values.dtype)


def _count(column: TrainingColumn, levels: np.ndarray) -> np.ndarray:
    """Rows of each level, by weight: (L,)."""
    index = np.searchsorted(levels, column.values)
    return np.bincount(index, column.weights, len(levels)).astype(np.float64)
