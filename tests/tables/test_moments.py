"""Dates, times and durations of every library: read exactly, and written as they came."""

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from cmim_sklearn._tables.conditions import impose_conditions, read_conditions
from cmim_sklearn._tables.moments import DATE, ZONED, form_of
from cmim_sklearn._tables.read import read
from cmim_sklearn._tables.saved import check_columns, check_layout
from cmim_sklearn._tables.schema import Table
from cmim_sklearn._tables.write import fill, write
from tests.helpers import small_encoder

N = 30
RNG = np.random.default_rng(0)
UNITS = ("s", "ms", "us", "ns")
SECONDS = np.datetime64("2018-01-01", "s") + RNG.integers(0, 10**8, N)
SECONDS[3] = "NaT"
SPANS = SECONDS - SECONDS[0]
DAYS = SECONDS.astype("M8[D]")
TIMES = [None if i == 3 else dt.time(i % 24, i, 5) for i in range(N)]
PARIS = ZoneInfo("Europe/Paris")
MOMENTS = SECONDS.astype("M8[us]").tolist()
AWARE = [m and m.replace(tzinfo=dt.timezone.utc).astimezone(PARIS) for m in MOMENTS]


def in_zone(values, zone):
    return pd.Series(values).dt.tz_localize("UTC").dt.tz_convert(zone)


def arrow(values, kind):
    return pa.array(values).cast(kind) if isinstance(values, np.ndarray) else pa.array(values, kind)


def zoned_polars(unit, zone):
    series = pl.Series(SECONDS.astype(f"M8[{unit}]"))
    return series.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)


ARROW = {
    **{f"timestamp[{u}]": arrow(SECONDS.astype(f"M8[{u}]"), pa.timestamp(u)) for u in UNITS},
    **{
        f"timestamp[{u}] {zone}": arrow(SECONDS.astype(f"M8[{u}]"), pa.timestamp(u, zone))
        for u, zone in zip(UNITS, ("UTC", "Europe/Paris", "+02:00", "Asia/Kolkata"), strict=True)
    },
    **{f"duration[{u}]": arrow(SPANS.astype(f"m8[{u}]"), pa.duration(u)) for u in UNITS},
    "date32": arrow(DAYS.tolist(), pa.date32()),
    "date64": arrow(DAYS.tolist(), pa.date64()),
    **{f"time32[{u}]": arrow(TIMES, pa.time32(u)) for u in ("s", "ms")},
    **{f"time64[{u}]": arrow(TIMES, pa.time64(u)) for u in ("us", "ns")},
}
PANDAS = {
    **{f"dates {u}": pd.Series(SECONDS.astype(f"M8[{u}]")) for u in UNITS},
    **{f"zoned {u}": in_zone(SECONDS.astype(f"M8[{u}]"), "Europe/Paris") for u in UNITS},
    "UTC": in_zone(SECONDS, "UTC"),
    "offset": in_zone(SECONDS, dt.timezone(dt.timedelta(hours=-3, minutes=-30))),
    **{f"spans {u}": pd.Series(SPANS.astype(f"m8[{u}]")) for u in UNITS},
    **{f"arrow {name}": pd.Series(pd.arrays.ArrowExtensionArray(a)) for name, a in ARROW.items()},
}
POLARS = {
    "Date": pl.Series(DAYS.tolist(), dtype=pl.Date),
    "Time": pl.Series(TIMES, dtype=pl.Time),
    **{f"Datetime {u}": pl.Series(SECONDS.astype(f"M8[{u}]")) for u in UNITS[1:]},
    **{f"Duration {u}": pl.Series(SPANS.astype(f"m8[{u}]")) for u in UNITS[1:]},
    "Datetime UTC": zoned_polars("ms", "UTC"),
    "Datetime Paris": zoned_polars("ns", "Europe/Paris"),
}
OBJECTS = {
    "dates": DAYS.tolist(),
    "datetimes": MOMENTS,
    "aware": AWARE,
    "times": TIMES,
    "timedeltas": SPANS.astype("m8[us]").tolist(),
    "Timestamps": [m and pd.Timestamp(m) for m in MOMENTS],
    "zoned Timestamps": [m and pd.Timestamp(m) for m in AWARE],
    "Timedeltas": [None if np.isnat(s) else pd.Timedelta(s) for s in SPANS],
    "datetime64": [None if np.isnat(s) else s for s in SECONDS.astype("M8[ns]")],
    "timedelta64": [None if np.isnat(s) else s for s in SPANS.astype("m8[ms]")],
}
ARRAYS = {
    **{f"M8[{u}]": SECONDS.astype(f"M8[{u}]") for u in ("Y", "M", "W", "D", "h", "m", *UNITS)},
    **{f"m8[{u}]": SPANS.astype(f"m8[{u}]") for u in ("W", "D", "h", "m", *UNITS)},
    "big-endian": SECONDS.astype(">M8[us]"),
    "25 s": SECONDS.astype("M8[25s]"),
}
TABLES = {
    **{f"pandas {name}": pd.DataFrame({"x": s}) for name, s in PANDAS.items()},
    **{f"polars {name}": pl.DataFrame({"x": s}) for name, s in POLARS.items()},
    **{f"pyarrow {name}": pa.table({"x": a}) for name, a in ARROW.items()},
    **{f"objects {n}": pd.DataFrame({"x": pd.Series(v, dtype=object)}) for n, v in OBJECTS.items()},
    **{f"array of {n}": np.array([v, v], dtype=object).T for n, v in OBJECTS.items()},
    **{f"array {name}": np.stack([a, a], axis=1) for name, a in ARRAYS.items()},
}


