"""Table schema: column kinds, encoding, decoding, unknown values, state."""

import json
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cmim_sklearn._likelihoods.summary import ColumnSummary
from cmim_sklearn._tables.conditions import read_conditions
from cmim_sklearn._tables.read import column_name, read
from cmim_sklearn._tables.schema import Table, choose_kinds, warn_of_empty
from tests.helpers import LIBRARIES, make_mixed


def kinds(table):
    """Kind of each column by its name or position."""
    names = table.layout.names
    return {column_name(names, p): block.kind for block in table.blocks for p in block.positions}


def test_default_kinds(mixed):
    assert kinds(Table.fit(read(mixed))) == {
        "income": "gaussian",
        "age": "gaussian",
        "score": "gaussian",
        "visits": "gaussian",
        "member": "bernoulli",
        "flag": "bernoulli",
        "city": "categorical",
        "word": "categorical",
    }


@pytest.mark.parametrize(
    "named", [["age", "flag"], [1, 5], [-7, -3], [n in ("age", "flag") for n in make_mixed()]]
)
def test_categorical_features_by_name_position_or_mask(mixed, named):
    table = Table.fit(read(mixed), categorical_features=named)
    assert kinds(table)["age"] == kinds(table)["flag"] == "categorical"
    assert kinds(table)["visits"] == "gaussian"
    back = table.decode(table.encode(read(mixed)))
    assert back["age"].tolist() == mixed["age"].tolist()
    assert back["age"].dtype == mixed["age"].dtype


def test_likelihoods_override_the_kind_of_named_columns(mixed):
    table = Table.fit(read(mixed), likelihoods={"visits": "poisson", "flag": "gaussian"})
    assert kinds(table)["visits"] == "poisson"
    assert kinds(table)["flag"] == "gaussian"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"categorical_features": ["cty"]},
            r"`categorical_features`: X has no column 'cty'.*'cit",
        ),
        ({"categorical_features": [99]}, r"X has no column 99\. Columns of X: \['income'"),
        (
            {"categorical_features": [True, False]},
            r"entry for each of the 8 columns\. Got 2 entries",
        ),
        ({"categorical_features": "cty"}, "must be 'from_dtype'.*Got 'cty'"),
        ({"likelihoods": {"cty": "poisson"}}, "`likelihoods`: X has no column 'cty'"),
        (
            {"likelihoods": {"age": "poison"}},
            r"\['bernoulli', .*; got 'poison' for column 'age'",
        ),
        (
            {"likelihoods": {"word": "gaussian"}},
            "'gaussian' needs numbers, but column 'word'",
        ),
        (
            {"likelihoods": {"income": "bernoulli"}},
            "two distinct values; column 'income' has more",
        ),
    ],
)
def test_wrong_columns_and_kinds_are_named(mixed, options, message):
    with pytest.raises(ValueError, match=message):
        Table.fit(read(mixed), **options)


def test_decode_inverts_encode_up_to_rounding(mixed):
    table = Table.fit(read(mixed))
    encoded = table.encode(read(mixed))
    assert encoded.dtype == np.float32
    assert encoded.flags.c_contiguous
    back = table.decode(encoded, index=mixed.index)
    pd.testing.assert_frame_equal(back, mixed, rtol=1e-4)


def test_from_state_restores_the_table(mixed):
    table = Table.fit(read(mixed), likelihoods={"visits": "poisson"})
    again = Table.from_state(table.state())
    np.testing.assert_array_equal(again.encode(read(mixed)), table.encode(read(mixed)))
    pd.testing.assert_frame_equal(
        again.decode(again.encode(read(mixed))), table.decode(table.encode(read(mixed)))
    )


def test_permuting_columns_permutes_cells(mixed):
    order = list(mixed.columns[::-1])
    one, two = Table.fit(read(mixed)), Table.fit(read(mixed[order]))
    x, y = one.encode(read(mixed)), two.encode(read(mixed[order]))
    names = [one.encoded_names(), two.encoded_names()]
    for name in order:
        np.testing.assert_array_equal(x[:, names[0].index(name)], y[:, names[1].index(name)])


