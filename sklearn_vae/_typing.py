"""Types of tables, as users pass them."""

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
from narwhals.typing import IntoDataFrame, IntoSeries
from numpy.typing import ArrayLike


class SparseMatrix(Protocol):
    """Matrix or array of scipy."""

    def toarray(self) -> np.ndarray:
        """Return the dense array."""


# An array of any library, a list of rows, a sparse matrix, or a data frame.
Table = ArrayLike | IntoDataFrame | SparseMatrix
# A table, or a function that returns a new iterator of its batches.
Rows = Table | Callable[[], Iterable[Table]]
# A value for each row, or with several columns a table; None without one.
Target = ArrayLike | IntoSeries | IntoDataFrame | None
# Weights of rows; None if they are equal.
Weights = ArrayLike | None
