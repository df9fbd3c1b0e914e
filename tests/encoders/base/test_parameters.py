"""Parameters: documentation, defaults and validation."""

import dataclasses
import inspect
import re

import pytest
from skorch.callbacks import Callback

import cmim_sklearn
from cmim_sklearn import (
    AEEncoder,
    AMDIMEncoder,
    BarlowTwinsEncoder,
    CMIMEncoder,
    InfoMaxVAEEncoder,
    InfoNCEEncoder,
    MIMEncoder,
    VAEEncoder,
    VICRegEncoder,
)
from cmim_sklearn._encoders.base.parameters import SHARED
from tests.helpers import ENCODERS, small_encoder

CLASSES = [getattr(cmim_sklearn, name) for name in ENCODERS]


@pytest.mark.parametrize("encoder", CLASSES)
def test_every_parameter_is_documented_with_its_default_and_validated(encoder):
    parameters = inspect.signature(encoder).parameters
    assert set(encoder._parameter_constraints) == set(parameters)
    section = encoder.__doc__.split("----------\n")[1]
    documented = dict(re.findall(r"^(\w+) : .*default=(.*)$", section, flags=re.M))
    assert list(documented) == list(parameters)  # in the order of the signature
    for name, parameter in parameters.items():
        value = eval(documented[name])
        assert value == parameter.default, name
    assert "%(" not in encoder.__doc__
    assert max(map(len, encoder.__doc__.splitlines())) <= 100


@pytest.mark.parametrize("encoder", CLASSES)
def test_attributes_are_documented(encoder):
    section = encoder.__doc__.split("Attributes\n")[1]
    for name in ("table_", "net_", "n_iter_", "loss_curve_", "n_features_in_"):
        assert re.search(rf"^{name} : ", section, flags=re.M)


def test_every_shared_parameter_is_used():
    used = {name for encoder in CLASSES for name in inspect.signature(encoder).parameters}
    assert set(SHARED) <= used


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_components": 0}, r"'n_components' parameter of CMIMEncoder.*\[1, inf\).*Got 0"),
        ({"temperature": 0}, r"'temperature'.*Got 0 instead"),
        ({"contrastive_weight": -1}, "'contrastive_weight'.*Got -1 instead"),
        ({"embedding": "informtive"}, "'embedding'.*'hidden'.*Got 'informtive' instead"),
        ({"posterior": "exact"}, "'posterior'.*'sampled'.*Got 'exact' instead"),
        ({"encoder": "cnn"}, "'encoder'.*'mlp'.*Got 'cnn' instead"),
        ({"numeric_scaling": "robust"}, "'numeric_scaling'.*'quantile'.*Got 'robust' instead"),
        ({"hidden_layer_sizes": (16, 0)}, r"'hidden_layer_sizes'.*got \(16, 0\)\."),
        ({"input_masking": 1.0}, "'input_masking'.*Got 1.0 instead"),
        ({"device": "gpu"}, "'device'.*Got 'gpu' instead"),
        ({"device": "cuda:99"}, r"device='cuda:99' does not exist .* has \d device"),
        ({"net_params": {"lr": 1}}, r"'lr'.*Use the parameter learning_rate_init instead"),
        ({"net_params": {"max_epochs": 1}}, "'max_epochs'.*max_iter instead"),
        ({"net_params": {"iterator_train__shuffle": 1}}, "'iterator_train__shuffle'.*batch_size"),
        ({"net_params": {"module__x": 1}}, "'module__x'.*hidden_layer_sizes"),
        ({"net_params": {"callbacks": Callback()}}, "be a list or None; got <.*Callback"),
        ({"net_params": {"callbacks": [Callback(), len]}}, "of skorch callbacks.*got <.*len>"),
        ({"net_params": {"autocast": "bf16"}}, "'autocast'.*'bfloat16'.*got 'bf16'"),
        ({"hidden_layer_sizes": (True,)}, r"'hidden_layer_sizes'.*got \(True,\)\."),
        ({"net_params": {"nonsense": 1}}, "unknown parameter 'nonsense'"),
        ({"early_stopping": True, "validation_fraction": 0.999}, "=0.999 of 200 rows leaves 0"),
    ],
)  # fmt: skip
def test_invalid_parameters_raise(mixed, quick, params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        CMIMEncoder(**quick | params).fit(mixed)


def test_unknown_parameters_raise():
    with pytest.raises(TypeError, match="n_component"):
        CMIMEncoder(n_component=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VAEEncoder(beta=-1.0), "'beta' parameter of VAEEncoder.*Got -1.0"),
        (lambda: VAEEncoder(mmd_weight=-1.0), "'mmd_weight' parameter.*Got -1.0"),
        (lambda: MIMEncoder(symmetric="yes"), "'symmetric' parameter of MIMEncoder.*Got 'yes'"),
        (lambda: InfoMaxVAEEncoder(information_weight=-2), "'information_weight'.*Got -2"),
        (lambda: AEEncoder(embedding="code"), "'embedding' parameter of AEEncoder.*Got 'code'"),
        (lambda: InfoNCEEncoder(temperature=0.0), "'temperature' parameter of InfoNCE.*Got 0.0"),
        (lambda: VICRegEncoder(variance_weight=-1.0), "'variance_weight' parameter.*Got -1.0"),
        (lambda: BarlowTwinsEncoder(view="scarf"), "'view' parameter of Barlow.*Got 'scarf'"),
        (lambda: AMDIMEncoder(n_groups=0), "'n_groups' parameter of AMDIMEncoder.*Got 0"),
        (lambda: AMDIMEncoder(projector_layer_sizes=()), r"must hold at least one width.*got \(\)"),
        (lambda: InfoNCEEncoder(projector_layer_sizes=(8, 0)), r"'projector.*got \(8, 0\)"),
    ],
)
def test_invalid_parameters_of_one_learner_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make().fit([[0.0], [1.0], [2.0]])


@pytest.mark.parametrize("encoder", CLASSES)
def test_fitted_state_counts_for_dask(encoder, mixed):
    """Parameters are declared as dataclass fields, but an encoder is more than its fields."""
    dask = pytest.importorskip("dask")
    tokenize = pytest.importorskip("dask.base").tokenize
    assert not dataclasses.is_dataclass(encoder)
    one, other = (small_encoder(encoder.__name__).fit(rows) for rows in (mixed[:60], mixed[60:120]))
    assert tokenize(one) != tokenize(other)
    (again,) = dask.compute(one)
    assert again is one