def assert_same(back, X):
    assert type(back) is type(X)
    if isinstance(X, pd.DataFrame):
        pd.testing.assert_frame_equal(back, X)
        assert list(map(type, back["x"])) == list(map(type, X["x"]))
    elif isinstance(X, np.ndarray):
        assert back.dtype == X.dtype
        np.testing.assert_array_equal(back, X)
        assert list(map(type, back.flat)) == list(map(type, X.flat))
    else:
        assert back.equals(X)
        assert back.schema == X.schema


@pytest.mark.parametrize("name", TABLES)
def test_dates_are_read_and_written_exactly(name):
    X = TABLES[name]
    frame = read(X)
    assert_same(write(frame.layout, frame.columns, frame.types, frame.index), X)
    (values, *_), form = frame.columns, form_of(frame.layout.dtype_of(0))
    assert values.dtype == form.dtype
    assert np.isnat(values).tolist() == [i == 3 for i in range(N)]
    if form.holds in (DATE, ZONED) and form.dtype == "M8[us]":
        assert values.tolist() == MOMENTS


@pytest.mark.parametrize("name", list(TABLES)[::3])
def test_a_fitted_table_decodes_to_the_form_that_came_in(name):
    X = TABLES[name]
    frame = read(X)
    table = Table.fit(frame)
    check_layout(table.layout)
    check_columns(table)
    cells = table.encode(frame)
    back = read(table.decode(cells))
    assert back.layout == frame.layout
    again = Table.from_state(table.state())
    np.testing.assert_array_equal(again.encode(frame), cells)
    # Values within 1 % of the range, and their first and last date.
    span = np.nanmax(frame.columns[0]) - np.nanmin(frame.columns[0])
    assert np.nanmax(np.abs(back.columns[0] - frame.columns[0])) <= 0.01 * span + span / N


@pytest.mark.parametrize("name", [n for n in TABLES if not n.startswith("array")])
def test_missing_dates_are_filled_in_their_form(name):
    X = TABLES[name]
    frame = read(X)
    value = np.sort(frame.columns[0])[:1]
    filled = fill(X, frame, frame.layout, frame.types, np.array([3]), [value])
    found = read(filled)
    assert found.layout == frame.layout
    assert found.columns[0][3] == value[0]
    kept = np.arange(N) != 3
    np.testing.assert_array_equal(found.columns[0][kept], frame.columns[0][kept])


