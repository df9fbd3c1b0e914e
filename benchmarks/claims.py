"""The sections of `benchmarks.report` that test what the papers claim of cMIM's family.

A section takes a `Writer` and the tidy rows of its experiment, of which any may be missing.
"""

import numpy as np
import pandas as pd

from benchmarks import figures
from benchmarks.comparisons import (
    NOT_RUN,
    against_others,
    at_embedding,
    batch_dependence,
    over_tables,
    paired,
    rank,
    select,
    wide,
)
from benchmarks.sections import PROBES, REGIMES, Section, ranking
from benchmarks.wording import (
    basis,
    claim,
    comparison_table,
    listed,
    number,
    ordered,
    score_table,
    spoken,
    table,
)

GRID = ("AE", "cAE", "VAE", "cVAE", "MIM", "cMIM")
CONTRASTIVE = ("InfoNCE", "VICReg", "BarlowTwins")


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
        "Mean ranks under every probe, each over the tables that its arms share:",
        rank_table(everywhere, dict.fromkeys([writer.embedding, "mean"])),
    ]
    return Section("The family: AE, VAE, MIM, each with and without contrast", findings, blocks)


def forest(writer, comparisons, name, xlabel):
    """The figure of differences, or nothing where none is known."""
    known = {key: c for key, c in comparisons.items() if c.tables > 1}
    if not known:
        return []
    figure = figures.differences(known, f"{xlabel} (score, mean over tables)")
    return [writer.draw(figure, name, f"{xlabel}, with 95 % confidence intervals over tables")]


def grid(writer, everywhere, place):
    """Claim (e) at one embedding under the linear probe: blocks and findings."""
    names = [*GRID, *CONTRASTIVE]
    linear = at_embedding(select(everywhere, probe="linear"), place)
    frame = wide(linear)
    title = f"linear probe, all labels, {place} embedding"
    if frame.empty:
        return [f"At the {place} embedding: {NOT_RUN}."], []
    frame = ordered(frame, names)
    text, sentence = ranking(writer, frame, f"family_ranks_{place}", f"Mean ranks, {title}")
    contrast = {f"c{base} over {base}": paired(frame, f"c{base}", base) for base in GRID[::2]}
    others = against_others(frame)
    note = " Arms without a decoder have the mean alone." if place != "mean" else ""
    blocks = [
        f"Scores, {title}.{note}",
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
                found[f"{place}, {label}"] = {**ranks.ranks, "tables": str(ranks.tables)}
    if not found:
        return f"{NOT_RUN.capitalize()}."
    frame = pd.DataFrame.from_dict(found, orient="index")
    return table(ordered(frame, [*GRID, *CONTRASTIVE]).rename_axis("ranks"), 2)


def batch(writer, rows):
    """Claim (d): how little cMIM depends on the batch size."""
    text = "(d) cMIM depends on the batch size no more than InfoNCE, nor than MIM, the control"
    main, view, lines = None, "", {}
    views = [(p, "all") for p in PROBES] + [("linear", "few")]
    for place in dict.fromkeys([writer.embedding, "mean"]):
        for probe, regime in views:
            part = at_embedding(select(rows, probe=probe, regime=regime), place)
            found = batch_dependence(part) if len(part) else None
            if found is None:
                continue
            label = f"{place}, {PROBES[probe]}, {REGIMES[regime]}"
            if main is None:
                main, view = found, label
            for arm in found.means:
                slopes = found.slopes[arm].to_numpy()
                slope = over_tables(slopes, 0 * slopes, found.seeds)
                lines[f"{label}: {arm}"] = {
                    **{str(size): score for size, score in found.means[arm].items()},
                    "range": np.ptp(found.means[arm]),
                    "slope": f"{number(slope.mean, 4, '+')} ± {number(slope.error, 4)}",
                    "rests on": basis(len(slopes), found.seeds),
                }
    title = "Batch size"
    if main is None:
        return Section(title, [claim(text, {})], [f"{NOT_RUN.capitalize()}."])
    ranges = {
        f"range of {arm} minus that of cMIM": over_tables(
            main.ranges[arm].to_numpy(), main.ranges["cMIM"].to_numpy(), main.seeds
        )
        for arm in ("InfoNCE", "MIM")
        if {arm, "cMIM"} <= set(main.ranges)
    }
    spans = listed(f"{arm} {number(np.ptp(main.means[arm]))}" for arm in main.means)
    sizes = main.means.index
    finding = (
        f"{claim(f'{text} ({view})', ranges)} "
        f"From {sizes[0]} to {sizes[-1]} rows, the mean score spans: {spans}."
    )
    blocks = [
        (
            "The mean score at each batch size, the range of these means, and the slope of the "
            "score for each doubling of the batch (mean over tables ± standard error). Arms "
            "without a decoder have the mean embedding alone. The claim compares the ranges of "
            "each table."
        ),
        table(ordered(pd.DataFrame.from_dict(lines, orient="index"), map(str, sizes))),
        writer.draw(figures.batch_lines(main.means), "batch", "Mean score by batch size"),
    ]
    if ranges:
        blocks.append(comparison_table(ranges, "its range", "cMIM's range"))
    return Section(title, [finding], blocks)
