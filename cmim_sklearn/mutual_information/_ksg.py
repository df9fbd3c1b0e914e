"""Nearest-neighbour estimator of mutual information (Kraskov, Stoegbauer, Grassberger)."""

from numbers import Integral
from typing import ClassVar

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from cmim_sklearn.mutual_information._critics import PairEstimator, Scaling

TIE_NOISE = 1e-10


class KSG(PairEstimator):
    r"""Mutual information by counting neighbours (Kraskov, Stögbauer and Grassberger, the first).

    .. math:: \psi(k) + \psi(n) - \operatorname{mean}_i[\psi(n_x(i) + 1) + \psi(n_z(i) + 1)]

    The radius of a row is the distance to its k-th neighbour in (x, z), by the largest difference
    in any column; n_x and n_z count the rows strictly inside it in x and in z alone.

    Parameters
    ----------
    n_neighbors : int, default=5
        k. More neighbours: less variance, more bias.
    random_state : int, RandomState or None, default=0
        Of the noise against ties.

    Attributes
    ----------
    n_features_in_ : int
        Columns of X in fit.
    feature_names_in_ : array of shape (n_features,)
        Their names, where all are strings.

    See Also
    --------
    mutual_information : Held-out estimates over folds, with their error.
    sklearn.feature_selection.mutual_info_regression : The same between single columns; its sum over
        columns is not the information of them together.

    Notes
    -----
    There is nothing to train: `fit` only checks, and may be left out. `score` estimates the
    information from the rows it is given, so all of them may go there: ``KSG().score(X, Z)``.

    Each column is mapped to normal scores of the rows scored, since heavy tails would bias the
    estimate down, and gets normal noise of deviation 1e-10, so that no two rows tie. It is meant
    for continuous columns: among rows that tie, only the noise is counted.

    It cannot exceed psi(n) - psi(k), and near that, or beyond some five columns in all, it is far
    too low. Time grows with the square of the rows where there are many columns.

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
    >>> Z = 0.8 * X + 0.6 * rng.randn(2000, 1)  # the truth: -log(0.6) = 0.511
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

    def fit(self, X, y):
        """Check the pairs; nothing is learnt from them.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_features_z)

        Returns
        -------
        self : object
        """
        self._read(X, y, reset=True)
        return self

    def _estimate(self, X, Z):
        """See `PairEstimator._estimate`."""
        n, k = len(X), self.n_neighbors
        if k >= n:
            raise ValueError(
                f"n_neighbors must be less than the number of rows scored. Got n_neighbors={k} and "
                f"{n} rows."
            )
        rng = check_random_state(self.random_state)
        x, z = (Scaling(part)(part) + TIE_NOISE * rng.normal(size=part.shape) for part in (X, Z))
        joint = np.hstack([x, z])
        radius = cKDTree(joint).query(joint, k=[k + 1], p=np.inf)[0][:, 0]
        # The tree counts points at the radius, too; the formula wants those strictly inside.
        inside = np.nextafter(radius, 0)
        # A point counts itself, which is the one that the formula adds.
        n_x, n_z = (
            cKDTree(side).query_ball_point(side, inside, p=np.inf, return_length=True)
            for side in (x, z)
        )
        return float(digamma(k) + digamma(n) - (digamma(n_x) + digamma(n_z)).mean())

    def _cap(self, n_rows):
        """Reached where no row has another inside its radius, in x or in z, but its neighbours."""
        return float(digamma(n_rows) - digamma(self.n_neighbors))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags
