"""
Odd rows, and the column that made them odd
===========================================

Rows that no single column gives away: one cell of each was swapped for that of another row. The
log-likelihood of ``CMIMEncoder`` tells them from untouched rows far better than an isolation forest
or an auto-encoder's reconstruction error, and for half of them ``score_columns`` names the cell.
"""

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from cmim_sklearn import CMIMEncoder

HERE = Path(__file__).parent if "__file__" in globals() else Path()

# %%
# Block groups of California: a part to learn from, as it is, and 500 rows to judge. In a fifth of
# these one cell, of any column, is swapped for that of another row: a plausible value in a row it
# does not belong to.

houses = pd.read_csv(HERE / "data" / "california_housing.csv")
train, test = train_test_split(houses, test_size=500, random_state=0)
test = test.reset_index(drop=True)
rng = np.random.RandomState(0)
is_odd = rng.rand(len(test)) < 0.2
swapped = np.array(rng.choice(test.columns, len(test)), dtype=object)
for row in np.flatnonzero(is_odd):
    others = train.loc[train[swapped[row]] != test.loc[row, swapped[row]], swapped[row]].dropna()
    test.loc[row, swapped[row]] = others.sample(random_state=row).iloc[0]

# %%
# Three ways to call a row odd. The other two want numbers without holes.

start = time.perf_counter()
encoder = CMIMEncoder(random_state=0).fit(train)
oddness = {"cMIM log-likelihood": -encoder.score_samples(test)}
print(f"cMIM: fit and scores in {time.perf_counter() - start:.0f} s")

both = pd.get_dummies(pd.concat([train, test])).fillna(train.median(numeric_only=True))
numbers = both.to_numpy(float)
seen, judged = numbers[: len(train)], numbers[len(train) :]
forest = IsolationForest(random_state=0).fit(seen)
oddness["isolation forest"] = -forest.score_samples(judged)
try:
    from pyod.models.auto_encoder import AutoEncoder
except ImportError:
    print("pip install pyod tqdm, to see its auto-encoder beside the others")
else:
    detector = AutoEncoder(random_state=0, verbose=0)
    detector.fit(seen)
    oddness["PyOD auto-encoder"] = detector.decision_function(judged)

for name, values in oddness.items():
    print(f"{name:<20} AUC {roc_auc_score(is_odd, values):.3f}")

# %%
# Which cell was it? The least of a row's column scores says so.

odd = test[is_odd]
columns = pd.DataFrame(encoder.score_columns(odd), columns=odd.columns, index=odd.index)
named = columns.idxmin(axis=1)
print(f"the swapped column is named in {np.mean(named == swapped[is_odd]):.0%} of the odd rows")

# %%
# How well each column's swaps are found, and the column scores of the oddest rows.

figure, axes = plt.subplots(1, 2, figsize=(12, 4.8), width_ratios=[1, 1.15])
order = list(houses.columns)[::-1]
for (name, values), marker, colour in zip(
    oddness.items(), "osD", ["#0072B2", "#E69F00", "#009E73"], strict=False
):
    aucs = [
        roc_auc_score(is_odd[rows], values[rows])
        for rows in (~is_odd | (swapped == column) for column in order)
    ]
    axes[0].plot(aucs, range(len(order)), marker, color=colour, label=name)
axes[0].set_yticks(range(len(order)), order)
axes[0].axvline(0.5, color="0.7", zorder=0)
axes[0].set(xlabel="AUC: rows with a swap here against untouched rows", xlim=(0.25, 1.02))
axes[0].legend(fontsize=8, loc="lower left")
worst = pd.Series(oddness["cMIM log-likelihood"], test.index)[is_odd].nlargest(12).index
shown = axes[1].imshow(columns.loc[worst], cmap="cividis", vmin=-15, vmax=0, aspect="auto")
for y, row in enumerate(worst):
    x = list(columns).index(swapped[row])
    axes[1].add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="red", lw=2))
axes[1].set_xticks(range(len(columns.columns)), columns.columns, rotation=40, ha="right")
axes[1].set_yticks([])
axes[1].set(ylabel="the 12 oddest rows", title="score_columns; the cell swapped is framed")
figure.colorbar(shown, ax=axes[1], label="nats, 0 is usual")
figure.tight_layout()
plt.show()
