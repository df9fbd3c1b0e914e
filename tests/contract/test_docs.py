"""Reference of the site, examples in docstrings, and the HTML of an encoder in a notebook."""

import ast
import doctest
import importlib
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.utils.fixes import parse_version

import cmim_sklearn
from cmim_sklearn import CMIMEncoder, archive

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference.rst").read_text()
PUBLIC = {
    **{
        module: set(importlib.import_module(f"cmim_sklearn.{module}").__all__) - {"OBJECTIVES"}
        for module in ("display", "geometry", "model_selection", "mutual_information", "objectives")
    },
    "latents": {"SampledPosterior", "LearnedPosterior", "FixedPosterior", "standard_normal"},
    "networks": {"MLP"},
    "onnx": {"register"},
}
LISTED = set(re.findall(r"^   ([\w.]+)$", REFERENCE, flags=re.M))


def test_the_reference_lists_every_public_name():
    names = set(cmim_sklearn.__all__) - {"__version__"}
    assert names | {f"{m}.{name}" for m, public in PUBLIC.items() for name in public} == LISTED
    for name in LISTED:
        module, _, attribute = f"cmim_sklearn.{name}".rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__


def test_public_classes_name_their_public_path():
    for name in LISTED:
        module, _, attribute = f"cmim_sklearn.{name}".rpartition(".")
        public = getattr(importlib.import_module(module), attribute)
        if isinstance(public, type):
            assert public.__module__ == module
            assert pickle.loads(pickle.dumps(public)) is public


def test_archive_has_the_error_of_the_top_level():
    assert archive.EncoderFileError is cmim_sklearn.EncoderFileError


def test_html_shows_parameters_and_attributes_and_has_no_dead_link():
    X = np.random.RandomState(0).randn(40, 3)
    encoder = CMIMEncoder(n_components=2, hidden_layer_sizes=(8,), max_iter=2, random_state=0)
    html = encoder.fit(X)._repr_html_()
    assert "n_components" in html
    assert not re.search(r'href="http', html)  # scikit-learn's site has no page about it
    if parse_version(sklearn.__version__) >= parse_version("1.9"):
        for name in ("n_iter_", "loss_curve_", "table_"):
            assert name in html


def test_every_example_in_a_docstring_is_collected():
    """Doctest skips objects whose `__module__` names another module, unless that has them, too."""
    pytest.importorskip("matplotlib")
    root = Path(__file__).parents[2]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    paths = sorted((root / "cmim_sklearn").rglob("*.py"))
    n_written = sum(
        ">>>" in (ast.get_docstring(node) or "")
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, documented)
    )
    names = [".".join(path.relative_to(root).with_suffix("").parts) for path in paths]
    modules = [importlib.import_module(name.removesuffix(".__init__")) for name in names]
    found = [test for module in modules for test in doctest.DocTestFinder().find(module)]
    assert sum(bool(test.examples) for test in found) == n_written > 20
