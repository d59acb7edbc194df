"""All columns of a table, and what kind of table it is."""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sklearn_vae.data.fields import Field, cut
from sklearn_vae.data.libraries import LIBRARIES
from sklearn_vae.data.reading import opened
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_annotated, check_hashes


@serializable
@dataclass(frozen=True)
class Schema:
    """What the columns of a table are, and what kind of table it is.

    Attributes
    ----------
    fields : tuple of Field
        The columns, in their order.
    container : {"array", "object", "sparse", "pandas", "polars", "pyarrow"}
        What kind of table it is; ``"object"`` is an array or a list with strings, or an
        array of Python objects. Other data frames that narwhals knows count as pandas.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_vae.data.schema import Schema
    >>> X = np.array([["red", 1.5], ["blue", None]], dtype=object)
    >>> schema = Schema.fit(X)
    >>> print(schema)
    column 0  category  'blue', 'red'
    column 1  number
    >>> schema.transform(X)
    array([[1. , 1.5],
           [0. , nan]])
    >>> schema.inverse_transform(np.array([[0, 2.5]]))
    array([['blue', 2.5]], dtype=object)
    """

    fields: tuple[Field, ...]
    container: str

    @classmethod
    def fit(cls, X: Any) -> "Schema":
        """Find out what the columns are.

        Parameters
        ----------
        X : DataFrame, array, sparse matrix or list of shape (n_samples, n_features)
            A data frame by pandas or polars, a table or a batch by pyarrow (others are
            read as pandas').

        Returns
        -------
        Schema
            With all that ``transform`` and ``inverse_transform`` need.

        Raises
        ------
        TypeError
            If a column holds anything but numbers, strings, booleans, categories, dates
            and durations.
        ValueError
            If X has not two dimensions, or has complex numbers.
        """
        table = opened(X)
        return cls(table.fields(), table.container)

    def check(self) -> None:
        """Check that all this can be, as when it comes from a file, and make tables of it.

        Raises
        ------
        ValueError
            If there is no such table.
        """
        if self.container not in ("array", "object", "sparse", *LIBRARIES):
            raise ValueError(f"{self.container!r:.100} is no kind of table")
        for field in self.fields:
            check_annotated(field, ("kind", "categories", "dtype"))
            field.check()
        check_hashes(field.name for field in self.fields)
        rows = np.array([[0.0], [np.nan], [1e9]]) + np.zeros(len(self.fields))
        with suppress(ImportError):  # whoever reads a file need not have its library
            self.inverse_transform(rows)

    def shared_categories(self, n_values: int = 1) -> "Schema":
        """Give each ``n_values``-th column of categories without order the same list of them."""
        fields = list(self.fields)
        for first in range(n_values):
            own = [j for j in range(first, len(fields), n_values) if fields[j].kind == "category"]
            every = {category for j in own for category in fields[j].categories or ()}
            for j in own:
                fields[j] = replace(fields[j], categories=tuple(sorted(every, key=str)))
        return replace(self, fields=tuple(fields))

    def transform(self, X: Any, *, handle_unknown: str = "error") -> np.ndarray:
        """Turn a table into numbers.

        What the columns are called is left to the caller to check, as scikit-learn's
        ``validate_data`` does. Infinite values pass.

        Parameters
        ----------
        X : DataFrame, array, sparse matrix or list of shape (n_samples, n_features)
            Columns of the same kinds in the same order, in any kind of table. Integers
            may be real numbers now, and a column without any value fits everywhere.
        handle_unknown : {"error", "infrequent", "missing"}, default="error"
            What becomes of a category that the schema does not have: an error, the number
            -1, or a missing cell.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            In single precision if all columns are (or narrower, or booleans, with at
            least one of real numbers), otherwise in double precision. It may share
            memory with X, and then not be writeable.

        Raises
        ------
        TypeError
            If a column is of another kind.
        ValueError
            If there are unknown categories, or another number of columns.
        """
        if handle_unknown not in ("error", "infrequent", "missing"):
            raise ValueError(
                f"handle_unknown must be 'error', 'infrequent' or 'missing'. "
                f"Got {handle_unknown!r} instead."
            )
        table = opened(X)
        if table.shape[1] != len(self.fields):
            raise ValueError(
                f"X has {table.shape[1]} features, but Schema is expecting {len(self.fields)} "
                f"features as input."
            )
        if table.matrix is not None and all(field.is_plain for field in self.fields):
            return table.matrix(table.dtype)
        values: np.ndarray = np.empty(table.shape, table.dtype, order="F")
        for j, (field, column) in enumerate(zip(self.fields, table.columns, strict=True)):
            values[:, j] = column.read_as(field, handle_unknown)
        return values

    def inverse_transform(self, values: np.ndarray, *, index: Any = None) -> Any:
        """Turn numbers into a table of the kind that was learned from.

        Integers are rounded and clipped to their type's range, categories taken from the
        nearest place. NaN becomes what the table has for a missing cell. Where a column's
        type has nothing for it, pandas' own widening is followed: integers become float64,
        booleans object.

        Parameters
        ----------
        values : ndarray of shape (n_samples, n_features)
            Numbers as ``transform`` gives them.
        index : pandas.Index, default=None
            Index of a DataFrame by pandas; 0 to n - 1 by default. Others have none.

        Returns
        -------
        DataFrame or ndarray of shape (n_samples, n_features)
            Names, order, types and categories are those learned. An array has the type
            of ``values``, or holds objects, with NaN for missing cells, if it did before.
            Instead of a sparse matrix there is a dense array.

        Raises
        ------
        ValueError
            If ``values`` has not as many columns as were learned.
        """
        if np.shape(values)[1:] != (len(self.fields),):
            raise ValueError(
                f"values has the shape {np.shape(values)}, but Schema needs {len(self.fields)} "
                f"columns."
            )
        if self.container in ("array", "sparse"):
            return values
        parts = [
            (field, np.asarray(column, dtype=np.float64))
            for field, column in zip(self.fields, np.asarray(values).T, strict=True)
        ]
        if self.container == "object":
            objects = np.empty(np.shape(values), dtype=object)
            for j, (field, column) in enumerate(parts):
                objects[:, j] = field.objects(column, missing=np.nan)
            return objects
        return LIBRARIES[self.container].frame(parts, len(values), index)

    def to_dict(self) -> dict[str, Any]:
        """Say it all in types that JSON has."""
        return {
            "container": self.container,
            "fields": [field.to_dict() for field in self.fields],
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "Schema":
        """Undo ``to_dict``."""
        return cls(tuple(map(Field.from_dict, state["fields"])), state["container"])

    def __str__(self) -> str:
        names = [
            field.name if isinstance(field.name, str) else f"column {field.name}"
            for field in self.fields
        ]
        width = max(map(len, names), default=0)
        return "\n".join(
            f"{name:<{width}}  {field.kind:<8}  {cut(field.categories or ())}".rstrip()
            for name, field in zip(names, self.fields, strict=True)
        )
