"""Tables in and out: each library's dtypes, holes, and what is refused."""

import datetime
import json
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from cmim_sklearn.frames import (
    BOOLEAN,
    CATEGORY,
    NUMBER,
    Layout,
    fill,
    is_missing,
    read,
    write,
)


def round_trip(X, index=None):
    frame = read(X)
    # Through JSON, since that is what a saved encoder keeps of a layout.
    layout = Layout(**json.loads(json.dumps(frame.layout.state())))
    return write(layout, frame.columns, frame.types, index)


PANDAS = {
    "int64": pd.Series([3, 1, 2]),
    "uint8": pd.Series([3, 1, 2], dtype="uint8"),
    "float32": pd.Series([0.5, np.nan, 2], dtype="float32"),
    "bool": pd.Series([True, False, True]),
    "Int64": pd.Series([3, None, 2], dtype="Int64"),
    "Float64": pd.Series([0.5, None, 2], dtype="Float64"),
    "boolean": pd.Series([True, None, False], dtype="boolean"),
    "string": pd.Series(["a", None, "b"], dtype="string"),
    "str": pd.Series(["a", None, "b"], dtype="str"),
    "object strings": pd.Series(["a", None, "b"], dtype=object),
    "object numbers": pd.Series([1, None, 2.5], dtype=object),
    "object booleans": pd.Series([True, None, False], dtype=object),
    "category": pd.Series(pd.Categorical(["b", None, "a"], categories=["b", "a", "unused"])),
    "ordered": pd.Series(pd.Categorical(["lo", "hi", None], ["lo", "hi"], ordered=True)),
    "category of ints": pd.Series(pd.Categorical([3, 1, None], [1, 2, 3])),
    "category of booleans": pd.Series(pd.Categorical([True, False, None])),
    "arrow int": pd.Series([3, None, 2], dtype="int64[pyarrow]"),
    "arrow string": pd.Series(["a", None, "b"], dtype=pd.ArrowDtype(pa.string())),
    "arrow bool": pd.Series([True, None, False], dtype="bool[pyarrow]"),
}


@pytest.mark.parametrize("name", PANDAS)
def test_pandas_round_trip(name):
    frame = pd.DataFrame({"x": PANDAS[name]}, index=[10, 30, 20])
    frame["x"] = PANDAS[name].array
    back = round_trip(frame, index=frame.index)
    if name == "str":  # its missing value has no one name over pandas versions
        assert back["x"].isna().tolist() == frame["x"].isna().tolist()
    pd.testing.assert_frame_equal(back, frame)


POLARS = {
    "Int32": pl.Series([3, None, 2], dtype=pl.Int32),
    "Float32": pl.Series([0.5, None, 2], dtype=pl.Float32),
    "Boolean": pl.Series([True, None, False]),
    "String": pl.Series(["a", None, "b"]),
    "Categorical": pl.Series(["a", None, "b"], dtype=pl.Categorical),
    "Enum": pl.Series(["a", None, "b"], dtype=pl.Enum(["b", "a", "c"])),
    "Decimal": pl.Series([Decimal("1.50"), None, Decimal("2.25")], dtype=pl.Decimal(10, 2)),
    "Null": pl.Series([None, None, None]),
}


@pytest.mark.parametrize("name", POLARS)
def test_polars_round_trip(name):
    from polars.testing import assert_frame_equal

    frame = pl.DataFrame({"x": POLARS[name]})
    assert_frame_equal(round_trip(frame), frame)


PYARROW = {
    "int16": pa.array([3, None, 2], pa.int16()),
    "float32": pa.array([0.5, None, 2], pa.float32()),
    "bool": pa.array([True, None, False]),
    "string": pa.array(["a", None, "b"]),
    "large_string": pa.array(["a", None, "b"], pa.large_string()),
    "dictionary": pa.array(["a", None, "b"]).dictionary_encode(),
    "decimal": pa.array([Decimal("1.50"), None, Decimal("2.25")], pa.decimal128(10, 2)),
    "decimal256": pa.array([Decimal("1.50"), None, Decimal("2.25")], pa.decimal256(50, 2)),
    "null": pa.nulls(3),
    "ordered": pa.array(["a", None, "b"]).dictionary_encode().cast(
        pa.dictionary(pa.int32(), pa.string(), ordered=True)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PYARROW)
def test_pyarrow_round_trip(name):
    table = pa.table({"x": PYARROW[name]})
    back = round_trip(table)
    assert back.schema == table.schema
    assert back.to_pylist() == table.to_pylist()


@pytest.mark.parametrize(
    "X",
    [
        np.array([[1.5, 2.0], [3.0, 4.0]], dtype=np.float32),
        np.array([[1, 2], [3, 4]]),
        np.array([[True, False], [False, False]]),
        np.array([["a", "b"], ["c", "a"]]),
        np.array([["a", 1], [None, 2.5]], dtype=object),
    ],
    ids=lambda X: X.dtype.str,
)
def test_arrays_round_trip(X):
    back = round_trip(X)
    assert back.dtype == X.dtype
    np.testing.assert_array_equal(back, X)


def test_a_mixed_list_is_read_column_by_column():
    frame = read([[1, "a", True, None], [2.5, "b", False, None]])
    assert frame.types == [NUMBER, CATEGORY, BOOLEAN, NUMBER]
    assert frame.columns[0].tolist() == [1, 2.5]
    assert frame.columns[1].tolist() == ["a", "b"]
    assert np.isnan(frame.columns[3]).all()


def test_a_list_of_numbers_is_an_array_of_numbers():
    for X, dtype in (([[1, 2], [3, 4]], np.int64), ([[1, 2.5], [np.nan, 4]], np.float64)):
        back = round_trip(X)
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, X)


