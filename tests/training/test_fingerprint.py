"""Fingerprints: equal for equal values in every process, different for different values."""

import logging
import os
import pickle
import random
import re
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path
from threading import Lock
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, GradientNormClipping

from cmim_sklearn import Checkpoint, Corruption, InfoNCEEncoder
from cmim_sklearn._training.fingerprint import fingerprint, fit_fingerprint
from tests.helpers import make_mixed
from tests.training.helpers import KILL, small, weights

ROOT = Path(__file__).parents[2]


class Scaled:
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, x, generator):
        return x, self.rate * x


class OtherScaled(Scaled):
    pass


class Slotted:
    __slots__ = ("weight",)

    def __init__(self, weight):
        self.weight = weight


class Holds(Callback):
    def __init__(self, values):
        self.values = values

    def initialize(self):
        self.seen_ = object()  # set in a fit, not a parameter
        return self


class Network(torch.nn.Module):
    """Network with equal weights for all k."""

    def __init__(self, k=1):
        super().__init__()
        self._k, self.scale = k, torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self._k * self.scale * x


class OtherNetwork(Network):
    pass


class Color(Enum):
    RED, BLUE = 1, 2


@dataclass
class Data:
    shares: list = field(default_factory=list)


def double(x, generator):
    return x, 2 * x


def triple(x, generator):
    return x, 3 * x


def zero(network):
    for weight in network.parameters():
        torch.nn.init.zeros_(weight)
    return network


def with_hook(hook):
    network = Network()
    network.register_forward_hook(hook)
    return network


def hook(module, inputs, output):
    return output


def other_hook(module, inputs, output):
    return 2 * output


LARGE = np.arange(10**5)
LETTERS = "abcdefghij"

