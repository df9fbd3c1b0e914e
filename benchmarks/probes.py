"""What is asked of features: a linear model, neighbours by two distances, a small network.

Each takes features of labelled training rows and their targets, and is scored on test rows:
accuracy, or R2 where the target is a number. Features go in as they come.
"""

from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor

from benchmarks.linear_probe import linear_model

NEIGHBOURS = 5


def knn(regression, metric):
    """Nearest neighbours, no more than there are labels in the fewest-label regime."""
    cls = KNeighborsRegressor if regression else KNeighborsClassifier
    return cls(NEIGHBOURS, metric=metric, algorithm="brute")


def mlp(regression):
    """One hidden layer of 100, scikit-learn's default, stopped early."""
    cls = MLPRegressor if regression else MLPClassifier
    return cls(early_stopping=True, random_state=0)


PROBES = {
    "linear": linear_model,
    "knn_cosine": lambda regression: knn(regression, "cosine"),
    "knn_euclidean": lambda regression: knn(regression, "euclidean"),
    "mlp": mlp,
}


def score(probe, train, y_train, test, y_test, regression):
    """Score of one of the `PROBES` on test features (m, w), trained on features (n, w)."""
    return PROBES[probe](regression).fit(train, y_train).score(test, y_test)
