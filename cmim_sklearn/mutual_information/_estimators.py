"""Estimators of mutual information that train a critic, and all estimators by name.

The estimators differ in the objective that trains the critic and in the estimate computed from its
scores; both are functions of `_bounds`.
"""

import math
from numbers import Real
from typing import ClassVar

from sklearn.utils._param_validation import Interval

from cmim_sklearn.mutual_information._bounds import (
    MovingAverage,
    donsker_varadhan,
    infonce_bound,
    jensen_shannon,
    nwj,
    smile,
)
from cmim_sklearn.mutual_information._critics import NeuralEstimator
from cmim_sklearn.mutual_information._ksg import KSG


class MINE(NeuralEstimator):
    """Mutual information by MINE: the Donsker-Varadhan bound with a corrected gradient.

    In training, the gradient of the bound's logarithm is divided by a moving average of the batch
    means of exp(f) instead of the mean of one batch, which reduces its bias. The estimate is the
    bound itself on new pairs.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(256,)
        Widths of the hidden layers of each network of the critic. ``()``: a linear network.
    momentum : float, default=0.9
        Weight of past batches in the moving average, in (0, 1).
    critic : {"separable", "concat"}, default="separable"
        Form of the critic. `"separable"`: f(x, z) = <g(x), h(z)>, with one network per side.
        `"concat"`: f(x, z) = g([x; z]), one network that is run for each pair of a batch; about
        twenty times slower.
    activation : {"silu", "relu", "gelu", "elu", "tanh", "identity"}, default="silu"
        Activation function of the hidden layers, by its name in PyTorch. `"identity"`: none.
    batch_size : int, default=128
        Number b of pairs per update. All b (b - 1) mismatched pairs of a batch are negatives.
    learning_rate_init : float, default=1e-3
        Learning rate of AdamW, constant.
    alpha : float, default=0.0
        Decoupled weight decay of AdamW. A value of about 1 helps if there are many columns for the
        number of rows, and hurts if there are few. The score is a lower bound, so choose the value
        of `alpha` with the largest score on held-out pairs.
    max_iter : int, default=3000
        Maximum number of updates (not epochs).
    validation_fraction : float, default=0.1
        Share of the pairs that `fit` holds out, in (0, 1). The weights with the best objective on
        them are kept. Without them a critic overfits, and its score of new pairs falls without
        limit.
    n_iter_no_change : int, default=500
        Number of updates without improvement on the held-out pairs after which training stops.
    device : str, default="auto"
        Device of training and scoring. `"auto"`: a GPU if there is one, else the CPU. Otherwise a
        device name of PyTorch, as "cpu", "cuda:1" or "mps". Estimates are averaged in float64, on
        the CPU if the device has no float64.
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, batches and held-out pairs. An int gives the same critic, to the bit,
        on one CPU.

    Attributes
    ----------
    critic_ : torch.nn.Module
        Critic. It maps normal scores x (n, n_features) and z (m, n_features_z) to scores (n, m).
    n_iter_ : int
        Number of updates.
    validation_scores_ : list of float
        Objective on the held-out pairs before training and every 50 updates, in nats.
    n_features_in_ : int
        Number of columns of X in `fit`.
    feature_names_in_ : array of shape (n_features,)
        Names of the columns of X in `fit`, if all are strings.

    See Also
    --------
    mutual_information : Held-out estimates over folds, with their standard error.

    Notes
    -----
    No bound computed from n rows can show more than log n nats with confidence (McAllester and
    Stratos). A larger value is noise, and `score` warns near it. Up to 2,048 rows are scored
    together, in all pairs; more rows are split into random parts.

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
    >>> Z = 0.8 * X + 0.6 * rng.randn(2000, 1)  # true value: -log(0.6) = 0.511
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
        return MovingAverage(self.momentum)

    def _value(self, F):
        return donsker_varadhan(F)


class NWJ(NeuralEstimator):
    """Mutual information by the bound of Nguyen, Wainwright and Jordan (f-GAN KL, MINE-f).

    The estimate of the bound is unbiased for a given critic, but its variance is high if the
    information is large.

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
    mutual_information : Held-out estimates over folds, with their standard error.

    Notes
    -----
    `score` warns near the log of the number of rows scored together, as `MINE` does.

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
    >>> Z = 0.8 * X + 0.6 * rng.randn(2000, 1)  # true value: -log(0.6) = 0.511
    >>> estimator = NWJ(max_iter=300, random_state=0).fit(X[:1500], Z[:1500])
    >>> round(estimator.score(X[1500:], Z[1500:]), 1)
    0.5
    """

    def _objective(self):
        return nwj

    def _value(self, F):
        return nwj(F)


class InfoNCE(NeuralEstimator):
    """Mutual information by the InfoNCE bound, which has low variance and is at most log b.

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
    mutual_information : Held-out estimates over folds, with their standard error.

    Notes
    -----
    b is the number of rows that are scored together, at most 2,048, so the bound is at most 7.6
    nats. `batch_size` affects only the training of the critic.

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
    >>> Z = 0.8 * X + 0.6 * rng.randn(2000, 1)  # true value: -log(0.6) = 0.511
    >>> estimator = InfoNCE(max_iter=300, random_state=0).fit(X[:1500], Z[:1500])
    >>> round(estimator.score(X[1500:], Z[1500:]), 1)
    0.5
    """

    def _objective(self):
        return infonce_bound

    def _value(self, F):
        return infonce_bound(F)


class SMILE(NeuralEstimator):
    """Mutual information by SMILE: a critic trained as a classifier, and clipped scores.

    The critic is trained by logistic regression of matching against mismatched pairs, and the
    weights with the best held-out objective are kept. The estimate is the Donsker-Varadhan bound
    with clipped scores of mismatched pairs.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(256,)
        See `MINE`.
    clip : float, default=5.0
        Bound of the scores of mismatched pairs, which are clipped to [-clip, clip]. A smaller value
        gives less variance and more bias. Infinity: no clipping.
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
    mutual_information : Held-out estimates over folds, with their standard error.

    Notes
    -----
    The estimate is not a bound: it may exceed the true value. `score` warns near the log of the
    number of rows scored together, as `MINE` does.

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
    >>> Z = 0.8 * X + 0.6 * rng.randn(2000, 1)  # true value: -log(0.6) = 0.511
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
        return jensen_shannon

    def _value(self, F):
        return smile(F, self.clip)


ESTIMATORS = {"mine": MINE, "nwj": NWJ, "infonce": InfoNCE, "smile": SMILE, "ksg": KSG}
"""Estimators by the name that `mutual_information` takes."""
