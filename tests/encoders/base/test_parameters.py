"""What encoders share is documented and checked in each of them."""

import inspect
import re

import pytest

import cmim_sklearn
from cmim_sklearn._encoders.base.parameters import SHARED

ENCODERS = [
    getattr(cmim_sklearn, name) for name in cmim_sklearn.__all__ if name.endswith("Encoder")
]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_parameter_is_documented_with_its_default_and_checked(encoder):
    parameters = inspect.signature(encoder).parameters
    assert set(encoder._parameter_constraints) == set(parameters)
    section = encoder.__doc__.split("----------\n")[1]
    documented = dict(re.findall(r"^(\w+) : .*default=(.*)$", section, flags=re.M))
    assert set(documented) == set(parameters)
    for name, parameter in parameters.items():
        value = eval(documented[name])
        assert value == parameter.default, name
    assert "%(" not in encoder.__doc__
    assert max(map(len, encoder.__doc__.splitlines())) <= 100


@pytest.mark.parametrize("encoder", ENCODERS)
def test_attributes_are_documented(encoder):
    section = encoder.__doc__.split("Attributes\n")[1]
    for name in ("table_", "net_", "n_iter_", "loss_curve_", "n_features_in_"):
        assert re.search(rf"^{name} : ", section, flags=re.M)


def test_every_shared_parameter_is_somebody_s():
    used = {name for encoder in ENCODERS for name in inspect.signature(encoder).parameters}
    assert set(SHARED) <= used
