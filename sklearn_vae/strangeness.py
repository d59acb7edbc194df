"""How strange a row is: beside reference rows, or by what a model makes of it.

Every measure has the same verbs: ``learn`` from reference rows, then ``of`` any rows, the
stranger the higher. A row that is itself one of the reference rows is measured by the
others, so that rows that were learned from and new ones have scores of one kind.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from typing import Protocol, Self

import numpy as np
from sklearn import config_context
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import gen_batches

from sklearn_vae.fitted import FittedVAE
from sklearn_vae.randomness import Stream, sobol_normal, stream_seed

# Numbers that exist at once where rows meet their neighbours.
CELLS = 1 << 22
# Nearest rows that span a hyperplane, and what keeps it from being followed far: the ridge as
# a share of the neighbours' mean squared distance from their mean.
SPANNING = 5
RIDGE = 0.1
# Share of the values whose tail is theirs; beyond, the log-values' tail is exponential.
BODY = 0.8
# Scale of that tail and least value, as share of the root mean square: ties have neither.
SMALLEST_TAIL = 1e-2
SMALLEST_VALUE = 1e-6
# Draws of noise of the denoising error.
NOISE_DRAWS = 16
# Rows that others are compared with where strange ones are looked for.
MOST_TO_CLEAN = 2000


class Rows:
    """Rows and what a fitted model makes of them, each computed when it is first asked for.

    Parameters
    ----------
    X : ndarray of shape (n, n_features), float64
        Rows in their own units.
    fitted : FittedVAE
        The model.
    beside : Rows, optional
        The reference rows; by default, these are they.
    """

    def __init__(self, X: np.ndarray, fitted: FittedVAE, beside: Self | None = None):
        self.X, self.fitted = X, fitted
        self.beside = self if beside is None else beside

    def __len__(self) -> int:
        return len(self.X)

    @cached_property
    def inputs(self) -> np.ndarray:
        """Standardised rows: (n, n_features).

        A constant column's only value is 0. Any other is the standard deviation's
        inverse of a column of which one value in n + 2 differs, by the rule of succession.
        """
        columns = self.fitted.columns
        surprise = np.exp(-columns.unseen / 2) * ~columns.known_values(self.X)
        return np.hstack([columns.encode(self.X), surprise]) + 0.0  # no -0.0

    @cached_property
    def itself(self) -> np.ndarray:
        """Place of each row among the reference rows, -1 for a new one: (n,)."""
        places = self.beside.places
        return np.array([places.get(row.tobytes(), -1) for row in self.inputs], dtype=int)

    @cached_property
    def portraits(self) -> tuple[np.ndarray, np.ndarray]:
        """Codes (M, n, l) and residuals (M, n, n_columns)."""
        return self.fitted.portraits(self.X)

    @cached_property
    def spread(self) -> np.ndarray:
        """Root mean square of the residuals: (M, 1, n_columns)."""
        spread = np.sqrt(np.square(self.portraits[1]).mean(axis=1, keepdims=True))
        return np.where(spread > 0, spread, 1)

    @cached_property
    def places(self) -> dict[bytes, int]:
        """Where each row stands, the first of equal ones, by its encoded values."""
        backwards = range(len(self) - 1, -1, -1)
        return {self.inputs[place].tobytes(): place for place in backwards}


Space = Callable[[Rows], np.ndarray]  # rows -> (M, n, f)


def inputs(rows: Rows) -> np.ndarray:
    """Standardised rows: (1, n, n_features)."""
    return rows.inputs[None]


def codes(rows: Rows) -> np.ndarray:
    """Codes of each member: (M, n, l)."""
    return rows.portraits[0]


def residuals_and_codes(rows: Rows) -> np.ndarray:
    """Standardised residuals and codes of each member: (M, n, n_columns + l)."""
    codes, residuals = rows.portraits
    return np.concatenate([residuals / rows.beside.spread, codes], axis=2)


class Measure(Protocol):
    """What every measure answers to."""

    def learn(self, rows: Rows) -> Self:
        """Take rows as reference."""

    def of(self, rows: Rows) -> np.ndarray:
        """How strange rows are: (n,), the higher the stranger."""


@dataclass(frozen=True)
class Unlikelihood:
    """Minus the log-density of the model, in nats and in X's units."""

    n_draws: int

    def learn(self, rows: Rows) -> Self:
        """Need no reference."""
        return self

    def of(self, rows: Rows) -> np.ndarray:
        """How strange rows are: (n,)."""
        return -rows.fitted.log_density(rows.X, self.n_draws)


@dataclass(frozen=True)
class Residual:
    """Squared distance to the reconstruction, summed over standardised columns.

    With noise, the encoder sees a row with noise of this standard deviation, and the
    distance is the mean over draws that all rows share.
    """

    noise: float = 0.0

    def learn(self, rows: Rows) -> Self:
        """Need no reference."""
        return self

    def of(self, rows: Rows) -> np.ndarray:
        """How strange rows are: (n,)."""
        n_columns = len(rows.fitted.columns.order)
        if not self.noise or not n_columns:
            found = [rows.portraits[1]]
        else:
            seed = stream_seed(rows.fitted.seed, Stream.INPUT)
            draws = self.noise * sobol_normal(NOISE_DRAWS, n_columns, seed)
            found = [rows.fitted.portraits(rows.X, shift)[1] for shift in draws]
        of_constants = np.square(rows.inputs[:, n_columns:]).sum(axis=1)
        return np.mean([np.square(own).sum(axis=2).mean(axis=0) for own in found], 0) + of_constants


