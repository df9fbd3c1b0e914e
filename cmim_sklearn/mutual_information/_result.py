"""Result of an estimate of mutual information."""

from typing import NamedTuple


class MutualInformation(NamedTuple):
    """An estimate of the mutual information, in nats.

    Attributes
    ----------
    estimate : float
        Mean over the folds.
    error : float
        Its standard error, from how the folds differ; NaN for a single fold. It knows nothing of
        what the estimator misses on all of them.
    folds : tuple of float
        The estimate of each fold.
    cap : float
        The most that a fold's rows can tell. Near it, take the estimate as a lower bound.
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