def test_unknown_values_are_missing_with_one_warning(mixed):
    table = Table.fit(read(mixed))
    other = mixed.copy()
    other["word"] = "new"
    other.loc[0, "flag"] = 5
    with pytest.warns(UserWarning, match=r"'flag' \(5\), 'word' \('new'\)") as caught:
        encoded = table.encode(read(other))
    assert len(caught) == 1
    names = table.encoded_names()
    assert (encoded[:, names.index("word")] == -1).all()
    assert encoded[0, names.index("flag")] == -1


def test_messages_about_unknown_values_are_short():
    X = pd.DataFrame({f"c{i}": ["a", "b", "c"] for i in range(30)})
    table = Table.fit(read(X))
    with pytest.warns(UserWarning, match=r"'c9' \(.*\) and 20 more\.$") as caught:
        table.encode(read(X.replace("a", "x" * 999)))
    assert len(str(caught[0].message)) < 1000
    with pytest.raises(ValueError, match=r"'c19', \.\.\.\]"):
        Table.fit(read(X), categorical_features=["c30"])
    with pytest.raises(ValueError, match=r"xxx\.\.\.xxx+' for column 'c1'") as error:
        read_conditions(table, {"c1": "x" * 999})
    assert len(str(error.value)) < 200


def test_integers_and_booleans_with_missing_values_may_be_floats(mixed):
    table = Table.fit(read(mixed))
    other = mixed.astype({"age": float, "member": object, "visits": float})
    other.loc[3, ["age", "visits"]] = np.nan
    other.loc[3, "member"] = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded = table.encode(read(other))
    same = table.encode(read(mixed))
    np.testing.assert_array_equal(np.delete(encoded, 3, 0), np.delete(same, 3, 0))
    assert np.isnan(encoded[3]).sum() >= 3


@pytest.mark.parametrize("value", [np.inf, 10**400])
def test_categories_in_a_numeric_column_are_checked_for_infinities(value, mixed):
    table, other = Table.fit(read(mixed)), mixed.astype({"age": object})
    other.loc[4, "age"] = value
    try:
        other = other.astype({"age": "category"})
    except OverflowError:
        pytest.skip("this version of pandas has no categories of this value")
    with pytest.raises(ValueError, match=r"'age'.*got (inf|1.00e.400) in row 4"):
        table.encode(read(other))


def test_text_in_a_numeric_column_is_named(mixed):
    table = Table.fit(read(mixed))
    other = mixed.astype({"age": object})
    other.loc[4, "age"] = "old"
    with pytest.raises(ValueError, match=r"'age' must hold numbers, as in fit; got 'old' in row 4"):
        table.encode(read(other))


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([None] * 6, dtype=object),
        pd.Series([np.nan] * 6),
        pd.Series(pd.Categorical([None] * 6, categories=["a", "b"])),
        pd.Series([7] * 6),
        pd.Series(["only"] * 6),
        pd.Series([True] * 6),
    ],
)
def test_constant_and_empty_columns_encode_and_decode(column):
    frame = pd.DataFrame({"c": column})
    table = Table.fit(read(frame))
    pd.testing.assert_frame_equal(table.decode(table.encode(read(frame))), frame)