DIFFERENT = {
    "ints": lambda: [1, 2],
    "an int and a bool": lambda: [1, True],
    "an int and a float": lambda: [1, 1.0],
    "an int and a str": lambda: [1, "1"],
    "None and False": lambda: [None, False],
    "infinities": lambda: [{"tol": float("inf")}, {"tol": -float("inf")}],
    "infinity and its name": lambda: [float("inf"), "inf"],
    "lists": lambda: [[1, 2], [2, 1]],
    "a list and a set": lambda: [["a"], {"a"}],
    "empty lists and dicts": lambda: [[], {}],
    "nested lists": lambda: [[[1], 2], [[1, 2]]],
    "a list that looks like a set": lambda: [["set", 1], {1}],
    "dicts": lambda: [{"a": 1, "b": 2}, {"a": 2, "b": 1}],
    "sets": lambda: [set(LETTERS), set(LETTERS[1:])],
    "frozen sets": lambda: [frozenset(LETTERS), frozenset(LETTERS[1:])],
    "bytes": lambda: [b"a", b"b"],
    "dates": lambda: [date(2020, 1, 1), date(2020, 1, 2)],
    "decimals": lambda: [Decimal("0.1"), Decimal("0.10000000000000001")],
    "large arrays": lambda: [LARGE, np.append(LARGE[:-1], -1)],
    "shapes": lambda: [np.zeros((2, 3)), np.zeros((3, 2))],
    "dtypes of arrays": lambda: [np.zeros(2), np.zeros(2, np.float32)],
    "arrays of objects": lambda: [np.array(["a", None]), np.array(["a", "b"], object)],
    "masked arrays": lambda: [np.ma.array([1, 2], mask=[0, m]) for m in (0, 1)],
    "tensors": lambda: [torch.zeros(2), torch.ones(2)],
    "frozen tensors": lambda: [torch.zeros(2), torch.zeros(2, requires_grad=True)],
    "torch's dtypes": lambda: [torch.float32, torch.float64],
    "functions": lambda: [double, triple],
    "torch's functions": lambda: [torch.relu, torch.tanh],
    "classes": lambda: [Scaled, OtherScaled],
    "partials": lambda: [partial(torch.optim.SGD, momentum=m) for m in (0.9, 0.1)],
    "instances": lambda: [Scaled(0.5), Scaled(0.25)],
    "instances of two classes": lambda: [Scaled(0.5), OtherScaled(0.5)],
    "instances with slots": lambda: [Slotted(1), Slotted(2)],
    "dataclasses": lambda: [Data([1]), Data([2])],
    "methods": lambda: [Scaled(0.5).__call__, Scaled(0.25).__call__],
    "callbacks": lambda: [Holds(1), Holds(2)],
    "arrays in callbacks": lambda: [Holds(LARGE), Holds(LARGE + 1)],
    "callbacks of skorch": lambda: [GradientNormClipping(1.0), GradientNormClipping(2.0)],
    "views": lambda: [Corruption(0.2), Corruption(0.3)],
    "classes of networks": lambda: [Network(), OtherNetwork()],
    "weights of networks": lambda: [torch.nn.Linear(2, 2) for _ in range(2)],
    "attributes of networks": lambda: [torch.nn.Dropout(p) for p in (0.1, 0.5)],
    "private attributes of networks": lambda: [Network(k) for k in (1, 2)],
    "parts of networks": lambda: [torch.nn.Sequential(Network(k)) for k in (1, 2)],
    "frozen networks": lambda: [Network(), Network().requires_grad_(False)],
    "hooks of networks": lambda: [with_hook(hook), with_hook(other_hook)],
    "a hook and none": lambda: [with_hook(hook), Network()],
    "generators": lambda: [random.Random(0), random.Random(1)],
    "random states": lambda: [np.random.RandomState(seed) for seed in (0, 1)],
    "patterns": lambda: [re.compile("a" * 300 + end) for end in "bc"],
    "flags of patterns": lambda: [re.compile("a"), re.compile("a", re.IGNORECASE)],
    "loggers": lambda: [logging.getLogger(name) for name in "ab"],
    "enumerations": lambda: list(Color),
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_different_values_have_different_fingerprints(kind):
    one, other = (fingerprint(value, "view") for value in DIFFERENT[kind]())
    assert one != other


RANDOM = "weights of networks"
COUNTED = "hooks of networks", "a hook and none"  # torch numbers hooks over the whole process
REPEATED = [kind for kind in DIFFERENT if kind not in (RANDOM, *COUNTED)]
"""Kinds that give equal values in each process."""


@pytest.mark.parametrize("kind", REPEATED)
def test_equal_values_have_equal_fingerprints(kind):
    for one, other in zip(DIFFERENT[kind](), DIFFERENT[kind](), strict=True):
        assert fingerprint(one, "view") == fingerprint(other, "view")
        if kind != "masked arrays":  # which pickle changes
            assert fingerprint(pickle.loads(pickle.dumps(one)), "view") == fingerprint(one, "view")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": float("nan")}, {"b": float("nan"), "a": 1}),
        ((8, 4), [8, 4]),
        (0.001, np.float64(0.001)),
        (3, np.int64(3)),
        (True, np.bool_(True)),
        (set(LETTERS), {*reversed(LETTERS)}),
        ([(1, 2)] * 2, [(1, 2), tuple(map(int, "12"))]),
        (np.zeros((3, 2)), np.zeros((2, 3)).T),
        (zero(torch.nn.LSTM(2, 2)), zero(torch.nn.LSTM(2, 2))),
        (Checkpoint("a"), Checkpoint("b", every_epochs=3)),
        (Holds(1), Holds(1).initialize()),
    ],
    ids=["order of a dict", "list and tuple", "float64", "int64", "bool", "order of a set",
         "one tuple and two", "memory order", "recurrent network", "directory of checkpoints",
         "state of a callback"],
)  # fmt: skip
def test_values_with_the_same_effect_have_the_same_fingerprint(one, other):
    assert fingerprint(one, "view") == fingerprint(other, "view")


def test_an_array_mapped_into_memory_is_the_same_array(tmp_path):
    """joblib maps large arrays into memory for its workers."""
    np.save(tmp_path / "array.npy", LARGE)
    mapped = np.load(tmp_path / "array.npy", mmap_mode="r")
    assert fingerprint(mapped, "view") == fingerprint(LARGE, "view")


def local_function():
    def function(x, generator):
        return x, x

    return function


def local_instance():
    class Local:
        pass

    return Local()


def circular():
    value = Scaled(0.5)
    value.me = value
    return value


UNSTABLE = {
    "lambda": (lambda: lambda x, generator: (x, x), "<lambda> is a lambda"),
    "local function": (local_function, "local_function.<locals>.function .* inside a function"),
    "local instance": (local_instance, "local_instance.<locals>.Local .* inside a function"),
    "partial": (lambda: partial(local_function(), 1), "inside a function"),
    "attribute": (lambda: Scaled(lambda: 1), "is a lambda"),
    "callback": (lambda: [Holds(local_function())], "inside a function"),
    "hook": (lambda: with_hook(local_function()), "inside a function"),
    "lock": (lambda: Scaled(Lock()), "cannot pickle '_thread.lock'"),
    "module": (lambda: np, "cannot pickle 'module'"),
    "circular": (circular, "refers to itself"),
}


