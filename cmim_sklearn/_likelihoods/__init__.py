"""Likelihoods of columns: one file per column kind, with scaling and summaries.

A new kind is a subclass of `Likelihood` in one file, and one line in `LIKELIHOODS`. An object
serves *all* columns of its kind at once: 79 Gaussian columns are one tensor operation.
"""

from cmim_sklearn._likelihoods.bernoulli import Bernoulli
from cmim_sklearn._likelihoods.categorical import Categorical
from cmim_sklearn._likelihoods.dates import Dates, Durations
from cmim_sklearn._likelihoods.gaussian import Gaussian
from cmim_sklearn._likelihoods.poisson import Poisson

LIKELIHOODS = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "poisson": Poisson,
    "datetime": Dates,
    "duration": Durations,
}
"""Classes of column kinds by their name in the parameter ``likelihoods``."""
