"""`InformativeEmbedding`: features of any model, which is left unchanged."""

import copy
import pickle
import re
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks
from skorch import NeuralNet
from torch import nn
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import ExpTransform

from cmim_sklearn import CMIMEncoder, InformativeEmbedding
from cmim_sklearn._models.features import layers
from cmim_sklearn.latents import DiagonalNormal
from tests.helpers import encoded

# -- features --------------------------------------------------------------------------------------


class AutoEncoder(nn.Module):
    def __init__(self, n_in=6, d=3, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(
            nn.Linear(n_in, 10), nn.Tanh(), nn.Dropout(0.5), nn.Linear(10, d)
        )
        self.decoder = nn.Sequential(
            nn.Linear(d, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, n_in), nn.Sigmoid()
        )

    def by_hand(self, X):
        self.eval()
        with torch.no_grad():
            code = self.encoder(torch.as_tensor(np.asarray(X), dtype=torch.float32))
            return self.decoder[:3](code).numpy()


@pytest.fixture
def X():
    return np.random.RandomState(0).randn(40, 6)


@pytest.fixture
def model():
    return AutoEncoder()


def test_features_are_the_input_of_the_last_linear_layer(model, X):
    embedding = InformativeEmbedding(model).fit(X)
    assert embedding.layer_ == "decoder.3"
    features = embedding.transform(X)
    assert features.dtype == np.float32
    assert_array_equal(features, model.by_hand(X))


def test_transform_needs_no_fit_and_does_not_depend_on_batches(model, X):
    expected = model.by_hand(X)
    for size in (1, 7, 40, 1000):
        assert_allclose(
            InformativeEmbedding(model, batch_size=size).transform(X), expected, atol=1e-6
        )
    order = np.random.RandomState(1).permutation(len(X))
    assert_allclose(InformativeEmbedding(model).transform(X[order]), expected[order], atol=1e-6)


def as_normal(code):
    return Normal(code, 0.1)


def as_pair(code):
    return code, torch.full_like(code, 9.0)


def as_pair_with_one_variance(code):
    return code, torch.tensor(-2.0)


def as_model_output(code):
    return OrderedDict(embedding=code, log_covariance=code + 1)


def as_record(code):
    return DiagonalNormal(code, code + 1)


def as_wrapped(code):
    return {"latent_dist": Independent(Normal(code, 0.1), 1)}


@pytest.mark.parametrize(
    "wrap",
    [as_normal, as_pair, as_pair_with_one_variance, as_model_output, as_record, as_wrapped],
)
def test_the_posterior_mean_is_found_in_what_encoders_return(model, X, wrap):
    expected = InformativeEmbedding(model).transform(X)
    wrapped = InformativeEmbedding(model, encode=lambda x: wrap(model.encoder(x)))
    assert_array_equal(wrapped.transform(X), expected)


@pytest.mark.parametrize(
    ("output", "described"),
    [
        (lambda z: (z, z, z), r"a tuple of 3: a tensor \(3, 3\) of float32, a tensor"),
        (
            lambda z: (z, z[:, :1].repeat(1, 7)),
            r"a tuple of 2: .*, a tensor \(3, 7\) of float32",
        ),
        (lambda z: {"hidden": z}, "a dict with hidden"),
        (lambda z: None, "a NoneType"),
        (lambda z: (z.unsqueeze(1), z.unsqueeze(0)), r"a tuple of 2: a tensor \(3, 1, 3\)"),
        (lambda z: z.sum(1), r"a tensor \(3,\) of float32"),
        (lambda z: z[:2], r"a tensor \(2, 3\) of float32"),
        (lambda z: TransformedDistribution(Normal(z, 1.0), [ExpTransform()]), "a Transformed"),
    ],
)
def test_an_output_without_a_code_raises(model, X, output, described):
    embedding = InformativeEmbedding(model, encode=lambda x: output(model.encoder(x)))
    with pytest.raises(TypeError, match=rf"`encode` must return .*; got {described}"):
        embedding.fit(X)


def test_methods_come_before_submodules_and_names_may_be_dotted(X):
    class Split(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = AutoEncoder()
            self.encoder, self.decoder = nn.Identity(), nn.Identity()

        def encode(self, x):
            return self.net.encoder(x)

        def decode(self, z):
            return self.net.decoder(z)

    model = Split()
    expected = model.net.by_hand(X)
    assert_array_equal(InformativeEmbedding(model).transform(X), expected)
    named = InformativeEmbedding(model, encode="net.encoder", decode="net.decoder")
    assert_array_equal(named.transform(X), expected)
    assert named.fit(X).layer_ == "net.decoder.3"


def test_layer_by_name_and_by_callable(model, X):
    by_name = InformativeEmbedding(model, layer="decoder.0").fit(X)
    by_callable = InformativeEmbedding(model, layer=lambda code: code).fit(X)
    assert by_name.layer_ == "decoder.0"
    assert by_callable.layer_ is None
    codes = by_name.transform(X)
    assert codes.shape == (40, 3)
    assert_array_equal(by_callable.transform(X), codes)
    by_module = InformativeEmbedding(model, layer=model.decoder[0]).fit(X)
    assert by_module.layer_ == "decoder.0"
    assert_array_equal(by_module.transform(X), codes)
    later = InformativeEmbedding(model, layer="decoder.4").transform(X)
    with torch.no_grad():
        assert_allclose(later, model.decoder[3](torch.from_numpy(model.by_hand(X))), atol=1e-6)


def test_parts_outside_the_model_are_left_unchanged_too(X):
    model, other = AutoEncoder(), AutoEncoder(seed=1)
    embedding = InformativeEmbedding(model, encode=other.encoder, decode=other.decoder).fit(X)
    assert embedding.layer_ == "decode.3"
    assert other.training
    assert other.encoder[2].training
    assert_array_equal(embedding.transform(X), other.by_hand(X))


def test_models_of_this_package_give_the_features_of_the_encoder(mixed, quick):
    encoder = CMIMEncoder(**quick, embedding="informative").fit(mixed)
    x, model = encoded(encoder, mixed.dropna()), encoder.net_.module
    rows = x.cpu().numpy()
    features = InformativeEmbedding(model).fit(rows).transform(rows)
    (expected,) = layers(model.eval(), x)["informative"]
    assert_allclose(features, expected.detach().cpu(), atol=1e-6)


def test_dtypes_of_model_and_rows(model, X):
    expected = model.by_hand(X)
    for rows in (
        pd.DataFrame(X, columns=list("abcdef")),
        X.tolist(),
        torch.from_numpy(X),
        X.astype("float32"),
        np.asfortranarray(X),
    ):
        assert_allclose(InformativeEmbedding(model).transform(rows), expected, atol=1e-6)
    whole = np.arange(12).reshape(2, 6)  # integers are numbers if the model has no nn.Embedding
    assert_allclose(InformativeEmbedding(model).transform(whole), model.by_hand(whole), atol=1e-6)
    double = copy.deepcopy(model).double()
    assert_allclose(InformativeEmbedding(double).transform(X), expected, atol=1e-6)
    half = InformativeEmbedding(copy.deepcopy(model).bfloat16()).transform(X)
    assert half.dtype == np.float32
    assert_allclose(half, expected, atol=0.1)
    rows = torch.from_numpy(X).to(torch.bfloat16).requires_grad_()
    assert_allclose(InformativeEmbedding(model).transform(rows), expected, atol=0.1)


# -- positions -------------------------------------------------------------------------------------


class Sentences(nn.Module):
    """A recurrent auto-encoder of tokens; state t predicts token t."""

    def __init__(self, d=5, stepwise=False):
        super().__init__()
        torch.manual_seed(0)
        self.stepwise = stepwise
        self.look_up = nn.Embedding(9, 4, padding_idx=0)
        self.inward = nn.GRU(4, d, batch_first=True)
        self.cell = nn.GRUCell(4, d)
        self.output = nn.Linear(d, 9)

    def encode(self, tokens):
        lengths = (tokens != 0).sum(1).clamp(min=1)
        states, _ = self.inward(self.look_up(tokens))
        return states[torch.arange(len(tokens)), lengths - 1]

    def states(self, z, tokens):
        shown = nn.functional.pad(tokens, (1, -1))
        h, states = z, []
        for t in range(tokens.shape[1]):
            h = self.cell(self.look_up(shown[:, t]), h)
            states.append(h)
        return states

    def decode(self, z, tokens):
        states = self.states(z, tokens)
        if self.stepwise:
            return torch.stack([self.output(h) for h in states], 1)
        return self.output(torch.stack(states, 1))


TOKENS = np.array([[1, 2, 3, 4, 0, 0], [5, 6, 0, 0, 0, 0], [7, 8, 1, 2, 3, 4], [0] * 6])


def states_by_hand(model):
    with torch.no_grad():
        tokens = torch.from_numpy(TOKENS)
        return torch.stack(model.states(model.encode(tokens), tokens), 1).numpy()


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "last", "max"])
def test_positions_are_pooled_without_padding(stepwise, pooling):
    model = Sentences(stepwise=stepwise)
    features = InformativeEmbedding(model, pooling=pooling).fit(TOKENS).transform(TOKENS)
    how = {"mean": lambda h: h.mean(0), "last": lambda h: h[-1], "max": lambda h: h.max(0)}
    for states, tokens, got in zip(states_by_hand(model), TOKENS, features, strict=True):
        n = (tokens != 0).sum()
        assert_allclose(got, how[pooling](states[:n]) if n else np.zeros(5), atol=1e-6)
    longer = np.pad(TOKENS, [(0, 0), (0, 3)])
    assert_allclose(
        InformativeEmbedding(model, pooling=pooling).transform(longer), features, atol=1e-6
    )


