"""Schema: conversion of tables to numbers and back, without loss."""

import copy
import datetime as dt
import json
import pickle
from decimal import Decimal

import numpy as np
import pytest

from sklearn_vae.data.schema import Schema
from sklearn_vae.persistence.serialization import Reader, Writer
from tests.conftest import as_table

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pytest.importorskip("polars.testing")
pa = pytest.importorskip("pyarrow")

NOON = dt.datetime(2020, 1, 1, 12, 13, 14, 123456)
LONG_AGO = dt.datetime(1931, 2, 3)
nan = np.nan


def arrow(values, dtype):
    return pd.Series(pd.array(pa.array(values, dtype), dtype=pd.ArrowDtype(dtype)))


def pandas_columns():
    dates = pd.Series([NOON, None, LONG_AGO], dtype="datetime64[us]")
    lengths = pd.Series(pd.to_timedelta(["1.5s", None, "2D"]))
    yield from (pd.Series([1, 2, 3], dtype=kind) for kind in ("int8", "uint16", "int64"))
    yield from (pd.Series([1, None, 3], dtype=kind) for kind in ("Int8", "UInt64", "Int64"))
    yield from (pd.Series([1.5, nan, 3], dtype=f"float{bits}") for bits in (16, 32, 64))
    yield from (pd.Series([1.5, None, 3], dtype=f"Float{bits}") for bits in (32, 64))
    yield pd.Series([True, False, True])
    yield pd.Series([True, None, False], dtype="boolean")
    yield pd.Series([True, nan, False], dtype=object)
    yield pd.Series(["b", nan, "a"])
    yield pd.Series(["b", None, "a"], dtype="string")
    yield pd.Series(["b", nan, "a"], dtype=object)
    yield pd.Series([1.5, nan, 2.5], dtype=object)
    yield pd.Series(pd.Categorical(["x", None, "y"], categories=["z", "y", "x"]))
    yield pd.Series(pd.Categorical(["x", None, "y"], categories=["z", "y", "x"], ordered=True))
    yield from (pd.Series(pd.Categorical(v)) for v in ([3, 1, None], [2.5, 1, 2], [True, False, 1]))
    yield pd.Series(pd.Categorical(["a", 1, None]))
    yield pd.Series(pd.Categorical(dates))
    yield pd.cut(pd.Series([1.0, 2.0, 9.0]), 3)
    yield from (dates.astype(f"datetime64[{unit}]") for unit in ("us", "ns"))
    yield from (dates.dt.floor("s").astype(f"datetime64[{unit}]") for unit in ("s", "ms"))
    yield dates.dt.tz_localize("Asia/Tokyo")
    yield from (lengths.astype(f"timedelta64[{unit}]") for unit in ("ns", "us", "ms"))
    yield from (arrow([1, None, 3], kind) for kind in (pa.int8(), pa.uint32(), pa.float32()))
    yield arrow([True, None, False], pa.bool_())
    yield from (arrow(["b", None, "a"], kind) for kind in (pa.string(), pa.large_string()))
    yield arrow(["b", None, "a"], pa.dictionary(pa.int32(), pa.string()))
    yield arrow([NOON, None, LONG_AGO], pa.timestamp("us", "America/New_York"))
    yield from (arrow([NOON.date(), None, LONG_AGO.date()], t) for t in (pa.date32(), pa.date64()))
    yield arrow([dt.timedelta(2), None, dt.timedelta(0, 1.5)], pa.duration("ms"))
    yield arrow([Decimal("1.5"), None, Decimal("-2.25")], pa.decimal128(9, 2))
    yield arrow([None, None, None], pa.null())


