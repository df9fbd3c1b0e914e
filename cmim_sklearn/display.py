"""Pictures of fitted encoders, as scikit-learn's displays are: losses, codes, rebuilt cells, draws.

Each has ``from_estimator``, which computes and draws, and ``plot``, which draws again; what was
drawn is kept in attributes that end in ``_``. matplotlib is imported when something is drawn.

A column is held as numbers (n,), NaN where missing: its values, or positions in a list of levels.
"""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.utils._optional_dependencies import check_matplotlib_support

from cmim_sklearn.base import _LatentEncoder
from cmim_sklearn.drawing import (
    CLASS_COLOURS,
    MISSING_COLOUR,
    MODEL_COLOUR,
    OTHER_COLOUR,
    REAL_COLOUR,
    RINGED,
    WIDTH,
    Block,
    association,
    bars,
    central_range,
    clear,
    columns_across,
    confusion,
    dependence_bar,
    few_ticks,
    heat_map,
    label_outer,
    merge_rare,
    merged,
    panels,
    r2_text,
    refuse,
    remember,
    shorten,
    steps,
    styled,
    tell_left_out,
)
from cmim_sklearn.frames import BOOLEAN, NUMBER, as_numbers, as_objects, read, read_objects
from cmim_sklearn.generative import _GenerativeEncoder
from cmim_sklearn.model import on_rows
from cmim_sklearn.table import _position

__all__ = [
    "LatentSpaceDisplay",
    "ReconstructionDisplay",
    "SampleQualityDisplay",
    "TrainingDisplay",
]

MAX_CLASSES, MAX_PANELS, GRID_STEPS = 8, 12, 100
OF_NUMBERS = ("cmap", "norm", "vmin", "vmax")

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


