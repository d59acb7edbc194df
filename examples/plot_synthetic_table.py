"""
Synthetic rows of a mixed table
===============================

:class:`~sklearn_vae.VAEDensity` is fitted to a data frame with numbers, integers and a category.
Its samples have the same columns, dtypes, bounds and recording steps.
"""

# %%
# Fit and sample
# --------------
# scikit-learn's diabetes table in its original units: ages are whole years, sex is a category.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_score, train_test_split

from sklearn_vae import VAEDensity

table = load_diabetes(as_frame=True, scaled=False).frame[["age", "sex", "bmi", "bp", "target"]]
table["age"] = table["age"].astype(int)
table["sex"] = table["sex"].map({1.0: "a", 2.0: "b"}).astype("category")
train, test = train_test_split(table, random_state=0)

density = VAEDensity(max_iter=20, random_state=0).fit(train)
samples = density.sample(len(train), random_state=0)
print(samples.head())

# %%
# Compare with real rows
# ----------------------
# Real and synthetic rows, for each pair of numeric columns, and the histograms of the columns.

names = ["age", "bmi", "target"]
tables = {"real": train, "synthetic": samples}
fig, axes = plt.subplots(3, 3, figsize=(6.4, 6.4), layout="constrained")
for i, below in enumerate(names):
    for j, left in enumerate(names):
        ax = axes[i, j]
        for label, rows in tables.items():
            if i == j:
                ax.hist(rows[left], bins=20, histtype="step", density=True, label=label, lw=1.5)
            else:
                ax.plot(rows[left], rows[below], ".", markersize=3, alpha=0.7)
        ax.set_yticks([])
        ax.set_xticks([])
        if i == 2:
            ax.set_xlabel(left)
        if j == 0:
            ax.set_ylabel(below)
axes[0, 0].legend(frameon=False, fontsize="small")
plt.show()

# %%
# A classifier that cannot separate synthetic from real rows has an AUC of 0.5.

both = pd.concat([train, samples])
is_sample = np.repeat([0, 1], len(train))
judge = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
auc = cross_val_score(judge, both, is_sample, cv=5, scoring="roc_auc").mean()
print(f"AUC {auc:.2f}")
