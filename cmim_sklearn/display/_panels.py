"""Panels of a figure: layout, colours, ticks and style keywords that the displays share."""

from typing import NamedTuple
from weakref import WeakKeyDictionary, ref

import numpy as np

from cmim_sklearn.display._texts import labels, n_letters

# Okabe and Ito's palette for colour-blind readers; yellow comes last, it is faint on white.
CLASS_COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442"
)  # fmt: skip
OTHER_COLOUR, MISSING_COLOUR = "#777777", "#D3D3D3"
REAL_COLOUR, MODEL_COLOUR = CLASS_COLOURS[:2]

WIDTH = 6.6
"""Width in inches: text of default size is readable in a figure that is 600 pixels wide."""

MAX_LEVELS = 10
"""Maximum number of levels drawn; the rest become "other"."""

TICK_LENGTH = 14
"""Number of letters after which a name at a tick is cut."""

_DRAWN = WeakKeyDictionary()
"""Artists that a display drew in given axes. Weak references, since artists refer to their axes."""


class PanelGroup(NamedTuple):
    """Panels of one size, arranged row by row."""

    n_panels: int
    n_across: int
    row_height: float
    """Inches."""

    @property
    def height(self):
        """Height of all rows, in inches."""
        return self.n_rows * self.row_height

    @property
    def n_rows(self):
        """Number of rows that the panels fill."""
        return -(-self.n_panels // self.n_across)


def panels_across(n_columns):
    """Number of panels side by side for one panel per column."""
    return 2 if n_columns == 4 else min(n_columns, 3)


def make_panels(ax, groups, width=WIDTH, share_x=False):
    """Axes of groups of panels, one group below the other.

    Parameters
    ----------
    ax : matplotlib axes, sequence of them, or None
        None makes a figure; one axes is divided into panels; a sequence is used as it is.
    groups : list of PanelGroup
    width : float, default=6.6
        Width of a new figure, in inches.
    share_x : bool, default=False
        Whether all panels share the x axis.

    Returns
    -------
    array of shape (n_panels,) of matplotlib axes
    """
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    n_panels = sum(group.n_panels for group in groups)
    if ax is not None and not isinstance(ax, Axes):
        axes = np.asarray(ax, dtype=object).ravel()
        if len(axes) != n_panels:
            raise ValueError(
                f"`ax` must be one axes or a sequence of {n_panels}, one per panel; got {len(axes)}"
                " axes."
            )
        return axes
    heights = [group.height for group in groups]
    if ax is None:
        figure = plt.figure(figsize=(width, sum(heights)), layout="constrained")
        outer = figure.add_gridspec(len(groups), 1, height_ratios=heights)
    else:
        figure = ax.figure
        clear(ax)
        ax.set_axis_off()
        outer = _grid_inside(ax, heights)
    # A layout engine makes room for labels; without one, leave room between panels.
    space = {} if figure.get_layout_engine() else {"wspace": 0.5, "hspace": 0.8}
    axes = []
    for cell, group in zip(outer, groups, strict=True):
        inner = cell.subgridspec(group.n_rows, group.n_across, **space)
        for k in range(group.n_panels):
            shared = axes[0] if share_x and axes else None
            axes.append(figure.add_subplot(inner[divmod(k, group.n_across)], sharex=shared))
            if share_x:
                axes[-1].tick_params(labelbottom=len(axes) == n_panels)
    if ax is not None:
        remember(ax, axes)
    return np.array(axes, dtype=object)


def _grid_inside(ax, heights):
    """Grid with one row per height, in the place of axes."""
    rows, place = {"height_ratios": heights}, ax.get_subplotspec()
    if place is not None:
        return place.subgridspec(len(heights), 1, **rows)
    box = ax.get_position()
    rows |= {"left": box.x0, "right": box.x1, "bottom": box.y0, "top": box.y1}
    return ax.figure.add_gridspec(len(heights), 1, **rows)


def remember(ax, artists):
    """Note which artists a display drew in axes, so that `clear` can remove them."""
    _DRAWN[ax] = [ref(artist) for artist in artists if artist is not None]


def clear(ax):
    """Remove the artists that a display drew earlier in axes; others stay."""
    from matplotlib.colorbar import Colorbar

    for artist in (reference() for reference in _DRAWN.pop(ax, ())):
        is_bar = isinstance(artist, Colorbar)
        if artist is None or (artist.ax if is_bar else artist).figure is None:
            continue  # already removed, or cleared with the axes
        if is_bar and artist.mappable.axes is None:
            artist.mappable.axes = ax  # a removed bar needs the axes of its points
        artist.remove()


def merge_style(artist, defaults, given):
    """Style keywords of an artist class: given ones replace defaults, also under an alias."""
    from matplotlib.cbook import normalize_kwargs

    given = normalize_kwargs(given, artist)
    style = {**normalize_kwargs(defaults, artist), **given}
    if "c" in given and "color" not in given:
        style.pop("color", None)  # `scatter` takes c for numbers, too, and raises if it gets both
    return style


def reject_keywords(given, names, method, remedy):
    """Raise a TypeError for given keywords that a display sets itself."""
    for name in sorted(given.keys() & names):
        raise TypeError(f"{method} does not accept `{name}`; got {given[name]!r}. {remedy}")


def note_omitted_columns(axes, ax, n_drawn, n_columns):
    """Write into the figure how many columns are drawn, if not all are."""
    if n_drawn >= n_columns:
        return
    note = f"first {n_drawn} of {n_columns} columns"
    if ax is None:
        axes[0].figure.supxlabel(note, fontsize="small")
    else:  # above a title of two lines
        place = {"xycoords": "axes fraction", "textcoords": "offset points"}
        axes[0].annotate(note, (0, 1), (0, 34), fontsize="small", **place)


def label_outer(axes, n_across, ax, xlabel, ylabel):
    """Label the outer panels of a grid, or every panel where a sequence of axes was given."""
    is_grid = np.ndim(ax) == 0
    for k, axis in enumerate(axes):
        if not is_grid or k + n_across >= len(axes):
            axis.set_xlabel(xlabel)
        if not is_grid or k % n_across == 0:
            axis.set_ylabel(ylabel)


def few_ticks(axis, which):
    """Set few and small ticks on the axes named by "x", "y" or "xy"."""
    for one in which:
        nbins = 3 if one == "x" else 4  # labels side by side need more room
        axis.locator_params(axis=one, nbins=nbins, steps=[1, 2, 4, 5, 10])
        axis.tick_params(axis=one, labelsize="small")


def name_ticks(axis, which, names):
    """Put names, cut to `TICK_LENGTH`, at 0, 1, ... of the axis named by "x" or "y"."""
    names = labels(names, TICK_LENGTH)
    style = {"fontsize": "small"}
    if which == "x" and len(names) > 8 and max(map(n_letters, names)) > 1:
        style |= {"rotation": 90}
    elif which == "x" and sum(map(n_letters, names)) > 14:
        style |= {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    getattr(axis, f"set_{which}ticks")(range(len(names)), names, **style)