def polars_columns():
    whole = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)
    yield from (pl.Series("a", [1, None, 3], kind) for kind in whole)
    yield from (pl.Series("a", [1.5, None, 3], kind) for kind in (pl.Float32, pl.Float64))
    yield pl.Series("a", [Decimal("1.50"), None, Decimal("-2.25")], pl.Decimal(9, 2))
    yield pl.Series("a", [True, None, False], pl.Boolean)
    yield from (pl.Series("a", ["b", None, "a"], kind) for kind in (pl.String, pl.Categorical))
    yield pl.Series("a", ["b", None, "a"], pl.Enum(["c", "b", "a"]))
    yield pl.Series("a", [NOON.date(), None, LONG_AGO.date()], pl.Date)
    yield from (pl.Series("a", [NOON, None, LONG_AGO], pl.Datetime(u)) for u in ("us", "ns", "ms"))
    zoned = pl.Series("a", [NOON, None, LONG_AGO], pl.Datetime("us"))
    yield zoned.dt.replace_time_zone("Asia/Tokyo")
    yield pl.Series("a", [dt.timedelta(2), None, dt.timedelta(0, 1.5)], pl.Duration("ms"))
    yield pl.Series("a", [None, None, None], pl.Null)


def arrow_columns():
    yield from (column.to_frame().to_arrow()["a"] for column in polars_columns())
    yield pa.chunked_array([["b", None], ["a"]])
    yield pa.chunked_array([pa.array([NOON.date(), None, LONG_AGO.date()], pa.date64())])
    yield pa.chunked_array([["b", None], ["c", "a"]]).dictionary_encode()
    yield pa.chunked_array([pa.array([3, None, 1]).dictionary_encode()])
    ordered = pa.DictionaryArray.from_arrays([1, None, 0], ["lo", "hi"], ordered=True)
    yield pa.chunked_array([ordered])


def assert_equal(left, right):
    """Of tables of any library, with their dtypes."""
    if isinstance(right, pa.Table):
        assert left.schema == right.schema
        assert left.to_pydict() == right.to_pydict()
    else:
        library = pd if isinstance(right, pd.DataFrame) else pl
        library.testing.assert_frame_equal(left, right)


def reread(schema):
    """A schema as in a file."""
    writer = Writer()
    text = json.dumps(writer.write(schema, ""))
    return Reader(writer.arrays, len(text)).read(json.loads(text))


def assert_round_trip(frame):
    """Transform and invert, also by a schema from a pickle, a copy or JSON."""
    schema = Schema.fit(frame)
    numbers = schema.transform(frame)
    others = [pickle.loads(pickle.dumps(schema)), copy.deepcopy(schema), reread(schema)]

    assert all(other == schema for other in others)
    assert_equal(schema.inverse_transform(numbers), frame)
    assert_equal(others[2].inverse_transform(numbers), frame)


TABLES = [
    *(column.to_frame("a") for column in pandas_columns()),
    *(column.to_frame() for column in polars_columns()),
    *(pa.table({"a": column}) for column in arrow_columns()),
]


def library_and_dtype(table):
    column = table["a"]
    return f"{type(table).__module__} {getattr(column, 'dtype', None) or column.type}"


@pytest.mark.parametrize("table", TABLES, ids=library_and_dtype)
def test_every_dtype_is_restored(table):
    """A sample is a table as the user's: dtypes, categories, nulls, and types of dictionaries."""
    assert_round_trip(table)


@pytest.mark.parametrize("table", TABLES, ids=library_and_dtype)
def test_observed_cells_of_every_dtype_are_kept(table):
    """Beside others that are imputed."""
    schema = Schema.fit(table)
    numbers = schema.transform(table)
    first = numbers[:1] if np.isfinite(numbers[0]).all() else numbers[-1:]
    filled = schema.inverse_transform(np.where(np.isnan(numbers), first, numbers))

    assert_equal(schema.keep_observed(filled, table, np.isnan(numbers)), filled)


def test_observed_numbers_that_a_dtype_cannot_hold_are_kept():
    """A column of whole numbers in ``fit`` may have fractions later, or larger ones."""
    frame = pd.DataFrame({"a": [0, 3], "b": np.array([0, 200], dtype="uint8"), "c": [0.5, 1]})
    schema = Schema.fit(frame)
    for make in (pd.DataFrame, pl.DataFrame):
        new = make({"a": [0.5, 2.75], "b": [300, -5], "c": [np.nan, 0.1]})
        missing = np.isnan(schema.transform(new))
        table = schema.inverse_transform(np.where(missing, 7, schema.transform(new)))
        kept = schema.keep_observed(table, new, missing)
        np.testing.assert_array_equal(kept.to_numpy(), [[0.5, 300, 7], [2.75, -5, 0.1]])

    same = schema.keep_observed(frame, frame.astype("float64"), np.zeros((2, 3), dtype=bool))
    pd.testing.assert_frame_equal(same, frame)


