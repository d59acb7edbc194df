"""Columns of numbers whose cells often equal those of another column, as a payment and a bill."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated

import numpy as np

from sklearn_vae.data.columns.base import in_coarser_dtype
from sklearn_vae.data.linear_relations import LinearRelation, all_sources
from sklearn_vae.numerics.rows import spread_out
from sklearn_vae.persistence.validation import check_number, serializable

# Cells are often equal from this fraction of the rows on, this number of rows, and this multiple of
# the rows in which one is the next value above the other, or below.
LEAST_FRACTION = 0.05
LEAST_ROWS = 20
LEAST_TIMES = 4
# Columns of fewer values are equal by chance.
LEAST_VALUES = 25


@serializable
@dataclass(frozen=True, eq=False)
class EqualCells:
    """A column with a point mass at the value of another column, its partner."""

    column: int  # index of the column in X
    partner: int  # index of its partner
    # fraction of the rows with both in which they are equal, of other values than common ones
    fraction: float
    # smallest and largest value at which they are equal
    bounds: Annotated[np.ndarray, "f", 2]
    step: float  # recording step, over which the point mass is spread; 0 without one
    # common values, which are equal to the partner's by themselves
    common: Annotated[np.ndarray, "f", "m"]

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        check_number(self, "step", self.step)

    def holds(self, X: np.ndarray) -> np.ndarray:
        """Find rows in which the columns are equal, but for common values: (n, d) -> (n,)."""
        return (X[:, self.column] == X[:, self.partner]) & ~self.is_common(X)

    def is_common(self, X: np.ndarray) -> np.ndarray:
        """Find rows with a common value: (n, d) -> (n,)."""
        return np.isin(*in_coarser_dtype(X[:, self.column], self.common))

    def fill_partner(self, X: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Replace some missing values of the partner by those of the column: (n, d) -> (n, d)."""
        is_alone = self._is_alone(X)
        if is_alone.any():
            X, rows = X.copy(), is_alone & (generator.random(len(X)) < self.fraction)
            X[rows, self.partner] = X[rows, self.column]
        return X

    def _is_alone(self, X: np.ndarray) -> np.ndarray:
        """Find rows with a value that is not common, and none of the partner: (n, d) -> (n,)."""
        is_alone = np.isnan(X[:, self.partner]) & ~np.isnan(X[:, self.column])
        return is_alone & ~self.is_common(X)

    def log_density(self, X: np.ndarray) -> np.ndarray:
        """Return what the encoding leaves out of the log-density of rows: (n, d) -> (n,).

        Where the columns are equal, it is the spread of the point mass. Without the partner's
        value, the column's counts as not equal: its density is divided by the fraction of those.
        """
        log_mass, log_other = -np.log(self.step or 1.0), np.log1p(-self.fraction)
        return self.holds(X) * log_mass - self._is_alone(X) * log_other

    def mix(self, own: np.ndarray, other: np.ndarray, probability: np.ndarray) -> np.ndarray:
        """Mean of a value of either column and of the other's, by the probability of it: (n,)."""
        other = np.clip(other, *self.bounds)
        mean = (1 - probability) * own + probability * other
        return np.where(probability == 1, other, mean)