@pytest.mark.parametrize("hole", [None, np.nan, pd.NA, pd.NaT], ids=str)
def test_every_hole_is_one_hole(hole):
    frame = read(pd.DataFrame({"n": pd.Series([1.0, hole], dtype=object), "s": ["a", hole]}))
    assert np.isnan(frame.columns[0][1])
    assert frame.columns[1][1] is None


def test_a_column_of_integers_that_comes_as_float_reads_the_same():
    whole = read(pd.DataFrame({"x": [1, 2]})).columns[0]
    holed = read(pd.DataFrame({"x": [1.0, 2.0]})).columns[0]
    np.testing.assert_array_equal(whole, holed)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([1.0, np.inf], ValueError, r"'x' holds inf in row 1"),
        ([1 + 2j, 3], ValueError, "Complex data not supported"),
        ([datetime.date(2020, 1, 1), None], TypeError, "'x' holds.*DatetimeEncoder"),
        (pd.to_datetime(["2020-01-01", None]), TypeError, "'x' holds dates.*DatetimeEncoder"),
        (pd.to_timedelta([1, 2], "s"), TypeError, "'x' holds dates or times"),
        ([{"a": 1}, None], TypeError, "'x' holds dict values.*column of its own"),
        ([[1, 2], [3]], TypeError, "'x' holds.*column of its own"),
        ([b"a", b"b"], TypeError, "'x' holds bytes.*Decode"),
        (pd.cut([1, 2], 2), TypeError, r"'x' holds Interval.*astype\(str\)"),
    ],
)
def test_what_is_refused_names_the_column_and_what_to_do(values, error, message):
    with pytest.raises(error, match=message):
        read(pd.DataFrame({"x": values}))


def test_a_lazy_frame_is_told_to_collect():
    with pytest.raises(TypeError, match=r"\.collect\(\)"):
        read(pl.LazyFrame({"x": [1]}))


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int8", "Int64", "UInt64", "int64[pyarrow]"])
def test_integers_keep_inside_their_dtype(dtype):
    ends = np.iinfo(dtype.split("[")[0].lower())
    frame = pd.DataFrame({"x": pd.Series([ends.min, 0, ends.max], dtype=dtype)})
    back = round_trip(frame)["x"]
    assert back.dtype == frame["x"].dtype
    # float64, in which all is computed, has 53 bits of precision.
    assert back.astype(float).tolist() == pytest.approx(frame["x"].astype(float), rel=1e-15)
    assert [int(back.iloc[0]) < 0, int(back.iloc[2]) > 0] == [ends.min < 0, True]
    as_polars = pl.DataFrame({"x": pl.Series([ends.min, 0, ends.max])})
    assert round_trip(as_polars).schema == as_polars.schema


def test_large_arrow_integers_with_holes_are_read():
    stamps = [1_700_000_000_000_000_001, None, 1_800_000_000_000_000_001]
    for X in (pa.table({"t": stamps}), pd.DataFrame({"t": pd.array(stamps, "int64[pyarrow]")})):
        assert read(X).columns[0].tolist()[::2] == [1.7e18, 1.8e18]
        assert np.isnan(read(X).columns[0][1])


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="came with numpy 2")
def test_numpys_variable_width_strings():
    X = np.array([["a", "bb"], ["ccc", "a"]], dtype=np.dtypes.StringDType())
    back = round_trip(X)
    assert back.dtype == X.dtype
    assert back.tolist() == X.tolist()


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ValueError, "Rename columns"),
        (pd.DataFrame([[1]], columns=[("a", "b")]), TypeError, "Rename the columns"),
        (pl.DataFrame({"x": pl.Series([object()], dtype=pl.Object)}), TypeError, "'x' is polars"),
        (pa.RecordBatch.from_pydict({"x": [1]}), TypeError, "Table.from_batches"),
        (pd.DataFrame({"x": [10**400, 1]}, dtype=object), ValueError, "'x' holds inf in row 0"),
    ],
)
def test_odd_frames_are_refused_with_the_remedy(frame, error, message):
    with pytest.raises(error, match=message):
        read(frame)


