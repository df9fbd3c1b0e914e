"""
Impute missing cells, with their uncertainty
============================================

This example shows how to impute missing cells with ``impute``, and how to use several imputations
as intervals. A quarter of the cells is hidden in rows of California's block groups. ``impute``
has a mean error of 0.46 standard deviations; ``KNNImputer`` has 0.48 and ``IterativeImputer``
0.55. It is best for rooms and households, and worse than ``KNNImputer`` for longitude and
latitude. It also imputes the category, with accuracy 82 % (majority class 45 %). Some 90 % of the
hidden numbers lie in their 90 % intervals.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.model_selection import train_test_split

from cmim_sklearn import CMIMEncoder

HERE = Path(__file__).parent if "__file__" in globals() else Path()

# %%
# Block groups of California. A quarter of the cells is hidden in 400 test rows that no model was
# fitted to.

houses = pd.read_csv(HERE / "data" / "california_housing.csv")
train, test = train_test_split(houses, train_size=3000, test_size=400, random_state=0)
hidden = np.random.RandomState(0).rand(*test.shape) < 0.25
masked = test.mask(hidden)
print(f"{int(hidden.sum())} cells hidden; {int(test.isna().sum().sum())} were missing before")

# %%
# ``impute`` returns one table with means and most likely levels. The imputers of scikit-learn
# accept only numbers. They are fitted to the numeric columns, standardised because ``KNNImputer``
# uses distances.

encoder = CMIMEncoder(random_state=0).fit(train)
imputed = {"cMIM": encoder.impute(masked)}

numeric = train.select_dtypes("number").columns
mean, deviation = train[numeric].mean(), train[numeric].std()
imputers = {
    "IterativeImputer": IterativeImputer(random_state=0, max_iter=20),
    "KNNImputer": KNNImputer(),
    "column mean": SimpleImputer(),
}
for name, imputer in imputers.items():
    imputer.set_output(transform="pandas").fit((train[numeric] - mean) / deviation)
    imputed[name] = imputer.transform((masked[numeric] - mean) / deviation) * deviation + mean

where = pd.DataFrame(hidden, test.index, test.columns) & test.notna()
errors = pd.DataFrame(
    {
        name: {
            column: np.sqrt(((table[column] - test[column])[where[column]] ** 2).mean())
            / deviation[column]
            for column in numeric
        }
        for name, table in imputed.items()
    }
)
print("RMSE in standard deviations of the column, and its mean over columns")
print(errors.round(2).to_string())
print(errors.mean().round(3).to_string())
region, is_hidden = test["ocean_proximity"], where["ocean_proximity"]
accuracy = (imputed["cMIM"]["ocean_proximity"] == region)[is_hidden].mean()
majority = (region == train["ocean_proximity"].mode()[0])[is_hidden].mean()
print(f"ocean_proximity: accuracy {accuracy:.0%}; majority class {majority:.0%}")

# %%
# Multiple imputation: with ``n_draws``, ``impute`` returns several tables whose differences show
# the uncertainty. If it is calibrated, 90 % of the hidden values lie between the 5 % and 95 %
# quantiles.

draws = encoder.impute(masked, n_draws=50, random_state=0)
cube = np.array([table[numeric].to_numpy(float) for table in draws])
low, high = np.quantile(cube, [0.05, 0.95], axis=0)
truth, asked = test[numeric].to_numpy(float), where[numeric].to_numpy()
inside = (low <= truth) & (truth <= high)
print(f"{inside[asked].mean():.0%} of the hidden numbers lie in their 90 % intervals")

# %%
# Errors by column, and the intervals of one column.

figure, axes = plt.subplots(2, 1, figsize=(7, 7.6), height_ratios=[1.2, 1], layout="constrained")
styles = zip(errors, "soD^", ["#0072B2", "#E69F00", "#009E73", "#999999"], strict=True)
for name, marker, colour in styles:
    axes[0].plot(errors[name], range(len(errors)), marker, color=colour, label=name)
axes[0].set_yticks(range(len(errors)), errors.index)
axes[0].invert_yaxis()
axes[0].set(
    title="imputation error by column", xlabel="RMSE in standard deviations", xlim=(0, None)
)
axes[0].legend()

column = list(numeric).index("median_income")
rows = np.flatnonzero(asked[:, column])
rows = rows[np.argsort(truth[rows, column])]
axes[1].vlines(
    range(len(rows)), low[rows, column], high[rows, column], color="#56B4E9",
    label="90 % interval",
)  # fmt: skip
axes[1].plot(truth[rows, column], ".", color="black", markersize=4, label="hidden value")
axes[1].set(
    title="90 % intervals of 50 imputations",
    xlabel="rows sorted by hidden value",
    ylabel="median_income",
)
axes[1].legend(loc="upper left")
plt.show()
