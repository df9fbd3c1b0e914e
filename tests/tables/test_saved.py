"""Schemas of untrusted files: a schema that passes the checks can be built and written."""

import copy
import dataclasses
import itertools
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._tables.dtypes import Layout
from cmim_sklearn._tables.read import read
from cmim_sklearn._tables.saved import check_columns, check_layout
from cmim_sklearn._tables.schema import Table
from cmim_sklearn._tables.write import write
from tests.helpers import LIBRARIES, make_mixed, small_encoder
from tests.tables.test_write import PANDAS, POLARS, PYARROW


def category(*categories, of="object", ordered=False):
    of = {"dtype": of} if isinstance(of, str) else of
    return {"dtype": "category", "categories": [*categories], "of": of, "ordered": ordered}


def string(storage="python", missing="NA"):
    return {"dtype": "string", "storage": storage, "missing": missing}


def dictionary(index="int8", of="string", ordered=False):
    return {"dtype": "dictionary", "index": index, "of": of, "ordered": ordered}


def decimal(precision, scale, name="decimal128"):
    return {"dtype": name, "precision": precision, "scale": scale}


def arrow(of):
    return {"dtype": "arrow", "of": {"dtype": of} if isinstance(of, str) else of}


def enum(*categories):
    return {"dtype": "Enum", "categories": [*categories]}


