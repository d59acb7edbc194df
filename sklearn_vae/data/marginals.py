"""The marginal distribution of a column of numbers, by evidence.

Candidates are a normal and a log-normal distribution, normal scores, counts, and point masses, of
the common values beside one of the former, or of all values (but for many that occur once). The
evidence for each is the log-density of the rows less Schwarz's penalty of its parameters [1]_;
point masses have that of each row by the others. Values that are recorded in steps have the density
of their probability, spread over a step.

Everything is computed from the unique values and their numbers of rows, so neither the order of the
rows nor their dtype makes a difference, and a weight counts as copies.

Normal scores are the rank-based inverse normal transform, the marginal step of a Gaussian copula
[2]_: the standard normal quantile of the empirical distribution function, linear between knots.

References
----------
.. [1] G. Schwarz, "Estimating the Dimension of a Model", Annals of Statistics 6, 1978.
.. [2] H. Liu, J. Lafferty and L. Wasserman, "The Nonparanormal: Semiparametric Estimation of High
   Dimensional Undirected Graphs", Journal of Machine Learning Research 10, 2009.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import islice

import numpy as np
from scipy import special, stats

from sklearn_vae.data.arrays import weighted_moments
from sklearn_vae.data.training_column import (
    CHANCE,
    LATTICE_TOLERANCE,
    MAX_DECIMALS,
    ROUNDING,
    Marginal,
    TrainingColumn,
    interpolate,
    is_between_steps,
    origin_of_counts,
    recording,
)
from sklearn_vae.likelihoods import NegativeBinomial, Poisson
from sklearn_vae.likelihoods.columnwise import STEPS_PER_SCALE
from sklearn_vae.numerics.rows import CACHED_NUMBERS

# Numbers of knots of normal scores, with the rows for each; and the few knots of shorter columns
# with far values, with the least number of rows.
N_KNOTS = (20, 40, 80, 160)
ROWS_PER_KNOT = 50
FEW_KNOTS = {5: 80, 10: 300}
# Further knots between the outer two of ``N_KNOTS`` on each side, as fractions: one segment would
# hold the whole tail.
OUTER_LEVELS = np.array([1 / 2, 1 / 4, 1 / 8])
# Knots are no nearer to each other, in standard deviations.
MIN_GAP = 1e-6
# Values are common from this fraction of the rows on, this number of rows, and this multiple of
# their neighbours' rows, unless any value of a column is so by chance.
COMMON_FROM = 0.002
COMMON_ROWS = 10
COMMON_TIMES = 4
# Columns of more values have no point mass for each.
MAX_VALUES = 128
# Counts beyond, and those of a larger mean, are modelled as real numbers: given the code, the
# variance of a count is its mean at least.
MAX_COUNT = 1000
MAX_MEAN_COUNT = 30
# Least gap between values, as a fraction of the largest, and least ratio of that to the step: with
# numbers of all sizes, as 1e-308 beside 1e308, no ratio overflows.
LEAST_GAP = 1e-100
# Pseudo-observations of each point mass.
PSEUDO_ROWS = 0.5
# Ratio of the standard deviation to that of a normal distribution with a column's quartiles from
# which on far values decide the former.
FAR = 5.0


class Values:
    """Unique values of a column (U,), in order, the rows of each by weight, and their step."""

    def __init__(self, values: np.ndarray, rows: np.ndarray, step: float) -> None:
        self.values, self.rows, self.step = values, rows, step
        self.n_rows = float(rows.sum())
        # divided by a power of two: no square overflows
        self.exponent = int(np.frexp(np.abs(values).max(initial=0.0))[1])
        self.scaled = np.ldexp(values, -self.exponent)
        self.scaled_step = float(np.ldexp(step, -self.exponent))

    @classmethod
    def of(cls, column: TrainingColumn) -> "Values":
        """Count the values of a column; of very many, those at evenly spaced quantiles."""
        step, (unique, rows) = recording(column)[1], column.counts
        unique = unique.astype(np.float64)
        if len(unique) <= CACHED_NUMBERS:
            return cls(unique, rows, step)
        ends, per_quantile = rows.cumsum(), rows.sum() / CACHED_NUMBERS
        quantiles = (np.arange(CACHED_NUMBERS) + 0.5) * per_quantile
        counts = np.bincount(np.searchsorted(ends, quantiles), minlength=len(rows)) * per_quantile
        counts[[0, -1]] = rows[[0, -1]]  # the range decides what is possible
        return cls(unique[counts > 0], counts[counts > 0], step)

    @cached_property
    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the scaled values."""
        return _moments(self.scaled, self.rows, self.scaled_step)

    @cached_property
    def robust_units(self) -> tuple[float, float]:
        """The moments, or median and quartiles where far values decide the former."""
        ends, (mean, std) = self.rows.cumsum(), self.moments
        quartiles = np.searchsorted(ends, np.array([0.25, 0.5, 0.75]) * ends[-1])
        low, median, high = self.scaled[quartiles]
        robust = max(high - median, median - low) / special.ndtri(0.75)
        return (median, robust) if LEAST_GAP < robust < std / FAR else (mean, std)

    @property
    def has_far_values(self) -> bool:
        """Whether a few values decide the standard deviation."""
        return bool(self.robust_units[1] < self.moments[1])

    def select(self, mask: np.ndarray) -> "Values":
        """Select some of the values; far smaller ones than the step do not have it."""
        values = self.values[mask]
        has_step = self.step * LEAST_GAP <= np.abs(values).max(initial=0) or not values.any()
        return Values(values, self.rows[mask], self.step if has_step else 0.0)


