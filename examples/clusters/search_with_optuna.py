"""
Hyper-parameter search by several processes with Optuna
=======================================================

    python examples/clusters/search_with_optuna.py sqlite:///search.db

Start the script once per core, GPU or machine. All processes share one study through a database,
and stop when the study has its number of trials. If a process is killed, its heartbeat ends and
another process repeats its trial. SQLite works for processes of one machine; for several machines
use a database server (PostgreSQL or MySQL).

Needs ``pip install ".[optuna]"``.
"""

import sys
from pathlib import Path

import optuna
import pandas as pd
from optuna.storages import RetryHeartbeatStaleTrialCallback
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline

from cmim_sklearn import CMIMEncoder

EXAMPLES = Path(__file__).parent.parent
N_TRIALS, HEARTBEAT_S, GRACE_S = 8, 1, 3  # seconds; for long trials use 60 and 180


def main(url):
    houses = pd.read_csv(EXAMPLES / "data" / "california_housing.csv")[:600]
    is_expensive = houses.pop("median_house_value") > 200_000

    def objective(trial):
        encoder = CMIMEncoder(
            n_components=trial.suggest_int("n_components", 8, 128, log=True),
            input_masking=trial.suggest_float("input_masking", 0, 0.3),
            max_iter=20,
            random_state=0,
        )
        pipe = Pipeline([("cmim", encoder), ("clf", LogisticRegression(max_iter=500))])
        return cross_val_score(pipe, houses, is_expensive, cv=3).mean()

    storage = optuna.storages.RDBStorage(
        url,
        heartbeat_interval=HEARTBEAT_S,
        grace_period=GRACE_S,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=3),
    )
    study = optuna.create_study(
        study_name="cmim", storage=storage, direction="maximize", load_if_exists=True
    )
    stop = optuna.study.MaxTrialsCallback(N_TRIALS, states=(optuna.trial.TrialState.COMPLETE,))
    study.optimize(objective, callbacks=[stop])
    print(study.best_params, f"{study.best_value:.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
