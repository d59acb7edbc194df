"""The condition y of p(x|y): columns of classes and numbers, as codes for a table encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import narwhals as nw
import numpy as np

from sklearn_vae.data.arrays import as_array, is_missing, is_sparse
from sklearn_vae.data.fields import Field, Name, check_column_names, shorten
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.likelihoods import Categorical, Gaussian
from sklearn_vae.persistence.validation import check_array, serializable

# Columns (n,) by their names: those of a data frame of several, otherwise UNNAMED, "y[1]", ...
Conditions = dict[Name, np.ndarray]
UNNAMED = "y[0]"


@serializable
@dataclass(eq=False)
class ConditionEncoder:
    """Encoder of y: classes to codes, which a table encoder encodes, with numbers as they are.

    A column of floating-point numbers holds numbers, which are standardized. Any other one
    (integers, booleans, strings, categories) holds classes, which are one-hot encoded.
    """

    fields: list[Field]  # schema of each column: its classes, in order, or numbers
    encoder: TableEncoder  # of the codes and numbers
    class_prior: np.ndarray  # (n_classes,), their frequencies; empty but for one column of them

    @classmethod
    def fit(cls, y: Conditions, sample_weight: np.ndarray | None) -> Self:
        """Find the classes of columns of y, of ``read_conditions``."""
        from sklearn_vae.data.fit import fit_encoder  # not at the top: encoding needs no scipy

        fields = [
            Field(name, "number", None, "float64")
            if column.dtype.kind == "f"
            else Field(name, "category", tuple(np.unique(column).tolist()), "object")
            for name, column in y.items()
        ]
        codes, class_prior = _codes(y, fields), np.zeros(0)
        if len(fields) == 1 and fields[0].categories is not None:
            n_classes = len(fields[0].categories)
            frequency = np.bincount(codes[:, 0].astype(int), sample_weight, n_classes)
            class_prior = frequency / frequency.sum()
        likelihood = [
            Gaussian() if field.categories is None else Categorical(max(len(field.categories), 2))
            for field in fields
        ]
        encoder = fit_encoder(codes, sample_weight, likelihood, fields, is_plain=True)
        return cls(fields, encoder, class_prior)

    def transform(self, y: Conditions, dtype: np.dtype) -> np.ndarray:
        """Encode columns of y as codes of classes and numbers: (n, n_y)."""
        if UNNAMED not in (self.encoder.names[0], next(iter(y))):
            check_column_names("y", [*y], self.encoder.names, "y in fit")
        if len(y) != len(self.fields):
            raise ValueError(
                f"y must have {len(self.fields)} columns, as in fit. Got {len(y)} instead."
            )
        codes = _codes(y, self.fields)
        if (largest := float(np.abs(codes).max(initial=0))) > float(np.finfo(dtype).max):
            raise ValueError(
                f"y has numbers up to {largest:.3g}, beyond the range of {dtype}, the precision of "
                f"X in fit. Give X in double precision, or y in another unit."
            )
        return codes.astype(dtype)

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        n_only = len(self.fields[0].categories or ()) if len(self.fields) == 1 else 0
        check_array("class_prior", self.class_prior, "f", (n_only,))
        likelihoods, is_discrete = self.encoder.likelihoods, self.encoder.has_discrete_values
        is_valid = len(self.fields) == self.encoder.n_features
        for j, field in enumerate(self.fields if is_valid else ()):
            if field.categories is not None:
                n_classes = 1 if likelihoods[j] is None else getattr(likelihoods[j], "n_classes", 2)
                is_valid &= bool(is_discrete[j]) and len(field.categories) == n_classes
        if not is_valid:
            raise ValueError("the classes are not those of the conditions")


def read_conditions(y: Any, n_rows: int) -> Conditions:
    """Split a table, column, scalar or dict of scalars y into columns of numbers or text (n,)."""
    if isinstance(y, Mapping) and y:
        return {k: _check_column(np.full(n_rows, v), n_rows) for k, v in y.items()}
    y = as_dense(y)
    frame = nw.from_native(y, pass_through=True, allow_series=True)
    if not isinstance(frame, nw.DataFrame | nw.Series) or 0 in frame.shape[1:]:
        array = np.asarray(y)
        if array.dtype.kind in "US" and array is not y:  # numbers beside strings are no text
            array = np.asarray(y, dtype=object)
        array = np.full(n_rows, array) if array.ndim == 0 else array
        if array.ndim not in (1, 2) or 0 in array.shape[1:]:
            raise ValueError(
                f"y must have the shape (n_samples,) or (n_samples, n_columns). Got an array of "
                f"shape {array.shape} instead."
            )
        columns = enumerate(np.atleast_2d(array.T))
        return {f"y[{j}]": _check_column(column, n_rows) for j, column in columns}
    conditions: Conditions = {}
    series = [frame] if isinstance(frame, nw.Series) else [*frame.iter_columns()]
    for column in series:
        values = _check_column(column.to_numpy(), n_rows)
        # categories are classes, also if they are floating-point numbers
        is_class = column.dtype in (nw.Categorical, nw.Enum) and values.dtype.kind == "f"
        name = column.name if len(series) > 1 else UNNAMED
        conditions[name] = values.astype(object) if is_class else values
    return conditions


def as_dense(y: Any) -> Any:
    """Convert arrays of other libraries; refuse sparse ones, which numpy takes for one object."""
    if is_sparse(y):
        raise TypeError(
            f"y is a {type(y).__name__} of the shape {y.shape}, and must be dense. Give "
            f"y.toarray().ravel() if it is one column, and else y.toarray()."
        )
    return as_array(y, "y")


def _check_column(values: np.ndarray, n_rows: int) -> np.ndarray:
    """Convert a column to numbers, booleans or strings; none may be missing."""
    if len(values) != n_rows:
        raise ValueError(
            f"y must have as many rows as X (or as are sampled), {n_rows}. "
            f"Got {len(values)} instead."
        )
    if values.dtype.kind in "OT":
        cells = values.tolist()
        if any(map(is_missing, cells)):
            raise ValueError("Input y contains missing values: conditions cannot be missing.")
        types = set(map(type, cells))
        is_text = [issubclass(cls, str) for cls in types]
        if any(is_text) and not all(is_text):
            raise ValueError(
                f"y must hold strings, or numbers, and not both in one column. Got values of the "
                f"types {', '.join(sorted(cls.__name__ for cls in types))} instead."
            )
        values = np.array(cells)
    if values.dtype.kind not in "biufU":
        raise ValueError(
            f"y must hold numbers, booleans or strings. Got the dtype {values.dtype} instead."
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("Input y contains NaN or infinity: conditions cannot be missing.")
    return values


def _codes(y: Conditions, fields: Sequence[Field]) -> np.ndarray:
    """Encode classes as codes, and keep numbers: (n, n_y)."""
    columns = []
    for column, field in zip(y.values(), fields, strict=True):
        if field.categories is None:
            if column.dtype.kind not in "biuf":
                value = column[0].item()
                raise ValueError(f"y must hold numbers, as in fit. Got {value!r} instead.")
            columns.append(column)
            continue
        values, index = np.unique(column, return_inverse=True)
        codes = field.recode(np.arange(len(values)), values.tolist(), "missing")
        if (is_unknown := np.isnan(codes)).any():
            raise ValueError(
                f"y has the class {values[is_unknown].tolist()[0]!r}, which no row had in fit; the "
                f"classes were then {shorten(field.categories)}. Leave such rows out, or fit with "
                f"rows of this class."
            )
        columns.append(codes[index])
    return np.stack(columns, axis=1, dtype=np.float64)