def test_mixed_objects_take_the_type_and_unit_that_hold_all():
    values = [dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 2), pd.Timestamp(5, unit="ns")]
    for kinds, unit in ((2, "us"), (3, "ns")):
        frame = read(pd.DataFrame({"x": pd.Series(values[:kinds], dtype=object)}))
        assert frame.columns[0].dtype == f"M8[{unit}]"
        (back,) = write(frame.layout, frame.columns, frame.types)["x"].array[:1]
        assert back == dt.datetime(2020, 1, 1)
    zones = [AWARE[0], AWARE[0].astimezone(dt.timezone(dt.timedelta(hours=9)))]
    assert read([[zone] for zone in zones]).layout.dtypes[0]["zone"] == "UTC"


@pytest.mark.parametrize("dtype", ["M8[Y]", "M8[M]", "M8[W]", "M8[h]", "M8[25s]", "m8[W]", "m8[h]"])
def test_decoded_dates_are_rounded_to_the_unit_of_arrays(dtype):
    dtype = np.dtype(dtype)
    whole = np.array([[-9], [0], [54], [2**10], ["NaT"]], dtype)
    frame = read(whole)
    shift = (whole[1:2, 0] + 1).astype(frame.columns[0].dtype) - frame.columns[0][1:2]
    for part, later in ((2, 0), (3, 1)):
        columns = [frame.columns[0] + shift * part // 5]
        found = write(frame.layout, columns, frame.types)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, whole + later)
        filled = fill(whole, frame, frame.layout, frame.types, np.array([4]), [columns[0][2:3]])
        assert filled[4] == whole[2] + later


ENDS = [dt.datetime(1, 1, 1, 3), dt.datetime(9999, 7, 1), dt.datetime(9999, 12, 31, 23)]


@pytest.mark.parametrize("hours", [-5, 9, 0, None])
def test_first_and_last_dates_of_python_return(hours):
    zone = PARIS if hours is None else dt.timezone(dt.timedelta(hours=hours))
    hidden = [dt.datetime(2024, 10, 27, 2, 30, fold=fold) for fold in (0, 1)]
    values = [day.replace(tzinfo=zone) for day in (*ENDS, *hidden)]
    frame = read([[value] for value in [*values, None]])
    found = write(frame.layout, frame.columns, frame.types)
    assert [row[0] for row in found] == [*values, None]
    assert [row[0].fold for row in found[:-1]][-1] == (hours is None)


@pytest.mark.parametrize(("day", "hours"), [(ENDS[0], 9), (ENDS[2], -5)])
def test_dates_beyond_the_years_of_python_raise(day, hours):
    values = [DAY.replace(tzinfo=PARIS), day.replace(tzinfo=dt.timezone(dt.timedelta(hours=hours)))]
    match = r"^Column 0 must .* years 1 to 9999 of its time zone, 'UTC'; got datetime.* in row 1\."
    with pytest.raises(ValueError, match=match):
        read([[value] for value in values])


def test_masked_dates_are_missing():
    X = np.ma.array(np.stack([DAYS, DAYS], 1), mask=False)
    X[4, 1] = np.ma.masked
    assert np.isnat(read(X).columns[1]).tolist() == [i in (3, 4) for i in range(N)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([MOMENTS[0], AWARE[0]], "'x' must hold dates with a time zone or dates without one; got"),
        (
            [TIMES[0], DAYS.tolist()[0]],
            "'x' must hold values of one kind; got date and time values",
        ),
        ([dt.timedelta(1), "a"], "'x' must hold .* got str and timedelta values"),
        ([dt.time(1, tzinfo=dt.timezone.utc)], r"'x' must hold times of day without a time zone"),
        ([np.timedelta64(1, "Y")], r"'x' must .* or dates in years.*; got np.timedelta64\(1,'Y'\)"),
        ([pd.Period("2020-01")], r"'x' holds Period values\. Convert periods to their start"),
        ([pd.Interval(0, 1)], r"'x' holds Interval values\. Split intervals into their two ends"),
    ],
)
def test_objects_that_cannot_be_one_column_raise(values, message):
    with pytest.raises(TypeError, match=message):
        read(pd.DataFrame({"x": pd.Series(values * 2, dtype=object)}))


