"""KSG estimator of mutual information, by nearest neighbours."""

from numbers import Integral
from typing import ClassVar

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from cmim_sklearn._utils.isolation import isolated
from cmim_sklearn.mutual_information._base import NormalScores, PairEstimator

TIE_NOISE = 1e-10


class KSG(PairEstimator):
    r"""Mutual information by nearest neighbours (Kraskov, Stögbauer and Grassberger, algorithm 1).

    .. math:: \psi(k) + \psi(n) - \operatorname{mean}_i[\psi(n_x(i) + 1) + \psi(n_z(i) + 1)]

    The radius of row i is the distance to its k-th neighbour in (x, z), in the maximum norm. n_x(i)
    and n_z(i) are the numbers of other rows strictly inside that radius in x alone and in z alone.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number k of neighbours. A larger value gives less variance and more bias.
    random_state : int, RandomState instance or None, default=0
        Seed of the noise that breaks ties.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X in `fit`.
    feature_names_in_ : array of shape (n_features,)
        Names of the columns of X in `fit`, if all are strings.

    See Also
    --------
    mutual_information : Held-out estimates over folds, with their standard error.
    sklearn.feature_selection.mutual_info_regression : Information of single columns. The sum over
        columns is not their joint information.

    Notes
    -----
    `fit` trains nothing. It only checks its input and may be skipped. `score` computes the estimate
    from the rows it gets, so pass all of them: ``KSG().score(X, Z)``.

    Columns are mapped to normal scores of the scored rows, because heavy tails would bias the
    estimate towards 0. Normal noise with a standard deviation of 1e-10 is added, so that no two
    rows tie. The estimator suits continuous columns: the neighbours of tied rows depend on the
    noise alone.

    The estimate is at most psi(n) - psi(k). It is far too low near that, and with more than about
    five columns in all. With many columns the run time is quadratic in the number of rows.

    References
    ----------
    A. Kraskov, H. Stögbauer and P. Grassberger, "Estimating Mutual Information" (2004), Physical
    Review E 69, 066138, arXiv cond-mat/0305641.

    Examples
    --------
    >>> import numpy as np
    >>> from cmim_sklearn.mutual_information import KSG
    >>> rng = np.random.RandomState(0)
    >>> X = rng.randn(2000, 1)
    >>> Z = 0.8 * X + 0.6 * rng.randn(2000, 1)  # true value: -log(0.6) = 0.511
    >>> round(KSG().score(X, Z), 1)
    0.5
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(self, n_neighbors=5, *, random_state=0):
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    @isolated
    def fit(self, X, y):
        """Check the pairs; nothing is trained.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_features_z)
            Z; row i is paired with row i of X.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If X and y differ in their number of rows, have fewer than ten, or contain NaN or
            infinity; or if a parameter is invalid.
        """
        self._read(X, y, reset=True)
        return self

    def _estimate(self, X, Z):
        n, k = len(X), self.n_neighbors
        if k >= n:
            raise ValueError(
                f"n_neighbors must be smaller than the number of rows scored; got n_neighbors={k} "
                f"and {n} rows."
            )
        rng = check_random_state(self.random_state)
        x, z = (NormalScores(S)(S) + TIE_NOISE * rng.normal(size=S.shape) for S in (X, Z))
        joint = np.hstack([x, z])
        radius = cKDTree(joint).query(joint, k=[k + 1], p=np.inf)[0][:, 0]
        # The tree also counts points at the radius; the formula needs those strictly inside.
        inside = np.nextafter(radius, 0)
        # The tree counts the point itself too: the + 1 of the formula.
        n_x, n_z = (
            cKDTree(side).query_ball_point(side, inside, p=np.inf, return_length=True)
            for side in (x, z)
        )
        return float(digamma(k) + digamma(n) - (digamma(n_x) + digamma(n_z)).mean())

    def _cap(self, n_rows):
        # Reached if no row but the nearest neighbours is inside any radius, in x and in z alone.
        return float(digamma(n_rows) - digamma(self.n_neighbors))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags
