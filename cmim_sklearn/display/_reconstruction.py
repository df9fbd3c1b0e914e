"""`ReconstructionDisplay`: cells against their reconstructions."""

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

from cmim_sklearn._encoders.base.fitted import read_rows
from cmim_sklearn._tables.read import read
from cmim_sklearn._utils.isolation import isolated
from cmim_sklearn.display._columns import (
    check_encoder,
    column_positions,
    cross_counts,
    merge_rare,
    read_columns,
    recode,
)
from cmim_sklearn.display._dates import date_ticks
from cmim_sklearn.display._panels import (
    MAX_LEVELS,
    REAL_COLOUR,
    WIDTH,
    PanelGroup,
    few_ticks,
    label_outer,
    make_panels,
    merge_style,
    name_ticks,
    note_omitted_columns,
    panels_across,
)
from cmim_sklearn.display._texts import labels

MAX_LEVELS_WITH_TEXT = 5
"""Maximum number of levels of a confusion matrix with shares written in its cells."""


class ReconstructionDisplay:
    """Reconstructions of cells against their real values, one panel per column.

    Each row is encoded to its latent code and decoded again. A numeric column is a scatter plot
    with the identity line and R², and so is a column of dates, whose axes show dates. A column with
    levels is a confusion matrix with the accuracy; its rows are the real levels and sum to one.
    Cells that are missing in X are left out. Use `from_estimator` to create a display.

    Parameters
    ----------
    real, reconstructed : dict of str to array of shape (n_samples,)
        Values of each column: numbers in the units of the table, dates in days, durations and times
        of day in the unit that the name states, or positions in `levels`. NaN where missing.
    levels : dict of str to list of str
        Level names of the columns that have levels. At most 10 levels are drawn; rarer ones become
        "other".
    n_columns : int, default=None
        Number of columns of the table, if only the first are drawn; the figure then says so.
    dates : sequence of str, default=()
        Names of the columns that hold dates, in days as `matplotlib.dates.date2num` counts them.

    Attributes
    ----------
    axes_ : array of shape (n_columns,) of matplotlib axes
        Panels, in the order of `real`.
    figure_ : matplotlib figure
        Figure that holds the panels.
    artists_ : dict of str to matplotlib collection or image
        Points or confusion matrix of each column.
    identity_ : dict of str to matplotlib line
        Identity line of each numeric column.

    See Also
    --------
    SampleQualityDisplay : Real against generated rows.

    Examples
    --------
    >>> import numpy as np
    >>> from cmim_sklearn import CMIMEncoder
    >>> from cmim_sklearn.display import ReconstructionDisplay
    >>> X = np.random.RandomState(0).randn(100, 3)
    >>> encoder = CMIMEncoder(n_components=2, max_iter=3, random_state=0).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(encoder, X, columns=[0, 2])
    >>> list(display.real)
    ['x0', 'x2']
    """

    def __init__(self, real, reconstructed, levels, n_columns=None, dates=()):
        self.real, self.reconstructed, self.levels = real, reconstructed, levels
        self.n_columns, self.dates = n_columns, dates

    @classmethod
    @isolated
    def from_estimator(cls, encoder, X, *, columns=None, ax=None, **kwargs):
        """Reconstruct rows and draw real against reconstructed values.

        Parameters
        ----------
        encoder : encoder of this package
            Fitted encoder that has a decoder.
        X : table of shape (n_samples, n_features)
            Rows with the columns of fit.
        columns : str, int, or list of them, default=None
            Columns to draw, by name, or by position in an array. None draws the first 12 and
            writes the number of columns into the figure if there are more.
        ax, **kwargs
            See `plot`.

        Returns
        -------
        ReconstructionDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If `encoder` is not an encoder of this package.
        sklearn.exceptions.NotFittedError
            If `encoder` is not fitted.
        ValueError
            If `encoder` has no decoder, or `columns` is empty or names an unknown column.
        ImportError
            If matplotlib is not installed.
        """
        check_encoder(cls, encoder, needs_decoder=True)
        table = encoder.table_
        positions = column_positions(table, columns, "columns")
        frame = read_rows(encoder, X)
        both, levels, dates = read_columns(table, positions, frame, read(encoder.reconstruct(X)))
        n_columns = len(frame.columns) if columns is None else None
        return cls(*both, levels, n_columns, dates).plot(ax, **kwargs)

    @isolated
    def plot(self, ax=None, **kwargs):
        """Draw real against reconstructed values.

        Parameters
        ----------
        ax : matplotlib axes, or sequence of n_columns of them, default=None
            Where to draw. None makes a figure. One axes is divided into panels, which replace the
            panels that a display drew in it before; use a figure with ``layout="constrained"`` to
            leave room for labels. A sequence gives one axes per panel.
        **kwargs
            Keywords of the points of numeric columns, for `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        self : ReconstructionDisplay
        """
        check_matplotlib_support("ReconstructionDisplay.plot")
        n_columns = len(self.real)
        n_across = panels_across(n_columns)
        if ax is None and self.levels:
            n_across = min(n_columns, 2)  # level names need room on two sides
        width = min(WIDTH, 3.2 * n_across)
        self.axes_ = make_panels(ax, [PanelGroup(n_columns, n_across, width / n_across)], width)
        self.figure_ = self.axes_[0].figure
        self.artists_, self.identity_ = {}, {}
        label_outer(self.axes_, n_across, ax, "reconstructed", "real")
        for name, title, axis in zip(self.real, labels(self.real), self.axes_, strict=True):
            both = self.real[name], self.reconstructed[name]
            seen = ~np.isnan(both).any(axis=0)
            real, reconstructed = (values[seen] for values in both)
            if name in self.levels:
                levels, score = self.levels[name], _accuracy
                self.artists_[name] = _draw_confusion(axis, real, reconstructed, levels)
            else:
                score, artists = _r2, _draw_points(axis, real, reconstructed, kwargs)
                self.artists_[name], self.identity_[name] = artists
                if name in self.dates:
                    date_ticks(axis, "xy")
            text = score(real, reconstructed) if len(real) else "no observed value"
            axis.set_title(f"{title}\n{text}", fontsize="medium")
        note_omitted_columns(self.axes_, ax, n_columns, self.n_columns or 0)
        return self


