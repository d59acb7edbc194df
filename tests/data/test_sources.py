"""Sources of batches: what they read, sample and write."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import kstest

from sklearn_vae.data import sources
from sklearn_vae.data.sources import SourceRows, as_source
from tests.conftest import as_table

ROWS = np.arange(1000.0)[:, None] * [1, -1, 2]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Samples and windows of 100 rows of three columns."""
    monkeypatch.setattr(sources, "SAMPLE_NUMBERS", 300)
    monkeypatch.setattr(sources, "MIN_SAMPLE_ROWS", 1)


def batches(X=ROWS, size=70):
    return lambda: (X[first : first + size] for first in range(0, X.shape[0], size))


def as_frames(library):
    """Return the rows in a library's frames, batch by batch."""
    pd = pytest.importorskip("pandas")
    return lambda: (as_table(pd.DataFrame(x, columns=list("abc")), library) for x in batches()())


READ = {
    "callable": lambda folder: batches(),
    "pyarrow dataset": lambda folder: (
        pytest.importorskip("pyarrow.dataset").dataset(str(parquet(folder))).to_batches
    ),
    "polars": lambda folder: (
        pytest.importorskip("polars", minversion="1.34")
        .DataFrame(ROWS, schema=list("abc"))
        .lazy()
        .collect_batches
    ),
}


def parquet(folder):
    """Return the folder with the rows in a file."""
    pq = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table(dict(zip("abc", ROWS.T, strict=True)))
    pq.write_table(table, folder / "rows.parquet")
    return folder


@pytest.mark.parametrize("name", READ)
def test_every_source_gives_all_rows_in_their_order_each_time(name, tmp_path):
    """Each library reads its own files and graphs."""
    source = as_source(READ[name](tmp_path))
    for _ in range(2):
        np.testing.assert_array_equal(ROWS, np.concatenate([np.asarray(b) for b in source]))


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_sample_is_a_frame_of_the_batches_library(library):
    """Its rows are those of the sample of arrays."""
    frame, n_rows = as_source(as_frames(library)).sample()

    assert n_rows == 1000
    assert type(frame).__module__.partition(".")[0] == library
    np.testing.assert_array_equal(as_source(batches()).sample()[0], np.asarray(frame))


@pytest.mark.parametrize("convert", [(csr_matrix, np.asarray), (np.asarray, csr_matrix)])
def test_sparse_and_dense_batches_are_one_table(convert):
    table, n_rows = as_source(lambda: [as_type(ROWS[:30]) for as_type in convert]).sample()

    assert n_rows == 60
    np.testing.assert_array_equal(np.tile(ROWS[:30], (2, 1)), table)


@pytest.mark.parametrize("size", [1, 70, 1000])
def test_a_sample_is_uniform(size):
    """By the test of Kolmogorov and Smirnov; rows keep their order, and none occurs twice."""
    table, _ = as_source(batches(size=size)).sample()
    rows = table[:, 0]

    assert len(rows) == 100
    assert (np.diff(rows) > 0).all()
    assert kstest(rows / 1000, "uniform").pvalue > 0.01


def shuffle(source, n_rows=1000):
    return SourceRows(ROWS[:9], source, n_rows).shuffle(np.asarray, 3)


def test_rows_on_disk_are_all_rows_in_random_order():
    """Each window of a sorted source is a random sample of all of it."""
    rows = shuffle(as_source(batches()))
    parts = np.split(rows, 10)

    assert rows.dtype == np.float32
    np.testing.assert_array_equal(ROWS, np.sort(rows, axis=0)[:, :1] * [1, -1, 2])
    for part in parts:
        assert kstest(part[:, 0] / 1000, "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(part[:, 0], np.arange(100))[0, 1]) < 0.4


def test_an_iterator_is_refused():
    """It could be read only once."""
    with pytest.raises(ValueError, match="pass a callable that returns a new iterator"):
        as_source(batches()())


def test_a_callable_that_returns_the_same_iterator_is_refused():
    """The second pass finds it empty."""
    generator = batches()()
    source = as_source(lambda: generator)
    source.sample()
    with pytest.raises(ValueError, match="without any row"):
        shuffle(source)


def test_a_source_that_changes_between_passes_is_refused():
    sizes = iter([70, 10])
    source = as_source(lambda: [ROWS[: next(sizes)]])
    source.sample()
    with pytest.raises(ValueError, match=r"70 rows .* 10 rows"):
        shuffle(source, 70)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "without any row"),
        ([ROWS[:0]], "without any row"),
        ([ROWS, ROWS[:, :2]], "3 columns of numpy, and batch 1 has 2 columns"),
        ([ROWS, ROWS[0]], r"Batch 1 is a ndarray of shape \(3,\)"),
        ([(ROWS, ROWS[:, 0])], "Batch 0 is a tuple"),
    ],
)
def test_wrong_batches_are_refused(found, message):
    with pytest.raises(ValueError, match=message):
        as_source(lambda: found).sample()


def test_frames_with_other_names_are_refused():
    pd = pytest.importorskip("pandas")
    frames = [pd.DataFrame({"a": [1.0], "b": [2.0]}), pd.DataFrame({"a": [1.0], "c": [2.0]})]
    with pytest.raises(ValueError, match=r"\['a', 'b'\] of pandas, and batch 1 has \['a', 'c'\]"):
        as_source(lambda: frames).sample()


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_batches_that_cannot_be_joined_are_refused(library):
    """With a ValueError, whatever the library raises."""
    module = pytest.importorskip(library)
    if library == "polars":
        columns = [
            module.Series("a", values, dtype=module.Enum(values))
            for values in (["a", "b"], ["a", "c"])
        ]
        tables = [module.DataFrame({"a": column}) for column in columns]
    else:
        tables = [module.table({"a": [1, 2]}), module.table({"a": ["x", "y"]})]
    with pytest.raises(ValueError, match="batches of X have columns of different types"):
        as_source(lambda: iter(tables)).sample()


@pytest.mark.parametrize("path", ["rows.csv", Path("rows.parquet")])
def test_paths_are_refused(path):
    """The message says how to read them."""
    with pytest.raises(TypeError, match=r"X is a path, .*dataset\(path\)\.to_batches"):
        as_source(path)
