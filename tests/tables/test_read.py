"""Reading of tables: column types, missing values, rejected input."""

import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from cmim_sklearn._tables import read as module
from cmim_sklearn._tables.read import (
    BOOLEAN,
    CATEGORY,
    NUMBER,
    as_numbers,
    is_missing,
    read,
    read_in_parts,
)


def test_a_mixed_list_is_read_column_by_column():
    frame = read([[1, "a", True, None], [2.5, "b", False, None]])
    assert frame.types == [NUMBER, CATEGORY, BOOLEAN, NUMBER]
    assert frame.columns[0].tolist() == [1, 2.5]
    assert frame.columns[1].tolist() == ["a", "b"]
    assert np.isnan(frame.columns[3]).all()


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT], ids=str)
def test_missing_values_of_every_library_are_missing(missing):
    frame = read(pd.DataFrame({"n": pd.Series([1.0, missing], dtype=object), "s": ["a", missing]}))
    assert np.isnan(frame.columns[0][1])
    assert frame.columns[1][1] is None


def test_integers_and_whole_floats_read_the_same():
    integers = read(pd.DataFrame({"x": [1, 2]})).columns[0]
    floats = read(pd.DataFrame({"x": [1.0, 2.0]})).columns[0]
    np.testing.assert_array_equal(integers, floats)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([1.0, np.inf], ValueError, r"'x' must hold numbers from -1e\+305.*; got inf in row 1"),
        ([1 + 2j, 3], ValueError, "Complex data not supported"),
        ([datetime.date(2020, 1, 1), 5], TypeError, "'x' must .* got date and int values. Convert"),
        (
            pd.Categorical(pd.to_datetime(["2020-01-01", None])),
            TypeError,
            "'x' has dates or durations as categories.*to strings",
        ),
        ([{"a": 1}, None], TypeError, "'x' must hold numbers.*; got dict values.*separate columns"),
        ([[1, 2], [3]], TypeError, "'x' .*separate columns"),
        ([b"a", b"b"], TypeError, "'x' holds bytes. Decode"),
        (pd.cut([1, 2], 2), TypeError, r"'x' holds Interval values.*astype\(str\)"),
        (pd.period_range("2020", periods=2, freq="D"), TypeError, "'x' holds Period.*to_timest"),
    ],
)
def test_errors_name_the_column_and_the_remedy(values, error, message):
    with pytest.raises(error, match=message):
        read(pd.DataFrame({"x": values}))


def test_lazy_tables_must_be_collected():
    with pytest.raises(TypeError, match=r"got a lazy table. Call X\.collect\(\)"):
        read(pl.LazyFrame({"x": [1]}))


LARGE = [2**63 - 1, None, -(2**53) - 1, 5]
LARGE_INTEGERS = {
    "Int64": pd.DataFrame({"k": pd.array(LARGE, "Int64")}),
    "int64[pyarrow]": pd.DataFrame({"k": pd.array(LARGE, "int64[pyarrow]")}),
    "pandas object": pd.DataFrame({"k": LARGE}, dtype=object),
    "polars": pl.DataFrame({"k": LARGE}),
    "polars Int128": pl.DataFrame({"k": pl.Series(LARGE, dtype=pl.Int128)}),
    "pyarrow": pa.table({"k": LARGE}),
    "numpy object": np.array([LARGE], dtype=object).T,
    "list": [[value] for value in LARGE],
    "masked": np.ma.masked_array([[v or 0] for v in LARGE], [[v is None] for v in LARGE]),
}


@pytest.mark.parametrize("X", LARGE_INTEGERS.values(), ids=LARGE_INTEGERS)
def test_integers_beyond_2_to_53_stay_exact(X):
    frame = read(X)
    assert frame.types == [NUMBER]
    assert frame.columns[0].tolist() == LARGE
    assert {type(value) for value in frame.columns[0]} == {int, type(None)}


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_only_columns_with_large_integers_are_objects(dtype):
    ends = [np.iinfo(dtype).max, 3], [5, 2**53 - 1]
    for X in (
        np.array(ends, dtype),
        pd.DataFrame(np.array(ends, dtype)),
        [list(row) for row in ends],
    ):
        large, small = read(X).columns
        assert large.tolist() == [ends[0][0], 5]
        assert small.dtype == np.float64
    mixed = read([[2**63, 0.5], [-1, 1.5]])
    assert [column.tolist() for column in mixed.columns] == [[2**63, -1], [0.5, 1.5]]


def test_decimals_stay_decimals_with_their_number_of_decimals():
    values = [Decimal("1.50"), None, np.nan, Decimal("NaN"), 2, Decimal("1E+3")]
    for X in (pd.DataFrame({"x": values}, dtype=object), np.array([values], dtype=object).T):
        frame = read(X)
        assert frame.types == [NUMBER]
        assert frame.columns[0].tolist() == [Decimal("1.50"), None, None, None, 2, 1000]
        assert frame.layout.dtype_of(0)["scale"] == 2
    wide = [Decimal("1234567890123456.78"), None]
    for X in (
        pl.DataFrame({"x": pl.Series(wide, dtype=pl.Decimal(20, 2))}),
        pa.table({"x": pa.array(wide)}),
        pd.DataFrame({"x": pd.array(wide, pd.ArrowDtype(pa.decimal128(20, 2)))}),
    ):
        assert read(X).columns[0].tolist() == wide