@dataclass(frozen=True)
class Nearest:
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
    """

    space: Space
    least: int
    share: float = 0.0
    metric: str = "euclidean"
    place: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=int), repr=False)
    reference: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0)), repr=False)

    def learn(self, rows: Rows, chosen: np.ndarray | None = None) -> Self:
        """Take rows as reference, or those of them whose numbers are given."""
        chosen = np.arange(len(rows)) if chosen is None else chosen
        place = np.full(len(rows) + 1, -1)
        place[chosen] = np.arange(len(chosen))
        return replace(self, place=place, reference=self.space(rows)[:, chosen])

    def of(self, rows: Rows) -> np.ndarray:
        """How strange rows are: (n,)."""
        members = zip(self.space(rows), self.reference, strict=True)
        return np.mean([self._of_member(rows, *own) for own in members], axis=0)

    def _of_member(self, rows: Rows, x: np.ndarray, reference: np.ndarray) -> np.ndarray:
        n_near = min(max(self.least, round(self.share * len(reference))), len(reference) - 1)
        found = np.empty(len(x))
        with config_context(array_api_dispatch=False):
            tree = NearestNeighbors(n_neighbors=n_near + 1, metric=self.metric).fit(reference)
            for own in gen_batches(len(x), max(CELLS // ((n_near + 1) * x.shape[1]), 1)):
                index = tree.kneighbors(x[own], return_distance=False)
                is_itself = index == self.place[rows.itself[own], None]
                is_itself[~is_itself.any(axis=1), -1] = True
                index = index[~is_itself].reshape(-1, n_near)
                found[own] = self.distance(x[own], reference[index])
        return found

    def distance(self, x: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Distance of rows (n, f) to their neighbours (n, k, f): (n,)."""
        # not the tree's, which may depend on the rows that are asked for together
        apart = near - x[:, None]
        if self.metric == "manhattan":
            return np.abs(apart).sum(axis=2).mean(axis=1)
        return np.sqrt(np.square(apart).sum(axis=2)).mean(axis=1)


@dataclass(frozen=True)
class ToHyperplane(Nearest):
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
class Cleaned:
    """A measure whose reference leaves out the rows that another finds strangest.

    Attributes
    ----------
    measure : Nearest
        The measure.
    by : Nearest
        What finds rows strange.
    share : float
        Share of the rows that is left out.
    """

    measure: Nearest
    by: Nearest
    share: float

    def learn(self, rows: Rows) -> Self:
        """Take rows as reference."""
        # a share of the nearest can be told from part of the rows
        some = np.linspace(0, len(rows) - 1, min(len(rows), MOST_TO_CLEAN)).astype(int)
        strange = self.by.learn(rows, np.unique(some)).of(rows)
        n_kept = max(ceil((1 - self.share) * len(rows)), 2)
        kept = np.argsort(strange, kind="stable")[:n_kept]
        return replace(self, measure=self.measure.learn(rows, np.sort(kept)))

    def of(self, rows: Rows) -> np.ndarray:
        """How strange rows are: (n,)."""
        return self.measure.of(rows)


@dataclass(frozen=True)
class Tail:
    """How rarely a value as large as this occurs, from values of reference rows.

    Attributes
    ----------
    knots, shares : ndarray of shape (n_knots,)
        Values in order, and the share of values that are as large; in between it is linear,
        so that rounding of a value is no jump in its rank.
    start, scale : float
        Where the tail begins, as a logarithm, and the mean by which it is exceeded.
    smallest : float
        What smaller values are taken for in the tail.
    """

    knots: np.ndarray
    shares: np.ndarray
    start: float
    scale: float
    smallest: float

    @classmethod
    def of(cls, values: np.ndarray) -> Self:
        """Learn from the values of the reference rows: (n,), none of them negative."""
        body = np.sort(values)
        smallest = SMALLEST_VALUE * float(np.sqrt(np.square(body).mean())) or 1.0
        log_body = np.log(np.maximum(body, smallest))
        start = float(np.quantile(log_body, BODY))
        beyond = log_body[log_body > start] - start
        scale = max(float(beyond.mean()) if len(beyond) else 0.0, SMALLEST_TAIL)
        knots = np.unique(np.round(body / smallest)) * smallest
        as_large = len(body) - np.searchsorted(body, knots - 0.5 * smallest)
        return cls(knots, as_large / len(body), start, scale, smallest)

    def surprise(self, values: np.ndarray) -> np.ndarray:
        """Minus the log-probability of at least such values, in nats: (n,) -> (n,)."""
        share = np.maximum(np.interp(values, self.knots, self.shares), 1 - BODY)
        beyond = np.log(np.maximum(values, self.smallest)) - self.start
        return np.maximum(beyond, 0) / self.scale - np.log(share)


@dataclass(frozen=True)
class Together:
    """Sum of the surprises, in nats, that several measures give.

    Attributes
    ----------
    measures : tuple of Measure
        What is summed; each is first compared with its values at the reference rows.
    tails : tuple of Tail
        Their distributions there.
    """

    measures: tuple[Measure, ...]
    tails: tuple[Tail, ...] = ()

    def learn(self, rows: Rows) -> Self:
        """Take rows as reference."""
        learned = tuple(measure.learn(rows) for measure in self.measures)
        return replace(
            self, measures=learned, tails=tuple(Tail.of(own.of(rows)) for own in learned)
        )

    def of(self, rows: Rows) -> np.ndarray:
        """How strange rows are: (n,)."""
        pairs = zip(self.measures, self.tails, strict=True)
        return np.sum([tail.surprise(own.of(rows)) for own, tail in pairs], axis=0)
