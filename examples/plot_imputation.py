"""
Imputation with intervals
=========================

Missing values are drawn from their conditional distribution given the other values of the row, so
each has an interval and not only a best guess.
"""

# %%
# scikit-learn's diabetes table in its original units, with 30 % of all values hidden, except in the
# last column.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

from sklearn_vae import VAEImputer

whole = load_diabetes(as_frame=True, scaled=False).frame
hidden = np.random.default_rng(0).random(whole.shape) < 0.3
hidden[:, -1] = False
table = whole.mask(hidden)

draws = VAEImputer(n_imputations=100, random_state=0).fit_transform(table)  # 100 tables

# %%
# Each line is the 90 % interval of a hidden body mass index: from the 5th to the 95th percentile of
# its 100 draws. The dots are the true values, red where the interval misses them. The intervals
# differ in length and position, as they depend on the row.

is_missing = hidden[:, 2]
bmi = np.array([draw["bmi"] for draw in draws])[:, is_missing]
true = whole["bmi"].to_numpy()[is_missing]
lower, median, upper = np.percentile(bmi, [5, 50, 95], axis=0)
order = np.argsort(median)
covered = (lower <= true) & (true <= upper)

fig, ax = plt.subplots(figsize=(6.6, 4.2), layout="constrained")
places = np.arange(len(order))
ax.vlines(places, lower[order], upper[order], color="C0", alpha=0.35, lw=3)
ax.plot(places, median[order], color="C0", label="median and 90 % interval of the draws")
color = np.where(covered, "black", "red")[order]
ax.scatter(places, true[order], s=12, c=color, zorder=3, label="true value, red outside")
ax.axhline(table["bmi"].mean(), color="gray", ls="--", lw=1, label="mean of the column")
ax.set(xlabel="rows without a body mass index, by the median", ylabel="body mass index")
ax.legend(frameon=False)
plt.show()

# %%
# Fewer than nine intervals of ten cover the true value. Held-out cells widen the draws of columns
# that are read as normal; the body mass index is read as log-normal.

error = np.abs(median - true).mean()
of_mean = np.abs(table["bmi"].mean() - true).mean()
print(f"covered: {covered.mean():.0%}")
print(f"mean absolute error: {error:.2f}, of the column's mean {of_mean:.2f}")
