"""Small fits, and callbacks that disturb them."""

import functools

import torch
from skorch.callbacks import Callback

import cmim_sklearn
from cmim_sklearn import Checkpoint, CMIMEncoder
from cmim_sklearn._training.critic import TrainCritic
from tests.helpers import make_mixed

ENCODERS = [name for name in cmim_sklearn.__all__ if name.endswith("Encoder")]
SMALL = {
    "max_iter": 6, "hidden_layer_sizes": (8,), "n_components": 3, "batch_size": 50,
    "random_state": 0, "device": "cpu",
}  # fmt: skip
WARNING = "The loss was not finite in epoch"


def weights(encoder):
    return {k: v.numpy().tobytes() for k, v in encoder.net_.module.state_dict().items()}


def copy_weights(module):
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    for name, weight in one.items():
        assert torch.equal(weight, other[name]), name


# -- killed fits -----------------------------------------------------------------------------------

KILL = {"epoch": None, "error": RuntimeError}
"""Epoch and error that end a fit; not a parameter of a callback, which would change the fit."""


class Killed(Callback):
    """Raise in the second batch of the epoch that `KILL` names."""

    def on_batch_begin(self, net, training=False, **kwargs):
        self.count_ = getattr(self, "count_", 0) + 1
        if len(net.history) == KILL["epoch"] and self.count_ % 2 == 0:
            raise KILL["error"]("killed")


def small(name="CMIMEncoder", folder=None, every_epochs=1, **parameters):
    """Encoder that `KILL` can interrupt, with checkpoints if there is a folder."""
    cls = getattr(cmim_sklearn, name)
    own = {"projector_layer_sizes": (5, 4), "critic_hidden_layer_sizes": (7,)}
    own = {k: v for k, v in own.items() if k in cls._get_param_names()}
    callbacks = [Killed()]
    if folder is not None:
        # First in the list, but called last.
        callbacks.insert(0, Checkpoint(folder, every_epochs=every_epochs))
    return cls(**SMALL | own | {"net_params": {"callbacks": callbacks}} | parameters)


# -- broken losses ---------------------------------------------------------------------------------


class Poison(Callback):
    """Set weights to NaN in the second batch of some epochs; record rates and weights."""

    def __init__(self, *epochs, training=True, critic=False):
        self.epochs, self.training, self.critic = list(epochs), training, critic

    def initialize(self):
        self.left_, self.rates_, self.begin_, self.end_ = list(self.epochs), [], {}, {}
        return self

    def on_epoch_begin(self, net, **kwargs):
        self.batch_, self.broken_ = 0, False
        self.begin_[len(net.history)] = copy_weights(net.module_)

    def on_batch_begin(self, net, training=False, **kwargs):
        if training:
            self.rates_.append((len(net.history), net.optimizer_.param_groups[0]["lr"]))
        self.batch_ += training == self.training
        if self.batch_ == 2 and self.left_[:1] == [len(net.history)] and not self.broken_:
            self.left_.pop(0)
            self.broken_ = True
            module = net.module_
            if self.critic:
                (callback,) = (c for _, c in net.callbacks_ if isinstance(c, TrainCritic))
                module = callback.critic.module_
            with torch.no_grad():
                next(module.parameters()).fill_(torch.nan)

    def on_epoch_end(self, net, **kwargs):
        self.end_[len(net.history)] = copy_weights(net.module_)


def fit_with(poison, X, cls=CMIMEncoder, callbacks=(), y=None, **parameters):
    net_params = {"callbacks": [poison, *callbacks], **parameters.pop("net_params", {})}
    return cls(**SMALL | parameters, net_params=net_params).fit(X, y)


@functools.cache
def whole(name="CMIMEncoder"):
    """Encoder fitted to `make_mixed()` without interruption; shared, not to be changed."""
    return small(name).fit(make_mixed())
