r"""Geometry of features on the unit sphere: uniformity, tolerance and alignment.

Features are scaled to unit length first, so only their directions matter. Rows of zeros have no
direction and stay at the origin. Features that collapse to zero are therefore measured as
collapsed.

Axes: n rows, d features.
"""

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_array, column_or_1d

from cmim_sklearn._utils.isolation import isolated

__all__ = ["alignment", "tolerance", "uniformity"]

BLOCK_ROWS = 1024
"""Rows of a block of pairs. Only the distances of one block are in memory at a time."""


@isolated
@validate_params(
    {"Z": ["array-like"], "t": [Interval(Real, 0, None, closed="neither")]},
    prefer_skip_nested_validation=True,
)
def uniformity(Z, *, t=2.0):
    r"""Uniformity of features on the unit sphere; lower means more evenly spread.

    .. math:: \log \frac{1}{n(n-1)} \sum_{i \ne j} e^{-t \lVert f_i - f_j \rVert^2},
        \quad f_i = z_i / \lVert z_i \rVert

    The mean is over the n(n - 1) ordered pairs of different rows. Time is quadratic in the number
    of rows; memory is linear, because pairs are computed in blocks.

    Parameters
    ----------
    Z : array of shape (n_samples, n_features)
        Features of at least two rows.
    t : float, default=2.0
        Inverse width of the Gaussian kernel, above 0. A larger value gives more weight to the
        closest pairs.

    Returns
    -------
    float
        In [-4 t, 0]; 0 if all features have the same direction.

    Raises
    ------
    ValueError
        If Z has fewer than two rows or contains NaN or infinity, or if `t` is not above 0.

    See Also
    --------
    tolerance : Similarity of rows with the same label, which uniformity ignores.

    Notes
    -----
    Evenly spaced directions on the circle give :math:`\log(e^{-2t} I_0(2t))`. The mean inside the
    logarithm equals that of the contrastive term (`cmim_sklearn.objectives.contrast`) at a
    temperature of 1 / (2 t).

    References
    ----------
    T. Wang and P. Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere" (ICML 2020), arXiv 2005.10242.

    Examples
    --------
    >>> from cmim_sklearn.geometry import uniformity
    >>> uniformity([[1.0, 0.0], [-3.0, 0.0]])  # two opposite directions, at distance 2
    -8.0

    Negated, as a scorer for model selection, where larger is better:

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
                # Blocks off the diagonal count twice, because the matrix is symmetric.
                logs.append(log_sum + np.log(1 if other == start else 2))
    log_mean = np.logaddexp.reduce(logs) - np.log(len(f)) - np.log(len(f) - 1)
    return min(float(log_mean), 0.0)


@isolated
@validate_params(
    {"Z": ["array-like"], "labels": ["array-like"]}, prefer_skip_nested_validation=True
)
def tolerance(Z, labels):
    r"""Mean cosine similarity of rows with the same label; higher means closer.

    .. math:: \frac{\sum_{i \ne j} 1[l_i = l_j] \, f_i^\top f_j}{\sum_{i \ne j} 1[l_i = l_j]},
        \quad f_i = z_i / \lVert z_i \rVert

    The mean is over the ordered pairs of different rows that share a label, so large classes have
    more weight. Time is linear in the number of rows.

    Parameters
    ----------
    Z : array of shape (n_samples, n_features)
        Features.
    labels : array of shape (n_samples,)
        Class of each row: integers, strings or other sortable values, none of them missing.

    Returns
    -------
    float
        In [-1, 1].

    Raises
    ------
    ValueError
        If no two rows share a label, if a label is missing, if the numbers of labels and rows
        differ, or if Z contains NaN or infinity.

    See Also
    --------
    uniformity : Spread of all features. Collapsed features have a perfect tolerance, so use both.

    Notes
    -----
    The paper defines the expectation of similarity times indicator over all pairs, which shrinks as
    the number of classes grows. This function divides by the number of pairs that share a label, so
    it does not shrink.

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
            f"labels must not be missing; got {n_missing} missing of {len(labels)}. Drop those "
            "rows from Z and labels."
        )
    if len(labels) != len(f):
        raise ValueError(
            f"labels must have one entry per row of Z; got {len(labels)} labels and {len(f)} rows."
        )
    _, group, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    n_pairs = int(sizes @ (sizes - 1))
    if not n_pairs:
        raise ValueError(
            f"labels must have a value that two rows share; got {len(f)} different labels for "
            f"{len(f)} rows. Bin continuous labels first."
        )
    sums = np.zeros((len(sizes), f.shape[1]))
    np.add.at(sums, group, f)
    return float(((sums**2).sum() - (f**2).sum()) / n_pairs)


@isolated
@validate_params(
    {
        "Z1": ["array-like"],
        "Z2": ["array-like"],
        "alpha": [Interval(Real, 0, None, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def alignment(Z1, Z2, *, alpha=2.0):
    r"""Mean distance between the two features of a positive pair; lower means closer.

    .. math:: \frac{1}{n} \sum_i \lVert f_i - g_i \rVert^\alpha

    Row i of Z1 and row i of Z2 are one positive pair, such as two views of one row or two samples
    of one latent code. f and g are these rows, scaled to unit length.

    Parameters
    ----------
    Z1, Z2 : array of shape (n_samples, n_features)
        First and second features of the pairs.
    alpha : float, default=2.0
        Exponent of the distance, above 0.

    Returns
    -------
    float
        In [0, 2 ** alpha].

    Raises
    ------
    ValueError
        If the shapes differ, if Z1 or Z2 contains NaN or infinity, or if `alpha` is not above 0.

    See Also
    --------
    uniformity : Spread of all features. Collapsed features are perfectly aligned, so use both.

    References
    ----------
    T. Wang and P. Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere" (ICML 2020), arXiv 2005.10242.

    Examples
    --------
    >>> from cmim_sklearn.geometry import alignment
    >>> alignment([[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, -1.0]])  # equal, opposite
    2.0

    Negated, as a scorer for stability under noise on the input:

    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.model_selection import cross_val_score
    >>> def stability(est, X, y=None):
    ...     noise = np.random.RandomState(0).normal(scale=0.1, size=X.shape)
    ...     return -alignment(est.transform(X), est.transform(X + noise))
    >>> X, y = load_iris(return_X_y=True)
    >>> cross_val_score(PCA(2), X, scoring=stability).shape
    (5,)
    """
    f, g = _unit(Z1, "Z1"), _unit(Z2, "Z2")
    if f.shape != g.shape:
        raise ValueError(
            "Z1 and Z2 must have the same shape, because row i of both is one pair; got shapes "
            f"{f.shape} and {g.shape}."
        )
    return float((np.linalg.norm(f - g, axis=1) ** alpha).mean())


def _unit(Z, name, min_rows=1):
    """Scale rows to unit length, float64 (n, d); rows of zeros stay zero."""
    Z = check_array(Z, dtype=np.float64, input_name=name, ensure_min_samples=min_rows)
    # Dividing by the largest entry first avoids squares that underflow or overflow. scikit-learn's
    # normalize would leave rows shorter than 2e-15 unchanged.
    for length in (lambda Z: np.abs(Z).max(1), lambda Z: np.linalg.norm(Z, axis=1)):
        divisor = length(Z)
        Z = Z / np.where(divisor > 0, divisor, 1)[:, None]
    return Z
