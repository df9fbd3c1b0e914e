"""Errors about the arguments of a call name the public class."""

import inspect

import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline

import cmim_sklearn
from cmim_sklearn import CMIMEncoder, InformativeEmbedding, VICRegEncoder, mutual_information
from cmim_sklearn._utils.public_names import public_names

PUBLIC = {
    name: getattr(module, name)
    for module in (cmim_sklearn, mutual_information)
    for name in module.__all__
    if hasattr(getattr(module, name), "_get_param_names")
    and issubclass(getattr(module, name), BaseEstimator)
}


def methods():
    """Public methods that this library defines, as pairs of class and method."""
    for name, cls in PUBLIC.items():
        for attribute in dir(cls):
            method = getattr(cls, attribute, None)
            if attribute[0] == "_" or not inspect.isroutine(method):
                continue
            if str(getattr(inspect.unwrap(method), "__module__", "")).startswith("cmim_sklearn"):
                yield name, attribute


@pytest.mark.parametrize(("name", "method"), methods())
def test_errors_name_the_public_class(name, method):
    cls = PUBLIC[name]
    instance = cls(torch.nn.Identity()) if cls is InformativeEmbedding else cls()
    bound = getattr(instance, method)
    needed = [p for p in inspect.signature(bound).parameters.values() if p.default is p.empty]
    given = [None for p in needed if p.kind is p.POSITIONAL_OR_KEYWORD]
    with pytest.raises(TypeError, match=rf"^{name}\.{method}\(\) .*'nonsense'"):
        bound(*given, nonsense=1)


@pytest.mark.parametrize("cls", [CMIMEncoder, VICRegEncoder])
def test_sample_weights_are_not_supported(cls):
    X, weights = [[1.0], [2.0]], [1, 2]
    message = (
        rf"^{cls.__name__}\.fit\(\) got an unexpected keyword argument 'sample_weight'\. Rows have "
        r"no weights\. Pass rows sampled"
    )
    with pytest.raises(TypeError, match=message):
        cls().fit(X, sample_weight=weights)
    with pytest.raises(TypeError, match=message):
        cls().fit_transform(X, sample_weight=weights)
    with pytest.raises(TypeError, match=message):
        make_pipeline(cls()).fit(X, **{f"{cls.__name__.lower()}__sample_weight": weights})


def test_missing_and_too_many_arguments():
    with pytest.raises(TypeError, match=r"^CMIMEncoder\.fit\(\) missing 1 .* argument: 'X'$"):
        CMIMEncoder().fit()
    with pytest.raises(TypeError, match=r"^CMIMEncoder\.load\(\) missing 1 .* 'path'$"):
        CMIMEncoder.load()
    with pytest.raises(TypeError, match=r"^CMIMEncoder\.fit\(\) takes .* but 5 .* given$"):
        CMIMEncoder().fit([[1.0]], None, None, None)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'self'"):
        CMIMEncoder.save(path="x")


def test_other_errors_are_not_changed():
    def method(self):
        raise TypeError("another")

    with pytest.raises(TypeError, match=r"^another$"), public_names(method, (3,)):
        method(3)
