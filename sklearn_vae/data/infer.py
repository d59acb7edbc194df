"""What kind of column values speak of: the rules of ``likelihood="auto"``."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from sklearn_vae.likelihoods import (
    NAMED,
    Bernoulli,
    Categorical,
    Counts,
    Gaussian,
    Likelihood,
    LogNormal,
    NegativeBinomial,
    Ordinal,
    Poisson,
    ZeroInflated,
)

# A table this small does not show whether two values are all that a column can have,
# unless they are 0 and 1.
FEWEST_ROWS_FOR_BINARY = 10

# Values of one column that differ by a smaller share of themselves are one value.
ROUNDING = 8 * float(np.finfo(np.float64).eps)

# Nats per value by which a log-normal distribution must be better than a normal one for a
# column to be taken as positive: its values then span orders of magnitude.
GAIN_OF_LOGS = 1.5
# Nats per value by which a distribution of counts must be better than a rounded normal one.
GAIN_OF_COUNTS = 0.05
# Larger counts are as good as real numbers.
LARGEST_COUNT = 1000
# Nats per value that probabilities of common values have to gain, and what is common: a
# share of the rows, of so many values at the most.
GAIN_OF_SPIKES = 0.1
COMMON_FROM = 0.02
MOST_SPIKES = 12
# Of no more different values than these, all are common.
FEWEST_DIFFERENT = 24
# Of real numbers, the least or greatest value is common from a larger share of the rows on
# (nothing was paid, or the scale ended), others from a third on, for they may be rounded; all
# from a number of rows on. And the column has to be recorded finely, or any value were common.
COMMON_END_FROM = 0.1
COMMON_REAL_FROM = 1 / 3
FEWEST_COMMON_ROWS = 10
FEWEST_LEVELS = 256
# Rows among which such a value is looked for first.
ROWS_LOOKED_AT = 1024
# Decimals that are looked for, and the share of a standard deviation that a step may be: to
# round to a coarser one would be noise beside the scales.
MOST_DECIMALS = 6
COARSEST_STEP = 0.1
# An extreme value is a bound if a normal distribution would put so many rows beyond it, or if
# several rows have it. Otherwise samples may lie beyond it, by a share of its distance from
# the mean.
ROWS_BEYOND = 5.0
BEYOND = 0.1
# A normal distribution that puts a larger share beyond the bound of a column of few levels, as
# of a pixel that is mostly 0, is no model of it: a truncated one would be a worse one.
MOST_BEYOND = 0.35


@dataclass(frozen=True)
class ColumnHint:
    """What a column says of itself, beside its values.

    Attributes
    ----------
    name : str or int
        The column's name or number.
    is_integer : bool, default=False
        Whether its type is that of integers.
    n_classes : int or None
        Number of its categories, where it has any; its values are then 0, 1, and so on.
    is_ordered : bool, default=False
        Whether the categories have an order.
    """

    name: str | int
    is_integer: bool = False
    n_classes: int | None = None
    is_ordered: bool = False

    @property
    def has_no_order(self) -> bool:
        """Whether there are several categories that no number can stand for."""
        return (self.n_classes or 0) > 2 and not self.is_ordered


def kind_of(
    values: np.ndarray,
    weight: np.ndarray | None,
    total: float,
    wish: Any,
    signs: ColumnHint,
    *,
    spikes: bool = True,
) -> Likelihood | None:
    """Find out what a column is.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Its values that are there, in X's units.
    weight : ndarray of shape (n,) or None
        What each counts.
    total : float
        What all rows of the table count.
    wish : Likelihood, type of Likelihood or None
        What the user says that it is.
    signs : ColumnHint
        What its type says.
    spikes : bool, default=True
        Whether real numbers may have common values.

    Returns
    -------
    Likelihood or None
        None for a column of one value or none at all, of which nothing is to be learned.
    """
    if len(values) == 0 or same(values.min(), values.max()):
        return None
    if wish is not None:
        return _as_wished(values, weight, wish, signs)
    if signs.n_classes is not None:
        if signs.n_classes == 2:
            return Bernoulli()
        return Ordinal(signs.n_classes) if signs.is_ordered else Categorical(signs.n_classes)
    low, high = values.min(), values.max()
    bits = low == 0 and high == 1
    two_valued = bool(((values == low) | (values == high)).all())
    if two_valued and (bits or round(total) >= FEWEST_ROWS_FOR_BINARY):
        return Bernoulli()
    if signs.is_integer:
        return _kind_of_integers(values, weight)
    if spikes and len(common := spikes_of(values, weight, of_reals=True)):
        return ZeroInflated(len(common))
    if low > 0 and _gain_of_logs(values, weight) > GAIN_OF_LOGS:
        return LogNormal()
    return Gaussian()


def spikes_of(
    values: np.ndarray, weight: np.ndarray | None, *, of_reals: bool = False
) -> np.ndarray:
    """Values that are common, in order.

    Of integers, at least the commonest one, and of a few different ones all; of real numbers
    perhaps none.
    """
    if of_reals:
        return _spikes_of_reals(values, weight)
    found, share = _shares(values, weight)
    n_spikes = min(max(int((share >= COMMON_FROM).sum()), 1), MOST_SPIKES)
    if len(found) <= FEWEST_DIFFERENT:
        n_spikes = len(found)
    return np.sort(found[np.argsort(-share, kind="stable")[:n_spikes]])


def _shares(values: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Different values, in order, and the share of the rows that each has."""
    found, place = np.unique(values, return_inverse=True)
    return found, np.bincount(place, weight) / (len(values) if weight is None else weight.sum())


