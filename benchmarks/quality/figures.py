"""Figures of the quality report, for a width of 600 pixels.

Colours are those of Okabe and Ito, which colour-blind readers can distinguish; markers differ too.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from benchmarks.quality.compare import MARGIN

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
GREY = "#777777"
LEAST_SECONDS = 0.01
"""Shorter fits are drawn here, because the axis is logarithmic."""


def styles(names):
    """Colour and marker of each name; cMIM has the first in every figure."""
    names = list(names)
    order = sorted(names, key="cMIM".__ne__)
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for name in names
        for i in [order.index(name)]
    }


def axes(height, **labels):
    """Figure with one pair of axes."""
    figure = Figure(figsize=(6.4, height), layout="constrained")
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    ax.set(**labels)
    return figure, ax


def ticks(ax, names):
    """Names from top to bottom on the vertical axis."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)


def legend(ax):
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=8.5)


def ranks(found, caption):
    """Mean ranks, best first, and the critical difference from the best as a shaded band."""
    best = found.ranks.iloc[0]
    figure, ax = axes(0.9 + 0.24 * len(found.ranks), xlabel="mean rank (1 is best)")
    ax.axvspan(best, best + found.difference, color=COLOURS[5], alpha=0.25, lw=0)
    for y, (name, value) in enumerate(found.ranks.items()):
        ax.plot(value, y, "o", color=COLOURS[0] if name == "cMIM" else COLOURS[-1])
    ticks(ax, list(found.ranks.index))
    ax.set_title(f"band: critical difference {found.difference:.2f}", fontsize=9)
    return figure


def differences(comparisons, caption):
    """Mean differences with confidence intervals; dotted: the margin.

    ``comparisons`` maps (group, label) to a `Paired`. Each group has a colour.
    """
    known = {key: c for key, c in comparisons.items() if c.tables > 1}
    figure, ax = axes(0.9 + 0.24 * len(known), xlabel=caption)
    style = styles(dict.fromkeys(group for group, _ in known))
    ax.axvline(0, color=GREY, lw=1)
    ax.axvline(-MARGIN, color=GREY, lw=1, ls=":")
    for y, ((group, _), c) in enumerate(known.items()):
        ax.errorbar(c.mean, y, xerr=c.margin, ls="", ms=5, capsize=2, **style[group])
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ticks(ax, [" ".join(key) for key in known])
    return figure


def batch_lines(means, caption):
    """Mean score by batch size (rows) and arm (columns)."""
    figure, ax = axes(3.4, xlabel="batch size (rows)", ylabel="mean score", xscale="log")
    for name, style in styles(means).items():
        ax.plot(means.index, means[name], label=name, ms=5, lw=1.5, **style)
    ax.set_xticks(means.index, [str(size) for size in means.index])
    ax.minorticks_off()
    legend(ax)
    return figure


def table_scores(means, caption):
    """Scores of cMIM, raw columns and trees on each table (rows)."""
    means, y = means[["cMIM", "raw", "trees"]], np.arange(len(means))
    figure, ax = axes(1.0 + 0.26 * len(means), xlabel="score (accuracy or R2)")
    ax.hlines(y, means.min(axis=1), means.max(axis=1), color="#cccccc", lw=2, zorder=0)
    for name, style in styles(means).items():
        ax.plot(means[name], y, ls="", ms=6, label=name, **style)
    ticks(ax, list(means.index))
    legend(ax)
    return figure


def by_seconds(points, caption):
    """A value (second column) against the median time to fit (first), for each row."""
    label = f"median time to fit (s, at least {LEAST_SECONDS:g})"
    figure, ax = axes(3.8, xlabel=label, ylabel=points.columns[1], xscale="log")
    for name, style in styles(points.index).items():
        seconds, value = points.loc[name]
        ax.plot(max(seconds, LEAST_SECONDS), value, ls="", ms=7, label=name, **style)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    legend(ax)
    return figure
