"""Exported models: ONNX Runtime returns what `transform` and `inverse_transform` return."""

import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from cmim_sklearn import AEEncoder, CMIMEncoder, InfoNCEEncoder, VAEEncoder
from cmim_sklearn._encoders.base.parameters import ENCODERS
from cmim_sklearn._likelihoods import LIKELIHOODS
from cmim_sklearn._likelihoods.poisson import Poisson
from cmim_sklearn._likelihoods.scaling import SCALINGS
from cmim_sklearn._models.features import EMBEDDINGS
from cmim_sklearn._tables.moments import MOMENTS
from cmim_sklearn.latents import POSTERIORS
from cmim_sklearn.networks import ACTIVATIONS
from cmim_sklearn.onnx import _export
from cmim_sklearn.onnx._export import export
from tests.helpers import make_mixed, warns_of_empty_columns
from tests.onnx.conftest import QUICK, TOLERANCE, cells, run, strange, transformed

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

HOUSES = Path(__file__).parents[2] / "examples" / "data" / "california_housing.csv"


@pytest.fixture(scope="module")
def houses():
    return pd.read_csv(HOUSES)[:3000]


def assert_embeds(encoder, X):
    wanted, got = transformed(encoder, X), run(export(encoder), cells(X, encoder))
    assert list(got) == ["embedding"]
    assert got["embedding"].dtype == np.float32
    np.testing.assert_allclose(got["embedding"], wanted, rtol=TOLERANCE, atol=TOLERANCE)


def assert_decodes(encoder, features):
    wanted = encoder.inverse_transform(features)
    got = run(export(encoder, "decode"), {"embedding": features})
    assert list(got) == [str(name) for name in wanted.columns]
    steps = {}
    for block, kind in zip(encoder.table_.blocks, encoder.table_.likelihood.blocks, strict=True):
        decimals = getattr(kind, "decimals", [0] * kind.n_columns)
        for p, d in zip(block.positions, decimals, strict=True):
            steps[p] = 10.0 ** -(6 if d is None else d)
    for p, (name, values) in enumerate(wanted.items()):
        own = got[str(name)]
        assert own.shape == (len(wanted), 1)
        if encoder.table_.types[p] == "category":
            texts = values.astype(object).where(values.notna(), "").astype(str)
            assert list(own[:, 0]) == list(texts)
        elif values.dtype == bool:
            assert own.dtype == bool
            assert list(own[:, 0]) == list(values)
        else:
            # float32 differs by about 1e-7, which sometimes changes the last decimal.
            values, step = values.to_numpy(float), 1.01 * steps[p]
            same = np.isclose(own[:, 0], values, rtol=2e-5, atol=1e-6, equal_nan=True)
            near = np.isclose(own[:, 0], values, rtol=2e-5, atol=step, equal_nan=True)
            assert same.mean() > 0.95
            assert near.all()


def test_the_test_table_has_all_kinds_of_columns(encoder):
    assert {block.kind for block in encoder.table_.blocks} == set(LIKELIHOODS) - set(MOMENTS)


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_every_embedding(encoder, embedding):
    encoder.set_params(embedding=embedding)
    X = strange()
    assert_embeds(encoder, X)
    assert_decodes(encoder, transformed(encoder, X))
    assert_decodes(encoder, 30 * transformed(encoder, X))  # clipped to the training range


