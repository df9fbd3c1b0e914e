"""The sections of `benchmarks.report` that test what the papers claim of cMIM's family.

A section takes a `Writer` and the tidy rows of its experiment, of which any may be missing.
"""

import numpy as np
import pandas as pd

from benchmarks import figures
from benchmarks.comparisons import (
    BETTER,
    CONFIDENCE,
    GRID,
    NOT_RUN,
    UNTRAINED,
    against_others,
    at_embedding,
    batch_dependence,
    over_tables,
    paired,
    rank,
    select,
    wide,
)
from benchmarks.sections import PROBES, Section, ranking
from benchmarks.wording import (
    basis,
    claim,
    comparison_table,
    contrast,
    count,
    elsewhere,
    listed,
    number,
    ordered,
    score_table,
    spoken,
    table,
)

CONTRASTIVE = ("InfoNCE", "VICReg", "BarlowTwins")
ARMS = (*GRID, *CONTRASTIVE, UNTRAINED)
TRAINED = ("cMIM", "MIM")
OTHERS = ("InfoNCE", "MIM")
PLACES = ("layers", "informative", "mean")


def family(writer, rows):
    """Claims (a), (b), (c) and (e): the grid of auto-encoders, with and without contrast."""
    everywhere = select(rows, regime="all")
    few = select(rows, regime="few", probe="linear")

    def arms(embedding, probe):
        return wide(select(everywhere, embedding=embedding, probe=probe))

    places = list(dict.fromkeys(["mean", writer.embedding]))
    against_mim = {
        (place, label): paired(arms(place, probe), "cMIM", "MIM")
        for place in places
        for probe, label in PROBES.items()
    }
    few_against_mim = {
        (place, "linear, few labels"): paired(wide(select(few, embedding=place)), "cMIM", "MIM")
        for place in places
    }
    informative, control = {}, {}
    for arm in ("AE", "VAE", "MIM", "cMIM"):
        for probe, label in PROBES.items():
            embeddings = wide(select(everywhere, arm=arm, probe=probe), "embedding")
            informative[arm, label] = paired(embeddings, "informative", "mean")
            control[arm, label] = paired(embeddings, "informative", "control")
    rebuilt = wide(select(everywhere, probe="reconstruction"))
    reconstruction = {"reconstruction": paired(rebuilt, "cMIM", "MIM")}

    claims = [
        ("(a) cMIM is at least as good as MIM under every probe", against_mim),
        (
            "(b) Informative embeddings are at least as good as the mean for AE, VAE, MIM and cMIM",
            informative,
        ),
        (
            "(b, control) Informative embeddings are at least as good as an untrained decoder's",
            control,
        ),
        ("(c) cMIM reconstructs no worse than MIM", reconstruction),
    ]
    claims = [(text, spoken(comparisons)) for text, comparisons in claims]
    findings = [claim(*pair) for pair in claims]
    blocks = ["### cMIM against MIM"]
    blocks.append(comparison_table(spoken({**against_mim, **few_against_mim}), "cMIM", "MIM"))
    blocks += forest(writer, against_mim, "family_cmim_mim", "cMIM minus MIM")
    blocks.append("### Informative embeddings against the mean")
    blocks.append(comparison_table(spoken(informative), "informative", "mean"))
    blocks += forest(writer, informative, "family_informative", "informative minus mean")
    blocks.append(
        "The control is the informative embedding of a decoder whose weights were never trained."
    )
    blocks.append(comparison_table(spoken(control), "informative", "control"))
    more, finding = training(everywhere, few)
    blocks += more
    findings += finding
    blocks.append("### Reconstruction")
    blocks.append("Mean over columns of the accuracy or R2 of reconstructed test rows.")
    if len(rebuilt):
        blocks.append(score_table(ordered(rebuilt, GRID)))
    blocks.append(comparison_table(reconstruction, "cMIM", "MIM"))

    blocks.append("### With contrast, without, and contrast alone")
    for place in dict.fromkeys([writer.embedding, "mean"]):
        more, finding = grid(writer, everywhere, place)
        blocks += more
        findings += finding
    blocks += [
        "Mean ranks under every probe, over the tables that the arms share; a dash: left out.",
        rank_table(everywhere, dict.fromkeys([writer.embedding, "mean"])),
    ]
    more, finding = contrast(everywhere, "arm", ARMS, "for {}")
    blocks += ["### The size of the contrastive term", *more]
    findings += finding
    return Section("The family: AE, VAE, MIM, each with and without contrast", findings, blocks)


