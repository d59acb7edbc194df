"""Choice of each column's likelihood, as requested or by evidence, and of its encoding.

A transform such as the logarithm may suit a column's own distribution and bend its relation with
others, or straighten it. So encodings are chosen by the evidence of all columns together, that of
a joint normal distribution of the encoded columns: the sum of the marginal log-densities, less half
the log-determinant of the correlations.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from sklearn_vae.data.columns import COLUMNS
from sklearn_vae.data.columns.base import Columns
from sklearn_vae.data.fields import Name
from sklearn_vae.data.marginals import candidate_marginals
from sklearn_vae.data.training_column import Marginal, TrainingColumn, equal_up_to_rounding
from sklearn_vae.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    Gaussian,
    Likelihood,
    LogNormal,
    Ordinal,
    ZeroInflated,
)

# A smaller table does not show that a column can only have two values, unless they are 0 and 1.
MIN_ROWS_FOR_BINARY = 10

# A likelihood with its settings, or its class.
Request = Likelihood | type[Likelihood]
# Beyond so many columns, each is chosen alone.
MAX_COLUMNS = 128
# Passes over the columns, at most.
MAX_PASSES = 10
# Added to the diagonal of correlations, of which some are 1.
RIDGE = 1e-6


def requested_likelihoods(likelihood: object, names: Sequence[Name]) -> list[Request | None]:
    """Split the parameter ``likelihood`` by column: a class, an object, or None for "auto"."""
    if isinstance(likelihood, Mapping):
        for key in likelihood:
            if not (key in names or key in range(len(names))):
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


# A fitted column, its marginal log-density per row, and what other columns may add to it at most.
Option = tuple[Columns, float, float]


def likelihood_options(column: TrainingColumn, *, is_plain: bool = False) -> list[Option]:
    """Choose the likelihood of a column and fit it: as requested, or by the dtype and the values.

    Numbers may have several, between which the other columns decide; with ``is_plain`` they are
    standardized.
    """
    values, field = column.values, column.field
    low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
    is_one_of_two = (values == low) | (values == high)
    has_rows = round(column.n_rows) >= MIN_ROWS_FOR_BINARY or (low == 0 and high == 1)
    likelihood: Likelihood | None
    if equal_up_to_rounding(low, high):
        likelihood = None
    elif column.requested is not None:
        likelihood = _likelihood_as_requested(column)
    elif field.categories is not None:
        kind = "Ordinal" if field.logical_type == "ordered" else "Categorical"
        likelihood = COLUMNS[kind].resolve(column)
    elif has_rows and is_one_of_two.all():
        likelihood = Bernoulli()
    elif is_plain:
        likelihood = Gaussian()
    else:
        options = []
        for marginal, log_density, max_gain in candidate_marginals(column):
            likelihood = _likelihood_of_marginal(marginal, has_partner=column.is_equal is not None)
            fitted = _fit(replace(column, marginal=marginal), likelihood)
            options.append((fitted, log_density, max_gain))
        return options
    return [(_fit(column, likelihood), 0.0, math.inf)]


def _fit(column: TrainingColumn, likelihood: Likelihood | None) -> Columns:
    return COLUMNS[type(likelihood).__name__].fit(column, likelihood)


def _likelihood_of_marginal(marginal: Marginal, *, has_partner: bool) -> Likelihood:
    if marginal.counts is not None:
        return marginal.counts
    if n_spikes := len(marginal.point_masses) + has_partner:
        return ZeroInflated(n_spikes)
    return LogNormal() if marginal.is_log else Gaussian()


def choose_encodings(
    encodings: Sequence[Iterable[np.ndarray]],
    log_density: Sequence[Sequence[float]],
    max_gain: Sequence[Sequence[float]],
    weights: np.ndarray,
) -> list[int]:
    """Choose one encoding of each column, by index.

    Each column has encodings (n,), NaN where values are missing, which are computed if needed;
    their marginal log-densities per row; and what the other columns may add to each, at most.
    """
    best_alone = [int(np.argmax(each)) for each in log_density]
    if len(encodings) > MAX_COLUMNS or all(len(each) == 1 for each in log_density):
        return best_alone
    correlation = _correlation(np.stack([z for each in encodings for z in each]), weights)
    first = np.cumsum([0, *(len(each) for each in log_density)])[:-1]
    marginal, limit = (np.concatenate([*map(np.array, part)]) for part in (log_density, max_gain))
    starts = [[0] * len(encodings), best_alone]
    found = [_ascend(correlation, marginal, limit, first, np.array(start)) for start in starts]
    return max(found, key=lambda pair: pair[0])[1].tolist()


def _correlation(z: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Correlations of encodings (D, n), shrunk by one pseudo-observation per encoding: (D, D)."""
    observed = ~np.isnan(z)
    weight = np.where(observed, weights, 0.0)
    total = np.maximum(weight.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    z = np.where(observed, z, 0.0)
    z = np.where(observed, z - (weight * z).sum(axis=1, keepdims=True) / total, 0.0)
    z *= np.sqrt(weights)
    scale = np.linalg.norm(z, axis=1, keepdims=True)
    z /= np.where(scale > 0, scale, 1.0)
    n_rows = weights.sum()
    correlation = z @ z.T * (n_rows / (n_rows + len(z)))
    np.fill_diagonal(correlation, 1 + RIDGE)
    return correlation


def _ascend(
    correlation: np.ndarray,
    marginal: np.ndarray,
    limit: np.ndarray,
    first: np.ndarray,
    chosen: np.ndarray,
) -> tuple[float, np.ndarray]:
    """Change encodings one by one as long as the evidence rises; return it and the choice."""
    ends = np.append(first[1:], len(marginal))
    precision = np.linalg.inv(correlation[np.ix_(first + chosen, first + chosen)])
    for _ in range(MAX_PASSES):
        is_changed = False
        for j in np.flatnonzero(ends - first > 1).tolist():
            options, current = np.arange(first[j], ends[j]), first + chosen
            # variances given the other columns, whose precision is that of all without column j
            covariance = np.delete(correlation[np.ix_(current, options)], j, axis=0)
            others = np.delete(np.delete(precision, j, axis=0), j, axis=1)
            beside = np.delete(precision[j], j)
            explained = (covariance * (others @ covariance)).sum(axis=0)
            explained -= np.square(beside @ covariance) / precision[j, j]
            residual = np.maximum(1 + RIDGE - explained, RIDGE)
            gain = np.minimum(-0.5 * np.log(residual), limit[options])
            best = int(np.argmax(marginal[options] + gain))
            if best != chosen[j]:
                chosen[j], is_changed = best, True
                precision = np.linalg.inv(correlation[np.ix_(first + chosen, first + chosen)])
        if not is_changed:
            break
    current = first + chosen
    _, log_det = np.linalg.slogdet(correlation[np.ix_(current, current)])
    return float(marginal[current].sum() - 0.5 * log_det), chosen