@pytest.mark.parametrize(
    "options",
    [
        *({"numeric_scaling": scaling} for scaling in SCALINGS),
        *({"activation": activation} for activation in ACTIVATIONS),
        *({"posterior": posterior} for posterior in POSTERIORS if posterior != "point"),
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": (), "embedding": "mean"},
        {"max_categories": 2},
        {"categorical_features": ["visits", "member", "score"], "max_categories": 4},
        {"likelihoods": {"member": "gaussian"}},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Column 'score' has")
def test_every_option(options):
    encoder = CMIMEncoder(**(QUICK | options)).fit(make_mixed())
    X = strange()
    assert_embeds(encoder, X)
    assert_decodes(encoder, transformed(encoder, make_mixed(seed=2)))


@pytest.mark.parametrize("cls", ENCODERS.values(), ids=list(ENCODERS))
def test_every_encoder(cls):
    encoder = cls(**QUICK).fit(make_mixed())
    assert_embeds(encoder, strange())
    if hasattr(encoder, "inverse_transform"):
        assert_decodes(encoder, transformed(encoder, strange()))


def test_a_real_table_and_a_file(houses, tmp_path):
    encoder = CMIMEncoder(**QUICK, embedding="hidden").fit(houses[:2000])
    assert_embeds(encoder, houses)
    assert_decodes(encoder, transformed(encoder, houses[2000:]))
    path = tmp_path / "houses.onnx"
    assert encoder.to_onnx(path) is None
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(path)
    assert [put.name for put in session.get_inputs()] == list(houses.columns)
    whole = session.run(None, cells(houses[:50], encoder))[0]
    rows = [session.run(None, cells(houses[i : i + 1], encoder))[0] for i in range(50)]
    np.testing.assert_allclose(np.concatenate(rows), whole, atol=TOLERANCE / 10)
    encoder.to_onnx(str(path), "decode")
    assert [put.name for put in onnx.load(path).graph.input] == ["embedding"]


def test_odd_columns():
    rng = np.random.RandomState(0)
    n = 80
    X = pd.DataFrame(
        {
            "constant": 3.25,
            "lone zero": np.zeros(n),
            "nothing": np.full(n, np.nan),
            "no flag": pd.array([None] * n, dtype="boolean"),
            "no level": pd.Categorical([None] * n, categories=["a"]),
            "a flag": pd.array(rng.choice([True, False, None], n), dtype="boolean"),
            "one level": "same",
            "mixed": rng.choice(np.array([1, "a", 2.5, False, None], dtype=object), n),
            "with an empty one": rng.choice(["", "b"], n),
            "many zeros": np.where(rng.rand(n) < 0.5, 0, rng.lognormal(size=n)),
            "tenths": rng.randint(8, size=n) / 10,
            "ids": 1e15 + np.arange(n),
            "huge": rng.randn(n) * 1e200,
            "embedding": rng.randn(n),
            "_0_0": rng.randn(n),
        }
    )
    with warns_of_empty_columns(X):
        encoder = CMIMEncoder(**QUICK).fit(X)
    features = encoder.transform(X)
    feeds = cells(X, encoder)
    feeds["nothing"][:], feeds["no flag"][:] = 7.0, 1.0  # count as missing
    model = export(encoder)
    (name,) = (put.name for put in model.graph.output)
    assert name not in feeds
    np.testing.assert_allclose(run(model, feeds)[name], features, atol=TOLERANCE)
    feeds["with an empty one"][:] = "unknown level"
    without = encoder.transform(X.assign(**{"with an empty one": None}))
    np.testing.assert_allclose(run(model, feeds)[name], without, atol=TOLERANCE)

    decoded = run(export(encoder, "decode"), {name: features})
    wanted = encoder.inverse_transform(features)
    for nothing in ("nothing", "no flag"):
        assert np.isnan(decoded[nothing]).all()
    assert set(decoded["no level"][:, 0]) == {""}
    assert decoded["a flag"].dtype == bool
    for column in ("constant", "lone zero", "a flag", "tenths", "ids", "many zeros"):
        values = wanted[column].to_numpy(float)
        np.testing.assert_allclose(decoded[column][:, 0].astype(float), values, rtol=1e-6)
    for column in ("one level", "mixed", "with an empty one"):
        assert list(decoded[column][:, 0]) == [str(level) for level in wanted[column]]


def test_float32_values_hit_the_atoms_of_doubles():
    values = np.round(np.random.RandomState(0).rand(300, 1) * 3) / 10
    encoder = AEEncoder(**QUICK).fit(values)
    got = run(export(encoder), {"X": values.astype(np.float32).astype(float)})["embedding"]
    np.testing.assert_allclose(got, encoder.transform(values), atol=TOLERANCE)


@pytest.mark.parametrize("pair", [(0.1, 0.3), (1e9, 1e9 + 1)])
def test_two_values_differ_in_single_or_else_double_precision(pair):
    values = np.random.RandomState(0).choice(pair, (100, 2))
    encoder = AEEncoder(**QUICK).fit(values)
    for kind in (np.float32, float)[pair[0] > 1 :]:
        got = run(export(encoder), {"X": values.astype(kind).astype(float)})["embedding"]
        np.testing.assert_allclose(got, encoder.transform(values), atol=TOLERANCE)


@pytest.mark.parametrize("dtype", [float, np.float32, np.int64, bool])
def test_an_array_is_one_tensor(dtype):
    X = (10 * np.random.RandomState(0).rand(50, 6)).astype(int).astype(dtype)
    encoder = VAEEncoder(**QUICK).fit(X)
    features = encoder.transform(X)
    got = run(export(encoder), {"X": X.astype(float)})["embedding"]
    np.testing.assert_allclose(got, features, atol=TOLERANCE)
    decoded = run(export(encoder, "decode"), {"embedding": features})["X"]
    assert decoded.dtype == (bool if dtype is bool else float)
    np.testing.assert_array_equal(decoded, encoder.inverse_transform(features))


def test_an_array_of_objects_has_a_tensor_for_each_column():
    rng = np.random.RandomState(0)
    X = np.stack([rng.randn(50), rng.choice(["a", "b"], 50)], axis=1, dtype=object)
    encoder = VAEEncoder(**QUICK).fit(X)
    feeds = {"x0": X[:, :1].astype(float), "x1": X[:, 1:]}
    got = run(export(encoder), feeds)["embedding"]
    np.testing.assert_allclose(got, encoder.transform(X), atol=TOLERANCE)
    assert list(run(export(encoder, "decode"), {"embedding": got})) == ["x0", "x1"]


class Convolved(nn.Module):
    """A custom network, whose hidden states have three axes."""

    def __init__(self, n_in, n_out, hidden_layer_sizes, activation):
        super().__init__()
        self.body = nn.Sequential(
            nn.Sequential(nn.Linear(n_in, 12), nn.Unflatten(1, (3, 4)), nn.Softplus()),
            nn.Conv1d(3, 2, 3, padding=1),
        )
        self.output = nn.Sequential(nn.Flatten(), nn.Linear(8, n_out))

    def forward(self, x):
        return self.output(self.body(x))


def without_parts(n_in, n_out, hidden_layer_sizes, activation):
    """A custom encoder that has no body and no output layer."""
    return nn.Sequential(nn.Linear(n_in, 9), nn.Softsign(), nn.Linear(9, n_out))


@pytest.mark.slow
def test_custom_networks():
    pytest.importorskip("onnxscript")
    networks = {"encoder": without_parts, "decoder": Convolved}
    encoder = CMIMEncoder(**QUICK, **networks).fit(make_mixed())
    assert_embeds(encoder, strange())
    assert_decodes(encoder, encoder.transform(make_mixed(seed=2)))


# -- errors ----------------------------------------------------------------------------------------


def test_export_errors(encoder, tmp_path, mixed, quick):
    path = tmp_path / "none.onnx"
    with pytest.raises(ValueError, match=r"`output` must be one of .*; got 'sample'"):
        encoder.to_onnx(path, "sample")
    with pytest.raises(NotFittedError):
        CMIMEncoder().to_onnx(path)
    with pytest.raises(
        ValueError, match="'embedding' for InfoNCEEncoder, which has no decoder; got 'decode'"
    ):
        InfoNCEEncoder(**quick).fit(mixed).to_onnx(path, "decode")
    same = pd.DataFrame({"level": np.array([1, "1", "b"] * 9, dtype=object), "x": np.arange(27)})
    same = VAEEncoder(**quick).fit(same)
    for output in ("embedding", "decode"):
        with pytest.raises(ValueError, match=r"differ as strings, .*; got 1 and '1'\. Rename"):
            same.to_onnx(path, output)
    assert not path.exists()


def large_numbers(n=60):
    """Table of numbers that doubles cannot hold, as levels, as two values and as numbers."""
    ids = 1790123456789012345 + np.arange(n) % 3
    frame = pd.DataFrame(
        {
            "id": pd.Series(ids, dtype="Int64"),
            "two": 2**63 + (np.arange(n) % 2).astype("uint64"),
            "flag": np.arange(n) % 2,
            "cents": [Decimal(i % 9) / 4 for i in range(n)],
            "long": [Decimal("12345678901234567.25") + i % 2 for i in range(n)],
            "time": 1790123456789012345 + 10**12 * np.arange(n),
            "huge": pd.Series([10**400, 5, 10**306] * (n // 3), dtype=object),
        }
    )
    frame.loc[::7, "id"] = pd.NA
    return frame


def test_levels_that_doubles_cannot_hold_are_strings():
    X = large_numbers()
    encoder = CMIMEncoder(**QUICK, categorical_features=["id", "huge"]).fit(X)
    strings, feeds = ["id", "two", "long", "huge"], {}
    for name, values in X.items():
        is_string = name in strings
        texts = values.astype(str).where(values.notna(), "")
        column = texts.astype(object) if is_string else values.astype(float)
        feeds[name] = column.to_numpy()[:, None]
    features = encoder.transform(X)
    got = run(export(encoder), feeds)["embedding"]
    np.testing.assert_allclose(got, features, rtol=TOLERANCE, atol=TOLERANCE)
    unknown = feeds | {"two": np.array([["5"]] * len(X), dtype=object)}
    with pytest.warns(UserWarning, match=r"'two' \(5\)"):
        wanted = encoder.transform(X.assign(two=np.uint64(5)))
    got = run(export(encoder), unknown)["embedding"]
    np.testing.assert_allclose(got, wanted, rtol=TOLERANCE, atol=TOLERANCE)
    got, wanted = (
        run(export(encoder, "decode"), {"embedding": features}),
        encoder.inverse_transform(features),
    )
    for name in strings:
        assert got[name][:, 0].tolist() == list(map(str, wanted[name]))
    for name in ("flag", "cents"):
        assert got[name][:, 0].tolist() == wanted[name].astype(float).tolist()
    np.testing.assert_allclose(got["time"][:, 0], wanted["time"].astype(float), rtol=1e-9)


def test_numbers_that_are_equal_as_doubles_raise():
    encoder = CMIMEncoder(**QUICK).fit(pd.DataFrame({"k": 2**62 + np.arange(60)}))
    for output in ("embedding", "decode"):
        with pytest.raises(ValueError, match=r"column 'k' has numbers from 4\.6.*categorical_feat"):
            export(encoder, output)


def test_names_are_distinct_strings():
    X = pd.DataFrame(np.random.RandomState(0).randn(20, 2), columns=["", "x"])
    assert [put.name for put in export(CMIMEncoder(**QUICK).fit(X)).graph.input] == ["x0", "x"]
    encoder = CMIMEncoder(**QUICK).fit(X.set_axis(["", "x0"], axis=1))
    with pytest.raises(ValueError, match=r"must differ as strings.*got 'x0' more than once"):
        export(encoder)


@pytest.mark.parametrize("values", [(3.0, 2.0**24), (3.0, 2.0**24 + 1), (0.1, 2.0**24)])
def test_whole_values_are_compared_in_double_precision(values):
    encoder = CMIMEncoder(**QUICK).fit(np.array(values * 20)[:, None])
    X = np.array([*values, np.float32(values[0]), 2.0**24, 2.0**24 + 1])[:, None]
    wanted = transformed(encoder, X)
    got = run(export(encoder), {"X": X})["embedding"]
    np.testing.assert_allclose(got, wanted, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_raises(package, encoder, monkeypatch, mixed, quick):
    def plain(n_in, n_out, hidden_layer_sizes, activation):
        return nn.Linear(n_in, n_out)

    if package == "onnxscript":  # only custom networks need it
        encoder = InfoNCEEncoder(**quick, encoder=plain).fit(mixed)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}: pip install 'cmim-sklearn\[onnx\]'"):
        export(encoder)


@pytest.mark.parametrize(
    ("output", "converters"), [("embedding", "_INPUTS"), ("decode", "_POINTS")]
)
def test_a_kind_of_column_without_a_converter_raises(output, converters, encoder, monkeypatch):
    monkeypatch.delitem(getattr(_export, converters), Poisson)
    match = "must be of kind Gaussian, Bernoulli or Categorical; got Poisson. Write a converter"
    with pytest.raises(NotImplementedError, match=match):
        export(encoder, output)


@pytest.mark.parametrize("output", ["embedding", "decode"])
def test_dates_raise_an_error_that_names_their_columns(output, mixed, quick):
    days = pd.date_range("2024", periods=len(mixed))
    X = pd.DataFrame({"day": days, "wait": days - days[0], "age": mixed["age"].to_numpy()})
    encoder = CMIMEncoder(**quick).fit(X)
    match = "must not hold dates, times or durations; got 'day', 'wait'. Convert them to numbers"
    with pytest.raises(NotImplementedError, match=match):
        export(encoder, output)


def test_export_leaves_the_encoder_unchanged(encoder):
    before = {k: v.clone() for k, v in encoder.net_.module.state_dict().items()}
    export(encoder)
    after = encoder.net_.module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
