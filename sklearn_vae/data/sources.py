"""Sources of batches: tables that are read batch by batch, more than once, and may exceed memory.

Training reads rows many times and in random order. So the rows of a source are encoded once, and
kept in a temporary file, in random order: every contiguous part of it is a random sample of all
rows, also where the source is sorted.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from itertools import pairwise
from os import PathLike
from tempfile import TemporaryFile
from typing import Any, TypeVar, cast

import narwhals as nw
import numpy as np

from sklearn_vae.data.arrays import as_array, as_narwhals

Method = TypeVar("Method", bound=Callable[..., Any])

# Numbers in the sample of a source and in a window of training, and least number of their rows.
SAMPLE_NUMBERS = 1 << 21
MIN_SAMPLE_ROWS = 1 << 14


def as_source(X: Any) -> "BatchSource | None":
    """Return the source that X is, a callable; None of a table; refuse what is neither."""
    if isinstance(X, BatchSource):
        return X
    if isinstance(X, str | PathLike):
        raise TypeError(
            f"X is a path, {X!r:.100}. Read the table, as with pandas.read_csv, or pass a "
            f"callable that reads it in batches, as "
            f"lambda: pandas.read_csv(path, chunksize=100_000) or "
            f"pyarrow.dataset.dataset(path).to_batches."
        )
    if callable(X):
        return BatchSource(X)
    if isinstance(X, list | tuple) and X and hasattr(X[0], "columns"):
        raise TypeError(
            f"X is a {type(X).__name__} of data frames. Join them, as by pandas.concat, or pass a "
            f"callable that returns an iterator of them."
        )
    if isinstance(X, Iterator) or type(X).__module__ == "pyarrow._dataset":
        raise ValueError(
            f"X is read more than once, and cannot be a {type(X).__name__}: pass a callable that "
            f"returns a new iterator of batches, such as "
            f"lambda: pandas.read_csv(path, chunksize=100_000) or dataset.to_batches."
        )
    as_narwhals(X)  # refuses columns of one name, and dicts
    return None


def check_is_table(X: Any, name: str) -> None:
    """Refuse a source of batches where all rows must be in memory."""
    if as_source(X) is not None:
        raise ValueError(
            f"{name} needs a table in memory, and got a source of batches: give a random sample "
            f"of its rows, or each batch in turn."
        )


def accepts_source(method: Method) -> Method:
    """Decorate a method of a table X so that it also takes a source of batches.

    Its array (n, ...) is that of all batches, one after the other.
    """

    @wraps(method)
    def method_of_batches(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        source = as_source(X)
        if source is None:
            return method(self, X, *args, **kwargs)
        y: Any = args[0] if args else kwargs.get("y")
        if np.ndim(y) and getattr(self, "condition_encoder_", None) is not None:
            raise ValueError(
                "With a source of batches, y must be one value for all rows. Pass the rows of an "
                "array y as a table."
            )
        # an iterator, as of names of columns, can be read once only
        kwargs = {k: [*v] if isinstance(v, Iterator) else v for k, v in kwargs.items()}
        return np.concatenate([method(self, batch, *args, **kwargs) for batch in source])

    return cast(Method, method_of_batches)


def sample_rows(n_columns: int) -> int:
    """Return the number of rows in the sample, and in a window, of so many columns."""
    return max(SAMPLE_NUMBERS // max(n_columns, 1), MIN_SAMPLE_ROWS)


@dataclass(frozen=True)
class BatchSource:
    """Batches of rows: arrays or data frames with the same columns."""

    read: Callable[[], Iterable[Any]]  # returns a new iterable of the batches

    def __iter__(self) -> Iterator[Any]:
        """Read the batches that have rows; all batches must have the columns of the first."""
        first, n_rows = None, 0
        tables: Any = self.read()
        if not isinstance(tables, Iterable) or nw.dependencies.is_into_dataframe(tables):
            raise ValueError(
                f"X is a function, which must return an iterator of batches. "
                f"It returned {tables!r:.100} instead."
            )
        for number, native in enumerate(tables):
            batch = as_array(native)
            shape = getattr(batch, "shape", None)
            if shape is None or len(shape) != 2:  # as of a pair of rows and classes
                raise ValueError(
                    f"Each batch of X must be one table, an array or data frame of rows and "
                    f"columns. Batch {number} is a {type(native).__name__} of shape {shape}."
                )
            frame = as_narwhals(batch)
            layout = f"{batch.shape[1]} columns of numpy"
            if isinstance(frame, nw.DataFrame):
                layout = f"{frame.columns} of {frame.implementation.value}"
            first = first or layout
            if layout != first:
                raise ValueError(
                    f"All batches of X must have the same columns, in tables of the same library. "
                    f"The first batch has {first}, and batch {number} has {layout}."
                )
            if batch.shape[0]:
                n_rows += batch.shape[0]
                yield batch
        if not n_rows:
            raise ValueError("X is a source of batches without any row.")

    def map(self, function: Callable[[Any], Any]) -> "BatchSource":
        """Return the source of this one's batches after a function."""
        return BatchSource(lambda: map(function, self))

    def sample(self) -> tuple[Any, int]:
        """Draw rows at random, in their order; all rows if they are no more than the sample has.

        Return them as a table of the type of the batches, and the number of rows of the source.
        """
        generator, n_rows = np.random.default_rng(0), 0
        tables: list[Any] = []
        keys = np.zeros(0)  # the rows with the smallest keys are the sample
        for batch in self:
            size = sample_rows(batch.shape[1])
            tables.append(batch)
            keys = np.append(keys, generator.random(batch.shape[0]))
            n_rows += batch.shape[0]
            if len(keys) > 2 * size:
                tables, keys = _smallest(tables, keys, size)
        if len(keys) > size:
            tables, keys = _smallest(tables, keys, size)
        return _concat(tables), n_rows


