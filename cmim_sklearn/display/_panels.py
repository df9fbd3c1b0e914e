"""What the displays draw with: panels, colours, and pictures of one column or of pairs of them.

A column is numbers (n,), NaN where missing: its values, or positions in a list of levels.
"""

from typing import NamedTuple
from weakref import WeakKeyDictionary, ref

import numpy as np
from scipy.stats import rankdata

MAX_LEVELS, MAX_WRITTEN, N_BINS = 10, 5, 30
SHOWN_SHARE = 99.0
"""Per cent of the values within the range of colours and histograms: few must not hide most."""

# Okabe and Ito's colours, which the colour-blind can tell; yellow, faint on white, comes last.
CLASS_COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442"
)  # fmt: skip
OTHER_COLOUR, MISSING_COLOUR = "#777777", "#D3D3D3"
REAL_COLOUR, MODEL_COLOUR = CLASS_COLOURS[:2]
RINGED = {"edgecolors": "white", "linewidths": 0.5}

WIDTH = 6.6
"""Inches: text of the default size is still read where a page shows the figure 600 pixels wide."""


_DRAWN = WeakKeyDictionary()
"""What stands in axes that a display was given, as weak references: they hold the axes."""


class Block(NamedTuple):
    """Panels of one size, row by row."""

    n_panels: int
    across: int
    height: float
    """Of a row, in inches."""

    @property
    def n_rows(self):
        """How many rows the panels take."""
        return -(-self.n_panels // self.across)


def columns_across(n_columns):
    """How many panels stand side by side where each column has one."""
    return 2 if n_columns == 4 else min(n_columns, 3)


def panels(ax, blocks, width=WIDTH, share_x=False):
    """Axes of blocks, one below another: in a new figure, inside one axes, or those given."""
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    n_panels = sum(block.n_panels for block in blocks)
    if ax is not None and not isinstance(ax, Axes):
        axes = np.asarray(ax, dtype=object).ravel()
        if len(axes) != n_panels:
            raise ValueError(f"ax holds {len(axes)} axes, and there are {n_panels} to draw.")
        return axes
    heights = [block.n_rows * block.height for block in blocks]
    if ax is None:
        figure = plt.figure(figsize=(width, sum(heights)), layout="constrained")
        outer = figure.add_gridspec(len(blocks), 1, height_ratios=heights)
    else:
        figure = ax.figure
        clear(ax)
        ax.set_axis_off()
        outer = _divided(ax, heights)
    # Constrained layout counts labels as part of their cell; without a layout they need room.
    space = {} if figure.get_layout_engine() else {"wspace": 0.5, "hspace": 0.8}
    axes = []
    for cell, block in zip(outer, blocks, strict=True):
        inner = cell.subgridspec(block.n_rows, block.across, **space)
        for k in range(block.n_panels):
            shared = axes[0] if share_x and axes else None
            axes.append(figure.add_subplot(inner[divmod(k, block.across)], sharex=shared))
            if share_x:
                axes[-1].tick_params(labelbottom=len(axes) == n_panels)
    if ax is not None:
        remember(ax, axes)
    return np.array(axes, dtype=object)


def _divided(ax, heights):
    """A grid of rows inside axes."""
    rows, place = {"height_ratios": heights}, ax.get_subplotspec()
    if place is not None:
        return place.subgridspec(len(heights), 1, **rows)
    box = ax.get_position()
    rows |= {"left": box.x0, "right": box.x1, "bottom": box.y0, "top": box.y1}
    return ax.figure.add_gridspec(len(heights), 1, **rows)


def remember(ax, artists):
    """Note what a display draws in axes, for `clear` to remove."""
    _DRAWN[ax] = [ref(artist) for artist in artists if artist is not None]


def clear(ax):
    """Remove what a display drew earlier in these axes."""
    from matplotlib.colorbar import Colorbar

    for artist in (reference() for reference in _DRAWN.pop(ax, ())):
        is_bar = isinstance(artist, Colorbar)
        if artist is None or (artist.ax if is_bar else artist).figure is None:
            continue  # already removed, or cleared with the axes
        if is_bar and artist.mappable.axes is None:
            artist.mappable.axes = ax  # points that are gone: the bar asks them whose room it took
        artist.remove()


def styled(artist, defaults, given):
    """Default keywords of a class of artists, with the given ones in their place by any alias."""
    from matplotlib.cbook import normalize_kwargs

    given = normalize_kwargs(given, artist)
    style = {**normalize_kwargs(defaults, artist), **given}
    if "c" in given and "color" not in given:
        style.pop("color", None)  # c is no alias where it may be numbers: `scatter` refuses both
    return style


def refuse(given, names, where, reason):
    """Raise where keywords are given whose values are not a caller's to choose."""
    for name in sorted(given.keys() & names):
        raise TypeError(f"{where} takes no {name}. Got {name}={given[name]!r}. {reason}")


def tell_left_out(axes, ax, n_drawn, n_columns):
    """Write in the figure how many columns its panels leave out, if they do."""
    if n_drawn >= n_columns:
        return
    note = f"the first {n_drawn} of {n_columns} columns"
    if ax is None:
        axes[0].figure.supxlabel(note, fontsize="small")
    else:  # above a title, which has two lines
        place = {"xycoords": "axes fraction", "textcoords": "offset points"}
        axes[0].annotate(note, (0, 1), (0, 34), fontsize="small", **place)


def label_outer(axes, n_across, ax, across, up):
    """Label the outer axes of a grid, or all of those that are given."""
    is_own = np.ndim(ax) == 0
    for k, axis in enumerate(axes):
        if not is_own or k + n_across >= len(axes):
            axis.set_xlabel(across)
        if not is_own or k % n_across == 0:
            axis.set_ylabel(up)


def central_range(values):
    """Lowest and highest value but for the outermost, and never the same."""
    rest = (100 - SHOWN_SHARE) / 2
    low, high = np.percentile(values, [rest, 100 - rest])
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def merge_rare(codes, levels, at_most):
    """Keep the most common levels: where each goes, and the names of what is left."""
    if len(levels) <= at_most:
        return np.arange(len(levels)), levels
    counts = np.bincount(codes[~np.isnan(codes)].astype(int), minlength=len(levels))
    kept = np.sort(np.argsort(-counts, kind="stable")[:at_most])
    target = np.full(len(levels), at_most)
    target[kept] = np.arange(at_most)
    return target, [*(levels[k] for k in kept), "other"]


def merged(codes, target):
    """Positions in the levels that `merge_rare` left; NaN stays."""
    out = np.full(codes.shape, np.nan)
    seen = ~np.isnan(codes)
    out[seen] = target[codes[seen].astype(int)]
    return out


def r2_text(real, rebuilt):
    """How well numbers are rebuilt, in a word."""
    if len(real) == 0:
        return "no value"
    if real.var() == 0:
        return "constant"
    return f"R² {1 - np.mean((real - rebuilt) ** 2) / real.var():.2f}"


def confusion(axis, real, rebuilt, levels):
    """Draw how often each level is rebuilt as which, and return the image."""
    target, names = merge_rare(real, levels or ["none"], MAX_LEVELS)
    n = len(names)
    counts = _cross(merged(real, target), merged(rebuilt, target), n, n)
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(1, keepdims=True)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(np.isfinite(shares)) if n <= MAX_WRITTEN else ():
        value = shares[row, column]
        style = {"ha": "center", "va": "center", "fontsize": "small"}
        axis.text(column, row, f"{value:.2f}", color="white" if value > 0.5 else "black", **style)
    _name_ticks(axis, "x", names)
    _name_ticks(axis, "y", names)
    return image


def shorten(name, length):
    """Cut a name to a length."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def few_ticks(axis, which):
    """Put few and small ticks on the axes that "x", "y" or "xy" names."""
    for one in which:
        nbins = 3 if one == "x" else 4  # labels side by side take more room
        axis.locator_params(axis=one, nbins=nbins, steps=[1, 2, 4, 5, 10])
        axis.tick_params(axis=one, labelsize="small")


def _name_ticks(axis, which, names, length=14):
    shown = [shorten(name, length) for name in names]
    style = {"fontsize": "small"}
    if which == "x" and len(shown) > 8 and max(map(len, shown)) > 1:
        style |= {"rotation": 90}
    elif which == "x" and sum(map(len, shown)) > 14:
        style |= {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    getattr(axis, f"set_{which}ticks")(range(len(shown)), shown, **style)


def _edges(values):
    """Bins for numbers: of whole width, around whole numbers, where they are all whole."""
    low, high = central_range(values)
    if (values != np.round(values)).any():
        return np.linspace(low, high, N_BINS + 1)
    width = max(1, round((high - low) / N_BINS))
    return np.arange(np.floor(low) - 0.5, high + width, width)


def steps(axis, real, synthetic, levels):
    """Draw two histograms of numbers with the same bins, and return their steps."""
    pooled = np.concatenate([real, synthetic])
    edges = _edges(pooled) if len(pooled) else np.array([0.0, 1.0])
    shares = [np.histogram(v, edges)[0] / max(len(v), 1) for v in (real, synthetic)]
    few_ticks(axis, "x")
    return (
        axis.stairs(shares[0], edges, fill=True, alpha=0.45, color=REAL_COLOUR, label="real"),
        axis.stairs(shares[1], edges, color=MODEL_COLOUR, linewidth=1.5, label="synthetic"),
    )


def bars(axis, real, synthetic, levels):
    """Draw the shares of levels side by side, and return the bars."""
    target, names = merge_rare(real, levels, MAX_LEVELS)
    shares = [
        np.bincount(merged(v, target).astype(int), minlength=len(names)) / max(len(v), 1)
        for v in (real, synthetic)
    ]
    places = np.arange(len(names))
    _name_ticks(axis, "x", names)
    return (
        axis.bar(places - 0.2, shares[0], 0.4, alpha=0.45, color=REAL_COLOUR, label="real"),
        axis.bar(places + 0.2, shares[1], 0.4, color=MODEL_COLOUR, label="synthetic"),
    )


def heat_map(axis, values, names, title):
    """Draw what `association` returns, and return the image."""
    import matplotlib as mpl

    cmap = mpl.colormaps["RdBu_r"].with_extremes(bad=MISSING_COLOUR)
    image = axis.imshow(values, cmap=cmap, vmin=-1, vmax=1)
    _name_ticks(axis, "x", names, 20)
    _name_ticks(axis, "y", names, 20)
    axis.set_title(title, fontsize="medium")
    return image


def dependence_bar(left, right, image):
    """Join two heat maps: names at the left one alone, and a colour bar at the right one."""
    left.set_anchor("E")
    right.set_anchor("W")
    right.tick_params(labelleft=False)
    clear(right)
    place = right.inset_axes((1.05, 0, 0.06, 1))  # as high as the map, and gone with it
    bar = right.figure.colorbar(image, cax=place, label="dependence of pairs", ticks=[-1, 0, 1])
    remember(right, [bar])
    return bar


def association(table, levels):
    """How strongly each pair of columns depends, (n_columns, n_columns), over rows that show both.

    See `SampleQualityDisplay`; NaN where a column is constant, or no row shows both.

    Parameters
    ----------
    table : dict of str to array of shape (n,)
    levels : dict of str to list of str
    """
    names = list(table)
    out = np.full((len(names), len(names)), np.nan)
    for i, one in enumerate(names):
        for j, other in enumerate(names[: i + 1]):
            seen = ~np.isnan([table[one], table[other]]).any(axis=0)
            a, b = (
                values[seen].astype(int) if name in levels else rankdata(values[seen])
                for name, values in ((one, table[one]), (other, table[other]))
            )
            if not (len(a) and np.ptp(a) and np.ptp(b)):
                continue
            if one in levels and other in levels:
                value = _cramers_v(a, b)
            elif one in levels or other in levels:
                value = _correlation_ratio(*((a, b) if one in levels else (b, a)))
            else:
                value = np.corrcoef(a, b)[0, 1]
            out[i, j] = out[j, i] = value
    return out


def _cramers_v(a, b):
    counts = _cross(a, b, a.max() + 1, b.max() + 1)
    counts = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
    expected = np.outer(counts.sum(1), counts.sum(0)) / len(a)
    chi2 = np.sum((counts - expected) ** 2 / expected)
    return np.sqrt(chi2 / len(a) / (min(counts.shape) - 1))


def _correlation_ratio(codes, ranks):
    sizes = np.bincount(codes)
    means = np.bincount(codes, ranks) / np.maximum(sizes, 1)
    return np.sqrt(np.average((means - ranks.mean()) ** 2, weights=sizes) / ranks.var())


def _cross(a, b, n_a, n_b):
    counts = np.zeros((n_a, n_b))
    np.add.at(counts, (a.astype(int), b.astype(int)), 1)
    return counts
