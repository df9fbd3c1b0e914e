"""ONNX: graphs give what `transform` and `inverse_transform` give, by another runtime.

Features have a deviation of sqrt(20 / width), 0.14 to 2 here; float32 rounding moves them by some
1e-6. TOLERANCE is what may differ.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

import cmim_sklearn
from cmim_sklearn import AEEncoder, CMIMEncoder, InfoNCEEncoder, VAEEncoder
from cmim_sklearn._likelihoods.joint import LIKELIHOODS
from cmim_sklearn._likelihoods.scaling import SCALINGS, ScalingMap, quantile_map
from cmim_sklearn._models.features import EMBEDDINGS
from cmim_sklearn.latents import POSTERIORS
from cmim_sklearn.networks import ACTIVATIONS
from cmim_sklearn.onnx import register
from cmim_sklearn.onnx._export import export
from cmim_sklearn.onnx._graph import forward_segments, inverse_segments
from tests.conftest import make_mixed

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

TOLERANCE = 1e-4
QUICK = {"max_iter": 2, "hidden_layer_sizes": (16, 8), "n_components": 4, "random_state": 0}
HOUSES = Path(__file__).parents[2] / "examples" / "data" / "california_housing.csv"
ENCODERS = [
    encoder
    for encoder in (getattr(cmim_sklearn, name) for name in cmim_sklearn.__all__)
    if hasattr(encoder, "to_onnx")
]


def run(model, feeds):
    """Outputs by name."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def cells(X, encoder):
    """Feeds of a frame: doubles with NaN, strings with ''."""
    feeds = {}
    for name, kind in zip(X.columns, encoder.table_.types, strict=True):
        values = X[name].astype(object).where(X[name].notna(), None)
        if kind == "category":
            values = ["" if value is None else str(value) for value in values]
            feeds[str(name)] = np.array(values, dtype=object)[:, None]
        else:
            values = [np.nan if value is None else float(value) for value in values]
            feeds[str(name)] = np.array(values)[:, None]
    return feeds


def transformed(encoder, X):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Values not seen in fit")
        return encoder.transform(X)


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
            # float32 differs by some 1e-7, which now and then rounds to the next of the decimals.
            values, step = values.to_numpy(float), 1.01 * steps[p]
            same = np.isclose(own[:, 0], values, rtol=2e-5, atol=1e-6, equal_nan=True)
            near = np.isclose(own[:, 0], values, rtol=2e-5, atol=step, equal_nan=True)
            assert same.mean() > 0.95
            assert near.all()


def strange(n_rows=60):
    """Mixed rows that fit did not see: holes, unknown levels, values far out, nothing at all."""
    X = make_mixed(n_rows, seed=1).astype(object)
    X.loc[0, "word"], X.loc[1, "city"] = "never seen", "Paris"
    X.loc[2, "flag"] = 5
    X.loc[3, ["income", "score"]] = 1e12, -1e12
    X.loc[4, ["income", "age", "score"]] = -1e300, 1e300, 1e30
    X.loc[5] = None
    X.loc[6, ["age", "visits"]] = np.nan
    X.loc[7, "visits"] = -3
    X.loc[8, "age"] = 40.3
    return X


@pytest.fixture(scope="module")
def encoder():
    return CMIMEncoder(**QUICK, likelihoods={"visits": "poisson"}).fit(make_mixed())


@pytest.fixture(scope="module")
def houses():
    return pd.read_csv(HOUSES)[:3000]


def test_the_table_here_has_columns_of_all_kinds(encoder):
    assert {block.kind for block in encoder.table_.blocks} == set(LIKELIHOODS)


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_embeddings(encoder, embedding):
    encoder.set_params(embedding=embedding)
    X = strange()
    assert_embeds(encoder, X)
    assert_decodes(encoder, transformed(encoder, X))
    assert_decodes(encoder, 30 * transformed(encoder, X))  # cut to the training range


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
def test_options(options):
    encoder = CMIMEncoder(**(QUICK | options)).fit(make_mixed())
    X = strange()
    assert_embeds(encoder, X)
    assert_decodes(encoder, transformed(encoder, make_mixed(seed=2)))


