"""Warnings of columns that a model would misread: identifiers, codes, dates as numbers."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np

from sklearn_vae.data.arrays import is_finite
from sklearn_vae.data.conditions import UNNAMED, Conditions
from sklearn_vae.data.fields import Field, first_of
from sklearn_vae.numerics.rows import spread_out
from sklearn_vae.system import warn

ROW_NUMBERS = (
    "number the rows, by integers that are all different: {}. The model takes them for a "
    "measurement. Leave them out, as by index_col of pandas.read_csv, unless they are one, such as "
    "years."
)
DATES = (
    "hold dates or times as strings, which are read as categories: {}. Convert them, as by "
    "parse_dates of pandas.read_csv or by pandas.to_datetime, and times of day to minutes."
)
NUMBERS = (
    "hold numbers as strings, which are read as categories: {}. Convert them, as by na_values, "
    "decimal or thousands of pandas.read_csv, or by pandas.to_numeric, without signs or units."
)
IDENTIFIERS = (
    "hold a different string in most of the rows, which are read as categories: {}. A model cannot "
    "learn from categories of one row each. Leave a column out if it names rows, parse it if it "
    "holds dates or numbers, or encode its meaning."
)
CODES = (
    "hold a number of nines that is far outside the range of the other values: {}. It may be a "
    "code for missing values, or the largest value that was recorded. Replace a code by NaN, as by "
    "na_values of pandas.read_csv."
)
DATES_AS_NUMBERS = (
    "hold dates as numbers such as 20190704, between which there are gaps: {}. Convert them, as by "
    "pandas.to_datetime(column, format=...)."
)
TIMES_AS_NUMBERS = (
    "hold times of day as numbers such as 1545, between which there are gaps: {}. Convert them to "
    "minutes, as by column // 100 * 60 + column % 100."
)
CONSTANT = (
    "Every column of X has one value in all rows, so there is nothing to learn from. Check that "
    "the right columns and rows were read."
)
EXTREMES = (
    "hold a value more than a million times as far from their median as their quartiles are: {}. "
    "It decides the scale of the column, whose other values look alike to the model. Replace "
    "errors, and codes for missing values, by NaN."
)
MANY_CLASSES = (
    "{} holds {} different integers in {} rows, which are taken for classes. Give numbers as "
    "floats, as by y.astype(float)."
)
# Integers number the rows if all are different and fill half of their range. Random ones do not, in
# so many rows: the probability is e^-30.
MIN_ROWS_NUMBERED = 100
# A text column is taken for row identifiers, and integers of y for numbers, if it has more distinct
# values, in total and per row.
MAX_CLASSES_UNCHECKED = 20
MAX_CLASSES_PER_ROW = 0.5
# Text that is a date, with or without a time: 2024-01-31, 31.1.2024, 1/31/24, 31 Jan 2024; a time.
MONTH = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[.]?"
DATE = re.compile(
    r"(\d{4}([-/.])\d\d?\2\d\d?|\d\d?([-/.])\d\d?\3\d{4}|\d\d?/\d\d?/\d\d|"
    rf"\d\d?[- ]{MONTH}[- ](\d\d)?\d\d|{MONTH} \d\d?,? \d{{4}})([T ].*)?|"
    r"\d\d?:\d\d(:\d\d)?(\s?[ap]m)?|\d{4}-(0\d|1[0-2])",
    re.IGNORECASE,
)
# Text that may be a code where none is missing: postcodes, phone numbers, 12e3 and 1_5.
WHOLE, LETTERS = re.compile(r"\s*[+-]?\d+\s*"), re.compile("[a-z_]", re.IGNORECASE)
# Numbers with signs or a comma: "50%", "$1,200", "0,5", "<5".
NUMBER = re.compile(r"-?\s?[<>≤≥$€£¥]?\s?-?\d+(,\d{3})*([.,]\d+)?\s?[%$€£¥]?")
# Numbers with one of a few units: "23.4 kmpl", "1248CC".
UNIT, MAX_UNITS = re.compile(r"[+-]?\d[\d.,]*(\s+\D+|[^\W\d_]{2}\D*)"), 3
# Texts for missing values, and the number of them that a column of numbers or dates may have.
MISSING_TEXT = re.compile(r"\W*(|nan|n\W?a|none|null|missing|unknown)\W*", re.IGNORECASE)
MAX_MISSING_TEXTS = 3
# Codes for missing values, but for their sign: 99, 999, 9999 and so on.
NINES = 10.0 ** np.arange(2, 16) - 1
# Formats of dates and times as numbers, and the last year but one.
TIMES = "%H%M"
FORMATS = (
    *("%Y%m%d", "%d%m%Y", "%m%d%Y", "%y%m%d", "%Y%m", TIMES),
    *("%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S"),
)
YEARS = range(1900, 2101)
# Numbers are dates or times if others of their range and step would all be possible as such, by
# chance, with at most this probability: of 20 times of several hours, as three in five are. So many
# numbers are looked at.
MAX_CHANCE_OF_TIMES = 1e-4
N_NUMBERS = 1000
# A value this many times as far from the median as the quartiles is an error, or a code for missing
# values: of a Cauchy distribution, one value in a million is. Quartiles are of so many rows.
EXTREME_FACTOR = 1e6
ROWS_OF_QUARTILES = 256


def warn_of_columns(X: np.ndarray, fields: Sequence[Field], *, of_extremes: bool) -> None:
    """Warn of columns of rows of numbers (n, n_features) that are hardly what they seem."""
    columns: dict[str, list[str]] = {}
    names = [field.name for field in fields] or range(X.shape[1])
    extremes = np.stack([np.fmin.reduce(X), np.fmax.reduce(X)])
    if (extremes[0] == extremes[1]).any() and not (extremes[0] < extremes[1]).any():
        warn(CONSTANT)
    has_nines = np.isin(np.abs(extremes), NINES.astype(X.dtype))  # (2, n_features)
    for j, name in enumerate(names):
        messages = [*_of_type(fields[j], X[:, j])] if fields else []
        if not fields or fields[j].categories is None:
            messages += [*_of_codes(X[:, j], extremes[has_nines[:, j], j]), *_of_digits(X[:, j])]
        for message, detail in messages:
            columns.setdefault(message, []).append(f"{name!r}{detail}")
    for j, detail in _of_extremes(X, extremes) if of_extremes else ():
        columns.setdefault(EXTREMES, []).append(f"{names[j]!r}{detail}")
    for message, described in columns.items():
        warn(f"Columns of X {message.format(first_of(described))}")


def warn_of_conditions(y: Conditions) -> None:
    """Warn of integers that are hardly classes."""
    for name, column in y.items():
        n_unique = len(np.unique(column)) if column.dtype.kind in "iu" else 0
        if n_unique > max(MAX_CLASSES_UNCHECKED, MAX_CLASSES_PER_ROW * len(column)):
            described = "y" if name == UNNAMED else f"Column {name!r} of y"
            warn(MANY_CLASSES.format(described, n_unique, len(column)))


def _of_extremes(X: np.ndarray, extremes: np.ndarray) -> Iterator[tuple[int, str]]:
    """Yield columns with a value so far out that it alone decides their scale."""
    values = np.sort(X[spread_out(len(X), ROWS_OF_QUARTILES)], axis=0)  # NaN last
    n_values = (~np.isnan(values)).sum(axis=0)
    low, median, high = (
        np.take_along_axis(values, (quantile * n_values).astype(int)[None], axis=0)[0]
        for quantile in (0.25, 0.5, 0.75)
    )
    with np.errstate(all="ignore"):
        factors = abs(extremes - median) / np.maximum(high - median, median - low)
    for side, j in np.argwhere((factors > EXTREME_FACTOR) & np.isfinite(factors)).tolist():
        yield j, f" ({extremes[side, j]:.3g}, of a median of {median[j]:.3g})"


def _of_codes(column: np.ndarray, extremes: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yield messages of extreme values, numbers of nines, that are far from all others."""
    for extreme in extremes:
        others, n_rows = column[(column != extreme) & ~np.isnan(column)], (column == extreme).sum()
        if n_rows > 1 and len(others) and abs(others - extreme).min() > np.ptp(others) > 0:
            yield CODES, f" ({extreme:.0f} in {n_rows} rows)"


