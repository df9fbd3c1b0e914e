"""The figures of `benchmarks.report`: each function takes computed numbers and returns a Figure.

Drawn for a width of 600 pixels. Colours are those of Okabe and Ito, which colour-blind readers can
tell apart; lines and points differ in their markers as well.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.comparisons import ENOUGH, MARGIN, SECONDS, cliques, in_order

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
GREY = "#777777"
WIDTH = 6.4
LEAST_SECONDS = 0.01
"""Fits below are drawn here: raw columns have none, and the axis is logarithmic."""


def styles(names):
    """A colour and a marker for each name, in the order given; cMIM has the first in any company.

    Together they differ for 63 names.
    """
    names = list(names)
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for name in names
        for i in [sorted(names, key="cMIM".__ne__).index(name)]
    }


def axes(height=3.6, **labels):
    """A figure with one plain pair of axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    ax.set(**labels)
    return figure, ax


def critical_difference(ranking):
    """Mean ranks on a line; bars join arms that the Nemenyi test does not tell apart.

    There are no bars where Friedman's test tells no arms apart.
    """
    ranks = ranking.ranks
    n = len(ranks)
    groups = cliques(ranks, ranking.difference) if ranking.told_apart else []
    left = (n + 1) // 2
    # Heights in text lines, downwards from the line of ranks.
    first_label = 1.2 + 0.45 * len(groups)
    bottom = first_label + left
    figure = Figure(figsize=(WIDTH, 0.55 + 0.24 * (bottom + 2)), layout="constrained")
    ax = figure.subplots()
    ax.set_axis_off()
    pad = 0.06 * (n - 1)
    side = 0.42 * (n - 1)
    ax.set(xlim=(1 - side, n + side), ylim=(bottom, -3.2))

    ax.plot([1, n], [0, 0], color="black", lw=1)
    for tick in range(1, n + 1):
        ax.plot([tick, tick], [0, -0.3], color="black", lw=1)
        ax.text(tick, -0.4, str(tick), ha="center", va="bottom", fontsize=9)
    ax.text(1 - pad, -0.1, "mean rank\n(1 is best)", ha="right", va="center", fontsize=8)
    if ranking.told_apart:
        # A difference wider than the line of ranks is cut: no two arms differ by it anyway.
        ruler = min(ranking.difference, n - 1)
        ax.plot([1, 1 + ruler], [-2.1, -2.1], color="black", lw=1.5, marker="|", gid="ruler")
        ax.text(
            1 + ruler / 2,
            -2.3,
            f"critical difference {ranking.difference:.2f}",
            ha="center" if ruler > 0.35 * (n - 1) else "left",
            va="bottom",
            fontsize=9,
        )
    else:
        ax.text((1 + n) / 2, -2.3, "ranks are not told apart", ha="center", fontsize=9)
    for level, (first, last) in enumerate(groups):
        ends = [ranks.iloc[first] - 0.012 * n, ranks.iloc[last] + 0.012 * n]
        ax.plot(ends, [0.55 + 0.45 * level] * 2, color=COLOURS[0], lw=3.5, gid="clique")
    for i, (name, value) in enumerate(ranks.items()):
        on_left = i < left
        y = first_label + (i if on_left else n - 1 - i)
        edge = 1 - pad if on_left else n + pad
        ax.plot([value, value, edge], [0, y, y], color="black", lw=0.8, gid="leader")
        ax.text(
            edge + (-0.3 if on_left else 0.3) * pad,
            y,
            f"{name}  {value:.2f}" if on_left else f"{value:.2f}  {name}",
            ha="right" if on_left else "left",
            va="center",
            fontsize=9,
            weight="bold" if name == "cMIM" else "normal",
        )
    return figure


def differences(comparisons, xlabel):
    """Mean differences with their confidence intervals, a line for each, and the margin dotted.

    Parameters
    ----------
    comparisons : dict
        Maps (group, label) to a `Paired`. Groups have a colour each.
    xlabel : str
    """
    figure, ax = axes(0.9 + 0.25 * len(comparisons), xlabel=xlabel)
    style = styles(dict.fromkeys(group for group, _ in comparisons))
    ax.axvline(0, color=GREY, lw=1)
    ax.axvline(-MARGIN, color=GREY, lw=1, ls=":")
    for y, ((group, _), comparison) in enumerate(comparisons.items()):
        ax.errorbar(
            comparison.mean, y, xerr=comparison.margin, ls="", ms=5, capsize=2, **style[group]
        )
    ax.xaxis.set_major_locator(MaxNLocator(5))
    names = [", ".join(key) for key in comparisons]
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    return figure


