"""Devices: names, and the device for float64."""

import pytest
import torch

from cmim_sklearn._utils import device
from cmim_sklearn._utils.device import best_device, cumulative_sum, exact_device, resolve_device


def test_auto_is_the_best_device(monkeypatch):
    assert resolve_device("auto") == best_device()
    monkeypatch.setattr(device, "best_device", lambda: torch.device("cuda", 1))
    assert resolve_device("auto") == torch.device("cuda:1")
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("error", [TypeError, RuntimeError])
def test_float64_of_a_device_without_it_is_on_the_cpu(error, monkeypatch):
    """As on Apple's mps, whose error is a TypeError."""
    there = torch.device("meta")
    assert exact_device(there) == there

    def empty(*shape, dtype, device):
        assert dtype == torch.float64
        raise error("Cannot convert a MPS Tensor to float64 dtype")

    monkeypatch.setattr(torch, "empty", empty)
    assert exact_device(there) == torch.device("cpu")


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_deterministic_sum_is_made_on_the_cpu(deterministic, monkeypatch):
    used, plain, values = [], torch.Tensor.cumsum, torch.rand(3, 40)

    def cpu(tensor):
        used.append(tensor)
        return tensor

    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: deterministic)
    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    assert torch.equal(cumulative_sum(values, 1), plain(values, 1))
    assert len(used) == deterministic
