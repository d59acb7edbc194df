"""What is given with rows and not modelled: classes and numbers, as the model sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import narwhals as nw
import numpy as np
from sklearn.utils import column_or_1d

from sklearn_vae.data.arrays import as_array
from sklearn_vae.data.encoder import TableEncoder
from sklearn_vae.data.infer import ColumnHint
from sklearn_vae.likelihoods import Bernoulli, Gaussian
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array, check_hashes

# Classes that an error names.
MOST_SHOWN = 10


@serializable
@dataclass
class ConditionEncoder:
    """The way from y to numbers: one column of them, or several.

    A column of floating-point numbers is of numbers, which the model sees standardised. Any
    other one (integers, truth values, strings, categories) is of classes, of which the model
    sees one number each, or of two classes one for both.

    Attributes
    ----------
    classes : list of ndarray or None
        Classes of each column of y, in order; None for a column of numbers.
    columns : TableEncoder
        The way from places of classes, and numbers, to the model's numbers.
    share : ndarray of shape (n_classes,)
        How often each class was there, as shares of the rows, if y is one column of classes;
        else empty.
    """

    classes: list[Any]
    columns: TableEncoder
    share: np.ndarray

    @classmethod
    def fit(cls, y: Sequence[np.ndarray], weight: np.ndarray | None) -> Self:
        """Find out what the columns of y (n,) are, as ``columns_of`` gives them."""
        classes = [None if own.dtype.kind == "f" else _classes(own) for own in y]
        numbers = _numbers(y, classes)
        names = [f"y[{j}]" for j in range(len(y))]
        signs = [
            ColumnHint(name, n_classes=None if own is None else len(own))
            for name, own in zip(names, classes, strict=True)
        ]
        share = np.zeros(0)
        if len(y) == 1 and classes[0] is not None:
            counts = np.ones(len(numbers)) if weight is None else weight
            share = np.bincount(numbers[:, 0].astype(int), counts, len(classes[0])) / counts.sum()
        wishes = [Gaussian() if own is None else "categorical" for own in classes]
        columns = TableEncoder.fit(numbers, weight, wishes, names, signs)
        return cls(classes, columns, share)

    def transform(self, y: Sequence[np.ndarray]) -> np.ndarray:
        """Turn columns of y (n,) into places of classes and numbers: (n, n_y).

        Raises
        ------
        ValueError
            If there is another number of columns, or a class that no row had in ``fit``.
        """
        if len(y) != len(self.classes):
            raise ValueError(
                f"y must have {len(self.classes)} columns, as in fit. Got {len(y)} instead."
            )
        return _numbers(y, self.classes)

    def check(self) -> None:
        """Check that all this can be, as when it comes from a file."""
        one = self.classes[0] if len(self.classes) == 1 else None
        check_array("share", self.share, "f", (None,))
        if len(self.classes) != len(self.columns.likelihoods) or self.share.shape != (
            (0,) if one is None else (len(one),)
        ):
            raise ValueError("the classes are not those of the conditions")
        for known, kind in zip(self.classes, self.columns.likelihoods, strict=True):
            if known is not None:
                self._check_classes(known, kind)
        is_share = np.isfinite(self.share).all() and (self.share >= 0).all()
        if not is_share or (one is not None and not abs(self.share.sum() - 1) < 1e-6):
            raise ValueError("the shares of the classes are none")

    @staticmethod
    def _check_classes(known: Any, kind: Any) -> None:
        """Check that the classes are as many as the model's kind of column says."""
        n_classes = 2 if isinstance(kind, Bernoulli) else getattr(kind, "n_classes", None)
        if np.ndim(known) != 1 or n_classes not in (None, len(known)) or not len(known):
            raise ValueError("the classes are not those of the conditions")
        check_hashes(known.tolist())
        if len(set(known.tolist())) != len(known):
            raise ValueError("a class of the conditions occurs twice")


