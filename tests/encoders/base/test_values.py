"""Values that come back as they were: integers beyond 2**53, Decimals, numbers as objects."""

import pickle
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmim_sklearn import CMIMEncoder
from tests.helpers import small_encoder, to_pandas

pytestmark = pytest.mark.usefixtures("short_calibration")

IDS = [1790123456789012345, 1790123456789012346, 1790123456789012399]
FAR = [-(2**63), 2**63 - 1, 2**53 + 1]
TWO = [2**64 - 2, 2**64 - 1]
N = 60


def column(ids, missing=True):
    """Column of N ids, with a missing value in every seventh row."""
    return [None if missing and i % 7 == 3 else ids[i % len(ids)] for i in range(N)]


def as_pandas(dtype):
    return lambda values: pd.DataFrame({"k": pd.Series(values, dtype=dtype), "x": range(N)})


TABLES = {
    "Int64": as_pandas("Int64"),
    "object": as_pandas("object"),
    "int64[pyarrow]": as_pandas("int64[pyarrow]"),
    "polars": lambda values: pl.DataFrame({"k": values, "x": range(N)}),
    "pyarrow": lambda values: pa.table({"k": values, "x": range(N)}),
    "decimal": lambda values: pa.table(
        {"k": pa.array(values, pa.decimal128(38, 0)), "x": range(N)}
    ),
    "array": lambda values: np.array([values, range(N)], dtype=object).T,
    "list": lambda values: [[value, float(i)] for i, value in enumerate(values)],
}


def values(table):
    """First column as Python objects."""
    if isinstance(table, pa.Table | pl.DataFrame):
        return (table["k"].to_pylist if isinstance(table, pa.Table) else table["k"].to_list)()
    first = table.iloc[:, 0] if isinstance(table, pd.DataFrame) else np.array(table, object)[:, 0]
    return [None if value is pd.NA else value for value in first.tolist()]


def check_outputs(encoder, X, ids, are_levels=True):
    tables = [
        encoder.sample(20, random_state=0),
        encoder.reconstruct(X),
        encoder.inverse_transform(encoder.transform(X)),
        encoder.impute(X),
        *encoder.impute(X, n_draws=1, random_state=0),
    ]
    for table in tables:
        found = values(table)
        assert all(min(ids) <= value <= max(ids) for value in found)
        assert all(value == int(value) for value in found)
        assert not are_levels or set(found) <= set(ids)
    observed = zip(values(X), values(tables[3]), strict=True)
    assert all(one in (None, other) for one, other in observed)


@pytest.mark.parametrize(("name", "ids"), zip(TABLES, [IDS, FAR] * 4, strict=True))
def test_integers_as_categories_are_exact(name, ids, tmp_path):
    X = TABLES[name](column(ids))
    encoder = small_encoder(categorical_features=[0]).fit(X)
    check_outputs(encoder, X, ids)
    key = 0 if encoder.table_.layout.names is None else "k"
    for value in ids:
        for given in (value, np.int64(value)):
            assert set(values(encoder.sample(2, conditions={key: given}))) == {value}
    with pytest.raises(ValueError, match=rf"unknown level {ids[0] + 2} for.*fit: .*{ids[0]}"):
        encoder.sample(1, conditions={key: ids[0] + 2})
    encoder.save(tmp_path / "a.cmim")
    for other in (CMIMEncoder.load(tmp_path / "a.cmim"), pickle.loads(pickle.dumps(encoder))):
        assert values(other.sample(9, random_state=0)) == values(encoder.sample(9, random_state=0))
    check_outputs(encoder.partial_fit(X), X, ids)


@pytest.mark.parametrize("name", ["polars", "array", "object", "UInt64"])
def test_two_large_integers_are_two_values(name):
    X = (TABLES | {"UInt64": as_pandas("UInt64")})[name](column(TWO))
    encoder = small_encoder().fit(X)
    assert encoder.table_.blocks[0].kind == "gaussian"
    assert encoder.table_.blocks[1].kind == "bernoulli"
    check_outputs(encoder, X, TWO)
    given = encoder.sample(2, conditions=X[:2])
    assert values(given) == [TWO[0]] * 2 + [TWO[1]] * 2
    other = TABLES[name](column([2**64 - 3])) if name in TABLES else X.fillna(2**64 - 3)
    with pytest.warns(UserWarning, match=rf"\({2**64 - 3}"):
        encoder.transform(other)