EMPTY = {
    "object": pd.Series([None] * 4, dtype=object),
    "float": pd.Series([np.nan] * 4),
    "NaT": pd.Series([pd.NaT] * 4, dtype=object),
    "Int64": pd.Series([None] * 4, dtype="Int64"),
    "boolean": pd.Series([None] * 4, dtype="boolean"),
    "string": pd.Series([None] * 4, dtype="string"),
    "category": pd.Series(pd.Categorical([None] * 4, categories=["a"])),
}
LATER = {
    "text": ["x", "y", None, "x"],
    "flag": [True, False, None, True],
    "numbers": [1.5, 2, None, 7],
    "mixed": ["x", 2, None, True],
    "Decimal": [Decimal("0.1"), None, None, Decimal("2.5")],
    "long": [2**63 - 1, 2**80, None, 0],
}


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("empty", EMPTY)
def test_any_value_of_a_column_without_one_in_fit_is_missing_with_one_warning(empty, later):
    fitted = pd.DataFrame({"v": [1.0, 2, 3, 5], "t": EMPTY[empty]})
    other = fitted.assign(t=pd.Series(LATER[later], dtype=object))
    for options in ({}, {"categorical_features": ["t"]}):
        table = Table.fit(read(fitted), **options)
        assert table.empty == [1]
        frame = read(other, table.types)
        with pytest.warns(UserWarning, match=r"treated as missing\. Columns: 't' \(") as caught:
            encoded = table.encode(frame)
        assert len(caught) == 1
        np.testing.assert_array_equal(encoded, table.encode(read(fitted)))
        np.testing.assert_array_equal(table.measure(frame), table.measure(read(fitted)))
        assert table.incomplete(frame).tolist() == []
        decoded = table.decode(encoded)
        assert decoded.dtypes.equals(fitted.dtypes)
        assert decoded["t"].isna().all()


@pytest.mark.parametrize("make", [*LIBRARIES.values(), pd.DataFrame.to_numpy])
def test_columns_of_nulls_may_hold_text_later_in_every_library(make):
    fitted = pd.DataFrame({"v": [1.0, 2, 3], "t": pd.Series([None] * 3, dtype=object)})
    table, unseen = Table.fit(read(make(fitted))), {}
    encoded = table.encode(read(make(fitted.assign(t=["x", None, "y"])), table.types), unseen)
    np.testing.assert_array_equal(encoded, table.encode(read(make(fitted))))
    assert unseen == {1: (1 if table.layout.names is None else "t", ["'x'", "'y'"])}


def test_a_warning_names_the_columns_without_any_value():
    X = pd.DataFrame({f"c{i}": [np.nan] * 2 for i in range(12)} | {"v": [1.0, 2.0]})
    with pytest.warns(UserWarning, match=r"fit: 'c0', 'c1'.*'c9' and 2 more\. They stay"):
        warn_of_empty(Table.fit(read(X)))
    with pytest.warns(UserWarning, match=r"fit: 0\. They stay"):
        warn_of_empty(Table.fit(read(X[["c0", "v"]].to_numpy())))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_empty(Table.fit(read(X[["v"]])))


def test_repr_counts_columns(mixed):
    assert repr(Table.fit(read(mixed))) == (
        "Table(8 columns: 4 gaussian, 2 bernoulli, 2 categorical)"
    )


def test_cells_of_is_the_slice_of_a_column(mixed):
    """A missing column is measured like its hidden cells."""
    table = Table.fit(read(mixed), likelihoods={"visits": "poisson"})
    cells = table.measure(read(mixed))
    assert cells.shape == (200, table.likelihood.n_cells)
    assert cells.dtype == np.float32
    for position, name in enumerate(mixed.columns):
        other = table.measure(read(mixed.assign(**{name: None})))
        hidden = cells.copy()
        hidden[:, table.cells_of(position)] = np.nan
        where = ~np.isnan(hidden)
        np.testing.assert_array_equal(other[where], cells[where])
        first = other[:, table.cells_of(position)][:, 0]
        assert np.isnan(first).all()


def test_encoded_names_are_in_block_order(mixed):
    table = Table.fit(read(mixed))
    names = table.encoded_names()
    assert names == [mixed.columns[p] for block in table.blocks for p in block.positions]
    assert sorted(names) == sorted(mixed.columns)
    assert Table.fit(read(mixed.to_numpy())).encoded_names() != names