@pytest.mark.parametrize("names", [["b", "a"], [0, 1], [3, 7], [2, "a"]])
def test_names_of_any_type_are_restored(names):
    """Strings and numbers."""
    frame = pd.DataFrame([[1, "x"], [2, "y"]], columns=names)

    assert_round_trip(frame)


@pytest.mark.parametrize("zone", [None, "America/New_York"])
@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_dates_are_seconds_since_1970(library, zone):
    """Python's own timestamps are the oracle, with a time zone and without."""
    frame = pd.DataFrame({"a": pd.Series([NOON, None, LONG_AGO], dtype="datetime64[us]")})
    frame["a"] = frame["a"].dt.tz_localize("UTC")
    frame["a"] = frame["a"].dt.tz_convert(zone) if zone else frame["a"].dt.tz_localize(None)
    frame = as_table(frame, library)

    numbers = Schema.fit(frame).transform(frame)[:, 0]

    expected = [when.replace(tzinfo=dt.UTC).timestamp() for when in (NOON, LONG_AGO)]
    np.testing.assert_array_equal(numbers, [expected[0], nan, expected[1]])


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_dates_with_and_without_a_time_zone_are_two_types(library):
    """Which moments dates without one are is unknown; those of another zone are known."""
    dates = pd.Series([NOON, None, LONG_AGO], dtype="datetime64[us]", name="a")
    naive, tokyo, utc = (
        as_table(column.to_frame(), library)
        for column in (
            dates, dates.dt.tz_localize("Asia/Tokyo"),
            dates.dt.tz_localize("Asia/Tokyo").dt.tz_convert("UTC"),
        )
    )  # fmt: skip
    zoned = Schema.fit(tokyo)

    np.testing.assert_array_equal(zoned.transform(utc), zoned.transform(tokyo))
    for schema, other in ((zoned, naive), (Schema.fit(naive), tokyo)):
        with pytest.raises(TypeError, match="Column 'a' had the dtype"):
            schema.transform(other)


COLUMNS = {
    "i": pd.Series([1, 2, 3]),
    "f": pd.Series([0.5, nan, 2]),
    "b": pd.Series([True, False, True]),
    "s": pd.Series(["b", nan, "a"]),
    "c": pd.Series(pd.Categorical(["x", "y", "x"], categories=["y", "x"])),
    "o": pd.Series(pd.Categorical(["x", "y", "x"], categories=["y", "x"], ordered=True)),
    "t": pd.Series([NOON, None, LONG_AGO], dtype="datetime64[us]"),
}
FRAME = pd.DataFrame(COLUMNS)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_logical_types_do_not_depend_on_the_library(library):
    """The same table has the same numbers in each library."""
    frame = as_table(FRAME.drop(columns="o"), library)

    schema = Schema.fit(frame)

    logical_types = ["integer", "number", "boolean", "category", "category", "number"]
    assert [field.logical_type for field in schema.fields] == logical_types
    assert schema.container == library
    expected = Schema.fit(FRAME.drop(columns="o"))
    numbers = expected.transform(FRAME.drop(columns="o"))
    np.testing.assert_array_equal(expected.transform(frame), numbers)


def test_ordered_categories_keep_their_order():
    """Of pandas, of polars' Enum and of pyarrow's dictionaries, also where it is not by value."""
    levels = pd.CategoricalDtype(["low", "mid", "high"], ordered=True)
    frame = pd.DataFrame({"a": pd.Series(["high", "low", None], dtype=levels)})
    enum = pl.DataFrame({"a": pl.Series(["high", "low", None], dtype=pl.Enum(levels.categories))})

    for table in (frame, enum, pa.Table.from_pandas(frame)):
        [field] = Schema.fit(table).fields
        assert (field.logical_type, field.categories) == ("ordered", ("low", "mid", "high"))
        np.testing.assert_array_equal(Schema.fit(table).transform(table)[:, 0], [2, 0, nan])