def test_fractions_are_numbers_but_no_categories():
    assert read(pd.DataFrame({"x": [Fraction(1, 2), 3]})).columns[0].tolist() == [0.5, 3]
    with pytest.raises(TypeError, match=r"'x' must have .* as categories; got Fraction.*astype"):
        read(pd.DataFrame({"x": [Fraction(1, 2), "a"]}))


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        (
            pd.DataFrame([[1, 2]], columns=["a", "a"]),
            ValueError,
            "so that each name occurs once",
        ),
        (
            pd.DataFrame([[1]], columns=[datetime.date(2020, 1, 1)]),
            TypeError,
            r"must be strings, numbers or tuples.*date\(2020, 1, 1\), a date\. Rename the columns",
        ),
        (pd.DataFrame([[1, 2]], columns=[np.nan, np.nan]), ValueError, "have the name nan"),
        (
            pl.DataFrame({"x": pl.Series([object()], dtype=pl.Object)}),
            TypeError,
            "'x' has the polars",
        ),
        (pa.RecordBatch.from_pydict({"x": [1]}), TypeError, "Table.from_batches"),
        (
            pd.DataFrame({"x": [1, 10**5000]}, dtype=object),
            ValueError,
            r"'x' must .* got 1\.00e\+5000 in row 1",
        ),
    ],
)
def test_errors_of_unsupported_tables_name_the_remedy(frame, error, message):
    with pytest.raises(error, match=message):
        read(frame)


def test_arrow_chunks_with_different_dictionaries_are_one_column():
    chunks = [["b", "a", None], ["c", "b"], []]
    arrays = [pa.array(chunk, pa.string()).dictionary_encode() for chunk in chunks]
    with_null = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array([None, "d"]))
    frame = read(pa.table({"a": pa.chunked_array([*arrays, with_null])}))
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


def test_unused_categories_are_ignored():
    values = pd.Categorical([None, None], categories=pd.interval_range(0, 3))
    assert read(pd.DataFrame({"a": values})).columns[0].tolist() == [None, None]
    of = pa.DictionaryArray.from_arrays(pa.array([1, None, 3], pa.int32()), list("abcd"))
    assert read(pa.table({"a": of})).columns[0].tolist() == ["b", None, "d"]


@pytest.mark.parametrize("make", [pd.DataFrame, lambda columns: np.array([*columns.values()]).T])
def test_object_columns_that_held_categories_in_fit_stay_categories(make):
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
    assert [type(level) for level in frame.columns[0]] == [str, Decimal, int, bool]


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (
            {"x": [1, 2]},
            r"X must be a pandas.*; got dict\. .*pandas.DataFrame\(X\)\.$",
        ),
        (
            [{"x": "a" * 999}, {"x": 2}],
            r"; got list of dicts\. .*pandas.DataFrame\(X\)\.$",
        ),
        (
            np.zeros(99, [("x", int)]),
            r"; got structured array\. .*pandas.DataFrame\(X\)\.$",
        ),
        ("table.csv", r"; got str\. Read the file first, .*pandas.read_csv"),
        (Path("table.csv"), r"; got \w+Path\. Read the file first, .*pandas.read_csv"),
        (iter([[1, 2]]), "X must be a pandas.*; got list_iterator"),
        (pd.DataFrame({"x": [1, 2]}).groupby("x"), "X must be a pandas.*; got DataFrameGroupBy"),
        (None, "X must be a pandas.*; got NoneType"),
    ],
)
def test_other_objects_raise_a_short_error(X, message):
    with pytest.raises(TypeError, match=message) as caught:
        read(X)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("dtype", [float, np.float32, int, bool, "U3", object])
def test_masked_cells_are_missing(dtype):
    values, mask = np.array([[1, 0], [0, 1]], dtype), [[True, False], [False, False]]
    columns = read(np.ma.MaskedArray(values, mask)).columns
    assert [is_missing(column).tolist() for column in columns] == [[True, False], [False, False]]
    assert read(np.ma.MaskedArray(values)).layout == read(values).layout
    if np.dtype(dtype).kind in "fO":
        assert read(np.ma.MaskedArray(values, mask)).layout == read(values).layout


@pytest.mark.parametrize("X", [np.zeros(3), np.zeros((2, 2, 2)), [1, 2, 3]])
def test_arrays_must_have_two_axes(X):
    with pytest.raises(ValueError, match=r"dim|1D|2D"):
        read(X)


def test_is_missing_for_numbers_and_categories():
    assert is_missing(np.array([1.0, np.nan])).tolist() == [False, True]
    assert is_missing(np.array(["a", None, 0, ""], object)).tolist() == [False, True, False, False]


def test_messages_count_rows_from_first_row():
    with pytest.raises(ValueError, match="got inf in row 101"):
        read(pd.DataFrame({"x": [1.0, np.inf]}), first_row=100)
    with pytest.raises(ValueError, match="got inf in row 101"):
        read(np.array([[1.0], [np.inf]]), first_row=100)
    with pytest.raises(ValueError, match="'x' must hold numbers, as in fit; got 'old' in row 101"):
        as_numbers(np.array([1.0, "old"], dtype=object), "x", first_row=100)


def rows_of(columns):
    return list(zip(*columns.values(), strict=True))


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table, rows_of])
def test_parts_cover_all_rows(make, monkeypatch):
    monkeypatch.setattr(module, "PART_CELLS", 8)
    monkeypatch.setattr(module, "MIN_PART_ROWS", 2)
    n_rows, frames = read_in_parts(make({"x": range(7), "y": list("abcdefg")}))
    frames = list(frames)
    assert n_rows == 7
    assert [frame.first_row for frame in frames] in ([0, 4], [0])  # lists are read as a whole
    assert np.concatenate([frame.columns[0] for frame in frames]).tolist() == list(range(7))
    assert np.concatenate([frame.columns[1] for frame in frames]).tolist() == list("abcdefg")
