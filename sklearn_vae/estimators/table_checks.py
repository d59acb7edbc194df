"""Checks of tables and of the weights of their rows; schemas of tables."""

import math
import re
from collections.abc import Sequence
from itertools import islice
from typing import Any

import narwhals as nw
import numpy as np
from scipy.sparse import issparse

from sklearn_vae._compat import check_sample_weight, num_samples
from sklearn_vae.data.arrays import as_array
from sklearn_vae.data.fields import Name
from sklearn_vae.data.schema import Schema
from sklearn_vae.data.sources import as_narwhals
from sklearn_vae.networks import Network
from sklearn_vae.row_subsets import spread_out
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
# A value this many times as far from the median as the quartiles is an error, or a code for missing
# values: of a Cauchy distribution, one value in a million is. Quartiles are of so many rows.
EXTREME_FACTOR = 1e6
ROWS_OF_QUARTILES = 256
# Codes for missing values, but for their sign: 99, 999, 9999 and so on.
NINES = 10.0 ** np.arange(2, 16) - 1
# Integers number the rows if all are different and fill half of their range. Random ones do not, in
# so many rows: the probability is e^-30.
MIN_ROWS_NUMBERED = 100
# Texts for missing values, and the number of them that a column of numbers may have.
MISSING_TEXT = re.compile(r"\W*|n/?a|none|null|missing|unknown", re.IGNORECASE)
MAX_MISSING_TEXTS = 3
# Shorter texts may be codes in which capitals have a meaning, as those of elements.
MIN_LENGTH_WITHOUT_CASE = 3
# Text that is a date, with or without a time.
DATE = re.compile(r"(\d{4}([-/.])\d\d?\2\d\d?|\d\d?([-/.])\d\d?\3\d{4})([T ].*)?")
# Largest sum of weights: the next number of copies is no floating-point number. A sum below the
# smallest one is nothing beside one row.
MAX_TOTAL_WEIGHT = 2.0**53
MIN_TOTAL_WEIGHT = 2.0**-53
# Weights of a smaller mean are hardly meant as numbers of copies.
MIN_MEAN_WEIGHT = 0.25


def warn_of_identifiers(X: np.ndarray, schema: Schema) -> None:
    """Warn of columns that number the rows, and of strings that are no classes, or spelt badly.

    Such strings are dates, numbers with a text for missing ones, or different in most rows.
    """
    numbered, dates, numbers, spellings, found, n_rows = [], [], [], [], [], len(X)
    for j, field in enumerate(schema.fields):
        if field.logical_type == "integer" and _numbers_rows(X[:, j]):
            numbered.append(repr(field.name))
        texts = [value for value in field.categories or () if isinstance(value, str)]
        if len(texts) > MAX_CLASSES_UNCHECKED:
            if all(map(DATE.fullmatch, texts)):
                dates.append(repr(field.name))
                continue
            if missing := _texts_beside_numbers(texts):
                numbers.append(f"{field.name!r} (beside {', '.join(map(repr, missing))})")
                continue
            n_unique = len(np.unique(X[:, j]))
            if n_unique > max(MAX_CLASSES_UNCHECKED, MAX_CLASSES_PER_ROW * n_rows):
                found.append(f"{field.name!r} ({n_unique})")
                continue
        if pair := _spelt_twice(texts):
            spellings.append(f"{field.name!r} ({pair[0]!r} and {pair[1]!r})")
    if numbered:
        warn(
            f"Columns of X number the rows, by integers that are all different: "
            f"{_first_of(numbered)}. The model would take them for a measurement. Leave them out, "
            f"as by index_col of pandas.read_csv."
        )
    if dates:
        warn(
            f"Columns of X hold dates as strings, which are taken for classes: {_first_of(dates)}. "
            f"Convert them, as by parse_dates of pandas.read_csv or by pandas.to_datetime."
        )
    if numbers:
        warn(
            f"Columns of X hold numbers as strings, which are taken for classes: "
            f"{_first_of(numbers)}. Convert them, as by na_values of pandas.read_csv or by "
            f"pandas.to_numeric."
        )
    if spellings:
        warn(
            f"Columns of X hold categories that differ in spaces or capitals alone, and are "
            f"different classes: {_first_of(spellings)}. Make them one, as by str.strip and "
            f"str.lower of a pandas column."
        )
    if found:
        warn(
            f"Columns of X hold a different string in most of the {n_rows} rows, which are taken "
            f"for classes: {_first_of(found)}. A model cannot learn from classes of one row each. "
            f"Leave a column out if it names the rows, parse it if it holds dates or numbers, or "
            f"encode its meaning."
        )


def warn_of_codes(X: np.ndarray, names: Sequence[Name]) -> None:
    """Warn of columns with a repeated number of nines that is far from all others."""
    codes = []
    for smallest, reduce in ((True, np.fmin.reduce), (False, np.fmax.reduce)):
        extreme = reduce(X)
        for j in np.flatnonzero(np.isin(np.abs(extreme), NINES)).tolist():
            values, code = X[~np.isnan(X[:, j]), j], extreme[j]
            n_rows, others = (values == code).sum(), values[values != code]
            if n_rows < 2 or not len(others):
                continue
            nearest = others.min() if smallest else others.max()
            if abs(code - nearest) > np.ptp(others) > 0:
                codes.append(f"{names[j]!r} ({code:.0f} in {n_rows} rows)")
    if codes:
        warn(
            f"Columns of X hold a number of nines that is farther from all others than these are "
            f"from each other: {_first_of(codes)}. It may be a code for missing values, or the "
            f"largest value that was recorded. Replace a code by NaN, as by na_values of "
            f"pandas.read_csv."
        )


