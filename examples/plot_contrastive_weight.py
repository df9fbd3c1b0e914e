"""
Search over a parameter of the encoder
======================================

This example shows how to tune a parameter of the encoder with ``GridSearchCV``, and when a
difference between settings means nothing. The parameter is the weight of the contrastive term. On
the Titanic table, the mean accuracies for weights from 0 to 100 differ by at most 0.005. The
standard deviation between cross-validation folds at one weight is 0.017 to 0.020, more than three
times as large. The contrastive term has almost no effect on this table, and the benchmarks show
the same for larger ones.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from cmim_sklearn import CMIMEncoder

HERE = Path(__file__).parent if "__file__" in globals() else Path()

# %%
# Passengers of the Titanic, unprepared: numbers, strings, and mostly missing decks. The only
# passenger on deck T is left out, because his deck would be unknown in some folds.

titanic = pd.read_csv(HERE / "data" / "titanic.csv").query("cabin_deck != 'T'")
outcome = titanic.pop("outcome")

# %%
# A pipeline of two steps, and a search over one parameter of the encoder. With a weight of 0 it
# is MIM without the contrastive term. Fits are short here; keep the default ``max_iter`` for real
# use.

pipe = Pipeline(
    [
        ("cmim", CMIMEncoder(max_iter=40, random_state=0)),
        ("clf", LogisticRegression(max_iter=500)),
    ]
)
weights = [0, 1, 10, 100]
search = GridSearchCV(
    pipe,
    {"cmim__contrastive_weight": weights},
    cv=StratifiedKFold(4, shuffle=True, random_state=0),
    n_jobs=2,
)
search.fit(titanic, outcome)
print(search.best_params_)

# %%
# Accuracy on each held-out fold. Each grey line is one fold, the same for all weights.

folds = [key for key in search.cv_results_ if key.startswith("split")]
accuracy = pd.DataFrame({fold: search.cv_results_[fold] for fold in folds}, index=weights)
mean = accuracy.mean(axis=1)
table = pd.DataFrame({"mean": mean, "std over folds": accuracy.std(axis=1)})
print(table.rename_axis("weight").round(3).to_string())
print(f"best mean {mean.max():.3f} at weight {mean.idxmax()}; range of means {np.ptp(mean):.3f}")

figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
axis.plot(range(len(weights)), accuracy, ".-", color="0.75", linewidth=1)
axis.plot(range(len(weights)), mean, "o-", color="#0072B2", label="mean")
axis.plot([], [], ".-", color="0.75", label="held-out fold")
axis.set_xticks(range(len(weights)), weights)
axis.set(
    title="Titanic: accuracy by contrastive weight",
    xlabel="contrastive_weight",
    ylabel="held-out accuracy",
)
axis.legend()
plt.show()
