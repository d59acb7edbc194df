"""Checks of parameters, of the methods' arguments, of tables and of the weights of their rows."""

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import compress
from numbers import Integral, Real
from typing import Any

import narwhals as nw
import numpy as np
from sklearn.base import BaseEstimator

from sklearn_vae._compat import (
    Interval,
    StrOptions,
    check_sample_weight,
    num_samples,
    validate_parameter_constraints,
)
from sklearn_vae.data.arrays import Rows, Weights, as_array, as_narwhals, format_value, is_finite
from sklearn_vae.data.fields import Field, Name, first_of, seconds, shorten, time_type
from sklearn_vae.data.schema import Schema
from sklearn_vae.data.sources import check_is_table
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.likelihoods import LIKELIHOODS, Likelihood
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.networks import NETWORKS, Network
from sklearn_vae.objectives import OBJECTIVES
from sklearn_vae.persistence.validation import MAX_COUNT, check_positive_ints, invalid_parameter
from sklearn_vae.posteriors import POSTERIORS
from sklearn_vae.priors import PRIORS
from sklearn_vae.system import warn

# Of all parameters that estimators share; an estimator has the constraints of its own.
CONSTRAINTS: dict[str, Any] = {
    "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    "network": [StrOptions(set(NETWORKS)), Network],
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, MAX_COUNT, closed="both")],
    "likelihood": [StrOptions({"auto", *LIKELIHOODS}), Likelihood, list, tuple, Mapping],
    "handle_unknown": [StrOptions({"infrequent", "missing", "error"})],
    "conditional": ["boolean"],
    "prior": [StrOptions({"auto", *PRIORS}), *map(type, PRIORS.values())],
    "posterior": [StrOptions({"auto", *POSTERIORS}), *map(type, POSTERIORS.values())],
    "objective": [StrOptions(set(OBJECTIVES)), *map(type, OBJECTIVES.values())],
    "beta": [Interval(Real, 0, None, closed="left"), callable],
    "max_iter": [Interval(Integral, 1, MAX_COUNT, closed="both")],
    "batch_size": [Interval(Integral, 1, MAX_COUNT, closed="both")],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "early_stopping": [StrOptions({"auto"}), "boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, MAX_COUNT, closed="both")],
    "refit": ["boolean"],
    "n_init": [StrOptions({"auto"}), Interval(Integral, 1, 1000, closed="both")],  # all in memory
    "ensemble": ["boolean"],
    "callbacks": [list, tuple, None],
    "device": [str],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}  # fmt: skip


def resolve_widths(
    hidden_layer_sizes: int | Sequence[int] | np.ndarray, caller: str
) -> tuple[int, ...]:
    """Convert the parameter ``hidden_layer_sizes`` to a tuple of integers."""
    sizes: Any = hidden_layer_sizes
    is_one = isinstance(sizes, Integral) or getattr(sizes, "ndim", 1) == 0
    return check_positive_ints(caller, "hidden_layer_sizes", [sizes] if is_one else list(sizes))


def check_network(estimator: BaseEstimator) -> None:
    """Name CustomNetwork to users who give a module of their own."""
    network = estimator.network
    if callable(network) and not isinstance(network, Network):
        expected = (
            f"be one of {sorted(NETWORKS)} or a network of sklearn_vae.networks; "
            f"CustomNetwork(encoder=..., decoder=...) takes modules of your own"
        )
        raise invalid_parameter(estimator, "network", expected, network)


def check_callbacks(estimator: BaseEstimator) -> None:
    """Refuse callbacks that are none of skorch's."""
    if not estimator.callbacks:
        return
    from skorch.callbacks import Callback

    for entry in estimator.callbacks:
        listener = entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry
        if not isinstance(listener, Callback):
            expected = "hold skorch callbacks, or tuples of a name and one"
            raise invalid_parameter(estimator, "callbacks", expected, entry)


def check_not_autoregressive(network: Network, method: str) -> None:
    """Refuse an autoregressive decoder in a method that needs columns independent given z."""
    if network.row_structure.is_autoregressive:
        raise ValueError(
            f"{method} needs columns that are independent given a code, and those of {network!r} "
            f"follow on one another. With autoregressive=False they do not."
        )


def check_allows_missing(estimator: BaseEstimator, method: str) -> None:
    """Refuse a network that does not allow missing values anywhere in a row."""
    network = estimator.architecture_.network
    if estimator.architecture_.variable_length:
        raise ValueError(
            f"{method} needs rows that may have missing values anywhere, and those of {network!r} "
            f"end at a missing value."
        )


