"""Dates that follow another date of their row."""

import numpy as np
import pandas as pd
import pytest

from cmim_sklearn._tables.links import Link, apart, check_links, together
from cmim_sklearn._tables.read import read
from cmim_sklearn._tables.schema import Table
from tests.helpers import LIBRARIES, assert_like, small_encoder, to_pandas


def orders(n=300, zone=None, unit="D", dtype="datetime64[us]"):
    """Orders, shipments and deliveries, in this order, and days that do not depend on them."""
    rng = np.random.RandomState(0)
    steps = [rng.randint(0, 700, n), rng.poisson(3, n), 1 + rng.poisson(2, n)]
    order, ship, deliver = (
        pd.Timestamp("2022-01-03") + pd.to_timedelta(some, unit) for some in np.cumsum(steps, 0)
    )
    other = pd.Timestamp("2022-01-03") + pd.to_timedelta(rng.randint(0, 700, n), unit)
    frame = pd.DataFrame({"deliver": deliver, "order": order, "other": other, "ship": ship})
    frame = frame.astype(dtype)
    return frame if zone is None else frame.apply(lambda c: c.dt.tz_localize(zone))


def linked(table):
    """Names of the children and parents of a table."""
    names = table.layout.names
    return [(names[link.child], names[link.parent]) for link in table.links]