def test_units_that_cannot_hold_the_dates_raise():
    with pytest.raises(ValueError, match=r"that its unit 'ns' can hold; got datetime.* in row 1"):
        read([[np.datetime64(1, "ns")], [dt.datetime(3000, 1, 1)]])
    with pytest.raises(TypeError, match=r"X must hold .* got the dtype timedelta64\[M\]"):
        read(np.zeros((3, 2), "m8[M]"))
    table = Table.fit(read(pd.DataFrame({"x": DAYS.astype("M8[ns]")})))
    later = read(pd.DataFrame({"x": np.array(["3000-01-01"], "M8[s]")}))
    with pytest.raises(ValueError, match="'x' must hold values that its unit in fit, 'ns', can"):
        table.encode(later)


FITTED = pd.DataFrame(
    {
        "naive": SECONDS.astype("M8[us]"),
        "zoned": in_zone(SECONDS, "Europe/Paris"),
        "time": pd.Series(TIMES, dtype=object),
        "span": SPANS.astype("m8[us]"),
        "number": 1.0 * np.arange(N),
        "word": ["a", "b"] * (N // 2),
    }
)
ROW = FITTED[:1]
DATED = ["naive", "zoned", "time", "span"]


@pytest.fixture(scope="module")
def table():
    return Table.fit(read(FITTED))


def other_values():
    values = {"number": 5.0, "word": "a"} | {name: FITTED[name][0] for name in DATED}
    for name in FITTED:
        for other, value in values.items():
            if other != name and {name, other} != {"number", "word"}:
                yield name, value


@pytest.mark.parametrize(("name", "value"), other_values())
def test_columns_that_held_other_values_in_fit_raise(table, name, value):
    X = ROW.assign(**{name: pd.Series([value], index=ROW.index)})
    with pytest.raises(ValueError, match=f"Column '{name}' must hold .* as in fit; got"):
        table.encode(read(X, table.types))


@pytest.mark.parametrize("name", DATED)
def test_columns_without_dates_are_missing_whatever_their_dtype(table, name):
    expected = table.encode(read(ROW.assign(**{name: pd.Series([pd.NaT], dtype=object)})))
    for nothing in (None, np.nan, pd.NaT, np.datetime64("NaT"), np.timedelta64("NaT")):
        X = ROW.assign(**{name: nothing})
        np.testing.assert_array_equal(table.encode(read(X)), expected)


def test_the_same_instants_of_another_library_unit_and_zone_are_encoded_equally(table):
    expected = table.encode(read(FITTED))
    others = FITTED.assign(
        naive=FITTED["naive"].dt.as_unit("s"), zoned=FITTED["zoned"].dt.tz_convert("Asia/Tokyo")
    )
    for X in (others, pl.from_pandas(FITTED), pa.Table.from_pandas(FITTED)):
        np.testing.assert_array_equal(table.encode(read(X, table.types)), expected)


@pytest.mark.parametrize("kind", ["gaussian", "categorical", "poisson", "bernoulli", "duration"])
def test_dates_have_their_own_kind(kind):
    with pytest.raises(ValueError, match=f"'naive' holds dates .* 'datetime'; got '{kind}'"):
        Table.fit(read(FITTED), likelihoods={"naive": kind})
    with pytest.raises(ValueError, match=r"'naive' holds dates .*; got 'categorical'"):
        Table.fit(read(FITTED), categorical_features=["naive"])


@pytest.mark.parametrize("name", ["number", "word"])
@pytest.mark.parametrize("kind", ["datetime", "duration"])
def test_kinds_of_dates_need_dates(name, kind):
    with pytest.raises(ValueError, match=f"'{kind}' needs .*, but column '{name}' holds"):
        Table.fit(read(FITTED), likelihoods={name: kind})


# -- conditions ------------------------------------------------------------------------------------

DAY = dt.datetime(2019, 3, 4)
IN_PARIS = DAY.replace(tzinfo=PARIS)
CONDITIONS = {
    "naive": [
        "2019-03-04", "2019-03-04T00:00", " 2019-03-04 00:00:00.000", DAY, DAY.date(),
        pd.Timestamp(DAY), np.datetime64(DAY), np.array(DAY, "M8[ns]"),
    ],
    "zoned": [
        "2019-03-04", "2019-03-04T00:00+01:00", "2019-03-03T23:00Z", "2019-03-04 00:00+0100", DAY,
        "2019-03-04T00", "2019-03-04T00:00+01", "2019-03-04T00+01", "2019-03-03T23Z",
        "2019-03-04T04+05:00", "2019-03-03T19:30:00.0 -0330",
        DAY.date(), IN_PARIS, IN_PARIS.astimezone(dt.timezone.utc), pd.Timestamp(IN_PARIS),
        np.datetime64("2019-03-04"),
    ],
    "time": ["03:00:05", "03:00:05.0", dt.time(3, 0, 5)],
    "span": ["2 days", "P2D", dt.timedelta(2), pd.Timedelta("2D"), np.timedelta64(48, "h")],
}  # fmt: skip
EXPECTED = {"naive": DAY, "zoned": IN_PARIS, "time": dt.time(3, 0, 5), "span": dt.timedelta(2)}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in CONDITIONS.items() for v in vs])
def test_conditions_are_dates_of_all_types(table, name, value):
    frames = [read_conditions(table, {name: value})]
    if getattr(value, "ndim", 0) == 0 and not isinstance(value, np.ndarray):
        frames.append(read_conditions(table, pd.DataFrame({name: [value, None]})))
    for frame in frames:
        rows = np.zeros(2, int)
        decoded = table.raw_columns(table.encode(read(FITTED[:2])))
        columns = impose_conditions(decoded, frame, rows)
        out = write(table.layout, columns, table.types)
        assert out.dtypes.tolist() == FITTED.dtypes.tolist()
        assert out[name].tolist() == [EXPECTED[name]] * 2


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("naive", "monday", r"column 'naive' must hold dates without a time zone; got 'monday'"),
        ("naive", "2019-13-01", "got '2019-13-01'. Pass a date, or a string such as"),
        ("naive", "2019", "got '2019'"),
        ("naive", "2019-03-04T00:00Z", "must hold dates without a time zone; got '2019.*Z'"),
        ("naive", IN_PARIS, r"as in fit; got 2019-03-03T23.* \(dates with a time zone\)"),
        ("naive", 5, "'naive' must hold dates without a time zone, as in fit; got 5 in row 0"),
        ("naive", dt.time(3), r"got .*03:00.* \(times of day\)"),
        ("naive", np.datetime64(1, "ns"), "unit in fit, 'us', can hold; got .*000000001"),
        ("naive", "2019-03-04T00:00+05", r"must hold dates without a time zone; got '2019.*\+05'"),
        ("naive", "2019-03-04T00-05", "must hold dates without a time zone; got '2019.*-05'"),
        (
            "zoned",
            "2019-03-04T00:00+24:00",
            r"^`conditions`: column 'zoned' must .* got '2019.*\+24",
        ),
        ("zoned", "2019-03-04T00:00+01:75", r"'zoned' must .* got '2019.*\+01:75'"),
        ("zoned", "2019-03-04+01:00", r"'zoned' must .* got '2019-03-04\+01:00'"),
        ("zoned", "2019-03-04T00:00 Paris", "'zoned' must .* got '2019.*Paris'"),
        ("time", "12:30-05", "must hold times of day; got '12:30-05'"),
        ("time", "12-05:00", "must hold times of day; got '12-05:00'"),
        ("time", "2019-03-04T03:00", "must hold times of day; got '2019-03-04T03:00'. Pass a dat"),
        ("time", "2019-03-04", "must hold times of day; got '2019-03-04'. Pass a datetime.time"),
        ("time", "25:00", "must hold times of day; got '25:00'. Pass a datetime.time"),
        ("time", DAY, r"must hold times of day.*\(dates without a time zone\)"),
        ("span", "2 weeks", "must hold durations; got .2 weeks.. Pass a datetime.timedelta"),
        ("span", DAY, r"must hold durations, as in fit; got 2019"),
        ("naive", slice(DAY, DAY), r"`conditions\['naive'\]` must be a single value; got slice"),
        ("naive", (DAY, DAY), r"`conditions\['naive'\]` must be a single value; got 2 values"),
        ("number", DAY, "'number' must hold numbers, as in fit; got the date"),
        ("word", DAY, "unknown level datetime"),
    ],
)
def test_conditions_that_are_no_dates_of_the_column_raise(table, name, value, message):
    with pytest.raises(ValueError, match=message):
        read_conditions(table, {name: value})


