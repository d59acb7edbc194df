"""How strange a row is: what all measures have in common, and those by a model alone.

Every measure has the same verbs: ``learn`` from reference rows, then ``of`` any rows, the
stranger the higher. A row that is itself one of the reference rows is measured by the
other rows and by the members that have not learned from it, so that rows that were learned
from and new ones have scores of one kind.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self, runtime_checkable

import numpy as np
import torch
from scipy.special import logsumexp
from sklearn.utils import gen_batches

from sklearn_vae.inference.predictor import Predictor
from sklearn_vae.persistence.validation import check_integer, check_number
from sklearn_vae.random import MOST_DRAWS, Stream, make_generator, sobol_normal, stream_seed

# Draws of noise of the denoising error.
NOISE_DRAWS = 16
# Parts into which columns are divided, of which one is hidden at a time.
HIDDEN_PARTS = 8
# Codes and residuals that exist at once where rows are measured.
NUMBERS_AT_ONCE = 1 << 20


class ScoredRows:
    """Rows and what a fitted model makes of them, each computed when it is first asked for.

    Parameters
    ----------
    X : ndarray of shape (n, n_features), float64
        Rows in their own units.
    fitted : Predictor
        The model.
    beside : Rows, optional
        The reference rows; by default, these are they.
    left_out : ndarray of shape (M, n), bool, optional
        Of reference rows, which of them each member has not learned from.
    counts : ndarray of shape (n,), int, optional
        How many rows there are of each; one by default.
    """

    def __init__(
        self,
        X: np.ndarray,
        fitted: Predictor,
        beside: Self | None = None,
        left_out: np.ndarray | None = None,
        counts: np.ndarray | None = None,
    ):
        self.X, self.fitted = X, fitted
        self.beside = self if beside is None else beside
        self.left_out, self.counts = left_out, counts

    def __len__(self) -> int:
        return len(self.X)

    def part(self, chosen: np.ndarray | slice) -> Self:
        """Those rows whose numbers are given, beside the same reference."""
        counts = None if self.counts is None else self.counts[chosen]
        return type(self)(self.X[chosen], self.fitted, self.beside, counts=counts)

    def each(self, values: np.ndarray) -> np.ndarray:
        """Values of all rows there are, from those of different ones."""
        return values if self.counts is None else np.repeat(values, self.counts)

    @cached_property
    def inputs(self) -> np.ndarray:
        """Standardised rows: (n, n_features).

        A constant column's only value is 0. Any other is the standard deviation's
        inverse of a column of which one value in n + 2 differs, by the rule of succession.
        """
        columns = self.fitted.columns
        surprise = np.exp(-columns.log_unseen / 2) * ~columns.known_values(self.X)
        return np.hstack([columns.transform(self.X), surprise]) + 0.0  # no -0.0

    @cached_property
    def itself(self) -> np.ndarray:
        """Place of each row among the reference rows, -1 for a new one: (n,)."""
        places = self.beside.places
        return np.array([places.get(row.tobytes(), -1) for row in self.inputs], dtype=int)

    @cached_property
    def judges(self) -> np.ndarray:
        """Which members measure each row: those that have not learned from it: (M, n).

        Where there is none, as with a single member, all of them do.
        """
        left_out = self.beside.left_out
        if left_out is None:
            return np.ones((self.fitted.n_members, len(self)), dtype=bool)
        unseen = np.pad(left_out, [(0, 0), (0, 1)], constant_values=True)[:, self.itself]
        return unseen | ~unseen.any(axis=0)

    def mean(self, per_member: np.ndarray) -> np.ndarray:
        """Mean over the members that measure each row: (M, n) -> (n,)."""
        return np.mean(per_member, axis=0, where=self.judges)

    @cached_property
    def portraits(self) -> tuple[np.ndarray, np.ndarray]:
        """Codes (M, n, l) and residuals (M, n, n_columns)."""
        return self.fitted.reconstruct(self.X)

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


@runtime_checkable
class Scorer(Protocol):
    """What every measure answers to."""

    def learn(self, rows: ScoredRows, chosen: np.ndarray | None = None) -> Self:
        """Take rows as reference, or those of them whose numbers are given."""

    def of(self, rows: ScoredRows) -> np.ndarray:
        """How strange rows are: (n,), the higher the stranger."""


def measured(measure: Scorer, rows: ScoredRows) -> np.ndarray:
    """How strange rows are, found for so many at a time as memory is meant for: (n,)."""
    per_row = rows.fitted.n_members * (rows.X.shape[1] + rows.fitted.architecture.n_components)
    chunks = gen_batches(len(rows), max(NUMBERS_AT_ONCE // per_row, 1))
    return np.concatenate([measure.of(rows.part(own)) for own in chunks])


class ModelScorer:
    """A measure that needs no reference rows."""

    def learn(self, rows: ScoredRows, chosen: np.ndarray | None = None) -> Self:
        """Need no reference."""
        return self


@dataclass(frozen=True)
class NegativeLogLikelihood(ModelScorer):
    """Minus the log-density of the model, in nats and in X's units."""

    n_draws: int

    def check(self) -> None:
        """Check that it can be, as when it comes from a file."""
        check_integer(self, "n_draws", self.n_draws, 1, MOST_DRAWS)

    def of(self, rows: ScoredRows) -> np.ndarray:
        """How strange rows are: (n,)."""
        per_member = rows.fitted.per_member(rows.X, self.n_draws)  # (M, n)
        log_sum = logsumexp(per_member, axis=0, b=rows.judges)
        return np.log(rows.judges.sum(axis=0)) - log_sum