@pytest.mark.parametrize("name", TABLES)
def test_numeric_integers_stay_in_their_range(name):
    ids = [2**62 + 7 * i for i in range(N)]
    X = TABLES[name](column(ids))
    encoder = small_encoder().fit(X)
    assert encoder.table_.blocks[0].kind == "gaussian"
    check_outputs(encoder, X, ids, are_levels=False)
    frame = encoder.table_.encode(encoder._read(X, reset=False, min_rows=1))
    assert len(np.unique(frame[:, 0][~np.isnan(frame[:, 0])])) == N - len(range(3, N, 7))
    key = 0 if encoder.table_.layout.names is None else "k"
    assert set(values(encoder.sample(2, conditions={key: 2**63 - 1}))) == {2**63 - 1}
    one = small_encoder().fit(TABLES[name](column([2**60 + 1])))
    assert set(values(one.sample(5))) == {2**60 + 1}


def test_numbers_too_far_apart_for_float64_are_named():
    X = pd.DataFrame({"k": pd.array(column([2**64 - 1, 2**64 - 2, 5]), "UInt64"), "x": range(N)})
    with pytest.warns(UserWarning, match=r"Column 'k' has 3 distinct numbers.* 1 of them .*featu"):
        encoder = small_encoder().fit(X)
    check_outputs(encoder, X, [5, 2**64 - 1], are_levels=False)
    mixed = pd.DataFrame({"k": [2**60, 2**60 + 1, 0.5] * 20}, dtype=object)
    with pytest.warns(UserWarning, match="Column 'k' has 3 distinct numbers"):
        small_encoder().fit(mixed)


def test_codes_that_were_read_as_floats_are_named():
    X = pd.DataFrame({"k": np.array(column(IDS), float), "x": range(N)})
    with pytest.warns(UserWarning, match=r"Column 'k' holds levels beyond .* as floats.*'Int64'"):
        small_encoder(categorical_features=["k"]).fit(X)
    small_encoder().fit(X)  # numbers: no warning


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_large_integers_are_conditions_of_columns_of_floats(make):
    encoder = small_encoder().fit(make({"k": np.linspace(0, 1e37, N), "x": np.arange(N)}))
    for given in (10**36, 2**60):
        assert values(encoder.sample(2, conditions={"k": given})) == [float(given)] * 2


def test_counts_beyond_2_to_53_raise():
    X = pd.DataFrame({"k": IDS * 20, "x": range(N)})
    with pytest.raises(ValueError, match=r"'poisson' needs counts of at most .*'k' has 1\.79"):
        small_encoder(likelihoods={"k": "poisson"}).fit(X)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (2.0**63, "whole number from -9223372036854775808 to 9223372036854775807; got 9.2"),
        (2**63, "whole number from .* got 9223372036854775808"),
        (2**62 + 0.5, None),
        (2.0**60, None),
    ],
)
def test_conditions_of_integers_are_compared_exactly(given, message):
    encoder = small_encoder().fit(pd.DataFrame({"k": IDS * 20, "x": range(N)}))
    if message is None:
        assert set(encoder.sample(2, conditions={"k": given})["k"]) == {int(given)}
    else:
        with pytest.raises(ValueError, match=message):
            encoder.sample(1, conditions={"k": given})


@pytest.mark.parametrize(
    "options", [{"categorical_features": ["k"]}, {}], ids=["levels", "numbers"]
)
def test_large_integers_of_parquet_files_are_exact(options, tmp_path):
    rows = column(IDS)
    if options:  # the first row group has small numbers
        rows = [5, None, *range(2, 9), *rows]
    pq.write_table(
        pa.table({"k": pa.array(rows, pa.int64()), "x": range(len(rows))}),
        tmp_path / "a.parquet",
        row_group_size=10,
    )
    encoder = small_encoder(batch_size=10, **options)
    encoder.fit_parquet(tmp_path / "a.parquet", buffer_rows=20)
    X = pa.table({"k": column(IDS), "x": range(N)})
    known = {value for value in rows if value is not None}
    check_outputs(encoder, X, known, are_levels=bool(options))
    if options:
        assert all(type(level) is int for level in encoder.table_.likelihood.blocks[1].levels[0])
    assert values(encoder.sample(1, conditions={"k": IDS[1]})) == [IDS[1]]


