r"""How features lie on the sphere: uniformity, tolerance and alignment.

Features are brought to unit length first, so that only their directions count. A row of zeros has
none: it stays at the centre, where all such rows meet, so that a collapse to zero looks like one.

Axes: n rows, d features.
"""

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_array, column_or_1d

__all__ = ["alignment", "tolerance", "uniformity"]

BLOCK_ROWS = 1024
"""Rows of a block of pairs; the distances of one block are all that is held at a time."""


@validate_params(
    {"Z": ["array-like"], "t": [Interval(Real, 0, None, closed="neither")]},
    prefer_skip_nested_validation=True,
)
def uniformity(Z, *, t=2.0):
    r"""How evenly features spread over the sphere; lower is more even.

    .. math:: \log \frac{1}{n(n-1)} \sum_{i \ne j} e^{-t \lVert f_i - f_j \rVert^2},
        \quad f_i = z_i / \lVert z_i \rVert

    The mean is over the n(n - 1) ordered pairs of different rows. All pairs are taken, block by
    block: the time is quadratic in the rows, the memory is not.

    Parameters
    ----------
    Z : array of shape (n_samples, n_features)
        At least two rows.
    t : float, default=2.0
        Sharpness of the kernel; larger looks at nearer pairs.

    Returns
    -------
    float
        In [-4 t, 0]; 0 where all features point the same way.

    Raises
    ------
    ValueError
        If Z has fewer than two rows, or holds NaN or infinity.

    See Also
    --------
    tolerance : Whether rows of one label stay together, which uniformity alone does not reward.

    Notes
    -----
    On the circle even directions give :math:`\log(e^{-2t} I_0(2t))`. The mean inside the logarithm
    at t is the contrastive term's of `cmim_sklearn.objectives` at a temperature of 1 / (2 t).

    References
    ----------
    T. Wang and P. Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere" (ICML 2020), arXiv 2005.10242.

    Examples
    --------
    >>> from cmim_sklearn.geometry import uniformity
    >>> uniformity([[1.0, 0.0], [-3.0, 0.0]])  # two opposite directions, at distance 2
    -8.0

    As a scorer for model selection, where greater is better, with its sign turned:

    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.model_selection import GridSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> search = GridSearchCV(
    ...     PCA(),
    ...     {"n_components": [1, 2, 3]},
    ...     scoring=lambda est, X, y=None: -uniformity(est.transform(X)),
    ... )
    >>> search.fit(X).best_params_
    {'n_components': 3}
    """
    f = _unit(Z, "Z", min_rows=2)
    squares = np.einsum("ij,ij->i", f, f)  # 1, or 0 for a row of zeros
    logs = []
    for start in range(0, len(f), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        for other in range(start, len(f), BLOCK_ROWS):
            columns = slice(other, other + BLOCK_ROWS)
            exponents = squares[rows, None] + squares[columns] - 2 * f[rows] @ f[columns].T
            # Rounding may leave a distance just below zero.
            exponents = -t * exponents.clip(min=0)
            if other == start:
                np.fill_diagonal(exponents, -np.inf)
            largest = exponents.max()
            if np.isfinite(largest):  # a last block of one row holds no pair
                log_sum = largest + np.log(np.exp(exponents - largest).sum())
                # Blocks off the diagonal stand for their mirror images, too.
                logs.append(log_sum + np.log(1 if other == start else 2))
    log_mean = np.logaddexp.reduce(logs) - np.log(len(f)) - np.log(len(f) - 1)
    return min(float(log_mean), 0.0)


@validate_params(
    {"Z": ["array-like"], "labels": ["array-like"]}, prefer_skip_nested_validation=True
)
def tolerance(Z, labels):
    r"""How close rows of one label lie: their mean cosine similarity; higher is closer.

    .. math:: \frac{\sum_{i \ne j} 1[l_i = l_j] \, f_i^\top f_j}{\sum_{i \ne j} 1[l_i = l_j]},
        \quad f_i = z_i / \lVert z_i \rVert

    The mean is over the ordered pairs of different rows that share a label, so a large class counts
    for more than a small one. The time is linear in the rows.

    Parameters
    ----------
    Z : array of shape (n_samples, n_features)
    labels : array of shape (n_samples,)
        Integers, strings, or whatever can be sorted.

    Returns
    -------
    float
        In [-1, 1].

    Raises
    ------
    ValueError
        If no two rows share a label, if `labels` has not one entry for each row, or if Z holds NaN
        or infinity.

    See Also
    --------
    uniformity : Falls as tolerance rises when all features crowd together; look at both.

    Notes
    -----
    The paper writes the expectation of the similarity times the indicator over all pairs, which
    shrinks with the number of classes. Divided by the number of pairs that share a label, as here,
    it does not.

    References
    ----------
    F. Wang and H. Liu, "Understanding the Behaviour of Contrastive Loss" (CVPR 2021), arXiv
    2012.09740.

    Examples
    --------
    >>> from cmim_sklearn.geometry import tolerance
    >>> tolerance([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 5.0]], ["a", "a", "b", "b"])
    1.0

    As a scorer: ``scoring=lambda est, X, y: tolerance(est.transform(X), y)``.
    """
    f = _unit(Z, "Z")
    labels = column_or_1d(labels)
    n_missing = sum(label is None or label != label for label in labels.tolist())
    if n_missing:
        raise ValueError(
            f"labels must not be missing. Got {n_missing} missing of {len(labels)}; leave those "
            "rows out."
        )
    if len(labels) != len(f):
        raise ValueError(
            f"labels must have one entry for each row of Z. Got {len(labels)} labels and "
            f"{len(f)} rows."
        )
    _, group, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    n_pairs = int(sizes @ (sizes - 1))
    if not n_pairs:
        raise ValueError(
            f"tolerance needs two rows that share a label. Got {len(f)} rows with as many "
            "different labels; if they are measurements, bin them first."
        )
    sums = np.zeros((len(sizes), f.shape[1]))
    np.add.at(sums, group, f)
    return float(((sums**2).sum() - (f**2).sum()) / n_pairs)


@validate_params(
    {
        "Z1": ["array-like"],
        "Z2": ["array-like"],
        "alpha": [Interval(Real, 0, None, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def alignment(Z1, Z2, *, alpha=2.0):
    r"""How far apart the two features of a pair lie; lower is closer.

    .. math:: \frac{1}{n} \sum_i \lVert f_i - g_i \rVert^\alpha

    Row i of both is one positive pair: two views of one thing, two draws of one code. f and g are
    their rows brought to unit length. The mean is over the n pairs.

    Parameters
    ----------
    Z1, Z2 : array of shape (n_samples, n_features)
    alpha : float, default=2.0
        Exponent of the distance.

    Returns
    -------
    float
        In [0, 2 ** alpha].

    Raises
    ------
    ValueError
        If the shapes differ, or if there is NaN or infinity.

    See Also
    --------
    uniformity : Features that all coincide are perfectly aligned; look at both.

    References
    ----------
    T. Wang and P. Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere" (ICML 2020), arXiv 2005.10242.

    Examples
    --------
    >>> from cmim_sklearn.geometry import alignment
    >>> alignment([[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, -1.0]])  # alike, and opposite
    2.0

    As a scorer, for example under noise on the input:

    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.model_selection import cross_val_score
    >>> def steadiness(est, X, y=None):
    ...     noise = np.random.RandomState(0).normal(scale=0.1, size=X.shape)
    ...     return -alignment(est.transform(X), est.transform(X + noise))
    >>> X, y = load_iris(return_X_y=True)
    >>> cross_val_score(PCA(2), X, scoring=steadiness).shape
    (5,)
    """
    f, g = _unit(Z1, "Z1"), _unit(Z2, "Z2")
    if f.shape != g.shape:
        raise ValueError(
            "Z1 and Z2 must have the same shape: row i of both is one pair. Got shapes "
            f"{f.shape} and {g.shape}."
        )
    return float((np.linalg.norm(f - g, axis=1) ** alpha).mean())


def _unit(Z, name, min_rows=1):
    """Rows of unit length (n, d), float64; rows of zeros stay as they are."""
    Z = check_array(Z, dtype=np.float64, input_name=name, ensure_min_samples=min_rows)
    # By the largest entry first, since the square of a tiny or huge one is 0 or infinite.
    # scikit-learn's normalize would leave rows shorter than 2e-15 as they are.
    for length in (lambda Z: np.abs(Z).max(1), lambda Z: np.linalg.norm(Z, axis=1)):
        divisor = length(Z)
        Z = Z / np.where(divisor > 0, divisor, 1)[:, None]
    return Z
