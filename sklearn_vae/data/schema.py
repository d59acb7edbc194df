"""The schema of a table: dtypes and categories of its columns, and its container."""

from dataclasses import dataclass, replace
from datetime import UTC
from importlib.util import find_spec
from typing import Any

import narwhals as nw
import numpy as np

from sklearn_vae.data.arrays import as_narwhals
from sklearn_vae.data.fields import DAY, Field, has_time_zone, shorten
from sklearn_vae.data.libraries import LIBRARIES
from sklearn_vae.data.reading import TableReader
from sklearn_vae.persistence.validation import check_hashes, serializable


@serializable
@dataclass(frozen=True)
class Schema:
    """Dtypes and categories of a table's columns, to convert it to numbers and back."""

    fields: tuple[Field, ...]  # the columns, in order
    # "array", "object" (an array or list with strings or objects), "pandas", "polars" or "pyarrow";
    # other data frames that narwhals supports are read as pandas'
    container: str

    @classmethod
    def fit(cls, X: Any) -> "Schema":
        """Read dtypes and categories from a data frame, array or list."""
        table = TableReader(X)
        return cls(tuple(column.field() for column in table.columns), table.container)

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        if self.container not in ("array", "object", *LIBRARIES):
            raise ValueError(f"{self.container!r:.100} is no type of table")
        check_hashes(field.name for field in self.fields)
        rows = np.array([[0.0], [np.nan], [1e9]]) + np.zeros(len(self.fields))
        for convert in (self.to_objects, self.inverse_transform):
            convert(rows)

    def shared_categories(self, n_values: int) -> "Schema":
        """Give every ``n_values``-th column of unordered categories the same categories."""
        fields = list(self.fields)
        for first in range(n_values):
            alike = range(first, len(fields), n_values)
            columns = [j for j in alike if fields[j].logical_type == "category"]
            union = {value for j in columns for value in fields[j].categories or ()}
            for j in columns:
                fields[j] = replace(fields[j], categories=tuple(sorted(union, key=str)))
        return replace(self, fields=tuple(fields))

    def select(self, columns: np.ndarray) -> "Schema":
        """Schema of the columns with these indices."""
        return replace(self, fields=tuple(self.fields[j] for j in columns))

    def of_numbers(self) -> "Schema":
        """Give all columns of a data frame numbers in double precision; arrays stay arrays."""
        if self.container not in LIBRARIES:
            return replace(self, container="array")
        dtype = LIBRARIES[self.container].double
        fields = (Field(field.name, "number", None, dtype) for field in self.fields)
        return replace(self, fields=tuple(fields))

    def transform(self, X: Any, *, handle_unknown: str = "error") -> np.ndarray:
        """Convert a table, or its reader, to numbers: categories to codes, times to seconds.

        Columns have the same types in the same order, in any container. Floats are accepted for
        integers, and a column without any value for every type; names and infinite values are not
        checked. An unknown category is an error, or with ``handle_unknown="infrequent"`` -1, or
        with ``"missing"`` NaN. The result may be in single precision, and share memory with X.
        """
        table = X if isinstance(X, TableReader) else TableReader(X)
        if table.dtypes and all(field.is_numeric for field in self.fields):
            return table.matrix()
        values: np.ndarray = np.empty(table.shape, table.dtype, order="F")
        for j, (field, column) in enumerate(zip(self.fields, table.columns, strict=True)):
            values[:, j] = column.read_as(field, handle_unknown)
        return values

    def transform_columns(self, X: Any, columns: np.ndarray, *, handle_unknown: str) -> np.ndarray:
        """Convert columns of a data frame to numbers; NaN in all others: (n, n_features).

        The frame has the columns of these indices in any order, and may lack the others.
        """
        part, frame = self.select(columns), nw.from_native(X, eager_only=True)
        index_of = {name: index for index, name in enumerate(frame.columns)}
        if absent := [field.name for field in part.fields if field.name not in index_of]:
            raise ValueError(
                f"X lacks the column {absent[0]!r}; its columns are {shorten(frame.columns)}."
            )
        selected = frame[:, [index_of[field.name] for field in part.fields]].to_native()
        values = part.transform(selected, handle_unknown=handle_unknown)
        rows = np.full((len(values), len(self.fields)), np.nan, values.dtype)
        rows[:, columns] = values
        return rows

    def nearest_possible(
        self, rows: np.ndarray, is_positive: np.ndarray, observed: np.ndarray | bool = False
    ) -> np.ndarray:
        """Move computed values to those that their columns can have: (n, d) -> (n, d).

        Dates of whole days become midnights, and numbers of the mask ``is_positive`` (d,) do not
        become 0 in their dtype. Cells of the mask ``observed`` (n, d) stay as they are.
        """
        possible = rows.copy()
        for j, field in enumerate(self.fields):
            values = possible[:, j]
            if field.has_whole_days:
                values[:] = np.rint(values / DAY) * DAY
            if is_positive[j]:
                np.maximum(values, field.smallest_positive, out=values)
        return np.where(observed, rows, possible)

    def inverse_transform(self, values: np.ndarray, *, like: object = None) -> Any:
        """Convert numbers (n, d) to a table like the one in ``fit``.

        Integers are rounded and clipped to the range of their dtype, codes rounded to categories.
        NaN becomes the table's missing value; a dtype without one is widened as pandas does it. A
        pandas frame has the index of ``like``, if any, and the names of its index of columns.
        Without the table's library it is an array of objects.
        """
        if self.container == "array":
            return values
        if self.container == "object" or find_spec(self.container) is None:
            return self.to_objects(values)
        columns = np.asarray(values, dtype=np.float64).T
        parts = list(zip(self.fields, columns, strict=True))
        return LIBRARIES[self.container].frame(parts, len(values), like)

    def to_objects(self, values: np.ndarray) -> np.ndarray:
        """Convert numbers to an array of objects, with dates in UTC: (n, d) -> (n, d)."""
        objects = np.empty(np.shape(values), dtype=object)
        for j, field in enumerate(self.fields):
            objects[:, j] = field.decode(np.asarray(values[:, j], np.float64), missing=np.nan)
            if has_time_zone(field.dtype):
                objects[:, j] = [date and date.replace(tzinfo=UTC) for date in objects[:, j]]
        return objects

    def keep_observed(self, table: Any, X: Any, missing: np.ndarray) -> Any:
        """Replace cells of a table of ``inverse_transform`` by X's, but for the mask ``missing``.

        Columns of data frames must have the same names and dtypes, unless both hold texts. Numbers
        that their dtype cannot hold, such as a fraction among integers, become float64.
        """
        if self.container == "array":
            return table
        if isinstance(table, np.ndarray):
            return np.where(missing, table, np.asarray(X, dtype=object))
        library, is_alike = LIBRARIES[self.container], type(table) is type(X)
        frame = nw.from_native(table)
        observed = as_narwhals(X)
        if not isinstance(observed, nw.DataFrame) or frame.columns != observed.columns:
            return table
        columns = []
        pairs = zip(frame.iter_columns(), observed.iter_columns(), strict=True)
        for field, (filled, cells), is_missing in zip(self.fields, pairs, missing.T, strict=True):
            numbers = _lost_numbers(filled, cells, is_missing)
            if numbers is not None:
                columns.append(nw.new_series(filled.name, numbers, backend=frame.implementation))
            elif is_alike and (field.categories is None or field.holds_any_text):
                dtypes = {library.dtype(series.to_native()) for series in (filled, cells)}
                are_texts = field.holds_any_text and filled.dtype == cells.dtype == nw.String
                if len(dtypes) == 1 or are_texts:
                    keep = nw.new_series("", is_missing, nw.Boolean, backend=frame.implementation)
                    columns.append(filled.zip_with(keep, cells))
            elif is_alike:
                codes, values = _codes_of(cells)
                if new := field.unknown(codes[~is_missing], values):
                    extended = field.with_categories(new)
                    known = extended.recode(*_codes_of(filled), "missing")
                    codes = np.where(is_missing, known, extended.recode(codes, values, "missing"))
                    column = nw.from_native(library.frame([(extended, codes)], len(codes), table))
                    columns.extend(column.rename({column.columns[0]: filled.name}).iter_columns())
        joined = frame.with_columns(columns).to_native()  # without the names of a MultiIndex
        return joined.set_axis(table.columns, axis=1) if self.container == "pandas" else joined


def _codes_of(series: nw.Series) -> tuple[np.ndarray, list]:
    """Factorize a column as a table's: codes (n,), and unique values or declared categories."""
    (column,) = TableReader(series.alias("").to_frame().to_native()).columns
    return column.codes()


def _lost_numbers(filled: nw.Series, cells: nw.Series, is_missing: np.ndarray) -> np.ndarray | None:
    """Return a column's numbers before they were rounded or clipped to its dtype: (n,) -> (n,).

    Missing cells are those of ``filled``. None if the dtype holds all numbers.
    """
    dtypes = filled.dtype, cells.dtype
    if dtypes[0] == dtypes[1] or not all(each.is_integer() or each.is_float() for each in dtypes):
        return None
    after, before = (series.cast(nw.Float64).to_numpy() for series in (filled, cells))
    numbers = np.where(is_missing, after, before)
    rounding = 0.01 if dtypes[0].is_float() else 0  # to another precision
    is_held = np.allclose(numbers, after, rtol=rounding, atol=0, equal_nan=True)
    return None if is_held else numbers
