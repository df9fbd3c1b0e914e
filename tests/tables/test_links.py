"""Dates that follow another date of their row."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from cmim_sklearn._tables.links import Link, apart, check_links, together
from cmim_sklearn._tables.read import read
from cmim_sklearn._tables.saved import check_columns
from cmim_sklearn._tables.schema import Table
from cmim_sklearn._utils.zones import to_local
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
    often = X["ship"].where(np.arange(300) % 20 > 0, X["order"] - pd.Timedelta(days=9))
    for other in (X["other"], later, monthly, often, X["ship"].dt.tz_localize("UTC")):
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


def business(n=800, zone=None, hours=True, unit="us"):
    """Orders at any time, and shipments in business hours, or on business days."""
    rng = np.random.RandomState(0)
    order = np.datetime64("2022-01-03", "s") + rng.randint(0, 600 * 86_400, n)
    ship = np.busday_offset(order.astype("M8[D]"), rng.poisson(2, n) + 1, roll="forward")
    ship = ship.astype("M8[s]")
    if hours:
        ship += 3600 * rng.randint(9, 17, n) + 60 * rng.randint(0, 60, n)
    else:
        order = order.astype("M8[D]").astype("M8[s]")
    X = pd.DataFrame({"order": order, "ship": ship}).astype(f"datetime64[{unit}]")
    return X.apply(lambda c: c.dt.tz_localize(zone, "NaT", "shift_forward")) if zone else X


@pytest.mark.parametrize("unit", ["s", "ns"])
@pytest.mark.parametrize("hours", [True, False])
@pytest.mark.parametrize("zone", [None, "Europe/Paris", "Asia/Beirut"])
def test_linked_dates_stay_in_open_hours(zone, hours, unit):
    X = business(zone=zone, hours=hours, unit=unit)
    frame = read(X)
    table = Table.fit(frame)
    ((link,), order) = table.links, frame.columns[0]
    assert link.closed == (
        [b for b in range(168) if b > 119 or not 9 <= b % 24 < 17] if hours else [5, 6]
    )
    durations = apart(frame, [link], table.layout)[1]
    np.testing.assert_array_equal(link.after(order, durations), frame.columns[1])
    assert (durations[~np.isnat(durations)] >= np.timedelta64(0)).all()
    size = np.timedelta64(1, "m") if hours else np.timedelta64(1, "D")
    assert (durations[~np.isnat(durations)] % size == np.timedelta64(0)).all()
    drawn = (np.random.RandomState(1).randint(0, 30, len(X)) * size).astype(durations.dtype)
    ship = link.after(order, drawn)
    local = to_local(ship, zone)
    assert np.is_busday(local[~np.isnat(local)].astype("M8[D]")).all()
    inside = (ship > ship.min()) & (ship < ship.max())  # not clipped, nor missing
    np.testing.assert_array_equal(link.between(order, ship)[inside], drawn[inside])
    before = link.before(ship, drawn)
    np.testing.assert_array_equal(link.after(before, drawn)[inside], ship[inside])


def test_dates_on_closed_days_are_moved_to_the_next_open_one():
    X = business(hours=False)
    link = Table.fit(read(X)).links[0]
    order, ship = (np.array([of, "NaT"], "M8[us]") for of in ("2022-05-05", "2022-05-07"))
    assert link.between(order, ship).tolist()[0].days == 2  # Thursday to Monday
    found = link.after(order, link.between(order, ship)).astype("M8[D]")
    assert found.tolist()[0].isoformat() == "2022-05-09"
    assert np.isnat(found[1])


def test_a_later_date_may_have_other_steps():
    X, rng = business(), np.random.RandomState(0)
    day = X["order"].dt.floor("D")
    stamp, span = day + pd.to_timedelta(rng.randint(0, 86_400, 800), "s"), rng.poisson(0.7, 800)
    month = (day.dt.to_period("M")).dt.to_timestamp()
    same = day + pd.to_timedelta(span, "D")  # often the day of the stamp, which is later
    for parent, child in ((stamp, same), (day, stamp), (month, stamp), (month, day)):
        pair = pd.DataFrame({"parent": parent, "child": child})
        for X in (pair, pl.from_pandas(pair)):
            frame = read(X)
            table = Table.fit(frame)
            assert linked(table) == [("child", "parent")]
            link, (before, after) = table.links[0], frame.columns
            found = apart(frame, [link], table.layout)[1]
            assert (found >= np.timedelta64(0)).all()
            found = link.after(before.astype(after.dtype), found)
            np.testing.assert_array_equal(found, after)
    days = pl.from_pandas(pd.DataFrame({"at": stamp, "day": same})).with_columns(
        pl.col("day").cast(pl.Date)
    )
    encoder = small_encoder().fit(days)
    assert linked(encoder.table_) == [("day", "at")]
    new = encoder.sample(200, random_state=0)
    assert new.schema == days.schema
    assert (new["at"].dt.date() <= new["day"]).all()
    given = days.with_columns(pl.lit(None, pl.Datetime("us")).alias("at"))
    assert encoder.impute(given)["day"].equals(days["day"])


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
    [
        {"child": 4}, {"parent": 1.0}, {"child": 1}, {"usual": 2**63}, {"low": 9, "high": 8},
        {"size": 0}, {"n_bins": 8}, {"closed": [7]}, {"closed": [1, 1]}, {"closed": 3},
        {"closed": list(range(7))},
    ],
)  # fmt: skip
def test_links_of_a_saved_schema_are_checked(change):
    links, types = Table.fit(read(orders())).links, ["datetime"] * 4
    check_links(links, types)
    with pytest.raises(ValueError, match=r"cannot be linked as .*parent"):
        check_links([links[0]._replace(**change), *links[1:]], types)
    for wrong in (links[::-1], [links[0], links[0]], [Link(0, 0, 1, 0, 9, None, 0, 1, 7, [])]):
        with pytest.raises(ValueError, match="cannot be linked"):
            check_links(wrong, types)


def test_steps_of_a_saved_link_divide_the_week():
    table = Table.fit(read(business()))
    check_columns(table)
    state = table.state()
    check_columns(Table.from_state(state))
    (child, *rest) = state["links"][0]
    state["links"] = [[child, *rest[:6], 7 * 60 * 10**6, *rest[7:]]]
    assert Table.from_state(state).links[0].size == 7 * 60 * 10**6
    with pytest.raises(ValueError, match="column 'ship' of the saved schema"):
        check_columns(Table.from_state(state))