UNKNOWN = [
    ("numpy", {"dtype": "V1000000000"}),
    ("numpy", {"dtype": "U1000000000"}),
    ("numpy", {"dtype": "(1000000,1000000)f8"}),
    ("numpy", {"dtype": "<M8[ps]"}),
    ("numpy", {"dtype": "<m8[M]"}),
    ("numpy", {"dtype": "<M8[s]", "zone": None}),
    ("numpy", {"dtype": "|O", "of": "time", "unit": "us", "zone": "UTC"}),
    ("numpy", {"dtype": "<f3"}),
    ("numpy", {"dtype": "<f32"}),
    ("numpy", {"dtype": "|O", "scale": 1.0}),
    ("numpy", {"dtype": "object", "of": "float"}),
    ("pandas", {"dtype": "float69"}),
    ("pandas", {"dtype": "|O", "of": "float"}),
    ("pandas", {"dtype": "object", "scale": True}),
    ("pandas", {"dtype": "object", "of": "int"}),
    ("pandas", {"dtype": "int4"}),
    ("pandas", {"dtype": "Int128"}),
    ("pandas", {"dtype": "Float16"}),
    ("pandas", {"dtype": ">i3"}),
    ("pandas", {"dtype": "datetime64[ns]"}),
    ("pandas", {"dtype": "datetime64[D]", "zone": None}),
    ("pandas", {"dtype": "datetime64[ns]", "zone": "../../etc/passwd"}),
    ("pandas", {"dtype": "datetime64[ns]", "zone": "Nowhere/Else"}),
    ("pandas", {"dtype": "datetime64[ns]", "zone": 1}),
    ("pandas", {"dtype": "datetime64[ns]", "zone": "+99:00"}),
    ("pandas", {"dtype": "timedelta64[ns]", "zone": None}),
    ("pandas", {"dtype": "object", "of": "date", "unit": "M", "zone": None}),
    ("pandas", {"dtype": "object", "of": "os", "unit": "s", "zone": None}),
    ("pandas", {"dtype": "object", "of": "date"}),
    ("pandas", {"dtype": "Sparse[os, 0]"}),
    ("pandas", {"dtype": "Sparse[int8, 300]"}),
    ("pandas", {"dtype": "Sparse[int8, nan]"}),
    ("pandas", {"dtype": "Sparse[float64, 1.2.3]"}),
    ("pandas", {"dtype": "Sparse[bool, 2]"}),
    ("pandas", string("p5arrow")),
    ("pandas", string("pyarrow", "None")),
    ("pandas", arrow("float64")),
    ("pandas", arrow(decimal(0, 0))),
    ("pandas", {"dtype": "float64", "categories": []}),
    ("pandas", category(of="os", ordered=True)),
    ("pandas", category("a", of="float69")),
    ("pandas", category("a", of=string("p5arrow"))),
    ("pandas", category(1.5, of="float16")),
    ("pandas", category("a", of="int64")),
    ("pandas", category(1.5, of="int64")),
    ("pandas", category(300, of="int8")),
    ("pandas", category(0.1, of="float32")),
    ("pandas", category(1, of="bool")),
    ("pandas", category(1, of=string())),
    ("pandas", category("\ud800", of=string("pyarrow"))),
    ("pandas", category("a", "a")),
    ("pandas", category(1, True)),
    ("pandas", category(None)),
    ("pandas", category(np.nan, of="float64")),
    ("pandas", category(["a"])),
    ("pandas", category("a", ordered="yes")),
    ("pandas", category("a") | {"categories": "abc"}),
    ("pandas", category(1.5, of=arrow("halffloat"))),
    ("pandas", category("a", of=category("a"))),
    ("polars", {"dtype": "read_csv", "source": "/etc/passwd"}),
    ("polars", {"dtype": "read_csv"}),
    ("polars", {"dtype": "DataFrame"}),
    ("polars", {"dtype": "Int4"}),
    ("polars", {"dtype": "object", "of": "float"}),
    ("polars", {"dtype": "Datetime", "unit": "D", "zone": None}),
    ("polars", {"dtype": "Date", "unit": "us"}),
    ("polars", {"dtype": "Enum"}),
    ("polars", enum("a", "a")),
    ("polars", enum("a", None)),
    ("polars", enum(1)),
    ("polars", enum("\ud800")),
    ("polars", enum() | {"categories": "abc"}),
    ("polars", decimal(39, 0, "Decimal")),
    ("polars", decimal(0, 0, "Decimal")),
    ("polars", decimal(4, 5, "Decimal")),
    ("polars", decimal(4, -1, "Decimal")),
    ("polars", decimal(4.0, 1, "Decimal")),
    ("polars", decimal(True, 1, "Decimal")),
    ("pyarrow", {"dtype": "int128"}),
    ("pyarrow", {"dtype": "date32[ms]"}),
    ("pyarrow", {"dtype": "time32[ns]"}),
    ("pyarrow", {"dtype": "timestamp[s]"}),
    ("pyarrow", decimal(1, 1, "decimal")),
    ("pyarrow", decimal(39, 0)),
    ("pyarrow", decimal(10, 0, "decimal32")),
    ("pyarrow", decimal(5, 10**6, "decimal256")),
    ("pyarrow", decimal("5", 0)),
    ("pyarrow", decimal(3, 5)),
    ("pyarrow", decimal(3, -1)),
    ("pyarrow", dictionary(of="read")),
    ("pyarrow", dictionary("float")),
    ("pyarrow", dictionary("int4")),
    ("pyarrow", dictionary(ordered=None)),
]


@pytest.mark.parametrize(("library", "description"), UNKNOWN)
def test_unknown_dtypes_are_rejected(library, description):
    names = None if library == "numpy" else ["a"]
    column = 0 if library == "numpy" else "'a'"
    match = rf"unknown dtype {{.*}} of \w+ in the saved schema, for column {column}\.$"
    with pytest.raises(ValueError, match=match):
        check_layout(Layout(library, names, [description]))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout("excel", ["a"], [{"dtype": "f8"}]), "unknown dataframe library 'excel'"),
        (Layout("numpy", ["a"], [{"dtype": "<f8"}]), r"column names .*; got \['a'\] for numpy"),
        (Layout("pandas", None, [{"dtype": "f8"}]), "column names .*; got None for pandas"),
        (Layout("pandas", "a", [{"dtype": "f8"}]), "column names .*; got 'a' for pandas"),
        (Layout("numpy", None, [{"dtype": "<f8"}, {"dtype": "|O"}]), r"one dtype; got \[{'dtype"),
        (Layout("numpy", None, []), r"must have one dtype; got \[\]"),
        (Layout("pandas", ["a"], []), r"got 0 dtypes for columns \['a'\]"),
        (Layout("pandas", [b"a"], [{"dtype": "float64"}]), "tuples of them; got b'a'"),
        (Layout("polars", [1], [{"dtype": "Int8"}]), "must be strings; got 1"),
        (Layout("pyarrow", [0.5], [{"dtype": "int8"}]), r"must be strings; got 0\.5"),
        (
            Layout("pandas", ["a", 1], 2 * [{"dtype": "int8"}]),
            r"all strings or none; got \[",
        ),
        (Layout("pandas", ["a", "a"], 2 * [{"dtype": "int8"}]), r"be different; got \['a', 'a'\]"),
        (Layout("pandas", ["\ud800"], [{"dtype": "int8"}]), r"valid Unicode; got '\\ud800'"),
    ],
)
def test_inconsistent_layouts_are_rejected(layout, message):
    with pytest.raises(ValueError, match=message):
        check_layout(layout)


