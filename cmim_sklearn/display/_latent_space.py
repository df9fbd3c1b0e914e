"""`LatentSpaceDisplay`: map of the latent codes."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.utils._optional_dependencies import check_matplotlib_support

from cmim_sklearn._encoders.base.fitted import fitted_parts, read_rows
from cmim_sklearn._models.inference import on_rows
from cmim_sklearn._tables.moments import MOMENTS, form_of
from cmim_sklearn._tables.read import BOOLEAN, NUMBER, as_numbers, read_objects
from cmim_sklearn._tables.wide import distinct
from cmim_sklearn._utils.isolation import isolated
from cmim_sklearn.display._columns import (
    Column,
    as_codes,
    central_range,
    check_encoder,
    column_positions,
    merge_rare,
    read_column,
    recode,
)
from cmim_sklearn.display._dates import as_plotted, date_format
from cmim_sklearn.display._panels import (
    CLASS_COLOURS,
    MISSING_COLOUR,
    OTHER_COLOUR,
    REAL_COLOUR,
    clear,
    merge_style,
    reject_keywords,
    remember,
)
from cmim_sklearn.display._texts import LENGTH, label, labels, numbered

MAX_CLASSES = 8
"""Maximum number of classes with a colour; the rest become "other"."""

GRID_STEPS = 100
"""Points of the decoded plane along each axis."""

TITLE_LENGTH = 40
"""Number of letters after which a label beside a whole axis is cut."""

COLORMAP_KEYWORDS = ("cmap", "norm", "vmin", "vmax")


class LatentSpaceDisplay:
    """Map of the latent codes: one point per row, coloured by classes, numbers or a column.

    Use `from_estimator` to create a display.

    Parameters
    ----------
    codes : array of shape (n_samples, 2)
        Position of each row: its latent code, or two principal components of it.
    axis_labels : pair of str, default=("latent component 1", "latent component 2")
        Labels of the x and the y axis, drawn without formulas.
    color : array of shape (n_samples,), default=None
        Numbers, or positions in `levels`. NaN where missing; these points are grey. None draws all
        points in one colour.
    levels : list of str, default=None
        Names of the classes. None if `color` holds numbers. At most 8 classes have a colour; rarer
        ones become "other".
    color_name : str, default=None
        Title of the legend, or label of the colour bar.
    image : array of shape (n_rows, n_columns), default=None
        Decoded values to draw behind the points, as in `color`. The first row is the lowest.
    extent : tuple (left, right, bottom, top), default=None
        Limits of the image in the units of `codes`.
    color_is_date : bool, default=False
        Whether `color` holds dates, in days as `matplotlib.dates.date2num` counts them.

    Attributes
    ----------
    ax_ : matplotlib axes
        Axes of the map.
    figure_ : matplotlib figure
        Figure that holds the axes.
    scatters_ : dict of str to matplotlib collection
        Points by class, including "other" and "missing"; "rows" if there are no classes.
    legend_ : matplotlib legend, or None
        Legend of the classes, or of the missing values.
    colorbar_ : matplotlib colour bar, or None
        Colour bar of numbers.
    image_ : matplotlib image, or None
        Decoded plane.

    See Also
    --------
    ReconstructionDisplay : Cells against their reconstructions.

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
        color_is_date=False,
    ):
        self.codes, self.axis_labels = codes, axis_labels
        self.color, self.levels, self.color_name = color, levels, color_name
        self.image, self.extent, self.color_is_date = image, extent, color_is_date

    @classmethod
    @isolated
    def from_estimator(cls, encoder, X, *, color=None, grid=False, ax=None, **kwargs):
        """Encode rows and draw their latent codes.

        Parameters
        ----------
        encoder : encoder of this package
            Fitted encoder with ``n_components`` of at least 2. If there are more than 2, the first
            two principal components of the codes of X are drawn. `embedding` has no effect.
        X : table of shape (n_samples, n_features)
            Rows with the columns of fit.
        color : str, int or array of shape (n_samples,), default=None
            Colour of the points. A str or int is a column of X, by name, or by position in an
            array. An array holds class labels, numbers, dates or durations, one per row. Whole
            numbers with at most 8 different values count as class labels.
        grid : bool, default=False
            Whether to draw behind the points the value of the column `color` that the decoder gives
            at each position. Needs ``n_components=2`` and a column as `color`.
        ax, **kwargs
            See `plot`.

        Returns
        -------
        LatentSpaceDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If `encoder` is not an encoder of this package, or `color` holds other values than
            numbers, labels, dates or durations.
        sklearn.exceptions.NotFittedError
            If `encoder` is not fitted.
        ValueError
            If ``n_components`` is 1; if `color` names an unknown column or has another length than
            X; if ``grid=True`` and the encoder has no decoder or more than 2 components, or
            `color` is not a column.
        ImportError
            If matplotlib is not installed.
        """
        check_encoder(cls, encoder, needs_decoder=grid)
        table, frame = encoder.table_, read_rows(encoder, X, min_rows=2)
        is_column = color is not None and np.ndim(color) == 0
        values, levels, is_date, name = None, None, False, None
        if is_column:
            (position,) = column_positions(table, [color], "color")
            column = read_column(table, position, [frame.columns[position]])
            (values,), levels, is_date, name = column
        elif color is not None:
            (values,), levels, is_date, name = _read_color(color, frame.n_rows)
        model, encoded = fitted_parts(encoder).model, table.encode(frame)
        codes = on_rows(model, lambda x: {"z": model.posterior_mean(x)}, encoded)["z"]
        _check_shape(codes.shape[1], grid, color, is_column)
        options = {}
        if grid:
            cells, extent = _decode_plane(table, model, codes)
            columns = [frame.columns[position], cells[position]]
            (values, image), levels, *_ = read_column(table, position, columns)
            options = {"image": image.reshape(GRID_STEPS, GRID_STEPS), "extent": extent}
        elif codes.shape[1] > 2:
            pca = PCA(2).fit(codes)
            codes = pca.transform(codes)
            options["axis_labels"] = tuple(
                f"principal component {k} ({share:.0%})"
                for k, share in enumerate(pca.explained_variance_ratio_, 1)
            )
        options |= {"levels": levels, "color_name": name, "color_is_date": is_date}
        display = cls(codes, color=values, **options)
        return display.plot(ax, **kwargs)

    @isolated
    def plot(self, ax=None, **kwargs):
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib axes, default=None
            Where to draw; replaces a map that a display drew in it before. None makes a figure.
        **kwargs
            Keywords of the points, for `matplotlib.axes.Axes.scatter`. If there is a `color`,
            keywords that set the colour or the ``label`` of points raise a TypeError; ``cmap``,
            ``norm``, ``vmin`` and ``vmax`` set the colour map of numbers.

        Returns
        -------
        self : LatentSpaceDisplay
        """
        check_matplotlib_support("LatentSpaceDisplay.plot")
        if self.color is not None:
            own = {"c", "color", "facecolor", "facecolors", "fc", "label"}
            remedy = "The display's `color` sets it; choose the colours of numbers by cmap."
            reject_keywords(kwargs, own, "LatentSpaceDisplay.plot", remedy)
        legend_place = {"loc": "best"}
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(layout="constrained")
            legend_place = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
        clear(ax)
        self.ax_, self.figure_ = ax, ax.figure
        self.scatters_, self.legend_, self.colorbar_, self.image_ = {}, None, None, None
        missing = np.zeros(len(self.codes), bool)
        if self.color is not None:
            missing = np.isnan(self.color)
        if self.color is None:
            self._scatter("rows", ~missing, kwargs, color=REAL_COLOUR)
        elif self.levels is not None:
            self._plot_classes(kwargs)
        elif not missing.all():
            self._plot_numbers(~missing, kwargs)
        if missing.any():
            edge = {} if self.image is None else {"edgecolors": "black"}
            style = {"facecolors": MISSING_COLOUR, "zorder": 0.9, **edge}
            *_, name = numbered([*self.scatters_, "missing"])
            self._scatter(name, missing, kwargs, **style)
        self._add_legend(missing.any(), legend_place)
        remember(ax, [self.colorbar_, self.legend_, self.image_, *self.scatters_.values()])
        xlabel, ylabel = labels(self.axis_labels, TITLE_LENGTH)
        ax.set(xlabel=xlabel, ylabel=ylabel)
        if self.image is not None:
            ax.set_title(
                f"{self._name()}\ndecoded (background) and real (points)", fontsize="medium"
            )
        return self

    def _name(self, length=LENGTH):
        return "" if self.color_name is None else label(self.color_name, length)

    def _plot_numbers(self, rows, given):
        low, high = central_range(self.color[rows])
        limits = {} if "norm" in given else {"vmin": low, "vmax": high}
        colormap = {name: value for name, value in given.items() if name in COLORMAP_KEYWORDS}
        style = {"cmap": "cividis", **limits, **colormap}
        self._scatter("rows", rows, given, c=self.color[rows], **style)
        if self.image is not None:
            self._show_image(self.image, **style)
        low, high = self.scatters_["rows"].get_clim()
        below, above = (self.color[rows] < low).any(), (self.color[rows] > high).any()
        extend = {(1, 1): "both", (1, 0): "min", (0, 1): "max"}.get((below, above), "neither")
        name = self._name(TITLE_LENGTH)
        style = {"label": name, "extend": extend}
        if self.color_is_date:
            style["ticks"], style["format"] = date_format()
        self.colorbar_ = self.figure_.colorbar(self.scatters_["rows"], ax=self.ax_, **style)

    def _plot_classes(self, given):
        from matplotlib.colors import ListedColormap

        new_codes, names = merge_rare(self.color, self.levels, MAX_CLASSES)
        colours = [*CLASS_COLOURS, OTHER_COLOUR][: len(names)]
        codes = recode(self.color, new_codes)
        image = None if self.image is None else recode(self.image, new_codes)
        # Classes overlap: rare ones are drawn on top, and all are transparent.
        alpha = {"alpha": 0.7} if image is None else {}
        texts = labels(names)
        for code, (name, colour) in enumerate(zip(names, colours, strict=True)):
            rows = codes == code
            if rows.any() or (image is not None and code in image):
                style = {"label": texts[code], "color": colour, "zorder": 2 - rows.mean(), **alpha}
                self._scatter(name, rows, given, **style)
        if image is not None:
            style = {"cmap": ListedColormap(colours), "alpha": 0.35, "interpolation": "nearest"}
            self._show_image(image, vmin=-0.5, vmax=len(names) - 0.5, **style)

    def _scatter(self, name, rows, given, **style):
        from matplotlib.collections import PathCollection

        if "c" not in style and "c" not in given:  # no numbers: `scatter` warns of colour maps
            given = {key: value for key, value in given.items() if key not in COLORMAP_KEYWORDS}
        common = {"s": 14, "linewidths": 0}
        if self.image is not None:  # a white ring separates points from the background
            common = {"s": 18, "linewidths": 0.5, "edgecolors": "white"}
        style = merge_style(PathCollection, {"label": name, **common, **style}, given)
        self.scatters_[name] = self.ax_.scatter(*self.codes[rows].T, **style)

    def _show_image(self, image, **style):
        options = {"origin": "lower", "aspect": "auto", "zorder": 0, "extent": self.extent}
        self.image_ = self.ax_.imshow(image, **options, **style)

    def _add_legend(self, has_missing, place):
        if self.color is not None and self.colorbar_ is None:
            handles = list(self.scatters_.values())
            style = {"title": self._name(), "markerscale": 1.5, **place}
            self.legend_ = self.ax_.legend(handles=handles, **style)
            for handle in self.legend_.legend_handles:
                handle.set_alpha(1)
        elif has_missing:
            self.legend_ = self.ax_.legend(handles=[self.scatters_["missing"]], loc="best")


def _read_color(color, n_rows):
    """`Column` of labels, numbers or dates passed together with a table."""
    name = getattr(color, "name", None)
    typed = np.asarray(color) if hasattr(color, "__array__") else None
    is_dated = typed is not None and typed.dtype.kind in "mM"
    color = np.asarray(color, dtype=object)
    if color.shape != (n_rows,):
        raise ValueError(
            f"`color` must have shape ({n_rows},), one value per row of X; got shape {color.shape}."
        )
    # As Python objects, dates of numpy would become integers.
    objects = list(typed) if is_dated else color.tolist()
    values, kind, options = read_objects(objects, "color")
    if kind in MOMENTS:
        numbers, unit, is_date = as_plotted([values], form_of({"dtype": "object"} | options), "")
        parts = [part for part in (name, unit.strip()) if part]
        return Column(numbers, None, is_date, " ".join(map(str, parts)) or None)
    if kind == NUMBER:
        numbers, n_distinct = as_numbers(values, "color"), len(distinct(values))
        are_whole = (numbers == np.round(numbers)) | np.isnan(numbers)
        if n_distinct > MAX_CLASSES or not are_whole.all():
            return Column([numbers], None, False, name)
    codes, levels = as_codes([values], kind == BOOLEAN)
    return Column(codes, levels, False, name)


def _check_shape(n_components, grid, color, is_column):
    """Raise unless codes of this width can be drawn, with the decoded plane if `grid`."""
    if n_components < 2:
        raise ValueError(
            f"`encoder` must have n_components of at least 2 for a map; got {n_components}."
        )
    if grid and not is_column:
        given = "None" if color is None else f"labels or numbers ({type(color).__name__})"
        raise ValueError(f"`color` must be a column of X for grid=True; got {given}.")
    if grid and n_components != 2:
        raise ValueError(
            f"`encoder` must have n_components=2 for grid=True; got {n_components}. Use grid=False."
        )


def _decode_plane(table, model, codes):
    """Raw columns decoded at a grid of GRID_STEPS ** 2 points around codes, and its limits."""
    low, high = codes.min(0), codes.max(0)
    margin = 0.04 * np.maximum(high - low, 1e-6)
    low, high = low - margin, high + margin
    across, up = (np.linspace(a, b, GRID_STEPS) for a, b in zip(low, high, strict=True))
    plane = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    decoded = on_rows(model, lambda z: {"x": model.likelihood.point(model.decoder(z))}, plane)
    return table.raw_columns(decoded["x"]), (low[0], high[0], low[1], high[1])
