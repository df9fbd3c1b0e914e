"""
Draw a map of a mixed table
===========================

This example shows how to draw the rows of a mixed table as points on a map, and how to read it.
With ``n_components=2, embedding="mean"``, each of 2,000 block groups of California becomes one
point. One diagonal orders them by size: a linear model predicts the rank by households with an R2
of 0.94. The other direction separates regions: a linear classifier finds the region with accuracy
0.56 (majority class 0.43).
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.linear_model import LinearRegression, LogisticRegression

from cmim_sklearn import CMIMEncoder
from cmim_sklearn.display import LatentSpaceDisplay

HERE = Path(__file__).parent if "__file__" in globals() else Path()

# %%
# The table without the prices.

houses = pd.read_csv(HERE / "data" / "california_housing.csv")[:2000]
houses = houses.drop(columns="median_house_value").astype({"ocean_proximity": "category"})

# %%
# A latent code of two components can be plotted directly.

encoder = CMIMEncoder(n_components=2, embedding="mean", max_iter=100, random_state=0)
z = encoder.fit_transform(houses)

# %%
# Linear models show how well the position on the map predicts the rank by number of households
# and the region.

size, region = houses["households"].rank(), houses["ocean_proximity"]
r2 = LinearRegression().fit(z, size).score(z, size)
accuracy = LogisticRegression().fit(z, region).score(z, region)
majority = region.value_counts(normalize=True).max()
print(f"rank by households: R2 {r2:.2f}")
print(f"ocean_proximity: accuracy {accuracy:.2f}; majority class {majority:.2f}")

# %%
# The points, coloured by a number and by a category. The last panel also shows the latitude that
# the decoder predicts at each position; far from the points it extrapolates.

figure, axes = plt.subplots(3, 1, figsize=(7, 12), layout="constrained")
for axis, column, grid in [
    (axes[0], "households", False),
    (axes[1], "ocean_proximity", False),
    (axes[2], "latitude", True),
]:
    LatentSpaceDisplay.from_estimator(encoder, houses, color=column, grid=grid, ax=axis)
figure.suptitle("latent codes of 2,000 block groups of California")
plt.show()
