"""`SampleQualityDisplay`: real against generated columns."""

import numpy as np
from scipy.stats import rankdata
from sklearn.utils._optional_dependencies import check_matplotlib_support

from cmim_sklearn._encoders.base.fitted import read_rows
from cmim_sklearn._tables.read import read
from cmim_sklearn._utils.isolation import isolated
from cmim_sklearn.display._columns import (
    central_range,
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
    MISSING_COLOUR,
    MODEL_COLOUR,
    REAL_COLOUR,
    PanelGroup,
    clear,
    few_ticks,
    make_panels,
    name_ticks,
    note_omitted_columns,
    panels_across,
    remember,
)
from cmim_sklearn.display._texts import labels

N_BINS = 30


class SampleQualityDisplay:
    """Generated rows against real rows: distribution of each column, and association of pairs.

    Histograms and bars show shares of the observed values. Histograms leave out half a per cent of
    the values at each end.

    Two heat maps, for real and for synthetic rows, show the association of each pair of columns:

    - two columns of numbers or dates: Spearman's correlation, from -1 to 1;
    - two columns with levels: Cramér's V, from 0 to 1;
    - one of each: the correlation ratio of the ranks, from 0 to 1.

    With few rows and many levels, Cramér's V and the correlation ratio are above 0 by chance.
    Generate as many rows as there are real rows, so that both maps have the same bias. Use
    `from_estimator` to create a display.

    Parameters
    ----------
    real, synthetic : dict of str to array of shape (n_samples,)
        Values of each column: numbers in the units of the table, dates in days, durations and times
        of day in the unit that the name states, or positions in `levels`. NaN where missing. The
        two may have different numbers of rows.
    levels : dict of str to list of str
        Level names of the columns that have levels. At most 10 levels are drawn; rarer ones become
        "other".
    n_columns : int, default=None
        Number of columns of the table, if only the first are drawn; the figure then says so.
    dates : sequence of str, default=()
        Names of the columns that hold dates, in days as `matplotlib.dates.date2num` counts them.

    Attributes
    ----------
    axes_ : array of shape (n_columns + 2,) of matplotlib axes
        One panel per column, then the heat maps of real and of synthetic rows.
    figure_ : matplotlib figure
        Figure that holds the panels.
    marginals_ : dict of str to pair of matplotlib artists
        Real and synthetic distribution of each column: steps of a histogram, or bars.
    legend_ : matplotlib legend
        Legend of real and synthetic rows.
    images_ : pair of matplotlib images
        Heat maps of real and of synthetic rows.
    colorbar_ : matplotlib colour bar
        Colour bar of both heat maps.

    See Also
    --------
    ReconstructionDisplay : Cells against their reconstructions.

    Examples
    --------
    >>> import numpy as np
    >>> from cmim_sklearn import CMIMEncoder
    >>> from cmim_sklearn.display import SampleQualityDisplay
    >>> X = np.random.RandomState(0).randn(100, 3)
    >>> encoder = CMIMEncoder(n_components=2, max_iter=3, random_state=0).fit(X)
    >>> display = SampleQualityDisplay.from_estimator(encoder, X, n_samples=50)
    >>> len(display.axes_), len(display.synthetic["x0"])
    (5, 50)
    """

    def __init__(self, real, synthetic, levels, n_columns=None, dates=()):
        self.real, self.synthetic, self.levels = real, synthetic, levels
        self.n_columns, self.dates = n_columns, dates

    @classmethod
    @isolated
    def from_estimator(cls, encoder, X, *, columns=None, n_samples=None, random_state=0, ax=None):
        """Generate rows and draw them against real rows.

        Parameters
        ----------
        encoder : encoder of this package
            Fitted encoder that has a decoder.
        X : table of shape (n_samples, n_features)
            Real rows with the columns of fit.
        columns : str, int, or list of them, default=None
            Columns to draw, by name, or by position in an array. None draws the first 12 and
            writes the number of columns into the figure if there are more.
        n_samples : int, default=None
            Number of rows to generate. None generates as many as X has.
        random_state : int, RandomState instance or None, default=0
            Seed of the generated rows.
        ax : matplotlib axes or sequence of them, default=None
            See `plot`.

        Returns
        -------
        SampleQualityDisplay
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
        frame = read_rows(encoder, X, min_rows=2)
        n_samples = frame.n_rows if n_samples is None else n_samples
        synthetic = read(encoder.sample(n_samples, random_state=random_state))
        both, levels, dates = read_columns(table, positions, frame, synthetic)
        n_columns = len(frame.columns) if columns is None else None
        return cls(*both, levels, n_columns, dates).plot(ax)

    @isolated
    def plot(self, ax=None):
        """Draw real and synthetic rows.

        Parameters
        ----------
        ax : matplotlib axes, or sequence of n_columns + 2 of them, default=None
            Where to draw. None makes a figure. One axes is divided into panels, which replace the
            panels that a display drew in it before; use a figure with ``layout="constrained"`` to
            leave room for labels. A sequence gives one axes per panel.

        Returns
        -------
        self : SampleQualityDisplay
        """
        check_matplotlib_support("SampleQualityDisplay.plot")
        n_columns = len(self.real)
        columns = PanelGroup(n_columns, panels_across(n_columns), 2.0)
        self.axes_ = make_panels(ax, [columns, PanelGroup(2, 2, 3.3)])
        self.figure_ = self.axes_[0].figure
        self.marginals_ = {}
        titles = labels(self.real)
        for name, title, axis in zip(self.real, titles, self.axes_, strict=False):
            real, synthetic = (v[~np.isnan(v)] for v in (self.real[name], self.synthetic[name]))
            if name in self.levels:
                artists = _draw_bars(axis, real, synthetic, self.levels[name])
            else:
                artists = _draw_histograms(axis, real, synthetic)
                if name in self.dates:
                    date_ticks(axis, "x")
            self.marginals_[name] = artists
            axis.set_title(title, fontsize="medium")
            few_ticks(axis, "y")
        if ax is None:
            handles = self.marginals_[next(iter(self.real))]
            self.legend_ = self.figure_.legend(handles=handles, loc="outside upper center", ncols=2)
        else:
            self.legend_ = self.axes_[0].legend(fontsize="small")
        self.axes_[0].set_ylabel("share of rows")
        left, right = self.axes_[-2:]
        self.images_ = (
            _draw_association(left, self.real, self.levels, "real"),
            _draw_association(right, self.synthetic, self.levels, "synthetic"),
        )
        self.colorbar_ = _join_heat_maps(left, right, self.images_[1])
        note_omitted_columns(self.axes_, ax, n_columns, self.n_columns or 0)
        return self


def _draw_histograms(axis, real, synthetic):
    """Draw two histograms of numbers with the same bins; return their steps."""
    pooled = np.concatenate([real, synthetic])
    edges = _bin_edges(pooled) if len(pooled) else np.array([0.0, 1.0])
    shares = [np.histogram(v, edges)[0] / max(len(v), 1) for v in (real, synthetic)]
    few_ticks(axis, "x")
    return (
        axis.stairs(shares[0], edges, fill=True, alpha=0.45, color=REAL_COLOUR, label="real"),
        axis.stairs(shares[1], edges, color=MODEL_COLOUR, linewidth=1.5, label="synthetic"),
    )


def _bin_edges(values):
    """Edges of bins; for whole numbers, each bin covers the same number of them."""
    low, high = central_range(values)
    if (values != np.round(values)).any():
        return np.linspace(low, high, N_BINS + 1)
    width = max(1, round((high - low) / N_BINS))
    return np.arange(np.floor(low) - 0.5, high + width, width)


def _draw_bars(axis, real, synthetic, levels):
    """Draw the shares of levels side by side; return the bars."""
    new_codes, names = merge_rare(real, levels, MAX_LEVELS)
    shares = [
        np.bincount(recode(v, new_codes).astype(int), minlength=len(names)) / max(len(v), 1)
        for v in (real, synthetic)
    ]
    places = np.arange(len(names))
    name_ticks(axis, "x", names)
    return (
        axis.bar(places - 0.2, shares[0], 0.4, alpha=0.45, color=REAL_COLOUR, label="real"),
        axis.bar(places + 0.2, shares[1], 0.4, color=MODEL_COLOUR, label="synthetic"),
    )


def _draw_association(axis, columns, levels, title):
    """Draw a heat map of `association`; return the image."""
    import matplotlib as mpl

    cmap = mpl.colormaps["RdBu_r"].with_extremes(bad=MISSING_COLOUR)
    image = axis.imshow(association(columns, levels), cmap=cmap, vmin=-1, vmax=1)
    name_ticks(axis, "x", columns)
    name_ticks(axis, "y", columns)
    axis.set_title(title, fontsize="medium")
    return image


def _join_heat_maps(left, right, image):
    """Move two heat maps together, with names at the left and a colour bar at the right."""
    left.set_anchor("E")
    right.set_anchor("W")
    right.tick_params(labelleft=False)
    clear(right)
    place = right.inset_axes((1.05, 0, 0.06, 1))  # as high as the map, and removed with it
    bar = right.figure.colorbar(image, cax=place, label="association", ticks=[-1, 0, 1])
    remember(right, [bar])
    return bar


def association(columns, levels):
    """Association of each pair of columns, (n_columns, n_columns), over rows that have both.

    See `SampleQualityDisplay` for the measures. NaN where a column is constant, or no row has both.

    Parameters
    ----------
    columns : dict of str to array of shape (n,)
    levels : dict of str to list of str
    """
    names = list(columns)
    out = np.full((len(names), len(names)), np.nan)
    for i, one in enumerate(names):
        for j, other in enumerate(names[: i + 1]):
            seen = ~np.isnan([columns[one], columns[other]]).any(axis=0)
            a, b = (
                values[seen].astype(int) if name in levels else rankdata(values[seen])
                for name, values in ((one, columns[one]), (other, columns[other]))
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
    counts = cross_counts(a, b, a.max() + 1, b.max() + 1)
    counts = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
    expected = np.outer(counts.sum(1), counts.sum(0)) / len(a)
    chi2 = np.sum((counts - expected) ** 2 / expected)
    return np.sqrt(chi2 / len(a) / (min(counts.shape) - 1))


def _correlation_ratio(codes, ranks):
    sizes = np.bincount(codes)
    means = np.bincount(codes, ranks) / np.maximum(sizes, 1)
    return np.sqrt(np.average((means - ranks.mean()) ** 2, weights=sizes) / ranks.var())
