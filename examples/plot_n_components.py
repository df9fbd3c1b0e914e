"""
How many components? Rows held out can say, without labels
==========================================================

The log-likelihood of rows held out rises steeply up to 8 components and is flat from there: that is
found without labels. With labels at hand one sees that little hangs on it: the default features,
1,024 hidden activations, predict prices nearly as well behind 2 components as behind 32. The code
itself goes on to gain, also beyond the maximum of the likelihood.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, ShuffleSplit, train_test_split

from cmim_sklearn import CMIMEncoder

HERE = Path(__file__).parent if "__file__" in globals() else Path()

# %%
# Block groups of California; their price is put aside, and serves only to look at the choice.

houses = pd.read_csv(HERE / "data" / "california_housing.csv")
houses = houses.sample(2000, random_state=0).reset_index(drop=True)
price = np.log(houses.pop("median_house_value"))

# %%
# ``score`` is the mean log-likelihood of rows, in nats, so that a search needs no ``y``.

widths = [2, 4, 8, 16, 32]
search = GridSearchCV(
    CMIMEncoder(max_iter=50, random_state=0),
    {"n_components": widths},
    cv=ShuffleSplit(1, test_size=200, random_state=0),
    refit=False,
)
search.fit(houses)
nats = pd.Series(search.cv_results_["mean_test_score"], widths)
print(f"best: {search.best_params_}")

# %%
# Had we known the prices: R2 of a linear model on the features, and on the code itself.

rows, held_out = train_test_split(houses.index, test_size=0.3, random_state=0)
r2 = pd.DataFrame(index=widths, columns=["default features", "code"], dtype=float)
for width in widths:
    encoder = CMIMEncoder(width, max_iter=50, random_state=0).fit(houses)
    for name, embedding in {"default features": "layers", "code": "mean"}.items():
        Z = encoder.set_params(embedding=embedding).transform(houses)
        probe = RidgeCV(np.logspace(-3, 3, 7)).fit(Z[rows], price[rows])
        r2.loc[width, name] = probe.score(Z[held_out], price[held_out])
print(r2.assign(nats=nats).rename_axis("n_components").round(3).to_string())

# %%
# Both against the width.

figure, axes = plt.subplots(2, 1, figsize=(6.5, 6.4), sharex=True, layout="constrained")
axes[0].plot(nats, "s-", color="#0072B2")
axes[0].set(title="without labels", ylabel="log-likelihood of rows held out, nats")
axes[1].plot(r2["default features"], "o-", color="#009E73", label="default features (1,024)")
axes[1].plot(r2["code"], "D--", color="#E69F00", label='the code (embedding="mean")')
axes[1].set(title="with labels: price", ylabel="R2 of a linear model")
axes[1].legend()
axes[1].set(xlabel="n_components", xscale="log")
axes[1].set_xticks(widths, widths)
axes[1].minorticks_off()
plt.show()