def training(everywhere, few):
    """What training adds to the features of cMIM's network: blocks and findings."""
    probes = {label: select(everywhere, probe=probe) for probe, label in PROBES.items()}
    found = {
        (arm, place, label): paired(wide(select(part, embedding=place)), arm, UNTRAINED)
        for arm in TRAINED
        for label, part in [*probes.items(), ("linear, few labels", few)]
        for place in PLACES
    }
    findings = []
    for arm in TRAINED:
        text = f"Training {arm} adds to the features of an {UNTRAINED} network"
        planned = {key[1:]: c for key, c in found.items() if key[0] == arm and key[2] in probes}
        findings.append(claim(text, spoken(planned), good=(BETTER,)))
    blocks = [
        "### Training against none",
        f"The {UNTRAINED} network is cMIM's own before any update.",
        comparison_table(spoken(found), "trained", UNTRAINED)
        if any(c.tables for c in found.values())
        else f"{NOT_RUN.capitalize()}.",
    ]
    return blocks, findings


def forest(writer, comparisons, name, xlabel):
    """The figure of differences, or nothing where none is known."""
    known = {key: c for key, c in comparisons.items() if c.tables > 1}
    if not known:
        return []
    figure = figures.differences(known, f"{xlabel} (score, mean over tables)")
    width = f"{CONFIDENCE * 100:g} % confidence intervals over tables; dotted: the margin"
    return [writer.draw(figure, name, f"{xlabel}, with {width}")]


def grid(writer, everywhere, place):
    """Claim (e) at one embedding under the linear probe: blocks and findings."""
    linear = select(everywhere, probe="linear")
    frame = wide(at_embedding(linear, place))
    title = f"linear probe, all labels, {place} embedding"
    if frame.empty:
        return [f"At the {place} embedding: {NOT_RUN}."], []
    frame = ordered(frame, ARMS)
    text, sentence = ranking(writer, frame, f"family_ranks_{place}", f"Mean ranks, {title}")
    contrast = {f"c{base} over {base}": paired(frame, f"c{base}", base) for base in GRID[::2]}
    others = against_others(frame, ARMS)
    blocks = [
        f"Scores, {title}. {elsewhere(linear, place)}".strip(),
        score_table(frame),
        *text,
        comparison_table({**contrast, **others}, "left", "right"),
    ]
    findings = [
        claim(f"(e) The contrastive term does no harm to AE, VAE and MIM ({title})", contrast),
        f"{claim(f'(e) cMIM is at least as good as every other arm ({title})', others)} "
        f"{sentence}".strip(),
    ]
    return blocks, findings


def rank_table(everywhere, places):
    """Mean ranks by embedding and probe."""
    found = {}
    for place in places:
        for probe, label in PROBES.items():
            ranks = rank(wide(at_embedding(select(everywhere, probe=probe), place)))
            if ranks is not None:
                found[f"{place}, {label}"] = {
                    **dict.fromkeys(ranks.left_out, np.nan),
                    **ranks.ranks,
                    "Friedman p": f"{ranks.p_value:.2g}".replace("nan", "-"),
                    "tables": str(ranks.tables),
                }
    if not found:
        return f"{NOT_RUN.capitalize()}."
    frame = pd.DataFrame.from_dict(found, orient="index")
    return table(ordered(frame, ARMS).rename_axis("ranks"), 2)


