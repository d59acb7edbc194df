"""A column of the training rows, of which likelihood and units are fitted."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from sklearn_vae.data.fields import Field

if TYPE_CHECKING:
    from sklearn_vae.likelihoods import Likelihood


@dataclass(frozen=True, eq=False)
class Marginal:
    """What the encoding of a column follows.

    Attributes
    ----------
    point_masses : ndarray of shape (S,), default=empty
        Values with a probability of their own, in order.
    is_log : bool, default=False
        Whether the logarithms of the other values are normal.
    knots : ndarray of shape (n_knots, 2), default=empty
        Other values, in units of ``loc`` and ``scale``, and their normal scores, in order.
    loc, scale : float
        Location and scale of the other values; the median and the quartiles decide them where a
        far value would.
    counts : Likelihood or None
        Distribution of counts, if the values are ones.
    """

    point_masses: np.ndarray = field(default_factory=lambda: np.zeros(0))
    is_log: bool = False
    knots: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    loc: float = 0.0
    scale: float = 1.0
    counts: "Likelihood | None" = None


@dataclass(frozen=True)
class TrainingColumn:
    """A column of the training rows.

    Attributes
    ----------
    index : int
        Index of the column in X.
    values : ndarray of shape (n,)
        Its observed values, in X's units.
    weights : ndarray of shape (n,) or None
        Their sample weights.
    n_rows : float
        Number of rows of the table, by weight.
    field : Field
        Its schema. If it has categories, the values are their codes 0, 1, ...
    requested : Likelihood, type of Likelihood or None
        Request by the parameter ``likelihood``; None for "auto".
    marginal : Marginal or None
        Distribution that the encoding follows; None for a plain encoding.
    groups_levels : bool, default=True
        Whether many categories share classes.
    is_equal : ndarray of shape (n,), default=None
        Mask of values that equal another column's, if they have a point mass of their own.
    """

    index: int
    values: np.ndarray
    weights: np.ndarray | None
    n_rows: float
    field: Field
    requested: "Likelihood | type[Likelihood] | None" = None
    marginal: Marginal | None = None
    groups_levels: bool = True
    is_equal: np.ndarray | None = None

    @property
    def n_values(self) -> float:
        """Number of the values, by weight."""
        return float(len(self.values) if self.weights is None else self.weights.sum())

    def select(self, chosen: np.ndarray | slice) -> "TrainingColumn":
        """Select some of the values, by a mask, indices or a slice."""
        weights = None if self.weights is None else self.weights[chosen]
        is_equal = None if self.is_equal is None else self.is_equal[chosen]
        return replace(self, values=self.values[chosen], weights=weights, is_equal=is_equal)

    @property
    def unequal(self) -> "TrainingColumn":
        """The column without values that equal another column's."""
        return self if self.is_equal is None else self.select(~self.is_equal)
