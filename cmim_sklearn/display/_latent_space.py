"""`LatentSpaceDisplay`: map of the latent codes."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.utils._optional_dependencies import check_matplotlib_support

from cmim_sklearn._models.inference import on_rows
from cmim_sklearn.display._columns import (
    GRID_STEPS,
    MAX_CLASSES,
    _check,
    _colours,
    _column,
    _positions,
    _without,
)
from cmim_sklearn.display._panels import (
    CLASS_COLOURS,
    MISSING_COLOUR,
    OTHER_COLOUR,
    REAL_COLOUR,
    RINGED,
    central_range,
    clear,
    merge_rare,
    merged,
    refuse,
    remember,
    styled,
)

OF_NUMBERS = ("cmap", "norm", "vmin", "vmax")


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


def _plane(codes):
    """The extent of codes (n, 2) and a little more, and a grid of it, (GRID_STEPS ** 2, 2)."""
    low, high = codes.min(0), codes.max(0)
    margin = 0.04 * np.maximum(high - low, 1e-6)
    low, high = low - margin, high + margin
    across, up = (np.linspace(a, b, GRID_STEPS) for a, b in zip(low, high, strict=True))
    plane = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    return (low[0], high[0], low[1], high[1]), plane
