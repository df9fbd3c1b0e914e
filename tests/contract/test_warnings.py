"""Warnings in tests: errors, except deprecations that torch announces inside itself."""

import warnings

import pytest

DEPRECATIONS = [DeprecationWarning, PendingDeprecationWarning, FutureWarning]


def warn(category, module):
    """Warn as code of a module does."""
    warnings.warn_explicit("`old` is deprecated.", category, "file.py", 1, module)


@pytest.mark.parametrize("category", DEPRECATIONS)
@pytest.mark.parametrize("module", ["torch", "torch.jit._script"])
def test_deprecations_inside_torch_are_ignored(category, module):
    warn(category, module)


@pytest.mark.parametrize("category", DEPRECATIONS)
@pytest.mark.parametrize("module", ["cmim_sklearn.networks", "tests.torch", "torchvision", "numpy"])
def test_other_deprecations_are_errors(category, module):
    with pytest.raises(category, match="`old` is deprecated"):
        warn(category, module)


def test_other_warnings_of_torch_are_errors():
    with pytest.raises(UserWarning, match="deprecated"):
        warn(UserWarning, "torch.jit._script")