# What the encoding follows, and log-densities of the unique values (U,).
Candidate = tuple[Marginal, np.ndarray]


def choose_marginal(column: TrainingColumn) -> Marginal:
    """Choose the distribution of numbers, but for those that equal another column's."""
    values, is_whole = Values.of(column.unequal), column.is_equal is None
    if len(values.values) == 1:
        return Marginal(values.values)
    # numbers alone have point masses
    loss_of_counts = column.loss_of_counts if is_whole else np.inf

    def evidence(candidate: Candidate) -> float:
        marginal, log_density = candidate
        loss = 0.0 if marginal.counts is None else loss_of_counts
        return float(values.rows @ log_density) - values.n_rows * loss

    chosen, _ = max(find_candidates(values), key=evidence)
    if chosen.is_log and (not is_whole or len(chosen.point_masses)):
        return _log_knots(values, chosen)
    return chosen


def find_candidates(values: Values) -> list[Candidate]:
    """Find distributions of a column and their log-densities less a penalty."""
    common = is_common(values)
    if not values.step:  # only atoms occur again
        is_few = len(common) <= min(MAX_VALUES, values.n_rows / COMMON_ROWS)
        return _with_point_masses(values, common | (is_few & (values.rows >= 2)))
    candidates = [*_with_point_masses(values, common), *_counts(values)]
    if len(values.values) <= MAX_VALUES:
        ((marginal, log_density),) = _with_point_masses(values, np.ones_like(common))
        repeated = values.rows >= 2
        if (~repeated).sum() >= COMMON_ROWS:  # these are numbers, near to some values
            marginal = replace(marginal, point_masses=values.values[repeated])
        candidates.append((marginal, log_density))
    return candidates


def _penalty(n_params: int, n_rows: float) -> float:
    """Nats per row that parameters cost, by Schwarz's criterion."""
    return 0.5 * n_params * float(np.log(n_rows)) / n_rows


# -- point masses --------------------------------------------------------------------------


def is_common(values: Values) -> np.ndarray:
    """Mask of values that are common, or repeated and isolated: (U,).

    At most three are isolated: further from the others than these are from each other.
    """
    rows, n_rows = values.rows, values.n_rows
    least = max(COMMON_FROM * n_rows, COMMON_ROWS)
    below, above = np.append(rows[1:2], rows[:-1]), np.append(rows[1:], rows[-2:-1])
    gaps = np.maximum(np.diff(values.scaled), values.scaled_step or LEAST_GAP)
    ratio = (values.scaled_step or gaps.min()) / gaps
    # rows of a value that is as common as the two next to it, whose rows stand for the gaps
    expected = 0.5 * (below * np.append(ratio[:1], ratio) + above * np.append(ratio, ratio[-1:]))
    beside = below + above
    by_chance = stats.binom.sf(rows - 1, rows + beside, expected / (expected + beside))
    is_common = (rows >= least) & (rows >= COMMON_TIMES * np.maximum(expected, 1))
    is_common &= by_chance * len(rows) <= CHANCE
    for end, _ in islice(_far_ends(values.scaled, 1), 3):
        if rows[end] < 2:
            break
        is_common[end] = True
    return is_common


