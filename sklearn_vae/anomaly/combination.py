"""Several measures as one: how surprised each would be, in nats, summed."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from sklearn_vae.anomaly.scores import ScoredRows, Scorer, measured
from sklearn_vae.persistence.validation import check_array, check_number

# Share of the values whose tail is theirs; beyond, the log-values' tail is exponential.
BODY = 0.8
# Scale of that tail and least value, as share of the root mean square: ties have neither.
SMALLEST_TAIL = 1e-2
SMALLEST_VALUE = 1e-6


@dataclass(frozen=True)
class TailDistribution:
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

    def check(self) -> None:
        """Check that it can be, as when it comes from a file."""
        check_array("knots", self.knots, "f", (None,))
        check_array("shares", self.shares, "f", self.knots.shape)
        is_share = (self.shares > 0).all() and (self.shares <= 1 + 1e-6).all()
        if not len(self.knots) or not (np.diff(self.knots) > 0).all() or not is_share:
            raise ValueError("a tail must have values in order, and a share for each")
        check_number(self, "scale", self.scale, positive=True)
        check_number(self, "smallest", self.smallest, positive=True)

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
class CombinedScore:
    """Sum of the surprises, in nats, that several measures give.

    Attributes
    ----------
    measures : tuple of Scorer
        What is summed; each is first compared with its values at the reference rows.
    tails : tuple of TailDistribution
        Their distributions there.
    """

    measures: tuple[Scorer, ...]
    tails: tuple[TailDistribution, ...] = ()

    def check(self) -> None:
        """Check that it can be, as when it comes from a file."""
        if len(self.tails) != len(self.measures) or not self.tails:
            raise ValueError("there are not as many tails as measures")

    def learn(self, rows: ScoredRows, chosen: np.ndarray | None = None) -> Self:
        """Take rows as reference, or those of them whose numbers are given."""
        learned = tuple(measure.learn(rows, chosen) for measure in self.measures)
        part = rows if chosen is None else rows.part(chosen)
        tails = tuple(TailDistribution.of(part.each(measured(own, part))) for own in learned)
        return replace(self, measures=learned, tails=tails)

    def of(self, rows: ScoredRows) -> np.ndarray:
        """How strange rows are: (n,)."""
        pairs = zip(self.measures, self.tails, strict=True)
        return np.sum([tail.surprise(own.of(rows)) for own, tail in pairs], axis=0)