@pytest.mark.parametrize("missing", [None, nan, pd.NA, pd.NaT, float("nan"), np.float32("nan")])
@pytest.mark.parametrize("make", [np.asarray, pd.DataFrame])
def test_missing_values_of_object_columns_are_nan(missing, make):
    """All that pandas and Python call missing is NaN among the numbers."""
    cells = [["a", 1.5, True, missing], [missing, missing, missing, missing], ["b", 2, False, None]]
    table = make(np.array(cells, dtype=object))

    schema = Schema.fit(table)

    assert [field.logical_type for field in schema.fields] == [
        "category",
        "number",
        "boolean",
        "number",
    ]
    expected = [[0, 1.5, 1, nan], [nan] * 4, [1, 2, 0, nan]]
    np.testing.assert_array_equal(schema.transform(table), expected)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int64", "uint64", "float16", "float32", "float64"]
)
def test_the_columns_of_a_numeric_array_are_numbers(dtype):
    """inverse_transform keeps the dtype of its input."""
    X = np.array([[0, 1], [1, 0]], dtype=dtype)

    schema = Schema.fit(X)

    assert {field.logical_type for field in schema.fields} == {"number"}
    assert [field.name for field in schema.fields] == [0, 1]
    single = dtype in ("float16", "float32")
    assert schema.transform(X).dtype == (np.float32 if single else np.float64)
    np.testing.assert_array_equal(schema.transform(X), X)
    assert schema.inverse_transform(X.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("make", [np.asarray, lambda X: X.astype("U"), np.ndarray.tolist])
def test_arrays_with_strings_are_restored_as_objects(make):
    """Lists of lists keep their numbers, which NumPy would make strings."""
    X = make(np.array([["b", "1"], ["a", "2"]], dtype=object))
    mixed = [["b", 1], ["a", None]]

    schema = Schema.fit(X)

    assert schema.container == "object"
    assert schema.inverse_transform(schema.transform(X)).tolist() == [["b", "1"], ["a", "2"]]
    assert [field.logical_type for field in Schema.fit(mixed).fields] == ["category", "number"]
    np.testing.assert_array_equal(Schema.fit(mixed).transform(mixed), [[1, 1], [0, nan]])


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (["float32", "float32"], np.float32),
        (["float32", "bool"], np.float32),
        (["float16", "Float32"], np.float32),
        (["float32", "float[pyarrow]"], np.float32),
        (["bool", "boolean"], np.float64),
        (["float32", "float64"], np.float64),
        (["float32", "int8"], np.float64),
        (["float32", "category"], np.float64),
        (["float32", "datetime64[s]"], np.float64),
    ],
)
def test_numbers_are_single_precision_if_no_column_needs_double(dtypes, expected):
    """Half the memory for tables of float32, and no digit lost in others."""
    frame = pd.DataFrame({j: pd.Series([0, 1]).astype(dtype) for j, dtype in enumerate(dtypes)})
    numbers = Schema.fit(frame).transform(frame)

    assert numbers.dtype == expected
    np.testing.assert_array_equal(numbers, [[0, 0], [1, 1]])


# A later table -----------------------------------------------------------------------------------


NUMBERS, CATEGORIES = FRAME[["i", "f"]], FRAME[["b", "s", "c"]]
NEW_CATEGORIES = FRAME["c"].cat.set_categories(["w", "x", "y"])


@pytest.mark.parametrize(
    "later",
    [
        NUMBERS.to_numpy(),
        NUMBERS.astype(object),
        NUMBERS.astype(float),
        NUMBERS.convert_dtypes(),
        pl.from_pandas(NUMBERS),
        pa.Table.from_pandas(NUMBERS),
        NUMBERS.to_numpy().tolist(),
    ],
)
def test_another_container_or_numeric_dtype_is_accepted(later):
    """fit saw a DataFrame, predict sees what a service makes of its input."""
    np.testing.assert_array_equal(Schema.fit(NUMBERS).transform(later), NUMBERS)


