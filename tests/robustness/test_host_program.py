"""Settings of a host program: nothing fails, and results keep their bits."""

import contextlib
import copy
import functools
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import cmim_sklearn
from cmim_sklearn import CMIMEncoder, Corruption, InfoNCEEncoder, MIMEncoder, geometry
from cmim_sklearn.mutual_information import KSG, NWJ, mutual_information
from tests.helpers import ENCODERS, make_mixed, small_encoder

pytestmark = pytest.mark.usefixtures("short_calibration")


@contextlib.contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_device():
    torch.set_default_device("meta")  # a device that every machine has; its tensors hold no values
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextlib.contextmanager
def threads(n):
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
        assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def everything():
    with contextlib.ExitStack() as stack:
        for name, setting in HOSTS.items():
            if name != "everything":
                stack.enter_context(setting())
        yield


HOSTS = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "another device": default_device,
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "deterministic": deterministic,
    "numpy raises": lambda: np.errstate(all="raise"),
    "threads": lambda: threads(3),
    "everything": everything,
}
"""Context managers of the settings of a host program, by name."""


def results(encoder, X):
    """Results of a fitted encoder, by the name of the method."""
    found = {"transform": encoder.transform(X)}
    if hasattr(encoder, "sample"):
        found |= {
            "sample": encoder.sample(20, random_state=0),
            "conditions": encoder.sample(2, conditions={"city": "Oslo"}, random_state=0),
            "impute": encoder.impute(X[:9]),
            "scores": encoder.score_samples(X[:3]),
            "inverse": encoder.inverse_transform(found["transform"][:5]),
        }
    return found


def assert_same(found, expected):
    for name, value in expected.items():
        if hasattr(value, "equals"):
            assert found[name].equals(value), name
        else:
            np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.fixture(scope="module")
def expected(mixed_rows):
    """Function from the name of a class to the results without any setting."""

    @functools.cache
    def compute(name):
        return results(small_encoder(name).fit(mixed_rows), mixed_rows)

    return compute


@pytest.fixture(scope="module")
def mixed_rows():
    return make_mixed(100)


@pytest.mark.parametrize(
    ("name", "host"),
    [("CMIMEncoder", host) for host in HOSTS]
    + [(name, "everything") for name in ENCODERS if name != "CMIMEncoder"],
)
def test_an_encoder_works_under_any_host_and_gives_the_same_bits(
    name, host, expected, mixed_rows, tmp_path
):
    with HOSTS[host]():
        encoder = small_encoder(name).fit(mixed_rows)
        assert_same(results(encoder, mixed_rows), expected(name))
        encoder.save(tmp_path / "encoder")
        loaded = type(encoder).load(tmp_path / "encoder")
        unpickled = pickle.loads(pickle.dumps(encoder))
        copied = copy.deepcopy(encoder)
        encoder.to_onnx(tmp_path / "onnx")
    assert_same(results(loaded, mixed_rows), expected(name))
    for outside in (encoder, unpickled, copied):
        np.testing.assert_array_equal(outside.transform(mixed_rows), expected(name)["transform"])


def in_parts(path, X):
    X.to_parquet(path / "rows.parquet", row_group_size=30)
    encoder = small_encoder().fit_parquet(path / "rows.parquet", buffer_rows=40)
    encoder.transform_parquet(path / "rows.parquet", path / "features")
    return encoder.transform(X)


class Decoder(nn.Module):
    """Custom decoder that names no dtype."""

    def __init__(self, n_in, n_out, hidden_layer_sizes, activation):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_in, 9), nn.BatchNorm1d(9), nn.Tanh())
        self.output = nn.Linear(9, n_out)

    def forward(self, z):
        return self.output(self.body(z))


def custom(path, X):
    """Custom networks, whose initial weights do depend on the default dtype."""
    encoder = small_encoder(encoder=linear, decoder=Decoder).fit(X)
    encoder.save(path / "encoder")
    loaded = CMIMEncoder.load(path / "encoder", encoder=linear, decoder=Decoder)
    np.testing.assert_array_equal(loaded.transform(X), encoder.transform(X))
    return np.isfinite(encoder.score_samples(X[:5]))