@pytest.mark.parametrize("sibling", ENCODERS)
def test_the_family(sibling):
    encoder = sibling(**QUICK).fit(make_mixed())
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
    encoder = CMIMEncoder(**QUICK).fit(X)
    features = encoder.transform(X)
    feeds = cells(X, encoder)
    model = export(encoder)
    (name,) = (put.name for put in model.graph.output)
    assert name not in feeds
    np.testing.assert_allclose(run(model, feeds)[name], features, atol=TOLERANCE)
    feeds["with an empty one"][:] = "no such level"
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


def test_floats_of_what_was_doubles_are_the_same_atoms():
    values = np.round(np.random.RandomState(0).rand(300, 1) * 3) / 10
    encoder = AEEncoder(**QUICK).fit(values)
    got = run(export(encoder), {"X": values.astype(np.float32).astype(float)})["embedding"]
    np.testing.assert_allclose(got, encoder.transform(values), atol=TOLERANCE)


@pytest.mark.parametrize("pair", [(0.1, 0.3), (1e9, 1e9 + 1)])
def test_two_values_are_told_apart_by_what_precision_it_takes(pair):
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


@pytest.mark.parametrize("seed", range(5))
def test_segments_are_the_scaling_map(seed):
    rng = np.random.RandomState(seed)
    values = [rng.randn(400), rng.poisson(2, 400), 1e7 + rng.poisson(9, 400)][seed % 3]
    if seed > 2:
        values = np.where(rng.rand(400) < 0.4, [0, 0.1, -7][seed - 2], values)
    m = quantile_map(np.asarray(values, float))
    reach = m.reach.clip(0)
    around = [m.x + share * reach for share in (-1.01, -0.99, 0, 0.99, 1.01)]
    around += [np.nextafter(m.x, -np.inf), np.nextafter(m.x, np.inf)]
    points = np.concatenate([*around, rng.uniform(m.x[0] - 3, m.x[-1] + 3, 2000)])
    points = points[(points == 0) | (np.abs(points) > np.finfo(float).tiny)]  # 5e-324 counts as 0
    np.testing.assert_allclose(evaluate(forward_segments(m), points), m.forward(points), atol=1e-9)
    ends = np.concatenate([m.below, m.above, m.y])
    points = np.concatenate([ends, rng.uniform(ends.min() - 3, ends.max() + 3, 2000)])
    np.testing.assert_allclose(evaluate(inverse_segments(m), points), m.inverse(points), rtol=1e-9)


def evaluate(segments, points):
    assert (np.diff(segments.start) >= 0).all()
    s = np.searchsorted(segments.start, points, side="right") - 1
    return segments.base[s] + (points - segments.origin[s]) * segments.slope[s]


def test_a_jump_between_atoms_is_decoded_as_the_map_does():
    m = ScalingMap([0, 1, 2], [-1, 0, 1], [-1, -0.5, 0.5], [-0.5, 0.5, 1])
    points = np.array([-3, -1, -0.5, 0, 0.5, 1, 3.0])
    np.testing.assert_array_equal(evaluate(inverse_segments(m), points), m.inverse(points))


class Convolved(nn.Module):
    """A network of one's own, whose hidden states have three axes."""

    def __init__(self, n_in, n_out, hidden_layer_sizes, activation):
        super().__init__()
        self.body = nn.Sequential(
            nn.Sequential(nn.Linear(n_in, 12), nn.Unflatten(1, (3, 4)), nn.Softplus()),
            nn.Conv1d(3, 2, 3, padding=1),
        )
        self.output = nn.Sequential(nn.Flatten(), nn.Linear(8, n_out))

    def forward(self, x):
        return self.output(self.body(x))


def test_networks_of_ones_own():
    pytest.importorskip("onnxscript")
    encoder = CMIMEncoder(**QUICK, encoder=Convolved, decoder=Convolved).fit(make_mixed())
    assert_embeds(encoder, strange())
    assert_decodes(encoder, encoder.transform(make_mixed(seed=2)))


def test_an_encoder_of_ones_own_without_parts():
    pytest.importorskip("onnxscript")

    def plain(n_in, n_out, hidden_layer_sizes, activation):
        return nn.Sequential(nn.Linear(n_in, 9), nn.Softsign(), nn.Linear(9, n_out))

    assert_embeds(InfoNCEEncoder(**QUICK, encoder=plain).fit(make_mixed()), strange())


