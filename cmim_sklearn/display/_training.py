"""`TrainingDisplay`: loss curves of a fitted encoder."""

from itertools import pairwise

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

from cmim_sklearn._utils.isolation import isolated
from cmim_sklearn.display._columns import check_encoder
from cmim_sklearn.display._panels import (
    MODEL_COLOUR,
    REAL_COLOUR,
    PanelGroup,
    make_panels,
    merge_style,
    reject_keywords,
)
from cmim_sklearn.display._texts import labels

TERMS_NOT_IN_NATS = {"invariance", "variance", "covariance", "redundancy", "scores"}
"""Loss terms that are not log-probabilities; a loss with one of them is not in nats."""


class TrainingDisplay:
    """Loss curves: the loss and each of its terms by epoch, one panel per term.

    Every panel has its own scale, since terms can differ by orders of magnitude. Use
    `from_estimator` to create a display.

    Parameters
    ----------
    terms : dict of str to array of shape (n_epochs,)
        Mean over training rows of "loss", the sum, and of each term. In nats per row, except for
        losses that are not log-probabilities (VICReg, Barlow Twins). The term "label" is multiplied
        by `label_weight` and is not part of the sum; for numbers it is half the squared error in
        standardised units.
    held_out : dict of str to array of shape (n_epochs,), default=None
        The same means over validation rows, without "label"; NaN in epochs without validation rows.
        None if there never were any.
    label_ends : sequence of int, default=()
        Epochs after which labels no longer trained the network, see `label_weight`. They are marked
        in the panel of the term "label".

    Attributes
    ----------
    axes_ : array of shape (n_terms,) of matplotlib axes
        Panels, in the order of `terms`.
    figure_ : matplotlib figure
        Figure that holds the panels.
    lines_ : list of n_terms matplotlib lines
        Training curves.
    held_out_lines_ : list of matplotlib lines, or None
        Validation curves, one for each entry of `held_out`; None without validation rows.
    label_end_lines_ : list of matplotlib lines
        Marks of `label_ends`.

    See Also
    --------
    LatentSpaceDisplay : Map of the latent codes.
    ReconstructionDisplay : Cells against their reconstructions.
    SampleQualityDisplay : Real against generated rows.

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

    def __init__(self, terms, held_out=None, label_ends=()):
        self.terms, self.held_out, self.label_ends = terms, held_out, label_ends

    @classmethod
    @isolated
    def from_estimator(cls, encoder, *, ax=None, **kwargs):
        """Draw the training history of a fitted encoder.

        Parameters
        ----------
        encoder : encoder of this package
            Fitted encoder.
        ax, **kwargs
            See `plot`.

        Returns
        -------
        TrainingDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If `encoder` is not an encoder of this package.
        sklearn.exceptions.NotFittedError
            If `encoder` is not fitted.
        ValueError
            If training was interrupted in its first epoch.
        ImportError
            If matplotlib is not installed.
        """
        check_encoder(cls, encoder)
        epochs = [row for row in encoder.net_.history if "train_loss" in row]
        if not epochs:
            raise ValueError(
                "`encoder` must have trained for at least one epoch; got "
                f"{type(encoder).__name__}, interrupted in its first epoch. Fit it again."
            )
        names = dict.fromkeys(
            name.removeprefix("train_")
            for row in epochs
            for name, value in row.items()
            if name.startswith("train_") and isinstance(value, float)
        )

        def curves(prefix):
            found = {
                name: np.array([row.get(f"{prefix}_{name}", np.nan) for row in epochs], float)
                for name in names
            }
            return {name: values for name, values in found.items() if np.isfinite(values).any()}

        held_out = curves("valid") or None
        uses_labels = [row.get("uses_labels", False) for row in epochs]
        ends = [i for i, (now, then) in enumerate(pairwise(uses_labels), 1) if now and not then]
        display = cls(curves("train"), held_out, ends)
        return display.plot(ax, **kwargs)

    @isolated
    def plot(self, ax=None, **kwargs):
        """Draw the loss curves.

        Parameters
        ----------
        ax : matplotlib axes, or sequence of n_terms of them, default=None
            Where to draw. None makes a figure. One axes is divided into panels, which replace the
            panels that a display drew in it before; use a figure with ``layout="constrained"`` to
            leave room for labels. A sequence gives one axes per panel.
        **kwargs
            Keywords of all lines, for `matplotlib.axes.Axes.plot`. Validation curves are dashed
            unless ``linestyle`` is given. ``label`` raises a TypeError.

        Returns
        -------
        self : TrainingDisplay
        """
        check_matplotlib_support("TrainingDisplay.plot")
        from matplotlib.lines import Line2D

        remedy = "The labels name the curves; change them on lines_ and held_out_lines_."
        reject_keywords(kwargs, {"label"}, "TrainingDisplay.plot", remedy)
        self.axes_ = make_panels(ax, [PanelGroup(len(self.terms), 1, 1.5)], 5.5, share_x=True)
        self.figure_ = self.axes_[0].figure
        self.lines_, self.held_out_lines_ = [], None if self.held_out is None else []
        self.label_end_lines_ = []
        unit = "mean per row" if TERMS_NOT_IN_NATS & self.terms.keys() else "nats per row"
        for name, text, axis in zip(self.terms, labels(self.terms, 14), self.axes_, strict=True):
            values = self.terms[name]
            epochs = np.arange(1, len(values) + 1)
            common = {"marker": "." if len(values) == 1 else None, "linewidth": 1.5}
            style = merge_style(Line2D, {**common, "color": REAL_COLOUR}, kwargs)
            self.lines_ += axis.plot(epochs, values, label="training", **style)
            if name in (self.held_out or ()):
                common |= {"color": MODEL_COLOUR, "linestyle": "--"}
                style = merge_style(Line2D, common, kwargs)
                line = axis.plot(epochs, self.held_out[name], label="validation", **style)
                self.held_out_lines_ += line
            if name == "label":
                for end in self.label_ends:
                    line = axis.axvline(end + 0.5, color="0.4", linestyle=":", label="labels end")
                    self.label_end_lines_.append(line)
                if self.label_end_lines_:
                    axis.legend(handles=[*self.lines_[-1:], line], loc="best")
            axis.set_ylabel(f"{text}\n{'weighted ' * (name == 'label')}{unit}")
            axis.grid(alpha=0.3)
        if np.ndim(ax) == 0:
            self.figure_.align_ylabels(self.axes_)
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        if self.held_out is not None:
            self.axes_[0].legend(loc="best")
        return self