CENTS = [Decimal(i % 40) / 4 for i in range(N)]
DECIMALS = {
    "cents": (CENTS, 2),
    "two": ([Decimal("0.1"), Decimal("0.20")] * (N // 2), 2),
    "thirds": ([1 / Decimal(3 + i % 9) for i in range(N)], 29),
    "ids": ([Decimal(IDS[i % 3]) for i in range(N)], 0),
    "tiny": ([Decimal(i % 9).scaleb(-30) for i in range(N)], 30),
    "thousands": ([Decimal(i % 9) * Decimal("1E+3") for i in range(N)], 0),
}


@pytest.mark.parametrize("options", [{"categorical_features": [0]}, {}], ids=["levels", "numbers"])
@pytest.mark.parametrize(
    ("case", "name"), zip(DECIMALS, ["object", "array", "list"] * 2, strict=True)
)
def test_decimals_come_back_as_decimals(case, name, options, tmp_path):
    column, scale = DECIMALS[case]
    X = TABLES[name]([None if i % 7 == 3 else v for i, v in enumerate(column)])
    encoder = small_encoder(**options).fit(X)
    tables = [
        encoder.sample(20, random_state=0),
        encoder.reconstruct(X),
        encoder.inverse_transform(encoder.transform(X)),
        encoder.impute(X),
        encoder.impute(X[3:4]),  # no Decimal in these rows
        *encoder.impute(X, n_draws=1, random_state=0),
    ]
    for table in tables:
        found = values(table)
        assert {type(value) for value in found} == {Decimal}
        assert all(min(column) <= value <= max(column) for value in found)
        assert not options or set(found) <= set(column)
    assert options or {-value.as_tuple().exponent for value in values(tables[0])} == {scale}
    pairs = zip(values(X), values(tables[3]), strict=True)
    assert all(one is None or str(one) == str(other) for one, other in pairs)
    encoder.save(tmp_path / "a.cmim")
    again = values(CMIMEncoder.load(tmp_path / "a.cmim").sample(20, random_state=0))
    assert list(map(str, again)) == list(map(str, values(tables[0])))


@pytest.mark.parametrize("name", ["polars", "object"])
def test_generated_numbers_are_on_the_grid_of_the_data(name, tmp_path):
    rng = np.random.RandomState(0)
    prices = [0.95, 1.45, 2.99, 7.25, 8.05, 26.55, 211.3375]
    columns = {
        "weight": np.round(0.005 * rng.randint(0, 300, 200), 3),
        "amount": 100 * rng.randint(0, 300, 200),
        "price": rng.choice(prices, 200),
    }
    X = pl.DataFrame(columns)
    X = X if name == "polars" else X.to_pandas().astype(object)
    encoder = small_encoder().fit(X)
    encoder.save(tmp_path / "a.cmim")
    again = CMIMEncoder.load(tmp_path / "a.cmim")
    gaps = to_pandas(X).astype(float).mask(rng.rand(200, 3) < 0.3)
    imputed = encoder.impute(gaps, n_draws=1, random_state=0)[0]
    for made in (
        encoder.sample(300, random_state=0),
        again.sample(300, conditions={"price": 8.05}, random_state=0),
        imputed,
    ):
        weight, amount, price = to_pandas(made).astype(float).to_numpy().T
        np.testing.assert_allclose(np.round(weight / 0.005) * 0.005, weight, atol=1e-9)
        assert (amount % 100 == 0).all()
        assert set(price) <= set(prices)
    np.testing.assert_array_equal(
        encoder.sample(50, random_state=1), again.sample(50, random_state=1)
    )


def test_conditions_of_decimals_keep_all_their_decimals():
    X = pd.DataFrame({"k": CENTS, "x": range(N)})
    encoder = small_encoder().fit(X)
    for given in (Decimal("2.505"), 2.505, Decimal("2.5"), 3):
        (found,) = encoder.sample(1, conditions={"k": given})["k"]
        assert type(found) is Decimal
        assert found == Decimal(str(given))
    typed = small_encoder().fit(pl.DataFrame({"k": pl.Series(CENTS, dtype=pl.Decimal(10, 2))}))
    assert typed.sample(1, conditions={"k": 2.25})["k"].to_list() == [Decimal("2.25")]
    with pytest.raises(
        ValueError, match=r"'k' must be a number with at most 2 decimals.*got 2\.505"
    ):
        typed.sample(1, conditions={"k": 2.505})


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame({"k": pd.Categorical(CENTS), "x": range(N)}),
        pd.DataFrame({"k": [Decimal("1.50"), "a", 2] * 20, "x": range(N)}),
        np.array([[Decimal("1.50"), "a", 2] * 20, range(N)], dtype=object).T,
    ],
    ids=["category", "mixed", "array"],
)
def test_categories_of_decimals_can_be_saved(X, tmp_path):
    encoder = small_encoder().fit(X)
    encoder.save(tmp_path / "a.cmim")
    sampled = values(CMIMEncoder.load(tmp_path / "a.cmim").sample(20, random_state=0))
    assert list(map(str, sampled)) == list(map(str, values(encoder.sample(20, random_state=0))))
    assert set(map(str, sampled)) <= set(map(str, values(X)))
    if isinstance(X, pd.DataFrame):
        assert to_pandas(encoder.sample(1)).dtypes.equals(X.dtypes)