@dataclass(frozen=True)
class NegativeELBO(ModelScorer):
    """Minus the evidence lower bound, in nats and in X's units; or its first part alone.

    That part is -log p(x|z), averaged over draws from q(z|x): the reconstruction
    probability.

    References
    ----------
    .. [1] J. An and S. Cho, "Variational Autoencoder based Anomaly Detection using
       Reconstruction Probability", SNU Data Mining Center, 2015.
    """

    n_draws: int
    with_kl: bool = True

    def check(self) -> None:
        """Check that it can be, as when it comes from a file."""
        check_integer(self, "n_draws", self.n_draws, 1, MOST_DRAWS)

    def of(self, rows: ScoredRows) -> np.ndarray:
        """How strange rows are: (n,)."""
        log_prob, kl = rows.fitted.bound(rows.X, self.n_draws)
        return rows.mean(kl - log_prob if self.with_kl else -log_prob)


@dataclass(frozen=True)
class ReconstructionError(ModelScorer):
    """Squared distance to the reconstruction, summed over standardised columns.

    With noise, the encoder sees a row with noise of this standard deviation, and the
    distance is the mean over draws that all rows share.
    """

    noise: float = 0.0

    def check(self) -> None:
        """Check that it can be, as when it comes from a file."""
        check_number(self, "noise", self.noise)

    def of(self, rows: ScoredRows) -> np.ndarray:
        """How strange rows are: (n,)."""
        n_columns = len(rows.fitted.columns.order)
        if not self.noise or not n_columns:
            squares = np.square(rows.portraits[1]).sum(axis=2)  # (M, n)
        else:
            seed = stream_seed(rows.fitted.seed, Stream.INPUT)
            draws = self.noise * sobol_normal(NOISE_DRAWS, n_columns, seed)
            found = (rows.fitted.reconstruct(rows.X, shift)[1] for shift in draws)
            squares = sum(np.square(own).sum(axis=2) for own in found) / NOISE_DRAWS
        of_constants = np.square(rows.inputs[:, n_columns:]).sum(axis=1)
        return rows.mean(squares) + of_constants


@dataclass(frozen=True)
class MaskedReconstructionError(ModelScorer):
    """Distance of each value to what its row's others foretell, summed over columns.

    The columns are divided into parts, for each member its own; the encoder sees a row
    without one of them, and the decoder says what stands there. Distances are absolute,
    in standard deviations: one bad value does not outweigh all others.
    """

    def of(self, rows: ScoredRows) -> np.ndarray:
        """How strange rows are: (n,)."""
        n_columns, n_members = len(rows.fitted.columns.order), rows.fitted.n_members
        n_parts = min(HIDDEN_PARTS, n_columns)
        parts = np.stack(
            [
                torch.randperm(n_columns, generator=self._generator(rows, member)).numpy()
                for member in range(n_members)
            ]
        ) % max(n_parts, 1)  # (M, n_columns)
        found = np.abs(rows.inputs[:, n_columns:]).sum(axis=1)
        for part in range(n_parts):
            hidden = parts == part
            residual = rows.fitted.reconstruct(rows.X, hidden=hidden)[1]  # (M, n, n_columns)
            found += rows.mean((np.abs(residual) * hidden[:, None]).sum(axis=2))
        return found

    def _generator(self, rows: ScoredRows, member: int) -> torch.Generator:
        return make_generator(rows.fitted.seed, Stream.MASK, member)