def test_pooling_none_and_callable():
    model = Sentences()
    states = states_by_hand(model)
    flat = InformativeEmbedding(model, pooling=None).transform(TOKENS)
    assert_allclose(flat, states.reshape(4, -1), atol=1e-6)
    second = InformativeEmbedding(model, pooling=lambda h, batch: h[:, 1] * batch[:, 1:2])
    assert_allclose(second.transform(TOKENS), states[:, 1] * TOKENS[:, 1:2], atol=1e-6)
    with pytest.raises(ValueError, match=r"\(3, w\) for 3 rows; got a tensor \(3, 6, 5\)"):
        InformativeEmbedding(model, pooling=lambda h, batch: h).fit(TOKENS)


@pytest.mark.parametrize(("shown", "n"), [(slice(None, -1), 5), (slice(None), 7)])
def test_masks_are_aligned_with_decoders_that_shift_their_tokens(shown, n):
    """T - 1 states predict the second and later tokens; T + 1 states all of them and the end."""
    model = Sentences()

    def shifted(z, tokens):
        fed = tokens[:, shown] if n == 5 else nn.functional.pad(tokens, (1, 0))
        h, states = z, []
        for t in range(fed.shape[1]):
            h = model.cell(model.look_up(fed[:, t]), h)
            states.append(h)
        return model.output(torch.stack(states, 1))

    one, longer = TOKENS[:1], np.pad(TOKENS[:1], [(0, 0), (0, 4)])
    embedding = InformativeEmbedding(model, decode=shifted)
    alone = InformativeEmbedding(model, decode=shifted).transform(one[:, :4])
    assert_allclose(embedding.transform(one), alone, atol=1e-6)
    assert_allclose(embedding.transform(longer), alone, atol=1e-6)


