"""
Choose the number of components without labels
==============================================

This example shows how to choose ``n_components`` by the log-likelihood of held-out rows, which
needs no labels, and checks the choice with labels. The log-likelihood increases from -36.35 nats
per row with 2 components to -34.91 with 8, and is flat from there (-35.02 with 32). For the
default features the choice matters little: a linear model of prices has an R2 of 0.744 with 2
components and 0.753 with 32. The latent code itself improves further, from 0.62 with 8 components
to 0.74 with 32.
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
# Block groups of California. Their price is not used for the choice, only to evaluate it.

houses = pd.read_csv(HERE / "data" / "california_housing.csv")
houses = houses.sample(2000, random_state=0).reset_index(drop=True)
price = np.log(houses.pop("median_house_value"))

# %%
# ``score`` is the mean log-likelihood of rows in nats, so the search needs no ``y``.

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
# Evaluation with prices: R2 of a linear model on the default features and on the latent code.

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
# Both measures by number of components.

figure, axes = plt.subplots(2, 1, figsize=(6.5, 6.4), sharex=True, layout="constrained")
axes[0].plot(nats, "s-", color="#0072B2")
axes[0].set(title="without labels", ylabel="held-out log-likelihood, nats")
axes[1].plot(r2["default features"], "o-", color="#009E73", label="default features (1,024)")
axes[1].plot(r2["code"], "D--", color="#E69F00", label='latent code (embedding="mean")')
axes[1].set(title="with labels (price)", ylabel="R2 of a linear model")
axes[1].legend()
axes[1].set(xlabel="n_components", xscale="log")
axes[1].set_xticks(widths, widths)
axes[1].minorticks_off()
plt.show()
