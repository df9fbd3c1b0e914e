"""What people look at: the site's reference, and an encoder's HTML in a notebook."""

import importlib
import re
from pathlib import Path

import numpy as np
import sklearn
from sklearn.utils.fixes import parse_version

import cmim_sklearn
from cmim_sklearn import CMIMEncoder, archive

REFERENCE = (Path(__file__).parents[2] / ".docs" / "reference.rst").read_text()
PUBLIC = {
    **{
        module: set(importlib.import_module(f"cmim_sklearn.{module}").__all__) - {"OBJECTIVES"}
        for module in ("display", "geometry", "mutual_information", "objectives")
    },
    "latents": {"SampledPosterior", "LearnedPosterior", "FixedPosterior", "standard_normal"},
    "networks": {"MLP"},
    "onnx": {"register"},
}
LISTED = set(re.findall(r"^   ([\w.]+)$", REFERENCE, flags=re.M))


def test_the_reference_has_every_public_name():
    names = set(cmim_sklearn.__all__) - {"__version__"}
    assert names | {f"{m}.{name}" for m, public in PUBLIC.items() for name in public} == LISTED
    for name in LISTED:
        module, _, attribute = f"cmim_sklearn.{name}".rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__


def test_archive_has_the_error_of_the_top_level():
    assert archive.EncoderFileError is cmim_sklearn.EncoderFileError


def test_html_shows_parameters_and_what_was_fitted_and_no_link_that_leads_nowhere():
    X = np.random.RandomState(0).randn(40, 3)
    encoder = CMIMEncoder(n_components=2, hidden_layer_sizes=(8,), max_iter=2, random_state=0)
    html = encoder.fit(X)._repr_html_()
    assert "n_components" in html
    assert not re.search(r'href="http', html)  # as to scikit-learn's site, which has no page of it
    if parse_version(sklearn.__version__) >= parse_version("1.9"):
        for name in ("n_iter_", "loss_curve_", "table_"):
            assert name in html
