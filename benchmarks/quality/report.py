"""Write the tables and figures of the quality benchmark from its scores.

    python -m benchmarks.quality.report [--out DIR]

The command reads the stored scores in this folder. RESULTS.md holds tables and captions only.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.quality import compare, figures
from benchmarks.quality.compare import PROBES, by_table, paired, select, wide
from benchmarks.quality.plan import EARLIER, LENGTHS
from benchmarks.tools import markdown, number, significant

HERE = Path(__file__).parent
REGIMES = {"all": "all labels", "few": "few labels"}
LABEL_SCORES = {"linear": "Score", "log_loss": "Log-loss", "calibration": "Calibration error"}
FAMILY = (*compare.GRID, "InfoNCE", "VICReg", "BarlowTwins", "untrained")
FIRST = ("cMIM", "untrained", "raw", *compare.TREES)
INTRODUCTION = f"""\
Written by `python -m benchmarks.quality.report` from `results.parquet`; the scores come from
`python -m benchmarks.quality.run`. Scores are accuracy, or R2 of a numeric target. Seeds are
averaged first. A difference is the mean over tables ± one standard error over tables; wins and
losses count tables. Verdicts use its {compare.CONFIDENCE * 100:g} % confidence interval
(Student's t): *better* if it lies above 0, *worse* if below 0, *no worse* if above
-{compare.MARGIN:g}, else *open*. Intervals are not corrected for their number, so some verdicts are
wrong by chance. Encoders of this library have their default length in the section "Rivals". In the
others, fits have {EARLIER["updates"]:,} updates, the default when they were measured, unless stated
otherwise."""


class Page:
    """Folder of the figures, and the context of the run."""

    def __init__(self, folder, context):
        self.folder, self.context = folder / "figures", context
        self.places = list(dict.fromkeys([context["embedding"], "mean"]))
        self.folder.mkdir(parents=True, exist_ok=True)

    def draw(self, function, data, name, caption):
        """Save a figure of the data, if there are any, and return the line that shows it."""
        if data is not None and len(data):
            function(data, caption).savefig(self.folder / f"{name}.png", dpi=200)
            yield f"![{caption}](figures/{name}.png)"


def ordered(frame, first):
    """Columns in the given order, then the others."""
    names = [name for name in first if name in frame]
    return frame[[*names, *(name for name in frame if name not in names)]]


def rows_table(rows, digits=3):
    """Markdown table of dicts by label; a label may be a tuple of words."""
    rows = {" ".join(k) if isinstance(k, tuple) else k: row for k, row in rows.items()}
    return markdown(pd.DataFrame.from_dict(rows, orient="index"), digits)


def basis(c):
    """Number of tables and seeds that a comparison rests on."""
    least, most = c.seeds
    seeds = f"{most} seed{'s' * (most != 1)}" if least == most else f"{least} to {most} seeds"
    return f"{c.tables} table{'s' * (c.tables != 1)}, {seeds}"


def difference(c, digits=3):
    """Mean difference and, from two tables on, its standard error."""
    error = f" ± {number(c.error, digits)}" if c.tables > 1 else ""
    return number(c.mean, digits, "+") + error


def comparison_table(comparisons, ours, theirs, digits=3):
    """Table of `Paired` by label; digits are those of differences."""

    def cells(c):
        scores = {
            ours: number(c.ours),
            theirs: number(c.theirs),
            "difference": difference(c, digits),
        }
        scores |= {"wins-losses": f"{c.wins}-{c.losses}", "rests on": basis(c)}
        return scores | {"verdict": c.verdict}

    return rows_table({label: cells(c) for label, c in comparisons.items()})


def score_table(frame):
    """Mean scores over seeds by table, and the mean over the tables that all arms share."""
    means, tables = by_table(frame), by_table(compare.complete(frame))
    mean = tables.mean().reindex(means.columns).rename(f"mean of {len(tables)} shared")
    return markdown(pd.concat([means, mean.to_frame().T]).rename_axis("table"))


def rank_table(frames):
    """Mean ranks of the columns of each frame, with Friedman's p-value; a dash: left out."""
    lines, arms = {}, dict.fromkeys(arm for frame in frames.values() for arm in frame)
    for label, frame in frames.items():
        if found := compare.rank(frame):
            tests = {"Friedman p": f"{found.p_value:.2g}".replace("nan", "-")}
            tests |= {"critical difference": number(found.difference, 2)}
            lines[label] = {**found.ranks.reindex(arms), **tests, "tables": str(found.tables)}
    if lines:
        yield "Mean ranks:"
        yield rows_table(lines, 2)


def contrast_table(rows, by, order):
    """Size of the contrastive term by values of a column."""
    found = ordered(compare.contrast_sizes(rows, by).T, order).T
    if len(found):
        shares = 100 * found["share"]
        shown = {"nats per row": found["contrast"], "share of the loss (%)": shares}
        shown = pd.DataFrame(shown).map(significant)
        yield "### Size of the contrastive term"
        yield "Weighted, at the last epoch, and its share of the whole loss: medians over tables."
        yield markdown(shown.assign(**{"rests on": list(map(basis, found.itertuples()))}))


def rivals(page, rows):
    """cMIM against raw columns, trees and other features, with costs."""
    linear = compare.at_embedding(select(rows, probe="linear"), page.places[0])
    chosen, confirmed = page.context["chosen_on"], page.context["confirmed_on"]
    summaries, features = {}, {}
    yield (
        "A linear model on features; trees are trained on raw columns. Other libraries' features "
        "are scored as they are and standardised, and the better score on the test rows counts. "
        "Means are over the seeds that an arm has, differences over shared ones."
    )
    for regime, label in REGIMES.items():
        part = select(linear, regime=regime)
        if part.empty:
            continue
        frame = ordered(wide(part), FIRST)
        features[label] = frame[[arm for arm in frame if arm not in compare.TREES]]
        yield f"### With {label} (median {part['n_labels'].median():.0f})"
        yield score_table(frame)
        yield comparison_table(compare.against_others(frame), "cMIM", "other")
        ranking, caption = compare.rank(features[label]), f"Mean ranks of features, {label}"
        yield from page.draw(figures.ranks, ranking, f"rivals_ranks_{regime}", caption)
        ways, caption = compare.way(frame), f"Scores by table, {label}"
        yield "On the tables and seeds that cMIM, raw columns and trees share:"
        mean = ways.mean().to_frame("mean").T
        yield markdown(pd.concat([ways, mean]).rename_axis("table"))
        yield from page.draw(figures.table_scores, ways, f"rivals_tables_{regime}", caption)
        halves = {"all tables": frame.index.unique("table")}
        for half, names in (halves | {"chosen on": chosen, "confirmed on": confirmed}).items():
            some = frame[frame.index.isin(names, level="table")]
            if len(some):
                summaries[f"{label}, {half}"] = summary(some)
    yield from rank_table(features)
    low, high = compare.WAY_LIMITS
    yield "### Summary"
    yield (
        f"The way is (cMIM - raw) / (trees - raw), clipped to [{low:g}, {high:g}], over tables "
        f"where trees lead raw columns by {compare.LEAST_LEAD:g} or more. The default embedding "
        f"and its scale were chosen on: {', '.join(chosen)}."
    )
    yield rows_table(summaries)
    found = compare.costs(select(linear, regime="all"))
    whole = found[["n_features", "transform_rows_s", "bytes"]].map(lambda v: number(v, 0))
    words = {"score": "mean score", "n_features": "features", "fit_s": "fit (s)"}
    words |= {"transform_rows_s": "transform (rows/s)", "peak_mb": "peak (MB)"}
    yield "### Cost"
    yield (
        "Medians over tables and seeds, with all labels. Fit includes preparing the columns, and "
        "for UMAP some 9 s of compilation. SCARF is trained with an equivalent, faster loss."
    )
    yield markdown(found.assign(**whole).rename(columns={**words, "bytes": "on disk (bytes)"}))
    points = found[["fit_s", "score"]].dropna()
    yield from page.draw(figures.by_seconds, points, "rivals_cost", "Mean score by time to fit")


def summary(frame):
    """Comparison of cMIM with raw columns and trees in one line."""
    lead, gain = (paired(frame, "cMIM", other) for other in ("raw", "untrained"))
    ways = compare.way(frame)
    best = (ways["cMIM"] > ways["raw"]) & (ways["cMIM"] > ways["trees"])
    known = ways["way"].dropna()
    return {
        "above raw": f"{lead.wins} of {lead.tables}",
        "gain over raw": f"{difference(lead)}, {lead.verdict}",
        "gain over untrained": f"{difference(gain)}, {gain.verdict}",
        "above raw and trees": f"{best.sum()} of {len(ways)}",
        "way": f"{number(known.mean())} ({len(known)} tables)",
        "rests on": basis(lead),
    }


def targets(page, rows):
    """One encoder for several targets of a table."""
    rows = compare.at_embedding(select(rows, probe="linear"), page.places[0])
    names = rows["table"] + ": " + rows["regime"].str.removeprefix("target:")
    frame = ordered(wide(rows.assign(table=names)), FIRST)
    yield "Each target counts as a table."
    yield score_table(frame)
    yield comparison_table(compare.against_others(frame), "cMIM", "other")


def family(page, rows):
    """AE, VAE and MIM with and without contrast, and contrastive encoders."""
    full, few = select(rows, regime="all"), select(rows, regime="few", probe="linear")
    probes = {label: select(full, probe=probe) for probe, label in PROBES.items()}

    def pairs(ours, theirs, places):
        return {
            (f"{place},", label): paired(wide(select(part, embedding=place)), ours, theirs)
            for label, part in {**probes, "linear, few labels": few}.items()
            for place in places
        }

    found = pairs("cMIM", "MIM", page.places)
    yield "### cMIM against MIM"
    yield comparison_table(found, "cMIM", "MIM")
    yield from page.draw(figures.differences, found, "family_cmim_mim", "cMIM minus MIM")
    for other, text in {"mean": "the posterior mean", "control": "a random decoder"}.items():
        found = {
            (f"{arm},", label): paired(wide(select(p, arm=arm), "embedding"), "informative", other)
            for arm in ("AE", "VAE", "MIM", "cMIM")
            for label, p in probes.items()
        }
        yield f"### Informative embedding against {text}"
        yield comparison_table(found, "informative", other)
        caption = f"Informative embedding minus {other}"
        yield from page.draw(figures.differences, found, f"family_{other}", caption)
    yield "### Training against none"
    yield "The untrained network is that of cMIM before any update."
    found = {
        (f"{arm},", *key): c
        for arm in ("cMIM", "MIM")
        for key, c in pairs(arm, "untrained", ("layers", "informative", "mean")).items()
    }
    yield comparison_table(found, "trained", "untrained")
    rebuilt = ordered(wide(select(full, probe="reconstruction")), compare.GRID)
    yield "### Reconstruction"
    yield "Mean over columns of the accuracy or R2 of reconstructed test rows."
    yield score_table(rebuilt)
    yield comparison_table({"reconstruction": paired(rebuilt, "cMIM", "MIM")}, "cMIM", "MIM")
    yield "### With contrast, without, and contrast alone"
    frames = {
        f"{place}, {label}": ordered(wide(compare.at_embedding(part, place)), FAMILY)
        for place in page.places
        for label, part in probes.items()
    }
    for place in page.places:
        frame = frames[f"{place}, linear"]
        caption = f"Linear probe, all labels, {place} embedding"
        yield f"{caption}:"
        yield score_table(frame)
        found = {f"c{base} over {base}": paired(frame, f"c{base}", base) for base in ("AE", "VAE")}
        yield comparison_table(found | compare.against_others(frame), "left", "right")
        yield from page.draw(
            figures.ranks, compare.rank(frame), f"family_ranks_{place}", f"Mean ranks. {caption}"
        )
    yield from rank_table(frames)
    yield from contrast_table(full, "arm", FAMILY)


def labels(page, rows):
    """Features learned with labels and without, raw columns and trees."""
    ours, plain = "cMIM with labels", "cMIM"
    with_labels = (rows["arm"] == "cMIM") & (rows["setting"] != "0")
    rows = rows.assign(arm=rows["arm"].mask(with_labels, ours))
    yield (
        "Encoders with `label_weight` 30 or 0 and defaults otherwise, and all labels. Log-loss and "
        "calibration error are those of tables with classes; less is better, and gains are "
        "decreases. The few labels of the other sections are fewer than 300: encoders do not use "
        "them, and features are those without labels. Means are over the seeds that an arm has, "
        "gains over shared ones."
    )
    rows, summaries = select(rows, regime="all"), {}
    for probe, name in LABEL_SCORES.items():
        frame = ordered(wide(select(rows, probe=probe)), (ours, *FIRST))
        if frame.empty:
            continue
        yield f"### {name}"
        yield score_table(frame)
        sign = 1 if probe == "linear" else -1
        compared = compare.against_others(sign * frame, ours)
        summaries |= {(f"{name},", key): c for key, c in compared.items()}
    yield "### Gains"
    yield gain_table(summaries)
    frame = wide(select(rows, probe="linear"))
    for arm in (ours, plain):
        ways = compare.way(frame, arm)
        best = (ways[arm] > ways["raw"]) & (ways[arm] > ways["trees"])
        known = ways["way"].dropna()
        yield (
            f"{arm}: above raw columns and trees on {best.sum()} of {len(ways)} tables; way to "
            f"trees {number(known.mean())} ({len(known)} tables)."
        )


def gain_table(comparisons):
    """Table of `Paired` by label, without the scores."""
    return rows_table(
        {
            label: {
                "gain": difference(c),
                "wins-losses": f"{c.wins}-{c.losses}",
                "rests on": basis(c),
                "verdict": c.verdict,
            }
            for label, c in comparisons.items()
        }
    )


def batch(page, rows):
    """Scores by batch size."""
    yield (
        "Every fit has the same number of updates, so a larger batch sees more rows. MIM, which "
        "compares no rows with each other, is the control. Slopes are for each doubling; the "
        "comparison multiplies them by the number of doublings."
    )
    rows, lines, compared = rows.astype({"setting": int}), {}, {}
    doublings = np.log2(rows["setting"].max() / rows["setting"].min())
    for place in page.places:
        for probe, label in PROBES.items():
            part = compare.at_embedding(select(rows, probe=probe), place)
            scores = compare.complete(wide(part, ["arm", "setting"]))
            if scores.empty:
                continue
            tables, seeds = by_table(scores), compare.seeds_of(scores)
            slopes = {arm: compare.slopes(tables[arm]) for arm in tables.columns.unique("arm")}
            for arm, slope in slopes.items():
                own, means = compare.over_tables(slope, 0 * slope, seeds), tables[arm].mean()
                more = {"range": np.ptp(means), "slope": difference(own, 4), "rests on": basis(own)}
                lines[f"{place}, {label}: {arm}"] = {**means.rename(str), **more}
                if probe == "linear" and arm != "cMIM" and "cMIM" in slopes:
                    both = doublings * slope, doublings * slopes["cMIM"]
                    compared[f"{place}: {arm} over cMIM"] = compare.over_tables(*both, seeds)
            if probe == "linear":
                means, caption = tables.mean().unstack("arm"), f"Linear probe, {place} embedding"
                yield from page.draw(figures.batch_lines, means, f"batch_{place}", caption)
    yield rows_table(lines)
    yield comparison_table(compared, "other", "cMIM")


def time(page, rows):
    """A fit and one ten times as long."""
    short = f"{EARLIER['updates']:,}"
    rows, both = compare.at_embedding(rows, page.places[0]), [short, "ten times"]
    check, seconds, threads = (
        by_table(wide(rows, "setting", values).reindex(columns=both).dropna())
        for values in ("score", "fit_s", "threads")
    )
    check["share"] = check[short] / check["ten times"].where(check["ten times"] > 0)
    check[f"{short}: fit (s)"], check["threads"] = seconds[short], threads[short].astype(str)
    yield f"A fit of {short} updates and one ten times as long, with all rows:"
    yield markdown(check)


def length(page, rows):
    """Scores by the number of updates of a default fit."""
    rows = compare.at_embedding(select(rows, probe="linear"), page.places[0])
    names = [name for n in LENGTHS if (name := f"{n:,}") in set(rows["setting"])]
    last = names.pop()
    yield (
        'Fits with other numbers of updates in `max_iter="auto"`, whose limits for small and for '
        f"wide tables stay the same: scores at {last}, and differences from them on equal splits."
    )
    for regime, label in REGIMES.items():
        frame = wide(select(rows, regime=regime), "setting")
        yield f"With {label}:"
        yield markdown(by_table(frame[names].sub(frame[last], axis=0).join(frame[last])))
        found = {name: paired(frame, name, last) for name in names}
        yield comparison_table(found, "updates", last, digits=4)


def ablation(page, rows, experiment):
    """One parameter in several settings."""
    settings = list(rows["setting"].unique())
    if all(s.replace(".", "").isdigit() for s in settings):
        settings.sort(key=float)
    default = page.context["defaults"][experiment]
    default = default if default in settings else settings[0]
    lines, drawn = {}, {}
    for (place, probe, regime), part in rows.groupby(["embedding", "probe", "regime"], sort=False):
        against = {s: paired(wide(part, "setting"), s, default) for s in settings}
        cells = {s: f"{difference(c)} ({c.wins}-{c.losses})" for s, c in against.items()}
        cells |= {default: number(against[default].ours), "rests on": basis(against[default])}
        lines[f"{place}, {PROBES.get(probe, probe)}, {REGIMES.get(regime, regime)}"] = cells
        if (probe, regime) == ("linear", "all"):
            drawn |= {(f"{place},", s): c for s, c in against.items() if s != default}
    seconds = by_table(wide(rows, "setting", "fit_s")).dropna()
    cells = seconds.median().reindex(settings).to_dict()
    lines["median fit (s)"] = cells | {"rests on": f"{len(seconds)} tables"}
    yield (
        f"Mean score at {default}; other settings: difference, and wins-losses over tables. Times "
        "are rough, because the machine had other work."
    )
    yield rows_table(lines)
    caption = f"Linear probe, all labels: score minus that at {default}"
    yield from page.draw(figures.differences, drawn, f"ablation_{experiment}", caption)
    if experiment == "contrastive_weight":
        yield from contrast_table(rows, "setting", settings)


SECTIONS = {
    "rivals": ("Rivals", rivals),
    "targets": ("Several targets", targets),
    "labels": ("Labels in training", labels),
    "family": ("Family: AE, VAE, MIM, each with and without contrast", family),
    "batch": ("Batch size", batch),
    "length": ("Length of a default fit", length),
    "time": ("A fit ten times as long", time),
}


def about(results, context):
    """Data, machine and versions of the scores."""
    versions = " ".join(f"{name} {value}," for name, value in context["versions"].items())
    threads = " or ".join(f"{n:.0f}" for n in sorted(results["threads"].dropna().unique()))
    return (
        f"{results['table'].nunique()} tables, {results['seed'].nunique()} seeds, {len(results)} "
        f"scores; {versions} {context['cpu']}, {threads} threads for each fit, {context['jobs']} "
        f"fits at a time. Failed fits: {'; '.join(context['failed']) or 'none'}."
    )


def write_report(results, folder, context):
    """Write RESULTS.md and figures/NAME.png for the scores of `benchmarks.quality.run`."""
    results, page = results.dropna(subset="score"), Page(folder, context)
    parts = ["# Quality results", INTRODUCTION, about(results, context)]
    there = results["experiment"].unique()
    for name in [n for n in SECTIONS if n in there] + [n for n in there if n not in SECTIONS]:
        title, blocks = SECTIONS.get(name, (f"Ablation: {name}", ablation))
        rows, extra = select(results, experiment=name), () if name in SECTIONS else (name,)
        parts += [f"## {title}", *blocks(page, rows, *extra)]
    (folder / "RESULTS.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder for RESULTS.md, figures/")
    args = parser.parse_args()
    context = json.loads((HERE / "context.json").read_text())
    write_report(pd.read_parquet(HERE / "results.parquet"), args.out, context)


if __name__ == "__main__":
    main()
