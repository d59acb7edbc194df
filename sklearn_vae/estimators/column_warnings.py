"""Warnings of columns that a model would misread: identifiers, codes, numbers as strings."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from sklearn_vae.data.fields import Field, Name
from sklearn_vae.data.schema import Schema
from sklearn_vae.estimators.table_checks import first_of, is_finite_number
from sklearn_vae.row_subsets import spread_out
from sklearn_vae.warnings import warn

ROW_NUMBERS = (
    "number the rows, by integers that are all different: {}. The model would take them for a "
    "measurement. Leave them out, as by index_col of pandas.read_csv."
)
DATES = (
    "hold dates as strings, which are taken for classes: {}. Convert them, as by parse_dates of "
    "pandas.read_csv or by pandas.to_datetime."
)
NUMBERS = (
    "hold numbers as strings, which are taken for classes: {}. Convert them, as by na_values of "
    "pandas.read_csv or by pandas.to_numeric."
)
IDENTIFIERS = (
    "hold a different string in most of the rows, which are taken for classes: {}. A model cannot "
    "learn from classes of one row each. Leave a column out if it names the rows, parse it if it "
    "holds dates or numbers, or encode its meaning."
)
SPELLINGS = (
    "hold categories that differ in spaces or capitals alone, and are different classes: {}. Make "
    "them one, as by str.strip and str.lower of a pandas column."
)
CODES = (
    "hold a number of nines that is farther from all others than these are from each other: {}. It "
    "may be a code for missing values, or the largest value that was recorded. Replace a code by "
    "NaN, as by na_values of pandas.read_csv."
)
EXTREMES = (
    "hold a value more than a million times as far from their median as their quartiles are: {}. "
    "It decides the scale of the column, whose other values look alike to the model. Replace "
    "errors, and codes for missing values, by NaN."
)
# Columns that a message names, at most.
MAX_COLUMNS_NAMED = 5
# Integers number the rows if all are different and fill half of their range. Random ones do not, in
# so many rows: the probability is e^-30.
MIN_ROWS_NUMBERED = 100
# A text column is taken for row identifiers if it has more distinct values, in total and per row.
MAX_CLASSES_UNCHECKED = 20
MAX_CLASSES_PER_ROW = 0.5
# Text that is a date, with or without a time.
DATE = re.compile(r"(\d{4}([-/.])\d\d?\2\d\d?|\d\d?([-/.])\d\d?\3\d{4})([T ].*)?")
# Texts for missing values, and the number of them that a column of numbers may have.
MISSING_TEXT = re.compile(r"\W*|n/?a|none|null|missing|unknown", re.IGNORECASE)
MAX_MISSING_TEXTS = 3
# Shorter texts may be codes in which capitals have a meaning, as those of elements.
MIN_LENGTH_WITHOUT_CASE = 3
# Codes for missing values, but for their sign: 99, 999, 9999 and so on.
NINES = 10.0 ** np.arange(2, 16) - 1
# A value this many times as far from the median as the quartiles is an error, or a code for missing
# values: of a Cauchy distribution, one value in a million is. Quartiles are of so many rows.
EXTREME_FACTOR = 1e6
ROWS_OF_QUARTILES = 256


def warn_of_columns(X: np.ndarray, names: Sequence[Name], schema: Schema | None) -> None:
    """Warn of columns that are hardly what the model takes them for.

    Parameters
    ----------
    X : ndarray of shape (n, n_features)
        Rows as numbers, with codes for categories.
    names : sequence
        Names or indices of the columns.
    schema : Schema or None
        Their types, of a table that has any.
    """
    columns: dict[str, list[str]] = {}
    for j, name in enumerate(names):
        found = [*_codes(X[:, j])]
        if schema is not None:
            found += _of_type(schema.fields[j], X[:, j])
        for message, detail in found:
            columns.setdefault(message, []).append(f"{name!r}{detail}")
    for message, described in columns.items():
        warn(f"Columns of X {message.format(first_of(described))}")


def warn_of_extremes(X: np.ndarray, names: Sequence[Name]) -> None:
    """Warn of columns with a value so far out that it alone decides their scale."""
    values = np.sort(X[spread_out(len(X), ROWS_OF_QUARTILES)], axis=0)  # NaN last
    n_values = (~np.isnan(values)).sum(axis=0)
    low, median, high = (
        np.take_along_axis(values, (share * n_values).astype(int)[None], axis=0)[0]
        for share in (0.25, 0.5, 0.75)
    )
    columns = []
    with np.errstate(all="ignore"):
        for extreme in (np.fmin.reduce(X), np.fmax.reduce(X)):
            factor = abs(extreme - median) / np.maximum(high - median, median - low)
            columns += [
                f"{names[j]!r} ({extreme[j]:.3g}, of a median of {median[j]:.3g})"
                for j in np.flatnonzero((factor > EXTREME_FACTOR) & np.isfinite(factor)).tolist()
            ]
    if columns:
        warn(f"Columns of X {EXTREMES.format(first_of(columns))}")


def _codes(column: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yield a message for each repeated number of nines that is far from all others."""
    for extreme in (np.fmin, np.fmax):
        code = extreme.reduce(column)
        if abs(code) in NINES:
            others, n_rows = column[column != code], (column == code).sum()
            others = others[~np.isnan(others)]
            is_far = len(others) > 0 and abs(others - code).min() > np.ptp(others) > 0
            if n_rows > 1 and is_far:
                yield CODES, f" ({code:.0f} in {n_rows} rows)"


def _of_type(field: Field, column: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yield messages of integers that number the rows, and of strings that are no classes."""
    n_rows = len(column)
    if field.logical_type == "integer" and n_rows >= MIN_ROWS_NUMBERED:
        is_dense = n_rows - 1 <= column.max() - column.min() < 2 * n_rows  # not with NaN
        if is_dense and len(np.unique(column)) == n_rows:
            yield ROW_NUMBERS, ""
    texts = [value for value in field.categories or () if isinstance(value, str)]
    if len(texts) > MAX_CLASSES_UNCHECKED:
        n_unique = len(np.unique(column))
        if all(map(DATE.fullmatch, texts)):
            yield DATES, ""
        elif missing := _texts_beside_numbers(texts):
            yield NUMBERS, f" (beside {', '.join(map(repr, missing))})"
        elif n_unique > max(MAX_CLASSES_UNCHECKED, MAX_CLASSES_PER_ROW * n_rows):
            yield IDENTIFIERS, f" ({n_unique} in {n_rows} rows)"
    if pair := _spelt_twice(texts):
        yield SPELLINGS, f" ({pair[0]!r} and {pair[1]!r})"


def _texts_beside_numbers(texts: Sequence[str]) -> list[str]:
    """Return the texts for missing values of a column whose other texts are numbers."""
    not_numbers = (text for text in texts if not is_finite_number(text))
    others = list(islice(not_numbers, MAX_MISSING_TEXTS + 1))
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
