"""Sources of batches: what they read, sample and write."""

import sys

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import kstest

from sklearn_vae.data import sources
from sklearn_vae.data.sources import as_source, windows

ROWS = np.arange(1000.0)[:, None] * [1, -1, 2]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Samples and windows of 100 rows of three columns."""
    for name in ("SAMPLE", "WINDOW"):
        monkeypatch.setattr(sources, f"{name}_NUMBERS", 300)
        monkeypatch.setattr(sources, f"MIN_{name}_ROWS", 1)


def batches(X=ROWS, size=70):
    return lambda: (X[first : first + size] for first in range(0, X.shape[0], size))


def as_frames(library):
    """Return the rows in a module's frames, batch by batch, and the source."""
    names = ["a", "b", "c"]
    if library == "pyarrow":
        pa = pytest.importorskip("pyarrow")
        return lambda: (pa.table(dict(zip(names, x.T, strict=True))) for x in batches()())
    module = pytest.importorskip(library)
    return lambda: (module.DataFrame(dict(zip(names, x.T, strict=True))) for x in batches()())


def parquet(folder):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for number, first in enumerate(range(0, 1000, 250)):
        rows = ROWS[first : first + 250]
        pq.write_table(
            pa.table(dict(zip("abc", rows.T, strict=True))), folder / f"{number}.parquet"
        )
    return sorted(folder.glob("*.parquet"))


READ = {
    "callable": lambda folder: batches(),
    "list of paths": parquet,
    "path of a folder": lambda folder: parquet(folder) and str(folder),
    "pattern": lambda folder: parquet(folder) and folder / "*.parquet",
    "pyarrow dataset": lambda folder: (
        pytest.importorskip("pyarrow.dataset")
        .dataset([str(path) for path in parquet(folder)])
        .to_batches
    ),
    "polars": lambda folder: (
        pytest.importorskip("polars", minversion="1.34")
        .DataFrame(ROWS, schema=list("abc"))
        .lazy()
        .collect_batches
    ),
}


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
    np.testing.assert_array_equal(np.tile(ROWS[:30], (2, 1)), table.toarray())


@pytest.mark.parametrize("size", [1, 70, 1000])
def test_a_sample_is_uniform(size):
    """By the test of Kolmogorov and Smirnov; rows keep their order, and none occurs twice."""
    table, _ = as_source(batches(size=size)).sample()
    rows = table[:, 0]

    assert len(rows) == 100
    assert (np.diff(rows) > 0).all()
    assert kstest(rows / 1000, "uniform").pvalue > 0.01


def test_rows_on_disk_are_all_rows_in_random_order():
    """Each window of a sorted source is a random sample of all of it."""
    rows = as_source(batches()).write(np.asarray, 1000, ROWS[:9].astype(np.float32))
    parts = list(windows(rows))

    assert [len(part) for part in parts] == [100] * 10
    assert parts[0].dtype == np.float32
    np.testing.assert_array_equal(ROWS, np.sort(np.concatenate(parts), axis=0)[:, :1] * [1, -1, 2])
    for part in parts:
        assert kstest(part[:, 0] / 1000, "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(part[:, 0], np.arange(100))[0, 1]) < 0.4


def test_scattered_rows_are_read_in_their_order():
    """In several parts, whose memory is freed in between; none at all, too."""
    rows = as_source(batches()).write(np.asarray, 1000, ROWS[:9])
    indices = np.random.default_rng(0).integers(1000, size=700)

    np.testing.assert_array_equal(rows[:][indices], rows[indices])
    assert rows[indices[:0]].shape == (0, 3)


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
        source.write(np.asarray, 1000, ROWS[:9])


def test_a_source_that_changes_between_passes_is_refused():
    sizes = iter([70, 10])
    source = as_source(lambda: [ROWS[: next(sizes)]])
    source.sample()
    with pytest.raises(ValueError, match=r"70 rows .* 10 rows"):
        source.write(np.asarray, 70, ROWS[:9])


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "without any row"),
        ([ROWS[:0]], "without any row"),
        ([ROWS, ROWS[:, :2]], "3 columns of numpy, and batch 1 has 2 columns"),
        ([ROWS, ROWS[0]], "Batch 1 has the shape"),
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