class LatentSpaceDisplay:
    """A map of rows by their codes, coloured by labels, numbers or a column.

    Parameters
    ----------
    codes : array of shape (n_samples, 2)
    axis_labels : pair of str, default=("latent component 1", "latent component 2")
    color : array of shape (n_samples,), default=None
        Numbers, or positions in `levels`; NaN is missing.
    levels : list of str, default=None
        Classes, where `color` is not numbers.
    color_name : str, default=None
        What the legend or the colour bar is called.
    image : array of shape (n_rows, n_columns), default=None
        The column as decoded over the plane, like `color`; its first row is lowest.
    extent : tuple (left, right, bottom, top), default=None
        Of the image.

    Attributes
    ----------
    ax_ : matplotlib axes
    figure_ : matplotlib figure
    scatters_ : dict of str to matplotlib collection
        By class, "other" and "missing"; "rows" where there are none.
    legend_, colorbar_, image_ : matplotlib artists or None

    Examples
    --------
    >>> import numpy as np
    >>> from cmim_sklearn import CMIMEncoder
    >>> from cmim_sklearn.display import LatentSpaceDisplay
    >>> X = np.random.RandomState(0).randn(100, 3)
    >>> encoder = CMIMEncoder(n_components=2, max_iter=3, random_state=0).fit(X)
    >>> display = LatentSpaceDisplay.from_estimator(encoder, X, color=X[:, 0] > 0)
    >>> list(display.scatters_)
    ['False', 'True']
    """

    def __init__(
        self,
        codes,
        *,
        axis_labels=("latent component 1", "latent component 2"),
        color=None,
        levels=None,
        color_name=None,
        image=None,
        extent=None,
    ):
        self.codes, self.axis_labels = codes, axis_labels
        self.color, self.levels, self.color_name = color, levels, color_name
        self.image, self.extent = image, extent

    @classmethod
    def from_estimator(cls, encoder, X, *, color=None, grid=False, ax=None, **kwargs):
        """Encode rows and draw them.

        Parameters
        ----------
        encoder : encoder of this package
            Fitted. Of a code of more than two components, whatever the `embedding`, the first two
            principal components are drawn.
        X : table of shape (n_samples, n_features)
            With the columns of fit.
        color : str, int or array of shape (n_samples,), default=None
            A column of X, by name (by position in an array), or labels or numbers beside X. Whole
            numbers of at most 8 different values are taken for labels.
        grid : bool, default=False
            Whether to draw below the rows what the decoder makes of each point of the plane, in the
            column that `color` names; for ``n_components=2``.
        ax, **kwargs
            See `plot`.

        Returns
        -------
        LatentSpaceDisplay
        """
        _check(cls, "from_estimator", encoder, with_decoder=grid)
        frame = encoder._read(X, reset=False, min_rows=2)
        is_column = color is not None and np.ndim(color) == 0
        position, values, levels, name = None, None, None, None
        if is_column:
            (position,) = _positions(encoder, [color], "color")
            ((values,), levels, name) = _column(encoder, position, [frame.columns[position]])
        elif color is not None:
            values, levels = _colours(color, frame.n_rows)
            name = getattr(color, "name", None)
        model = encoder._model()
        encoded = encoder.table_.encode(frame)
        codes = on_rows(model, lambda x: {"z": model.posterior_mean(x)}, encoded)["z"]
        width = codes.shape[1]
        if width < 2:
            raise ValueError(f"A map takes 2 components or more; n_components is {width}.")
        drawn = {}
        if grid:
            if not is_column:
                raise ValueError(
                    "grid=True takes the name of a column as color. Got "
                    f"{'None' if color is None else 'labels or numbers'} instead."
                )
            if width != 2:
                raise ValueError(f"grid=True takes n_components=2; the encoder has {width}.")
            extent, plane = _plane(codes)
            decoded = on_rows(
                model, lambda z: {"x": model.likelihood.point(model.decoder(z))}, plane
            )
            cells = encoder.table_.raw_columns(decoded["x"])
            columns = [frame.columns[position], cells[position]]
            (values, image), levels, _ = _column(encoder, position, columns)
            drawn = {"image": image.reshape(GRID_STEPS, GRID_STEPS), "extent": extent}
        elif width > 2:
            pca = PCA(2).fit(codes)
            codes = pca.transform(codes)
            drawn["axis_labels"] = tuple(
                f"principal component {k} ({share:.0%})"
                for k, share in enumerate(pca.explained_variance_ratio_, 1)
            )
        display = cls(codes, color=values, levels=levels, color_name=name, **drawn)
        return display.plot(ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib axes, default=None
            What a display drew in it is removed; None makes a figure.
        **kwargs
            Of the points, for matplotlib's ``scatter``. Colours and ``label`` are those of `color`,
            where there is one; ``cmap``, ``norm``, ``vmin`` and ``vmax`` are for numbers.

        Returns
        -------
        self : LatentSpaceDisplay
        """
        check_matplotlib_support("LatentSpaceDisplay.plot")
        if self.color is not None:
            own = {"c", "color", "facecolor", "facecolors", "fc", "label"}
            reason = "The display's `color` sets it; choose the colours of numbers by cmap."
            refuse(kwargs, own, "LatentSpaceDisplay.plot", reason)
        place = {"loc": "best"}
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(layout="constrained")
            place = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
        clear(ax)
        self.ax_, self.figure_ = ax, ax.figure
        self.scatters_, self.legend_, self.colorbar_, self.image_ = {}, None, None, None
        self._kwargs = kwargs
        missing = np.zeros(len(self.codes), bool)
        if self.color is not None:
            missing = np.isnan(self.color)
        if self.color is None:
            self._scatter("rows", ~missing, color=REAL_COLOUR)
        elif self.levels is not None:
            self._plot_classes()
        elif not missing.all():
            self._plot_numbers(~missing)
        if missing.any():
            edge = {} if self.image is None else {"edgecolors": "black"}
            self._scatter("missing", missing, facecolors=MISSING_COLOUR, zorder=0.9, **edge)
        handles = list(self.scatters_.values())
        if self.colorbar_ is None and self.color is not None:
            title = self.color_name
            self.legend_ = ax.legend(handles=handles, title=title, markerscale=1.5, **place)
            for handle in self.legend_.legend_handles:
                handle.set_alpha(1)
        elif missing.any():
            self.legend_ = ax.legend(handles=[self.scatters_["missing"]], loc="best")
        remember(ax, [self.colorbar_, self.legend_, self.image_, *handles])
        ax.set(xlabel=self.axis_labels[0], ylabel=self.axis_labels[1])
        if self.image is not None:
            ax.set_title(f"{self.color_name}: plane as decoded, points as they are")
        return self

    def _scatter(self, name, rows, **style):
        from matplotlib.collections import PathCollection

        has_numbers = "c" in style or "c" in self._kwargs
        own = self._kwargs if has_numbers else _without(self._kwargs, *OF_NUMBERS)
        common = {"s": 14, "linewidths": 0} if self.image is None else {"s": 18, **RINGED}
        style = styled(PathCollection, {"label": name, **common, **style}, own)
        self.scatters_[name] = self.ax_.scatter(*self.codes[rows].T, **style)

    def _show(self, image, **style):
        options = {"origin": "lower", "aspect": "auto", "zorder": 0, "extent": self.extent}
        self.image_ = self.ax_.imshow(image, **options, **style)

    def _plot_numbers(self, rows):
        low, high = central_range(self.color[rows])
        limits = {} if "norm" in self._kwargs else {"vmin": low, "vmax": high}
        own = {name: value for name, value in self._kwargs.items() if name in OF_NUMBERS}
        style = {"cmap": "cividis", **limits, **own}
        self._scatter("rows", rows, c=self.color[rows], **style)
        if self.image is not None:
            self._show(self.image, **style)
        low, high = self.scatters_["rows"].get_clim()
        below, above = (self.color[rows] < low).any(), (self.color[rows] > high).any()
        extend = {(1, 1): "both", (1, 0): "min", (0, 1): "max"}.get((below, above), "neither")
        self.colorbar_ = self.figure_.colorbar(
            self.scatters_["rows"], ax=self.ax_, label=self.color_name or "", extend=extend
        )

    def _plot_classes(self):
        from matplotlib.colors import ListedColormap

        target, names = merge_rare(self.color, self.levels, MAX_CLASSES)
        colours = [*CLASS_COLOURS, OTHER_COLOUR][: len(names)]
        codes = merged(self.color, target)
        image = None if self.image is None else merged(self.image, target)
        # Classes overlap: those of few rows lie on top, and others are seen through them.
        alpha = {"alpha": 0.7} if image is None else {}
        for code, (name, colour) in enumerate(zip(names, colours, strict=True)):
            rows = codes == code
            if rows.any() or (image is not None and code in image):
                self._scatter(name, rows, color=colour, zorder=2 - rows.mean(), **alpha)
        if image is not None:
            style = {"cmap": ListedColormap(colours), "alpha": 0.35, "interpolation": "nearest"}
            self._show(image, vmin=-0.5, vmax=len(names) - 0.5, **style)


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


# Out of encoders and tables. ----------------------------------------------------------------------


def _check(cls, method, encoder, *, with_decoder=False):
    check_matplotlib_support(f"{cls.__name__}.{method}")
    kind = type(encoder).__name__
    if not isinstance(encoder, _LatentEncoder):
        raise TypeError(
            f"{cls.__name__} draws encoders of cmim_sklearn. Got {kind}; of a pipeline, give the "
            "step and the table as it comes there."
        )
    if with_decoder and not isinstance(encoder, _GenerativeEncoder):
        raise ValueError(
            f"This picture needs a decoder, and {kind} has none. CMIMEncoder, MIMEncoder, "
            "VAEEncoder, AEEncoder and InfoMaxVAEEncoder have one."
        )
    encoder._check_use()


def _positions(encoder, columns, parameter):
    names, n_columns = encoder.table_.layout.names, len(encoder.table_.types)
    if columns is None:
        return list(range(min(n_columns, MAX_PANELS)))
    columns = [columns] if np.ndim(columns) == 0 else list(columns)
    if not columns:
        raise ValueError(f"`{parameter}` names no column. Got {columns!r}.")
    return [_position(key, names, n_columns, parameter) for key in columns]


def _columns(encoder, positions, *frames):
    """Columns of tables as {name: (n,)} each, and {name: levels} of those that have levels."""
    tables, found = [{} for _ in frames], {}
    for position in positions:
        raw = [frame.columns[position] for frame in frames]
        columns, levels, name = _column(encoder, position, raw)
        for table, values in zip(tables, columns, strict=True):
            table[name] = values
        if levels is not None:
            found[name] = levels
    return tables, found


def _column(encoder, position, raw):
    """One column of several tables: arrays (n,), its levels or None, and its name."""
    table = encoder.table_
    names = table.layout.names
    name = f"x{position}" if names is None else str(names[position])
    parts = zip(table.blocks, table.likelihood.blocks, strict=True)
    if not any(part.has_levels and position in block.positions for block, part in parts):
        return [as_numbers(values, name) for values in raw], None, name
    order = [] if names is None else table.layout.dtypes[position].get("categories", [])
    codes, levels = _as_levels(raw, table.types[position] == BOOLEAN, order)
    return codes, levels, name


def _colours(color, n_rows):
    """Labels or numbers beside a table, as (n,), and levels or None."""
    color = np.asarray(color, dtype=object)
    if color.shape != (n_rows,):
        raise ValueError(f"color has shape {color.shape}, and X {n_rows} rows: one for each.")
    values, kind = read_objects(color.tolist(), "color")
    if kind == NUMBER:
        seen = np.unique(values[~np.isnan(values)])
        if len(seen) > MAX_CLASSES or (seen != np.round(seen)).any():
            return values, None
    (codes,), levels = _as_levels([values], kind == BOOLEAN)
    return codes, levels


def _as_levels(columns, is_boolean, order=()):
    """Raw columns as positions (n,) in a list of levels, NaN where missing, and that list."""
    columns = [as_objects(values) for values in columns]
    seen = {value for values in columns for value in values if value is not None}
    ordered = [value for value in order if value in seen]
    ordered += sorted(seen - set(ordered), key=lambda v: (isinstance(v, str), v))
    code = {value: k for k, value in enumerate(ordered)}
    codes = [np.array([code.get(value, np.nan) for value in values]) for values in columns]
    return codes, [str(bool(value)) if is_boolean else _text(value) for value in ordered]


def _without(kwargs, *names):
    return {name: value for name, value in kwargs.items() if name not in names}


def _text(value):
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _plane(codes):
    """The extent of codes (n, 2) and a little more, and a grid of it, (GRID_STEPS ** 2, 2)."""
    low, high = codes.min(0), codes.max(0)
    margin = 0.04 * np.maximum(high - low, 1e-6)
    low, high = low - margin, high + margin
    across, up = (np.linspace(a, b, GRID_STEPS) for a, b in zip(low, high, strict=True))
    plane = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    return (low[0], high[0], low[1], high[1]), plane
