"""The schema: which kind a column gets, encoding, decoding, unknown values, state."""

import datetime
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from cmim_sklearn._tables.read import read
from cmim_sklearn._tables.schema import Table
from tests.conftest import make_mixed


def kinds(table):
    return {name: kind for kind, names in table.describe().items() for name in names}


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


def test_likelihoods_are_imposed_by_name(mixed):
    table = Table.fit(read(mixed), likelihoods={"visits": "poisson", "flag": "gaussian"})
    assert kinds(table)["visits"] == "poisson"
    assert kinds(table)["flag"] == "gaussian"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"categorical_features": ["cty"]}, r"`categorical_features` names column 'cty'.*'city'"),
        ({"categorical_features": [99]}, "names column 99, which X lacks"),
        ({"categorical_features": [True, False]}, "one entry for each of the 8 columns; it has 2"),
        ({"categorical_features": "cty"}, "must be 'from_dtype'.*Got 'cty'"),
        ({"likelihoods": {"cty": "poisson"}}, "`likelihoods` names column 'cty'"),
        ({"likelihoods": {"age": "poison"}}, r"'poison' for column 'age'; there are .*'poisson'"),
        ({"likelihoods": {"word": "gaussian"}}, "'word'.*'gaussian' takes numbers"),
        ({"likelihoods": {"income": "bernoulli"}}, "'income'.*'bernoulli'.*two distinct values"),
    ],
)
def test_a_wrong_name_is_named(mixed, options, message):
    with pytest.raises(ValueError, match=message):
        Table.fit(read(mixed), **options)


def test_encode_then_decode_is_the_table_up_to_rounding(mixed):
    table = Table.fit(read(mixed))
    encoded = table.encode(read(mixed))
    assert encoded.dtype == np.float32
    assert encoded.flags.c_contiguous
    back = table.decode(encoded, index=mixed.index)
    pd.testing.assert_frame_equal(back, mixed, rtol=1e-4)


def test_state_makes_the_same_table(mixed):
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
    names = [[n for names in t.describe().values() for n in names] for t in (one, two)]
    for name in order:
        np.testing.assert_array_equal(x[:, names[0].index(name)], y[:, names[1].index(name)])


def test_unknown_values_warn_once_and_count_as_missing(mixed):
    table = Table.fit(read(mixed))
    other = mixed.copy()
    other["word"] = "new"
    other.loc[0, "flag"] = 5
    with pytest.warns(UserWarning, match=r"'flag' \(5.0\), 'word' \('new'\)") as caught:
        encoded = table.encode(read(other))
    assert len(caught) == 1
    names = [n for names in table.describe().values() for n in names]
    assert (encoded[:, names.index("word")] == -1).all()
    assert encoded[0, names.index("flag")] == -1


def test_unknown_values_are_told_in_short():
    X = pd.DataFrame({f"c{i}": ["a", "b", "c"] for i in range(30)})
    table = Table.fit(read(X))
    with pytest.warns(UserWarning, match=r"'c9' \(.*\) and 20 more\.$") as caught:
        table.encode(read(X.replace("a", "x" * 999)))
    assert len(str(caught[0].message)) < 1000
    with pytest.raises(ValueError, match=r"'c19', \.\.\.\]"):
        Table.fit(read(X), categorical_features=["c30"])
    with pytest.raises(ValueError, match=r"xxx\.\.\.xxx+' in column 'c1'") as refused:
        table.conditions({"c1": "x" * 999})
    assert len(str(refused.value)) < 200


def test_integers_and_booleans_may_come_as_floats_with_holes(mixed):
    table = Table.fit(read(mixed))
    holed = mixed.astype({"age": float, "member": object, "visits": float})
    holed.loc[3, ["age", "visits"]] = np.nan
    holed.loc[3, "member"] = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded = table.encode(read(holed))
    same = table.encode(read(mixed))
    np.testing.assert_array_equal(np.delete(encoded, 3, 0), np.delete(same, 3, 0))
    assert np.isnan(encoded[3]).sum() >= 3


@pytest.mark.parametrize("value", [np.inf, 10**400])
def test_levels_in_the_place_of_numbers_are_held_to_their_bounds(value, mixed):
    table, other = Table.fit(read(mixed)), mixed.astype({"age": object})
    other.loc[4, "age"] = value
    try:
        other = other.astype({"age": "category"})
    except OverflowError:
        pytest.skip("this pandas has no such category")
    with pytest.raises(ValueError, match=r"'age' holds inf in row 4"):
        table.encode(read(other))


