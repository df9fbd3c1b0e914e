"""Statistics of the quality report: paired differences, ranks, and the way to trees.

Each uses the (table, seed) pairs that all sides of a comparison have. Seeds are averaged first, and
a standard error is over tables.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, rankdata, studentized_range, t

TREES = ("HistGradientBoosting", "ExtraTrees")
GRID = ("AE", "cAE", "VAE", "cVAE", "MIM", "cMIM")
"""Auto-encoders without and with contrast."""
LEAST_LEAD, WAY_LIMITS = 0.02, (-1.0, 1.5)
"""The way is undefined where trees lead raw columns by less; it is clipped to the limits."""
CONFIDENCE, MARGIN = 0.95, 0.005
"""A score may be lower by the margin and still count as no worse."""


class Paired(NamedTuple):
    """Mean scores of two sides over tables, and their paired difference with its error."""

    ours: float
    theirs: float
    mean: float
    error: float
    wins: int
    losses: int
    tables: int
    seeds: tuple

    @property
    def margin(self):
        """Half the width of the confidence interval of the mean difference."""
        return self.error * t.ppf((1 + CONFIDENCE) / 2, self.tables - 1)

    @property
    def verdict(self):
        """Position of the confidence interval relative to 0 and to minus the margin."""
        if self.tables < 2:
            return "too few tables" if self.tables else "not run"
        low, high = self.mean - self.margin, self.mean + self.margin
        if low > 0 or high < 0:
            return "better" if low > 0 else "worse"
        return "no worse" if low > -MARGIN else "open"


def select(rows, **values):
    """Rows that have the given values in the named columns."""
    for column, value in values.items():
        rows = rows[rows[column] == value]
    return rows


def at_embedding(rows, embedding):
    """Each arm at an embedding; an arm without it at "mean", else at the first that it has."""
    chosen = {}
    for arm, have in rows.groupby("arm")["embedding"].unique().items():
        chosen[arm] = next((name for name in (embedding, "mean") if name in have), have[0])
    return rows[rows["embedding"] == rows["arm"].map(chosen)]


def wide(rows, columns="arm", values="score"):
    """One row for each (table, seed), one column for each value of ``columns``."""
    return rows.pivot_table(index=["table", "seed"], columns=columns, values=values)


def complete(frame):
    """Pairs that all columns have, without columns that have fewer than half of the tables."""
    tables = frame.notna().groupby("table").any().sum()
    return frame.loc[:, tables >= tables.max() / 2].dropna()


def by_table(frame):
    """Means over seeds."""
    return frame.groupby("table").mean()


def seeds_of(frame):
    """Smallest and largest number of seeds of a table."""
    counts = frame.groupby("table").size()
    return (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)


def paired(frame, ours, theirs):
    """Comparison of two columns of `wide`; a column may be missing."""
    shared = frame.reindex(columns=[ours, theirs]).dropna()
    return over_tables(*by_table(shared).to_numpy().T, seeds_of(shared))


def over_tables(left, right, seeds):
    """Comparison of two arrays with one value for each table."""
    if not len(left):
        return Paired(*[np.nan] * 4, 0, 0, 0, seeds)
    difference = left - right
    spread = difference.std(ddof=1) if len(difference) > 1 else np.nan
    error = spread / np.sqrt(len(difference))
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    means = left.mean(), right.mean(), difference.mean()
    return Paired(*means, error, wins, losses, len(difference), seeds)


def against_others(frame, ours="cMIM"):
    """Comparisons of ours with every other column of `wide`."""
    return {f"{ours} over {arm}": paired(frame, ours, arm) for arm in frame if arm != ours}


class Ranking(NamedTuple):
    """Mean ranks over tables, best first, the critical difference and Friedman's p-value."""

    ranks: pd.Series
    difference: float
    p_value: float
    tables: int


def nemenyi(n_arms, n_tables):
    """Critical difference of mean ranks (Demsar 2006), at the 5 % level."""
    constant = studentized_range.ppf(CONFIDENCE, n_arms, np.inf) / np.sqrt(2)
    return constant * np.sqrt(n_arms * (n_arms + 1) / (6 * n_tables))


def rank(frame):
    """`Ranking` of the columns of `wide`, or None for fewer than two tables or three arms."""
    tables = by_table(complete(frame))
    n_tables, n_arms = tables.shape
    if n_tables < 2 or n_arms < 3:
        return None
    ranks = pd.Series(rankdata(-tables.to_numpy(), axis=1).mean(0), tables.columns)
    with np.errstate(invalid="ignore"):  # all arms equal: 0 / 0
        p_value = friedmanchisquare(*tables.to_numpy().T).pvalue
    difference = float(nemenyi(n_arms, n_tables))
    return Ranking(ranks.sort_values(kind="stable"), difference, float(p_value), n_tables)


def way(frame, ours="cMIM"):
    """Share of the lead of trees over raw columns that features close, for each table.

    ``trees`` is the better of the two for each seed. ``way`` is NaN where trees lead raw columns
    by less than `LEAST_LEAD`.
    """
    trees = frame.reindex(columns=[name for name in TREES if name in frame] or TREES)
    # If one of the two trees is missing, the better one is unknown.
    frame = frame.reindex(columns=[ours, "raw"]).assign(trees=trees.max(axis=1, skipna=False))
    means = by_table(frame.dropna())
    lead = means["trees"] - means["raw"]
    closed = (means[ours] - means["raw"]) / lead.where(lead >= LEAST_LEAD)
    return means.assign(way=closed.clip(*WAY_LIMITS))


def slopes(scores):
    """Slope of the scores of each table (rows) for each doubling of the size (columns)."""
    return np.polyfit(np.log2(scores.columns.astype(int)), scores.T, 1)[0]


def costs(rows):
    """Mean score, median costs and number of fits of each arm, the best score first.

    The score is over the pairs that all arms have, the costs over all that an arm has.
    """
    scores, names = wide(rows), ["n_features", "fit_s", "transform_rows_s", "peak_mb", "bytes"]
    found = rows.groupby("arm")[names].median()
    found.insert(0, "score", by_table(complete(scores)).mean())
    return found.assign(fits=scores.count()).sort_values("score", ascending=False)


def contrast_sizes(rows, by):
    """Size of the contrastive term, and its share of the loss, by values of a column.

    Medians over tables of means over seeds, at the last epoch.
    """
    rows = rows.dropna(subset="contrast").astype({"contrast": float, "loss": float})
    # A fit has a row for each of its scores, all with the same loss.
    fits = rows.groupby([by, "table", "seed"], sort=False)[["contrast", "loss"]].first()
    fits["share"] = (fits["contrast"] / fits["loss"].where(fits["loss"] != 0)).abs()
    tables = fits.groupby([by, "table"], sort=False).mean()
    found = tables.groupby(by, sort=False)[["contrast", "share"]].median()
    seeds = pd.Series({name: seeds_of(part) for name, part in fits.groupby(by)}, dtype=object)
    return found.assign(tables=tables.groupby(by).size(), seeds=seeds)