def warn_of_extremes(X: np.ndarray, names: Sequence[Name]) -> None:
    """Warn of columns with a value so far out that it alone decides their scale."""
    values = np.sort(X[spread_out(len(X), ROWS_OF_QUARTILES)], axis=0)  # NaN last
    n_values = (~np.isnan(values)).sum(axis=0)
    low, median, high = (
        np.take_along_axis(values, (share * n_values).astype(int)[None], axis=0)[0]
        for share in (0.25, 0.5, 0.75)
    )
    found = []
    with np.errstate(all="ignore"):
        for extreme in (np.fmin.reduce(X), np.fmax.reduce(X)):
            factor = abs(extreme - median) / np.maximum(high - median, median - low)
            found += [
                f"{names[j]!r} ({extreme[j]:.3g}, of a median of {median[j]:.3g})"
                for j in np.flatnonzero((factor > EXTREME_FACTOR) & np.isfinite(factor)).tolist()
            ]
    if found:
        warn(
            f"Columns of X hold a value more than {EXTREME_FACTOR:.0e} times as far from their "
            f"median as their quartiles are: {_first_of(found)}. It decides the scale of the "
            f"column, whose other values look alike to the model. Replace errors, and codes for "
            f"missing values, by NaN.",
            UserWarning,
        )


def fit_schema(X: Any, network: Network) -> Schema | None:
    """Fit the schema of a table whose columns have types; refuse columns of numbers and text."""
    X = as_array(X)
    if isinstance(X, np.ndarray | list | tuple):
        has_types = np.asarray(X).dtype.kind in "USOTVMm"
    else:
        has_types = issparse(X) or isinstance(as_narwhals(X), nw.DataFrame)
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


def check_weights(sample_weight: Any, X: np.ndarray, min_rows: int) -> np.ndarray:
    """Check the numbers of times that rows count: (n,)."""
    weight: np.ndarray = check_sample_weight(
        as_array(sample_weight), X, dtype=np.float64, ensure_non_negative=True
    )
    with np.errstate(over="ignore"):
        total, n_positive = weight.sum(), (weight > 0).sum()
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
    if total < MIN_MEAN_WEIGHT * n_positive:
        warn(
            f"sample_weight is the number of times that each row counts, and its sum makes a "
            f"table of {total:.3g} rows of the {n_positive} with a weight above 0. Divide it by "
            f"its mean to have each row count once on average.",
            UserWarning,
        )
    return weight


def without_weight_0(X: Any, sample_weight: Any, min_rows: int) -> tuple[Any, Any]:
    """Leave rows of weight 0 out of a data frame or array, whose categories do not count, either.

    Invalid weights, and those of too few rows, are left as they are: ``check_weights`` refuses
    them.
    """
    try:
        weight = np.asarray(as_array(sample_weight))
        if np.iscomplexobj(weight):  # numpy would warn that it drops the imaginary part
            return X, sample_weight
        weight = weight.astype(np.float64)
    except (TypeError, ValueError):
        return X, sample_weight
    except OverflowError as error:
        raise ValueError("sample_weight has a number beyond double precision's range.") from error
    is_array = isinstance(X, np.ndarray) and X.ndim == 2
    frame = as_narwhals(X)
    if weight.ndim != 1 or not (is_array or isinstance(frame, list | nw.DataFrame)):
        return X, sample_weight
    is_positive = weight > 0
    is_valid = len(weight) == num_samples(X) and (weight >= 0).all()
    if not is_valid or is_positive.all() or is_positive.sum() < min_rows:
        return X, sample_weight
    if is_array:
        return X[is_positive], weight[is_positive]
    if isinstance(X, list):
        return [row for row, kept in zip(X, is_positive, strict=True) if kept], weight[is_positive]
    return frame.filter(is_positive.tolist()).to_native(), weight[is_positive]


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
    return ValueError(f"{message.rstrip('.')}, in {_first_of(columns)}.")


def _first_of(columns: Sequence[str]) -> str:
    """Name the first columns and the number of others."""
    n_others = len(columns) - MAX_COLUMNS_NAMED
    others = [f"and {n_others} more"] if n_others > 0 else []
    return ", ".join([*columns[:MAX_COLUMNS_NAMED], *others])


def _numbers_rows(column: np.ndarray) -> bool:
    """Return whether integers are all different, and fill at least half of their range."""
    n_rows = len(column)
    is_dense = n_rows - 1 <= column.max() - column.min() < 2 * n_rows  # not with NaN
    return n_rows >= MIN_ROWS_NUMBERED and is_dense and len(np.unique(column)) == n_rows


def _texts_beside_numbers(texts: Sequence[str]) -> list[str]:
    """Return the texts for missing values of a column whose other texts are numbers."""
    others = list(islice((text for text in texts if not _is_valid(text)), MAX_MISSING_TEXTS + 1))
    is_missing = all(MISSING_TEXT.fullmatch(text.strip()) for text in others)
    return others if is_missing and len(others) <= MAX_MISSING_TEXTS else []


def _spelt_twice(texts: Sequence[str]) -> tuple[str, str] | None:
    """Return the first two texts that differ in spaces or capitals alone."""
    spellings: dict[str, str] = {}
    for text in texts:
        words = " ".join(text.split())
        key = words.casefold() if len(words) >= MIN_LENGTH_WITHOUT_CASE else words
        if (first := spellings.setdefault(key, text)) != text:
            return first, text
    return None


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
