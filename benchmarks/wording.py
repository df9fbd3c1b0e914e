"""Numbers, comparisons and tables of `benchmarks.report` in words and Markdown."""

import pandas as pd

from benchmarks.comparisons import (
    FAILS,
    HOLDS,
    NOISE,
    NOT_RUN,
    TOO_FEW,
    by_table,
    complete,
    overall,
    verdict,
)

COUNTED = {"holds in": HOLDS, "is within noise in": NOISE, "fails in": FAILS}


def number(value, digits=3, sign=""):
    """A number for reading, a dash for none, and no minus before a zero."""
    if pd.isna(value):
        return "-"
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def count(n, noun, plural="{}s"):
    return f"{n} {noun if n == 1 else plural.format(noun)}"


def basis(tables, seeds):
    """On how many tables and seeds something rests."""
    least, most = seeds
    return f"{count(tables, 'table')}, " + (
        count(most, "seed") if least == most else f"{least} to {most} seeds"
    )


def difference(comparison):
    """The mean difference and, from two tables on, its standard error."""
    error = f" ± {number(comparison.error)}" if comparison.tables > 1 else ""
    return number(comparison.mean, sign="+") + error


def in_numbers(comparison):
    """A comparison in a line of text."""
    return (
        f"{difference(comparison)} ({count(comparison.wins, 'win')}, "
        f"{count(comparison.losses, 'loss', '{}es')}; "
        f"{basis(comparison.tables, comparison.seeds)})"
    )


def listed(names):
    names = list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def spoken(comparisons):
    """Keys of parts as one label."""
    return {
        ", ".join(key) if isinstance(key, tuple) else key: value
        for key, value in comparisons.items()
    }


def claim(text, comparisons):
    """The bullet of a claim that rests on the comparisons, a dict of label to `Paired`."""
    bullet = f"**{text}: {overall(comparisons.values())}.**"
    run = {label: c for label, c in comparisons.items() if verdict(c) in (HOLDS, NOISE, FAILS)}
    if not run:
        return bullet
    ordered = sorted(run, key=lambda label: run[label].mean)
    if len(run) == 1:
        return f"{bullet} {in_numbers(run[ordered[0]])}."
    words = [verdict(c) for c in run.values()]
    counts = listed(f"{name} {words.count(word)}" for name, word in COUNTED.items())
    lacking = len(comparisons) - len(run)
    more = f" ({lacking} more {NOT_RUN} or on {TOO_FEW})" if lacking else ""
    parts = [f"It {counts} of {len(run)} comparisons{more}."]
    failing = [f"{name} {in_numbers(run[name])}" for name in ordered if verdict(run[name]) == FAILS]
    if failing:
        parts.append(f"Failing: {'; '.join(failing)}.")
    else:
        parts.append(f"Lowest: {ordered[0]} {in_numbers(run[ordered[0]])}.")
    return " ".join([bullet, *parts, f"Highest: {ordered[-1]} {in_numbers(run[ordered[-1]])}."])


def table(frame, digits=3):
    """A frame as a Markdown table, its index first."""
    frame = frame.rename_axis(frame.index.name or "").reset_index()
    rows = [
        [number(v, digits) if isinstance(v, float) else str(v) for v in row]
        for row in frame.itertuples(index=False)
    ]
    lines = [[str(name) for name in frame.columns], ["---"] * frame.shape[1], *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |" for cells in lines
    )


def comparison_table(comparisons, ours, theirs):
    rows = {
        label: {
            ours: number(c.ours),
            theirs: number(c.theirs),
            "difference": difference(c),
            "wins-losses": f"{c.wins}-{c.losses}",
            "rests on": basis(c.tables, c.seeds),
            "verdict": verdict(c),
        }
        for label, c in comparisons.items()
    }
    return table(pd.DataFrame.from_dict(rows, orient="index").rename_axis("comparison"))


def score_table(frame):
    """Mean scores over seeds, tables as rows, and the mean over tables that all arms share."""
    means = by_table(frame)
    shared = complete(frame)
    tables = by_table(shared)
    mean = tables.mean().reindex(means.columns).rename(f"mean of {len(tables)} shared")
    return table(pd.concat([means, mean.to_frame().T]).rename_axis("table"))


def ordered(frame, first):
    """Columns in the given order, then the others."""
    names = [name for name in first if name in frame]
    return frame[[*names, *(name for name in frame if name not in names)]]
