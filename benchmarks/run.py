"""Does cMIM do what it claims, on tables? All the evidence, by one command.

    python -m benchmarks.run --data-dir DIR --out DIR [--jobs 2] [--seeds 0 1 2] [--quick]

DIR holds NAME.parquet tables with a column ``target``. `benchmarks.plan` says what is fitted and
`benchmarks.arms` by whom; every piece runs in a process of its own, and its scores are kept as soon
as it is done: a run that was stopped goes on where it was, and ``--experiments``, ``--arms``,
``--tables`` and ``--seeds`` do a part. Scores are gathered in ``results.parquet``, one row each;
the report, RESULTS.md and its figures, is written from that by `benchmarks.report`. Rivals that are
no dependency get environments of their own, below ``--env-dir``.
"""

import argparse
import json
import os
import platform
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import sklearn
import torch
from tqdm import tqdm

from benchmarks import rivals
from benchmarks.arms import COSTS, FAMILY
from benchmarks.linear_probe import TEXT_TABLES
from benchmarks.measure import measure
from benchmarks.plan import (
    ABLATIONS,
    CHOSEN_NOTE,
    CHOSEN_ON,
    experiments,
    pieces,
    shown,
)
from benchmarks.report import write_report
from cmim_sklearn import CMIMEncoder

NAMES = ("experiment", "table", "seed", "arm", "setting")
VALUES = (
    *("embedding", "probe", "regime", "score", "n_labels", "n_features", "n_rows"),
    *COSTS,
    *("loss", "contrast", "threads"),
)
ATTEMPTS, SERVER_LOST = 3, 255
"""multiprocessing's exit code where its server of processes was lost: no fault of the piece, and
the next process gets a new server."""
SHOWN_ARMS = {"cMIM, second sample": "cMIM"}
QUICK_TABLES, QUICK_ROWS, QUICK_UPDATES = 3, 600, 100
QUICK = ("rivals", "family", "temperature", "batch", "targets", "budget")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of NAME.parquet")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores and report")
    parser.add_argument("--env-dir", type=Path, help="of the rivals; environments in --out")
    parser.add_argument("--experiments", nargs="*", help="names; all by default")
    parser.add_argument("--arms", nargs="*", help="names; all by default")
    parser.add_argument("--tables", nargs="*", help="names; all but the text tables by default")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="pieces at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each piece")
    parser.add_argument("--quick", action="store_true", help="3 tables, 1 seed, short fits")
    parser.add_argument("--without-rivals", action="store_true", help="none that is installed anew")
    args = parser.parse_args()
    there = sorted(
        path.stem for path in args.data_dir.glob("*.parquet") if path.stem not in TEXT_TABLES
    )
    if not there:
        sys.exit(f"No table in {args.data_dir}: expected files NAME.parquet with a column target.")
    plan, out, seeds = experiments(tuple(there)), args.out, args.seeds
    if args.quick:
        plan, out, seeds = quick(plan), out / "quick", seeds[:1]
    for asked, known, what in (
        (args.experiments, plan, "experiment"),
        (args.arms, {arm for one in plan.values() for arm, _ in one.arms}, "arm"),
        (args.tables, there, "table"),
    ):
        unknown = sorted(set(asked or ()) - set(known))
        if unknown:
            sys.exit(f"No {what} {', '.join(unknown)}; there are {', '.join(sorted(known))}.")
    todo = [
        piece
        for piece in pieces(plan, seeds, args.experiments)
        if piece.arm in (args.arms or [piece.arm])
        and piece.table in (args.tables or there)
        and not (args.without_rivals and piece.arm in rivals.RIVALS)
    ]
    out.mkdir(parents=True, exist_ok=True)
    env_dir = args.env_dir or args.out / "environments"
    for name in {piece.arm for piece in todo} & set(rivals.RIVALS):
        rivals.install(name, env_dir)
    failed = run(todo, out, args.jobs, partial(measure, args.data_dir, env_dir, args.threads))
    results = gather(plan, out)
    about = context(there, args) | {"failed": failed}
    (out / "context.json").write_text(json.dumps(about, indent=2))
    write_report(results, out, context=about)
    print(f"{len(results)} scores in {out / 'results.parquet'}; {out / 'RESULTS.md'}")
    if failed:
        sys.exit(f"{len(failed)} of {len(todo)} pieces failed: see {out / 'failed'}.")


