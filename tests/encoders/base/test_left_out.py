"""Encoder files: callables and objects that they cannot hold, and other classes."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError
from torch import nn

from cmim_sklearn import CMIMEncoder, Corruption, InfoNCEEncoder, VAEEncoder
from cmim_sklearn._utils.archive import EncoderFileError
from cmim_sklearn.networks import MLP
from tests.helpers import (
    assert_same,
    forge,
    small_encoder,
    state_of,
)


def custom_network(n_in, n_out, hidden_layer_sizes, activation):
    return nn.Sequential(nn.Linear(n_in, 5), nn.Tanh(), nn.Linear(5, n_out))


class CustomDecoder(nn.Module):
    """Decoder with weights of several dtypes and shapes, and a fixed hidden width."""

    def __init__(self, n_in, n_out, hidden_layer_sizes, activation):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_in, 4), nn.BatchNorm1d(4), nn.ReLU())
        self.output = nn.Linear(4, n_out)

    def forward(self, x):
        return self.output(self.body(x))


def test_custom_networks_are_passed_to_load(mixed, tmp_path):
    path = tmp_path / "model.cmim"
    encoder = small_encoder(encoder=custom_network, decoder=CustomDecoder).fit(mixed)
    encoder.save(path)
    with pytest.raises(
        EncoderFileError,
        match=r"model\.cmim cannot be loaded: its encoder was made by a callable, "
        r"'tests\.encoders\.base\.test_left_out\.custom_network'"
        r".*load\(path, encoder=\.\.\.\)\. Got None",
    ):
        CMIMEncoder.load(path)
    with pytest.raises(
        EncoderFileError, match=r"its decoder was made by .*CustomDecoder.*Got 'mlp'"
    ):
        CMIMEncoder.load(path, encoder=custom_network, decoder="mlp")
    again = CMIMEncoder.load(path, encoder=custom_network, decoder=CustomDecoder)
    assert again.encoder is custom_network
    assert again.decoder is CustomDecoder
    assert_same(state_of(again), state_of(encoder))
    assert_array_equal(again.transform(mixed), encoder.transform(mixed))
    again.set_params(warm_start=True).fit(mixed)
    encoder.set_params(encoder="mlp").save(path)
    later = CMIMEncoder.load(path, encoder=custom_network, decoder=CustomDecoder)
    assert (later.encoder, later.decoder) == ("mlp", CustomDecoder)
    assert_array_equal(later.transform(mixed), encoder.transform(mixed))
    with pytest.raises(EncoderFileError, match=r"weight 'decoder\.\S+ is None in the file"):
        CMIMEncoder.load(path, encoder=custom_network, decoder=MLP)


def test_a_network_that_the_file_does_not_need_raises(saved, fitted, tmp_path):
    message = r"encoder= must be left out.* is 'mlp'.*got a function"
    with pytest.raises(EncoderFileError, match=message):
        CMIMEncoder.load(saved[1], encoder=custom_network)
    fitted("InfoNCEEncoder").save(tmp_path / "model.cmim")
    message = r"decoder= must be left out.* is None.*got a function"
    with pytest.raises(EncoderFileError, match=message):
        InfoNCEEncoder.load(tmp_path / "model.cmim", decoder=custom_network)


def test_a_network_set_after_fit_is_left_out_with_a_warning(saved, tmp_path):
    encoder = copy.deepcopy(saved[0]).set_params(encoder=custom_network)
    with pytest.warns(
        UserWarning, match=r"leaves out .*: encoder=tests.*custom_network\. Set them"
    ):
        encoder.save(tmp_path / "model.cmim")
    assert CMIMEncoder.load(tmp_path / "model.cmim").encoder == "mlp"


def test_corruptions_are_saved_and_custom_views_are_left_out(mixed, tmp_path):
    path = tmp_path / "model.cmim"
    encoder = small_encoder("InfoNCEEncoder", view=Corruption(0.2, both=True)).fit(mixed)
    encoder.save(path)
    assert InfoNCEEncoder.load(path).view == Corruption(0.2, both=True)

    def custom_view(x, generator):
        return x, x

    encoder = small_encoder("InfoNCEEncoder", view=custom_view).fit(mixed)
    with pytest.warns(UserWarning, match=r"InfoNCEEncoder\.save leaves out .*view=.*custom_view"):
        encoder.save(path)
    again = InfoNCEEncoder.load(path)
    assert again.view is None
    assert_array_equal(again.transform(mixed), encoder.transform(mixed))


def test_objects_for_training_are_left_out_with_a_warning(mixed, tmp_path):
    path = tmp_path / "model.cmim"
    parameters = {
        "net_params": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.5},
        "random_state": np.random.RandomState(0),
    }
    encoder = small_encoder(**parameters).fit(mixed)
    with pytest.warns(UserWarning, match="leaves out .*: net_params, random_state, a RandomState"):
        encoder.save(path)
    again = CMIMEncoder.load(path)
    assert again.net_params is None
    assert again.random_state is None
    assert_array_equal(again.transform(mixed), encoder.transform(mixed))
    assert encoder.net_params == parameters["net_params"]  # the saved encoder is unchanged


def test_scikit_learn_callbacks_are_left_out_with_a_warning(saved, tmp_path):
    encoder = copy.deepcopy(saved[0])
    encoder._skl_callbacks = [object()]
    with pytest.warns(UserWarning, match="leaves out .*: callbacks of set_callbacks"):
        encoder.save(tmp_path / "model.cmim")
    assert not hasattr(CMIMEncoder.load(tmp_path / "model.cmim"), "_skl_callbacks")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("note_", {"a": [object()]}, r"note_\.a\.0 must be .*, of type object"),
        ("note_", np.array([1j]), r"note_ must be an array of .*; got complex128"),
        (
            "note_",
            np.array(["2020-01-01"], "M8[D]"),
            r"note_ must be an array .*; got datetime64",
        ),
        (
            "note_",
            np.zeros(5 * 10**6, "U1"),
            r"note_ must have at most 16777216.*; got 20000000",
        ),
        ("likelihoods", {"age": {1, 2}}, r"likelihoods\.age must be .*, of type set"),
        (
            "categorical_features",
            pd.Index(["age"]),
            r"categorical_features must .*, of type Index",
        ),
    ],
)
def test_unsupported_values_raise_and_nothing_is_written(saved, tmp_path, name, value, message):
    encoder = copy.deepcopy(saved[0])
    setattr(encoder, name, value)
    with pytest.raises(TypeError, match=message):
        encoder.save(tmp_path / "model.cmim")
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_would_not_load_is_not_written(saved, tmp_path):
    encoder = copy.deepcopy(saved[0])
    encoder.transform_ = 1
    vars(encoder)["score"] = 0.5
    with pytest.raises(EncoderFileError, match="'score' is not the name of a fitted attribute"):
        encoder.save(tmp_path / "model.cmim")
    assert list(tmp_path.iterdir()) == []


class Derived(CMIMEncoder):
    pass


def test_subclasses_have_no_files(saved, mixed, quick, tmp_path):
    with pytest.raises(NotFittedError):
        CMIMEncoder().save(tmp_path / "model.cmim")
    with pytest.raises(TypeError, match=r"save is for AEEncoder, .*; got tests.*Derived"):
        Derived(**quick).fit(mixed).save(tmp_path / "model.cmim")
    for cls in (Derived, CMIMEncoder.__base__, CMIMEncoder.__base__.__base__):
        with pytest.raises(TypeError, match=rf"load is for .*; got .*{cls.__name__}"):
            cls.load(saved[1])
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_class_raises(saved, fitted, tmp_path):
    fitted("VAEEncoder").save(tmp_path / "vae.cmim")
    with pytest.raises(
        EncoderFileError,
        match=r"vae\.cmim cannot be loaded: it holds a VAEEncoder, not a CMIMEncoder\. "
        r"Use VAEEncoder\.load",
    ):
        CMIMEncoder.load(tmp_path / "vae.cmim")

    def as_vae(manifest, arrays):
        manifest["class"] = "VAEEncoder"

    with pytest.raises(EncoderFileError, match="VAEEncoder has no parameter 'contrastive_weight'"):
        VAEEncoder.load(forge(saved[1], tmp_path / "forged", as_vae))


def test_widths_for_custom_networks_are_bounded(mixed, tmp_path):
    def unreachable(*arguments):
        raise AssertionError(arguments)

    encoder = small_encoder(encoder=custom_network).fit(mixed)
    encoder.save(tmp_path / "model.cmim")

    def edit(manifest, arrays):
        manifest["fitted"]["_built"]["hidden_layer_sizes"] = [10**9]

    with pytest.raises(EncoderFileError, match="weights or more"):
        CMIMEncoder.load(forge(tmp_path / "model.cmim", tmp_path / "f", edit), encoder=unreachable)
