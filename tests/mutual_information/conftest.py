"""Pairs of rows with known information."""

import pytest

from benchmarks.studies.mutual_information import correlated


@pytest.fixture(scope="session")
def pairs():
    """X and Z to train on, X and Z to score, and the true information in nats."""
    X, Z, truth = correlated(1500, 2, 0.8)
    return X[:1000], Z[:1000], X[1000:], Z[1000:], truth
