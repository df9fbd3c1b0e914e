"""`TrainingDisplay`: loss curves of a fitted encoder."""

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

from cmim_sklearn.display._columns import _check
from cmim_sklearn.display._panels import (
    MODEL_COLOUR,
    REAL_COLOUR,
    Block,
    panels,
    refuse,
    styled,
)

OTHER_UNITS = {"invariance", "variance", "covariance", "redundancy", "scores"}
"""Loss terms of the family that are no nats."""


class TrainingDisplay:
    """Each term of the loss by epoch, one panel a term: their sizes can differ by far.

    Parameters
    ----------
    terms : dict of str to array of shape (n_epochs,)
        Means over training rows: the whole "loss" and its terms.
    held_out : dict of str to array of shape (n_epochs,), default=None
        The same of held-out rows, NaN in epochs without; None where there never were any.

    Attributes
    ----------
    axes_ : array of shape (n_terms,) of matplotlib axes
    figure_ : matplotlib figure
    lines_, held_out_lines_ : list of n_terms matplotlib lines
        The latter is None without held-out rows.

    Examples
    --------
    >>> import numpy as np
    >>> from cmim_sklearn import CMIMEncoder
    >>> from cmim_sklearn.display import TrainingDisplay
    >>> X = np.random.RandomState(0).randn(100, 3)
    >>> encoder = CMIMEncoder(n_components=2, max_iter=3, random_state=0).fit(X)
    >>> list(TrainingDisplay.from_estimator(encoder).terms)
    ['loss', 'distortion', 'latent', 'contrast']
    """

    def __init__(self, terms, held_out=None):
        self.terms, self.held_out = terms, held_out

    @classmethod
    def from_estimator(cls, encoder, *, ax=None, **kwargs):
        """Draw the history of a fitted encoder.

        Parameters
        ----------
        encoder : encoder of this package
            Fitted.
        ax, **kwargs
            See `plot`.

        Returns
        -------
        TrainingDisplay
        """
        _check(cls, "from_estimator", encoder)
        epochs = [row for row in encoder.net_.history if "train_loss" in row]
        if not epochs:
            raise ValueError(f"{type(encoder).__name__} was interrupted in its first epoch.")
        names = dict.fromkeys(
            name.removeprefix("train_")
            for row in epochs
            for name, value in row.items()
            if name.startswith("train_") and isinstance(value, float)
        )

        def means(prefix):
            return {
                name: np.array([row.get(f"{prefix}_{name}", np.nan) for row in epochs], float)
                for name in names
            }

        held_out = means("valid")
        display = cls(means("train"), held_out if np.isfinite(held_out["loss"]).any() else None)
        return display.plot(ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib axes, or sequence of n_terms of them, default=None
            One is divided, in place of what a display drew in it, and labels have their room where
            its figure has ``layout="constrained"``; several are drawn on; None makes a figure.
        **kwargs
            Of all lines, for matplotlib's ``plot``; held-out rows have dashed lines unless
            ``linestyle`` is given. Not ``label``, which tells the two apart.

        Returns
        -------
        self : TrainingDisplay
        """
        check_matplotlib_support("TrainingDisplay.plot")
        from matplotlib.lines import Line2D

        reason = "It tells training from held-out rows; set it on lines_ and held_out_lines_."
        refuse(kwargs, {"label"}, "TrainingDisplay.plot", reason)
        self.axes_ = panels(ax, [Block(len(self.terms), 1, 1.5)], 5.5, share_x=True)
        self.figure_ = self.axes_[0].figure
        self.lines_, self.held_out_lines_ = [], None if self.held_out is None else []
        unit = "mean of rows" if OTHER_UNITS & self.terms.keys() else "nats a row"
        for (name, values), axis in zip(self.terms.items(), self.axes_, strict=True):
            epochs = np.arange(1, len(values) + 1)
            common = {"marker": "." if len(values) == 1 else None, "linewidth": 1.5}
            style = styled(Line2D, {**common, "color": REAL_COLOUR}, kwargs)
            self.lines_ += axis.plot(epochs, values, label="training", **style)
            if self.held_out is not None:
                common |= {"color": MODEL_COLOUR, "linestyle": "--"}
                style = styled(Line2D, common, kwargs)
                line = axis.plot(epochs, self.held_out[name], label="held out", **style)
                self.held_out_lines_ += line
            axis.set_ylabel(f"{name}\n{unit}")
            axis.grid(alpha=0.3)
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        if self.held_out is not None:
            self.axes_[0].legend(loc="best")
        return self
