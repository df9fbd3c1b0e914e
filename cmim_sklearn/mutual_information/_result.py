"""Result of an estimate of mutual information."""

from typing import NamedTuple


class MutualInformation(NamedTuple):
    """Estimate of the mutual information, in nats.

    Attributes
    ----------
    estimate : float
        Mean over the folds.
    error : float
        Standard error of the mean over the folds; NaN for a single fold. It does not include the
        bias of the estimator, which all folds share.
    folds : tuple of float
        Estimate of each fold.
    cap : float
        Largest value that the rows of a fold can show. Treat an estimate near it as a lower bound.
    """

    estimate: float
    error: float
    folds: tuple
    cap: float

    def __repr__(self):
        folds = "1 fold" if len(self.folds) == 1 else f"{len(self.folds)} folds"
        return (
            f"MutualInformation({self.estimate:.3f} ± {self.error:.3f} nats, {folds}, "
            f"cap {self.cap:.2f})"
        )