def find_equal_cells(
    X: np.ndarray, columns: list[int], weight: np.ndarray, relations: Sequence[LinearRelation] = ()
) -> list[EqualCells]:
    """Find columns of numbers whose cells equal those of another one more often than by chance.

    Each has at most one partner, which comes before it and is not recorded in finer steps, such
    that the fractions of equal cells are largest [1]_. Columns are those with the indices
    ``columns``. The weight (n,) is the number of times that each row counts. Columns that are
    derived by ``relations``, sources first, may be partners of others.

    References
    ----------
    .. [1] R. C. Prim, "Shortest Connection Networks and Some Generalizations", Bell System
       Technical Journal 36, 1957.
    """
    from sklearn_vae.data.marginals import Values, is_common  # encoding needs no scipy
    from sklearn_vae.data.training_column import MAX_COMPARED, TrainingColumn

    sources = all_sources(relations)
    columns = [*columns, *sources]
    columns = columns if len(columns) <= MAX_COMPARED else []
    few = X[np.ix_(spread_out(len(X)), np.array(columns, dtype=int))]
    has_many = [k for k, x in enumerate(few.T) if len(np.unique(x)) >= LEAST_VALUES]
    read: dict[int, Values] = {}
    common: dict[int, np.ndarray] = {}
    fractions = np.zeros((few.shape[1], few.shape[1]))
    often = np.array([(few == x[:, None]).mean(axis=0) for x in few.T]) >= LEAST_FRACTION / 2
    for one, other in combinations(has_many, 2):
        if often[one, other]:
            for k in {one, other} - read.keys():
                read[k] = Values.of(TrainingColumn.of_numbers(X[:, columns[k]], weight))
                common[k] = read[k].values[is_common(read[k])]
            cells = X[:, columns[one]], X[:, columns[other]]
            fraction = _fraction_equal(*cells, np.append(common[one], common[other]), weight)
            for column, partner in ((one, other), (other, one)):
                is_free = columns[column] not in {*sources, *sources.get(columns[partner], ())}
                if is_free and _has_steps_of(read[partner].step, read[column].step):
                    fractions[partner, column] = fraction
    # a spanning forest of the largest fractions, from columns of the largest steps and many values;
    # derived partners and their sources come first, so that nothing goes in a circle
    partners = [j for j, row in zip(columns, fractions, strict=True) if row.any()]
    derived = [j for j in partners if j in sources]
    first = {*derived}.union(*(sources[j] for j in derived))
    equal_cells: list[EqualCells] = []
    order = sorted(read, key=lambda k: (-read[k].step, -len(read[k].values), k))
    reached = [k for k in order if columns[k] in first]
    free = [k for k in order if columns[k] not in first]
    while free:
        links = fractions[np.ix_(reached, free)]
        if not links.any():
            reached.append(free.pop(0))
            continue
        row, second = divmod(int(links.argmax()), len(free))
        one, other = reached[row], free.pop(second)
        a, b = X[:, columns[other]], X[:, columns[one]]
        is_rare, is_equal = ~np.isin(a, common[other]), a == b
        # one row more is not equal
        n_rows = 1 + weight[~(np.isnan(a) | np.isnan(b)) & is_rare].sum()
        fraction = float(weight[is_equal & is_rare].sum() / n_rows)
        bounds = np.array([a[is_equal].min(), a[is_equal].max()], dtype=np.float64)
        units = read[other].step, common[other]
        equal_cells.append(EqualCells(columns[other], columns[one], fraction, bounds, *units))
        reached.append(other)
    return equal_cells


def _fraction_equal(a: np.ndarray, b: np.ndarray, common: np.ndarray, weight: np.ndarray) -> float:
    """Fraction of rows in which two columns are equal, but for common values; 0 if by chance."""
    is_equal, observed = a == b, ~(np.isnan(a) | np.isnan(b))
    n_equal, n_rows = weight[is_equal & ~np.isin(a, common)].sum(), weight[observed].sum()
    if n_equal < max(LEAST_FRACTION * n_rows, LEAST_ROWS) or is_equal[observed].all():
        return 0.0
    ranks = np.unique(np.append(a[observed], b[observed]), return_inverse=True)[1].reshape(2, -1)
    n_beside = weight[observed][np.abs(ranks[0] - ranks[1]) == 1].sum()
    return float(n_equal / n_rows) if n_equal >= LEAST_TIMES * n_beside / 2 else 0.0


def _has_steps_of(partner: float, column: float) -> bool:
    """Return whether values recorded in the step of a partner are values of a column, too."""
    if not column or not partner:
        return not column
    ratio = partner / column
    return math.isclose(ratio, round(ratio), rel_tol=1e-6)
