"""Fixtures for the tests of encoders."""

import pytest


@pytest.fixture(autouse=True)
def _short(short_calibration):
    """Calibrate briefly in all tests of this folder: those of row_posterior cover the densities."""
