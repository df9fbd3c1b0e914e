"""Held-out estimate of mutual information over the folds of a cross-validation."""

import math
from numbers import Integral

import numpy as np
from sklearn.model_selection import KFold, check_cv
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions, validate_parameter_constraints
from sklearn.utils.validation import check_array

from cmim_sklearn._utils.isolation import isolated
from cmim_sklearn.mutual_information._base import MIN_ROWS, read_paired, warn_if_unreliable
from cmim_sklearn.mutual_information._estimators import ESTIMATORS
from cmim_sklearn.mutual_information._result import MutualInformation


@isolated
def mutual_information(X, Z, method="mine", *, cv=5, random_state=None, **options):
    """Estimate the mutual information of X and Z on held-out pairs, in nats.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    Z : array of shape (n_samples,) or (n_samples, n_features_z)
        Codes, numeric labels or another view; row i is paired with row i of X. Columns are
        identified by position, not by name.
    method : {"mine", "nwj", "infonce", "smile", "ksg"}, default="mine"
        Estimator. `"mine"`: `MINE`. `"nwj"`: `NWJ`. `"infonce"`: `InfoNCE`. `"smile"`: `SMILE`.
        `"ksg"`: `KSG`, which is fast and trains nothing, but is far too low if X and Z have more
        than about five columns in all.
    cv : int, cross-validation splitter or iterable, default=5
        Folds that are held out in turn. int: number of folds of shuffled rows. If rows depend on
        each other, pass a suitable splitter or iterable of index pairs, as
        ``GroupKFold(5).split(X, groups=groups)``.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds and of the estimator in each fold.
    **options
        Further parameters of the estimator, by name.

    Returns
    -------
    MutualInformation
        ``estimate``, ``error``, ``folds`` and ``cap``, in nats.

    Raises
    ------
    ValueError
        If X and Z differ in their number of rows, contain NaN or infinity, or have fewer than ten
        rows in a part of a fold; or if `method` or an option is unknown or invalid.

    Warns
    -----
    UserWarning
        If the estimate is within a tenth, or 0.3 nats, of its cap, or below -0.3 nats.

    Notes
    -----
    "mine", "nwj" and "infonce" estimate lower bounds. A critic that has too few rows or is too
    narrow gives too small a value; of two bounds, trust the larger. With 5,000 Gaussian rows and
    two columns on each side they came within a tenth of 0.3 and 1.7 nats; with twenty columns they
    reached four fifths of 2.9 nats. "smile" and "ksg" may err in both directions.

    "ksg" trains nothing, so all rows may be passed to ``KSG().score(X, Z)``, which is less biased
    than a mean over folds.

    If Z is a deterministic, continuous function of X, the mutual information is infinite, and any
    estimate only reflects the number of rows. Add noise of a fixed size to Z, and report that size
    with the estimate.

    Examples
    --------
    >>> import numpy as np
    >>> from cmim_sklearn.mutual_information import mutual_information
    >>> rng = np.random.RandomState(0)
    >>> X = rng.randn(2000, 1)
    >>> Z = 0.8 * X + 0.6 * rng.randn(2000, 1)  # true value: -log(0.6) = 0.511
    >>> result = mutual_information(X, Z, "ksg", random_state=0)
    >>> result
    MutualInformation(0.506 ± 0.014 nats, 5 folds, cap 4.48)
    >>> len(result.folds)
    5
    """
    validate_parameter_constraints(
        {
            "method": [StrOptions(set(ESTIMATORS))],
            "cv": ["cv_object"],
            "random_state": ["random_state"],
        },
        {"method": method, "cv": cv, "random_state": random_state},
        "mutual_information",
    )
    X = check_array(X, dtype=np.float64, input_name="X", ensure_min_samples=MIN_ROWS)
    Z = read_paired(Z, "Z", len(X), "mutual_information")
    rng = check_random_state(random_state)
    cv = 5 if cv is None else cv
    if isinstance(cv, Integral):
        cv = KFold(cv, shuffle=True, random_state=rng.randint(2**31 - 1))
    every = np.arange(len(X))
    splits = [[every[part] for part in split] for split in check_cv(cv).split(X)]
    smallest = min((len(part) for split in splits for part in split), default=0)
    if smallest < MIN_ROWS:
        raise ValueError(
            f"cv must leave at least {MIN_ROWS} rows in the training and the test part of each "
            f"fold; got {len(X)} rows in all and {smallest} in the smallest part. Pass more rows, "
            "or lower cv."
        )
    folds, caps = [], []
    for train, test in splits:
        seed = rng.randint(2**31 - 1)
        estimator = ESTIMATORS[method]().set_params(random_state=seed, **options)
        estimator.fit(X[train], Z[train])
        folds.append(estimator._estimate(X[test], Z[test]))
        caps.append(estimator._cap(len(test)))
    estimate, cap = float(np.mean(folds)), min(caps)
    error = float(np.std(folds, ddof=1) / math.sqrt(len(folds))) if len(folds) > 1 else math.nan
    warn_if_unreliable(method, estimate, cap)
    return MutualInformation(estimate, error, tuple(folds), cap)
