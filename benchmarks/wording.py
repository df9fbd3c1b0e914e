"""Numbers, comparisons and tables of `benchmarks.report` in words and Markdown."""

import numpy as np
import pandas as pd

from benchmarks.comparisons import (
    AT_LEAST_AS_GOOD,
    NOT_RUN,
    OPEN,
    TOO_FEW,
    WORDS,
    WORSE,
    at_embedding,
    by_table,
    complete,
    contrast_sizes,
    overall,
    verdict,
)

DIGITS = 2
"""Of numbers of any size."""


def number(value, digits=3, sign=""):
    """A number for reading, a dash for none, and no minus before a zero."""
    if pd.isna(value):
        return "-"
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def rounded(value):
    """A number of any size to a few digits, a dash for none."""
    if pd.isna(value):
        return "-"
    return np.format_float_positional(value, DIGITS, unique=False, fractional=False, trim="-")


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


def claim(text, comparisons, good=AT_LEAST_AS_GOOD):
    """The bullet of a claim that rests on the comparisons, a dict of label to `Paired`.

    All that were planned are in it, and the claim holds with verdicts that are ``good``.
    """
    words = {label: verdict(c) for label, c in comparisons.items()}
    run = sorted((x for x in words if words[x] in WORDS), key=lambda x: comparisons[x].mean)
    call = overall(comparisons.values(), good)
    if not run:
        return f"**{text}: {call}.**"
    numbers = {label: f"{label} {in_numbers(comparisons[label])}" for label in run}
    if len(words) == 1:
        why = "" if words[run[0]] == OPEN else f" ({words[run[0]]})"
        return f"**{text}: {call}{why}.** {in_numbers(comparisons[run[0]])}."
    counts = [f"{list(words.values()).count(word)} {word}" for word in WORDS]
    lacking = len(words) - len(run)
    if lacking:
        counts.append(f"{lacking} lacking")
    parts = [f"**{text}: {listed(counts)} of {len(words)} comparisons; it {call}.**"]
    if lacking:
        some = "; ".join(label for label in words if label in run)
        parts.append(f"Run: {some}; lacking are those {NOT_RUN} or on {TOO_FEW}.")
    if WORSE in words.values():
        parts.append(f"Worse: {'; '.join(numbers[x] for x in run if words[x] == WORSE)}.")
    else:
        parts.append(f"Lowest: {numbers[run[0]]}.")
    if len(run) > 1:
        parts.append(f"Highest: {numbers[run[-1]]}.")
    return " ".join(parts)


def elsewhere(rows, embedding):
    """Which arms have no such embedding, and what is shown of them; nothing if all have it."""
    chosen = at_embedding(rows, embedding)
    chosen = chosen[~chosen["embedding"].isin([embedding, ""])]
    places = chosen.groupby("arm", sort=False)["embedding"].first()
    if places.empty:
        return ""
    return (
        f"Without a {embedding} embedding, and shown at another: "
        f"{listed(f'{arm} ({place})' for arm, place in places.items())}."
    )


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


def contrast(rows, by, order, name):
    """Text and findings on the size of the contrastive term.

    Parameters
    ----------
    rows, by
        See `contrast_sizes`.
    order : iterable of str
        Values of ``by`` to show first.
    name : str
        How the finding calls a value, "{}".
    """
    found = ordered(contrast_sizes(rows, by).T, order).T
    if found.empty:
        return [f"How large the contrastive term is: {NOT_RUN}, or not recorded."], []
    shown = pd.DataFrame(
        {
            "nats a row": found["contrast"].map(rounded),
            "share of the loss (%)": (100 * found["share"]).map(rounded),
            "rests on": [basis(*row) for row in found[["tables", "seeds"]].to_numpy()],
        }
    )
    each = listed(
        f"{nats} nats a row {name.format(value)} ({share} % of the loss)"
        for value, nats, share, _ in shown.itertuples()
    )
    text = (
        "The contrastive term, as it is weighted, at the last epoch, and its share of the size of "
        "the whole loss: medians over tables."
    )
    return [text, table(shown)], [f"The contrastive term ends at a median of {each}."]


def ordered(frame, first):
    """Columns in the given order, then the others."""
    names = [name for name in first if name in frame]
    return frame[[*names, *(name for name in frame if name not in names)]]