@dataclass(frozen=True)
class SourceRows:
    """Rows of a source with more rows than its sample: arrays of numbers."""

    sample: np.ndarray  # (n_sample, n_features)
    source: BatchSource  # of all rows, in arrays of the sample's dtype
    n_rows: int  # number of all rows

    def __len__(self) -> int:
        return self.n_rows

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return self.n_rows, self.sample.shape[1]

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the numbers."""
        return self.sample.dtype

    def shuffle(self, encode: Callable[[np.ndarray], np.ndarray], n_columns: int) -> np.memmap:
        """Encode all rows, and write them in random order to a temporary file, which is mapped.

        Batches (B, n_features) are encoded as (B, n_columns), in single precision. They are dealt
        to windows of the file row by row, like cards, and each window is then shuffled.
        """
        generator, n_read, n_rows = np.random.default_rng(0), 0, self.n_rows
        n_windows = -(-n_rows // sample_rows(n_columns))
        sizes = [len(range(window, n_rows, n_windows)) for window in range(n_windows)]
        starts = np.cumsum([0, *sizes]).tolist()
        with TemporaryFile() as file:
            for batch in self.source:
                with np.errstate(over="ignore"):  # too large numbers become infinite
                    rows = generator.permutation(encode(batch).astype(np.float32))
                for window, start in enumerate(starts[:-1]):
                    first = (window - n_read) % n_windows
                    position = start + (n_read + first) // n_windows
                    file.seek(position * rows[:1].nbytes)
                    file.write(rows[first::n_windows].tobytes())
                n_read += len(rows)
            if n_read != n_rows:
                raise ValueError(
                    f"X gave {n_rows} rows when it was read first, and {n_read} rows when it "
                    f"was read again: pass a callable that returns a new iterator of all batches."
                )
            file.flush()
            table = np.memmap(file, np.float32, "r+", shape=(n_rows, n_columns))
        for first, last in pairwise(starts):
            table[first:last] = generator.permutation(table[first:last])
        return table


def sample_of(X: Any) -> Any:
    """Return the sample of a source's rows, and a table as it is."""
    return X.sample if isinstance(X, SourceRows) else X


def _smallest(tables: list[Any], keys: np.ndarray, size: int) -> tuple[list[Any], np.ndarray]:
    """Return the rows with the smallest keys, in their order, as one table, and their keys."""
    chosen = np.sort(np.argpartition(keys, size)[:size])
    table = as_narwhals(_concat(tables))[chosen]
    return [nw.to_native(table, pass_through=True)], keys[chosen]


def _concat(tables: list[Any]) -> Any:
    """Join tables, of which dtypes may differ, as in chunks of a file."""
    first = tables[0]
    if len(tables) == 1:
        return first
    try:
        if nw.dependencies.is_polars_dataframe(first):
            return import_module("polars").concat(tables, how="vertical_relaxed")
        if nw.dependencies.is_pyarrow_table(first):
            return import_module("pyarrow").concat_tables(tables, promote_options="permissive")
        if not nw.dependencies.is_into_dataframe(first):
            return np.concatenate(tables)
        with warnings.catch_warnings():
            # pandas 2 says that columns without values will count in the joined dtype
            warnings.simplefilter("ignore", FutureWarning)
            joined = nw.concat([nw.from_native(table, eager_only=True) for table in tables])
        # a column without values in a batch made objects of the dates of another
        native = joined.to_native()
        return native.infer_objects() if nw.dependencies.is_pandas_dataframe(native) else native
    except MemoryError:
        raise
    except Exception as error:  # each library has its own
        raise ValueError(f"The batches of X have columns of different types: {error}") from error
