"""Sources of batches: tables that are read batch by batch, more than once, and may exceed memory.

Training reads rows many times and in random order. So the rows of a source are validated once,
and kept as numbers in a temporary file, in random order: every contiguous part of it is a random
sample of all rows, also where the source is sorted.
"""

import mmap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike
from tempfile import TemporaryFile
from typing import Any, Self

import narwhals as nw
import numpy as np

from sklearn_vae.data.arrays import array_of_list, as_array, as_narwhals, is_sparse
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.system.progress import advance

# Numbers in the sample of a source, and least number of its rows.
SAMPLE_NUMBERS = 1 << 21
MIN_SAMPLE_ROWS = 1 << 14
# Numbers in a window of training, and least number of its rows.
WINDOW_NUMBERS = 1 << 18
MIN_WINDOW_ROWS = 1 << 12
# Rows that are read at a time where they are scattered: each takes 64 kB of memory until then.
SCATTERED_ROWS = 1 << 8
# Seed of the sample of rows and of the order of rows in the file.
SEED = 0


def as_source(X: Any) -> "BatchSource | None":
    """Return the source of batches that X is, or None if X is a table.

    A source is a callable that returns a new iterator of batches. An iterator is refused, as it can
    be read only once, and so are paths, a dict, a list of data frames, and a data frame with
    several columns of one name.
    """
    if isinstance(X, BatchSource):
        return X
    if isinstance(X, np.ndarray):  # the usual table, without the tests below
        return None
    if isinstance(X, str | PathLike):
        raise TypeError(
            f"X is a path, {X!r:.100}. Read the table, as with pandas.read_csv, or pass a "
            f"callable that reads it in batches, as pyarrow.dataset.dataset(path).to_batches."
        )
    if callable(X):
        return BatchSource(X)
    if isinstance(X, Mapping) and not is_sparse(X):
        raise TypeError(
            f"X is a {type(X).__name__} of the keys {list(X)!r:.100}. Give a data frame, as of "
            f"pandas.DataFrame(X)."
        )
    if isinstance(X, list | tuple) and X and hasattr(X[0], "columns"):
        raise TypeError(
            f"X is a {type(X).__name__} of data frames. Join them, as by pandas.concat, or pass a "
            f"callable that returns an iterator of them."
        )
    if isinstance(X, Iterator) or type(X).__module__ == "pyarrow._dataset":
        raise ValueError(
            f"X is read more than once, and cannot be a {type(X).__name__}: pass a callable that "
            f"returns a new iterator of batches, such as dataset.to_batches."
        )
    as_narwhals(X)  # refuses columns of one name
    return None


def check_is_table(X: Any, name: str) -> None:
    """Refuse a source of batches where all rows must be in memory."""
    if as_source(X) is not None:
        raise ValueError(
            f"{name} needs a table in memory, and got a source of batches: give a random sample "
            f"of its rows, or each batch in turn."
        )