def test_positions_of_an_image_are_concatenated():
    class Images(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
            self.decoder = nn.Sequential(
                nn.Linear(3, 8), nn.Unflatten(1, (2, 2, 2)), nn.ReLU(),
                nn.ConvTranspose2d(2, 1, 2, stride=2), nn.Sigmoid(),
            )  # fmt: skip

    model, images = Images(), np.random.RandomState(0).rand(5, 1, 4, 4)
    with torch.no_grad():
        maps = model.decoder[:3](model.encoder(torch.from_numpy(images).float())).numpy()
    embedding = InformativeEmbedding(model).fit(images)
    assert embedding.layer_ == "decoder.3"
    with pytest.raises(ValueError, match="X must give 8 features, as in fit; got 18"):
        embedding.set_params(layer=lambda z: z.repeat(1, 6)).transform(images)
    embedding = InformativeEmbedding(model).fit(images)
    assert_allclose(embedding.transform(images), maps.reshape(5, -1), atol=1e-6)
    by_mean = InformativeEmbedding(model, pooling=lambda hidden, batch: hidden.mean((2, 3)))
    assert_allclose(by_mean.transform(images), maps.mean((2, 3)), atol=1e-6)


# -- the model is left unchanged -------------------------------------------------------------------


def state_of(model):
    return {
        name: (m.training, len(m._forward_hooks), len(m._forward_pre_hooks))
        for name, m in model.named_modules()
    }


@pytest.mark.parametrize("mode", [True, False, "mixed"])
@pytest.mark.parametrize("failing", [None, "encoder", "decoder", "later", "pooling"])
def test_mode_hooks_buffers_and_gradients_are_restored(model, X, mode, failing):
    model.encoder.insert(1, nn.BatchNorm1d(10))
    model.train(mode is not False)
    if mode == "mixed":
        model.encoder[1].eval()
    before, weights = state_of(model), copy.deepcopy(model.state_dict())
    params, calls = {}, []

    def fail(x, *others):
        calls.append(len(x))
        if failing != "later" or len(calls) > 2:
            raise ZeroDivisionError
        return model.encoder(x)

    if failing == "pooling":
        params["pooling"] = fail
    elif failing == "later":
        params |= {"encode": fail, "batch_size": 5}
    elif failing:
        getattr(model, failing)[2].forward = fail
    else:
        params["pooling"] = lambda hidden, batch: hidden * (1 - hidden.requires_grad)
    embedding = InformativeEmbedding(model, **params)
    if failing:
        with pytest.raises(ZeroDivisionError):
            embedding.transform(X)
    else:
        assert embedding.fit_transform(X).any()
    assert state_of(model) == before
    assert torch.is_grad_enabled()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, weights[name]), name


