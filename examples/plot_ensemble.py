"""
Uncertainty of an ensemble
==========================

Several models of the same rows agree where there are training rows and disagree elsewhere. Their
average is a deep ensemble.
"""

# %%
# 200 points along a parabola, and five models that are trained from different initial weights. An
# ensemble, ``VAETransformer(n_init=5, ensemble=True)``, trains such models together; its score is
# the logarithm of the mean of their densities.

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import logsumexp

from sklearn_vae import VAETransformer

rng = np.random.default_rng(0)
a = rng.normal(size=200)
X = np.stack([a, a**2 + 0.3 * rng.normal(size=200)], axis=1)
models = [VAETransformer(n_components=2, random_state=seed).fit(X) for seed in range(5)]


def disagreement_and_score(rows):
    """Log of the mean density less the mean log-density, and the former."""
    scores = [model.score_samples(rows) for model in models]
    score = logsumexp(scores, axis=0) - np.log(len(models))
    return score - np.mean(scores, axis=0), score


# %%
# Left, the disagreement of the models over the plane, 0 where they agree. It grows with the
# distance to the points. Right, the score. A low score with little disagreement is a row that all
# models find unlikely; with much disagreement, the models do not know. The colours end at one nat
# of disagreement.

x, y = np.meshgrid(np.linspace(-4, 4, 21), np.linspace(-2, 10, 21))
disagreement, score = disagreement_and_score(np.stack([x.ravel(), y.ravel()], axis=1))
panels = {
    "disagreement (nats)": (disagreement.clip(0, 1), "Reds"),
    "score: log p(x) (nats)": (score.clip(-15), "Blues"),
}

fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.8), layout="constrained", sharey=True)
for ax, (title, (values, cmap)) in zip(axes, panels.items(), strict=True):
    image = ax.pcolormesh(x, y, values.reshape(x.shape), cmap=cmap, shading="gouraud")
    ax.plot(*X.T, ".", color="black", markersize=3)
    ax.set_title(title)
    ax.set(xlim=(-4, 4), ylim=(-2, 10))
    fig.colorbar(image, ax=ax)
plt.show()

at_rows, _ = disagreement_and_score(X)
print(f"disagreement: median {np.median(at_rows):.2f} nats at the points, ", end="")
print(f"{np.median(disagreement):.2f} over the plane")