def test_a_constant_date_takes_only_itself():
    constant = Table.fit(read(FITTED.assign(naive=pd.Timestamp(DAY))))
    read_conditions(constant, {"naive": "2019-03-04"})
    noon = pd.Timestamp(IN_PARIS).replace(hour=12)
    local = Table.fit(read(FITTED.assign(zoned=noon)))
    with pytest.raises(ValueError, match=r"'2019-03-04T12:00.*'; got '2019-03-05T00:00"):
        read_conditions(local, {"zoned": "2019-03-05"})
    with pytest.raises(ValueError, match=r"constant in fit, '2019-03-04T.*'; got '2019-03-05"):
        read_conditions(constant, {"naive": "2019-03-05"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("day", "2022-03-03T12:00", "steps of 1 day from '2022-01-03T00.*; got '2022-03-03T12"),
        (
            "zoned",
            "2022-03-03T12:00",
            "steps of 1 day from '2022-01-03T00.*; got '2022-03-03T12",
        ),
        ("slot", "2022-03-03T12:10", r"steps of 15 minutes from '.*'.*; got '2022-03-03T12:10"),
        (
            "after",
            "2022-03-03T12:00:09",
            "steps of 1 minute from '.*; got '2022-03-03T12:00:09",
        ),
        ("month", "2022-03-03", r"steps of 1 month from '2022-01-01.*'.*; got '2022-03-03"),
        ("span", "1 day", r"steps of 6 hours from '1:00:00', as in fit; got '1 day"),
    ],
)
def test_conditions_between_steps_raise(name, value, message):
    day = pd.Series(pd.Timestamp("2022-01-03") + pd.to_timedelta(np.arange(60), "D"))
    slot = day[::-1].reset_index(drop=True) + pd.to_timedelta(15 * RNG.integers(0, 96, 60), "m")
    after = slot + pd.to_timedelta(RNG.integers(0, 60, 60), "m")
    X = pd.DataFrame({"day": day, "slot": slot, "after": after})
    X["zoned"] = day.dt.tz_localize("Europe/Paris")
    X["month"] = pd.date_range("2022-01-01", periods=60, freq="MS").to_numpy()
    X["span"] = pd.to_timedelta(1 + 6 * RNG.permutation(60), "h")
    table = Table.fit(read(X))
    read_conditions(table, X[:2])
    read_conditions(table, {"zoned": "2033-03-03", "slot": "2033-03-03T12:15", "day": None})
    with pytest.raises(ValueError, match=f"^`conditions`: column '{name}' must be in {message}"):
        read_conditions(table, {name: value})