def test_eight_threads_get_the_features_of_one():
    """Clones share a model in training mode; one that ends must not restore dropout for others."""
    model = AutoEncoder(d=16)
    model.train()
    parts = [np.random.RandomState(i).randn(300, 6) for i in range(8)]
    embedding = InformativeEmbedding(model, batch_size=10)
    expected = [embedding.transform(part) for part in parts]
    before = state_of(model)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            found = pool.map(lambda part: clone(embedding).transform(part), parts)
            for got, wanted in zip(found, expected, strict=True):
                assert_array_equal(got, wanted)
    assert state_of(model) == before


def test_hooks_of_the_user_stay(model, X):
    calls = []
    handle = model.decoder[3].register_forward_pre_hook(lambda *args: calls.append(1))
    InformativeEmbedding(model).transform(X)
    assert calls
    assert list(model.decoder[3]._forward_pre_hooks) == [handle.id]


def test_modules_outside_the_model_are_in_evaluation_mode_too(model, X):
    """Dropout must be off in the owner of a bound method, a layer, and a pooling."""
    other = AutoEncoder(seed=1)
    other.encode = other.encoder.forward  # bound to the encoder, which has dropout
    drop = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.9))
    for params in (
        {"encode": other.encoder.__call__},
        {"layer": drop},
        {"layer": lambda z: z, "pooling": Halved()},
    ):
        embedding = InformativeEmbedding(model, **params).fit(X)  # warns if features change
        assert_array_equal(embedding.transform(X), embedding.transform(X))
    assert drop[1].training


class Halved(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.9)

    def forward(self, hidden, batch):
        return self.drop(hidden) / 2


def test_a_transformer_inside_another(model, X):
    expected = model.by_hand(X)
    inner = InformativeEmbedding(AutoEncoder(8, seed=1))

    def look(module, args, out):
        inner.transform(out)

    model.decoder[2].register_forward_hook(look)
    embedding = InformativeEmbedding(model).fit(X)
    assert embedding.layer_ == "decoder.3"
    assert_array_equal(embedding.transform(X), expected)


def test_features_that_are_random_or_depend_on_other_rows_warn(model, X):
    noisy = InformativeEmbedding(model, encode=lambda x: as_normal(model.encoder(x)).sample())
    with pytest.warns(
        UserWarning, match="change from call to call: encode or decode is probably random"
    ):
        noisy.fit(X)

    class TimeFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Identity()
            self.rnn, self.out = nn.GRU(4, 6), nn.Linear(6, 4)  # (T, n, H), given (n, T, H)

        def decode(self, z):
            return self.out(self.rnn(z)[0])

    with pytest.warns(
        UserWarning, match="change with the other rows of the batch: .* time before rows"
    ):
        InformativeEmbedding(TimeFirst()).fit(np.random.RandomState(0).randn(5, 3, 4))


