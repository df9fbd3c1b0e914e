"""Training state: learning rates are scaled in all schedulers, and bad states raise."""

import pytest
import torch
from skorch.callbacks import LRScheduler, WarmRestartLR
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from cmim_sklearn._training.state import (
    MAX_GRADIENT,
    arrays_to_tensors,
    bound_gradients,
    copy_tensors,
    restore,
    restore_optimizer_in_place,
    tensors_to_arrays,
    training_state,
)
from tests.helpers import make_mixed
from tests.training.helpers import WARNING, Poison, fit_with, small


def test_a_copy_has_equal_tensors_that_later_steps_do_not_change():
    tree = {"a": [torch.ones(2), 1], "b": ({"c": torch.zeros(())}, None)}
    copy, back = copy_tensors(tree), arrays_to_tensors(tensors_to_arrays(tree))
    tree["a"][0][:] = 5
    for found in (copy, back):
        assert found["a"][0].tolist() == [1, 1]
        assert found["a"][1] == 1
        assert found["b"] == ({"c": torch.zeros(())}, None)
    assert tensors_to_arrays(tree)["a"][0].tolist() == [5, 5]


def test_only_gradients_above_the_bound_change():
    layer = torch.nn.Linear(4, 1)
    ordinary = torch.tensor([[0.1, -0.0, 1e-40, 9e14]])
    layer.weight.grad, layer.bias.grad = ordinary.clone(), torch.tensor([-torch.inf])
    bound_gradients(torch.optim.SGD(layer.parameters()))
    assert layer.weight.grad.numpy().tobytes() == ordinary.numpy().tobytes()
    assert float(layer.bias.grad) == pytest.approx(-MAX_GRADIENT)
    layer.bias.grad.fill_(torch.nan)
    bound_gradients(torch.optim.SGD(layer.parameters()))
    assert layer.bias.grad.isnan()  # and the loss is not finite, which raises


def test_gradients_of_other_dtypes_stay():
    """The bound does not fit a float16."""
    layer = torch.nn.Linear(2, 1, dtype=torch.float16)
    layer.weight.grad = torch.full((1, 2), 6e4, dtype=torch.float16)
    bound_gradients(torch.optim.SGD(layer.parameters()))
    assert layer.weight.grad.tolist() == [[6e4, 6e4]]


@pytest.fixture(scope="module")
def net():
    return small().fit(make_mixed()).net_


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state["state"][0].update(exp_avg=torch.zeros(1)),
            r"'exp_avg' of weight 0 to have shape .*; got torch.Size\(\[1\]\)",
        ),
        (lambda state: state["state"][1].update(step=torch.zeros(3)), "'step' of weight 1"),
        (
            lambda state: state["state"][1].update(exp_avg_sq=0.5),
            "'exp_avg_sq' of weight 1 to .* got 0.5",
        ),
        (lambda state: state["state"].update({99: {}}), "of 14 weights; got 14 .* moments of 15"),
        (lambda state: state["param_groups"][0]["params"].pop(), "of 14 weights; got 13 weights"),
    ],
    ids=["moment", "step", "number", "unknown weight", "missing weight"],
)
def test_an_optimizer_state_with_wrong_shapes_raises(change, message, net):
    state = copy_tensors(training_state(net))
    restore(net, state)
    change(state["optimizer"])
    with pytest.raises(ValueError, match=message):
        restore(net, state)


def in_sequence(optimizer, last_epoch=-1):
    parts = [ConstantLR(optimizer, 0.5, 10), ExponentialLR(optimizer, 0.8)]
    return SequentialLR(optimizer, parts, milestones=[3])


def rates_of_last_attempts(poison):
    """Rates of the four updates of each epoch, in its last attempt."""
    return {
        epoch: [rate for at, rate in poison.rates_ if at == epoch][-4:] for epoch in range(1, 7)
    }


POLICIES = {
    "step": (StepLR, {"step_size": 2, "gamma": 0.5}),
    "milestones": (MultiStepLR, {"milestones": [2, 3, 5], "gamma": 0.3}),
    "lambda": (LambdaLR, {"lr_lambda": lambda epoch: 0.9**epoch}),
    "cosine": (CosineAnnealingLR, {"T_max": 6}),
    "restarts": (CosineAnnealingWarmRestarts, {"T_0": 2}),
    "skorch": (WarmRestartLR, {"max_lr": 0.01, "min_lr": 1e-4, "base_period": 3}),
    "exponential": ("ExponentialLR", {"gamma": 0.8}),
    "one cycle": (OneCycleLR, {"max_lr": 0.01, "total_steps": 24, "step_every": "batch"}),
    "cyclic": (CyclicLR, {"base_lr": 1e-3, "max_lr": 0.01, "step_size_up": 5, "step_every": "batch",
                          "cycle_momentum": False}),
    "sequence": (in_sequence, {}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:The epoch parameter in")  # of torch 2.6's own SequentialLR
@pytest.mark.parametrize("kind", POLICIES)
def test_a_custom_schedule_is_restored_and_halved(kind, mixed):
    policy, options = POLICIES[kind]
    untouched, poison = Poison(), Poison(3, 5)
    fit_with(untouched, mixed, callbacks=[LRScheduler(policy, **options)])
    with pytest.warns(UserWarning, match=f"{WARNING} 3, 5"):
        fit_with(poison, mixed, callbacks=[LRScheduler(policy, **options)])
    wanted, found = rates_of_last_attempts(untouched), rates_of_last_attempts(poison)
    for epoch, factor in {1: 1, 2: 1, 3: 1 / 2, 4: 1 / 2, 5: 1 / 4, 6: 1 / 4}.items():
        assert found[epoch] == pytest.approx([rate * factor for rate in wanted[epoch]]), epoch


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_an_optimizer_is_restored_in_its_own_tensors(optimizer):
    layer = torch.nn.Linear(2, 1)
    options = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    own = optimizer(layer.parameters(), lr=0.1, **options)

    def step(factor):
        own.zero_grad()
        (factor * layer(torch.ones(3, 2))).sum().backward()
        own.step()

    step(1.0)
    tensors = [v for state in own.state.values() for v in state.values()]
    before = copy_tensors(own.state_dict()["state"])
    step(5.0)
    own.param_groups[0]["lr"] = 0.05
    restore_optimizer_in_place(own, before)
    now = [v for state in own.state.values() for v in state.values()]
    assert all(a is b for a, b in zip(tensors, now, strict=True))
    found = own.state_dict()
    for i, state in before.items():
        for name, value in state.items():
            assert torch.equal(found["state"][i][name], value)
    assert own.param_groups[0]["lr"] == 0.05
