"""
Hyper-parameter search on a Dask cluster
========================================

``GridSearchCV`` sends its fits to the workers of a cluster, here two processes of this machine.
If a worker dies, its unfinished fits run again on another worker.

For this, every worker needs a copy of the table and of the rows of each split. By default joblib
sends each of them to one worker only, and Dask removes copies that no fit is waiting for. If the
worker with the only copy dies, the search ends with a ``FutureCancelledError``.

Needs ``pip install ".[dask]"``.
"""

from itertools import chain
from pathlib import Path

import joblib
import pandas as pd
from dask.distributed import Client, LocalCluster
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from cmim_sklearn import CMIMEncoder

EXAMPLES = Path(__file__).parent.parent


def main():
    houses = pd.read_csv(EXAMPLES / "data" / "california_housing.csv")[:600]
    is_expensive = houses.pop("median_house_value") > 200_000
    encoder = CMIMEncoder(max_iter=10, random_state=0)
    pipe = Pipeline([("cmim", encoder), ("clf", LogisticRegression(max_iter=500))])
    splits = list(StratifiedKFold(2).split(houses, is_expensive))
    # refit=False, because the refit would run in this process and not on the cluster.
    search = GridSearchCV(pipe, {"cmim__n_components": [8, 64]}, cv=splits, refit=False)

    with (
        LocalCluster(n_workers=2, threads_per_worker=1) as cluster,
        Client(cluster) as client,  # for a remote cluster: Client("tcp://scheduler:8786")
    ):
        client.amm.stop()  # the active memory manager would remove copies
        everywhere = [houses, is_expensive, *chain(*splits)]
        with joblib.parallel_config("dask", scatter=everywhere):
            search.fit(houses, is_expensive)
    scores = search.cv_results_["mean_test_score"]
    for params, score in zip(search.cv_results_["params"], scores, strict=True):
        print(params, f"{score:.3f}")


if __name__ == "__main__":  # worker processes import this file
    main()