# -- scikit-learn ----------------------------------------------------------------------------------


def test_clones_share_the_model_and_copies_do_not(model, X):
    embedding = InformativeEmbedding(model, encode=model.encoder, pooling="max")
    embedding.set_output(transform="pandas")
    twin = clone(embedding)
    assert twin.model is model
    assert twin.encode is model.encoder
    assert twin.pooling == "max"
    assert isinstance(twin.fit_transform(X), pd.DataFrame)
    assert clone(make_pipeline(embedding))[0].model is model
    assert copy.deepcopy(embedding).model is not model
    again = pickle.loads(pickle.dumps(InformativeEmbedding(model).fit(X)))
    assert_array_equal(again.transform(X), model.by_hand(X))


def test_a_grid_over_layers_in_a_pipeline(model, X):
    y = (X[:, 0] > 0).astype(int)
    pipe = make_pipeline(InformativeEmbedding(model), LogisticRegression())
    grid = {"informativeembedding__layer": [None, "decoder.0"]}
    search = GridSearchCV(pipe, grid, cv=3).fit(X, y)
    assert search.best_estimator_[0].model is model
    names = search.best_estimator_[:1].get_feature_names_out()
    assert names[0] == "informativeembedding0"


def test_names_and_frames(model, X):
    embedding = InformativeEmbedding(model).fit(pd.DataFrame(X, columns=list("abcdef")))
    assert embedding.n_features_in_ == 6
    assert list(embedding.feature_names_in_) == list("abcdef")
    assert list(embedding.get_feature_names_out())[-1] == "informativeembedding7"
    assert repr(embedding) == "InformativeEmbedding(model=<AutoEncoder, 189 parameters>)"
    other = InformativeEmbedding(model, encode=model.encoder.forward, layer=partial(the_code))
    assert "encode=<Sequential.forward>" in repr(other)
    assert "layer=<the_code>" in repr(other)
    assert "layer=<lambda>" in repr(InformativeEmbedding(model, layer=lambda code: code))