def check_row_lengths(architecture: Architecture, X: np.ndarray, is_empty: np.ndarray) -> None:
    """Refuse sequences with gaps, and shorter ones if all training rows had one length.

    Columns of the mask ``is_empty`` (n_features,) lie beyond the end of all training rows.
    """
    architecture.network.row_structure.check_missing(X)
    ends_early = np.isnan(X[:, ~is_empty]).any(axis=1)
    if not architecture.n_factors and ends_early.any():
        raise ValueError(
            f"Row {int(ends_early.argmax())} of X ends early, and all rows in fit had one length. "
            f"Fit rows of several lengths to have such rows scored."
        )


def check_random_state(random_state: object, caller: str) -> None:
    """Check a method's ``random_state`` as the constructor's parameter is checked."""
    validate_parameter_constraints(CONSTRAINTS, {"random_state": random_state}, caller)


# -- tables and weights ---------------------------------------------------------------------


def fit_schema(X: Any, network: Network) -> Schema | None:
    """Fit the schema of a table whose columns have types; refuse columns of numbers and text."""
    if isinstance(X, np.ndarray | list | tuple):
        has_types = np.asarray(X).dtype.kind in "USOTVMm"
    else:
        has_types = isinstance(as_narwhals(X), nw.DataFrame)
    if not has_types:  # an array of numbers
        return None
    schema = Schema.fit(X)
    period = network.for_n_features(len(schema.fields)).row_structure.period
    if period is not None:
        schema = schema.shared_categories(period)
    for field in schema.fields:
        texts = sorted((x for x in field.categories or () if isinstance(x, str)), key=is_finite)
        if texts and len(texts) < len(field.categories or ()):
            raise ValueError(
                f"Column {field.name!r} of X holds text, such as {texts[0]!r:.50}, and numbers. "
                f"Give numbers (NaN where one is missing), or text alone for categories."
            )
    return schema


def check_weights(X: Rows, sample_weight: Weights, min_rows: int) -> tuple[Any, np.ndarray]:
    """Check the numbers of times that rows count, and leave out rows of weight 0: rows, (n,).

    Categories of rows of weight 0 do not count, either.
    """
    check_is_table(X, "sample_weight")
    no_values = np.empty(num_samples(X))
    weight: np.ndarray = check_sample_weight(
        as_array(sample_weight), no_values, dtype=np.float64, ensure_non_negative=True
    )
    is_positive = weight > 0
    with np.errstate(over="ignore"):
        total, n_positive = weight.sum(), is_positive.sum()
    if n_positive < min_rows:
        raise ValueError(
            f"Too many sample weights are zero: {n_positive} of {len(weight)} rows have a weight "
            f"above 0, and at least {min_rows} are needed."
        )
    # beyond, the next number of copies is no floating-point number, or nothing beside one row
    least, largest = 2.0**-53, 2.0**53
    if not least <= total <= largest:
        raise ValueError(
            f"sample_weight is the number of times that each row counts, and its sum must be "
            f"between {least:.3g} and {largest:.3g}. Got {total:.3g} instead; "
            f"divide it by its mean to have each row count once on average."
        )
    if is_positive.all():
        return X, weight
    frame = as_narwhals(X)
    if isinstance(frame, nw.DataFrame):
        rows = frame.filter(is_positive.tolist()).to_native()
    elif isinstance(X, list | tuple):
        rows = [*compress(X, is_positive)]
    else:
        rows = as_array(X)[is_positive]
    return rows, weight[is_positive]


def with_column_names(error: ValueError, X: Rows, names: Sequence[Name]) -> ValueError:
    """Add to scikit-learn's error the columns at fault, and advice."""
    message = str(error).partition("\n")[0]  # what follows is advice on other estimators
    if message.startswith("Found array with dim"):
        return ValueError(f"{message} Make each sample a row, by X.reshape(len(X), -1).")
    is_of_values = message.startswith(("Input X contains", "could not convert"))
    if not is_of_values or (table := np.asarray(X)).ndim != 2:
        return error
    counts = [sum(not is_finite(value) for value in column) for column in table.T]
    columns = [
        f"column {name!r} ({n} {'value' if n == 1 else 'values'})"
        for name, n in zip(names or range(len(counts)), counts, strict=True)
        if n > 0
    ]
    if not columns:
        return error
    return ValueError(f"{message.rstrip('.')}, in {first_of(columns)}.")


# -- columns and values by name ---------------------------------------------------------