def test_conditions_on_categories_become_the_levels_of_fit():
    X = pd.DataFrame({"k": pd.Categorical([Decimal("0.10"), Decimal("2.5")] * 30), "x": range(N)})
    for given in (0.1, Decimal("0.1"), np.float64(0.1)):
        found = small_encoder().fit(X).sample(2, conditions={"k": given})["k"]
        assert list(map(str, found)) == ["0.10", "0.10"]
        assert found.dtype == X["k"].dtype


@pytest.mark.parametrize("make", [float, int])
def test_whole_numbers_of_object_columns_keep_their_type(make):
    frame = pd.DataFrame({"k": [make(i % 9) for i in range(N)], "w": ["a", "b"] * 30}, dtype=object)
    for X in (frame, frame.to_numpy()):
        encoder = small_encoder().fit(X)
        for table in (encoder.sample(5), encoder.reconstruct(X)):
            assert {type(value) for value in values(table)} == {make}


FAR_FROM_LOW = {
    "sentinel": [-1, 1790123456789012345, 1790123456789019999],
    "powers": [0, 2**60 + 1, 2**61 + 1],
    "negative": [-(2**61) - 1, -(2**60) - 1, 5],
    "tenths": [Decimal(0), Decimal("0.12345678901234567891"), Decimal("0.2")],
}


@pytest.mark.parametrize("name", ["object", "polars", "pyarrow"])
@pytest.mark.parametrize("case", FAR_FROM_LOW)
def test_repeated_numbers_far_from_the_smallest_are_exact(name, case, tmp_path):
    ids = FAR_FROM_LOW[case]
    X = TABLES[name](column(ids))
    encoder = small_encoder(max_iter=1).fit(X)
    encoder.save(tmp_path / "a.cmim")
    for model in (encoder, CMIMEncoder.load(tmp_path / "a.cmim")):
        for table in (
            model.sample(100, random_state=0),
            model.inverse_transform(model.transform(X)),
            *model.impute(X, n_draws=2, random_state=0),
        ):
            assert set(values(table)) <= set(ids)
    assert set(values(encoder.sample(100, random_state=0))) == set(ids)


LONG = [Decimal("0.1"), Decimal("12345678901234567.1"), Decimal("5.3")]
DECIMAL_TABLES = {
    "pyarrow": TABLES["pyarrow"],
    "polars": lambda values: pl.DataFrame(
        {"k": pl.Series(values, dtype=pl.Decimal(30, 1)), "x": range(N)}
    ),
    "pandas": lambda values: as_pandas(pd.ArrowDtype(pa.decimal128(30, 1)))(values),
    "object": TABLES["object"],
}