def tables():
    """Tables of every dtype that is read and written, by library and name."""
    for name, series in PANDAS.items():
        yield f"pandas {name}", pd.DataFrame({"x": series.array})
    for name, series in POLARS.items():
        yield f"polars {name}", pl.DataFrame({"x": series})
    for name, array in PYARROW.items():
        yield f"pyarrow {name}", pa.table({"x": array})


TABLES = dict(tables())


def fitted(X):
    return Table.fit(read(X))


@pytest.mark.filterwarnings("ignore:Column .* so far apart:UserWarning")
@pytest.mark.parametrize("name", TABLES)
def test_every_dtype_that_is_read_is_accepted(name):
    table = fitted(TABLES[name])
    check_layout(table.layout)
    check_columns(table)


def descriptions(library):
    """Dtypes of a library, and variations of them that a file could contain."""
    found = [read(X).layout.dtypes[0] for name, X in TABLES.items() if name.startswith(library)]
    found += [description for kind, description in UNKNOWN if kind == library]
    found += {
        "pandas": [
            category("Oslo", "Rome", "Lima"),
            category("Oslo", of=string("pyarrow", "nan")),
            category(3, 7, of=arrow("int8")),
            arrow(dictionary("uint8", "large_string")),
            arrow(decimal(1, 0)),
            string("pyarrow"),
            {"dtype": "float16"},
            {"dtype": "int8"},
            {"dtype": ">i2"},
            {"dtype": "Sparse[float64, 0.5]"},
            {"dtype": "Sparse[int16, 3]"},
            {"dtype": "Sparse[bool, True]"},
            {"dtype": "Sparse[object, nan]"},
        ],
        "polars": [
            enum("Lima", "Oslo", "Rome"),
            enum("Lima", "Oslo"),
            decimal(1, 1, "Decimal"),
            decimal(38, 0, "Decimal"),
            {"dtype": "Float16"},
            {"dtype": "UInt8"},
            {"dtype": "Null"},
        ],
        "pyarrow": [
            dictionary("uint64", "large_string", True),
            dictionary(of="float"),
            decimal(1, 1),
            decimal(3, 3, "decimal32"),
            decimal(2, -3, "decimal256"),
            {"dtype": "halffloat"},
            {"dtype": "int8"},
            {"dtype": "null"},
            {"dtype": "string_view"},
        ],
    }[library]
    return found


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_schema_that_passes_can_be_written_and_read(library):
    """Each column with each dtype: the checks raise, or decoded extremes fit the dtype."""
    frame = make_mixed(60)
    frame["empty"] = np.nan
    table = fitted(LIBRARIES[library](frame))
    x = np.nan_to_num(table.encode(read(LIBRARIES[library](frame)))[:20])
    x = np.concatenate([x, np.full((1, x.shape[1]), -9), np.full((1, x.shape[1]), 9)])
    raw, n_written = table.raw_columns(x.astype(np.float32)), 0
    for position, description in itertools.product(range(len(raw)), descriptions(library)):
        dtypes = list(table.layout.dtypes)
        dtypes[position] = description
        layout = dataclasses.replace(table.layout, dtypes=dtypes)
        try:
            check_layout(layout)
            check_columns(Table(layout, table.types, table.blocks, table.likelihood, table.origins))
        except ValueError:
            continue
        n_written += 1
        one = Layout(library, [table.layout.names[position]], [description])
        types = [table.types[position]]
        written = read(write(one, [raw[position]], types), types).layout
        if description["dtype"] == "object":  # `read` notes the type of their numbers
            assert written.dtypes[0]["dtype"] == "object"
        else:
            assert dataclasses.replace(written, header=None) == one
    assert n_written > 3 * len(raw)


