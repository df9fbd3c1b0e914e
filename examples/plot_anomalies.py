"""
Find unusual rows and the cell that is wrong
============================================

This example shows how to find anomalous rows with ``score_dependence`` and ``score_samples``, and
the wrong cell in each with ``score_columns``. One cell of each anomalous row was replaced by that
of another row, so every single value is plausible. The dependence finds such rows with an AUC of
0.77, the log-likelihood with 0.76. An isolation forest reaches 0.60, and the reconstruction error
of an auto-encoder 0.73, which is better for swaps of latitude. The log-likelihood is better than
the dependence for swaps of latitude and income. A swapped housing age is hard to find for all.
``score_columns`` names the wrong cell in 65 % of the anomalous rows, the auto-encoder in 48 %.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import SymLogNorm
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from cmim_sklearn import CMIMEncoder

HERE = Path(__file__).parent if "__file__" in globals() else Path()

# %%
# Block groups of California: unchanged training rows, and 400 test rows. In a fifth of the test
# rows, one cell of a random column is replaced by that of a training row. The value is plausible,
# but does not fit the rest of the row.

houses = pd.read_csv(HERE / "data" / "california_housing.csv")
train, test = train_test_split(houses, test_size=400, random_state=0)
test = test.reset_index(drop=True)
rng = np.random.RandomState(0)
is_anomaly = rng.rand(len(test)) < 0.2
swapped = np.array(rng.choice(test.columns, len(test)), dtype=object)
for row in np.flatnonzero(is_anomaly):
    others = train.loc[train[swapped[row]] != test.loc[row, swapped[row]], swapped[row]].dropna()
    test.loc[row, swapped[row]] = others.sample(random_state=row).iloc[0]

# %%
# Four anomaly scores. The dependence is the log-likelihood less that of the cells as independent
# values: it is low where values do not fit together. The isolation forest and the auto-encoder need
# numbers without missing values. The auto-encoder reconstructs its input through a bottleneck of
# four units, and its reconstruction error is the score. The fit of ``CMIMEncoder`` is short here;
# keep the default ``max_iter`` for real use.

encoder = CMIMEncoder(max_iter=70, random_state=0).fit(train)
anomaly = {
    "cMIM dependence": -encoder.score_dependence(test),
    "cMIM log-likelihood": -encoder.score_samples(test),
}

both = pd.get_dummies(pd.concat([train, test])).fillna(train.median(numeric_only=True))
seen, judged = np.split(both.to_numpy(float), [len(train)])
forest = IsolationForest(random_state=0).fit(seen)
anomaly["isolation forest"] = -forest.score_samples(judged)

scaler = StandardScaler().fit(seen)
seen, judged = scaler.transform(seen), scaler.transform(judged)
auto_encoder = MLPRegressor(
    hidden_layer_sizes=(64, 4, 64), learning_rate_init=3e-3, max_iter=300, random_state=0
).fit(seen, seen)
errors = pd.DataFrame((auto_encoder.predict(judged) - judged) ** 2, columns=both.columns)
anomaly["auto-encoder error"] = errors.sum(axis=1).to_numpy()

for name, values in anomaly.items():
    print(f"{name:<20} AUC {roc_auc_score(is_anomaly, values):.3f}")

# %%
# The same AUC by swapped column: rows with a swap in that column against unchanged rows.


def auc_of_swaps(values, column):
    rows = ~is_anomaly | (swapped == column)
    return roc_auc_score(is_anomaly[rows], values[rows])


by_column = pd.DataFrame(
    {
        name: {column: auc_of_swaps(values, column) for column in houses}
        for name, values in anomaly.items()
    }
)
print(by_column.round(2).to_string())

# %%
# To find the swapped cell, take the column with the lowest score. For the auto-encoder, take the
# column with the largest error, summed over the one-hot columns of a category.

anomalous = test[is_anomaly]
columns = pd.DataFrame(
    encoder.score_columns(anomalous), columns=anomalous.columns, index=anomalous.index
)
named = columns.idxmin(axis=1)
source = both.columns.str.replace("ocean_proximity_.*", "ocean_proximity", regex=True)
largest = errors[is_anomaly].T.groupby(source).sum().idxmax()
print("anomalous rows where the swapped column is found:")
print(f"score_columns {np.mean(named == swapped[is_anomaly]):.0%}")
print(f"auto-encoder  {np.mean(largest == swapped[is_anomaly]):.0%}")

# %%
# Detection of swaps by column, and the column scores of the 12 rows with the lowest likelihood. A
# frame marks the swapped cell, a dot the cell with the lowest score.

figure, axes = plt.subplots(2, 1, figsize=(7, 8), layout="constrained")
colours = ["#D55E00", "#0072B2", "#E69F00", "#009E73"]
for name, marker, colour in zip(by_column, "^osD", colours, strict=True):
    axes[0].plot(by_column[name], range(len(by_column)), marker, color=colour, label=name)
axes[0].set_yticks(range(len(by_column)), by_column.index)
axes[0].invert_yaxis()
axes[0].axvline(0.5, color="0.7", zorder=0)
axes[0].set(
    title="detection of swapped cells by column",
    xlabel="AUC: rows with a swap in this column against unchanged rows",
    xlim=(0.2, 1.02),
)
figure.legend(loc="outside upper center", ncols=2)
worst = pd.Series(anomaly["cMIM dependence"], test.index)[is_anomaly].nlargest(12).index
shown = axes[1].imshow(
    columns.loc[worst], cmap="cividis", norm=SymLogNorm(1, vmin=-100, vmax=0), aspect="auto"
)
for y, row in enumerate(worst):
    x = list(columns).index(swapped[row])
    for colour, width in [("black", 4), ("white", 2)]:  # visible on dark and light cells
        axes[1].add_patch(
            plt.Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=colour, linewidth=width)
        )
axes[1].plot(
    [list(columns).index(named[row]) for row in worst], range(len(worst)), "o",
    color="white", markeredgecolor="black",
)  # fmt: skip
axes[1].set_xticks(range(len(columns.columns)), columns.columns, rotation=40, ha="right")
axes[1].set_yticks([])
axes[1].set(
    ylabel="the 12 most anomalous rows",
    title="score_columns: swapped cell (frame), lowest score (dot)",
)
figure.colorbar(shown, ax=axes[1], label="column score in nats (0 is typical)")
plt.show()
