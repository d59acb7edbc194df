"""How strange a row is beside reference rows: by distances to the nearest of them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil
from types import FunctionType
from typing import Literal, Self

import numpy as np
from scipy.stats import rankdata
from sklearn import config_context
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import gen_batches

from sklearn_vae.anomaly.scores import ScoredRows, Scorer, measured
from sklearn_vae.persistence.validation import check_array, check_integer

# Numbers that exist at once where rows meet their neighbours, and rows that do: Ctrl-C waits.
CELLS = 1 << 20
ROWS = 1 << 10
# Nearest rows that span a hyperplane, and what keeps it from being followed far: the ridge as
# a share of the neighbours' mean squared distance from their mean.
SPANNING = 5
RIDGE = 0.1
# Rows that are cleaned and then compared with, and rows beside which strange ones are looked
# for: shares of the nearest are the same in part of a table, and time stays linear in its rows.
MOST_COMPARED = 5000
MOST_TO_CLEAN = 2000

Space = Callable[[ScoredRows], np.ndarray]  # rows -> (M, n, f)


def inputs(rows: ScoredRows) -> np.ndarray:
    """Standardised rows: (1, n, n_features)."""
    return rows.inputs[None]


def codes(rows: ScoredRows) -> np.ndarray:
    """Codes of each member: (M, n, l)."""
    return rows.portraits[0]


def residuals_and_codes(rows: ScoredRows) -> np.ndarray:
    """Standardised residuals and codes of each member: (M, n, n_columns + l)."""
    codes, residuals = rows.portraits
    return np.concatenate([residuals / rows.beside.spread, codes], axis=2)


@dataclass(frozen=True)
class NeighborDistance:
    """Mean distance to the nearest reference rows, averaged over members.

    Attributes
    ----------
    space : callable
        Where distances are measured.
    least, share : int, float
        How many rows: a share of the reference, but so many at least.
    metric : {"euclidean", "manhattan"}
        The distance.
    place : ndarray of shape (n + 1,)
        Each row's number in the reference, -1 for those that were not chosen, and at the
        end for new rows.
    reference : ndarray of shape (M, n_reference, f)
        Where the reference rows are.
    counts : ndarray of shape (n_reference,)
        How many rows there are of each.
    """

    space: Space
    least: int
    share: float = 0.0
    metric: Literal["euclidean", "manhattan"] = "euclidean"
    place: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=int), repr=False)
    reference: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0)), repr=False)
    counts: np.ndarray | None = field(default=None, repr=False)

    def check(self) -> None:
        """Check that it can be, as when it comes from a file."""
        check_integer(self, "least", self.least)
        check_array("reference", self.reference, "f", (None, None, None))
        check_array("place", self.place, "i", (None,))
        n_members, n_reference, n_numbers = self.reference.shape
        is_place = (self.place >= -1).all() and (self.place < n_reference).all()
        if not 0 <= self.share <= 1 or not is_place or not isinstance(self.space, FunctionType):
            raise ValueError("nearest rows must be a share of those that are there")
        is_learned, n_rows = len(self.place) > 0, n_reference
        if self.counts is not None:
            check_array("counts", self.counts, "i", (n_reference,))
            n_rows = int(self.counts.sum()) if (self.counts > 0).all() else 0
        if is_learned and min(n_members, n_rows - 1, n_numbers) < 1:
            raise ValueError("there are no rows to be near to")
        if self._n_near(n_rows) * n_numbers > max(2 * CELLS, n_reference * n_numbers):
            raise ValueError("there are too many copies of rows")

    def learn(self, rows: ScoredRows, chosen: np.ndarray | None = None) -> Self:
        """Take rows as reference, or those of them whose numbers are given."""
        chosen = np.arange(len(rows)) if chosen is None else chosen
        place = np.full(len(rows) + 1, -1)
        place[chosen] = np.arange(len(chosen))
        part = rows.part(chosen)
        return replace(self, place=place, reference=self.space(part), counts=part.counts)

    def of(self, rows: ScoredRows) -> np.ndarray:
        """How strange rows are: (n,)."""
        if len(self.place) != len(rows.beside) + 1:
            raise ValueError("the rows beside are not those of the reference")
        members = zip(self.space(rows), self.reference, strict=True)
        found = np.stack([self._of_member(rows, *own) for own in members])
        return found[0] if len(found) == 1 else rows.mean(found)

    def _n_near(self, n_rows: int) -> int:
        """How many of so many rows are near, one of which may be the row itself."""
        return min(max(self.least, round(self.share * n_rows)), n_rows - 1)

    def _of_member(self, rows: ScoredRows, x: np.ndarray, reference: np.ndarray) -> np.ndarray:
        counts = np.ones(len(reference), dtype=int) if self.counts is None else self.counts
        n_near = self._n_near(int(counts.sum()))
        n_asked = min(n_near + 1, len(reference))
        found = np.empty(len(x))
        with config_context(array_api_dispatch=False):
            tree = NearestNeighbors(n_neighbors=n_asked, metric=self.metric).fit(reference)
            rows_per_chunk = min(max(CELLS // ((n_near + 1) * x.shape[1]), 1), ROWS)
            for own in gen_batches(len(x), rows_per_chunk):
                index = tree.kneighbors(x[own], return_distance=False)
                n_others = counts[index] - (index == self.place[rows.itself[own], None])
                # the nearest first, until they are enough
                n_taken = np.diff(np.minimum(n_others.cumsum(axis=1), n_near), prepend=0)
                near = np.repeat(index.ravel(), n_taken.ravel()).reshape(-1, n_near)
                found[own] = self.distance(x[own], reference[near])
        return found

    def distance(self, x: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Distance of rows (n, f) to their neighbours (n, k, f): (n,)."""
        # not the tree's, which may depend on the rows that are asked for together
        apart = near - x[:, None]
        if self.metric == "manhattan":
            return np.abs(apart).sum(axis=2).mean(axis=1)
        return np.sqrt(np.square(apart).sum(axis=2)).mean(axis=1)