def change(table, position, *, kind=None, dtype=None, levels=None, n_seen=None):
    """Copy of a table with one column changed."""
    state = copy.deepcopy(table.state())
    if dtype is not None:
        state["layout"]["dtypes"][position] = dtype
    if kind is not None:
        state["types"][position] = kind
    (block,) = (b for b in state["blocks"] if position in b["positions"])
    c = block["positions"].index(position)
    if levels is not None:
        block["fitted"]["levels" if "levels" in block["fitted"] else "values"][c] = levels
    if n_seen is not None:
        block["fitted"]["n_seen"][c] = n_seen
    return Table.from_state(state)


@pytest.mark.parametrize(
    ("column", "changes"),
    [
        ("income", {"kind": "category"}),
        ("income", {"kind": "boolean"}),
        ("income", {"dtype": string()}),
        ("age", {"dtype": category("a")}),
        ("age", {"n_seen": 0}),
        ("age", {"dtype": {"dtype": "Sparse[int8, 0]"}, "n_seen": 0}),
        ("member", {"kind": "number"}),
        ("member", {"levels": [0.0, np.nan]}),
        ("flag", {"levels": [0.0, 1e306]}),
        ("city", {"kind": "number"}),
        ("city", {"levels": ["Rome", "Oslo", "Bern"]}),
        ("city", {"dtype": category("Rome", "Oslo")}),
        ("word", {"dtype": {"dtype": "int64"}}),
        ("word", {"dtype": arrow("string"), "levels": ["x", "yy", "zzz", 1]}),
        ("word", {"dtype": arrow("string"), "levels": ["x", "yy", "zzz", "\ud800"]}),
        ("word", {"dtype": string(), "levels": ["x", "yy", "zzz", None]}),
        ("word", {"dtype": string(), "levels": ["x", "yy", "zzz", "x"]}),
        ("word", {"levels": ["x", "yy", "zzz", np.nan]}),
        ("word", {"dtype": arrow(dictionary(of="int8"))}),
        ("word", {"dtype": arrow("null")}),
    ],
)
def test_values_that_do_not_fit_their_dtype_are_rejected(column, changes):
    frame = make_mixed(60)
    table = fitted(frame)
    check_columns(table)
    changed = change(table, list(frame).index(column), **changes)
    with pytest.raises(ValueError, match=f"column '{column}' of the saved schema must have"):
        check_columns(changed)


def test_a_dictionary_must_have_an_index_for_every_level():
    table = fitted(pd.DataFrame({"a": [f"{k:03}" for k in range(200)]}))
    for index, is_sound in (("uint8", True), ("int8", False)):
        changed = change(table, 0, dtype=arrow(dictionary(index)))
        if is_sound:
            check_columns(changed)
        else:
            with pytest.raises(ValueError, match="'a' of the saved schema"):
                check_columns(changed)


def test_an_encoder_is_used_without_the_library_of_fit(short_calibration, tmp_path, monkeypatch):
    frame = make_mixed(60)
    encoder = small_encoder(max_iter=1).fit(pl.from_pandas(frame))
    encoder.save(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "polars", None)
    again = CMIMEncoder.load(tmp_path / "model")
    np.testing.assert_array_equal(again.transform(frame), encoder.transform(frame))


def with_origin(low, high, scale=0, **options):
    return {"origins": [[0, {"low": low, "high": high, "scale": scale} | options]]}