@pytest.mark.parametrize("options", [{"categorical_features": [0]}, {}], ids=["levels", "numbers"])
@pytest.mark.parametrize("n_values", [2, 3])
@pytest.mark.parametrize("name", DECIMAL_TABLES)
def test_rows_of_decimals_do_not_depend_on_other_rows(name, n_values, options):
    """The first row has a number that float64 holds, others of the column do not."""
    X = DECIMAL_TABLES[name](column(LONG[:n_values], missing=False))
    encoder = small_encoder(max_iter=1, **options).fit(X)
    np.testing.assert_array_equal(encoder.transform(X[:1]), encoder.transform(X)[:1])
    np.testing.assert_allclose(encoder.score_samples(X[:1]), encoder.score_samples(X)[:1], 1e-5)
    assert values(encoder.sample(1, conditions={"k": 0.1})) == LONG[:1]
    floats = pd.DataFrame({"k": [0.1], "x": [0]})
    np.testing.assert_array_equal(encoder.transform(floats), encoder.transform(X)[:1])


def test_floats_next_to_decimals_are_decimals():
    X = pd.DataFrame({"k": [Decimal("0.1"), 0.1] * 30, "x": range(N)})
    encoder = small_encoder(max_iter=1).fit(X)
    assert set(map(str, encoder.sample(5)["k"])) == {"0.1"}
    X["k"] = [Decimal("0.1"), 0.1, 0.25] * 20
    encoder = small_encoder(max_iter=1).fit(X)
    assert encoder.table_.blocks[1].kind == "bernoulli"
    assert set(encoder.sample(40, random_state=0)["k"]) == {Decimal("0.1"), Decimal("0.25")}
    assert encoder.impute(X)["k"].tolist() == X["k"].tolist()


def test_levels_may_be_larger_than_numbers(tmp_path):
    large = [10**400, Decimal("1E+401"), 5]
    X = pd.DataFrame({"k": pd.Series(large * 20, dtype=object), "x": range(N)})
    with pytest.raises(ValueError, match=r"'k' must hold numbers .* got 1\.00e\+400 in row 0"):
        small_encoder().fit(X)
    encoder = small_encoder(max_iter=1, categorical_features=["k"]).fit(X)
    encoder.save(tmp_path / "a.cmim")
    for model in (encoder, CMIMEncoder.load(tmp_path / "a.cmim")):
        for given in large:
            assert values(model.sample(1, conditions={"k": given})) == [given]
        assert set(values(model.inverse_transform(model.transform(X)))) <= set(large)


@pytest.mark.parametrize(
    "options", [{"categorical_features": ["k"]}, {}], ids=["levels", "numbers"]
)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("0.1", "0.3"),
        ("0.1", "12345678901234567.3"),
        ("12345678901234567.3", "0.1"),
        ("562949953421312.2", "562949953421312.3"),
    ],
)
def test_decimals_of_a_stream_have_the_schema_of_the_whole(first, second, options, tmp_path):
    rows = [Decimal(first)] * 30 + [Decimal(first), Decimal(second)] * 15
    X = pa.table({"k": pa.array(rows, pa.decimal128(20, 1)), "x": range(N)})
    pq.write_table(X, tmp_path / "a.parquet", row_group_size=30)
    states = []
    for n in (20, 1000):
        encoder = small_encoder(max_iter=1, batch_size=10, **options)
        encoder.fit_parquet(tmp_path / "a.parquet", buffer_rows=n)
        states.append(encoder.table_.state())
        assert set(values(encoder.sample(60, random_state=0))) == set(rows)
    for state in states:  # that of x depends on the sample
        state["blocks"] = [block for block in state["blocks"] if block["positions"] == [0]]
        assert len(state["blocks"]) == 1
    assert repr(states[0]) == repr(states[1])


def test_decimals_without_any_value_are_read_from_a_stream(tmp_path):
    X = pa.table({"k": pa.array([None] * N, pa.decimal128(25, 2)), "x": range(N)})
    pq.write_table(X, tmp_path / "a.parquet", row_group_size=30)
    with pytest.warns(UserWarning, match="Columns without any value in fit: 'k'"):
        encoder = small_encoder(max_iter=1).fit_parquet(tmp_path / "a.parquet", buffer_rows=20)
    assert values(encoder.sample(2)) == [None, None]
