"""
Uncertainty of an ensemble
==========================

Several models of the same rows agree where there are training rows and disagree elsewhere.
:func:`~sklearn_vae.metrics.decompose_uncertainty` measures their disagreement, in nats.
"""

# %%
# 200 points along a parabola, and five members that are trained together from different initial
# weights. ``score_samples`` is the logarithm of the mean of their densities.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_vae import VAETransformer
from sklearn_vae.metrics import decompose_uncertainty

rng = np.random.default_rng(0)
a = rng.normal(size=200)
X = np.stack([a, a**2 + 0.3 * rng.normal(size=200)], axis=1)
vae = VAETransformer(n_components=2, n_init=5, ensemble=True, random_state=0).fit(X)

# %%
# Left, the disagreement of the members over the plane: the logarithm of their mean density minus
# the mean of their log-densities, the *epistemic* part of the score. It is 0 where they agree, and
# grows with the distance to the points. Right, the score. A low score with little disagreement is a
# row that all members find unlikely; with much disagreement, the members do not know. The colours
# end at one nat of disagreement.

x, y = np.meshgrid(np.linspace(-4, 4, 21), np.linspace(-2, 10, 21))
grid = np.stack([x.ravel(), y.ravel()], axis=1)
parts = decompose_uncertainty(vae, grid)
panels = {
    "disagreement (nats)": (parts.epistemic.clip(0, 1), "Reds"),
    "score: log p(x) (nats)": ((parts.expected + parts.epistemic).clip(-15), "Blues"),
}

fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.8), layout="constrained", sharey=True)
for ax, (title, (values, cmap)) in zip(axes, panels.items(), strict=True):
    image = ax.pcolormesh(x, y, values.reshape(x.shape), cmap=cmap, shading="gouraud")
    ax.plot(*X.T, ".", color="black", markersize=3)
    ax.set_title(title)
    ax.set(xlim=(-4, 4), ylim=(-2, 10))
    fig.colorbar(image, ax=ax)
plt.show()

at_rows = decompose_uncertainty(vae, X).epistemic
print(f"disagreement: median {np.median(at_rows):.2f} nats at the points, ", end="")
print(f"{np.median(parts.epistemic):.2f} over the plane")
