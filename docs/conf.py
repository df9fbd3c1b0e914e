"""Documentation site: guide, API reference from the docstrings, and a gallery from examples/.

Build it with ``sphinx-build -W docs build/docs``; ``-D plot_gallery=0`` skips the examples.
"""

import re

import sklearn.base
from sphinx_gallery.sorting import ExplicitOrder

import cmim_sklearn

project = "cmim_sklearn"
author = copyright = "The cmim_sklearn developers"
version = release = cmim_sklearn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "myst_parser",
    "numpydoc",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
default_role = "autolink"
html_title = "cmim_sklearn"  # the default is too long for the navigation bar
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
html_sidebars = {"index": [], "reference": []}
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
toc_object_entries_show_parents = "hide"  # names with their class are too long for the sidebar

EXAMPLES = [  # in the order of the gallery
    "quickstart.py",
    "plot_mixed_types.py",
    "plot_map.py",
    "plot_few_labels.py",
    "plot_label_first.py",
    "plot_semi_supervised.py",
    "plot_n_components.py",
    "plot_contrastive_weight.py",
    "plot_imputation.py",
    "plot_anomalies.py",
    "plot_synthetic.py",
    "plot_dirty_table.py",
    "plot_own_model.py",
    "plot_molecules.py",
    "*",
]
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/(plot_|quickstart)",
    "ignore_pattern": r"notebooks\.py$",
    "within_subsection_order": ExplicitOrder(EXAMPLES),
    "backreferences_dir": "gallery/backreferences",
    "doc_module": ("cmim_sklearn",),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
}

# In gallery pages, the "?" of an encoder's diagram links to the reference page of the encoder.
for name in cmim_sklearn.__all__:
    public = getattr(cmim_sklearn, name)
    if isinstance(public, type) and issubclass(public, sklearn.base.BaseEstimator):
        public._doc_link_module = "cmim_sklearn"
        public._doc_link_template = "../api/cmim_sklearn.{estimator_name}.html"


def read_only_rst_as_headers(app, config):
    """Keep examples/data/README.md, which is not the header of a gallery, out of the gallery."""
    config.sphinx_gallery_conf["source_suffix"] = {".rst": "restructuredtext"}


PAGES_OF_FILES = {
    r"examples/(\w+)\.py": r"/gallery/\1.rst",
    r"examples": "/gallery/index.rst",
    r"benchmarks/quality/RESULTS\.md": "/evidence/results.md",
    r"benchmarks/speed/SPEED\.md": "/evidence/speed_results.md",
}


def link_files_to_pages(app, name, source):
    """Let links to files outside of docs/, which work on GitHub, lead to pages here."""
    for file, page in PAGES_OF_FILES.items():
        source[0] = re.sub(rf"\]\((?:\.\./)*{file}\)", f"]({page})", source[0])


def skip_inherited_from_libraries(app, what, name, member, skip, options):
    """Skip members that classes inherit from other libraries."""
    module = getattr(getattr(member, "fget", member), "__module__", None) or "cmim_sklearn"
    return skip or not module.startswith("cmim_sklearn") or None


def setup(app):
    """Connect the event handlers to Sphinx."""
    app.connect("config-inited", read_only_rst_as_headers, priority=11)  # after sphinx-gallery
    app.connect("autodoc-skip-member", skip_inherited_from_libraries)
    app.connect("source-read", link_files_to_pages)