def _draw_points(axis, real, reconstructed, given):
    """Draw numbers against their reconstructions; return the points and the identity line."""
    from matplotlib.collections import PathCollection

    style = {"s": 8, "alpha": 0.5, "linewidths": 0, "color": REAL_COLOUR}
    points = axis.scatter(reconstructed, real, **merge_style(PathCollection, style, given))
    pooled = np.concatenate([real, reconstructed])
    ends = [pooled.min(), pooled.max()] if len(pooled) else [0, 1]
    (identity,) = axis.plot(ends, ends, color="black", linewidth=1, linestyle="--")
    axis.set_box_aspect(1)
    few_ticks(axis, "xy")
    return points, identity


def _r2(real, reconstructed):
    """Coefficient of determination as text; it is undefined for a constant column."""
    if real.var() == 0:
        return "constant"
    return f"R² {1 - np.mean((real - reconstructed) ** 2) / real.var():.2f}"


def _accuracy(real, reconstructed):
    return f"accuracy {np.mean(real == reconstructed):.2f}"


def _draw_confusion(axis, real, reconstructed, levels):
    """Draw the share of each real level that is reconstructed as each level; return the image."""
    new_codes, names = merge_rare(real, levels or ["none"], MAX_LEVELS)
    n = len(names)
    counts = cross_counts(recode(real, new_codes), recode(reconstructed, new_codes), n, n)
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(1, keepdims=True)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(np.isfinite(shares)) if n <= MAX_LEVELS_WITH_TEXT else ():
        share = shares[row, column]
        style = {"ha": "center", "va": "center", "fontsize": "small"}
        axis.text(column, row, f"{share:.2f}", color="white" if share > 0.5 else "black", **style)
    name_ticks(axis, "x", names)
    name_ticks(axis, "y", names)
    return image
