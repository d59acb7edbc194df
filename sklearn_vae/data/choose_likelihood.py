"""Choice of each column's likelihood, as requested or by evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sklearn_vae.data.columns import COLUMNS
from sklearn_vae.data.columns.base import Columns
from sklearn_vae.data.fields import Name
from sklearn_vae.data.marginals import choose_marginal
from sklearn_vae.data.training_column import ROUNDING, TrainingColumn
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
    contradiction, field = columns.contradiction(column), column.field
    is_nominal = field.logical_type == "category" and len(field.categories or ()) > 2
    if is_nominal and not issubclass(likelihood, Bernoulli | Categorical | Ordinal):
        contradiction = "numbers", "categories without an order"
    if contradiction:
        name = next(name for name, cls in LIKELIHOODS.items() if cls is likelihood)
        may_be_normal = not (is_nominal or issubclass(likelihood, Gaussian))
        alternative = "'gaussian' or 'auto'" if may_be_normal else "'auto'"
        raise ValueError(
            f"likelihood={name!r} needs column {field.name!r} to have {contradiction[0]}, "
            f"but it has {contradiction[1]}; use {alternative} for it."
        )
    return columns.resolve(column)


def fit_column(column: TrainingColumn, *, is_plain: bool = False) -> Columns:
    """Fit a column with the requested likelihood, or one by evidence; plain ones are Gaussian."""
    values, field = column.values, column.field
    low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
    is_one_of_two = (values == low) | (values == high)
    has_rows = round(column.n_rows) >= MIN_ROWS_FOR_BINARY or (low == 0 and high == 1)
    with np.errstate(over="ignore"):
        is_constant = high - low <= ROUNDING * max(abs(low), abs(high))
    likelihood: Likelihood | None
    if is_constant:
        likelihood = None
    elif column.requested is not None:
        likelihood = _likelihood_as_requested(column)
    elif field.categories is not None:
        name = "Ordinal" if field.logical_type == "ordered" else "Categorical"
        likelihood = COLUMNS[name].resolve(column)
    elif has_rows and is_one_of_two.all():
        likelihood = Bernoulli()
    elif is_plain:
        likelihood = Gaussian()
    else:
        marginal = choose_marginal(column)
        column = replace(column, marginal=marginal)
        likelihood = marginal.counts or (LogNormal() if marginal.is_log else Gaussian())
        if n_masses := len(marginal.point_masses) + (column.is_equal is not None):
            likelihood = ZeroInflated(n_masses)
    return COLUMNS[type(likelihood).__name__].fit(column, likelihood)