@dataclass(frozen=True)
class HyperplaneDistance(NeighborDistance):
    """Distance to the plane through the nearest reference rows, not far from their mean.

    References
    ----------
    .. [1] P. Vincent and Y. Bengio, "K-Local Hyperplane and Convex Distance Nearest
       Neighbor Algorithms", NeurIPS 2001.
    """

    def distance(self, x: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Distance of rows (n, f) to the plane through rows (n, k, f): (n,)."""
        centre = near.mean(axis=1)
        spanning, apart = near - centre[:, None], x - centre
        gram = spanning @ spanning.transpose(0, 2, 1)  # (n, k, k)
        ridge = RIDGE * np.trace(gram, axis1=1, axis2=2) / gram.shape[1]
        ridge = np.where(ridge > 0, ridge, 1)  # neighbours that are all alike span nothing
        gram += ridge[:, None, None] * np.eye(gram.shape[1])
        along = np.linalg.solve(gram, spanning @ apart[:, :, None])  # (n, k, 1)
        return np.linalg.norm(apart - (spanning * along).sum(axis=1), axis=1)


@dataclass(frozen=True)
class FilteredReference:
    """A measure whose reference leaves out the rows that others find strangest.

    Attributes
    ----------
    measure : Scorer
        The measure.
    by : tuple of Scorer
        What finds rows strange: by the sum of their ranks.
    share : float
        Share of the rows that is left out.
    """

    measure: Scorer
    by: tuple[Scorer, ...]
    share: float

    def learn(self, rows: ScoredRows, chosen: np.ndarray | None = None) -> Self:
        """Take rows as reference."""
        some = spread(np.arange(len(rows)) if chosen is None else chosen, MOST_COMPARED)
        part, beside = rows.part(some), spread(some, MOST_TO_CLEAN)
        ranks = [rankdata(measured(own.learn(rows, beside), part)) for own in self.by]
        order = np.argsort(np.sum(ranks, axis=0), kind="stable")
        counts = np.ones(len(some), dtype=int) if part.counts is None else part.counts
        n_rows = counts[order].cumsum()
        n_kept = max(int(np.searchsorted(n_rows, ceil((1 - self.share) * n_rows[-1]))) + 1, 2)
        return replace(self, measure=self.measure.learn(rows, np.sort(some[order[:n_kept]])))

    def of(self, rows: ScoredRows) -> np.ndarray:
        """How strange rows are: (n,)."""
        return self.measure.of(rows)


def spread(numbers: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the numbers, evenly spread over them."""
    places = np.linspace(0, len(numbers) - 1, min(len(numbers), most)).astype(int)
    return numbers[np.unique(places)]