@pytest.mark.parametrize("kind", UNSTABLE)
def test_values_without_a_stable_fingerprint_raise(kind):
    make, reason = UNSTABLE[kind]
    message = f"recognise the parameter 'view' .*{reason}.* Use a function or class defined at the"
    with pytest.raises(ValueError, match=message):
        fingerprint(make(), "view")


def test_a_lambda_raises_before_anything_is_written_and_works_without_checkpoints(mixed, tmp_path):
    view = UNSTABLE["lambda"][0]()
    with pytest.raises(ValueError, match=r"the parameter 'view' in another process: .*<lambda>"):
        small("InfoNCEEncoder", tmp_path, view=view).fit(mixed)
    assert not list(tmp_path.iterdir())
    encoder = small("InfoNCEEncoder", view=view, max_iter=1).fit(mixed)
    assert isinstance(encoder, InfoNCEEncoder)
    with pytest.raises(ValueError, match=r"the parameter 'net_params' in another process: .*Local"):
        small(net_params={"callbacks": [Checkpoint(tmp_path), Holds(local_instance())]}).fit(mixed)


# -- another process -------------------------------------------------------------------------------


def with_unordered_parameters(folder):
    encoder = small("InfoNCEEncoder", folder, view=Scaled(0.5))
    held = {"set": set(LETTERS), "frozen": {frozenset(LETTERS)}, **dict.fromkeys(set(LETTERS), 1)}
    encoder.net_params["callbacks"].append(Holds(held))
    return encoder


def fingerprints():
    return [fingerprint(value, kind) for kind in REPEATED for value in DIFFERENT[kind]()]


def begin_in_this_process(folder):
    """Fit until the fourth epoch; print the fingerprints."""
    KILL["epoch"] = 4
    try:
        with_unordered_parameters(folder).fit(make_mixed())
    except RuntimeError:
        print(*fingerprints())


@pytest.mark.slow
def test_another_process_resumes_the_fit(mixed, tmp_path):
    code = f"import {__name__} as t; t.begin_in_this_process({str(tmp_path)!r})"
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
    ).stdout  # fmt: skip
    assert out.split() == fingerprints()
    resumed = with_unordered_parameters(tmp_path).fit(mixed)
    assert resumed.net_.n_resumed_ == 3
    assert weights(resumed) == weights(with_unordered_parameters(None).fit(mixed))


# -- whole fits ------------------------------------------------------------------------------------


def fingerprint_of(table, held_out=None, **fit_spec):
    """Fingerprint of a fit to tensors, with other values of its parameters."""
    spec = {"class": "CMIMEncoder", "seed": 0, "parameters": {"alpha": 0.1}} | fit_spec
    net = SimpleNamespace(
        fit_spec=spec, max_epochs=6, device="cpu", module_=torch.nn.Identity(),
        get_split_datasets=lambda X, y: (X, held_out),
    )  # fmt: skip
    return fit_fingerprint(net, table)["fit"]


class Table:
    def __init__(self, **tensors):
        self.tensors = tensors

    def identity(self):
        return self.tensors


def test_rows_held_out_rows_class_seed_and_parameters_count():
    rows = torch.arange(6.0).reshape(3, 2)
    found = [
        fingerprint_of(Table(x=rows)),
        fingerprint_of(Table(x=rows.flip(0))),
        fingerprint_of(Table(x=rows.reshape(2, 3))),
        fingerprint_of(Table(x=rows, buffer_rows=torch.tensor(2))),
        fingerprint_of(Table(x=rows), held_out=Table(x=rows)),
        fingerprint_of(Table(x=rows), **{"class": "MIMEncoder"}),
        fingerprint_of(Table(x=rows), seed=1),
        fingerprint_of(Table(x=rows), parameters={"alpha": 0.2}),
        fingerprint_of(Table(x=rows), parameters={"tol": 0.1}),
    ]
    assert len(set(found)) == len(found)
    same = {"alpha": 0.1, "embedding": "mean", "device": "cuda", "verbose": 1}
    assert fingerprint_of(Table(x=rows.clone()), parameters=same) == found[0]
