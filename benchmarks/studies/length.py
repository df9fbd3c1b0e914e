"""Generated rows, imputation and densities of `CMIMEncoder` by the length of a default fit.

    python -m benchmarks.studies.length --data-dir DIR [--out DIR] [--lengths 1500 3000]

Features by length are the experiment "length" of `benchmarks.quality`. DIR holds tables
NAME.parquet with a column ``target``. Columns, from at most --rows rows, 70 % for training:

- detection, utility, distance_ratio, nearer_to_train: as in `benchmarks.studies.generation`.
- rmse, accuracy: as in `benchmarks.studies.imputation`, from test rows without 30 % of their cells.
- log_density: median `score_samples` of the test rows, in nats.
"""

import warnings
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from benchmarks.quality.plan import limits
from benchmarks.studies import generation, imputation
from benchmarks.tools import STUDY_TABLES, numeric_columns, parser, save
from cmim_sklearn import CMIMEncoder
from cmim_sklearn._encoders.base import fit as fitting


def evaluate(path, seed, max_rows):
    """All measures of a default fit to one table."""
    frame = pd.read_parquet(path)
    frame = frame.astype(dict.fromkeys(numeric_columns(frame), float))
    if len(frame) > max_rows:
        frame = frame.sample(max_rows, random_state=seed)
    train, test = train_test_split(frame, test_size=0.3, random_state=seed)
    encoder = CMIMEncoder(random_state=seed).fit(train)
    rows = encoder.sample(len(train), random_state=seed)
    utility = generation.supervised_score(rows, test) / generation.supervised_score(train, test)
    masked, hidden = imputation.remove(test, 0.3, np.random.RandomState(seed))
    return {
        "epochs": encoder.n_iter_,
        "detection": generation.detection(test, rows),
        "utility": utility,
        **generation.nearness(train, test, rows),
        **imputation.scores(test, encoder.impute(masked), hidden, frame),
        "log_density": np.median(encoder.score_samples(test[:500])),
    }


def main(arguments=None):
    options = parser(__doc__)
    options.add_argument("--data-dir", type=Path, required=True, help="folder of NAME.parquet")
    options.add_argument("--tables", nargs="*", default=STUDY_TABLES)
    options.add_argument("--lengths", nargs="*", type=int, default=[1000, 1500, 3000])
    options.add_argument("--seeds", nargs="*", type=int, default=[0])
    options.add_argument("--rows", type=int, default=5000)
    args = options.parse_args(arguments)
    warnings.simplefilter("ignore")
    if args.quick:
        args.tables, args.lengths, args.rows = args.tables[-2:-1], [10], 200
    rows = []
    for seed in args.seeds:
        for name in args.tables:
            for length in args.lengths:
                with patch.multiple(fitting, **limits(length)):
                    scores = evaluate(args.data_dir / f"{name}.parquet", seed, args.rows)
                rows.append({"table": name, "seed": seed, "updates": length, **scores})
                print(rows[-1], flush=True)
                save(pd.DataFrame(rows), args.out, "length.csv")
    print(pd.DataFrame(rows).groupby(["table", "updates"]).mean().round(3).to_string())


if __name__ == "__main__":
    main()