@pytest.mark.parametrize(
    "later",
    [
        CATEGORIES.to_numpy(dtype=object),
        CATEGORIES.astype(object),
        CATEGORIES.astype({"s": "category", "c": "string[python]"}),
        CATEGORIES.astype({"b": float}),
        CATEGORIES.assign(c=NEW_CATEGORIES),
        pl.from_pandas(CATEGORIES),
        pl.from_pandas(CATEGORIES).with_columns(pl.col("s").cast(pl.Categorical)),
        pa.Table.from_pandas(CATEGORIES),
    ],
)
def test_categories_are_matched_by_value(later):
    """Whatever the type that holds them, and whatever other categories it declares."""
    expected = [[1, 1, 1], [0, nan, 0], [1, 0, 1]]

    np.testing.assert_array_equal(Schema.fit(CATEGORIES).transform(later), expected)


def test_chunks_of_pyarrow_may_have_dictionaries_of_their_own():
    """As files that were written one after the other."""
    chunks = [pa.array(["b", None]).dictionary_encode(), pa.array(["c", "b"]).dictionary_encode()]
    table = pa.table({"a": pa.chunked_array(chunks)})

    schema = Schema.fit(table)

    assert schema.fields[0].categories == ("b", "c")
    np.testing.assert_array_equal(schema.transform(table)[:, 0], [0, nan, 1, 0])


def test_the_order_of_rows_is_no_order_of_categories():
    """A dictionary of pyarrow has its values as they come, unless it is ordered."""
    table = pa.table({"a": pa.array(["b", "c", "a", None]).dictionary_encode()})

    for rows in (table, table.take([2, 0, 3, 1])):
        assert Schema.fit(rows).fields[0].categories == ("a", "b", "c")