def sample_rows(n_columns: int) -> int:
    """Return the number of rows in the sample of a source of so many columns."""
    return max(SAMPLE_NUMBERS // max(n_columns, 1), MIN_SAMPLE_ROWS)


def window_rows(n_columns: int) -> int:
    """Return the number of rows of so many columns that are encoded at a time."""
    return max(WINDOW_NUMBERS // max(n_columns, 1), MIN_WINDOW_ROWS)


@dataclass(frozen=True)
class BatchSource:
    """Batches of rows: arrays or data frames with the same columns.

    Attributes
    ----------
    read : callable
        Returns a new iterable of the batches.
    """

    read: Callable[[], Iterable[Any]]

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
            try:
                batch = batch if hasattr(batch, "shape") else array_of_list(batch)
            except ValueError as error:  # as of a pair of rows and classes
                raise ValueError(
                    f"Each batch of X must be one table, an array or data frame. Batch {number} is "
                    f"a {type(native).__name__}: {error}"
                ) from error
            if len(batch.shape) != 2:
                raise ValueError(
                    f"Each batch of X must have two dimensions, rows and columns. Batch {number} "
                    f"has the shape {tuple(batch.shape)}."
                )
            layout = _layout(batch)
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
        generator, n_rows, bound = np.random.default_rng(SEED), 0, 1.0
        tables: list[Any] = []
        keys = np.zeros(0)  # the rows with the smallest keys are the sample
        for batch in self:
            size, key = sample_rows(batch.shape[1]), generator.random(batch.shape[0])
            n_rows += len(key)
            advance(len(key))
            chosen = np.flatnonzero(key < bound)
            if len(chosen):
                tables.append(batch if len(chosen) == len(key) else _take(batch, chosen))
                keys = np.append(keys, key[chosen])
            if len(keys) > 2 * size:
                tables, keys = _smallest(tables, keys, size)
                bound = keys.max()
        if len(keys) > size:
            tables, keys = _smallest(tables, keys, size)
        return _concat(tables), n_rows

    def write(
        self, to_numbers: Callable[[Any], np.ndarray], n_rows: int, sample: np.ndarray
    ) -> "DiskRows":
        """Write all ``n_rows`` rows to a temporary file, in random order.

        Batches are dealt to parts of the file row by row, like cards, and each part is then
        shuffled. ``to_numbers`` validates a batch and converts it to numbers. All have the dtype
        of the sample, which is numbers of some rows.
        """
        generator, n_written = np.random.default_rng(SEED), 0
        n_parts = -(-n_rows // sample_rows(sample.shape[1]))
        sizes = [len(range(part, n_rows, n_parts)) for part in range(n_parts)]
        starts = np.cumsum([0, *sizes]).tolist()
        with TemporaryFile() as file:
            for batch in self:
                rows = generator.permutation(to_numbers(batch).astype(sample.dtype, copy=False))
                for part, start in enumerate(starts[:-1]):
                    first = (part - n_written) % n_parts
                    position = start + (n_written + first) // n_parts
                    file.seek(position * sample[0].nbytes)
                    file.write(rows[first::n_parts].tobytes())
                n_written += len(rows)
                advance(len(rows))
            if n_written != n_rows:
                raise ValueError(
                    f"X gave {n_rows} rows when it was read first, and {n_written} rows when it "
                    f"was read again: pass a callable that returns a new iterator of all batches."
                )
            file.flush()
            mapping = mmap.mmap(file.fileno(), 0)
        table = DiskRows(mapping, np.frombuffer(mapping, sample.dtype).reshape(n_rows, -1), sample)
        for first, last in pairwise(starts):
            table[first:last] = generator.permutation(table[first:last])
        return table


class DiskRows:
    """Rows of numbers in random order in a temporary file, which is deleted with them.

    Parameters
    ----------
    mapping : mmap
        The file, mapped to memory.
    rows : ndarray of shape (n, n_columns)
        View of the rows in the file.
    sample : ndarray of shape (n_sample, n_columns)
        Random sample of the rows whose categories and types the schema has.
    """

    def __init__(self, mapping: mmap.mmap, rows: np.ndarray, sample: np.ndarray):
        self._mapping, self._rows, self.sample = mapping, rows, sample
        self.shape, self.dtype = rows.shape, rows.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        parts: Sequence[slice | np.ndarray] = [rows]
        if not isinstance(rows, slice):
            parts = np.array_split(rows, -(-len(rows) // SCATTERED_ROWS) or 1)
        read = []
        for part in parts:
            read.append(np.array(self._rows[part]))
            self._release()
        return read[0] if len(read) == 1 else np.concatenate(read)

    def __setitem__(self, rows: slice, values: np.ndarray) -> None:
        self._rows[rows] = values
        self._release()

    def after(self, n_rows: int) -> Self:
        """Return all rows but the first ``n_rows``."""
        return type(self)(self._mapping, self._rows[n_rows:], self.sample)

    def _release(self) -> None:
        """Free the memory of the rows that were read or written; they stay in the file."""
        if hasattr(mmap, "MADV_DONTNEED"):  # elsewhere the system frees it where memory is short
            self._mapping.madvise(mmap.MADV_DONTNEED)


def windows(X: np.ndarray | DiskRows) -> Iterator[np.ndarray]:
    """Yield rows on disk window by window, each a random sample; all rows of an array at once."""
    if not isinstance(X, DiskRows):
        yield X
        return
    for rows in batches(len(X), window_rows(X.shape[1])):
        yield X[rows]


def map_windows(function: Callable[[np.ndarray], np.ndarray], X: Any) -> Any:
    """Replace rows on disk by a function of them, window by window; those of an array at once."""
    if not isinstance(X, DiskRows):
        return function(X)
    for rows in batches(len(X), window_rows(X.shape[1])):
        X[rows] = function(X[rows])
    return X


def _layout(batch: Any) -> str:
    """Describe the columns of a batch, and its library."""
    frame = as_narwhals(batch)
    if isinstance(frame, nw.DataFrame):
        return f"{frame.columns} of {frame.implementation.value}"
    return f"{batch.shape[1]} columns of numpy"


def _smallest(tables: list[Any], keys: np.ndarray, size: int) -> tuple[list[Any], np.ndarray]:
    """Return the rows with the smallest keys, in their order, as one table, and their keys."""
    chosen = np.sort(np.argpartition(keys, size)[:size])
    return [_take(_concat(tables), chosen)], keys[chosen]


def _take(table: Any, rows: np.ndarray) -> Any:
    if nw.dependencies.is_into_dataframe(table):
        return nw.from_native(table, eager_only=True)[rows].to_native()
    return table[rows]


def _concat(tables: list[Any]) -> Any:
    """Join tables, of which dtypes may differ, as in chunks of a file."""
    if len(tables) == 1:
        return tables[0]
    try:
        return _join(tables)
    except MemoryError:
        raise
    except Exception as error:  # each library has its own
        raise ValueError(f"The batches of X have columns of different types: {error}") from error


def _join(tables: list[Any]) -> Any:
    if nw.dependencies.is_polars_dataframe(tables[0]):
        import polars as pl

        return pl.concat(tables, how="vertical_relaxed")
    if nw.dependencies.is_pyarrow_table(tables[0]):
        import pyarrow as pa

        return pa.concat_tables(tables, promote_options="permissive")
    if nw.dependencies.is_into_dataframe(tables[0]):
        with warnings.catch_warnings():
            # pandas 2 says that columns without values will count in the joined dtype
            warnings.simplefilter("ignore", FutureWarning)
            frames = [nw.from_native(table, eager_only=True) for table in tables]
            joined = nw.concat(frames).to_native()
        # a column without values in a batch made objects of the dates of another
        return joined.infer_objects() if nw.dependencies.is_pandas_dataframe(joined) else joined
    return np.concatenate(tables)