def _spikes_of_reals(values: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Values of a column of real numbers that are common, as 0 in one of prices.

    A column of few levels, such as a pixel's, has none: there, any value is common.
    """
    total = len(values) if weight is None else weight.sum()
    least = max(COMMON_END_FROM, FEWEST_COMMON_ROWS / total)
    some = values[:: max(len(values) // ROWS_LOOKED_AT, 1)]
    if weight is None and _shares(some, None)[1].max() < least / 2:
        return values[:0]
    found, share = _shares(values, weight)
    needed = np.full(len(found), max(COMMON_REAL_FROM, least))
    needed[[0, -1]] = least
    return found[share >= needed] if _is_fine(found) else found[:0]


def decimals_of(values: np.ndarray, *, is_integer: bool) -> int:
    """Decimals to which a column was recorded, as 2 of cents; -1 where none are seen.

    Steps that are coarse beside the scale are left to integers' types.
    """
    if is_integer:
        return 0
    for decimals in range(MOST_DECIMALS + 1):
        step = 10.0**-decimals
        if _are_rounded(values[:ROWS_LOOKED_AT], decimals) and _are_rounded(values, decimals):
            precision = np.abs(values).max() * np.finfo(values.dtype).eps
            is_exact = precision <= COARSEST_STEP * step
            return decimals if is_exact and step <= COARSEST_STEP * np.std(values) else -1
    return -1


def _are_rounded(values: np.ndarray, decimals: int) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.round(values.astype(np.float64), decimals).astype(values.dtype)
    return bool((rounded == values).all())


def bounds_of(values: np.ndarray, weight: np.ndarray | None) -> tuple[float, float]:
    """Numbers between which samples of a real column lie: its bounds, or a little more."""
    counts = np.ones(len(values)) if weight is None else weight
    mean = np.average(values, weights=counts)
    spread = np.sqrt(np.average(np.square(values - mean), weights=counts))
    bounds = []
    for end in (values.min(), values.max()):
        beyond = float(stats.norm.sf(abs(end - mean) / spread if spread > 0 else 0.0))
        is_bound = counts.sum() * beyond > ROWS_BEYOND or counts[values == end].sum() >= 2
        bound = float(end if is_bound else end + BEYOND * (end - mean))
        if beyond > MOST_BEYOND and not _is_fine(np.unique(values)):
            bound = math.copysign(math.inf, end - mean)
        bounds.append(bound)
    return bounds[0], bounds[1]


def _is_fine(found: np.ndarray) -> bool:
    """Whether values of a column, in order, lie on many levels."""
    with np.errstate(over="ignore"):
        return len(found) > 1 and found[-1] - found[0] > FEWEST_LEVELS * np.diff(found).min()


def same(low: float, high: float) -> bool:
    """Whether two values differ by no more than rounding."""
    with np.errstate(over="ignore"):
        return bool(high - low <= ROUNDING * max(abs(low), abs(high)))


def _as_wished(
    values: np.ndarray, weight: np.ndarray | None, wish: Any, signs: ColumnHint
) -> Likelihood:
    """Check that values are such as a likelihood can have."""
    kind = wish if isinstance(wish, type) else type(wish)
    name = next(name for name, known in NAMED.items() if known is kind)
    others = "'auto'" if issubclass(kind, Gaussian) else "'gaussian' or 'auto'"
    asked = f"likelihood={name!r} needs column {signs.name!r} to have"
    low, high = values.min(), values.max()

    def refuse(what: str, found: str) -> None:
        raise ValueError(f"{asked} {what}, but it has {found}; use {others} for it.")

    if issubclass(kind, Bernoulli):
        other = values[(values != low) & (values != high)]
        if len(other):
            found = f"{low.item()!r}, {other[0].item()!r} and {high.item()!r}"
            if low >= 0 and high <= 1:
                found += " (a share or a grey value: X > 0.5 has two values)"
            refuse("two values", found)
    elif issubclass(kind, LogNormal) and low <= 0:
        refuse("values above 0", f"{low.item()!r}")
    elif issubclass(kind, Counts):
        broken = values[(values < 0) | (values != np.rint(values))]
        if len(broken):
            refuse("whole numbers of 0 or more", f"{broken[0].item()!r}")
    elif issubclass(kind, Categorical | Ordinal):
        n_classes = signs.n_classes or len(np.unique(values))
        if not isinstance(wish, type) and wish.n_classes != n_classes:
            refuse(f"{wish.n_classes} classes", f"{n_classes}")
        if n_classes == 2:
            return Bernoulli()
        return kind(n_classes)
    elif issubclass(kind, ZeroInflated):
        return ZeroInflated(len(spikes_of(values, weight)))
    elif signs.has_no_order:
        refuse("numbers", "categories without an order")
    if not isinstance(wish, type):
        return wish
    return kind()


def _gain_of_logs(values: np.ndarray, weight: np.ndarray | None) -> float:
    """Nats per value by which a log-normal distribution is better than a normal one."""
    logs = np.log(values.astype(np.float64))
    logs -= np.average(logs, weights=weight)
    relative = np.exp(np.clip(logs, None, 300))  # to the geometric mean: no square overflows
    relative -= np.average(relative, weights=weight)
    variances = (np.average(np.square(part), weights=weight) for part in (relative, logs))
    return float(0.5 * np.subtract(*np.log([*variances])))


def _kind_of_integers(values: np.ndarray, weight: np.ndarray | None) -> Likelihood:
    """Compare distributions: normal and rounded, of counts, and with common values."""
    values = values.astype(np.float64)
    kind: Likelihood = Gaussian()
    best = np.average(_log_of_rounded(values, weight), weights=weight)
    if values.min() >= 0 and values.max() <= LARGEST_COUNT:
        count, log_prob = _count(values, weight)
        of_counts = np.average(log_prob, weights=weight)
        if of_counts > best + GAIN_OF_COUNTS:
            kind, best = count, of_counts
    spikes = spikes_of(values, weight)
    of_spikes = np.average(_log_of_spikes(values, weight, spikes), weights=weight)
    total = len(values) if weight is None else weight.sum()
    if of_spikes - len(spikes) / total > best + GAIN_OF_SPIKES:  # each share is a parameter
        return ZeroInflated(len(spikes))
    return kind


def _log_of_rounded(values: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Log-probabilities by a normal distribution, rounded, with the values' moments."""
    mean = np.average(values, weights=weight)
    variance = np.average(np.square(values - mean), weights=weight)
    normal = stats.norm(mean, max(np.sqrt(variance), 0.5))
    return np.log(np.maximum(normal.cdf(values + 0.5) - normal.cdf(values - 0.5), 1e-300))


def _count(values: np.ndarray, weight: np.ndarray | None) -> tuple[Likelihood, np.ndarray]:
    """A distribution of counts with the values' moments, and their log-probabilities."""
    mean = np.average(values, weights=weight)
    overflow = np.average(np.square(values - mean), weights=weight) - mean
    # next to Poisson's, a variance that is a tenth larger is chance or little more
    if overflow > 0.1 * mean:
        shape = mean**2 / overflow
        return NegativeBinomial(), stats.nbinom.logpmf(values, shape, shape / (shape + mean))
    return Poisson(), stats.poisson.logpmf(values, mean)


def _log_of_spikes(values: np.ndarray, weight: np.ndarray | None, spikes: np.ndarray) -> np.ndarray:
    """Log-probabilities by the shares of common values, the others normal and rounded."""
    counts = np.ones(len(values)) if weight is None else weight
    place = np.searchsorted(spikes, values).clip(max=len(spikes) - 1)
    is_common = spikes[place] == values
    share = np.bincount(place, counts * is_common, len(spikes)) / counts.sum()
    log_prob = np.log(share[place])
    rest = ~is_common
    if rest.any():
        left = np.log(counts[rest].sum() / counts.sum())
        log_prob[rest] = left + _log_of_rounded(values[rest], counts[rest])
    return log_prob
