"""
Rows of a given class
=====================

With ``conditional=True``, :class:`~sklearn_vae.VAETransformer` fits p(x|y): it samples rows of a
class, and scores a row within each class.
"""

# %%
# Wines of three cultivars, and 200 samples given each cultivar. Dots are real wines; the lines
# contain about half and nine tenths of the samples.

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import gaussian_kde
from sklearn.datasets import load_wine

from sklearn_vae import VAETransformer

X, y = load_wine(as_frame=True, return_X_y=True)
vae = VAETransformer(n_components=2, conditional=True, random_state=0).fit(X, y)
samples = {label: vae.sample(200, y=label, random_state=0) for label in range(3)}

names = ["flavanoids", "color_intensity"]
grid = np.stack(np.meshgrid(np.linspace(0, 5.5, 80), np.linspace(0, 14, 80)))
fig, ax = plt.subplots(figsize=(5.8, 4.2), layout="constrained")
for label, rows in samples.items():
    points = rows[names].to_numpy().T
    kde = gaussian_kde(points)
    levels = np.quantile(kde(points), [0.1, 0.5])
    ax.contour(*grid, kde(grid.reshape(2, -1)).reshape(80, 80), levels, colors=f"C{label}")
    ax.scatter(*X[y == label][names].to_numpy().T, s=14, color=f"C{label}", label=f"class {label}")
ax.set(xlabel="flavanoids", ylabel="color intensity", title="real wines, and density of samples")
ax.legend(frameon=False)
plt.show()

# %%
# The samples are rows of all 13 columns. Their means, and those of the real wines:

for label, rows in samples.items():
    real = X[y == label]
    means = ", ".join(f"{name} {rows[name].mean():.2f} ({real[name].mean():.2f})" for name in names)
    print(f"class {label}: {means}")

# %%
# ``score_samples(X, y)`` is log p(x|y). A wine scores highest in its own class nearly always; these
# are training rows. :class:`~sklearn_vae.VAEClassifier` classifies new rows by these scores.

scores = np.stack([vae.score_samples(X, np.full(len(X), label)) for label in range(3)])
print(f"highest in the own class: {(scores.argmax(axis=0) == y).mean():.1%} of the wines")