def batch(writer, rows):
    """Claim (d): how little cMIM depends on the batch size."""
    text = "(d) cMIM needs large batches no more than InfoNCE does, nor than MIM, the control"
    findings, blocks, lines = [], [], {}
    for place in dict.fromkeys(["mean", writer.embedding]):
        for probe, label in PROBES.items():
            part = select(rows, probe=probe, regime="all")
            found = batch_dependence(at_embedding(part, place))
            if found is None:
                continue
            lines |= {f"{place}, {label}: {arm}": batch_line(found, arm) for arm in found.means}
            if probe == "linear":
                finding, more = batch_claim(writer, found, text, f"{place}, {label}")
                left_out = sorted(set(part["arm"]) - set(found.means))
                findings.append(finding)
                blocks += [f"### {place.capitalize()} embedding", *more]
                if left_out:
                    blocks.append(f"Left out, having too few of the scores: {listed(left_out)}.")
                blocks += filter(None, [elsewhere(part, place)])
    if not lines:
        return Section("Batch size", [claim(text, {})], [])
    sizes = sorted({key for line in lines.values() for key in line if key.isdigit()}, key=int)
    blocks = [
        (
            "Held fixed was the number of updates, at every batch size and for every arm, so a "
            "larger batch sees more rows. That helps any arm: MIM, which compares no rows with "
            "each other, is the control for it. The claim is decided by the slope of the score "
            "for each doubling of the batch, all labels: the other arm's less cMIM's, times the "
            "number of doublings, which makes it a difference of scores, as the margin is."
        ),
        *blocks,
        "### Every probe",
        "Mean scores at each batch size, the range of these means, and slopes for each doubling.",
        table(ordered(pd.DataFrame.from_dict(lines, orient="index"), sizes)),
    ]
    return Section("Batch size", findings or [claim(text, {})], blocks)


def batch_line(found, arm):
    """Scores by batch size of one arm, and what they show."""
    return {
        **{str(size): score for size, score in found.means[arm].items()},
        "range": np.ptp(found.means[arm]),
        "slope": slope(found, arm),
        "rests on": basis(len(found.slopes), found.seeds),
    }


def slope(found, arm):
    """The slope of the score for each doubling, and its standard error."""
    slopes = found.slopes[arm].to_numpy()
    over = over_tables(slopes, 0 * slopes, found.seeds)
    return f"{number(over.mean, 4, '+')}" + (
        f" ± {number(over.error, 4)}" if over.tables > 1 else ""
    )


def batch_claim(writer, found, text, view):
    """Claim (d) at one embedding: a finding and blocks."""
    sizes = found.means.index
    doublings = float(np.log2(sizes[-1] / sizes[0]))
    times = f"times {count(round(doublings), 'doubling')}"

    def compare(values, factor=1.0):
        """Each other arm less cMIM, over tables."""
        values = factor * values.reindex(columns=["cMIM", *OTHERS])
        return {
            arm: over_tables(both[arm].to_numpy(), both["cMIM"].to_numpy(), found.seeds)
            for arm in OTHERS
            for both in [values[["cMIM", arm]].dropna()]
        }

    slopes = {
        f"{arm}'s slope less cMIM's, {times}": c
        for arm, c in compare(found.slopes, doublings).items()
    }
    ranges = {f"{arm}'s range less cMIM's": c for arm, c in compare(found.ranges).items()}
    each = listed(f"{arm} {slope(found, arm)}" for arm in found.means)
    spans = listed(f"{arm} {number(np.ptp(found.means[arm]))}" for arm in found.means)
    finding = (
        f"{claim(f'{text} ({view})', slopes)} Slope for each doubling: {each}. "
        f"From {sizes[0]} to {sizes[-1]} rows, the mean score spans: {spans}."
    )
    place = view.split(",")[0]
    blocks = [
        f"Slope for each doubling, mean over tables ± standard error: {each}.",
        comparison_table(slopes, "other", "cMIM"),
        writer.draw(
            figures.batch_lines(found.means), f"batch_{place}", f"Mean score by batch size, {view}"
        ),
        "The range of each table's scores over batch sizes, in the same way:",
        comparison_table(ranges, "other", "cMIM"),
    ]
    return finding, blocks