class AnyWidth(nn.Module):
    """Model for tables of any number of columns, as scikit-learn's checks use several."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(
            nn.Unflatten(1, (1, -1)), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(4, 3)
        )
        self.decoder = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))

    def __reduce__(self):
        """Copy by value: a check compares hashes, and tensors hash by their address."""
        weights = {name: weight.numpy().copy() for name, weight in self.state_dict().items()}
        return any_width, (weights, self.training)


def any_width(weights, training):
    model = AnyWidth().train(training)
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    return model


def the_code(code):
    return code


@parametrize_with_checks(
    [InformativeEmbedding(AnyWidth()), InformativeEmbedding(AnyWidth(), layer=the_code)]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# These checks pass tables of 1, 2, 3, 5 and 10 columns to one estimator, which fail in a model of 4
# inputs. (The first one also compares hashes of parameters; those of a tensor and its copy differ.)
NOT_FOR_A_FIXED_WIDTH = {
    "check_estimators_overwrite_params", "check_dict_unchanged", "check_dont_overwrite_parameters",
    "check_dtype_object", "check_estimators_dtypes", "check_estimators_fit_returns_self",
    "check_estimators_nan_inf", "check_estimators_pickle", "check_f_contiguous_array_estimator",
    "check_fit2d_1feature", "check_fit2d_1sample", "check_fit2d_predict1d",
    "check_fit_check_is_fitted", "check_fit_idempotent", "check_fit_score_takes_y",
    "check_methods_sample_order_invariance", "check_methods_subset_invariance",
    "check_n_features_in", "check_n_features_in_after_fitting", "check_pipeline_consistency",
    "check_readonly_memmap_input", "check_transformer_data_not_an_array",
    "check_transformer_general", "check_transformer_preserve_dtypes",
    "check_transformers_unfitted_stateless",
}  # fmt: skip


def test_a_model_of_fixed_width_passes_all_other_checks():
    results = check_estimator(InformativeEmbedding(AutoEncoder(4)), on_fail=None, on_skip=None)
    failed = {r["check_name"]: str(r["exception"]) for r in results if r["status"] == "failed"}
    assert set(failed) <= NOT_FOR_A_FIXED_WIDTH
    for name, message in failed.items():
        assert re.search(r"`encode` failed on a tensor \(\d+, (?!4\))", message), name
    assert sum(r["status"] == "passed" for r in results) >= 15


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"pooling": "sum"}, "'pooling' parameter .*Got 'sum' instead"),
        ({"batch_size": 0}, "'batch_size' parameter .* Got 0 instead"),
        ({"device": "abacus"}, "'device' parameter must be 'auto'.*Got 'abacus'"),
        ({"encode": "enc"}, r"submodule of AutoEncoder; got 'enc'. .* are encoder \(Sequential\)"),
        ({"layer": "decoder.9"}, "got 'decoder.9', which is not in the model. .*decoder.4"),
        ({"layer": "encoder.0"}, r"got 'encoder.0', which decode does not call. .*0 \(Linear\)"),
        ({"layer": lambda z: [z]}, r"must be a tensor \(3, ...\).*; got a list of 1: a tensor"),
        ({"layer": lambda z: z[:2]}, r"a tensor \(3, ...\) for 3 rows.*; got a tensor \(2, 3\)"),
        ({"decode": lambda z: z @ z[:2]}, r"`decode` failed on a tensor \(3, 3\) of float32: .*"),
        (
            {"decode": nn.TransformerDecoder(nn.TransformerDecoderLayer(2, 1), 1)},
            "the code first; got nn.TransformerDecoder",
        ),
    ],
)
def test_bad_parameters(model, X, params, message):
    with pytest.raises(ValueError, match=message):
        InformativeEmbedding(**{"model": model} | params).fit(X)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ("ae.pt", "str.$"),
        (NeuralNet(AutoEncoder, nn.MSELoss), "NeuralNet. Pass its module_.$"),
        (CMIMEncoder(), "CMIMEncoder. Set its embedding='informative' instead.$"),
    ],
)
def test_other_objects_than_modules_raise(X, given, got):
    with pytest.raises(TypeError, match=f"`model` must be a torch.nn.Module; got {got}"):
        InformativeEmbedding(given).fit(X)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_model_on_a_gpu_stays_there(model, X):
    expected = InformativeEmbedding(model).transform(X)
    moved = copy.deepcopy(model).cuda()
    assert_allclose(InformativeEmbedding(moved).transform(X), expected, atol=1e-5)
    assert next(moved.parameters()).is_cuda
    moved = InformativeEmbedding(model, device="cuda").transform(torch.from_numpy(X).cuda())
    assert_allclose(moved, expected, atol=1e-5)
    assert next(model.parameters()).is_cuda


def test_a_model_without_parts_raises_an_error_that_lists_its_submodules(X):
    plain = nn.Sequential(nn.Linear(6, 2), nn.ReLU(), nn.Linear(2, 6))
    message = r"'encode' or a submodule 'encoder'; got Sequential. .* are 0 \(Linear\), 1 \(ReLU\)"
    with pytest.raises(ValueError, match=message):
        InformativeEmbedding(plain).fit(X)
    split = InformativeEmbedding(plain, encode=plain[:1], decode=plain[1:]).fit(X)
    assert split.layer_ == "2"


def test_a_decoder_without_an_output_layer_raises_an_error_that_lists_its_calls(model, X):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.widen, self.rnn = nn.Linear(3, 6), nn.GRU(6, 6)

        def forward(self, z):
            return self.rnn(self.widen(z))[0]

    message = r"must end in an output layer.*in order: {}. Pass layer="
    for decoder, called in [
        (nn.Sequential(nn.Tanh(), nn.Softplus()), r"0 \(Tanh\), decoder.1 \(Softplus\)"),
        (nn.TransformerEncoderLayer(3, 1), r"decoder.norm2 \(LayerNorm\)"),
        (Recurrent(), r"decoder.widen \(Linear\), decoder.rnn \(GRU\)"),
    ]:
        model.decoder = decoder
        with pytest.raises(ValueError, match=message.format(".*" + called)):
            InformativeEmbedding(model).fit(X)
    assert InformativeEmbedding(model, layer="decoder.rnn").fit_transform(X).shape == (40, 6)


def test_bad_rows(model, X):
    with pytest.raises(ValueError, match=r"`encode` failed on a tensor \(3, 5\) .*: mat1 and mat2"):
        InformativeEmbedding(model).fit(X[:, :5])
    with pytest.raises(
        ValueError, match="X has 5 features, but InformativeEmbedding is expecting 6"
    ):
        InformativeEmbedding(model).fit(X).transform(X[:, :5])
    with pytest.raises(ValueError, match=r"NaN or infinity in row 0, and in 3 of 3 rows"):
        InformativeEmbedding(model, layer=lambda z: z / 0).fit(X)
    X[3, 2] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        InformativeEmbedding(model).fit(X)
    for texts in (np.array([["CC"], ["CO"]]), pd.DataFrame({"smiles": ["CC", "CO"]})):
        with pytest.raises(ValueError, match=r"string.* For text, pass tokenizer="):
            InformativeEmbedding(model).fit(texts)


# -- text ------------------------------------------------------------------------------------------


def letters(texts):
    """Tokens 1 to 8 for a to h, padded with 0."""
    width = max(1, *map(len, texts))
    return torch.tensor(
        [["abcdefgh".index(c) + 1 for c in t] + [0] * (width - len(t)) for t in texts]
    )


TEXTS = ["".join(" abcdefgh"[i] for i in row if i) for row in TOKENS[:3].tolist()]


@pytest.mark.parametrize(
    "column",
    [
        list,
        np.array,
        pd.Series,
        pl.Series,
        pa.array,
        lambda t: pd.DataFrame({"text": t}),
        lambda t: pl.DataFrame({"text": t}),
        lambda t: pa.table({"text": t}),
        lambda t: np.array(t, dtype=object).reshape(-1, 1),
    ],
)
def test_a_tokenizer_takes_a_list_or_column_of_strings(column):
    model = Sentences()
    embedding = InformativeEmbedding(model, tokenizer=letters, batch_size=2)
    expected = InformativeEmbedding(model).transform(TOKENS[:3])
    assert_allclose(embedding.fit_transform(column(TEXTS)), expected, atol=1e-6)
    assert_allclose(embedding.transform(column(TEXTS[:1])), expected[:1], atol=1e-6)


def test_a_tokenizers_attention_mask_counts():
    model = Sentences()

    def masked(texts):
        tokens = letters(texts)
        return {
            "input_ids": tokens,
            "attention_mask": torch.arange(tokens.shape[1]) < 2 + 0 * tokens,
        }

    embedding = InformativeEmbedding(
        model,
        tokenizer=masked,
        encode=lambda batch: model.encode(batch["input_ids"]),
        decode=lambda z, batch: model.decode(z, batch["input_ids"]),
    )
    states = states_by_hand(model)[:3]
    assert_allclose(embedding.transform(TEXTS), states[:, :2].mean(1), atol=1e-6)


def test_texts_of_several_lengths_need_pooling():
    flat = InformativeEmbedding(Sentences(), tokenizer=letters, pooling=None, batch_size=1)
    with pytest.raises(ValueError, match="must give 10 features, as the first does; got 20"):
        flat.transform(["ab", "abcd"])


# -- quality ---------------------------------------------------------------------------------------


def trained_on_digits(X, seed=0):
    model = AutoEncoder(64, 8, seed)
    model.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 8))
    model.decoder = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64), nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(600):
        batch = X[torch.randint(len(X), (128,), generator=generator)]
        loss = nn.functional.binary_cross_entropy(model.decoder(model.encoder(batch)), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_informative_features_beat_the_code_on_digits():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    model = trained_on_digits(torch.from_numpy(X[:1200]).float())
    features = InformativeEmbedding(model).transform(X)
    codes = InformativeEmbedding(model, layer=lambda code: code).transform(X)
    informative, code = (
        LogisticRegression(max_iter=500).fit(F[:1200], y[:1200]).score(F[1200:], y[1200:])
        for F in (features, codes)
    )
    assert informative > code + 0.02
