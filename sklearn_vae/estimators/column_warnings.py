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

# Text that is a date, with or without a time: 2024-01-31, 31.1.2024, 1/31/24, 31 Jan 2024; a time.
MONTH = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[.]?"
DATE = re.compile(
    r"(\d{4}([-/.])\d\d?\2\d\d?|\d\d?([-/.])\d\d?\3\d{4}|\d\d?/\d\d?/\d\d|"
    rf"\d\d?[- ]{MONTH}[- ](\d\d)?\d\d|{MONTH} \d\d?,? \d{{4}})([T ].*)?|"
    r"\d\d?:\d\d(:\d\d)?(\s?[ap]m)?|\d{4}-(0\d|1[0-2])",
    re.IGNORECASE,
)


def warn_of_columns(X: np.ndarray, fields: Sequence[Field], *, of_extremes: bool) -> None:
    """Warn of columns of rows of numbers (n, n_features) that are hardly what they seem."""
    columns: dict[str, list[str]] = {}
    names = [field.name for field in fields] or range(X.shape[1])
    extremes = np.stack([np.fmin.reduce(X), np.fmax.reduce(X)])
    if (extremes[0] == extremes[1]).any() and not (extremes[0] < extremes[1]).any():
        warn(
            "Every column of X has one value in all rows, so there is nothing to learn from. Check "
            "that the right columns and rows were read."
        )
    nines = (10.0 ** np.arange(2, 16) - 1).astype(X.dtype)  # 99, 999, 9999 and so on
    has_nines = np.isin(np.abs(extremes), nines)  # (2, n_features)
    for j, name in enumerate(names):
        column, categories = X[:, j], fields[j].categories if fields else None
        messages: list[tuple[str, str]] = []
        if fields and fields[j].is_numeric:
            messages += _of_row_numbers(column[~np.isnan(column)])
        if categories is None:
            messages += [*_of_codes(column, extremes[has_nines[:, j], j]), *_of_digits(column)]
        elif len(texts := [value for value in categories if isinstance(value, str)]) > 20:
            messages += _of_texts(texts, column)
        for message, detail in messages:
            columns.setdefault(message, []).append(f"{name!r}{detail}")
    for j, message, detail in _of_extremes(X, extremes) if of_extremes else ():
        columns.setdefault(message, []).append(f"{names[j]!r}{detail}")
    for message, described in columns.items():
        warn(f"Columns of X {message.format(first_of(described))}")


def warn_of_conditions(y: Conditions) -> None:
    """Warn of integers that are hardly classes."""
    for name, column in y.items():
        n_unique = len(np.unique(column)) if column.dtype.kind in "iu" else 0
        if n_unique > max(20, len(column) / 2):
            described = "y" if name == UNNAMED else f"Column {name!r} of y"
            warn(
                f"{described} holds {n_unique} different integers in {len(column)} rows, which are "
                f"taken for classes. Give numbers as floats, as by y.astype(float)."
            )


def _of_extremes(X: np.ndarray, extremes: np.ndarray) -> Iterator[tuple[int, str, str]]:
    """Yield columns with a value so far out that it is hardly a measurement, with messages.

    Of a Cauchy distribution, one value in a million is that far.
    """
    message = (
        "hold a value more than a million times as far from their median as their quartiles are: "
        "{}. Replace errors, and codes for missing values, by NaN."
    )
    values = np.sort(X[spread_out(len(X), 256)], axis=0)  # NaN last
    n_values = (~np.isnan(values)).sum(axis=0)
    low, median, high = (
        np.take_along_axis(values, (quantile * n_values).astype(int)[None], axis=0)[0]
        for quantile in (0.25, 0.5, 0.75)
    )
    with np.errstate(all="ignore"):
        factors = abs(extremes - median) / np.maximum(high - median, median - low)
    for side, j in np.argwhere((factors > 1e6) & np.isfinite(factors)).tolist():
        yield j, message, f" ({extremes[side, j]:.3g}, of a median of {median[j]:.3g})"


