"""`ReconstructionDisplay`: cells against their reconstructions."""

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

from cmim_sklearn._tables.read import read
from cmim_sklearn.display._columns import _check, _columns, _positions
from cmim_sklearn.display._panels import (
    REAL_COLOUR,
    WIDTH,
    Block,
    columns_across,
    confusion,
    few_ticks,
    label_outer,
    panels,
    r2_text,
    shorten,
    styled,
    tell_left_out,
)


class ReconstructionDisplay:
    """Each column as it is against what its row's code decodes to.

    Numbers are points beside the line on which both agree; levels a confusion matrix whose rows,
    the true levels, sum to one. Cells that are missing in X are left out.

    Parameters
    ----------
    real, reconstructed : dict of str to array of shape (n_samples,)
        By column: numbers, or positions in its levels; NaN is missing.
    levels : dict of str to list of str
        Of the columns that have levels. At most 10 are drawn, the rarest as "other".
    n_columns : int, default=None
        Of the whole table, where only its first are here: the figure tells how many.

    Attributes
    ----------
    axes_ : array of shape (n_columns,) of matplotlib axes
    figure_ : matplotlib figure
    artists_ : dict of str to matplotlib collection or image
        By column.
    identity_ : dict of str to matplotlib line
        By column of numbers.

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

    def __init__(self, real, reconstructed, levels, n_columns=None):
        self.real, self.reconstructed, self.levels = real, reconstructed, levels
        self.n_columns = n_columns

    @classmethod
    def from_estimator(cls, encoder, X, *, columns=None, ax=None, **kwargs):
        """Reconstruct rows and draw both.

        Parameters
        ----------
        encoder : encoder of this package, with a decoder
            Fitted.
        X : table of shape (n_samples, n_features)
            With the columns of fit.
        columns : list of str or int, default=None
            Columns to draw, by name (by position in an array); None draws the first 12,
            and tells how many are left out.
        ax, **kwargs
            See `plot`.

        Returns
        -------
        ReconstructionDisplay
        """
        _check(cls, "from_estimator", encoder, with_decoder=True)
        positions = _positions(encoder, columns, "columns")
        frame = encoder._read(X, reset=False, min_rows=1)
        tables, levels = _columns(encoder, positions, frame, read(encoder.reconstruct(X)))
        n_columns = len(frame.columns) if columns is None else None
        return cls(*tables, levels, n_columns).plot(ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib axes, or sequence of n_columns of them, default=None
            One is divided, in place of what a display drew in it, and labels have their room where
            its figure has ``layout="constrained"``; several are drawn on; None makes a figure.
        **kwargs
            Of the points, for matplotlib's ``scatter``.

        Returns
        -------
        self : ReconstructionDisplay
        """
        check_matplotlib_support("ReconstructionDisplay.plot")
        from matplotlib.collections import PathCollection

        n_columns = len(self.real)
        across = columns_across(n_columns)
        if ax is None and self.levels:
            across = min(n_columns, 2)  # names of levels take room on two sides
        width = min(WIDTH, 3.2 * across)
        self.axes_ = panels(ax, [Block(n_columns, across, width / across)], width)
        self.figure_ = self.axes_[0].figure
        self.artists_, self.identity_ = {}, {}
        label_outer(self.axes_, across, ax, "reconstructed", "real")
        for name, axis in zip(self.real, self.axes_, strict=True):
            both = self.real[name], self.reconstructed[name]
            seen = ~np.isnan(both).any(axis=0)
            real, rebuilt = (values[seen] for values in both)
            if name in self.levels:
                self.artists_[name] = confusion(axis, real, rebuilt, self.levels[name])
                word = f"accuracy {np.mean(real == rebuilt):.2f}" if len(real) else "no value"
            else:
                style = {"s": 8, "alpha": 0.5, "linewidths": 0, "color": REAL_COLOUR}
                style = styled(PathCollection, style, kwargs)
                self.artists_[name] = axis.scatter(rebuilt, real, **style)
                ends = [np.min([real, rebuilt]), np.max([real, rebuilt])] if len(real) else [0, 1]
                style = {"color": "black", "linewidth": 1, "linestyle": "--"}
                (self.identity_[name],) = axis.plot(ends, ends, **style)
                word = r2_text(real, rebuilt)
                axis.set_box_aspect(1)
                few_ticks(axis, "xy")
            axis.set_title(f"{shorten(name, 20)}\n{word}", fontsize="medium")
        tell_left_out(self.axes_, ax, n_columns, self.n_columns or 0)
        return self