@serializable
@dataclass(repr=False)
class ConditionalTableEncoder(TableEncoder):
    """Columns of rows beside which conditions stand: those of X first, and then those of y.

    Attributes
    ----------
    given : ConditionEncoder
        What y is. It is part of what the model sees, and not of what it speaks of.
    """

    given: Any = None

    @property
    def n_given(self) -> int:
        """Columns of y that stand after those of X."""
        return len(self.given.classes)

    @property
    def n_conditions(self) -> int:
        """Numbers by which the model sees a row's conditions."""
        return self.given.columns.n_columns

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Put rows into the model's units: (n, n_features + n_y) -> (n, all that it sees)."""
        n_features = len(self.likelihoods)
        given = self.given.columns.transform(X[:, n_features:])
        return np.hstack([super().transform(X[:, :n_features]), given])

    def log_abs_det_jacobian(self, X: np.ndarray) -> np.ndarray:
        """What the border knows of each row's log-density given its conditions: (n,)."""
        return super().log_abs_det_jacobian(X[:, : len(self.likelihoods)])


def columns_of(y: Any, n_rows: int) -> list[np.ndarray]:
    """Give y as columns of numbers, truth values or strings, of so many rows each.

    Parameters
    ----------
    y : scalar, array-like of shape (n_rows,) or (n_rows, n_y), or DataFrame
        A single value is that of all rows.
    n_rows : int
        Number of rows.

    Returns
    -------
    list of ndarray of shape (n_rows,)
        Columns.
    """
    y = as_array(y)
    frame = nw.from_native(y, pass_through=True, allow_series=True)
    if isinstance(frame, nw.DataFrame):
        columns = [frame[name].to_numpy() for name in frame.columns]
    else:
        values = frame.to_numpy() if isinstance(frame, nw.Series) else np.asarray(y)
        if values.ndim == 0:
            values = np.full(n_rows, values)
        if values.ndim not in (1, 2) or 0 in values.shape[1:]:
            raise ValueError(
                f"y must have the shape (n_samples,) or (n_samples, n_columns). Got an array of "
                f"shape {values.shape} instead."
            )
        columns = [*values.T] if values.ndim == 2 else [values]
    for own in columns:
        if len(own) != n_rows:
            raise ValueError(
                f"y must have as many rows as X (or as are asked for), {n_rows}. "
                f"Got {len(own)} instead."
            )
    return [_values(own) for own in columns]


def _values(values: np.ndarray) -> np.ndarray:
    """Cells of one column as numbers, truth values or strings, all of which are there."""
    if values.dtype.kind in "OT":
        found = {type(value) for value in values}
        is_text = [issubclass(kind, str) for kind in found]
        if any(is_text) and not all(is_text):
            raise ValueError(
                f"y must hold strings, or numbers, and none may be missing. Got values of the "
                f"types {', '.join(sorted(kind.__name__ for kind in found))} instead."
            )
        values = np.array(values.tolist())
    if values.dtype.kind not in "biufU":
        raise ValueError(
            f"y must hold numbers, truth values or strings. Got the dtype {values.dtype} instead."
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("Input y contains NaN or infinity: what is given has to be known.")
    return column_or_1d(values)


def _classes(values: np.ndarray) -> np.ndarray:
    found = np.unique(values)
    return found.astype(object) if found.dtype.kind == "U" else found


def _numbers(y: Sequence[np.ndarray], classes: Sequence[Any]) -> np.ndarray:
    """Places of classes, and numbers: (n, n_y)."""
    cells = [
        _as_numbers(own) if known is None else _places(own, known)
        for own, known in zip(y, classes, strict=True)
    ]
    return np.column_stack(cells).astype(np.float64)


def _as_numbers(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise ValueError(f"y must hold numbers, as in fit. Got {values[0].item()!r} instead.")
    return values


def _places(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Places of values among the classes: (n,) -> (n,)."""
    place_of = {value: place for place, value in enumerate(classes.tolist())}
    found, own = np.unique(values, return_inverse=True)
    unknown = [value for value in found.tolist() if value not in place_of]
    if unknown:
        shown = ", ".join(map(repr, classes.tolist()[:MOST_SHOWN]))
        rest = len(classes) - MOST_SHOWN
        raise ValueError(
            f"y has the class {unknown[0]!r}, which no row had in fit; the classes were then "
            f"{shown}{f' and {rest} more' if rest > 0 else ''}. Leave such rows out, or fit with "
            f"rows of this class."
        )
    return np.array([place_of[value] for value in found.tolist()], dtype=np.float64)[own]