@pytest.mark.parametrize("parameter", ["categorical_features", "likelihoods"])
def test_integers_are_names_where_columns_have_integer_names(parameter):
    X = pd.DataFrame({10: [1, 2, 3], 20: [4, 5, 6], 30: ["x", "y", "x"]})
    given = {20: "poisson"} if parameter == "likelihoods" else [20]
    kinds = choose_kinds(read(X), **{parameter: given})
    assert kinds[1] == ("poisson" if parameter == "likelihoods" else "categorical")
    given = {1: "poisson"} if parameter == "likelihoods" else [1]
    with pytest.raises(ValueError, match=rf"`{parameter}`: X has no column 1\. .*\[10, 20, 30\]"):
        Table.fit(read(X), **{parameter: given})


def test_negative_positions_count_from_the_end(mixed):
    X = mixed.to_numpy(object)
    n = X.shape[1]
    for position in (-n, -1, 0, n - 1):
        found = kinds(Table.fit(read(X), categorical_features=[position]))
        assert found[position % n] == "categorical"
    for position in (-n - 1, n):
        with pytest.raises(
            ValueError, match=rf"no column {position}\. Columns of X: positions 0 to {n - 1}"
        ):
            Table.fit(read(X), categorical_features=[position])


def test_messages_about_boolean_columns_say_booleans():
    frame = pd.DataFrame({"d": [True, False, True], "c": ["a", "b", "c"]})
    table = Table.fit(read(frame))
    with pytest.raises(
        ValueError, match=r"'d' must hold booleans, as in fit; got 'yes' .* to bool"
    ):
        table.encode(read(frame.assign(d="yes")))
    with pytest.warns(UserWarning, match=r"'d' \(2\)\.$"):
        table.encode(read(frame.assign(d=2)))
    for value in (2, 0.5):
        match = f"unknown level {value} for column 'd'. Levels seen in fit: False, True"
        with pytest.raises(ValueError, match=match):
            read_conditions(table, {"d": value})


def test_numbers_relative_to_an_origin_survive_a_state():
    values = [2**60, 2**60 + 1, 2**60 + 5, None] * 3
    frame = pd.DataFrame({"a": [1.5, 2.5, 3.5, 4.5] * 3, "k": pd.array(values, "Int64")})
    table = Table.fit(read(frame))
    assert list(table.origins) == [1]
    again = Table.from_state(json.loads(json.dumps(table.state(), default=np.ndarray.tolist)))
    encoded = table.encode(read(frame))
    np.testing.assert_array_equal(again.encode(read(frame)), encoded)
    assert again.decode(encoded)["k"].tolist() == frame["k"].tolist()
    old = {name: part for name, part in table.state().items() if name != "origins"}
    assert Table.from_state(old).origins == {}


@pytest.mark.parametrize("names", [[3, 1, 2], [0.5, np.nan, 2], [("a", 1), ("a", 2), ("b", 1)]])
def test_columns_with_names_other_than_strings_need_the_order_of_fit(names):
    frame = pd.DataFrame([["a", 2, 3], ["b", 4, 6]], columns=pd.Index(names))
    table = Table.fit(read(frame))
    table.check_names(read(frame))
    table.check_names(read(frame.to_numpy()))
    table.check_names(read(frame.set_axis(["x", "y", "z"], axis=1)))  # scikit-learn warns of these
    with pytest.raises(ValueError, match=r"should match .* with .* in place of .* at position 1"):
        table.check_names(read(frame.iloc[:, [0, 2, 1]]))
    frame = read_conditions(table, {names[1]: 4})
    assert frame.columns[1].tolist() == [4]


def test_a_table_with_decimals_has_the_schema_of_its_stream():
    values = [Decimal("0.1"), Decimal("12345678901234567.1"), Decimal("8.1")]
    frame = read(pa.table({"k": pa.array(values, pa.decimal128(20, 1))}))
    whole = Table.fit(frame)
    streamed = Table.fit(frame, summaries=[ColumnSummary().add(frame.columns[0])])
    assert whole.likelihood.blocks[0].decimals == [1]
    assert repr(whole.state()) == repr(streamed.state())
