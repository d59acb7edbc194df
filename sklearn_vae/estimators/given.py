"""Columns and their values as users name them: indices of columns, and a row of given values."""

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Real

import numpy as np

from sklearn_vae.data.arrays import format_value
from sklearn_vae.data.fields import Field, Name, seconds, shorten, time_type
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.persistence.validation import invalid_parameter
from sklearn_vae.system import warn

# Relative rounding error of the largest values of a dtype.
ROUNDING = 1e-9


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
            raise ValueError(f"{message}, which {encoder.describe_reason(int(j), fields)}.")
    for j in np.flatnonzero(encoder.is_unseen(row[None])[0]).tolist():
        raise ValueError(
            f"The 'given' parameter of {caller} contradicts itself: column {names[j]!r} has the "
            f"value {given[names[j]]!r}, which {encoder.describe_reason(j, fields)}."
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
    if not field.limits[0] <= number / (1 + ROUNDING) <= field.limits[1]:
        raise ValueError(f"{message}, which is beyond the range of its dtype {field.dtype}.")
    return number