def quick(plan):
    """The same plan on few rows and with short fits, to see that all of it runs."""
    short = {}
    for name in QUICK:
        experiment = plan[name]
        arms = {
            key: {**params, "n_updates": QUICK_UPDATES} if key[0] in FAMILY else params
            for key, params in experiment.arms.items()
        }
        tables = experiment.tables[:QUICK_TABLES]
        short[name] = experiment._replace(arms=arms, tables=tables, max_rows=QUICK_ROWS)
    return short


def run(todo, out, jobs, work):
    """Do the pieces that have no scores yet, and return the names of those that failed.

    A process for each, from a server that has imported everything: its memory is its own, and one
    that dies takes no other with it. Each writes its own scores, so that a stop costs no more than
    what is at work.
    """
    for name in ("scores", "failed"):
        (out / name).mkdir(exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    server = get_context("forkserver")
    server.set_forkserver_preload(["benchmarks.measure"])
    done = stored_scores(out)
    missing = [piece for piece in todo if piece.key not in done]
    failed = []

    def do(piece):
        for _ in range(ATTEMPTS):
            process = server.Process(target=keep, args=(work, piece, out))
            process.start()
            process.join()
            if process.exitcode != SERVER_LOST:
                break
        return process.exitcode

    pool = ThreadPoolExecutor(jobs)
    try:
        futures = {pool.submit(do, piece): piece for piece in missing}
        bar = tqdm(as_completed(futures), total=len(todo), initial=len(todo) - len(missing))
        for future in bar:
            piece, code = futures[future], future.result()
            bar.set_postfix_str(f"{piece.arm} on {piece.table}")
            if code:
                failed.append(f"{piece.arm} on {piece.table}, seed {piece.seed}")
                text = out / "failed" / f"{piece.key}.txt"
                if not text.exists():
                    text.write_text(f"{piece}\n\nThe process ended with code {code}.\n")
    finally:
        pool.shutdown(cancel_futures=True)
    return failed


def keep(work, piece, out):
    """Write the scores of one piece, or why there are none: whole or not at all."""
    failure = out / "failed" / f"{piece.key}.txt"
    failure.unlink(missing_ok=True)
    try:
        scores = work(piece)
    except Exception:
        failure.write_text(f"{piece}\n\n{traceback.format_exc()}")
        sys.exit(1)
    write(json.dumps(scores).encode(), out / "scores" / f"{piece.key}.json")


def write(content, path):
    """Put a file in place in one step."""
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)


def gather(plan, out):
    """Write and return the scores of the plan that there are, one row for each.

    ``scores.parquet`` holds all that was ever measured, by the key of its piece, and is what a run
    goes on from; ``results.parquet`` those of the plan as it is now, under their experiments.
    """
    stored = stored_scores(out)
    everything = [{"key": key, **row} for key, scores in stored.items() for row in scores]
    seeds = sorted({row["seed"] for row in everything})
    rows = []
    for piece in pieces(plan, seeds):
        for experiment, setting in piece.labels if piece.key in stored else ():
            named = {
                "experiment": experiment,
                "table": piece.table,
                "seed": piece.seed,
                "arm": SHOWN_ARMS.get(piece.arm, piece.arm),
                "setting": setting,
                "key": piece.key,
            }
            rows += [named | row for row in stored[piece.key]]
    results = pd.DataFrame(rows, columns=[*NAMES, "key", *VALUES])
    for frame, name in (
        (pd.DataFrame(everything, columns=["key", "seed", *VALUES]), "scores.parquet"),
        (results, "results.parquet"),
    ):
        write(frame.to_parquet(index=False), out / name)
    return results


def stored_scores(out):
    """Scores by key of the piece, of earlier runs and of this one."""
    stored = {}
    if (out / "scores.parquet").exists():
        frame = pd.read_parquet(out / "scores.parquet")
        stored = {
            key: part.drop(columns="key").to_dict("records")
            for key, part in frame.groupby("key", sort=False)
        }
    for path in sorted((out / "scores").glob("*.json")):
        stored[path.stem] = json.loads(path.read_text())
    return stored


def context(tables, args):
    """What the report says of how it was made."""
    defaults = CMIMEncoder().get_params()
    return {
        "command": "python -m benchmarks.run --data-dir DIR --out DIR",
        "jobs": args.jobs,
        "cpu": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "defaults": {name: shown(defaults[name]) for name in ABLATIONS} | {"positive": "self"},
        "embedding": defaults["embedding"],
        "chosen_on": [name for name in tables if name in CHOSEN_ON],
        "confirmed_on": [name for name in tables if name not in CHOSEN_ON],
        "chosen_note": CHOSEN_NOTE,
    }


if __name__ == "__main__":
    main()
