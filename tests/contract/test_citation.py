"""CITATION.cff: version and licence are those of the package."""

import re
from pathlib import Path

import cmim_sklearn

ROOT = Path(__file__).parents[2]


def test_citation_has_the_version_and_licence_of_the_package():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^(version|license): (.+)$", citation, flags=re.M))
    assert fields["version"] == cmim_sklearn.__version__
    assert f'license = "{fields["license"]}"' in (ROOT / "pyproject.toml").read_text()