def linear(n_in, n_out, hidden_layer_sizes, activation):
    return nn.Linear(n_in, n_out)


CALLS = {
    "partial_fit": lambda path, X: small_encoder().fit_schema(X).partial_fit(X).transform(X),
    "fit_parquet": in_parts,
    "custom networks": custom,
    "counts": lambda path, X: small_encoder(likelihoods={"visits": "poisson"}, input_masking=0.2)
    .fit(X, X_val=X[:20])
    .sample(9, random_state=0)["visits"],
    "information": lambda path, X: small_encoder().fit(X).mutual_information(X).estimate,
    "columns": lambda path, X: small_encoder()
    .fit(X[["age", "flag"]])
    .score_columns(X[["age", "flag"]][:1]),
    "draws": lambda path, X: small_encoder()
    .fit(X)
    .impute(X[:9], n_draws=1, random_state=0)[0]["age"],
    "symmetric": lambda path, X: small_encoder(
        "MIMEncoder", symmetric=True, posterior="learned"
    ).fit(X[["income", "age"]]).loss_curve_,
    "view": lambda path, X: small_encoder("InfoNCEEncoder", view=Corruption(0.3, both=True))
    .fit(X)
    .loss_curve_,
    "checkpoint": lambda path, X: small_encoder(
        net_params={"callbacks": [cmim_sklearn.Checkpoint(path, every_epochs=1)]}
    ).fit(X).loss_curve_,
    "critic": lambda path, X: NWJ(max_iter=5, random_state=0).fit(*pairs()).score(*pairs()),
    "neighbours": lambda path, X: KSG().fit(*pairs()).score(*pairs()),
    "folds": lambda path, X: mutual_information(
        *pairs(), cv=2, random_state=0, max_iter=5
    ).estimate,
    "geometry": lambda path, X: [
        geometry.uniformity(pairs()[0], t=900),
        geometry.tolerance(1e-200 * pairs()[0], np.arange(60) % 3),
        geometry.alignment(*pairs()),
    ],
}  # fmt: skip
"""Calls of public functions and classes, with options that take other paths than `results`."""


def pairs():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    return X, X + rng.normal(size=(60, 2))


@pytest.mark.parametrize("name", CALLS)
def test_every_public_function_works_under_any_host(name, mixed_rows, tmp_path):
    paths = tmp_path / "without", tmp_path / "with"
    for path in paths:
        path.mkdir()
    expected = CALLS[name](paths[0], mixed_rows)
    with everything():
        found = CALLS[name](paths[1], mixed_rows)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("n", [2, 4])
def test_bits_do_not_depend_on_the_threads_that_the_host_allows(n):
    """Of a table and a network that are large enough for torch to use several threads."""
    X = np.random.default_rng(0).normal(size=(2000, 30))

    def fit_and_use():
        encoder = CMIMEncoder(max_iter=1, random_state=0).fit(X)
        features, scores = encoder.transform(X), encoder.score_samples(X[:3])
        return [features, scores, encoder.sample(500, random_state=0)]

    with threads(1):
        expected = fit_and_use()
    with threads(n):
        found = fit_and_use()
    for part, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(part, wanted)


def test_n_threads_opts_out_within_training_and_use(mixed_rows, monkeypatch):
    seen = []
    build = MIMEncoder._layers

    def layers(self, *args):
        seen.append(torch.get_num_threads())
        return build(self, *args)

    monkeypatch.setattr(MIMEncoder, "_layers", layers)
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    for n_threads, used in ((1, 1), (2, 2), (7, 2)):
        seen.clear()
        encoder = small_encoder("MIMEncoder", net_params={"n_threads": n_threads}).fit(mixed_rows)
        encoder.transform(mixed_rows)
        assert set(seen) == {used}
        assert pickle.loads(pickle.dumps(encoder)).net_params == {"n_threads": n_threads}


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2", None])
def test_invalid_numbers_of_threads_raise(value, mixed_rows):
    with pytest.raises(ValueError, match=rf"net_params\['n_threads'\] must be .*; got {value!r}"):
        InfoNCEEncoder(net_params={"n_threads": value}).fit(mixed_rows)