WRONG = {
    "strings for integers": (
        {"i": ["1", "2", "3"]},
        r"Column 'i' had the dtype int64 \(integer\) in fit, and has (str|object) \(category\) now",
    ),
    "numbers as strings beside a text": (
        {"f": ["1.5", "?", "2"]},
        r"Column 'f' had the dtype float64 \(number\) in fit, .* now, such as '\?'\.",
    ),
    "a text among numbers": (
        {"f": [1.5, "?", 2]},
        r"Column 'f' had the dtype float64 \(number\) in fit, .* now, such as '\?'\.",
    ),
    "integers for strings": (
        {"s": [1, 2, 3]},
        r"Column 's' had the dtype (str|object) \(category\) in fit, and has int64 \(integer\) now",
    ),
    "numbers for dates": (
        {"t": [1.0, 2, 3]},
        r"Column 't' had the dtype datetime64\[us\] in fit, and has float64 \(number\)",
    ),
    "categories for numbers": (
        {"f": pd.Categorical([1, 2, 3])},
        r"Column 'f' had the dtype float64 \(number\) in fit, and has category\[int64\] \(category",
    ),
    "dates for numbers": (
        {"f": FRAME["t"]},
        r"Column 'f' had the dtype float64 \(number\) in fit, and has datetime64\[us\] now",
    ),
    "lengths for dates": (
        {"t": pd.to_timedelta(["1s", "2s", "3s"])},
        r"Column 't' had the dtype datetime64\[us\] in fit, and has timedelta64",
    ),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("handle_unknown", ["error", "infrequent", "missing"])
def test_a_column_of_another_type_is_refused_by_name(name, handle_unknown):
    """It is a mistake, not a cell that is missing."""
    changed, words = WRONG[name]

    with pytest.raises(TypeError, match=words):
        Schema.fit(FRAME).transform(FRAME.assign(**changed), handle_unknown=handle_unknown)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_unknown_categories_are_refused_by_name_or_missing(library):
    """Those that are new and those that were known, of many the first five."""
    known = as_table(pd.DataFrame({"who": list("abcdefgh")}), library)
    later = as_table(pd.DataFrame({"who": ["a", "z", None, "y", "z"]}), library)
    schema = Schema.fit(known)
    words = (
        r"Found unknown categories ('z', 'y'|'y', 'z') in column 'who'; it had 'a', 'b', 'c', 'd', "
        r"'e' and 3 more in fit. With handle_unknown='infrequent' they count as unlikely, with "
        r"'missing' as missing values\."
    )

    with pytest.raises(ValueError, match=words):
        schema.transform(later)
    codes = schema.transform(later, handle_unknown="infrequent")
    numbers = schema.transform(later, handle_unknown="missing")
    np.testing.assert_array_equal(numbers[:, 0], [0, nan, nan, nan, nan])
    np.testing.assert_array_equal(codes[:, 0], [0, -1, nan, -1, -1])


# The way back ------------------------------------------------------------------------------------


def test_dtypes_without_missing_values_are_widened_as_pandas_does():
    """reindex, which makes missing cells of its own, is the oracle."""
    schema = Schema.fit(FRAME)

    restored = schema.inverse_transform(np.full((2, len(FRAME.columns)), nan))

    pd.testing.assert_frame_equal(restored, FRAME.reindex([7, 8]).reset_index(drop=True))


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int64", "uint64", "Int64", "UInt64", "Int16", "int64[pyarrow]"]
)
@pytest.mark.parametrize("make", [pd.DataFrame, pl.from_pandas])
def test_integers_are_rounded_and_clipped(dtype, make):
    """What a model draws may lie outside of what the type holds."""
    schema = Schema.fit(make(pd.DataFrame({"a": pd.Series([1, 2], dtype=dtype)})))
    values = np.array([[-1e30], [0.4], [0.6], [99.0], [1e30]])

    low, a, b, c, high = schema.inverse_transform(values)["a"].to_numpy().tolist()

    limits = np.iinfo(dtype.lower().removesuffix("[pyarrow]"))
    assert (a, b, c) == (0, 1, 99)
    assert low == limits.min
    assert limits.max - 2048 < high <= limits.max  # the largest that is a float, too


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("ordered", [False, True])
def test_imputed_tables_keep_categories_that_were_not_in_fit(ordered, library):
    """Those of new rows; a missing cell gets a category of the table in fit."""
    table, new = (
        pd.DataFrame({"a": pd.Categorical(cells, ordered=ordered), "b": pd.Categorical(numbers)})
        for cells, numbers in ((["y", "x", "y"], [2, 5, 5]), (["z", None, "x"], [7, 2, 7]))
    )
    schema, new = Schema.fit(as_table(table, library)), as_table(new, library)
    filled = schema.inverse_transform(np.zeros((3, 2)))
    mask = np.array([[False, False], [True, False], [False, False]])
    kept = schema.keep_observed(filled, new, mask)

    as_list = pa.ChunkedArray.to_pylist if library == "pyarrow" else list
    assert as_list(kept["a"]) == ["z", as_list(filled["a"])[0], "x"]
    assert as_list(kept["b"]) == [7, 2, 7]
    assert type(kept) is type(filled)


@pytest.mark.parametrize("new", [1.5, "z"])
def test_categories_of_another_type_are_kept_as_objects(new):
    table = pd.DataFrame({"a": pd.Categorical([3, 5, 5])})
    cells = pd.DataFrame({"a": pd.Series([new, 3, None], dtype=object)})
    schema = Schema.fit(table)
    mask = np.array([[False], [False], [True]])
    kept = schema.keep_observed(schema.inverse_transform(np.ones((3, 1))), cells, mask)

    assert kept["a"].tolist() == [new, 3, 5]
    assert kept["a"].dtype == object


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize(
    "dtype", ["int64", "object", "datetime64[ns]", "timedelta64[ns]", "decimal"]
)
def test_imputed_tables_keep_observed_numbers_of_many_digits(dtype, library):
    """Identifiers of 19 digits are no floating-point numbers, nor are nanoseconds."""
    digits = pd.Series([2**60 + 1, 2**60 + 12345, 2**60 - 7])
    decimal = pd.ArrowDtype(pa.decimal128(25, 2))
    column = digits.astype("string").astype(decimal) if dtype == "decimal" else digits.astype(dtype)
    frame = as_table(pd.DataFrame({"digits": column, "x": [1.0, nan, 2.0]}), library)
    schema = Schema.fit(frame)

    filled = schema.inverse_transform(np.nan_to_num(schema.transform(frame)))
    as_list = pa.ChunkedArray.to_pylist if library == "pyarrow" else list
    observed, imputed = as_list(frame["digits"]), as_list(filled["digits"])

    for missing in ([], [1], [0, 2]):
        mask = np.column_stack([np.isin(np.arange(3), missing), np.arange(3) == 1])
        kept = as_list(schema.keep_observed(filled, frame, mask)["digits"])
        expected = [
            own if is_missing else cell
            for own, cell, is_missing in zip(imputed, observed, mask[:, 0], strict=True)
        ]
        assert kept == expected
    assert as_list(schema.keep_observed(filled, frame, mask)["x"]) == [1.0, 0.0, 2.0]