def test_arrow_chunks_with_dictionaries_of_their_own_are_one_column():
    chunks = [["b", "a", None], ["c", "b"], []]
    arrays = [pa.array(chunk, pa.string()).dictionary_encode() for chunk in chunks]
    hole = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array([None, "d"]))
    frame = read(pa.table({"a": pa.chunked_array([*arrays, hole])}))
    assert frame.columns[0].tolist() == ["b", "a", None, "c", "b", None, "d"]


@pytest.mark.parametrize("index", [pa.int8(), pa.uint8(), pa.uint32(), pa.uint64(), pa.int64()])
def test_arrow_dictionaries_of_any_index_are_read(index):
    values = pa.array(["b", None, "a", "b"]).dictionary_encode()
    frame = read(pa.table({"a": values.cast(pa.dictionary(index, pa.string()))}))
    assert frame.columns[0].tolist() == ["b", None, "a", "b"]


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["c", "b", "a"])])
def test_categories_of_polars_are_read_from_arrow(dtype):
    table = pl.DataFrame({"a": ["b", None, "a"]}, schema={"a": dtype}).to_arrow()
    assert read(table).columns[0].tolist() == ["b", None, "a"]


def test_run_end_encoded_arrow_columns_are_read():
    runs = pa.RunEndEncodedArray.from_arrays([2, 3], pa.array(["a", "b"]))
    assert read(pa.table({"a": runs})).columns[0].tolist() == ["a", "a", "b"]


def test_categories_that_no_row_holds_are_not_looked_at():
    values = pd.Categorical([None, None], categories=pd.interval_range(0, 3))
    assert read(pd.DataFrame({"a": values})).columns[0].tolist() == [None, None]
    of = pa.DictionaryArray.from_arrays(pa.array([1, None, 3], pa.int32()), list("abcd"))
    assert read(pa.table({"a": of})).columns[0].tolist() == ["b", None, "d"]


@pytest.mark.parametrize("make", [pd.DataFrame, lambda columns: np.array([*columns.values()]).T])
def test_objects_are_categories_where_they_were(make):
    values = np.array([2**60 + 3, 2**60 + 6], dtype=object)
    frame = read(make({"a": values}), types=["category"])
    assert frame.types == ["category"]
    assert frame.columns[0].tolist() == values.tolist()


def test_pandas_categories_are_read_by_their_codes():
    values = pd.Categorical([2, None, 1, 2], categories=[3, 2, 1])
    (column,) = read(pd.DataFrame({"a": values})).columns
    assert column.tolist() == [2, None, 1, 2]
    assert {type(value) for value in column} == {int, type(None)}


def test_levels_are_plain_values():
    frame = read(pd.DataFrame({"x": ["a", Decimal("1.5"), np.int64(3), True]}, dtype=object))
    assert [type(level) for level in frame.columns[0]] == [str, float, int, bool]


@pytest.mark.parametrize("X", [np.zeros(3), np.zeros((2, 2, 2)), [1, 2, 3]])
def test_other_than_two_axes_are_refused(X):
    with pytest.raises(ValueError, match=r"dim|1D|2D"):
        read(X)


@pytest.mark.parametrize(
    "X",
    [
        np.array([[1.0, np.nan], [np.nan, 4.0], [5.0, 6.0]]),
        np.array([[1.0, np.nan], [np.nan, 4.0], [5.0, 6.0]], dtype=np.float32),
        [[1.0, None], [None, 4.0], [5.0, 6.0]],
    ],
)
def test_fill_puts_values_in_holes_alone(X):
    frame = read(X)
    rows, columns = np.array([0, 1]), [np.array([7.0, 8.0]), np.array([9.0, 10.0])]
    before = np.array(X, dtype=object)
    out = fill(X, frame, frame.layout, frame.types, rows, columns)
    np.testing.assert_array_equal(out.astype(float), [[1, 9], [8, 4], [5, 6]])
    assert (np.array(X, dtype=object)[2] == before[2]).all()


def test_fill_rounds_for_integer_dtypes_and_adds_categories():
    X = pd.DataFrame(
        {
            "n": pd.array([1, None], dtype="Int16"),
            "c": pd.Categorical(["a", None], categories=["a"]),
            "f": [np.nan, 2.5],
        },
        index=[4, 2],
    )
    frame = read(X)
    columns = [np.array([0.0, 3.7]), np.array([None, "z"], object), np.array([3.7, 0.0])]
    out = fill(X, frame, frame.layout, frame.types, np.array([0, 1]), columns)
    assert out["n"].tolist() == [1, 4]
    assert out["c"].tolist() == ["a", "z"]
    assert out["f"].tolist() == [3.7, 2.5]
    assert out.index.tolist() == [4, 2]
    assert out["n"].dtype == "Int16"


def test_is_missing_knows_both_kinds_of_column():
    assert is_missing(np.array([1.0, np.nan])).tolist() == [False, True]
    assert is_missing(np.array(["a", None, 0, ""], object)).tolist() == [False, True, False, False]
