"""The report of a detector: the cells that make rows anomalous, with a sentence for each."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np

from sklearn_vae.data.fields import Name
from sklearn_vae.data.frames import cells_of, format_value, make_frame

# A larger p-value is a percentage, not one row in so many.
OFTEN = 0.1


def largest_cells(attributions: np.ndarray, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the columns of the largest attributions of each row: rows, columns.

    Beside the first one, attributions are positive.
    """
    columns = np.argsort(-attributions, axis=1, kind="stable")[:, :n_columns]
    is_listed = np.take_along_axis(attributions, columns, axis=1) > 0
    is_listed[:, 0] = True
    return np.nonzero(is_listed)[0], columns[is_listed]


def make_report(
    X: Any,
    rows: np.ndarray,
    columns: np.ndarray,
    names: Sequence[Name],
    expected: Sequence[Any],
    p_values: np.ndarray,
) -> Any:
    """Make the report of cells, given the positions of their rows and columns in X: (n_cells,).

    Each cell has an expected value, and the p-value of its row.
    """
    index = X.index if nw.dependencies.is_pandas_dataframe(X) else None
    values, cells = cells_of(X, rows.tolist(), columns.tolist()), columns.tolist()
    return make_frame(
        {
            "row": rows if index is None else list(index[rows]),
            "column": [names[j] for j in cells],
            "value": values,
            "expected": expected,
            "p_value": p_values,
            "sentence": [
                describe(names[j], *cell)
                for j, *cell in zip(cells, values, expected, p_values, strict=True)
            ],
        },
        like=X,
    )


def describe(name: Name, value: Any, expected: Any, p_value: float) -> str:
    """Describe an anomalous cell, and how rare its row is, to a reader of the table."""
    column = name if isinstance(name, str) else f"Column {name}"
    found, usual = format_value(value), format_value(expected)
    cell = f"{column} is {found}, where the rest of the row suggests {usual}."
    if found == usual:
        cell = f"{column} is {found}, as expected, but the row as a whole is unusual."
    if p_value > OFTEN:
        return f"{cell} {p_value:.0%} of the rows are as unusual."
    return f"{cell} About 1 in {round(1 / p_value):,} rows is as unusual."