CHAIN = [("ship", "order"), ("deliver", "ship")]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("zone", "unit"), [(None, "D"), (None, "h"), ("Europe/Paris", "D"), ("UTC", "s")]
)
def test_linked_dates_return_from_their_durations(library, zone, unit):
    X = orders(zone=zone, unit=unit)
    frame = read(LIBRARIES[library](X))
    table = Table.fit(frame)
    assert linked(table) == CHAIN
    columns = list(frame.columns)
    durations = apart(frame, table.links, table.layout)
    for p, values in durations.items():
        columns[p] = values
    np.testing.assert_array_equal(columns[1], frame.columns[1])
    step = np.timedelta64(1, unit)
    days = np.array([columns[p] // step for p in (3, 0)])
    assert (columns[3] % step == np.timedelta64(0)).all()  # also across daylight saving
    assert [days.min(), days.max()] == [0, days.max()]
    for before, after in zip(
        frame.columns, together(columns, table.links, table.layout), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_dates_that_do_not_follow_are_not_linked():
    X = orders()
    later = X["order"] + pd.Timedelta(days=2000)
    monthly = X["ship"].dt.to_period("M").dt.to_timestamp() + pd.DateOffset(months=1)
    hourly = X["ship"] + pd.to_timedelta(np.arange(300) % 24, "h")
    often = X["ship"].where(np.arange(300) % 20 > 0, X["order"] - pd.Timedelta(days=9))
    for other in (X["other"], later, monthly, hourly, often, X["ship"].dt.tz_localize("UTC")):
        pair = pd.DataFrame({"order": X["order"], "other": other})
        assert Table.fit(read(pair)).links == []
    assert Table.fit(read(X[["order", "ship"]][:15])).links == []
    nearly = X["ship"].where(np.arange(300) % 50 > 0, X["order"] - pd.Timedelta(days=9))
    assert linked(Table.fit(read(X.assign(ship=nearly)[["order", "ship"]]))) == CHAIN[:1]


def test_a_child_of_a_missing_parent_places_it():
    X = orders()
    table = Table.fit(read(X))
    usual = [pd.Timedelta(link.usual, "us") for link in table.links]
    assert usual == [(X["ship"] - X["order"]).median(), (X["deliver"] - X["ship"]).median()]
    given = X[:4].copy()
    given.loc[0, "order"] = given.loc[1, "ship"] = None
    given.loc[2, ["order", "ship"]] = given.loc[3, "deliver"] = None
    frame = read(given)
    found = apart(frame, table.links, table.layout)
    assert found[1][0] == given["ship"][0] - usual[0]
    assert found[1][2] == given["deliver"][2] - usual[0] - usual[1]
    assert np.isnat(found[3]).tolist() == [True, False, True, False]
    assert np.isnat(found[0]).tolist() == [False, True, True, True]
    days = np.arange(1, 5).astype("timedelta64[D]")
    drawn = [2 * days, np.repeat(np.datetime64("2022-05-05", "us"), 4), frame.columns[2], days]
    drawn = [v.astype(f"{v.dtype.kind}8[us]") for v in drawn]
    out = together(drawn, table.links, table.layout, frame)
    for p, name in enumerate(X):
        observed = given[name].notna()
        np.testing.assert_array_equal(out[p][observed], given[name][observed])
    assert out[1][0] == given["ship"][0] - days[0]
    ship = max(given["deliver"][1] - 2 * days[1], given["order"][1])  # between its neighbours
    assert out[3][1] == ship
    assert out[3][2] == given["deliver"][2] - 2 * days[2]
    assert out[1][2] == out[3][2] - days[2]
    assert out[0][3] == given["ship"][3] + 2 * days[3]


@pytest.mark.parametrize("library", LIBRARIES)
def test_generated_and_imputed_dates_keep_their_order(library, tmp_path):
    X = orders()
    for place, name in enumerate(X):
        X.loc[place::11, name] = None
    table = LIBRARIES[library](X)
    encoder = small_encoder().fit(table)
    assert linked(encoder.table_) == CHAIN
    tables = [encoder.sample(200, random_state=0), encoder.impute(table)]
    tables += [encoder.inverse_transform(encoder.transform(table))]
    tables += encoder.impute(table, n_draws=2, random_state=0)
    held = encoder.sample(50, conditions={"ship": "2022-06-01"}, random_state=0)
    assert set(to_pandas(held)["ship"]) == {pd.Timestamp("2022-06-01")}
    for found in (*tables, held):
        assert_like(found, table)
        found = to_pandas(found)
        assert not found.isna().any(axis=None)
        assert (found["order"] <= found["ship"]).all()
        assert (found["ship"] <= found["deliver"]).all()
        assert (found.stack() == found.stack().dt.floor("D")).all()
    before, imputed = X.stack(), to_pandas(tables[1]).stack()
    assert imputed[before.dropna().index].equals(before.dropna())
    encoder.save(tmp_path / "encoder")
    loaded = type(encoder).load(tmp_path / "encoder")
    assert loaded.sample(200, random_state=0).equals(tables[0])
    np.testing.assert_array_equal(loaded.score_samples(table), encoder.score_samples(table))


def test_open_orders_are_not_shipped_before_they_are_made():
    r = np.random.default_rng(0)
    order = pd.Timestamp("2024-01-01") + pd.to_timedelta(r.integers(0, 200, 400), "D")
    ship = pd.Series(order + pd.to_timedelta(r.integers(0, 60, 400), "D"))
    X = pd.DataFrame({"order": order, "ship": ship.where(ship <= "2024-06-01")})
    encoder = small_encoder(max_iter=2).fit(X)
    (link,) = encoder.table_.links
    waits = (X["ship"] - X["order"]).to_numpy()
    decoded = np.where(np.isnat(waits), np.nanmedian(waits), waits)
    found = link.after(order.to_numpy(), decoded)
    np.testing.assert_array_equal(found, order.to_numpy() + decoded)
    beyond = order.to_numpy() + np.timedelta64(2000, "D")
    np.testing.assert_array_equal(link.after(beyond, decoded), beyond)
    for found in (encoder.sample(200, random_state=0), encoder.reconstruct(X)):
        assert (found["order"] <= found["ship"]).all()


@pytest.mark.parametrize(
    "change",
    [{"child": 4}, {"parent": 1.0}, {"child": 1}, {"usual": 2**63}, {"low": 9, "high": 8}],
)
def test_links_of_a_saved_schema_are_checked(change):
    links, types = Table.fit(read(orders())).links, ["datetime"] * 4
    check_links(links, types)
    with pytest.raises(ValueError, match=r"cannot be linked as .*parent"):
        check_links([links[0]._replace(**change), *links[1:]], types)
    for wrong in (links[::-1], [links[0], links[0]], [Link(0, 0, 1, 0, 9, None)]):
        with pytest.raises(ValueError, match="cannot be linked"):
            check_links(wrong, types)