def _of_digits(column: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yield messages of dates such as 20190704 and times such as 1545."""
    x = column[~np.isnan(column)]
    if not len(x) or not 100 <= x.max() < 1e14 or x.min() < 0 or (x % 1 != 0).any():
        return
    unique = np.unique(x).astype(np.int64)
    values = unique[spread_out(len(unique), N_NUMBERS)].tolist()
    # numbers below 100 are times without hours, and may be any
    first, n_large = max(values[0], 100), sum(value >= 100 for value in values)
    step = max(int(np.gcd.reduce(np.diff(unique))), 1)
    others = first + np.linspace(0, (values[-1] - first) // step, N_NUMBERS).astype(int) * step
    for form in FORMATS:
        if all(_is_time(value, form) for value in values):
            possible = np.mean([_is_time(value, form) for value in others.tolist()])
            if possible**n_large < MAX_CHANCE_OF_TIMES:
                yield (TIMES_AS_NUMBERS, "") if form == TIMES else (DATES_AS_NUMBERS, f" ({form})")
                return


def _is_time(value: int, form: str) -> bool:
    """Return whether a number, perhaps without leading zeros, is a date or time of this format."""
    width = len(form) + 2 * ("%Y" in form)  # all others have two digits
    digits = f"{value:0{width}d}"
    try:
        return len(digits) == width and datetime.strptime(digits, form).year in YEARS
    except ValueError:
        return False


def _of_type(field: Field, column: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yield messages of integers that number the rows, and of strings that are no classes."""
    n_rows = len(column)
    numbers = column[~np.isnan(column)] if field.is_numeric else column[:0]
    if (n_numbers := len(numbers)) >= MIN_ROWS_NUMBERED and (numbers % 1 == 0).all():
        is_dense = n_numbers - 1 <= np.ptp(numbers) < 2 * n_numbers
        if is_dense and len(np.unique(numbers)) == n_numbers:
            yield ROW_NUMBERS, ""
    texts = [value for value in field.categories or () if isinstance(value, str)]
    if len(texts) > MAX_CLASSES_UNCHECKED:
        max_unique = max(MAX_CLASSES_UNCHECKED, MAX_CLASSES_PER_ROW * n_rows)
        missing = [text for text in texts if MISSING_TEXT.fullmatch(text)]
        others = [text for text in texts if text not in missing]
        may_be_converted = len(missing) <= MAX_MISSING_TEXTS
        beside = f" (beside {', '.join(map(repr, missing))})" if missing else ""
        are_codes = all(map(WHOLE.fullmatch, others)) or any(map(LETTERS.search, others))
        are_numbers = all(is_finite(text) or NUMBER.fullmatch(text.strip()) for text in others)
        are_numbers &= bool(missing) or not are_codes
        units = {match and match[1].strip() for match in map(UNIT.fullmatch, others)}
        are_numbers |= None not in units and 0 < len(units) <= MAX_UNITS
        if may_be_converted and all(map(DATE.fullmatch, others)):
            yield DATES, beside
        elif may_be_converted and are_numbers:
            yield NUMBERS, beside
        elif (n_unique := len(np.unique(column))) > max_unique:
            yield IDENTIFIERS, f" ({n_unique} in {n_rows} rows)"
