"""Nets that can be trained together: obstacles, structure and memory."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import EarlyStopping

from cmim_sklearn import CMIMEncoder, InfoMaxVAEEncoder, InfoNCEEncoder, MIMEncoder
from cmim_sklearn._encoders.base.joint_fit import start_fit
from cmim_sklearn._training import batchable
from cmim_sklearn._training.batchable import n_at_once, obstacle, structure
from cmim_sklearn._training.batches import EncodedTable, StreamedTable
from cmim_sklearn.networks import MLP
from tests.helpers import make_mixed

SMALL = {"max_iter": 1, "hidden_layer_sizes": (8,), "n_components": 3, "device": "cpu"}
ROWS = EncodedTable(np.zeros((2, 3), "float32"))


def mixed(n_rows=20):
    return make_mixed(n_rows).drop(columns="visits")


def net_of(encoder, table=None):
    table = mixed() if table is None else table
    return start_fit(clone(encoder).set_params(**SMALL), lambda: table, {}).net


class Wide(MLP):
    """A network of the user."""


@pytest.mark.parametrize(("encoder", "reason"), [
    (InfoNCEEncoder(), "its loss has no batched form"),
    (InfoMaxVAEEncoder(), "its loss has no batched form"),
    (CMIMEncoder(encoder=Wide), "it has a custom network"),
    (CMIMEncoder(decoder=Wide), "it has a custom network"),
    (CMIMEncoder(net_params={"autocast": "bfloat16"}), "net_params has autocast or compile"),
    (CMIMEncoder(net_params={"optimizer": torch.optim.Adam}), "net_params changes the optimizer"),
    (CMIMEncoder(net_params={"optimizer__eps": 1e-5}), "net_params changes the optimizer"),
    (CMIMEncoder(net_params={"callbacks": [EarlyStopping()]}), "net_params changes the callbacks"),
    (CMIMEncoder(net_params={"callbacks__schedule": None}), "net_params changes the callbacks"),
    (CMIMEncoder(net_params={"n_threads": 1}), None),
    (CMIMEncoder(early_stopping=True, verbose=1), None),
])  # fmt: skip
def test_obstacles(encoder, reason):
    assert obstacle(net_of(encoder), ROWS) == reason


def test_obstacles_of_the_model_and_the_rows():
    table = mixed(20)[["income", "score"]]
    net = net_of(MIMEncoder(symmetric=True, posterior="learned"), table)
    assert obstacle(net, ROWS) == "symmetric=True generates rows in each step"
    streamed = StreamedTable(2, lambda seed: iter(()), 2, {})
    assert obstacle(net_of(CMIMEncoder()), streamed) == "its rows are read from files"


@pytest.mark.parametrize("change", [
    {"n_components": 4}, {"hidden_layer_sizes": (8, 8)}, {"activation": "relu"},
    {"batch_size": 30}, {"posterior": "learned"}, {"likelihoods": {"age": "poisson"}},
], ids=str)  # fmt: skip
def test_structure_differs_with_the_network(change):
    one = start_fit(CMIMEncoder(**SMALL), mixed, {}).net
    other = start_fit(CMIMEncoder(**SMALL | change), mixed, {}).net
    assert structure(one) != structure(other)


def test_structure_differs_with_the_levels():
    table = mixed(60)
    fewer = table[table["word"] != "zzz"]
    nets = [net_of(CMIMEncoder(), rows) for rows in (table, fewer, fewer[::-1])]
    assert structure(nets[0]) != structure(nets[1]) == structure(nets[2])


def test_groups_fit_into_memory(monkeypatch):
    net = net_of(CMIMEncoder())
    assert n_at_once(net, ROWS) > 100
    monkeypatch.setattr(batchable, "CPU_MEMORY", 2**24)
    few = n_at_once(net, ROWS)
    assert 1 <= few < 100
    assert n_at_once(net, EncodedTable(np.zeros((10**5, 3), "float32"))) < few
    monkeypatch.setattr(batchable, "CPU_MEMORY", 1)
    assert n_at_once(net, ROWS) == 1
