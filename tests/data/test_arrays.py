"""Results as data frames, and cells as text."""

import numpy as np
import pytest

from sklearn_vae.data.arrays import cells_of, format_value, make_frame, replace_by_nan

pd = pytest.importorskip("pandas")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (pd.Timestamp("1912-04-10"), "1912-04-10"),
        (pd.Timestamp("1912-04-10 11:08:22.898099"), "1912-04-10 11:08:22"),
        (pd.Timestamp("1912-04-10", tz="UTC"), "1912-04-10"),
        (pd.NaT, "missing"),
        (pd.NA, "missing"),
        (None, "missing"),
        (float("nan"), "missing"),
        ("nan", "nan"),
        ("two\nlines", "two lines"),
        (True, "True"),
        (1e14, "100000000000000"),
        (np.float32(0.1), "0.1"),
        (8.25, "8.25"),
        (12345.678, "12345.68"),
    ],
)
def test_cells_are_short_texts(value, text):
    """In the sentences of reports and the labels of bars."""
    assert format_value(value) == text


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_frame_has_the_library_of_another_one(library):
    """Cells of several types are text where a column has one type."""
    module = pytest.importorskip(library)
    like = getattr(module, "table", getattr(module, "DataFrame", None))({"x": [1]})
    frame = make_frame({"row": np.arange(2), "value": [1.5, "b"]}, like)

    assert type(frame) is type(like)
    assert cells_of(frame, [0, 1], [0, 0]) == [0, 1]
    first, second = cells_of(frame, [0, 1], [1, 1])
    assert (str(first), second) == ("1.5", "b")
    numbers = make_frame({"value": [1, np.float64(2.5)]}, like)
    assert cells_of(numbers, [0, 1], [0, 0]) == [1.0, 2.5]


def test_without_a_library_of_frames_the_error_names_one(monkeypatch):
    """Arrays can be used without pandas, and a table of results cannot."""
    monkeypatch.setattr("sklearn_vae.data.arrays.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install pandas"):
        make_frame({"x": [1]})


def test_cells_of_arrays_lists_and_sparse_matrices():
    """A report quotes them."""
    sparse = pytest.importorskip("scipy.sparse").csr_matrix([[1.0, 0.0], [0.0, 2.0]])
    for X in (sparse, sparse.toarray(), sparse.toarray().tolist()):
        assert cells_of(X, [1, 0], [1, 1]) == [2.0, 0.0]


@pytest.mark.parametrize("name", ["a", 0])
def test_the_category_of_missing_cells_is_left_out(name):
    """Names may be numbers, the index is kept, and so is the order of the others."""
    cells = pd.Categorical(["?", "b", "a"], categories=["b", "?", "a"], ordered=True)
    frame = pd.DataFrame({name: cells}, index=[5, 7, 9])
    expected = pd.Categorical([None, "b", "a"], categories=["b", "a"], ordered=True)

    pd.testing.assert_frame_equal(
        replace_by_nan(frame, "?"), pd.DataFrame({name: expected}, index=[5, 7, 9])
    )


@pytest.mark.parametrize("dtype", ["String", "Categorical", "Enum"])
@pytest.mark.parametrize("value", ["?", "-"])
def test_texts_of_polars_are_replaced_whatever_their_dtype(dtype, value):
    """Also where the value is no declared category."""
    pl = pytest.importorskip("polars")
    cells = ["x", "?", None]
    declared = pl.Enum(["x", "?"]) if dtype == "Enum" else getattr(pl, dtype)
    replaced = replace_by_nan(pl.DataFrame({"a": pl.Series(cells, dtype=declared)}), value)

    assert replaced.schema["a"] == declared
    assert replaced["a"].to_list() == [None if cell == value else cell for cell in cells]
