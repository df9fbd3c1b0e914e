"""What the findings of `benchmarks.report` rest on: paired differences, ranks, the way to trees.

Everything is computed on the (table, seed) pairs that all sides of a comparison have. Seeds are
averaged first, and tables are the cases: a standard error is one over tables.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, rankdata, studentized_range, t

TREES = ("HistGradientBoosting", "ExtraTrees")
GRID = ("AE", "cAE", "VAE", "cVAE", "MIM", "cMIM")
"""The family: auto-encoders without and with contrast."""
UNTRAINED = "untrained"
"""cMIM's network before any update: what its features have without training."""
LEAST_LEAD = 0.02
"""Where trees lead raw columns by less, there is no way to go, and the way is not defined."""
WAY_LIMITS = (-1.0, 1.5)
CONFIDENCE = 0.95
MARGIN = 0.005
"""How much lower a score may be and still count as no worse."""
ENOUGH = 0.99
"""The share of the score of a fit ten times as long that the default should reach."""
SECONDS = 30

BETTER, NO_WORSE, WORSE, OPEN = WORDS = ("better", "no worse", "worse", "open")
AT_LEAST_AS_GOOD = (BETTER, NO_WORSE)
HOLDS, FAILS = "holds", "does not hold"
TOO_FEW, NOT_RUN = "too few tables", "not run"


class Paired(NamedTuple):
    """One side against the other, over tables."""

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


class Ranking(NamedTuple):
    """Mean ranks over tables, best first, and what may be read into them."""

    ranks: pd.Series
    difference: float
    p_value: float
    tables: int
    seeds: tuple
    left_out: list

    @property
    def told_apart(self):
        """Does Friedman's test tell the arms apart at all?"""
        return self.p_value < 1 - CONFIDENCE

    @property
    def weak(self):
        """Is the critical difference more than half of the largest possible one?"""
        return self.difference > (len(self.ranks) - 1) / 2


class Dependence(NamedTuple):
    """How the score of each arm, a column, follows the batch size.

    Rows are batch sizes in ``means``, and tables in ``ranges`` and ``slopes`` (per doubling).
    """

    means: pd.DataFrame
    ranges: pd.DataFrame
    slopes: pd.DataFrame
    seeds: tuple


def select(rows, **values):
    """The rows that have the given values in the named columns."""
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
    """The pairs that all columns have, without columns that have fewer than half of the tables.

    A run that was cut off then costs an arm, some seeds or some tables, but not all of them.
    """
    tables = frame.notna().groupby("table").any().sum()
    return frame.loc[:, tables >= tables.max() / 2].dropna()


def by_table(frame):
    """Means over seeds."""
    return frame.groupby("table").mean()


def seeds_of(frame):
    """The fewest and the most seeds that a table has."""
    counts = frame.groupby("table").size()
    return (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)


def paired(frame, ours, theirs):
    """Compare two columns of what `wide` returns; a column may be missing.

    Returns
    -------
    Paired
        Without any shared pair: ``tables`` 0, and NaN for means.
    """
    shared = frame.reindex(columns=[ours, theirs]).dropna()
    left, right = by_table(shared).to_numpy().T
    return over_tables(left, right, seeds_of(shared))


def over_tables(left, right, seeds):
    """Compare two arrays of one value for each table."""
    if not len(left):
        return Paired(*[np.nan] * 4, 0, 0, 0, seeds)
    difference = left - right
    spread = difference.std(ddof=1) if len(difference) > 1 else np.nan
    return Paired(
        ours=left.mean(),
        theirs=right.mean(),
        mean=difference.mean(),
        error=spread / np.sqrt(len(difference)),
        wins=int((difference > 0).sum()),
        losses=int((difference < 0).sum()),
        tables=len(difference),
        seeds=seeds,
    )


def against_others(frame, planned=(), ours="cMIM"):
    """A `Paired` of ours with every other column of what `wide` returns, and those planned."""
    arms = dict.fromkeys([*planned, *frame])
    return {f"{ours} over {arm}": paired(frame, ours, arm) for arm in arms if arm != ours}


def verdict(comparison):
    """One of the `WORDS`, by the confidence interval of the mean difference."""
    if comparison.tables < 2:
        return TOO_FEW if comparison.tables else NOT_RUN
    low, high = comparison.mean - comparison.margin, comparison.mean + comparison.margin
    if low > 0:
        return BETTER
    if high < 0:
        return WORSE
    return NO_WORSE if low > -MARGIN else OPEN


