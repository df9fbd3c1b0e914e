r"""Estimators of the mutual information I(X; Z) from pairs of rows, in nats.

`MINE`, `NWJ`, `InfoNCE` and `SMILE` train a critic f(x, z), a network that scores how well x and z
match, and compute an estimate from its scores of held-out pairs. `KSG` counts nearest neighbours
and trains nothing. All of them first map each column to normal scores. That map is strictly
increasing, so it does not change the mutual information.

A new estimator is one class and one line in ``ESTIMATORS``.
"""

from cmim_sklearn.mutual_information._cross_validation import mutual_information
from cmim_sklearn.mutual_information._estimators import MINE, NWJ, SMILE, InfoNCE
from cmim_sklearn.mutual_information._ksg import KSG
from cmim_sklearn.mutual_information._result import MutualInformation

__all__ = ["KSG", "MINE", "NWJ", "SMILE", "InfoNCE", "MutualInformation", "mutual_information"]

# Pickles, reprs and documentation name the public path of a class.
for _name in set(__all__) - {"mutual_information"}:
    globals()[_name].__module__ = __name__
del _name