def _of_codes(column: np.ndarray, extremes: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yield messages of extreme values, numbers of nines, that are far from all others."""
    message = (
        "hold a number of nines that is far outside the range of the other values: {}. It may be a "
        "code for missing values, or the largest value that was recorded. Replace a code by NaN, "
        "as by na_values of pandas.read_csv."
    )
    for extreme in extremes:
        others, n_rows = column[(column != extreme) & ~np.isnan(column)], (column == extreme).sum()
        if n_rows > 1 and len(others) and abs(others - extreme).min() > np.ptp(others) > 0:
            yield message, f" ({extreme:.0f} in {n_rows} rows)"


def _of_digits(column: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yield messages of dates such as 20190704 and times such as 1545.

    A thousand numbers are dates or times if others of their range and step would all be possible as
    such, by chance, with a small probability: of 20 times of several hours, as three in five are.
    """
    dates = (
        "hold dates as numbers such as 20190704, between which there are gaps: {}. Convert them, "
        "as by pandas.to_datetime(column, format=...)."
    )
    times = (
        "hold times of day as numbers such as 1545, between which there are gaps: {}. Convert them "
        "to minutes, as by column // 100 * 60 + column % 100."
    )
    x = column[~np.isnan(column)]
    if not len(x) or not 100 <= x.max() < 1e14 or x.min() < 0 or (x % 1 != 0).any():
        return
    unique = np.unique(x).astype(np.int64)
    values = unique[spread_out(len(unique), 1000)].tolist()
    # numbers below 100 are times without hours, and may be any
    first, n_large = max(values[0], 100), sum(value >= 100 for value in values)
    step = max(int(np.gcd.reduce(np.diff(unique))), 1)
    others = first + np.linspace(0, (values[-1] - first) // step, 1000).astype(int) * step
    forms = "%Y%m%d", "%d%m%Y", "%m%d%Y", "%y%m%d", "%Y%m", "%H%M"
    for form in (*forms, "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S"):
        if all(_is_time(value, form) for value in values):
            possible = np.mean([_is_time(value, form) for value in others.tolist()])
            if possible**n_large < 1e-4:
                yield (times, "") if form == "%H%M" else (dates, f" ({form})")
                return


def _is_time(value: int, form: str) -> bool:
    """Return whether a number, perhaps without leading zeros, is a date or time of this format."""
    width = len(form) + 2 * ("%Y" in form)  # all others have two digits
    digits = f"{value:0{width}d}"
    try:
        return len(digits) == width and 1900 <= datetime.strptime(digits, form).year <= 2100
    except ValueError:
        return False


def _of_row_numbers(numbers: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yield a message of integers that are all different and fill half of their range.

    Random ones do not, in so many rows: the probability is e^-30.
    """
    message = (
        "number the rows, by integers that are all different: {}. The model takes them for a "
        "measurement. Leave them out, as by index_col of pandas.read_csv, unless they are one, "
        "such as years."
    )
    n_numbers = len(numbers)
    if n_numbers >= 100 and (numbers % 1 == 0).all():
        is_dense = n_numbers - 1 <= np.ptp(numbers) < 2 * n_numbers
        if is_dense and len(np.unique(numbers)) == n_numbers:
            yield message, ""


def _of_texts(texts: Sequence[str], column: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yield a message of many strings that are no classes: dates, numbers, or names of rows."""
    form = re.compile(r"\W*(|nan|n\W?a|none|null|missing|unknown)\W*", re.IGNORECASE)
    missing = [text for text in texts if form.fullmatch(text)]
    are_read = form.fullmatch, DATE.fullmatch, is_finite
    typos = [text for text in texts if not any(read(text) for read in are_read)]
    beside = missing + (typos if len(typos) <= 3 else [])
    others = [text for text in texts if text not in beside]
    n_rows = len(column)
    detail = f" (beside {', '.join(map(repr, beside))})" if beside else ""
    if len(beside) <= 3 and all(map(DATE.fullmatch, others)):
        message = (
            "hold dates or times as strings, which are read as categories: {}. Convert them, as by "
            "parse_dates of pandas.read_csv or by pandas.to_datetime, and times of day to minutes."
        )
    elif len(beside) <= 3 and _are_numbers(others, may_be_codes=not missing):
        message = (
            "hold numbers as strings, which are read as categories: {}. Convert them, as by "
            "na_values, decimal or thousands of pandas.read_csv, or by pandas.to_numeric, without "
            "signs or units."
        )
    elif (n_unique := len(np.unique(column))) > max(20, n_rows / 2):
        message = (
            "hold a different string in most of the rows, which are read as categories: {}. A "
            "model cannot learn from categories of one row each. Leave a column out if it names "
            "rows, parse it if it holds dates or numbers, or encode its meaning."
        )
        detail = f" ({n_unique} in {n_rows} rows)"
    else:
        return
    yield message, detail


def _are_numbers(texts: Sequence[str], *, may_be_codes: bool) -> bool:
    """Whether texts are numbers, with signs or a comma ("$1,200"), or with a few units ("12 mm").

    Codes are postcodes, phone numbers, 12e3 and 1_5.
    """
    whole, letters = re.compile(r"\s*[+-]?\d+\s*"), re.compile("[a-z_]", re.IGNORECASE)
    are_codes = all(map(whole.fullmatch, texts)) or any(map(letters.search, texts))
    number = re.compile(r"-?\s?[<>≤≥$€£¥]?\s?-?\d+(,\d{3})*([.,]\d+)?\s?[%$€£¥]?")
    are_numbers = all(is_finite(text) or number.fullmatch(text.strip()) for text in texts)
    with_unit = re.compile(r"[+-]?\d[\d.,]*(\s+\D+|[^\W\d_]{2}\D*)")
    units = {match and match[1].strip() for match in map(with_unit.fullmatch, texts)}
    have_units = None not in units and 0 < len(units) <= 3
    return have_units or (are_numbers and not (may_be_codes and are_codes))
