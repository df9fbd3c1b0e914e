"""Strings that are dates: durations in conditions, and columns that nobody parsed."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from cmim_sklearn._tables.date_texts import looks_like_dates, parse
from cmim_sklearn._tables.moments import form_of
from cmim_sklearn._tables.read import read
from cmim_sklearn._tables.schema import Table

SPANS = [
    pd.Timedelta(0), pd.Timedelta("3D"), pd.Timedelta("1D"), pd.Timedelta("-1h"),
    pd.Timedelta("-3D"), pd.Timedelta("-5D 7h"), pd.Timedelta("2h 3min 4.000567s"),
    pd.Timedelta("40D 00:00:00.000000001"), pd.Timedelta(2**62), pd.Timedelta(-(2**62)),
]  # fmt: skip


@pytest.mark.parametrize("span", SPANS)
def test_durations_are_read_as_pandas_and_python_write_them(span):
    form = form_of({"dtype": "timedelta64[ns]"})
    texts = [str(span), f" {span} ", span.isoformat()]
    if not span.nanoseconds:
        texts.append(str(span.to_pytimedelta()))
    for value in parse([*texts, None], form, "x")[:-1]:
        assert value == span


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("04:00", 4),
        ("-04:00", -4),
        ("30:00:00", 30),
        ("2 days 01:00", 49),
        ("2D", 48),
        ("P1DT2H", 26),
        ("PT2H", 2),
        ("-P1DT2H", -26),
        ("-1 days 01:00", -25),
    ],
)
def test_forms_of_durations(text, hours):
    form = form_of({"dtype": "timedelta64[s]"})
    assert parse([text], form, "x")[0] == np.timedelta64(hours, "h")


@pytest.mark.parametrize(
    "text", ["", "3", "P", "PT", "P1M", "two days", "2h", "1 days 25", "9" * 40]
)
def test_other_strings_are_no_durations(text):
    form = form_of({"dtype": "timedelta64[s]"})
    with pytest.raises(ValueError, match=r"'x' must hold durations; got .* such as '3 days'"):
        parse([text], form, "x")


def test_durations_that_the_unit_of_the_column_cannot_hold_raise():
    form = form_of({"dtype": "timedelta64[s]"})
    for text in ("00:00:00.5", "0 days 00:00:00.000000001"):
        with pytest.raises(ValueError, match="'x' must hold values that its unit in fit, 's', can"):
            parse([text], form, "x")
    with pytest.raises(ValueError, match="must hold"):
        parse(["99999999999999999999 days"], form, "x")


DAYS = pd.date_range("2023-12-20 08:30", periods=30, freq="29h")
FORMATS = [
    "%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%m-%d-%Y", "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M", "%d/%m/%Y %H:%M", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%d %H:%M:%S+01:00", "%Y-%m-%d %H:%M:%S+01",
    "%m/%d/%Y %I:%M %p", "%d %b %Y", "%d-%b-%Y", "%B %d, %Y", "%Y.%m.%d",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_strings_in_usual_forms_look_like_dates(form):
    texts = DAYS.strftime(form)
    assert looks_like_dates(np.array([None, *texts], dtype=object))
    assert looks_like_dates(np.array(["N/A", "", "unknown", *texts], dtype=object))


OTHERS = {
    "codes": [f"{day:%Y%m%d}-{i}" for i, day in enumerate(DAYS)],
    "digits": [f"{day:%Y%m%d}" for day in DAYS],
    "order numbers": [f"2024-{i:05}" for i in range(30)],
    "articles": [f"2024-{i:02}-{i:02}" for i in range(1, 31)],
    "versions": [f"{i}.{j}.0" for i in range(3) for j in range(9)],
    "versions of years": [f"202{i}.{j}.1" for i in range(3) for j in range(1, 10)],
    "addresses": [f"10.{i}.12.2024" for i in range(30)],
    "phones": [f"555-{i:02}-2024" for i in range(30)],
    "scores": [f"{i}-{j}" for i in range(5) for j in range(5)],
    "fractions": [f"{i}/{j}" for i in range(5) for j in range(5)],
    "years": [str(year) for year in range(1990, 2020)],
    "months": [f"{day:%Y-%m}" for day in DAYS],
    "words": ["Mar", "May", "2024-01-01 Mars", "Jan 1"],
    "dates and codes": [*DAYS.strftime("%Y-%m-%d"), "A1"],
    "dates and words": [*DAYS.strftime("%Y-%m-%d"), *"abcd"],
    "mixed types": [*DAYS.strftime("%Y-%m-%d"), 5],
    "two": ["2024-01-01", "2024-01-02"] * 15,
    "nothing": [None] * 30,
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_strings_do_not(name):
    assert not looks_like_dates(np.array(OTHERS[name], dtype=object))


X = pd.DataFrame(
    {"sent": DAYS.strftime("%Y-%m-%d"), "paid": DAYS.strftime("%d.%m.%Y"), "n": np.arange(30.0)}
)


@pytest.mark.parametrize(
    ("table", "how"),
    [
        (X, "pandas.to_datetime"),
        (X.astype({"sent": object}), "pandas.to_datetime"),
        (X.astype({"sent": "string[pyarrow]"}), "pandas.to_datetime"),
        (X.to_numpy(dtype=object), "pandas.to_datetime"),
        (pl.from_pandas(X), "str.to_datetime or str.to_date of polars"),
        (pa.Table.from_pandas(X), "pyarrow.compute.strptime"),
    ],
)
def test_one_warning_names_the_columns_and_says_how_to_parse_them(table, how):
    names = "0, 1" if isinstance(table, np.ndarray) else "'sent', 'paid'"
    match = rf"like dates are .* Columns: {names}, such as '2023-12-20'. .* with {how}, or name"
    with pytest.warns(UserWarning, match=match) as caught:
        Table.fit(read(table), max_categories=10)  # no second warning of many levels
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("table", "options"),
    [
        (X, {"categorical_features": ["sent", "paid"]}),
        (X, {"likelihoods": {"sent": "categorical", "paid": "categorical"}}),
        (X.astype({"sent": "category", "paid": "category"}), {}),
        (pl.from_pandas(X).cast({"sent": pl.Categorical, "paid": pl.Enum(list(X["paid"]))}), {}),
        (pa.table({"sent": pa.array(X["sent"]).dictionary_encode()}), {}),
        (X.assign(sent=pd.to_datetime(X["sent"]), paid=list(DAYS.date)), {}),
    ],
)
def test_declared_and_parsed_columns_cause_no_warning(table, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Table.fit(read(table), **options)