def test_text_in_a_column_of_numbers_is_named(mixed):
    table = Table.fit(read(mixed))
    other = mixed.astype({"age": object})
    other.loc[4, "age"] = "old"
    with pytest.raises(ValueError, match=r"'age' held numbers in fit; row 4 now holds 'old'"):
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
def test_columns_without_news_encode_and_decode(column):
    frame = pd.DataFrame({"c": column})
    table = Table.fit(read(frame))
    pd.testing.assert_frame_equal(table.decode(table.encode(read(frame))), frame)


def test_repr_counts_columns(mixed):
    assert repr(Table.fit(read(mixed))) == (
        "Table(8 columns: 4 gaussian, 2 bernoulli, 2 categorical)"
    )


def test_cells_stand_where_the_table_says(mixed):
    """Hiding the cells of a column is what a hole in it does to what is measured."""
    table = Table.fit(read(mixed), likelihoods={"visits": "poisson"})
    cells = table.measure(read(mixed))
    assert cells.shape == (200, table.likelihood.n_cells)
    assert cells.dtype == np.float32
    for position, name in enumerate(mixed.columns):
        holed = table.measure(read(mixed.assign(**{name: None})))
        hidden = cells.copy()
        hidden[:, table.cells_of(position)] = np.nan
        where = ~np.isnan(hidden)
        np.testing.assert_array_equal(holed[where], cells[where])
        first = holed[:, table.cells_of(position)][:, 0]
        assert np.isnan(first).all()


def test_encoded_names_stand_in_block_order(mixed):
    table = Table.fit(read(mixed))
    names = table.encoded_names()
    assert names == [name for of in table.describe().values() for name in of]
    assert sorted(names) == sorted(mixed.columns)
    assert Table.fit(read(mixed.to_numpy())).encoded_names() != names


def test_a_frame_of_conditions_may_have_some_columns_an_array_needs_all(mixed):
    table = Table.fit(read(mixed))
    frame = table.conditions(mixed[["city", "age"]][:3])
    np.testing.assert_array_equal(frame.columns[list(mixed).index("age")], mixed["age"][:3])
    assert np.isnan(frame.columns[list(mixed).index("income")].astype(float)).all()
    with pytest.raises(ValueError, match="conditions has 2 columns; an array needs all 8"):
        table.conditions(np.zeros((3, 2)))


@pytest.mark.parametrize("given", [{"city": "Paris"}, {"flag": 5}, {"word": "x", "city": "Bonn"}])
def test_conditions_on_levels_that_fit_never_saw_are_named(mixed, given):
    table = Table.fit(read(mixed))
    with pytest.raises(ValueError, match=r"conditions asks for .* which fit never saw"):
        table.conditions(given)
    with pytest.raises(ValueError, match=r"conditions asks for .* which fit never saw"):
        table.conditions(pd.DataFrame([given]))


@pytest.mark.parametrize("make", [np.array, np.float32, torch.tensor, float])
def test_conditions_may_be_scalars_of_numpy_and_torch(mixed, make):
    table = Table.fit(read(mixed))
    frame = table.conditions({"age": make(40.0), "city": np.array("Rome")})
    assert frame.columns[list(mixed).index("age")].tolist() == [40.0]
    assert frame.columns[list(mixed).index("city")].tolist() == ["Rome"]


@pytest.mark.parametrize("value", [datetime.date(2020, 1, 1), b"x", 1j])
def test_conditions_of_no_known_kind_are_named(mixed, value):
    with pytest.raises((TypeError, ValueError), match="olumn 'age'"):
        Table.fit(read(mixed)).conditions({"age": value})


def test_positions_may_be_counted_from_the_end(mixed):
    X = mixed.to_numpy(object)
    n = X.shape[1]
    for position in (-n, -1, 0, n - 1):
        named = kinds(Table.fit(read(X), categorical_features=[position]))
        assert named[position % n] == "categorical"
    for position in (-n - 1, n):
        with pytest.raises(ValueError, match=f"names column {position}, which X lacks"):
            Table.fit(read(X), categorical_features=[position])


def test_conditions_leave_out_what_is_not_given(mixed):
    table = Table.fit(read(mixed))
    frame = table.conditions({"city": "Oslo", "age": 30})
    given = {frame.name(p): v[0] for p, v in enumerate(frame.columns) if v[0] == v[0]}
    assert {k: v for k, v in given.items() if v is not None} == {"city": "Oslo", "age": 30.0}
    nothing = table.conditions({"city": None, "age": np.nan})
    assert np.isnan(
        table.measure(nothing)[:, [c.start for c in map(table.cells_of, range(8))]]
    ).all()