def overall(comparisons, good=AT_LEAST_AS_GOOD):
    """One verdict for a claim of all the comparisons that were planned for it.

    Parameters
    ----------
    comparisons : iterable of Paired
        Those that were not run too.
    good : tuple of str
        Verdicts that the claim holds with.
    """
    words = [verdict(comparison) for comparison in comparisons]
    if not set(words) & set(WORDS):
        return TOO_FEW if TOO_FEW in words else NOT_RUN
    n, n_good, n_worse = len(words), sum(word in good for word in words), words.count(WORSE)
    if n_good == n:
        return HOLDS
    if n == 1:
        return FAILS if n_worse else f"is {OPEN}"
    return f"{FAILS} in {n_worse} of {n}" if n_worse else f"is {OPEN} in {n - n_good} of {n}"


def nemenyi(n_arms, n_tables):
    """The critical difference of mean ranks (Demsar 2006), at the 5 % level."""
    constant = studentized_range.ppf(CONFIDENCE, n_arms, np.inf) / np.sqrt(2)
    return constant * np.sqrt(n_arms * (n_arms + 1) / (6 * n_tables))


def rank(frame):
    """Rank the columns of what `wide` returns, best first.

    Returns
    -------
    Ranking or None
        None where fewer than two tables or three arms are left: there is nothing to test.
    """
    kept = complete(frame)
    tables = by_table(kept)
    n_tables, n_arms = tables.shape
    if n_tables < 2 or n_arms < 3:
        return None
    ranks = pd.Series(rankdata(-tables.to_numpy(), axis=1).mean(0), tables.columns)
    # All arms equal on every table: 0 / 0, a p-value of NaN.
    with np.errstate(invalid="ignore"):
        p_value = friedmanchisquare(*tables.to_numpy().T).pvalue
    return Ranking(
        ranks=ranks.sort_values(kind="stable"),
        difference=float(nemenyi(n_arms, n_tables)),
        p_value=float(p_value),
        tables=n_tables,
        seeds=seeds_of(kept),
        left_out=[arm for arm in frame if arm not in kept],
    )


def cliques(ranks, difference):
    """Largest groups of arms whose mean ranks, sorted, span no more than the difference.

    Returns
    -------
    list of tuple
        First and last position of each group of two or more.
    """
    values = np.asarray(ranks)
    groups = []
    for first in range(len(values)):
        last = int(np.flatnonzero(values - values[first] <= difference)[-1])
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups


def way(frame, ours="cMIM"):
    """How much of the lead of trees over raw columns each table's features make up for.

    Parameters
    ----------
    frame : DataFrame
        What `wide` returns, with columns for ours, "raw" and one or both of the `TREES`.

    Returns
    -------
    DataFrame
        By table: ours, "raw", "trees" (the better of each seed) and "way", NaN where trees do not
        lead by `LEAST_LEAD`.
    """
    trees = frame.reindex(columns=[name for name in TREES if name in frame] or TREES)
    # One of two trees missing for a pair: no better of the two is known.
    frame = frame.reindex(columns=[ours, "raw"]).assign(trees=trees.max(axis=1, skipna=False))
    means = by_table(frame.dropna())
    lead = means["trees"] - means["raw"]
    made = (means[ours] - means["raw"]) / lead.where(lead >= LEAST_LEAD)
    return means.assign(way=made.clip(*WAY_LIMITS))


def batch_dependence(rows):
    """Scores by batch size, on the pairs and batch sizes that all arms have.

    Parameters
    ----------
    rows : DataFrame
        Tidy rows of one probe, ``setting`` being the batch size.

    Returns
    -------
    Dependence or None
        None where not two batch sizes are left.
    """
    rows = rows.assign(size=rows["setting"].astype(int))
    scores = complete(wide(rows, ["arm", "size"]))
    arms = scores.columns.unique("arm") if len(scores) else []
    sizes = sorted(set.intersection(*(set(scores[arm]) for arm in arms))) if len(arms) else []
    if len(sizes) < 2:
        return None
    tables = {arm: by_table(scores[arm])[sizes] for arm in arms}
    return Dependence(
        means=pd.DataFrame({arm: table.mean() for arm, table in tables.items()}),
        ranges=pd.DataFrame(
            {arm: table.max(axis=1) - table.min(axis=1) for arm, table in tables.items()}
        ),
        slopes=pd.DataFrame(
            {
                arm: pd.Series(np.polyfit(np.log2(sizes), table.T, 1)[0], table.index)
                for arm, table in tables.items()
            }
        ),
        seeds=seeds_of(scores),
    )


