"""The condition y of p(x|y): columns of classes and numbers, as codes for a table encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import narwhals as nw
import numpy as np

from sklearn_vae.data.arrays import as_array, is_missing, is_sparse
from sklearn_vae.data.fields import Field, Name, check_column_names, shorten
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.likelihoods import Categorical, Gaussian
from sklearn_vae.persistence.validation import check_array, check_hashes, serializable

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

    categories_: list[np.ndarray | None]  # classes of each column, in order; None for numbers
    encoder: TableEncoder  # of the codes and numbers
    class_prior: np.ndarray  # (n_classes,), their frequencies; empty but for one column of them

    @classmethod
    def fit(cls, y: Conditions, sample_weight: np.ndarray | None) -> Self:
        """Find the classes of columns of y, of ``read_conditions``."""
        from sklearn_vae.data.fit import fit_encoder  # not at the top: encoding needs no scipy

        columns, names = [*y.values()], [*y]
        categories = [
            None if column.dtype.kind == "f" else classes_of(column) for column in columns
        ]
        codes = _codes(columns, categories)
        fields = [
            Field(name, "number", None, "float64")
            if classes is None
            else Field(name, "category", tuple(classes), "object")
            for name, classes in zip(names, categories, strict=True)
        ]
        class_prior = np.zeros(0)
        if len(y) == 1 and categories[0] is not None:
            weights = np.ones(len(codes)) if sample_weight is None else sample_weight
            frequency = np.bincount(codes[:, 0].astype(int), weights, len(categories[0]))
            class_prior = frequency / weights.sum()
        likelihood = [
            Gaussian() if classes is None else Categorical(max(len(classes), 2))
            for classes in categories
        ]
        encoder = fit_encoder(codes, sample_weight, likelihood, names, fields)
        return cls(categories, encoder, class_prior)

    def transform(self, y: Conditions, dtype: np.dtype) -> np.ndarray:
        """Encode columns of y as codes of classes and numbers: (n, n_y)."""
        if UNNAMED not in (self.encoder.names[0], next(iter(y))):
            check_column_names("y", [*y], self.encoder.names, "y in fit")
        if len(y) != len(self.categories_):
            raise ValueError(
                f"y must have {len(self.categories_)} columns, as in fit. Got {len(y)} instead."
            )
        codes = _codes([*y.values()], self.categories_)
        largest = float(np.abs(codes).max(initial=0))
        if largest > float(np.finfo(dtype).max):
            raise ValueError(
                f"y has numbers up to {largest:.3g}, beyond the range of {dtype}, the precision of "
                f"X in fit. Give X in double precision, or y in another unit."
            )
        return codes.astype(dtype)

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        only = self.categories_[0] if len(self.categories_) == 1 else None
        check_array("class_prior", self.class_prior, "f", (None if only is None else len(only),))
        has_prior = len(self.class_prior) > 0
        if len(self.categories_) != self.encoder.n_features or has_prior == (only is None):
            raise ValueError("the classes are not those of the conditions")
        columns = self.categories_, self.encoder.likelihoods, self.encoder.has_discrete_values
        for classes, likelihood, is_discrete in zip(*columns, strict=True):
            if classes is None:
                continue
            n_classes = 1 if likelihood is None else getattr(likelihood, "n_classes", 2)
            if not is_discrete or np.shape(classes) != (n_classes,):
                raise ValueError("the classes are not those of the conditions")
            check_hashes(classes.tolist())


def read_conditions(y: Any, n_rows: int) -> Conditions:
    """Split a table, column or scalar y into columns of numbers, booleans or strings: (n_rows,)."""
    y = as_dense(y)
    frame = nw.from_native(y, pass_through=True, allow_series=True)
    if not isinstance(frame, nw.DataFrame | nw.Series) or 0 in frame.shape[1:]:
        array = np.asarray(y)
        if array.dtype.kind in "US" and array is not y:  # numbers beside strings are no text
            array = np.asarray(y, dtype=object)
        if array.ndim == 0:
            array = np.full(n_rows, array)
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


def classes_of(values: np.ndarray) -> np.ndarray:
    """Find the classes of a column, in order."""
    classes = np.unique(values)
    if classes.dtype.kind == "O":  # categories that are floating-point numbers
        return np.array(classes.tolist())
    return classes.astype(object) if classes.dtype.kind == "U" else classes


def _codes(y: Sequence[np.ndarray], categories: Sequence[np.ndarray | None]) -> np.ndarray:
    """Encode classes as codes, and keep numbers: (n, n_y)."""
    codes = np.empty((len(y[0]), len(y)))
    for j, (column, classes) in enumerate(zip(y, categories, strict=True)):
        if classes is None and column.dtype.kind not in "biuf":
            raise ValueError(f"y must hold numbers, as in fit. Got {column[0].item()!r} instead.")
        if classes is None:
            codes[:, j] = column
            continue
        code_of = {value: code for code, value in enumerate(classes.tolist())}
        unique, inverse = np.unique(column, return_inverse=True)
        unknown = [value for value in unique.tolist() if value not in code_of]
        if unknown:
            raise ValueError(
                f"y has the class {unknown[0]!r}, which no row had in fit; the classes were then "
                f"{shorten(classes.tolist())}. Leave such rows out, or fit with rows "
                f"of this class."
            )
        codes[:, j] = np.array([code_of[value] for value in unique.tolist()])[inverse]
    return codes
