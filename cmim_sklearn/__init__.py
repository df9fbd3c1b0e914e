"""Features without labels from mixed tables: cMIM as a scikit-learn transformer."""

from cmim_sklearn._version import __version__
from cmim_sklearn.encoder import CMIMEncoder

__all__ = ["CMIMEncoder", "__version__"]
