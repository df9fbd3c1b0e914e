"""Tables of the quality benchmark: splits, few labels, and raw columns for a linear model."""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from benchmarks.tools import numeric_columns

TEXT_TABLES = {"esol", "lipophilicity"}
FEW_SHARE, FEW_LEAST = 0.05, 60
"""With few labels: this share of the training rows, but at least so many."""


def names(data_dir):
    """Names of the tables in a folder, without the text tables."""
    return sorted(p.stem for p in data_dir.glob("*.parquet") if p.stem not in TEXT_TABLES)


def load(path, seed, max_rows):
    """Training rows, test rows, their targets, and whether the target is a number."""
    frame = pd.read_parquet(path)
    target = frame.pop("target")
    regression = pd.api.types.is_numeric_dtype(target) and target.nunique() > 20
    if regression:
        # Prices and counts are positive and skewed.
        values = np.log1p(target.to_numpy(float)) if target.min() >= 0 else target.to_numpy(float)
    else:
        labels = target.astype(str)
        kept = (labels.map(labels.value_counts()) >= 10).to_numpy()
        frame, values = frame[kept], labels[kept].to_numpy()

    def split(frame, values, **size):
        stratify = None if regression else values
        return train_test_split(frame, values, stratify=stratify, random_state=seed, **size)

    if len(frame) > max_rows:
        frame, _, values, _ = split(frame, values, train_size=max_rows)
    return *split(frame, values, test_size=0.3), regression


def few_rows(y, seed):
    """Positions of the rows whose labels are known with few labels: two or more of each class."""
    wanted = min(len(y), max(FEW_LEAST, round(FEW_SHARE * len(y))))
    order = np.random.RandomState(seed).permutation(len(y))
    if y.dtype.kind != "f":
        first = np.concatenate([np.flatnonzero(y[order] == c)[:2] for c in np.unique(y)])
        order = np.concatenate([order[first], np.delete(order, first)])
        wanted = max(wanted, len(first))
    return order[:wanted]


class RawColumns:
    """Raw columns prepared for a linear model: imputed, one-hot, as normal scores, standardised."""

    def __init__(self, X):
        numbers = numeric_columns(X)
        self.categorical = [c for c in X if c not in numbers]
        quantiles = QuantileTransformer(output_distribution="normal", n_quantiles=min(1000, len(X)))
        median = SimpleImputer(strategy="median", add_indicator=True)
        level = SimpleImputer(strategy="constant", fill_value="missing")
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        prepare = make_column_transformer(
            (make_pipeline(median, quantiles), numbers),
            (make_pipeline(level, one_hot), self.categorical),
        )
        self.pipeline = make_pipeline(prepare, StandardScaler()).fit(self._as_objects(X))

    def transform(self, X):
        """Numbers (n, w) of a frame with the same columns."""
        return self.pipeline.transform(self._as_objects(X))

    def _as_objects(self, X):
        objects = {c: X[c].astype(object).where(X[c].notna(), "missing") for c in self.categorical}
        return X.assign(**objects)
