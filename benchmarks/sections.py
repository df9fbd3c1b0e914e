"""The sections of `benchmarks.report` on rivals, costs and parameters, and what all sections share.

A section takes a `Writer` and the tidy rows of its experiment, of which any may be missing.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks import figures
from benchmarks.comparisons import (
    BETTER,
    ENOUGH,
    FAILS,
    HOLDS,
    LEAST_LEAD,
    NOT_RUN,
    SECONDS,
    TOO_FEW,
    TREES,
    UNTRAINED,
    WAY_LIMITS,
    WORSE,
    against_others,
    at_embedding,
    by_table,
    complete,
    costs,
    default_reached,
    in_order,
    paired,
    rank,
    seeds_of,
    select,
    time_curves,
    verdict,
    way,
    wide,
)
from benchmarks.wording import (
    basis,
    claim,
    comparison_table,
    contrast,
    count,
    difference,
    elsewhere,
    in_numbers,
    listed,
    number,
    ordered,
    score_table,
    spoken,
    table,
)

PROBES = {
    "linear": "linear",
    "knn_cosine": "kNN (cosine)",
    "knn_euclidean": "kNN (Euclidean)",
    "mlp": "MLP",
}
REGIMES = {"all": "all labels", "few": "few labels"}
FEATURES_FIRST = ("cMIM", UNTRAINED, "raw", *TREES)
ALL_TABLES = "all tables"
HALVES = {"chosen_on": "chosen on", "confirmed_on": "confirmed on"}

WAY = (
    "The way is (cMIM - raw) / (trees - raw), trees being the better of the two for each seed, "
    f"from means over seeds, clipped to [{WAY_LIMITS[0]:g}, {WAY_LIMITS[1]:g}], and averaged over "
    f"tables where trees lead raw columns by {LEAST_LEAD:g} or more."
)

NOTES = {
    "UMAP": "its time to fit includes some 9 s of compilation, in every process",
    "SCARF": "its loss is replaced by an equivalent, faster one: as shipped, SCARF is slower",
    "SubTab": "as it is in ts3l 0.70, it never shows some of the columns to its encoder",
}
"""What to know of an arm before its scores and costs are compared."""


class Section(NamedTuple):
    """A part of RESULTS.md: bullets for the top, paragraphs for below."""

    title: str
    findings: list
    blocks: list


class Writer:
    """Where figures go, and what every section knows.

    Parameters
    ----------
    folder : Path
        Figures are saved in its folder "figures".
    context : dict
        See `write_report`.
    """

    def __init__(self, folder, context):
        self.folder = folder
        self.context = context
        self.embedding = context.get("embedding", "layers")

    def draw(self, figure, name, caption):
        """Save a figure and return the line that shows it."""
        (self.folder / "figures").mkdir(parents=True, exist_ok=True)
        file = f"figures/{name.replace(' ', '_')}.png"
        figure.savefig(self.folder / file, dpi=200)
        return f"![{caption}]({file})"


def ranking(writer, frame, name, caption):
    """Text and figure of mean ranks, and a sentence for the findings."""
    found = rank(frame)
    if found is None:
        return [f"Mean ranks: {NOT_RUN} on two tables with three arms."], ""
    ranks = found.ranks
    p_value = "undefined" if np.isnan(found.p_value) else f"{found.p_value:.2g}"
    gap = number(found.difference, 2)
    text = f"Mean ranks over {basis(found.tables, found.seeds)}."
    if found.told_apart:
        text += f" Friedman p = {p_value}, Nemenyi critical difference {gap}."
    if found.left_out:
        text += f" Left out, having fewer than half of the scores: {listed(found.left_out)}."
    words = []
    if "cMIM" in ranks:
        place = int((ranks < ranks["cMIM"]).sum()) + 1
        words.append(
            f"cMIM's mean rank is {number(ranks['cMIM'], 2)}, place {place} of {len(ranks)} "
            f"(best: {ranks.index[0]}, {number(ranks.iloc[0], 2)})."
        )
    if not found.told_apart:
        words.append(f"Ranks are not told apart at all (Friedman p = {p_value}).")
    elif "cMIM" in ranks:
        near = (ranks - ranks["cMIM"]).abs() <= found.difference
        same = [arm for arm in ranks.index[near] if arm != "cMIM"]
        words.append(f"Not told apart from it: {listed(same) or 'none'}.")
    if found.weak:
        words.append(
            f"A critical difference of {gap} ranks, {len(ranks) - 1} being the largest possible, "
            f"leaves little power: {len(ranks)} arms on {count(found.tables, 'table')}."
        )
    sentence = " ".join(words)
    drawn = writer.draw(figures.critical_difference(found), name, caption)
    return [f"{text} {sentence}".strip(), drawn], sentence


def ablation(writer, rows, experiment):
    """Any experiment of one arm in several settings."""
    settings, title = in_order(rows["setting"].unique()), f"Ablation: {experiment}"
    if len(settings) < 2:
        return Section(title, [f"**{experiment}**: {NOT_RUN} beyond {settings[0]}."], [])
    default = str(writer.context.get("defaults", {}).get(experiment))
    role = "default"
    if default not in settings:
        default, role = settings[0], "reference"
    many = rows["arm"].nunique() > 1
    cells, drawn = {}, {}
    for (arm, place, probe, regime), part in rows.groupby(
        ["arm", "embedding", "probe", "regime"], sort=False
    ):
        frame = wide(part, "setting")
        against = {setting: paired(frame, setting, default) for setting in settings}
        group = ", ".join(name for name in (arm if many else "", place) if name)
        words = [group, PROBES.get(probe, probe), REGIMES.get(regime, regime)]
        label = ", ".join(word for word in words if word)
        full = against[default]
        cells[label] = {
            "rests on": basis(full.tables, full.seeds),
            **{s: ablation_cell(c, full, s == default) for s, c in against.items()},
        }
        if (probe, regime) == ("linear", "all"):
            drawn[group] = against
    blocks = [
        (
            f"The {role} is {default}: its mean score; for other settings the difference to it on "
            "the tables and seeds that both have, and wins-losses over tables."
        ),
        table(
            pd.DataFrame.from_dict(cells, orient="index").rename(
                columns={default: f"{default} ({role})"}
            )
        ),
    ]
    finding = f"**{experiment}**, {role} {default}: {NOT_RUN} under the linear probe."
    if drawn:
        caption = f"Score minus the {role}'s by {experiment}, linear probe, all labels"
        figure = figures.ablation(dict(sorted(drawn.items())), default, role)
        blocks.append(writer.draw(figure, f"ablation_{experiment}", caption))
        main = at_embedding(select(rows, probe="linear", regime="all"), writer.embedding)
        main = select(main, arm="cMIM") if "cMIM" in set(main["arm"]) else main
        finding = f"**{experiment}**, {role} {default}: {choice(wide(main, 'setting'), default)}"
    findings = [finding]
    if experiment == "contrastive_weight":
        more, sizes = contrast(rows, "setting", settings, "at weight {}")
        blocks += ["### The size of the contrastive term", *more]
        findings += sizes
    return Section(title, findings, blocks)


def ablation_cell(comparison, full, is_default):
    if not comparison.tables:
        return NOT_RUN
    if is_default:
        return number(comparison.ours)
    cell = f"{difference(comparison)} ({comparison.wins}-{comparison.losses})"
    fewer = (comparison.tables, comparison.seeds) != (full.tables, full.seeds)
    return f"{cell}, {basis(comparison.tables, comparison.seeds)}" if fewer else cell


def choice(frame, default):
    """In words, which settings are clearly above or below the default."""
    others = {s: paired(frame, s, default) for s in in_order(list(frame)) if s != default}
    if all(c.tables < 2 for c in others.values()):
        return f"other settings {TOO_FEW if any(c.tables for c in others.values()) else NOT_RUN}."
    others = {s: c for s, c in others.items() if c.tables > 1}
    above = [s for s, c in others.items() if verdict(c) == BETTER]
    below = [s for s, c in others.items() if verdict(c) == WORSE]
    best = max(others, key=lambda s: others[s].mean)
    words = [
        f"{listed(f'{s} {in_numbers(others[s])}' for s in some)} clearly {side} it"
        for some, side in ((above, "above"), (below, "below"))
        if some
    ]
    if not above:
        words.insert(0, f"no other is clearly above it (best: {best} {in_numbers(others[best])})")
    return "; ".join(words) + "."


def rivals(writer, rows):
    """cMIM beside raw columns, trees and other features, with costs."""
    asked = select(rows, probe="linear")
    linear = at_embedding(asked, writer.embedding)
    findings, blocks, summaries = [], [], {}
    if len(linear):
        blocks.append(
            "Rivals' features are scored twice, as they come and standardised, and the better of "
            "the two on the test rows counts: this is in the rivals' favour. "
            f"{elsewhere(asked, writer.embedding)}".strip()
        )
    for regime, label in REGIMES.items():
        part = select(linear, regime=regime)
        if part.empty:
            findings.append(f"**cMIM beside raw columns and rivals, {label}: {NOT_RUN}.**")
            findings.append(training(part, label))
            continue
        frame = ordered(wide(part), FEATURES_FIRST)
        for half, names in halves(writer.context, frame).items():
            summaries[label, half] = summary(frame[frame.index.isin(names, level="table")])
        finding, more = rivals_by_regime(writer, frame, regime)
        whole = summaries[label, ALL_TABLES]
        findings.append(
            f"{finding} Above raw on {whole['above raw']} tables, above both raw and trees on "
            f"{whole['above raw and trees']}; way to trees {whole['way']}."
        )
        findings.append(training(part, label))
        blocks += [f"### With {label} (median {part['n_labels'].median():.0f})", *more]
    if summaries:
        frame = pd.DataFrame.from_dict(spoken(summaries), orient="index")
        blocks += ["### In short", halves_in_words(writer.context), WAY, table(frame)]
    everywhere = select(linear, regime="all")
    if len(everywhere):
        blocks += cost(writer, everywhere)
    return Section("Rivals", findings, blocks)


def training(rows, label):
    """The finding of what training adds to the features of an untrained network."""
    text = f"Training adds to the features of an {UNTRAINED} network ({label})"
    return claim(text, {UNTRAINED: paired(wide(rows), "cMIM", UNTRAINED)}, good=(BETTER,))


def rivals_by_regime(writer, frame, regime):
    """A sentence for the findings, and scores, ranks and differences at one number of labels."""
    label = REGIMES[regime]
    features = frame.drop(columns=[name for name in TREES if name in frame])
    caption = f"Mean ranks of features, {label}"
    ranked, sentence = ranking(writer, features, f"rivals_ranks_{regime}", caption)
    ways = way(frame)
    others = against_others(frame, [UNTRAINED])
    text = f"cMIM's features are at least as good as raw columns ({label})"
    finding = f"{claim(text, {'raw': paired(frame, 'cMIM', 'raw')})} {sentence}".strip()
    blocks = [
        (
            "A linear model on features; trees are models of their own, on raw columns. Means are "
            "over the seeds that an arm has; ranks and differences are on those that are shared."
        ),
        score_table(frame),
        "Ranks are those of features, without the trees.",
        *ranked,
        comparison_table(others, "cMIM", "other"),
    ]
    if len(ways):
        figure = figures.table_scores(ways[["cMIM", "raw", "trees"]])
        blocks += [
            "On the tables and seeds that cMIM, raw columns and trees share:",
            table(ways),
            writer.draw(figure, f"rivals_tables_{regime}", f"cMIM, raw columns, trees, {label}"),
        ]
    return finding, blocks


def halves(context, frame):
    """Names of all tables, and of those that the defaults were chosen and confirmed on."""
    return {
        ALL_TABLES: list(frame.index.unique("table")),
        **{words: context[key] for key, words in HALVES.items() if key in context},
    }


def halves_in_words(context):
    """Which tables the defaults were chosen on, and which confirm them."""
    known = [f"{words}: {listed(context[key])}" for key, words in HALVES.items() if key in context]
    chosen = f"Defaults were {'; '.join(known)}."
    words = [chosen if known else "Which tables chose them is not told."]
    return " ".join([*words, context.get("chosen_note", "")]).strip()


def summary(frame):
    """cMIM against raw columns and trees in one line, for some of the tables."""
    lead = paired(frame, "cMIM", "raw")
    trained = paired(frame, "cMIM", UNTRAINED)
    ways = way(frame)
    best = (ways["cMIM"] > ways["raw"]) & (ways["cMIM"] > ways["trees"])
    defined = ways["way"].dropna()
    return {
        "above raw": f"{lead.wins} of {lead.tables}",
        "gain over raw": f"{difference(lead)}, {verdict(lead)}",
        f"gain over {UNTRAINED}": f"{difference(trained)}, {verdict(trained)}",
        "above raw and trees": f"{best.sum()} of {len(ways)}",
        "way": f"{number(defined.mean())} ({count(len(defined), 'table')})",
        "rests on": basis(lead.tables, lead.seeds),
    }


def cost(writer, rows):
    """Medians of what each arm costs, beside its mean score."""
    found = costs(rows)
    found = found.sort_values("score", ascending=False)
    columns = {
        "score": "mean score",
        "n_features": "features",
        "fit_s": "fit (s)",
        "transform_rows_s": "transform (rows/s)",
        "peak_mb": "peak (MB)",
        "bytes": "on disk (bytes)",
        "fits": "fits",
    }
    whole = found[["n_features", "transform_rows_s", "bytes"]].map(lambda v: number(v, 0))
    shared = complete(wide(rows))
    blocks = [
        "### Cost",
        (
            "Medians over tables and seeds, with all labels; the mean score is over "
            f"{basis(len(by_table(shared)), seeds_of(shared))} that all arms share."
        ),
        table(found.assign(**whole)[list(columns)].rename(columns=columns)),
        seconds(writer.context, rows, found.index),
    ]
    drawable = found.dropna(subset=["score", "fit_s"])
    if len(drawable):
        caption = "Mean score against time to fit"
        blocks.append(writer.draw(figures.cost(drawable), "rivals_cost", caption))
    return blocks


def of_threads(rows):
    """With how many threads fits were made, as far as that is known."""
    found = sorted(rows["threads"].dropna().astype(int).unique())
    if not found:
        return "threads unknown"
    return f"{' or '.join(map(str, found))} thread{'' if found == [1] else 's'}"


def seconds(context, rows, arms):
    """What seconds mean, and what is to be known of some of the arms."""
    words = [f"{of_threads(rows)} for each fit"]
    if "jobs" in context:
        words.append(f"{count(context['jobs'], 'fit')} at a time")
    words.append("to fit includes preparing the columns where an arm prepares its own")
    notes = [f"{arm}: {note}." for arm, note in NOTES.items() if arm in arms]
    return " ".join([f"Seconds: {', '.join(words)}.", *notes])


def targets(writer, rows):
    """One encoder for several targets of a table."""
    text = "One cMIM encoder serves several targets at least as well as raw columns"
    rows = rows[rows["regime"].str.startswith("target:")]
    asked = select(rows, probe="linear")
    rows = at_embedding(asked, writer.embedding)
    # Each target is a case of its own.
    names = rows["table"] + ": " + rows["regime"].str.removeprefix("target:")
    frame = ordered(wide(rows.assign(table=names)), FEATURES_FIRST)
    title = "Several targets"
    finding = claim(f"{text} (a target counts as a table)", {"raw": paired(frame, "cMIM", "raw")})
    if frame.empty:
        return Section(title, [finding], [])
    others = against_others(frame, [UNTRAINED])
    blocks = [
        "Each target is a case of its own: tables that are counted here are targets. "
        f"{elsewhere(asked, writer.embedding)}".strip(),
        score_table(frame),
        comparison_table(others, "cMIM", "other"),
    ]
    return Section(title, [finding], blocks)


def time(writer, rows):
    """Time to quality, and whether the default is long enough and in time."""
    rows = at_embedding(select(rows, arm="cMIM", probe="linear", regime="all"), writer.embedding)
    check, curves = default_reached(rows), time_curves(rows)
    findings, blocks = length_findings(check), []
    if len(check):
        shown = {
            name: check[name].map({True: "yes", False: "no"}) for name in ("reached", "in_time")
        }
        words = {"fit_s": "default fit (s)", "in_time": f"within {SECONDS} s"}
        blocks.append(table(check.assign(**shown).rename(columns=words)))
    if len(curves):
        means = curves.groupby(["variant", "updates"]).agg(
            {"fit_s": "median", "relative": "mean", "table": "count", "seeds": "min"}
        )
        means.index = [f"{variant or 'plain'}, {n} updates" for variant, n in means.index]
        words = {"fit_s": "median fit (s)", "relative": "mean share", "table": "tables"}
        words |= {"seeds": "least seeds"}
        blocks += [
            "Scores relative to those of the longest plain fit, on tables where that is above 0.",
            table(means.rename(columns=words)),
            writer.draw(figures.time_to_quality(curves), "time", "Relative score by time to fit"),
        ]
    return Section("Time to quality", findings, blocks)


def length_findings(check):
    """Whether the default is long enough, and whether it is in time; see `default_reached`."""
    enough = f"The default reaches {ENOUGH * 100:g} % of the score of a fit ten times as long"
    in_time = f"A default fit takes {SECONDS} s at most"
    if check.empty:
        return [f"**{enough}: {NOT_RUN}.**", f"**{in_time}: {NOT_RUN}.**"]
    threads = of_threads(check)
    shares, seconds = check["share"].map(number), check["fit_s"].map(lambda s: f"{s:.1f} s")
    return [
        verdict_on_tables(enough, check["reached"], shares)
        + f" The mean share is {number(check['share'].mean())}; "
        f"at least {count(check['seeds'].min(), 'seed')}.",
        verdict_on_tables(f"{in_time}, with {threads}", check["in_time"], seconds)
        + f" The median is {number(check['fit_s'].median(), 1)} s.",
    ]


def verdict_on_tables(text, holds, values):
    """A finding that holds if it does on each table, and the values where it does not."""
    missed = [f"{name} ({values[name]})" for name in holds.index[~holds]]
    on = f" It does on {holds.sum()} of {count(len(holds), 'table')}"
    but = f", not on {listed(missed)}." if missed else "."
    return f"**{text}: {FAILS if missed else HOLDS}.**{on}{but}"