# -- pipelines -------------------------------------------------------------------------------------


def pipeline_types(X, encoder):
    types = pytest.importorskip("skl2onnx.common.data_types")
    return [
        (
            name,
            types.StringTensorType([None, 1])
            if kind == "category"
            else types.DoubleTensorType([None, 1]),
        )
        for name, kind in zip(X.columns, encoder.table_.types, strict=True)
    ]


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@pytest.mark.parametrize("turned", [False, True])
def test_a_pipeline(embedding, turned):
    skl2onnx = pytest.importorskip("skl2onnx")
    register()
    X = make_mixed()
    y = X.pop("member")
    pipe = make_pipeline(CMIMEncoder(**QUICK, embedding=embedding), LogisticRegression())
    pipe.fit(X, y)
    types = pipeline_types(X, pipe[0])
    model = skl2onnx.to_onnx(
        pipe,
        initial_types=types[::-1] if turned else types,  # columns are found by name
        options={id(pipe): {"zipmap": False}},
    )
    onnx.checker.check_model(model, full_check=True)
    new = strange().drop(columns="member")
    got = run(model, cells(new, pipe[0]))["probabilities"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Values not seen in fit")
        np.testing.assert_allclose(got, pipe.predict_proba(new), atol=TOLERANCE)


def test_a_pipeline_on_arrays():
    skl2onnx = pytest.importorskip("skl2onnx")
    types = pytest.importorskip("skl2onnx.common.data_types")
    register()
    X = np.random.RandomState(0).randn(100, 5).astype(np.float32)
    pipe = make_pipeline(VAEEncoder(**QUICK), LogisticRegression()).fit(X, X[:, 0] > 0)
    model = skl2onnx.to_onnx(
        pipe,
        initial_types=[("rows", types.FloatTensorType([None, 5]))],
        options={id(pipe): {"zipmap": False}},
    )
    got = run(model, {"rows": X})["probabilities"]
    np.testing.assert_allclose(got, pipe.predict_proba(X), atol=TOLERANCE)


def test_initial_types_that_do_not_fit(encoder):
    skl2onnx = pytest.importorskip("skl2onnx")
    register()
    types = pipeline_types(make_mixed(), encoder)
    with pytest.raises(ValueError, match=r"fitted on 8 columns, of strings .* at \[6, 7\]; .* 7,"):
        skl2onnx.to_onnx(encoder, initial_types=types[:-1])
    with pytest.raises(ValueError, match="target_opset must be at least 18"):
        skl2onnx.to_onnx(encoder, initial_types=types, target_opset=15)


# -- errors ----------------------------------------------------------------------------------------


def test_errors(encoder, tmp_path, mixed, quick):
    path = tmp_path / "none.onnx"
    with pytest.raises(ValueError, match=r"output must be one of .*'sample'"):
        encoder.to_onnx(path, "sample")
    with pytest.raises(NotFittedError):
        CMIMEncoder().to_onnx(path)
    with pytest.raises(ValueError, match="InfoNCEEncoder has no decoder"):
        InfoNCEEncoder(**quick).fit(mixed).to_onnx(path, "decode")
    same = pd.DataFrame({"level": np.array([1, "1", "b"] * 9, dtype=object), "x": np.arange(27)})
    same = VAEEncoder(**quick).fit(same)
    for output in ("embedding", "decode"):
        with pytest.raises(ValueError, match="Levels 1 and '1' of one column are the same string"):
            same.to_onnx(path, output)
    assert not path.exists()


@pytest.mark.parametrize("package", ["onnx", "skl2onnx", "onnxscript"])
def test_what_is_not_installed(package, encoder, monkeypatch, mixed, quick):
    def plain(n_in, n_out, hidden_layer_sizes, activation):
        return nn.Linear(n_in, n_out)

    own = InfoNCEEncoder(**quick, encoder=plain).fit(mixed)
    use = {
        "onnx": lambda: export(encoder),
        "skl2onnx": register,
        "onnxscript": lambda: export(own),
    }
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}: pip install 'cmim-sklearn\[onnx\]'"):
        use[package]()


def test_export_changes_nothing(encoder):
    before = {k: v.clone() for k, v in encoder.net_.module.state_dict().items()}
    export(encoder)
    after = encoder.net_.module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