def test_files_with_other_columns_are_refused(tmp_path):
    """A column that only some files have is no missing one; an index that pandas wrote is none."""
    pd, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    for number, names in enumerate((["a", "b"], ["a", "b"], ["a", "c"])):
        rows = pd.DataFrame(ROWS[:9, :2], columns=names)[1 - number % 2 :]
        rows.to_parquet(tmp_path / f"{number}.parquet")
    files = sorted(tmp_path.glob("*.parquet"))

    table, n_rows = as_source(files[:2]).sample()
    assert n_rows == 17
    assert table.column_names == ["a", "b"]
    with pytest.raises(ValueError, match=r"first batch has \['a', 'b'\].* has \['a', 'c'\]"):
        as_source(tmp_path / "*.parquet").sample()


@pytest.mark.parametrize("path", ["*.parquet", "."])
def test_a_pattern_or_folder_without_files_is_refused(path, tmp_path):
    """A folder that exists has no file in it; the message must not say that it is missing."""
    pytest.importorskip("pyarrow")
    with pytest.raises(FileNotFoundError, match=r"^X is .*, where there is no Parquet file"):
        as_source(tmp_path / path).sample()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (np.float32, np.float64, "double"),
        (np.int64, np.float64, "double"),
        (np.int32, np.int64, "int64"),
        ("datetime64[ms]", "datetime64[us]", "timestamp[us]"),
        (None, np.float64, "double"),
    ],
)
def test_files_of_different_types_have_the_wider_one(first, second, expected, tmp_path):
    """No value is rounded to the type of the first file."""
    pd, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    values = np.arange(9) + (1.6e9 + 0.25 * (second is np.float64))
    for number, dtype in enumerate((first, second)):
        column = [None] * 9 if dtype is None else values.astype("int64" if number == 0 else dtype)
        series = pd.Series(column) if dtype is None else pd.Series(column).astype(dtype)
        pd.DataFrame({"a": series, "b": 0.0}).to_parquet(tmp_path / f"{number}.parquet")

    table, n_rows = as_source(tmp_path).sample()
    assert n_rows == 18
    assert str(table.schema.field("a").type) == expected
    dtype = "float64" if expected == "double" else "int64"
    numbers = set(table["a"].cast(dtype).drop_null().to_pylist())
    assert set(pd.Series(values).astype(second).astype(dtype)) <= numbers


def test_folders_named_by_the_value_of_a_column_have_it(tmp_path):
    """As of pandas.read_parquet, which knows the index, too."""
    pd, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": ROWS[:20, 0], "year": np.repeat([2020, 2021], 10)})
    frame.set_index(pd.Index(range(20), name="id")).to_parquet(
        tmp_path / "t", partition_cols=["year"]
    )
    (tmp_path / "t" / "_SUCCESS").touch()

    table, n_rows = as_source(str(tmp_path / "t")).sample()
    assert n_rows == 20
    assert table.column_names == list(pd.read_parquet(tmp_path / "t").columns)
    assert sorted(table["year"].to_pylist()) == frame["year"].tolist()
    for source in ([tmp_path / "t" / "year=2020", tmp_path / "t" / "year=2021"], tmp_path / "t/*"):
        assert as_source(source).sample()[1] == 20


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


@pytest.mark.parametrize("has_pyarrow", [False, True])
def test_other_files_are_refused_by_their_suffix(has_pyarrow, monkeypatch):
    """Installing pyarrow would not help."""
    if not has_pyarrow:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"'big\.CSV', which is no Parquet file.*pandas\.read_csv"):
        next(as_source("big.CSV").read())
    if not has_pyarrow:
        with pytest.raises(ImportError, match=r"pip install 'sklearn-vae\[parquet\]'"):
            next(as_source("big.parquet").read())
