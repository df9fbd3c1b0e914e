"""
A map of a mixed table
======================

Two latent components lay 2,000 block groups of California out by size along one diagonal and by
place across it: the map is ``n_components=2, embedding="mean"``.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from cmim_sklearn import CMIMEncoder

HERE = Path(__file__).parent if "__file__" in globals() else Path()

# %%
# The table, without its prices.

houses = pd.read_csv(HERE / "data" / "california_housing.csv")[:2000]
houses = houses.drop(columns="median_house_value").astype({"ocean_proximity": "category"})

# %%
# A code of two components is a map as it is.

encoder = CMIMEncoder(n_components=2, embedding="mean", max_iter=100, random_state=0)
z = encoder.fit_transform(houses)

# %%
# The same points, coloured by a number and by the category.

figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharex=True, sharey=True)
size = houses["households"].clip(upper=1500)
points = axes[0].scatter(*z.T, c=size, s=7, cmap="cividis")
figure.colorbar(points, ax=axes[0], label="households (1,500 or more at the top)")
colours = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000"]
for colour, (place, rows) in zip(
    colours, houses.groupby("ocean_proximity", observed=True).groups.items(), strict=False
):
    axes[1].scatter(*z[rows].T, s=7, color=colour, label=place.lower())
axes[1].legend(markerscale=2, fontsize=8)
for axis in axes:
    axis.set(xlabel="component 1", ylabel="component 2")
figure.tight_layout()
plt.show()