def test_dates_and_durations_are_rounded_and_clipped():
    """To the unit of the type; dates to the years that Python has."""
    frame = pl.DataFrame(
        {
            "day": pl.Series([NOON.date()]),
            "ns": pl.Series([NOON], dtype=pl.Datetime("ns")),
            "ms": pl.Series([NOON], dtype=pl.Datetime("ms")),
            "length": pl.Series([dt.timedelta(1)], dtype=pl.Duration("us")),
        }
    )
    values = np.array([[86400 * 1.6, 0.1, 1.2346, 0.25], [1e30, 1e30, 1e30, 1e10]])

    restored = Schema.fit(frame).inverse_transform(values).rows()

    epoch = dt.datetime(1970, 1, 1)
    assert restored[0] == (
        dt.date(1970, 1, 3),
        epoch + dt.timedelta(milliseconds=100),
        epoch + dt.timedelta(milliseconds=1235),
        dt.timedelta(seconds=0.25),
    )
    assert restored[1][0] == dt.date(9999, 12, 31)
    assert restored[1][1].year == 2262
    assert restored[1][2] == dt.datetime(9999, 12, 31)


@pytest.mark.parametrize("levels", [["kind"], ["month", "kind"]])
def test_inverse_transform_keeps_the_names_of_the_index_of_columns(levels):
    """Pivoted tables have them."""
    pairs = pd.MultiIndex.from_product([["may"], FRAME.columns])
    columns = (FRAME.columns if len(levels) == 1 else pairs).set_names(levels)
    frame = FRAME.set_axis(columns, axis=1)
    schema = Schema.fit(frame)

    table = schema.inverse_transform(schema.transform(frame), like=frame)
    kept = schema.keep_observed(table, frame, np.zeros(frame.shape, dtype=bool))

    pd.testing.assert_frame_equal(table, frame)
    pd.testing.assert_frame_equal(kept, frame)


def test_inverse_transform_takes_an_index():
    """set_output and imputers keep the rows' names."""
    index = pd.Index([3, 1, 4], name="id")
    schema = Schema.fit(FRAME)

    like = FRAME.set_index(index)

    pd.testing.assert_frame_equal(
        schema.inverse_transform(schema.transform(FRAME), like=like), like
    )


# What is shown, and what is refused --------------------------------------------------------------


