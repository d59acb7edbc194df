"""Choice of a column's likelihood: requested by the parameter ``likelihood``, or inferred."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from scipy import stats

from sklearn_vae.data.bounds import equal_up_to_rounding, is_finely_recorded
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

# A smaller table does not show that a column can only have two values, unless they are 0 and 1.
FEWEST_ROWS_FOR_BINARY = 10

# Nats per value by which a log-normal distribution must exceed a normal one: the values then span
# orders of magnitude.
GAIN_OF_LOGS = 1.5
# Nats per value by which a distribution of counts must exceed a rounded normal one.
GAIN_OF_COUNTS = 0.05
# Larger counts are modelled as real numbers.
LARGEST_COUNT = 1000
# Nats per value by which point masses must improve on the best distribution without them; the
# fraction of the rows from which on a value is one, and the largest number of point masses.
GAIN_OF_POINT_MASSES = 0.1
POINT_MASS_FROM = 0.02
MOST_POINT_MASSES = 12
# If integers have no more unique values than these, all are point masses.
FEWEST_UNIQUE = 24
# Among real numbers, the minimum and maximum are point masses from a larger fraction on (nothing
# was paid, or the scale ended), other values from a third on, since they may be rounded; all from
# a number of rows on. The column has to be finely recorded, or any value would be common.
EXTREME_POINT_MASS_FROM = 0.1
REAL_POINT_MASS_FROM = 1 / 3
FEWEST_ROWS_OF_POINT_MASS = 10
# Rows among which point masses of real numbers are looked for first.
ROWS_LOOKED_AT = 1024


@dataclass(frozen=True)
class ColumnHint:
    """Information from a column's dtype, beside its values.

    Attributes
    ----------
    name : str or int
        Name or index of the column.
    is_integer : bool, default=False
        Whether the dtype is one of integers.
    n_classes : int or None
        Number of categories of a categorical dtype; the values are then their codes 0, 1, ...
    is_ordered : bool, default=False
        Whether the categories are ordered.
    """

    name: str | int
    is_integer: bool = False
    n_classes: int | None = None
    is_ordered: bool = False

    @property
    def is_nominal(self) -> bool:
        """Whether there are more than two categories without an order."""
        return (self.n_classes or 0) > 2 and not self.is_ordered


# -- the parameter -----------------------------------------------------------------------


def requested_likelihoods(likelihood: Any, names: Sequence[str | int]) -> list[Any]:
    """Split the parameter ``likelihood`` by column: a class, an object, or None for "auto"."""
    if isinstance(likelihood, Mapping):
        for key in likelihood:
            is_index = isinstance(key, Integral) and not isinstance(key, bool)
            is_name = isinstance(key, str) and key in names
            if not (is_name or (is_index and 0 <= key < len(names))):
                raise ValueError(
                    f"The 'likelihood' parameter names {key!r}, which is no column of X; its "
                    f"columns are {names}."
                )
        return [
            _requested(likelihood.get(name, likelihood.get(j, "auto")))
            for j, name in enumerate(names)
        ]
    if isinstance(likelihood, Sequence) and not isinstance(likelihood, str):
        if len(likelihood) != len(names):
            raise ValueError(
                f"The 'likelihood' parameter is a list of {len(likelihood)}, but X has "
                f"{len(names)} columns; give one likelihood per column."
            )
        return [_requested(one) for one in likelihood]
    return [_requested(likelihood)] * len(names)


def _requested(likelihood: Any) -> Any:
    if isinstance(likelihood, str) and likelihood == "auto":
        return None
    if isinstance(likelihood, str) and likelihood in NAMED:
        return NAMED[likelihood]
    if isinstance(likelihood, tuple(NAMED.values())):
        return likelihood
    raise ValueError(
        f"The 'likelihood' parameter must be 'auto', one of {sorted(NAMED)}, a likelihood such as "
        f"Gaussian(scale='per_column'), or a list or dict of these by column. Got "
        f"{likelihood!r} instead."
    )


def check_requested_likelihood(fitted: Likelihood, requested: Any, name: Any) -> None:
    """Refuse a request for another likelihood than the fitted one."""
    if not isinstance(requested, type):
        agrees = bool(fitted == requested)
    elif issubclass(requested, Categorical | Ordinal):  # two classes are binary
        agrees = isinstance(fitted, requested | Bernoulli)
    elif issubclass(requested, ZeroInflated | Counts):
        agrees = isinstance(fitted, requested)
    else:
        agrees = bool(fitted == requested())
    if not agrees:
        got = requested.__name__ if isinstance(requested, type) else repr(requested)
        raise ValueError(
            f"The 'likelihood' parameter must be {fitted} or 'auto' for column {name!r}, as "
            f"in the fit that this one goes on from. Got {got} instead."
        )


def _check_values(
    values: np.ndarray, requested: type[Likelihood], n_classes: int | None, hint: ColumnHint
) -> None:
    """Refuse a likelihood that values of a column contradict."""
    name = next(name for name, known in NAMED.items() if known is requested)
    alternative = "'auto'" if issubclass(requested, Gaussian) else "'gaussian' or 'auto'"
    low, high = values.min(), values.max()
    needed, found = "", ""
    if issubclass(requested, Bernoulli):
        other = values[(values != low) & (values != high)]
        if len(other):
            needed = "two values"
            found = f"{low.item()!r}, {other[0].item()!r} and {high.item()!r}"
            if low >= 0 and high <= 1:
                found += " (a share or a grey value: X > 0.5 has two values)"
    elif issubclass(requested, LogNormal) and low <= 0:
        needed, found = "values above 0", f"{low.item()!r}"
    elif issubclass(requested, Counts):
        other = values[(values < 0) | (values != np.rint(values))]
        if len(other):
            needed, found = "whole numbers of 0 or more", f"{other[0].item()!r}"
    elif issubclass(requested, Categorical | Ordinal):
        observed = hint.n_classes or len(np.unique(values))
        if n_classes not in (None, observed):
            needed, found = f"{n_classes} classes", f"{observed}"
    elif not issubclass(requested, ZeroInflated) and hint.is_nominal:
        needed, found = "numbers", "categories without an order"
    if needed:
        raise ValueError(
            f"likelihood={name!r} needs column {hint.name!r} to have {needed}, but it has "
            f"{found}; use {alternative} for it."
        )


# -- inference ---------------------------------------------------------------------------


def choose_likelihood(
    values: np.ndarray,
    weights: np.ndarray | None,
    n_rows: float,
    requested: Any,
    hint: ColumnHint,
    *,
    point_masses: bool = True,
) -> tuple[Likelihood | None, np.ndarray]:
    """Choose the likelihood of a column.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Observed values, in X's units.
    weights : ndarray of shape (n,) or None
        Sample weights.
    n_rows : float
        Number of rows of the table, by weight.
    requested : Likelihood, type of Likelihood or None
        Request by the parameter ``likelihood``.
    hint : ColumnHint
        Information from the dtype.
    point_masses : bool, default=True
        Whether real numbers may have point masses.

    Returns
    -------
    likelihood : Likelihood or None
        None for a column of one value or none at all.
    categories : ndarray of shape (C,)
        Categories, binary values, point masses or the constant, in order; empty for numbers.
    """
    if len(values) == 0 or equal_up_to_rounding(values.min(), values.max()):
        return None, values[:1] if len(values) else np.full(1, np.nan, values.dtype)
    if requested is not None:
        likelihood = _likelihood_as_requested(values, weights, requested, hint)
    else:
        likelihood = _infer_likelihood(values, weights, n_rows, hint, point_masses=point_masses)
    if isinstance(likelihood, ZeroInflated):
        of_reals = requested is None and not hint.is_integer
        return likelihood, find_point_masses(values, weights, of_reals=of_reals)
    if isinstance(likelihood, Bernoulli):
        return likelihood, np.array([values.min(), values.max()])
    if isinstance(likelihood, Categorical | Ordinal):
        coded = np.arange(hint.n_classes or 0, dtype=values.dtype)
        return likelihood, np.unique(values) if hint.n_classes is None else coded
    return likelihood, values[:0]


def _likelihood_as_requested(
    values: np.ndarray, weights: np.ndarray | None, requested: Any, hint: ColumnHint
) -> Likelihood:
    """Return the requested likelihood, with the number of classes of the column."""
    is_class = isinstance(requested, type)
    cls = requested if is_class else type(requested)
    _check_values(values, cls, None if is_class else getattr(requested, "n_classes", None), hint)
    if issubclass(cls, Categorical | Ordinal):
        n_classes = hint.n_classes or len(np.unique(values))
        return Bernoulli() if n_classes == 2 else cls(n_classes)
    if issubclass(cls, ZeroInflated):
        return ZeroInflated(len(find_point_masses(values, weights)))
    return cls() if is_class else requested


def _infer_likelihood(
    values: np.ndarray,
    weights: np.ndarray | None,
    n_rows: float,
    hint: ColumnHint,
    *,
    point_masses: bool,
) -> Likelihood:
    """Infer the likelihood of ``likelihood="auto"`` from the dtype and the values."""
    if hint.n_classes is not None:
        if hint.n_classes == 2:
            return Bernoulli()
        return Ordinal(hint.n_classes) if hint.is_ordered else Categorical(hint.n_classes)
    low, high = values.min(), values.max()
    is_0_or_1 = low == 0 and high == 1
    has_two_values = bool(((values == low) | (values == high)).all())
    if has_two_values and (is_0_or_1 or round(n_rows) >= FEWEST_ROWS_FOR_BINARY):
        return Bernoulli()
    if hint.is_integer:
        return _infer_of_integers(values, weights)
    if point_masses and len(common := find_point_masses(values, weights, of_reals=True)):
        return ZeroInflated(len(common))
    if low > 0 and _gain_of_logs(values, weights) > GAIN_OF_LOGS:
        return LogNormal()
    return Gaussian()


def find_point_masses(
    values: np.ndarray, weights: np.ndarray | None, *, of_reals: bool = False
) -> np.ndarray:
    """Find common values, in order.

    Of integers, at least the most common one, and all if they are few; of real numbers perhaps
    none.
    """
    if of_reals:
        return _point_masses_of_reals(values, weights)
    unique, frequency = _frequencies(values, weights)
    n_common = min(max(int((frequency >= POINT_MASS_FROM).sum()), 1), MOST_POINT_MASSES)
    if len(unique) <= FEWEST_UNIQUE:
        n_common = len(unique)
    return np.sort(unique[np.argsort(-frequency, kind="stable")[:n_common]])


def _frequencies(values: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Unique values, in order, and the relative frequency of each."""
    unique, inverse = np.unique(values, return_inverse=True)
    total = len(values) if weights is None else weights.sum()
    return unique, np.bincount(inverse, weights) / total


