"""Choice of each column's likelihood, requested or inferred."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from sklearn_vae.data.arrays import weighted_moments
from sklearn_vae.data.bounds import equal_up_to_rounding, lattice_step
from sklearn_vae.data.columns import COLUMNS
from sklearn_vae.data.columns.point_masses import (
    MIN_COUNT,
    find_common_integers,
    find_point_masses,
)
from sklearn_vae.data.fields import Name
from sklearn_vae.data.training_column import TrainingColumn
from sklearn_vae.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    Gaussian,
    Likelihood,
    LogNormal,
    NegativeBinomial,
    Ordinal,
    Poisson,
    ZeroInflated,
)

# A smaller table does not show that a column can only have two values, unless they are 0 and 1.
MIN_ROWS_FOR_BINARY = 10

# Nats per value by which a log-normal distribution must exceed a normal one: the values then span
# orders of magnitude.
GAIN_OF_LOGS = 1.5
# Nats per value by which a distribution of counts must exceed a rounded normal one.
GAIN_OF_COUNTS = 0.05
# Standard deviation of integers from which on a density is their probability: probabilities are
# differences, of which nothing is left from 1e15 on.
SCALE_OF_DENSITIES = 1e6
# Larger counts are modelled as real numbers.
MAX_COUNT = 1000
# Nats per value by which point masses must improve on the best distribution without them.
GAIN_OF_POINT_MASSES = 0.1

# A likelihood with its settings, or its class.
Request = Likelihood | type[Likelihood]


def requested_likelihoods(likelihood: object, names: Sequence[Name]) -> list[Request | None]:
    """Split the parameter ``likelihood`` by column: a class, an object, or None for "auto"."""
    if isinstance(likelihood, Mapping):
        has_names_of_truths = any(isinstance(name, bool) for name in names)
        for key in likelihood:
            is_truth = isinstance(key, bool) and not has_names_of_truths
            if is_truth or not (key in names or key in range(len(names))):
                raise ValueError(
                    f"The 'likelihood' parameter names {key!r}, which is no column of X; its "
                    f"columns are {names}."
                )
        # a number that names a column is not the index of another one
        by_index = {key: value for key, value in likelihood.items() if key not in names}
        return [
            _requested(likelihood.get(name, by_index.get(j, "auto")))
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


def _requested(likelihood: object) -> Request | None:
    if isinstance(likelihood, str) and likelihood == "auto":
        return None
    if isinstance(likelihood, str) and likelihood in LIKELIHOODS:
        return LIKELIHOODS[likelihood]
    if isinstance(likelihood, Likelihood):
        return likelihood
    raise ValueError(
        f"The 'likelihood' parameter must be 'auto', one of {sorted(LIKELIHOODS)}, a likelihood "
        f"such as Gaussian(scale='per_column'), or a list or dict of these by column. Got "
        f"{likelihood!r} instead."
    )


def _likelihood_as_requested(column: TrainingColumn) -> Likelihood | None:
    """Return the requested likelihood, with the sizes of the column; refuse a contradiction."""
    requested = column.requested
    likelihood = requested if isinstance(requested, type) else type(requested)
    if likelihood.__name__ not in COLUMNS:
        raise ValueError(
            f"The 'likelihood' parameter has {likelihood.__name__} for column "
            f"{column.field.name!r}, and no class of columns in sklearn_vae.data.columns.COLUMNS "
            f"encodes values for it."
        )
    columns = COLUMNS[likelihood.__name__]
    contradiction, is_nominal = columns.contradiction(column), column.field.is_nominal
    if is_nominal and not issubclass(likelihood, Bernoulli | Categorical | Ordinal):
        contradiction = "numbers", "categories without an order"
    if contradiction:
        name = next(name for name, cls in LIKELIHOODS.items() if cls is likelihood)
        may_be_normal = not (is_nominal or issubclass(likelihood, Gaussian))
        alternative = "'gaussian' or 'auto'" if may_be_normal else "'auto'"
        raise ValueError(
            f"likelihood={name!r} needs column {column.field.name!r} to have {contradiction[0]}, "
            f"but it has {contradiction[1]}; use {alternative} for it."
        )
    return columns.resolve(column)


def choose_likelihood(column: TrainingColumn, *, point_masses: bool = True) -> Likelihood | None:
    """Choose the likelihood of a column: as requested, or by the dtype and the values.

    It is None for a column of one value or none at all. Without ``point_masses``, real numbers
    have no point masses.
    """
    values, field = column.values, column.field
    if len(values) == 0 or equal_up_to_rounding(values.min(), values.max()):
        return None
    if column.requested is not None:
        return _likelihood_as_requested(column)
    if field.categories is not None:
        is_ordered = field.logical_type == "ordered"
        return COLUMNS["Ordinal" if is_ordered else "Categorical"].resolve(column)
    low, high = values.min(), values.max()
    is_0_or_1 = low == 0 and high == 1
    has_two_values = bool(((values == low) | (values == high)).all())
    if has_two_values and (is_0_or_1 or round(column.n_rows) >= MIN_ROWS_FOR_BINARY):
        return Bernoulli()
    if field.is_integer and not (column.exact_marginal and point_masses):
        return _infer_of_integers(column)
    if point_masses and len(masses := find_point_masses(column)):
        return ZeroInflated(len(masses))
    half = 0.5 * lattice_step(column) if column.exact_marginal else 0
    return LogNormal() if low > half and _is_log_normal(column) else Gaussian()


def _is_log_normal(column: TrainingColumn) -> bool:
    """Return whether a log-normal distribution exceeds a normal one by ``GAIN_OF_LOGS``."""
    logs, weights = np.log(column.values.astype(np.float64)), column.weights
    if np.ptp(logs) <= GAIN_OF_LOGS:  # the gain is at most the range, which rounding makes 0
        return False
    logs -= np.average(logs, weights=weights)
    relative = np.exp(np.clip(logs, None, 300))  # to the geometric mean: no square overflows
    relative -= np.average(relative, weights=weights)
    variances = (np.average(np.square(part), weights=weights) for part in (relative, logs))
    return bool(0.5 * np.subtract(*np.log([*variances])) > GAIN_OF_LOGS)


def _infer_of_integers(column: TrainingColumn) -> Likelihood:
    """Compare a rounded normal distribution, counts, and either with point masses."""
    column = replace(column, values=column.values.astype(np.float64))
    values, weights = column.values, column.weights
    likelihood: Likelihood = Gaussian()
    best = np.average(_log_rounded_normal(column), weights=weights)
    if values.min() >= 0 and values.max() <= MAX_COUNT:
        counts, log_prob = _fit_counts(column)
        log_prob_of_counts = np.average(log_prob, weights=weights)
        if log_prob_of_counts > best + GAIN_OF_COUNTS:
            likelihood, best = counts, log_prob_of_counts
    masses = find_common_integers(column)
    with_masses = np.average(_log_with_point_masses(column, masses), weights=weights)
    share = np.average(np.isin(values, masses), weights=weights)
    if share * column.n_values < MIN_COUNT * len(masses):
        return likelihood  # values that do not occur again would be the only ones possible
    # each probability is a parameter: one nat per parameter, as Akaike's criterion
    if with_masses - len(masses) / column.n_values > best + GAIN_OF_POINT_MASSES:
        return ZeroInflated(len(masses))
    return likelihood


def _log_rounded_normal(column: TrainingColumn) -> np.ndarray:
    """Log-probabilities by a rounded normal distribution with the moments of the values."""
    values = column.values
    mean, variance = weighted_moments(values, column.weights)
    scale = max(np.sqrt(variance), 0.5)
    normal = stats.norm(mean, scale)
    if scale > SCALE_OF_DENSITIES:
        return normal.logpdf(values)
    return np.log(np.maximum(normal.cdf(values + 0.5) - normal.cdf(values - 0.5), 1e-300))


def _fit_counts(column: TrainingColumn) -> tuple[Likelihood, np.ndarray]:
    """Fit a distribution of counts by the method of moments; return it and log-probabilities."""
    mean, variance = weighted_moments(column.values, column.weights)
    overdispersion = variance - mean
    # a variance that exceeds Poisson's by a tenth may do so by chance
    if overdispersion > 0.1 * mean:
        shape = mean**2 / overdispersion
        log_prob = stats.nbinom.logpmf(column.values, shape, shape / (shape + mean))
        return NegativeBinomial(), log_prob
    return Poisson(), stats.poisson.logpmf(column.values, mean)


def _log_with_point_masses(column: TrainingColumn, masses: np.ndarray) -> np.ndarray:
    """Log-probabilities by point masses, and a rounded normal distribution of other values."""
    indices = np.searchsorted(masses, column.values).clip(max=len(masses) - 1)
    is_common = masses[indices] == column.values
    common, numbers = column.select(is_common), column.select(~is_common)
    counts = np.bincount(indices[is_common], common.weights, len(masses))
    log_prob = np.log(counts / column.n_values)[indices]
    if len(numbers.values):
        log_number = np.log(numbers.n_values / column.n_values)
        log_prob[~is_common] = log_number + _log_rounded_normal(numbers)
    return log_prob
