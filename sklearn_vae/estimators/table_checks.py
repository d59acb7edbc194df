"""Checks of tables and of the weights of their rows; schemas of tables."""

import math
from collections.abc import Sequence
from itertools import compress
from typing import Any

import narwhals as nw
import numpy as np

from sklearn_vae._compat import check_sample_weight, num_samples
from sklearn_vae._typing import Rows, Weights
from sklearn_vae.data.arrays import as_array, as_narwhals, is_sparse
from sklearn_vae.data.fields import Name, first_of
from sklearn_vae.data.schema import Schema
from sklearn_vae.networks import Network
from sklearn_vae.system.warnings import warn

# Largest sum of weights: the next number of copies is no floating-point number. A sum below the
# smallest one is nothing beside one row.
MAX_TOTAL_WEIGHT = 2.0**53
MIN_TOTAL_WEIGHT = 2.0**-53
# Weights of a smaller mean are hardly meant as numbers of copies.
MIN_MEAN_WEIGHT = 0.25


def fit_schema(X: Rows, network: Network) -> Schema | None:
    """Fit the schema of a table whose columns have types; refuse columns of numbers and text."""
    if is_sparse(X):
        return None
    X = as_array(X)
    if isinstance(X, np.ndarray | list | tuple):
        has_types = np.asarray(X).dtype.kind in "USOTVMm"
    else:
        has_types = isinstance(as_narwhals(X), nw.DataFrame)
    if not has_types:  # an array of numbers
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


def check_weights(X: Rows, sample_weight: Weights, min_rows: int) -> tuple[Any, np.ndarray]:
    """Check the numbers of times that rows count, and leave out rows of weight 0: rows, (n,).

    Categories of rows of weight 0 do not count, either.
    """
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
    if not MIN_TOTAL_WEIGHT <= total <= MAX_TOTAL_WEIGHT:
        raise ValueError(
            f"sample_weight is the number of times that each row counts, and its sum must be "
            f"between {MIN_TOTAL_WEIGHT:.3g} and {MAX_TOTAL_WEIGHT:.3g}. Got {total:.3g} instead; "
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


def warn_of_small_weights(weight: np.ndarray) -> None:
    """Warn of weights (n,) that are hardly meant as numbers of copies."""
    total = weight.sum()
    if total < MIN_MEAN_WEIGHT * len(weight):
        warn(
            f"sample_weight is the number of times that each row counts, and its sum makes a "
            f"table of {total:.3g} rows of the {len(weight)} with a weight above 0. Divide it by "
            f"its mean to have each row count once on average."
        )


def with_column_names(error: ValueError, X: Rows, names: Sequence[Name] | None) -> ValueError:
    """Add to scikit-learn's error the columns at fault, and advice."""
    message = str(error).partition("\n")[0]  # what follows is advice on other estimators
    if message.startswith("Found array with dim"):
        return ValueError(f"{message} Make each sample a row, by X.reshape(len(X), -1).")
    is_of_values = message.startswith(("Input X contains", "could not convert"))
    if not is_of_values or (table := np.asarray(X)).ndim != 2:
        return error
    counts = [_count_invalid(column) for column in table.T]
    columns = [
        f"column {name!r} ({n} {'value' if n == 1 else 'values'})"
        for name, n in zip(range(len(counts)) if names is None else names, counts, strict=True)
        if n > 0
    ]
    if not columns:
        return error
    return ValueError(f"{message.rstrip('.')}, in {first_of(columns)}.")


def _count_invalid(column: np.ndarray) -> int:
    """Count the values that are neither finite numbers nor missing."""
    if column.dtype.kind in "biuf":
        return int(np.isinf(column).sum())
    return sum(not is_finite_number(value) for value in column)


def is_finite_number(value: Any) -> bool:
    """Return whether a value is a finite number or NaN, or a text of one."""
    try:
        return not math.isinf(float(value))
    except (TypeError, ValueError, OverflowError):
        return False