@pytest.mark.parametrize("value", ["9999-12-31T23:00-02:00", "0001-01-01T00:00"])
def test_conditions_beyond_the_years_of_python_raise(table, value):
    with pytest.raises(ValueError, match=r"column 'zoned' must .* years 1 to 9999 .*'Europe"):
        read_conditions(table, {"zoned": value})


# -- whole encoders --------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_calibration")
def test_whole_days_of_a_zone_stay_whole_days():
    days = np.datetime64("2020-01-01", "us") + 86_400 * 10**6 * RNG.integers(0, 700, 60)
    X = pd.DataFrame(
        {"day": pd.Series(days).dt.tz_localize("Europe/Paris"), "x": RNG.normal(size=60)}
    )
    X.index = pd.Index(range(60, 0, -1), name="row")
    encoder = small_encoder(max_iter=2).fit(X)
    back = encoder.inverse_transform(encoder.transform(X))
    lacking = X.assign(day=X["day"].where(X.index > 5))
    filled = encoder.impute(lacking)
    for table in (back, filled, encoder.sample(50, random_state=0)):
        assert table.dtypes.tolist() == X.dtypes.tolist()
        assert (table["day"].dt.normalize() == table["day"]).all()
        assert table["day"].between(X["day"].min(), X["day"].max()).all()
    assert filled.index.equals(X.index)
    assert np.isfinite(encoder.score_samples(X)).all()
    assert (encoder.sample(3, conditions={"day": "2020-05-01"})["day"].dt.day_of_year == 122).all()
