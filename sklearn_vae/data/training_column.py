"""A column of the training rows, of which likelihood and units are fitted."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sklearn_vae.data.fields import Field

if TYPE_CHECKING:
    from sklearn_vae.likelihoods import Likelihood


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
    exact_marginal : bool, default=False
        Whether the encoding follows the distribution of the values: few or common values are
        point masses, and normal scores are fitted where they improve the density.
    is_explained : bool, default=False
        Whether linear regression on the other columns explains most of its variance.
    groups_levels : bool, default=True
        Whether many categories share classes.
    """

    index: int
    values: np.ndarray
    weights: np.ndarray | None
    n_rows: float
    field: Field
    requested: "Likelihood | type[Likelihood] | None" = None
    exact_marginal: bool = False
    is_explained: bool = False
    groups_levels: bool = True

    @property
    def n_values(self) -> float:
        """Number of the values, by weight."""
        return float(len(self.values) if self.weights is None else self.weights.sum())

    def select(self, chosen: np.ndarray | slice) -> "TrainingColumn":
        """Select some of the values, by a mask, indices or a slice."""
        weights = None if self.weights is None else self.weights[chosen]
        return replace(self, values=self.values[chosen], weights=weights)