REFUSED = {
    "an object": (
        np.array([[{"foo": "bar"}, 1.0]], dtype=object),
        TypeError,
        "Column 0 of X holds values of type dict; each cell of this argument must be a string, a ",
    ),
    "bytes": (np.array([[b"a"]]), TypeError, "Column 0 of X holds values of type bytes"),
    "dates in an array": (
        np.array([["2020-01-01"]], dtype="M8[D]"),
        TypeError,
        r"X has the dtype datetime64\[D\]. Give an array of numbers, of strings or of objects",
    ),
    "a structured array": (
        np.array([(1.0, "a")], dtype=[("x", float), ("y", "U1")]),
        TypeError,
        r"structured array of the fields 'x', 'y'. Give a data frame: pandas.DataFrame\(X\)",
    ),
    "dates of Python": (
        pd.DataFrame({"a": [dt.date(2020, 1, 1), None]}),
        TypeError,
        "Column 'a' of X holds values of type date; .* by pandas.to_datetime",
    ),
    "a text among dates": (
        pd.DataFrame({"a": [dt.datetime(2020, 1, 1), "unknown"]}, dtype=object),
        TypeError,
        "Column 'a' of X holds values of type datetime beside 'unknown'",
    ),
    "durations of Python": (
        np.array([[dt.timedelta(1)]], dtype=object),
        TypeError,
        "Column 0 of X holds values of type timedelta; .* by pandas.to_timedelta",
    ),
    "times of day of Python": (
        pd.DataFrame({"a": [dt.time(8, 30), None]}),
        TypeError,
        "Column 'a' of X holds values of type time; .* Give a time of day as its minutes",
    ),
    "complex": (np.array([[1j]]), ValueError, "Complex data not supported"),
    "complex columns": (
        pd.DataFrame({"a": [1j]}),
        ValueError,
        "Complex data not supported\ncolumn 'a'",
    ),
    "complex categories": (
        pd.DataFrame({"a": pd.Categorical([1j, 2])}),
        TypeError,
        "Column 'a' of X has categories of type complex. Give strings, numbers, booleans, dates",
    ),
    "lists": (
        pd.DataFrame({"a": [[1], [2]]}),
        TypeError,
        "Column 'a' of X holds values of type list; each cell of this argument must be a string",
    ),
    "periods": (
        pd.DataFrame({"a": pd.period_range("2020", periods=2, freq="M")}),
        TypeError,
        r"Column 'a' of X has the dtype period\[M\]",
    ),
    "a lazy table": (pl.LazyFrame({"a": [1]}), TypeError, r"lazy table; call collect\(\)"),
    "one dimension": (["a", "b"], ValueError, "Expected 2D array, got 1D array instead"),
    "a series": (pd.Series([1, 2]), ValueError, "Expected a 2-dimensional container"),
    "nothing": (None, ValueError, "Expected 2D array, got scalar array instead"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_columns_of_unsupported_types_are_refused(name):
    """With the column and what it holds, or in scikit-learn's words."""
    X, error, words = REFUSED[name]

    with pytest.raises(error, match=words):
        Schema.fit(X)


@pytest.mark.parametrize(
    "X",
    [
        np.empty((0, 3)),
        np.empty((3, 0)),
        pd.DataFrame(),
        pd.DataFrame({"a": [], "b": pd.Series([], dtype=str)}),
        pl.DataFrame(
            {"a": pl.Series([], dtype=pl.String), "b": pl.Series([], dtype=pl.Enum(["x"]))}
        ),
        pa.table({"a": pa.array([], pa.string())}),
    ],
)
def test_an_empty_table_is_accepted(X):
    """scikit-learn has words for it, and the schema does not stumble first."""
    assert Schema.fit(X).transform(X).shape == X.shape


def test_numbers_beyond_the_range_of_decimals_are_clipped():
    """A model of such a column was saved to a file that could not be loaded."""
    pairs = [(10, 2), (3, 0), (20, 2)]  # polars 1.0 converts no larger numbers to decimals
    frame = pl.DataFrame([pl.Series(str(p), [Decimal("1")], pl.Decimal(*p)) for p in pairs])
    arrow = pa.table({str(p): pa.array([Decimal("1")], pa.decimal128(*p)) for p in pairs})
    for table in (frame, arrow):
        schema = Schema.fit(table)
        schema.check()
        restored = schema.inverse_transform(np.array([[1e9, -1e9, 1e40], [1.5, nan, -2.25]]))
        as_list = pa.ChunkedArray.to_pylist if table is arrow else list
        a, b, c = (as_list(restored[str(p)]) for p in pairs)

        assert a == [Decimal("99999999.99"), Decimal("1.50")]
        assert b == [Decimal("-999"), None]
        assert c[0] > Decimal("9.9e17")
        assert c[1] == Decimal("-2.25")