def in_order(settings):
    """Settings by their number where all are numbers, else as they come."""
    try:
        return sorted(settings, key=float)
    except ValueError:
        return list(settings)


def time_curves(rows):
    """Score relative to that of the longest fit, against the time to fit.

    Parameters
    ----------
    rows : DataFrame
        Tidy rows of one probe, ``setting`` being "updates" or "variant, updates"; others are left
        out.

    Returns
    -------
    DataFrame
        Columns variant, updates, table, fit_s and relative, averaged over seeds, and the number of
        seeds. The longest fit is the plain one of most updates, without which there are no curves;
        a table that it does not score above 0 on is left out.
    """
    parts = rows["setting"].str.extract(r"^(?:(?P<variant>.+), *)?(?P<updates>\d+)$")
    rows = rows.assign(variant=parts["variant"].fillna(""), updates=parts["updates"])
    rows = rows.dropna(subset="updates").astype({"updates": int})
    plain = rows.loc[rows["variant"] == "", "updates"]
    columns = ["variant", "updates", "table", "fit_s", "relative", "seeds"]
    if plain.empty:
        return pd.DataFrame(columns=columns)
    scores = complete(wide(rows, ["variant", "updates"]))
    longest = ("", plain.max())
    if longest not in scores:
        return pd.DataFrame(columns=columns)
    scores = scores[scores[longest] > 0]
    seconds = wide(rows, ["variant", "updates"], "fit_s").reindex_like(scores)
    curves = pd.DataFrame(
        {
            "fit_s": by_table(seconds).unstack(),
            "relative": by_table(scores.div(scores[longest], axis=0)).unstack(),
            "seeds": scores.groupby("table").count().unstack(),
        }
    )
    return curves.reset_index()[columns]


def default_reached(rows):
    """Does the default reach the score of a fit ten times as long, and does it in time?

    Returns
    -------
    DataFrame
        By table: default, ten times, share of the two, seeds, fit_s of the default and the fewest
        threads it had (not a number where that is not known), whether the score is reached, and
        whether it is in_time.
    """
    settings = ["default", "ten times"]
    scores = wide(rows, "setting").reindex(columns=settings).dropna()
    means = by_table(scores)
    seconds = wide(rows, "setting", "fit_s").reindex(columns=settings).loc[scores.index]
    fit_s = by_table(seconds)["default"]
    threads = rows[rows["setting"] == "default"].groupby("table")["threads"].min()
    # An R2 may be negative: 1 % below it is then a larger number.
    close = means["default"] >= means["ten times"] - (1 - ENOUGH) * means["ten times"].abs()
    share = means["default"] / means["ten times"].where(means["ten times"] > 0)
    seeds = scores.groupby("table").size()
    return means.assign(
        share=share,
        seeds=seeds,
        fit_s=fit_s,
        threads=threads.reindex(means.index),
        reached=close,
        in_time=fit_s <= SECONDS,
    )


def costs(rows):
    """Mean score, median costs and number of fits of each arm.

    The score is over the pairs that all arms have, the costs over all that an arm has.
    """
    names = ["n_features", "fit_s", "transform_rows_s", "peak_mb", "bytes"]
    scores = wide(rows)
    medians = rows.groupby("arm")[names].median()
    return medians.assign(score=by_table(complete(scores)).mean(), fits=scores.count())


def contrast_sizes(rows, by):
    """How large the contrastive term is at the end of training.

    Parameters
    ----------
    rows : DataFrame
        Tidy rows; without columns contrast and loss, nothing is known.
    by : str
        The column to tell apart by.

    Returns
    -------
    DataFrame
        By values of that column: medians over tables, each a mean over seeds, of the contrastive
        term (contrast) and of its share of the size of the loss (share), tables and seeds.
    """
    rows = rows.reindex(columns=[by, "table", "seed", "contrast", "loss"])
    rows = rows.dropna(subset="contrast").astype({"contrast": float, "loss": float})
    # A fit has a row for each of its scores, all with the same loss.
    fits = rows.groupby([by, "table", "seed"], sort=False)[["contrast", "loss"]].first()
    fits["share"] = (fits["contrast"] / fits["loss"].where(fits["loss"] != 0)).abs()
    tables = fits.groupby([by, "table"], sort=False).mean()
    found = tables.groupby(by, sort=False)[["contrast", "share"]].median()
    seeds = {name: seeds_of(part) for name, part in fits.groupby(by)}
    return found.assign(
        tables=tables.groupby(by).size().reindex(found.index),
        seeds=pd.Series(seeds, dtype=object).reindex(found.index),
    )
