"""Results as data frames, and cells as text."""

from collections.abc import Mapping, Sequence
from datetime import datetime, time
from importlib.util import find_spec
from numbers import Real
from typing import Any

import narwhals as nw
import numpy as np

from sklearn_vae.data.arrays import as_array, as_narwhals, is_missing

# Libraries of frames, the preferred one first.
FRAMES = ("pandas", "polars", "pyarrow")


def make_frame(columns: Mapping[str, Sequence[Any] | np.ndarray], like: Any = None) -> Any:
    """Make a data frame of the library of another one, else of the first library that is there.

    Columns of several types are objects in pandas, and texts elsewhere.
    """
    frame = as_narwhals(like)
    is_frame = isinstance(frame, nw.DataFrame)
    library: Any = frame.implementation.value if is_frame else next(filter(find_spec, FRAMES), None)
    if library is None:
        raise ImportError(
            f"A data frame needs one of {', '.join(FRAMES)}, and none is installed. "
            f"`pip install pandas` installs the first."
        )
    if library == "pandas":
        import pandas as pd

        return pd.DataFrame(columns)
    texts = {name: _one_type(list(values)) for name, values in columns.items()}
    return nw.from_dict(texts, backend=library).to_native()


def cells_of(X: Any, rows: Sequence[int], columns: Sequence[int]) -> list[Any]:
    """Return cells of a table of any library, by the positions of their rows and columns."""
    frame = as_narwhals(X)
    if isinstance(frame, nw.DataFrame):
        series = {j: frame[:, j] for j in set(columns)}
        return [series[j][i] for i, j in zip(rows, columns, strict=True)]
    table = np.asarray(as_array(X), dtype=object)
    return [table[i, j] for i, j in zip(rows, columns, strict=True)]


def _one_type(values: list[Any]) -> list[Any]:
    """Return values of one type; text in the place of several types."""
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    types = set(map(type, values))
    if len(types) <= 1:
        return values
    if types == {int, float}:
        return [*map(float, values)]
    return [None if is_missing(value) else format_value(value) for value in values]


def format_value(value: Any) -> str:
    """Write a cell as text in one line.

    Whole numbers below 10^15 are written in full, other numbers with four digits, or two decimal
    places above 1,000, times to seconds, and dates without a time.
    """
    if is_missing(value):
        return "missing"
    if isinstance(value, datetime):
        is_day = value.time() == time()
        return value.date().isoformat() if is_day else value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return " ".join(str(value).split())
    number = float(value)
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return f"{number:.2f}" if 1e3 <= abs(number) < 1e15 else f"{number:.4g}"