def _with_point_masses(values: Values, is_mass: np.ndarray) -> list[Candidate]:
    """Point masses, and distributions of the other values."""
    n_rows, rows = values.n_rows, values.rows
    numbers = values.select(~is_mass)
    has_numbers = len(numbers.values) > 0
    total = max(n_rows - 1, 0) + PSEUDO_ROWS * (is_mass.sum() + has_numbers)
    others = np.maximum(rows - 1, 0) + PSEUDO_ROWS  # but for the value itself
    log_density = np.log(others / total) - np.log(values.step or 1)
    log_density -= _penalty(int(is_mass.sum()), n_rows)
    if (is_once := is_mass & (rows <= 1)).any():  # without itself, a value had not been seen
        once = _normal(values) - np.log(n_rows + 1)
        log_density = np.where(is_once, np.minimum(log_density, once), log_density)
    point_masses = values.values[is_mass]
    if not has_numbers:
        return [(Marginal(point_masses), log_density)]
    n_numbers = max(numbers.n_rows - 1, 0) + PSEUDO_ROWS if is_mass.any() else total
    candidates = []
    for smooth, log_number in _smooth(numbers):
        both = log_density.copy()
        both[~is_mass] = log_number + np.log(n_numbers / total)
        candidates.append((replace(smooth, point_masses=point_masses), both))
    return candidates


# -- distributions without point masses --------------------------------------------------------


def _smooth(values: Values) -> list[Candidate]:
    """Normal distribution, and transforms.

    Models have mixtures of normal distributions, so that values in clusters need no transform.
    """
    n_rows = values.n_rows
    normal = _normal(values) - _penalty(2, n_rows)
    transforms: list[Candidate] = []
    # below a ratio of 2, logarithms are nearly linear
    if values.values[0] > 0.5 * values.step and values.values[-1] / 2 > values.values[0]:
        log_normal = _log_normal(values) - _penalty(3, n_rows)  # the transform is one
        transforms.append((Marginal(is_log=True), log_normal))
    transforms += _normal_scores(values)
    gains = [values.rows @ (log_density - normal) for _, log_density in transforms]
    # far values are no cluster: they would set the scale of the others
    if max(gains, default=0.0) > 0 and not values.has_far_values:
        transforms.append((Marginal(), _two_normals(values) - _penalty(4, n_rows)))
    return [(Marginal(), normal), *transforms]


def _normal(values: Values) -> np.ndarray:
    """Log-density of a normal distribution with the moments of the values: (U,)."""
    mean, scale = values.moments
    log_density = stats.norm.logpdf((values.scaled - mean) / scale)
    return log_density - np.log(scale) - values.exponent * np.log(2)


def _two_normals(values: Values) -> np.ndarray:
    """Log-density of a mixture of two normal distributions of one scale: (U,).

    It is fitted by 30 steps of EM to 500 quantiles.
    """
    mean, scale = values.moments
    standard = (values.scaled - mean) / scale
    ends = values.rows.cumsum()
    points = (np.arange(500) + 0.5) / 500 * ends[-1]
    x = standard[np.searchsorted(ends, points).clip(max=len(ends) - 1)]
    least = max(values.scaled_step / scale / STEPS_PER_SCALE, 0.01)
    loc, sigma, share = np.array([-1.0, 1.0]), 0.5, 0.5
    for _ in range(30):
        log_odds = (x - loc.mean()) * (loc[1] - loc[0]) / sigma**2 + special.logit(share)
        second = special.expit(log_odds).clip(ROUNDING, 1 - ROUNDING)
        p = np.stack([1 - second, second])
        loc, share = p @ x / p.sum(axis=1), second.mean()
        sigma = np.sqrt((p * np.square(x - loc[:, None])).sum(axis=0).mean() + least**2)
    log_p = stats.norm.logpdf(standard, loc[:, None], sigma) + np.log([[1 - share], [share]])
    return special.logsumexp(log_p, axis=0) - np.log(scale) - values.exponent * np.log(2)


