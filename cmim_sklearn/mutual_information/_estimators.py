r"""Estimates of the mutual information I(X; Z) from pairs of rows, in nats.

Four train a critic f(x, z), a network that scores how well a pair belongs together, and read the
information from its scores on pairs that it has not seen; one counts neighbours. All of them first
map each column to normal scores, strictly increasing, which leaves the information as it is. A new
estimator is one class and one line in `ESTIMATORS`.

Axes: n rows; b rows that are scored together. Score matrices F (b, b) are those of `bounds`.
"""

import math
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.model_selection import KFold, check_cv
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from sklearn.utils.validation import check_array

from cmim_sklearn.mutual_information._bounds import (
    MovingAverage,
    donsker_varadhan,
    infonce,
    jensen_shannon,
    nwj,
    smile,
)
from cmim_sklearn.mutual_information._critics import (
    MIN_ROWS,
    NeuralEstimator,
    read_side,
    warn_near_cap,
)
from cmim_sklearn.mutual_information._ksg import KSG
from cmim_sklearn.mutual_information._result import MutualInformation


def mutual_information(X, Z, method="mine", *, cv=5, random_state=None, **options):
    """Estimate the mutual information of X and Z on held-out pairs, in nats.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    Z : array of shape (n_samples,) or (n_samples, n_features_z)
        Row i goes with row i of X. A code, a label as a number, another view. Columns go by their
        place, not by their names.
    method : {"mine", "nwj", "infonce", "smile", "ksg"}, default="mine"
        The estimator: `MINE`, `NWJ`, `InfoNCE`, `SMILE` or `KSG`. Up to some five columns in all,
        "ksg" is quick and needs no training; beyond them it is far too low.
    cv : int, splitter or iterable, default=5
        Folds to hold out in turn. An int shuffles the rows. Where rows depend on each other, give a
        splitter as for a time series, or ``GroupKFold(5).split(X, groups=groups)``.
    random_state : int, RandomState or None, default=None
        Of the folds, and of the estimator in each.
    **options
        Other parameters of the estimator, by name.

    Returns
    -------
    MutualInformation
        With fields ``estimate``, ``error``, ``folds`` and ``cap``.

    Raises
    ------
    ValueError
        If X and Z differ in rows, hold NaN or infinity, or leave fewer than ten rows to a fold; or
        if `method` or an option is unknown.

    Warns
    -----
    UserWarning
        If the estimate comes within a tenth, or 0.3 nats, of its cap.

    Notes
    -----
    "mine", "nwj" and "infonce" are lower bounds: a critic that did not learn all there is, for want
    of rows or width, gives too little. With 5,000 Gaussian rows of two columns each side they came
    within a tenth of 0.3 and of 1.7 nats; of twenty columns, to four fifths of 2.9 nats. Of two
    bounds the larger is the better. "smile" and "ksg" may err on either side. "ksg" trains nothing,
    so that all rows may go to ``KSG().score(X, Z)``, which is less biased than a mean over folds.

    For a code that is a deterministic, continuous function of X the information is infinite, and
    any estimate says only how many rows there were: add noise of a fixed size to such a code, and
    name that size beside the estimate.

    Examples
    --------
    >>> import numpy as np
    >>> from cmim_sklearn.mutual_information import mutual_information
    >>> rng = np.random.RandomState(0)
    >>> X = rng.randn(2000, 1)
    >>> Z = 0.8 * X + 0.6 * rng.randn(2000, 1)  # the truth: -log(0.6) = 0.511
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
    Z = read_side(Z, "Z", len(X), "mutual_information")
    rng = check_random_state(random_state)
    cv = 5 if cv is None else cv
    if isinstance(cv, Integral):
        cv = KFold(cv, shuffle=True, random_state=rng.randint(2**31 - 1))
    every = np.arange(len(X))
    splits = [[every[part] for part in split] for split in check_cv(cv).split(X)]
    smallest = min((len(part) for split in splits for part in split), default=0)
    if smallest < MIN_ROWS:
        raise ValueError(
            f"Each fold needs at least {MIN_ROWS} rows to score and as many to train on. Got "
            f"{len(X)} rows in all and {smallest} in the smallest part; pass more rows, or lower "
            "cv."
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
    warn_near_cap(method, estimate, cap)
    return MutualInformation(estimate, error, tuple(folds), cap)


class MINE(NeuralEstimator):
    """Mutual information by a critic trained as in MINE, valued by Donsker and Varadhan's bound.

    The gradient of the bound's logarithm divides by a moving average of the batch means of exp(f)
    instead of the batch's own; the estimate is the bound itself, on held-out pairs.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(256,)
        Widths of the hidden layers of each of the critic's networks.
    momentum : float, default=0.9
        Share of the past in the moving average, in (0, 1).
    critic : {"separable", "concat"}, default="separable"
        f(x, z) = <g(x), h(z)>, or one network on both side by side, which is run for each pair of
        a batch: some twenty times slower.
    activation : {"silu", "relu", "gelu", "elu", "tanh", "identity"}, default="silu"
    batch_size : int, default=128
        Pairs of an update; all their b (b - 1) mismatches are the negatives.
    learning_rate_init : float, default=1e-3
        AdamW's, constant.
    alpha : float, default=0.0
        Decoupled weight decay. Around 1 it helps where columns are many for the rows, and costs
        where they are few; with a bound, keep what gives more on held-out pairs.
    max_iter : int, default=3000
        Updates at most, not epochs.
    validation_fraction : float, default=0.1
        Share of the pairs that is held out in fit; the weights that do best on them are kept. Else
        a critic learns the training pairs by heart, and its value on others falls without end.
    n_iter_no_change : int, default=500
        Updates without a better value on them after which training stops.
    device : str, default="auto"
        "auto" takes a GPU where there is one.
    random_state : int, RandomState or None, default=None
        Of the weights, batches and held-out pairs. An int gives the same critic, to the bit, on one
        CPU.

    Attributes
    ----------
    critic_ : torch.nn.Module
        Takes scaled x (n, n_features) and z (m, n_features_z) to scores (n, m).
    n_iter_ : int
        Updates done.
    validation_scores_ : list of float
        The objective on the held-out pairs before training and every 50 updates, in nats.
    n_features_in_ : int
        Columns of X in fit.
    feature_names_in_ : array of shape (n_features,)
        Their names, where all are strings.

    See Also
    --------
    mutual_information : Held-out estimates over folds, with their error.

    Notes
    -----
    From n rows no bound can vouch for more than log n: see McAllester and Stratos. A larger value
    is noise, and `score` warns. Up to 2,048 rows are scored together, all pairs of them; more are
    split into random parts.

    References
    ----------
    M. I. Belghazi et al., "MINE: Mutual Information Neural Estimation" (ICML 2018), arXiv
    1801.04062.

    D. McAllester and K. Stratos, "Formal Limitations on the Measurement of Mutual Information"
    (AISTATS 2020), arXiv 1811.04251.

    Examples
    --------
    >>> import numpy as np
    >>> from cmim_sklearn.mutual_information import MINE
    >>> rng = np.random.RandomState(0)
    >>> X = rng.randn(2000, 1)
    >>> Z = 0.8 * X + 0.6 * rng.randn(2000, 1)  # the truth: -log(0.6) = 0.511
    >>> estimator = MINE(max_iter=300, random_state=0).fit(X[:1500], Z[:1500])
    >>> round(estimator.score(X[1500:], Z[1500:]), 1)
    0.5
    """

    _parameter_constraints: ClassVar[dict] = {
        **NeuralEstimator._parameter_constraints,
        "momentum": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self,
        hidden_layer_sizes=(256,),
        *,
        momentum=0.9,
        critic="separable",
        activation="silu",
        batch_size=128,
        learning_rate_init=1e-3,
        alpha=0.0,
        max_iter=3000,
        validation_fraction=0.1,
        n_iter_no_change=500,
        device="auto",
        random_state=None,
    ):
        super().__init__(
            hidden_layer_sizes,
            critic=critic,
            activation=activation,
            batch_size=batch_size,
            learning_rate_init=learning_rate_init,
            alpha=alpha,
            max_iter=max_iter,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            device=device,
            random_state=random_state,
        )
        self.momentum = momentum

    def _objective(self):
        """See `NeuralEstimator._objective`."""
        return MovingAverage(self.momentum)

    def _value(self, F):
        """See `NeuralEstimator._value`."""
        return donsker_varadhan(F)


class NWJ(NeuralEstimator):
    """Mutual information by the bound of Nguyen, Wainwright and Jordan (f-GAN KL, MINE-f).

    Unbiased for its critic, but of high variance where there is much information.

    Parameters
    ----------
    hidden_layer_sizes, critic, activation, batch_size, learning_rate_init, alpha, max_iter
        See `MINE`.
    validation_fraction, n_iter_no_change, device, random_state
        See `MINE`.

    Attributes
    ----------
    critic_, n_iter_, validation_scores_, n_features_in_, feature_names_in_
        See `MINE`.

    See Also
    --------
    mutual_information : Held-out estimates over folds, with their error.

    Notes
    -----
    `score` warns near the log of the rows scored together, as `MINE` does.

    References
    ----------
    X. Nguyen, M. Wainwright and M. Jordan, "Estimating Divergence Functionals and the Likelihood
    Ratio by Convex Risk Minimization" (2010), arXiv 0809.0853.

    Examples
    --------
    >>> import numpy as np
    >>> from cmim_sklearn.mutual_information import NWJ
    >>> rng = np.random.RandomState(0)
    >>> X = rng.randn(2000, 1)
    >>> Z = 0.8 * X + 0.6 * rng.randn(2000, 1)  # the truth: -log(0.6) = 0.511
    >>> estimator = NWJ(max_iter=300, random_state=0).fit(X[:1500], Z[:1500])
    >>> round(estimator.score(X[1500:], Z[1500:]), 1)
    0.5
    """

    def _objective(self):
        """See `NeuralEstimator._objective`."""
        return nwj

    def _value(self, F):
        """See `NeuralEstimator._value`."""
        return nwj(F)


class InfoNCE(NeuralEstimator):
    """Mutual information by the bound of InfoNCE: of low variance, and at most log b.

    Parameters
    ----------
    hidden_layer_sizes, critic, activation, batch_size, learning_rate_init, alpha, max_iter
        See `MINE`.
    validation_fraction, n_iter_no_change, device, random_state
        See `MINE`.

    Attributes
    ----------
    critic_, n_iter_, validation_scores_, n_features_in_, feature_names_in_
        See `MINE`.

    See Also
    --------
    mutual_information : Held-out estimates over folds, with their error.

    Notes
    -----
    b is the number of rows *scored* together, at most 2,048, so 7.6 nats; `batch_size` sets only
    how the critic is trained.

    References
    ----------
    A. van den Oord, Y. Li and O. Vinyals, "Representation Learning with Contrastive Predictive
    Coding" (2018), arXiv 1807.03748.

    B. Poole et al., "On Variational Bounds of Mutual Information" (ICML 2019), arXiv 1905.06922.

    Examples
    --------
    >>> import numpy as np
    >>> from cmim_sklearn.mutual_information import InfoNCE
    >>> rng = np.random.RandomState(0)
    >>> X = rng.randn(2000, 1)
    >>> Z = 0.8 * X + 0.6 * rng.randn(2000, 1)  # the truth: -log(0.6) = 0.511
    >>> estimator = InfoNCE(max_iter=300, random_state=0).fit(X[:1500], Z[:1500])
    >>> round(estimator.score(X[1500:], Z[1500:]), 1)
    0.5
    """

    def _objective(self):
        """See `NeuralEstimator._objective`."""
        return infonce

    def _value(self, F):
        """See `NeuralEstimator._value`."""
        return infonce(F)


class SMILE(NeuralEstimator):
    """Mutual information by SMILE: a critic trained to tell pairs, valued with clipped scores.

    Training is logistic regression of pairs against mismatches, and the weights that are kept are
    those best at that; only the value is Donsker and Varadhan's, with scores of mismatches clipped.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(256,)
        See `MINE`.
    clip : float, default=5.0
        Scores of mismatches are clipped to [-clip, clip]: less variance, more bias. Infinity clips
        nothing.
    critic, activation, batch_size, learning_rate_init, alpha, max_iter
        See `MINE`.
    validation_fraction, n_iter_no_change, device, random_state
        See `MINE`.

    Attributes
    ----------
    critic_, n_iter_, validation_scores_, n_features_in_, feature_names_in_
        See `MINE`.

    See Also
    --------
    mutual_information : Held-out estimates over folds, with their error.

    Notes
    -----
    No bound: it may exceed the truth. `score` warns near the log of the rows scored together, as
    `MINE` does.

    References
    ----------
    J. Song and S. Ermon, "Understanding the Limitations of Variational Mutual Information
    Estimators" (ICLR 2020), arXiv 1910.06222.

    Examples
    --------
    >>> import numpy as np
    >>> from cmim_sklearn.mutual_information import SMILE
    >>> rng = np.random.RandomState(0)
    >>> X = rng.randn(2000, 1)
    >>> Z = 0.8 * X + 0.6 * rng.randn(2000, 1)  # the truth: -log(0.6) = 0.511
    >>> estimator = SMILE(max_iter=300, random_state=0).fit(X[:1500], Z[:1500])
    >>> round(estimator.score(X[1500:], Z[1500:]), 1)
    0.5
    """

    _parameter_constraints: ClassVar[dict] = {
        **NeuralEstimator._parameter_constraints,
        "clip": [Interval(Real, 0, math.inf, closed="right")],
    }

    def __init__(
        self,
        hidden_layer_sizes=(256,),
        *,
        clip=5.0,
        critic="separable",
        activation="silu",
        batch_size=128,
        learning_rate_init=1e-3,
        alpha=0.0,
        max_iter=3000,
        validation_fraction=0.1,
        n_iter_no_change=500,
        device="auto",
        random_state=None,
    ):
        super().__init__(
            hidden_layer_sizes,
            critic=critic,
            activation=activation,
            batch_size=batch_size,
            learning_rate_init=learning_rate_init,
            alpha=alpha,
            max_iter=max_iter,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            device=device,
            random_state=random_state,
        )
        self.clip = clip

    def _objective(self):
        """See `NeuralEstimator._objective`."""
        return jensen_shannon

    def _value(self, F):
        """See `NeuralEstimator._value`."""
        return smile(F, self.clip)


ESTIMATORS = {"mine": MINE, "nwj": NWJ, "infonce": InfoNCE, "smile": SMILE, "ksg": KSG}
