"""Write an encoder file of the current format version, and the results that it must give.

    python -m tests.encoders.base.make_encoder_file

Later releases must read the file. Run this once for each format version: a new file would not test
whether the old one can be read.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._utils.archive import VERSION

DATA = Path(__file__).parents[2] / "data"


def file_of(version, suffix):
    """Path of the encoder file of a format version, or of its results (suffix "json")."""
    return DATA / f"encoder_v{version}.{suffix}"


def make_table(n_rows=120):
    """Numbers, whole numbers, counts, booleans, categories and strings, with missing values."""
    rng = np.random.RandomState(0)
    hidden = rng.randn(n_rows)
    places = pd.CategoricalDtype(pd.Index(["low", "mid", "high", "peak"], dtype=object), True)
    table = pd.DataFrame(
        {
            "length": (3 * hidden + 0.3 * rng.randn(n_rows)).round(2),
            "age": (40 + 9 * hidden).round().astype("int64"),
            "visits": rng.poisson(np.exp(hidden / 2)).astype("int64"),
            "member": hidden > 0,
            "place": pd.Categorical.from_codes(np.digitize(hidden, [-0.5, 0.5]), dtype=places),
            "word": np.array(["x", "yy", "zzz"], dtype=object)[rng.randint(3, size=n_rows)],
        }
    ).astype({"word": object})
    for column in ("length", "place", "word"):
        table.loc[rng.rand(n_rows) < 0.15, column] = None
    return table


def outputs(encoder, table):
    """Results of an encoder for a table, as JSON values."""
    return {
        "transform": encoder.transform(table).tolist(),
        "score_samples": encoder.score_samples(table).tolist(),
        "reconstruct": json.loads(encoder.reconstruct(table).to_json(orient="split")),
        "sample": json.loads(encoder.sample(8, random_state=0).to_json(orient="split")),
        "loss_curve_": encoder.loss_curve_,
    }


def main():
    table = make_table()
    encoder = CMIMEncoder(
        3,
        hidden_layer_sizes=(8,),
        likelihoods={"visits": "poisson"},
        max_iter=60,
        learning_rate_init=1e-2,
        random_state=0,
        device="cpu",
    )
    encoder.fit(table).save(file_of(VERSION, "cmim"))
    file_of(VERSION, "json").write_text(json.dumps(outputs(encoder, table[:8])) + "\n")


if __name__ == "__main__":
    main()