def batch_lines(means):
    """Mean score by batch size (rows) and arm (columns)."""
    figure, ax = axes(3.4, xlabel="batch size (rows)", ylabel="mean score")
    for name, style in styles(means).items():
        ax.plot(means.index, means[name], label=name, ms=5, lw=1.5, **style)
    ax.set_xscale("log", base=2)
    ax.set_xticks(means.index, [str(size) for size in means.index])
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def ablation(differences, default, role="default"):
    """Mean difference to the default setting and its standard error.

    Parameters
    ----------
    differences : dict
        Maps group, which gives the colour, to a dict of setting to `Paired`.
    default : str
        Marked on the axis, at a difference of 0.
    role : str
        What to call it.
    """
    settings = in_order(dict.fromkeys(s for group in differences.values() for s in group))
    figure, ax = axes(3.2, ylabel=f"score minus the {role}'s")
    ax.axhline(0, color=GREY, lw=1)
    shifts = (np.arange(len(differences)) - (len(differences) - 1) / 2) * 0.12
    for shift, (group, style) in zip(shifts, styles(differences).items(), strict=True):
        points = {s: d for s, d in differences[group].items() if d.tables}
        x = [settings.index(s) + shift for s in points]
        means, errors = [d.mean for d in points.values()], [d.error for d in points.values()]
        ax.errorbar(x, means, errors, label=group, ls="", ms=5, capsize=2, **style)
    crowded = max(map(len, settings)) * len(settings) > 50
    gap = " " if crowded else "\n"
    names = [f"{s}{gap}({role})" if s == default else s for s in settings]
    tilted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    ax.set_xticks(range(len(settings)), names, **tilted)
    ax.set_xlim(-0.5, len(settings) - 0.5)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def table_scores(means):
    """Scores of a few arms (columns) on each table (rows), joined from lowest to highest."""
    figure, ax = axes(1.0 + 0.26 * len(means), xlabel="score (accuracy or R2)")
    y = np.arange(len(means))
    ax.hlines(y, means.min(axis=1), means.max(axis=1), color="#cccccc", lw=2, zorder=0)
    for name, style in styles(means).items():
        ax.plot(means[name], y, ls="", ms=6, label=name, **style)
    ax.set_yticks(y, means.index)
    ax.set_ylim(len(means) - 0.4, -0.6)
    ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(means.columns))
    return figure


def cost(table):
    """Mean score against the median time to fit, a point for each arm.

    Parameters
    ----------
    table : DataFrame
        By arm: score and fit_s; arms that lack one are left out.
    """
    table = table.dropna(subset=["score", "fit_s"])
    label = f"median time to fit (s, at least {LEAST_SECONDS:g})"
    figure, ax = axes(3.8, xlabel=label, ylabel="mean score")
    for name, style in styles(table.index).items():
        size = 10 if name == "cMIM" else 6
        x = max(table.loc[name, "fit_s"], LEAST_SECONDS)
        ax.plot(x, table.loc[name, "score"], ls="", ms=size, label=name, **style)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=8.5)
    return figure


def time_to_quality(curves):
    """Relative score against time to fit: a thin line for each table, thick ones for means.

    Parameters
    ----------
    curves : DataFrame
        What `time_curves` returns. Tables are drawn for the plain variant alone.
    """
    figure, ax = axes(3.6, xlabel="time to fit (s)", ylabel="score / score of the longest fit")
    ax.axhline(ENOUGH, color=GREY, lw=1, ls=":")
    ax.axvline(SECONDS, color=GREY, lw=1, ls=":")
    ax.text(0.01, ENOUGH, f"{ENOUGH * 100:g} %", transform=ax.get_yaxis_transform(), va="bottom")
    ax.text(SECONDS, 0.01, f" {SECONDS} s", transform=ax.get_xaxis_transform())
    plain = curves[curves["variant"] == ""]
    for i, (_, line) in enumerate(plain.sort_values("updates").groupby("table")):
        label = None if i else "each table"
        ax.plot(line["fit_s"], line["relative"], color="#cccccc", lw=1, zorder=0, label=label)
    for variant, style in styles(curves["variant"].unique()).items():
        part = curves[curves["variant"] == variant].assign(log_s=lambda c: np.log(c["fit_s"]))
        means = part.groupby("updates")[["log_s", "relative"]].mean()
        label = f"mean, {variant}" if variant else "mean of tables"
        ax.plot(np.exp(means["log_s"]), means["relative"], label=label, ms=5, lw=2, **style)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
