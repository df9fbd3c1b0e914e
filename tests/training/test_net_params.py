"""Checks of `net_params`: names, values, callbacks and optimizers."""

from functools import partial

import pytest
import torch
from skorch.callbacks import Callback, LRScheduler

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._training.net_params import check_net_params

OPTIMIZER = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
SCHEDULER = torch.optim.lr_scheduler.StepLR(OPTIMIZER, 1)


def lbfgs(parameters, lr, weight_decay):
    return torch.optim.LBFGS([p for group in parameters for p in group["params"]], lr=lr)


@pytest.mark.parametrize(
    ("net_params", "message"),
    [
        ({"lr": 1}, r"must not contain 'lr': Learner sets it\. Use .* learning_rate_init instead"),
        ({"optimizer__lr": 1}, "'optimizer__lr'.*learning_rate_init instead"),
        ({"criterion": len}, "'criterion'.*contrastive_weight, temperature instead"),
        ({"train_split": None}, r"'train_split'.*early_stopping.*X_val"),
        ({"nonsense": 1}, r"unknown parameter 'nonsense'\. Known parameters: autocast, callbacks"),
        ({"autocast__x": 1}, "unknown parameter 'autocast__x'"),
        ({1: 2}, "unknown parameter 1"),
        ({"autocast": "bf16"}, r"\['autocast'\] must be 'bfloat16', .* None; got 'bf16'\.$"),
        ({"autocast": []}, r"\['autocast'\] must be .*; got \[\]"),
        ({"compile": "yes"}, r"\['compile'\] must be True or False; got 'yes'"),
        ({"use_caching": 3}, r"\['use_caching'\] must be 'auto', True or False; got 3"),
        ({"torch_load_kwargs": []}, r"\['torch_load_kwargs'\] must be a dict or None; got \[\]"),
        ({"n_threads": "2"}, r"\['n_threads'\] must be an int of at least 1; got '2'"),
        ({"callbacks": Callback()}, r"\['callbacks'\] must be a list or None; got <.*Callback"),
        ({"callbacks": "disable"}, r"\['callbacks'\] must be a list or None; got 'disable'"),
        ({"callbacks": [Callback(), len]}, "must be a list of skorch callbacks, .*; got <.*len>"),
        ({"callbacks": [("a", len)]}, r"or of pairs of a name and a callback; got \('a', <"),
        ({"callbacks": [(1, Callback())]}, r"pairs of a name and a callback; got \(1, <"),
        ({"callbacks": [("a", Callback(), 1)]}, r"pairs of a name and a callback; got \('a', <"),
        ({"callbacks": [SCHEDULER]}, r"\(skorch\.callbacks\.LRScheduler makes one .*; got <.*St"),
        ({"callbacks__schedule": "cosine"}, r"\['callbacks__schedule'\] must be a skorch callback"),
        ({"optimizer": "adam"}, r"\['optimizer'\] must be a torch\.optim\.Optimizer.*; got 'adam'"),
        ({"optimizer": OPTIMIZER}, r"\['optimizer'\] must be a .* class, .*; got SGD"),
        ({"optimizer": torch.nn.Linear}, r"\['optimizer'\] must be a .*; got <class .*Linear"),
        ({"optimizer": None}, r"\['optimizer'\] must be a .*; got None"),
        ({"optimizer": torch.optim.LBFGS}, "must take lr and weight_decay.*got LBFGS, .* weight_d"),
        ({"optimizer": max}, "must take lr and weight_decay.*got max, which has no lr"),
        ({"optimizer": lambda p, lr: None}, "got <lambda>, which has no weight_decay"),
        ({"optimizer__nesterov": True}, "'optimizer__nesterov', but AdamW takes no 'nesterov'"),
        ({"optimizer__betas": (2, 0)}, r"AdamW takes \(Invalid beta .*\); got \(2, 0\)"),
        ({"optimizer__eps": "x"}, r"__eps'\] must be .* AdamW takes \(.*\); got 'x'"),
        (
            {"optimizer": torch.optim.SGD, "optimizer__betas": (0, 0)},
            "SGD takes no 'betas'. It takes 'lr', 'momentum'",
        ),
    ],
)
def test_wrong_net_params_raise(net_params, message):
    with pytest.raises(ValueError, match=message):
        check_net_params(net_params, "Learner")


@pytest.mark.parametrize(
    "net_params",
    [
        {"optimizer__betas": (0.8, 0.9), "optimizer__eps": 1e-6, "optimizer__amsgrad": True},
        {"optimizer": partial(torch.optim.SGD, momentum=0.9), "optimizer__nesterov": True},
        {"optimizer": lbfgs},
        {"optimizer__foreach": True},
        {"optimizer__param_groups": [("decoder.*", {"lr": 1e-4})]},
        {"callbacks": [("steps", LRScheduler("StepLR", step_size=1)), Callback]},
        {"callbacks__schedule": None, "autocast": None, "compile": False, "use_caching": "auto"},
        {"callbacks__schedule__warm_up": 0.5},
    ],
)
def test_valid_net_params_are_used(mixed, quick, short_calibration, net_params):
    encoder = CMIMEncoder(**quick, net_params=net_params).fit(mixed[:60])
    assert len(encoder.loss_curve_) == quick["max_iter"]


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda p, lr, weight_decay: None, r"must return an optimizer; <lambda> returned None"),
        (lambda p, lr, weight_decay: 1 / 0, "net_params: <lambda> failed .*: ZeroDivisionError"),
        (partial(torch.optim.SGD, momentum=-1), "failed .*: ValueError: Invalid mom"),
    ],
)
def test_an_optimizer_that_cannot_be_made_raises(mixed, quick, optimizer, message):
    with pytest.raises(ValueError, match=message):
        CMIMEncoder(**quick, net_params={"optimizer": optimizer}).fit(mixed)


def test_a_wrong_value_also_is_a_type_error():
    with pytest.raises(TypeError, match="'adam'"):
        check_net_params({"optimizer": "adam"}, "Learner")
