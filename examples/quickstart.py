"""
Quickstart: features for a linear model
=======================================

This example shows how to put ``CMIMEncoder`` before a classifier, and what it gains. A logistic
regression predicts the price band of block groups in California. On raw columns, prepared by
hand, its accuracy is 63.5 %. On the features of the encoder it is 67 %. The encoder takes the
DataFrame as it is, with numbers, a category and missing values, and learns without labels.
"""

from pathlib import Path

import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from cmim_sklearn import CMIMEncoder
from cmim_sklearn.display import TrainingDisplay

try:
    import matplotlib.pyplot as plt
except ImportError:
    plt = None  # only the plot at the end needs it

HERE = Path(__file__).parent if "__file__" in globals() else Path()

# %%
# The table has 6,000 block groups. Their price band is the label.

X = pd.read_csv(HERE / "data" / "california_housing.csv").astype({"ocean_proximity": "category"})
y = pd.qcut(X.pop("median_house_value"), 4, labels=["low", "middle", "high", "top"]).astype(str)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0)

# %%
# The baseline: raw columns, imputed, one-hot encoded and standardised.

numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
categories = OneHotEncoder(handle_unknown="ignore")
by_hand = make_column_transformer(
    (numbers, make_column_selector(dtype_include="number")),
    (categories, make_column_selector(dtype_include="category")),
)
raw = Pipeline([("by_hand", by_hand), ("clf", LogisticRegression(max_iter=500))])

# %%
# The same classifier on the features of cMIM. As a script, the encoder reports its progress.

cmim = Pipeline(
    [
        ("cmim", CMIMEncoder(random_state=0, verbose="__file__" in globals())),
        ("clf", LogisticRegression(max_iter=500)),
    ]
)

# %%
# Accuracy on 1,800 held-out rows.

print(f"{len(X):,} block groups, {X.shape[1]} columns, {int(X.isna().sum().sum())} missing cells")
accuracy = {}
for name, model in {"raw columns + LR": raw, "cMIM + LR": cmim}.items():
    accuracy[name] = model.fit(X_train, y_train).score(X_test, y_test)
    print(f"{name:<18} accuracy {accuracy[name]:.3f}")

# %%
# The encoder is also a generative model. It generates rows with the columns of the table.

print("\nThree generated rows:")
print(cmim.named_steps["cmim"].sample(3, random_state=0).to_string(index=False))

# %%
# Training curves: each term of the loss by epoch.

if plt:
    display = TrainingDisplay.from_estimator(cmim.named_steps["cmim"])
    display.figure_.suptitle("training loss of the encoder")
    plt.show()