def column_indices(
    columns: Iterable[Name], names: Sequence[Name], parameter: str, caller: str
) -> np.ndarray:
    """Find columns by name, or by position where they have no names: sorted indices (n,)."""
    if isinstance(columns, str | Mapping) or not isinstance(columns, Iterable):
        raise invalid_parameter(caller, parameter, "be a list of columns of X", columns)
    index_of = {name: j for j, name in enumerate(names)}
    has_names_of_truths = any(isinstance(name, bool) for name in names)
    indices = set()
    for column in columns:
        try:
            if isinstance(column, bool | np.bool_) and not has_names_of_truths:
                raise KeyError(column)  # a mask's True is not the column 1
            indices.add(index_of[column])
        except (KeyError, TypeError):
            raise ValueError(
                f"The '{parameter}' parameter of {caller} names the column {column!r}, which X did "
                f"not have in fit; its columns were {shorten(names)}."
            ) from None
    return np.array(sorted(indices), dtype=int)


def given_row(
    given: Mapping[Name, object],
    fields: Sequence[Field],
    encoder: TableEncoder,
    caller: str,
    dtype: np.dtype,
) -> np.ndarray:
    """Make a row (n_features,) of values by name or position, in which all other columns are NaN.

    Categories become codes.
    """
    names = encoder.names
    if not isinstance(given, Mapping):
        expected = f"be a dict of values by column, such as {{{names[0]!r}: value}}"
        raise invalid_parameter(caller, "given", expected, given)
    fields = fields or [Field(name, "number", None, "float64") for name in names]
    row = np.full(len(names), np.nan)
    for column, value in given.items():
        (j,) = column_indices([column], names, "given", caller)
        message = f"The 'given' parameter of {caller} has the value {value!r} for column {column!r}"
        row[j] = _to_number(value, fields[j], message)
        if abs(row[j]) > np.finfo(dtype).max:
            raise ValueError(f"{message}, which is beyond the range of {dtype}.")
        value_alone = np.where(np.arange(len(names)) == j, row, np.nan)[None]
        if encoder.is_unseen(value_alone).any():
            raise ValueError(f"{message}, which {encoder.describe_reason(int(j), row, fields)}.")
    for j in np.flatnonzero(encoder.is_unseen(row[None])[0]).tolist():
        raise ValueError(
            f"The 'given' parameter of {caller} contradicts itself: column {names[j]!r} has the "
            f"value {given[names[j]]!r}, which {encoder.describe_reason(j, row, fields)}."
        )
    if encoder.are_broken(row[None]).any():
        related = [names[j] for j in encoder.related.tolist() if not np.isnan(row[j])]
        warn(
            f"The 'given' parameter of {caller} has values that no row had together in fit, in "
            f"columns of which one follows from or is at most another: {shorten(related)}. "
            f"Sampled rows break this rule, too."
        )
    if far := _far_values(row, given, fields, encoder):
        warn(
            f"The 'given' parameter of {caller} has a value far outside of the range of the "
            f"training rows: {', '.join(far)}. Sampled rows are hardly those of such values, and "
            f"may all be equal."
        )
    return row.astype(dtype)


def _far_values(
    row: np.ndarray, given: Mapping[Name, object], fields: Sequence[Field], encoder: TableEncoder
) -> list[str]:
    """Describe given values further from the training rows than these are from each other."""
    low, high = encoder.within_bounds(np.array([[-np.inf], [np.inf]]) * np.ones(len(row)))
    with np.errstate(over="ignore"):
        is_far = np.maximum(low - row, row - high) > high - low
    far = []
    for j in np.flatnonzero(is_far).tolist():
        name = encoder.names[j]
        texts = map(format_value, fields[j].decode(np.array([low[j], high[j]])).tolist())
        far.append(f"{given[name]!r} for column {name!r} ({' to '.join(texts)} in fit)")
    return far


def _to_number(value: object, field: Field, message: str) -> float:
    """Convert a value to the number that it has in the model's rows."""
    if field.categories is not None:
        value = value.item() if isinstance(value, np.generic) else value
        try:
            return float({category: code for code, category in enumerate(field.categories)}[value])
        except (KeyError, TypeError):
            categories = shorten(field.categories) or "none"
            raise ValueError(f"{message}, whose categories were {categories} in fit.") from None
    if time_type(field.dtype) is not None:
        number = seconds(value, field, message)
    elif not isinstance(value, Real | Decimal) or isinstance(value, bool | np.bool_):
        raise ValueError(f"{message}, which holds numbers.")
    else:
        try:
            number = float(value)
        except OverflowError:
            raise ValueError(f"{message}, which is beyond the range of float64.") from None
    if not math.isfinite(number):
        raise ValueError(f"{message}; it must be finite. Leave out columns that are not given.")
    if field.logical_type == "integer" and not number.is_integer():
        raise ValueError(f"{message}, which holds whole numbers.")
    if not field.limits[0] <= number / (1 + 1e-9) <= field.limits[1]:  # but for rounding
        raise ValueError(f"{message}, which is beyond the range of its dtype {field.dtype}.")
    return number
