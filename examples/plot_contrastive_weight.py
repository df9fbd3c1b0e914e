"""
The contrastive weight: search over it, and expect little
=========================================================

On the Titanic, the mean accuracies at weights from 0 to 100 have a range of 0.005, while those of
the held-out parts at any one weight have a standard deviation of more than three times that (0.017
to 0.020): the contrastive term is all but idle on this table, as it is on larger ones in the
benchmarks.

The weight is a parameter like any other, so ``GridSearchCV`` goes through the pipeline by its name.
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
# Passengers of the Titanic, as they are: numbers, strings, and most of the decks missing. The one
# man on a deck of his own is left out.

titanic = pd.read_csv(HERE / "data" / "titanic.csv").query("cabin_deck != 'T'")
outcome = titanic.pop("outcome")

# %%
# A pipeline of two steps, and a search over one parameter of the first: at 0 the encoder is MIM
# without contrast. Each fit is short here; leave ``max_iter`` alone in earnest.

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
# Accuracy on each held-out part: the lines are the parts, the same for every weight.

parts = [key for key in search.cv_results_ if key.startswith("split")]
accuracy = pd.DataFrame({part: search.cv_results_[part] for part in parts}, index=weights)
mean = accuracy.mean(axis=1)
table = pd.DataFrame({"mean": mean, "spread over parts": accuracy.std(axis=1)})
print(table.rename_axis("weight").round(3).to_string())
print(f"best {mean.max():.3f}, at {mean.idxmax()}; range of the means {np.ptp(mean):.3f}")

figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
axis.plot(range(len(weights)), accuracy, ".-", color="0.75", linewidth=1)
axis.plot(range(len(weights)), mean, "o-", color="#0072B2", label="mean")
axis.plot([], [], ".-", color="0.75", label="each held-out part")
axis.set_xticks(range(len(weights)), weights)
axis.set(
    title="Titanic, by contrastive weight", xlabel="contrastive_weight", ylabel="accuracy, held out"
)
axis.legend()
plt.show()
