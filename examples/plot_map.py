"""
A map of a mixed table
======================

Two latent components, ``n_components=2, embedding="mean"``, lay 2,000 block groups of California
out by size along one diagonal: a linear model reads their rank by households off the map with an R2
of 0.94. Across it they lie by place, in bands, which straight lines part less well: 0.56 are right,
where the commonest place is so for 0.43.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.linear_model import LinearRegression, LogisticRegression

from cmim_sklearn import CMIMEncoder
from cmim_sklearn.display import LatentSpaceDisplay

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
# How much of a row can be read off its place by straight lines? Its size, by rank, and its place.

size, place = houses["households"].rank(), houses["ocean_proximity"]
r2 = LinearRegression().fit(z, size).score(z, size)
right = LogisticRegression().fit(z, place).score(z, place)
common = place.value_counts(normalize=True).max()
print(f"rank by households: R2 {r2:.2f}")
print(f"ocean_proximity: {right:.2f} right; the commonest level is so for {common:.2f}")

# %%
# The same points, coloured by a number and by the category; and, below the points, what the decoder
# makes of each place of the map. Beyond the points that is a guess.

figure, axes = plt.subplots(3, 1, figsize=(7, 12), layout="constrained")
for axis, column, grid in [
    (axes[0], "households", False),
    (axes[1], "ocean_proximity", False),
    (axes[2], "latitude", True),
]:
    LatentSpaceDisplay.from_estimator(encoder, houses, color=column, grid=grid, ax=axis)
figure.suptitle("2,000 block groups of California by their codes")
plt.show()
