"""Run tests on several versions of scikit-learn, each in a new virtual environment.

    python tests/contract/run_versions.py [1.6 1.7 1.8 1.9] [--torch torch==2.13.0] [--tests tests]

Versions 1.6 to 1.8 are tested with the numpy, pandas and skorch of their time. The environments are
deleted afterwards. The exit status is 0 if all versions pass.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

PINS = {
    "1.6": "scikit-learn==1.6.* numpy==1.26.* scipy==1.14.* pandas==2.2.* skorch==1.2.* "
    "polars==1.17.* pyarrow==18.* narwhals==2.0.1 joblib==1.4.*",
    "1.7": "scikit-learn==1.7.* numpy==2.2.* pandas==2.3.* skorch==1.2.*",
    "1.8": "scikit-learn==1.8.* numpy==2.3.* pandas==2.3.* skorch==1.3.*",
    "1.9": "scikit-learn==1.9.*",
}


def run(version, torch, tests):
    """Install one version, run the tests and return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--upgrade", "pip"], check=True)
        subprocess.run([*pip, torch], check=True)
        subprocess.run([*pip, *PINS[version].split(), f"{ROOT}[test]"], check=True)
        command = [f"{folder}/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        return subprocess.run(command, cwd=ROOT).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("versions", nargs="*", default=list(PINS), help="of scikit-learn")
    parser.add_argument("--torch", default="torch", help="requirement installed first")
    parser.add_argument("--tests", nargs="*", default=["tests/contract/test_estimator_checks.py"])
    args = parser.parse_args()
    status = {version: run(version, args.torch, args.tests) for version in args.versions}
    for version, code in status.items():
        print(f"scikit-learn {version}: {'passed' if code == 0 else f'failed ({code})'}")
    sys.exit(max(status.values()))


if __name__ == "__main__":
    main()