def _log_normal(values: Values) -> np.ndarray:
    """Log-density of a log-normal distribution, with the moments of the logarithms: (U,).

    A step is wide among the logarithms of small values: a value has the probability of its cell.
    """
    x, half = values.values, 0.5 * values.step
    mean, scale = _moments(np.log(x), values.rows, 0.0)
    standard, low, high = ((np.log(edge) - mean) / scale for edge in (x, x - half, x + half))
    log_density = stats.norm.logpdf(standard) - np.log(scale) - np.log(x)
    is_wide = high - low > 1e-4  # in narrower ones the density is as precise
    if is_wide.any():
        log_probability = _log_probability(low[is_wide], high[is_wide])
        log_density[is_wide] = log_probability - np.log(values.step)
    return log_density


def _log_probability(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Log-probability of intervals of a standard normal variable: (n,), (n,) -> (n,)."""
    is_above = low > 0  # the lower tail is the precise one
    low, high = np.where(is_above, -high, low), np.where(is_above, -low, high)
    log_high = special.log_ndtr(high)
    return log_high + np.log(-np.expm1(special.log_ndtr(low) - log_high))


def _log_knots(values: Values, marginal: Marginal) -> Marginal:
    """Normal scores of the log-normal distribution of values that are no point masses."""
    numbers = values.select(~np.isin(values.values, marginal.point_masses))
    logs = np.log(numbers.values)
    mean, scale = _moments(logs, numbers.rows, 0.0)
    scores = np.linspace((logs[0] - mean) / scale, (logs[-1] - mean) / scale, 40)
    loc, unit = np.ldexp(numbers.moments, numbers.exponent).tolist()
    x = (np.exp(mean + scale * scores) - loc) / unit
    is_next = np.diff(x, prepend=-np.inf) > 0  # of values of all sizes, the smallest are one
    return replace(marginal, knots=np.column_stack([x, scores])[is_next], loc=loc, scale=unit)


def _normal_scores(values: Values) -> list[Candidate]:
    """Normal scores by each number of knots that there are enough rows for."""
    n_rows, exponent, (loc, scale) = values.n_rows, values.exponent, values.robust_units
    standard, half = (values.scaled - loc) / scale, 0.5 * values.scaled_step / scale
    cdf = _distribution_function(standard, half, values.rows)
    candidates: list[Candidate] = []
    few = [n for n, least in FEW_KNOTS.items() if values.has_far_values and n_rows >= least]
    for n_knots in (*few, *(n for n in N_KNOTS if n * ROWS_PER_KNOT <= n_rows)):
        knots = _fit_knots(*cdf, n_knots)
        if not len(knots):
            continue
        scores, slope = interpolate(standard, *knots.T)
        log_density = stats.norm.logpdf(scores) + np.log(slope / scale) - exponent * np.log(2)
        if values.step:  # a probability is at most 1
            log_density = np.minimum(log_density, -np.log(values.step))
        units = np.ldexp([loc, scale], exponent).tolist()
        marginal = Marginal(knots=knots, loc=units[0], scale=units[1])
        candidates.append((marginal, log_density - _penalty(len(knots), n_rows)))
    return candidates


def _fit_knots(values: np.ndarray, cdf: np.ndarray, n_knots: int) -> np.ndarray:
    """Choose knots at evenly spaced quantiles, and more in the tails: (n,), (n,) -> (knots, 2).

    Knots are standardized values and their normal scores, both increasing. There are none if the
    values are too close. The first and the last segment extend to infinity.
    """
    chosen = np.arange(len(values))
    if len(values) > 2 * n_knots:
        levels = np.linspace(cdf[0], cdf[-1], n_knots)
        chosen = np.searchsorted(cdf, levels).clip(max=len(cdf) - 1)
        if n_knots in N_KNOTS:
            outer = (levels[1] - levels[0]) * OUTER_LEVELS
            of_low = np.searchsorted(cdf, cdf[0] + outer)
            of_high = np.searchsorted(cdf, cdf[-1] - outer) - 1  # of a cell, too, the inner edge
            chosen = np.concatenate([chosen, of_low, of_high])
        # without knots there, the segment of a far value would hold others; a cell has two edges
        chosen = np.unique([*chosen.tolist(), *(index for _, index in _far_ends(values, 2))])
    keep = [0]
    for index in chosen[1:].tolist():
        if values[index] - values[keep[-1]] > MIN_GAP:
            keep.append(index)
    if len(keep) < 2:
        return np.zeros((0, 2))
    x, z = values[keep], special.ndtri(cdf[keep])
    # beyond the ends, the tails are those of a normal distribution, or heavier ones
    slopes = np.minimum((np.diff(z) / np.diff(x))[[0, -1]], 1.0)
    reach = np.maximum(np.abs(x[[0, -1]]) * MIN_GAP, 1.0) * [-1, 1]  # of far values, no less
    ends = np.column_stack([x[[0, -1]] + reach, z[[0, -1]] + slopes * reach])
    return np.concatenate([ends[:1], np.column_stack([x, z]), ends[1:]])


def _far_ends(values: np.ndarray, n_edges: int) -> Iterator[tuple[int, int]]:
    """Yield ends of ordered values that are further off than the others' range, one by one.

    They are the indices of the end, which has one or two edges, and of the value next to it.
    """
    low, high, gaps = 0, len(values) - 1, np.diff(values)
    while high - low > n_edges:
        left = low + int(gaps[low : low + n_edges].argmax())
        right = high - n_edges + int(gaps[high - n_edges : high].argmax())
        if gaps[right] > values[right] - values[low]:
            yield high, right
            high = right
        elif gaps[left] > values[high] - values[left + 1]:
            yield low, left + 1
            low = left + 1
        else:
            return


def _distribution_function(
    x: np.ndarray, half: float, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values in order, and their cumulative probabilities, above 0 and below 1: (n,), (n,).

    Each is spread evenly over its cell: half a recording step below and above it, if there is one.
    """
    n_rows = rows.sum()
    weight = rows / n_rows
    up_to = weight.cumsum()
    cdf = up_to - 0.5 * weight
    if half:
        x = np.maximum.accumulate(np.column_stack([x - half, x + half]).ravel())
        cdf = np.column_stack([up_to - weight, up_to]).ravel()
    # one row more, spread over the range and beyond it: increasing where there are no values
    extent = max(x[-1] - x[0], ROUNDING)
    return x, (n_rows * cdf + 0.5 * (x - x[0]) / extent + 0.25) / (n_rows + 1)


def _moments(x: np.ndarray, rows: np.ndarray, step: float) -> tuple[float, float]:
    """Mean, and standard deviation of at least a share of the step."""
    mean, variance = weighted_moments(x, rows)
    least = max(step / STEPS_PER_SCALE, float(np.finfo(np.float64).tiny))
    return mean, max(float(np.sqrt(variance)), least)


def _counts(values: Values) -> list[Candidate]:
    """Distribution of counts, if the values are ones; fitted by the method of moments.

    They are counts of the step where that is a whole number, as of thousands, and standardized ones
    where it is no decimal number or where no value is a multiple, and the lowest is no rare one.
    """
    step, low = values.step, values.values[0]
    origin = origin_of_counts(low, step)
    is_scaled = round(step, MAX_DECIMALS) != step or bool(is_between_steps(low, step))
    may_be_zero = step % 1 == 0 and low >= 0
    if is_scaled:
        may_be_zero = values.rows[0] >= max(values.n_rows / len(values.rows), 3)
    x = np.rint((values.values - origin) / step)
    is_count = np.abs(origin + x * step - values.values) <= LATTICE_TOLERANCE * step * is_scaled
    if not (may_be_zero and is_count.all()) or x[-1] > MAX_COUNT:
        return []
    mean, variance = weighted_moments(x, values.rows)
    if mean > MAX_MEAN_COUNT:
        return []
    if variance <= 1.1 * mean:  # it may be larger by chance
        counts: Poisson | NegativeBinomial = Poisson()
        log_prob = special.xlogy(x, mean) - mean - special.gammaln(x + 1)
    else:
        counts, shape = NegativeBinomial(), mean**2 / (variance - mean)
        log_prob = stats.nbinom.logpmf(x, shape, shape / (shape + mean))
    marginal = Marginal(counts=counts, unit_of_counts=step)
    penalty = _penalty(len(counts.depends_on_z), values.n_rows)
    return [(marginal, log_prob - np.log(step) - penalty)]