def _point_masses_of_reals(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Find common values of a column of real numbers, as 0 among prices.

    A coarsely recorded column, such as a pixel, has none: any of its values is common.
    """
    total = len(values) if weights is None else weights.sum()
    least = max(EXTREME_POINT_MASS_FROM, FEWEST_ROWS_OF_POINT_MASS / total)
    some = values[:: max(len(values) // ROWS_LOOKED_AT, 1)]
    if weights is None and _frequencies(some, None)[1].max() < least / 2:
        return values[:0]
    unique, frequency = _frequencies(values, weights)
    needed = np.full(len(unique), max(REAL_POINT_MASS_FROM, least))
    needed[[0, -1]] = least
    return unique[frequency >= needed] if is_finely_recorded(unique) else unique[:0]


def _gain_of_logs(values: np.ndarray, weights: np.ndarray | None) -> float:
    """Nats per value by which a log-normal distribution exceeds a normal one."""
    logs = np.log(values.astype(np.float64))
    logs -= np.average(logs, weights=weights)
    relative = np.exp(np.clip(logs, None, 300))  # to the geometric mean: no square overflows
    relative -= np.average(relative, weights=weights)
    variances = (np.average(np.square(part), weights=weights) for part in (relative, logs))
    return float(0.5 * np.subtract(*np.log([*variances])))


def _infer_of_integers(values: np.ndarray, weights: np.ndarray | None) -> Likelihood:
    """Compare a rounded normal distribution, counts, and either with point masses."""
    values = values.astype(np.float64)
    likelihood: Likelihood = Gaussian()
    best = np.average(_log_rounded_normal(values, weights), weights=weights)
    if values.min() >= 0 and values.max() <= LARGEST_COUNT:
        counts, log_prob = _fit_counts(values, weights)
        log_prob_of_counts = np.average(log_prob, weights=weights)
        if log_prob_of_counts > best + GAIN_OF_COUNTS:
            likelihood, best = counts, log_prob_of_counts
    masses = find_point_masses(values, weights)
    with_masses = np.average(_log_with_point_masses(values, weights, masses), weights=weights)
    total = len(values) if weights is None else weights.sum()
    # each probability is a parameter: one nat per parameter, as Akaike's criterion
    if with_masses - len(masses) / total > best + GAIN_OF_POINT_MASSES:
        return ZeroInflated(len(masses))
    return likelihood


def _log_rounded_normal(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Log-probabilities by a rounded normal distribution with the moments of the values."""
    mean = np.average(values, weights=weights)
    variance = np.average(np.square(values - mean), weights=weights)
    normal = stats.norm(mean, max(np.sqrt(variance), 0.5))
    return np.log(np.maximum(normal.cdf(values + 0.5) - normal.cdf(values - 0.5), 1e-300))


def _fit_counts(values: np.ndarray, weights: np.ndarray | None) -> tuple[Likelihood, np.ndarray]:
    """Fit a distribution of counts by the method of moments; return it and log-probabilities."""
    mean = np.average(values, weights=weights)
    overdispersion = np.average(np.square(values - mean), weights=weights) - mean
    # a variance that exceeds Poisson's by a tenth may do so by chance
    if overdispersion > 0.1 * mean:
        shape = mean**2 / overdispersion
        return NegativeBinomial(), stats.nbinom.logpmf(values, shape, shape / (shape + mean))
    return Poisson(), stats.poisson.logpmf(values, mean)


def _log_with_point_masses(
    values: np.ndarray, weights: np.ndarray | None, masses: np.ndarray
) -> np.ndarray:
    """Log-probabilities by point masses, and a rounded normal distribution of other values."""
    weights = np.ones(len(values)) if weights is None else weights
    indices = np.searchsorted(masses, values).clip(max=len(masses) - 1)
    is_common = masses[indices] == values
    probability = np.bincount(indices, weights * is_common, len(masses)) / weights.sum()
    log_prob = np.log(probability[indices])
    is_number = ~is_common
    if is_number.any():
        log_number = np.log(weights[is_number].sum() / weights.sum())
        log_prob[is_number] = log_number + _log_rounded_normal(
            values[is_number], weights[is_number]
        )
    return log_prob
