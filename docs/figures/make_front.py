"""Front figure: a table goes in, features come out, and rows come back.

    python docs/figures/make_front.py

Writes four files beside this one, for light and dark pages on wide and narrow screens. The map
shows the codes of `CMIMEncoder` with two components for the 4,000 rows of the table adult. The
income, which colours the points, is not in the table that the encoder was fitted to.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.patches import FancyArrowPatch, Rectangle

from cmim_sklearn import CMIMEncoder

HERE = Path(__file__).parent
COLUMNS = ["age", "workclass", "education", "sex", "hours_per_week"]
ROWS = [1, 14, 5, 20, 8, 23]  # one of them with a missing cell
IN = "fit, transform\nwithout labels"
OUT = "inverse_transform\nsample, impute"
TEXT = {"light": "#1f2328", "dark": "#e6edf3"}
FAINT = {"light": "#d0d7de", "dark": "#444c56"}
STRONG = {"light": "#0b6e99", "dark": "#58b8e0"}
MISSING = {"light": "#fff3c4", "dark": "#5c4a00"}
LOW = {"light": "#9aa7b4", "dark": "#6b7785"}
HIGH = {"light": "#e4572e", "dark": "#ff8c5a"}


def main():
    """Fit the encoder and draw the figures."""
    people = pd.read_csv(HERE.parents[1] / "examples" / "data" / "adult.csv")
    is_high = people.pop("income") == ">50K"
    encoder = CMIMEncoder(n_components=2, embedding="mean", max_iter=100, random_state=0)
    codes = encoder.fit_transform(people)
    for theme in ("light", "dark"):
        for layout, draw in {"wide": wide, "narrow": narrow}.items():
            figure = draw(theme, people.loc[ROWS, COLUMNS], codes, is_high.to_numpy())
            name = f"front-{theme}{'' if layout == 'wide' else '-narrow'}.png"
            figure.savefig(HERE / name, dpi=160, transparent=True)
            plt.close(figure)


def wide(theme, table, codes, is_high):
    """Table, arrows and map side by side."""
    figure = plt.figure(figsize=(10, 3.7))
    draw_table(figure.add_axes((0.0, 0.0, 0.46, 1.0)), table, theme)
    arrows = figure.add_axes((0.46, 0.0, 0.2, 1.0))
    draw_arrow(arrows, (0.06, 0.6), (0.94, 0.6), theme)
    draw_arrow(arrows, (0.94, 0.36), (0.06, 0.36), theme)
    label(arrows, (0.5, 0.69), IN, theme)
    label(arrows, (0.5, 0.22), OUT, theme)
    draw_map(figure.add_axes((0.66, 0.0, 0.34, 0.84)), codes, is_high, theme)
    return figure


def narrow(theme, table, codes, is_high):
    """Table, arrows and map one below the other."""
    figure = plt.figure(figsize=(4.8, 7.6))
    draw_table(figure.add_axes((0.0, 0.56, 1.0, 0.44)), table, theme)
    arrows = figure.add_axes((0.0, 0.44, 1.0, 0.12))
    draw_arrow(arrows, (0.45, 0.95), (0.45, 0.05), theme)
    draw_arrow(arrows, (0.55, 0.05), (0.55, 0.95), theme)
    label(arrows, (0.23, 0.5), IN, theme)
    label(arrows, (0.78, 0.5), OUT, theme)
    draw_map(figure.add_axes((0.08, 0.0, 0.84, 0.37)), codes, is_high, theme)
    return figure


def draw_table(ax, table, theme):
    """Some cells of the table, the missing one marked."""
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.axis("off")
    ax.text(0.02, 0.92, "4,000 people, 14 columns", size=12, weight="bold", color=TEXT[theme])
    edges = [0.02, 0.13, 0.42, 0.66, 0.81, 0.99]
    height, top = 0.105, 0.84
    lines = [[name.replace("hours_per_week", "hours") for name in table.columns]]
    lines += table.astype(object).where(table.notna(), None).to_numpy().tolist()
    for i, line in enumerate([*lines, ["..."] * len(COLUMNS)]):
        y = top - (i + 1) * height
        for j, value in enumerate(line):
            x, width = edges[j], edges[j + 1] - edges[j]
            if value is None:
                ax.add_patch(Rectangle((x, y), width, height, color=MISSING[theme], lw=0))
            ax.text(
                x + 0.012,
                y + height / 2,
                "missing" if value is None else value,
                size=10.5,
                va="center",
                color=STRONG[theme] if i == 0 else TEXT[theme],
                weight="bold" if i == 0 else "normal",
                style="italic" if value is None else "normal",
            )
        ax.plot([edges[0], edges[-1]], [y, y], color=FAINT[theme], lw=1)


def draw_arrow(ax, start, stop, theme):
    """Arrow in an empty panel."""
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.axis("off")
    style = {"arrowstyle": "-|>", "mutation_scale": 20, "lw": 2, "color": STRONG[theme]}
    ax.add_patch(FancyArrowPatch(start, stop, **style))


def label(ax, position, text, theme):
    """Two lines of text beside an arrow."""
    ax.text(*position, text, size=11, ha="center", va="center", color=TEXT[theme], linespacing=1.5)


def draw_map(ax, codes, is_high, theme):
    """Codes of all rows, coloured by an income that the encoder did not see."""
    for mask, colour, label in (
        (~is_high, LOW[theme], "income up to 50K"),
        (is_high, HIGH[theme], "above 50K"),
    ):
        ax.scatter(*codes[mask].T, s=4, lw=0, alpha=0.8, color=colour, label=label)
    ax.axis("off")
    ax.margins(0.01)
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.48, 1.2),
        ncols=2,
        frameon=False,
        fontsize=10.5,
        labelcolor=TEXT[theme],
        markerscale=3.5,
        handletextpad=0.1,
        columnspacing=1.2,
        title="features, coloured by a label not seen in fit",
        title_fontproperties={"size": 10, "weight": "bold"},
    )
    ax.get_legend().get_title().set_color(TEXT[theme])


if __name__ == "__main__":
    main()