EXACT = {
    "int64": pa.array([-1, 2**60 + 1, 2**61 + 1] * 20),
    "two": pa.array([-1, 2**60 + 1] * 30),
    "decimal": pa.array([Decimal("0.1"), Decimal("12345678901234567.1"), None] * 20),
    "levels": pa.array([Decimal("0.1"), Decimal("0.3")] * 30, pa.decimal128(3, 1)),
    "float": pa.array([0.5, 1.5] * 30),
    "bool": pa.array([True, False] * 30),
}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("int64", with_origin(-1, 2**63)),
        ("int64", with_origin(-(2**63) - 1, 0)),
        ("int64", with_origin(-1, 2**60, 1)),
        ("int64", {"origins": [[1, {"low": 0, "high": 1, "scale": 0}]]}),
        ("two", {"values": [[0.0, 1.0]]}),
        ("two", {"values": [[0, 2**63]]}),
        ("decimal", with_origin(10**30, 10**30, 1)),
        ("decimal", with_origin(1, 12345678901234567, 7)),
        ("decimal", {"origins": [], "values": [[0.0, 1e30]]}),
        ("levels", {"values": [[0.1, 100.0]]}),
        ("levels", {"values": [[["decimal", "0.1"], ["decimal", "0.12"]]]}),
        ("float", with_origin(0, 2**60)),
        ("float", {"values": [[0.5, 2e305]]}),
        ("bool", with_origin(0, 2**60)),
    ],
)
def test_exact_numbers_that_do_not_fit_their_dtype_are_rejected(name, changes):
    table = fitted(pa.table({"x": EXACT[name]}))
    check_columns(table)
    state = copy.deepcopy(table.state())
    state["origins"] = changes.get("origins", state["origins"])
    state["blocks"][0]["fitted"] |= {k: v for k, v in changes.items() if k != "origins"}
    with pytest.raises(ValueError, match=r"column.* (must have a dtype|with an)"):
        check_columns(Table.from_state(state))


def test_schemas_without_kept_numbers_are_read():
    table = fitted(pa.table({"x": EXACT["int64"]}))
    state = table.state()
    assert state["origins"][0][1].pop("kept") == [-1, 2**60 + 1, 2**61 + 1]
    old = Table.from_state(state)
    check_columns(old)
    encoded = table.encode(read(pa.table({"x": EXACT["int64"]})))
    assert table.raw_columns(encoded)[0][1] == 2**60 + 1
    assert old.raw_columns(encoded)[0][1] == 2**60 - 1


@pytest.mark.parametrize(
    ("names", "of"),
    [
        ([0, 5, 1], {"dtype": "range"}),
        ([0, "a"], {"dtype": "range"}),
        ([300, 5, 1], {"dtype": "int8"}),
        ([0.5, 1.5], {"dtype": "int64"}),
        ([None, 1], {"dtype": "int64"}),
        (["a", "b"], category("a", "c")),
        (["a", "b"], {"dtype": "float64"}),
        ([0, 1], string()),
    ],
)
def test_names_that_their_index_cannot_hold_are_rejected(names, of):
    layout = Layout("pandas", names, [{"dtype": "int8"}] * len(names), {"of": of, "names": [None]})
    with pytest.raises(ValueError, match=r"the index of columns .* not suit|all strings or none"):
        check_layout(layout)


@pytest.mark.parametrize(
    "columns",
    [
        pd.RangeIndex(8, 0, -2),
        pd.RangeIndex(3, 4),
        pd.Index(np.array([1, 2, 127], dtype=np.int8)),
        pd.Index([1.5, np.nan, np.inf]),
        pd.Index([None, 1, ("a", 2)], tupleize_cols=False),
        pd.Index(["a", "b"], dtype="string"),
        pd.CategoricalIndex(["a", "b"], categories=["b", "a", "c"]),
        pd.Index([True, False]),
        pd.MultiIndex.from_tuples([("a", 1), ("b", np.nan)]),
    ],
)
def test_names_that_pandas_has_are_accepted(columns):
    layout = read(pd.DataFrame(np.ones((2, len(columns))), columns=columns)).layout
    check_layout(layout)
