"""`SampleQualityDisplay`: real against generated columns."""

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

from cmim_sklearn._tables.read import read
from cmim_sklearn.display._columns import _check, _columns, _positions
from cmim_sklearn.display._panels import (
    Block,
    association,
    bars,
    columns_across,
    dependence_bar,
    few_ticks,
    heat_map,
    panels,
    shorten,
    steps,
    tell_left_out,
)


class SampleQualityDisplay:
    """Rows that a model made up beside real ones: single columns, and how pairs depend.

    Histograms are shares of the observed values and leave out half a per cent at either end.
    The two heat maps show how strongly each pair of columns depends, from -1 to 1: Spearman's
    correlation of two numbers, Cramér's V of two columns of levels, and the correlation ratio of
    ranks between numbers and levels; the last two have no sign. Few rows with many levels have
    dependence by chance, in both alike where both have as many rows.

    Parameters
    ----------
    real, synthetic : dict of str to array of shape (n_samples,)
        By column: numbers, or positions in its levels; NaN is missing.
    levels : dict of str to list of str
        Of the columns that have levels. At most 10 are drawn, the rarest as "other".
    n_columns : int, default=None
        Of the whole table, where only its first are here: the figure tells how many.

    Attributes
    ----------
    axes_ : array of shape (n_columns + 2,) of matplotlib axes
        One a column, then the heat maps of real and of synthetic rows.
    figure_ : matplotlib figure
    marginals_ : dict of str to pair of matplotlib artists
        By column, of real and of synthetic rows: steps, or bars.
    legend_ : matplotlib legend
    images_ : pair of matplotlib images
    colorbar_ : matplotlib colour bar

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

    def __init__(self, real, synthetic, levels, n_columns=None):
        self.real, self.synthetic, self.levels = real, synthetic, levels
        self.n_columns = n_columns

    @classmethod
    def from_estimator(cls, encoder, X, *, columns=None, n_samples=None, random_state=0, ax=None):
        """Draw rows from the model, and pictures of them.

        Parameters
        ----------
        encoder : encoder of this package, with a decoder
            Fitted.
        X : table of shape (n_samples, n_features)
            Real rows, with the columns of fit.
        columns : list of str or int, default=None
            Columns to draw, by name (by position in an array); None draws the first 12,
            and tells how many are left out.
        n_samples : int, default=None
            Rows to make up; None makes as many as X has.
        random_state : int, RandomState instance or None, default=0
            Of these rows.
        ax : matplotlib axes or sequence of them, default=None
            See `plot`.

        Returns
        -------
        SampleQualityDisplay
        """
        _check(cls, "from_estimator", encoder, with_decoder=True)
        positions = _positions(encoder, columns, "columns")
        frame = encoder._read(X, reset=False, min_rows=2)
        n_samples = frame.n_rows if n_samples is None else n_samples
        synthetic = read(encoder.sample(n_samples, random_state=random_state))
        tables, levels = _columns(encoder, positions, frame, synthetic)
        n_columns = len(frame.columns) if columns is None else None
        return cls(*tables, levels, n_columns).plot(ax)

    def plot(self, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib axes, or sequence of n_columns + 2 of them, default=None
            One is divided, in place of what a display drew in it, and labels have their room where
            its figure has ``layout="constrained"``; several are drawn on; None makes a figure.

        Returns
        -------
        self : SampleQualityDisplay
        """
        check_matplotlib_support("SampleQualityDisplay.plot")
        n_columns = len(self.real)
        marginals = Block(n_columns, columns_across(n_columns), 2.0)
        self.axes_ = panels(ax, [marginals, Block(2, 2, 3.3)])
        self.figure_ = self.axes_[0].figure
        self.marginals_ = {}
        for name, axis in zip(self.real, self.axes_, strict=False):
            draw = bars if name in self.levels else steps
            both = [v[~np.isnan(v)] for v in (self.real[name], self.synthetic[name])]
            self.marginals_[name] = draw(axis, *both, self.levels.get(name))
            axis.set_title(shorten(name, 20), fontsize="medium")
            few_ticks(axis, "y")
        if ax is None:
            handles = self.marginals_[next(iter(self.real))]
            self.legend_ = self.figure_.legend(handles=handles, loc="outside upper center", ncols=2)
        else:
            self.legend_ = self.axes_[0].legend(fontsize="small")
        self.axes_[0].set_ylabel("share of rows")
        maps = self.axes_[-2:]
        self.images_ = tuple(
            heat_map(axis, association(table, self.levels), list(self.real), title)
            for axis, table, title in zip(
                maps, (self.real, self.synthetic), ("real", "synthetic"), strict=True
            )
        )
        self.colorbar_ = dependence_bar(*maps, self.images_[1])
        tell_left_out(self.axes_, ax, n_columns, self.n_columns or 0)
        return self
