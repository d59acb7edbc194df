"""Validation of tables: schemas, identifiers, and messages that name the columns at fault."""

import math
from typing import Any

import narwhals as nw
import numpy as np

from sklearn_vae.data.fields import shorten
from sklearn_vae.data.reading import has_column_types
from sklearn_vae.data.schema import Schema
from sklearn_vae.networks import Network
from sklearn_vae.warnings import warn

# Beginnings of scikit-learn's messages about the values of a table.
VALUE_ERRORS = ("Input X contains", "could not convert")
# Advice for tables of more than two dimensions.
RESHAPE_ADVICE = (
    "Make each sample a row: FlattenImages() does it in a Pipeline, for images, and "
    "X.reshape(len(X), -1) for sequences."
)
# Columns that a message names, at most.
MAX_COLUMNS_NAMED = 5
# A text column is taken for row identifiers if it has more distinct values, in total and per row.
MAX_CLASSES_UNCHECKED = 20
MAX_CLASSES_PER_ROW = 0.5


def warn_of_identifiers(X: np.ndarray, schema: Schema) -> None:
    """Warn of text columns in which few values occur twice."""
    for j, field in enumerate(schema.fields):
        texts = [value for value in field.categories or () if isinstance(value, str)]
        if len(texts) <= MAX_CLASSES_UNCHECKED:
            continue
        n_unique, n_rows = len(np.unique(X[:, j])), len(X)
        if n_unique > max(MAX_CLASSES_UNCHECKED, MAX_CLASSES_PER_ROW * n_rows):
            warn(
                f"Column {field.name!r} of X holds {n_unique} different texts in {n_rows} rows, "
                f"which are taken for classes. A model cannot learn from classes of one row each: "
                f"leave the column out if it names the rows, or encode its meaning."
            )


def fit_schema(X: Any, network: Network) -> Schema | None:
    """Fit the schema of a table whose columns have types; refuse columns of numbers and text."""
    if not has_column_types(X):
        return None
    schema = Schema.fit(X)
    structure = network.for_n_features(len(schema.fields)).row_structure
    if structure.shared_scale:
        schema = schema.shared_categories(structure.values_per_step)
    for field in schema.fields:
        texts = [value for value in field.categories or () if isinstance(value, str)]
        if texts and len(texts) < len(field.categories or ()):
            raise ValueError(
                f"Column {field.name!r} of X holds text, such as {texts[0]!r}, and numbers. Give "
                f"numbers (NaN where one is missing), or text alone for categories."
            )
    return schema


def check_column_order(X: Any, schema: Schema) -> None:
    """Refuse columns in another order than in fit; scikit-learn checks names of text only."""
    if not nw.dependencies.is_into_dataframe(X):
        return
    names = [field.name for field in schema.fields]
    found, expected = (
        [None if isinstance(name, float) and name != name else name for name in columns]  # NaN
        for columns in (nw.from_native(X).columns, names)
    )
    if found != expected and set(found) == set(expected):
        raise ValueError(
            f"The feature names should match those that were passed during fit.\n"
            f"Feature names must be in the same order as they were in fit: {shorten(names)}."
        )


def with_column_names(error: ValueError, X: Any, names: Any = None) -> ValueError:
    """Add to scikit-learn's error the columns at fault, and advice."""
    message = str(error).partition("\n")[0]  # what follows is advice on other estimators
    if message.startswith("Found array with dim"):
        return ValueError(f"{message} {RESHAPE_ADVICE}")
    if not message.startswith(VALUE_ERRORS) or (table := np.asarray(X)).ndim != 2:
        return error
    counts = [_count_invalid(column) for column in table.T]
    columns = [
        f"column {name!r} ({n} {'value' if n == 1 else 'values'})"
        for name, n in zip(range(len(counts)) if names is None else names, counts, strict=True)
        if n > 0
    ]
    if not columns:
        return error
    if len(columns) > MAX_COLUMNS_NAMED:
        columns[MAX_COLUMNS_NAMED:] = [f"and {len(columns) - MAX_COLUMNS_NAMED} more"]
    return ValueError(f"{message.rstrip('.')}, in {', '.join(columns)}.")


def _count_invalid(column: np.ndarray) -> int:
    """Count the values that are neither finite numbers nor missing."""
    if column.dtype.kind in "biuf":
        return int(np.isinf(column).sum())
    return sum(not _is_valid(value) for value in column)


def _is_valid(value: Any) -> bool:
    try:
        number = float(value)
        return not math.isinf(number)
    except (TypeError, ValueError, OverflowError):
        return False
