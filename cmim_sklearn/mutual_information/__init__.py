r"""Estimates of the mutual information I(X; Z) from pairs of rows, in nats.

Four train a critic f(x, z), a network that scores how well a pair belongs together, and read the
information from its scores on pairs that it has not seen; one counts neighbours. All of them first
map each column to normal scores, strictly increasing, which leaves the information as it is. A new
estimator is one class and one line in `ESTIMATORS`.

Axes: n rows; b rows that are scored together. Score matrices F (b, b) are those of `bounds`.
"""

from cmim_sklearn.mutual_information._estimators import (
    MINE,
    NWJ,
    SMILE,
    InfoNCE,
    mutual_information,
)
from cmim_sklearn.mutual_information._ksg import KSG
from cmim_sklearn.mutual_information._result import MutualInformation

__all__ = ["KSG", "MINE", "NWJ", "SMILE", "InfoNCE", "MutualInformation", "mutual_information"]
