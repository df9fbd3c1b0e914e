"""Run the quality benchmark: fits, scores and report.

    python -m benchmarks.quality.run --data-dir DIR --out DIR [--jobs 2] [--seeds 0 1 2] [--quick]

DIR holds tables NAME.parquet with a column ``target``. Each piece of `benchmarks.quality.plan` runs
in a new process and its scores are stored at once, so that an interrupted run resumes. Options can
select a part. ``results.parquet`` has one row per score; `benchmarks.quality.report` writes
RESULTS.md and its figures from it. Rivals get environments below ``--out``.
"""

import json
import os
import platform
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks import rivals
from benchmarks.quality.arms import COSTS, FAMILY
from benchmarks.quality.measure import measure
from benchmarks.quality.plan import ABLATIONS, CHOSEN_ON, experiments, pieces, shown
from benchmarks.quality.report import write_report
from benchmarks.quality.tables import names
from benchmarks.tools import parser
from cmim_sklearn import CMIMEncoder

LABELS = ["experiment", "table", "seed", "arm", "setting", "key"]
VALUES = [
    *("embedding", "probe", "regime", "score", "n_labels", "n_features", "n_rows"),
    *(*COSTS, "loss", "contrast", "threads"),
]
QUICK = ("rivals", "family", "temperature", "batch", "targets", "time", "labels")


def main(arguments=None):
    options = parser(__doc__, required=True)
    options.add_argument("--data-dir", type=Path, required=True, help="folder of NAME.parquet")
    options.add_argument("--experiments", nargs="*", help="names; default: all")
    options.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    options.add_argument("--jobs", type=int, default=1, help="pieces at a time")
    options.add_argument("--threads", type=int, default=1, help="threads of each piece")
    options.add_argument("--without-rivals", action="store_true", help="build no environments")
    args = options.parse_args(arguments)
    there = names(args.data_dir)
    if not there:
        sys.exit(f"No table in {args.data_dir}: expected files NAME.parquet with a column target.")
    plan, out, seeds = experiments(tuple(there)), args.out, args.seeds
    if args.quick:
        plan, out, seeds = quick(plan), out / "quick", seeds[:1]
    if unknown := sorted(set(args.experiments or ()) - set(plan)):
        sys.exit(f"Unknown: {', '.join(unknown)}. Known: {', '.join(plan)}.")
    todo, env_dir = pieces(plan, seeds, args.experiments), args.out / "environments"
    if args.without_rivals:
        todo = [piece for piece in todo if piece.arm not in rivals.RIVALS]
    for name in {piece.arm for piece in todo} & set(rivals.RIVALS):
        rivals.install(rivals.RIVALS[name].env, env_dir)
    failed = run(todo, out, args.jobs, partial(measure, args.data_dir, env_dir, args.threads))
    results, about = gather(plan, out), context(there, args.jobs) | {"failed": failed}
    (out / "context.json").write_text(json.dumps(about, indent=2))
    write_report(results, out, about)
    print(f"{len(results)} scores in {out / 'results.parquet'}; {out / 'RESULTS.md'}")
    if failed:
        sys.exit(f"{len(failed)} of {len(todo)} pieces failed: see {out / 'failed'}.")


def quick(plan):
    """Part of a plan, on few rows and with short fits, to test that it runs."""
    short = {}
    for name in QUICK:
        tables, probes, arms = plan[name].tables[:2], plan[name].probes[:2], dict(plan[name].arms)
        for arm, setting in arms:
            arms[arm, setting] = arms[arm, setting] | ({"n_updates": 10} if arm in FAMILY else {})
        short[name] = plan[name]._replace(arms=arms, tables=tables, probes=probes, max_rows=400)
    return short


def run(todo, out, jobs, work):
    """Run the pieces that have no scores yet, and return the names of those that failed.

    Each runs in a new process of a server that has imported everything, so that its memory is
    measured alone and a crash stops no other.
    """
    for name in ("scores", "failed"):
        (out / name).mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    server = get_context("forkserver")
    # The first step of an optimizer imports torch._dynamo, in two seconds.
    server.set_forkserver_preload(["benchmarks.quality.run", "torch._dynamo"])
    done, failed = stored_scores(out), []
    missing = [piece for piece in todo if piece.key not in done]

    def do(piece):
        process = server.Process(target=keep, args=(work, piece, out))
        process.start()
        process.join()
        return piece, process.exitcode

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(do, piece) for piece in missing]
        try:
            for future in (bar := tqdm(as_completed(futures), total=len(futures))):
                piece, code = future.result()
                bar.set_postfix_str(f"{piece.arm} on {piece.table}")
                if code:
                    failed.append(f"{piece.arm} on {piece.table}, seed {piece.seed}, code {code}")
        finally:
            pool.shutdown(cancel_futures=True)
    return failed


def keep(work, piece, out):
    """Store the scores of one piece, or the traceback of its error."""
    failure = out / "failed" / f"{piece.key}.txt"
    failure.unlink(missing_ok=True)
    try:
        write(json.dumps(work(piece)).encode(), out / "scores" / f"{piece.key}.json")
    except Exception:
        failure.write_text(f"{piece}\n\n{traceback.format_exc()}")
        sys.exit(1)


def write(content, path):
    """Write a file in one step."""
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)


def gather(plan, out):
    """Write and return the stored scores of the plan, one row for each.

    ``scores.parquet`` has all scores ever measured, by the key of their piece; a run resumes from
    it. ``results.parquet`` has those of the plan, under their experiments.
    """
    stored = stored_scores(out)
    everything = [{"key": key, **row} for key, scores in stored.items() for row in scores]
    rows = []
    for piece in pieces(plan, sorted({row["seed"] for row in everything})):
        for experiment, setting in piece.labels if piece.key in stored else ():
            label = (experiment, piece.table, piece.seed, piece.arm, setting, piece.key)
            rows += [dict(zip(LABELS, label, strict=True)) | row for row in stored[piece.key]]
    results = pd.DataFrame(rows, columns=LABELS + VALUES)
    scores = pd.DataFrame(everything, columns=["key", "seed", *VALUES])
    write(scores.to_parquet(index=False), out / "scores.parquet")
    write(results.to_parquet(index=False), out / "results.parquet")
    return results


def stored_scores(out):
    """Scores by key of the piece, of earlier runs and of this one."""
    stored = {}
    if (out / "scores.parquet").exists():
        for key, part in pd.read_parquet(out / "scores.parquet").groupby("key", sort=False):
            stored[key] = part.drop(columns="key").to_dict("records")
    for path in sorted((out / "scores").glob("*.json")):
        stored[path.stem] = json.loads(path.read_text())
    return stored


def context(tables, jobs):
    """Machine, versions, defaults and table halves for the report."""
    defaults = CMIMEncoder().get_params()
    return {
        "jobs": jobs,
        "cpu": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("torch", "scikit-learn")},
        "defaults": {name: shown(defaults[name]) for name in ABLATIONS},
        "embedding": defaults["embedding"],
        "chosen_on": [name for name in tables if name in CHOSEN_ON],
        "confirmed_on": [name for name in tables if name not in CHOSEN_ON],
    }


if __name__ == "__main__":
    main()
