"""
Interpolation between images
============================

A mixture of the pixels of two images shows both images at once. A mixture of their codes decodes
to a new image between them.
"""

# %%
# The model has ten latent dimensions. ``interpolate`` decodes codes on the straight line between
# the codes of two images. Grey levels are whole numbers; each is spread over its unit, so that
# images between two others, whose levels are no whole numbers, have a density too.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from sklearn_vae import VAETransformer
from sklearn_vae.inspection import ReconstructionDisplay

X, y = load_digits(return_X_y=True)
X = X + np.random.default_rng(0).uniform(size=X.shape)
vae = VAETransformer(n_components=10, random_state=0).fit(X)

n_steps = 9
weight = np.linspace(0, 1, n_steps)[:, None]


def first(digit):
    """The first image of this digit."""
    return X[y == digit][0]


def mixed(start, end):
    """Weighted means of pixels: (n_steps, 64)."""
    return (1 - weight) * start + weight * end


# %%
# The upper row of each pair interpolates pixels, the lower one codes.

pairs = [(0, 6), (1, 4), (3, 8)]
fig, axes = plt.subplots(len(pairs), 1, figsize=(7, 5.6), layout="constrained")
for ax, (start, end) in zip(axes, pairs, strict=True):
    ReconstructionDisplay(
        X=mixed(first(start), first(end)),
        X_reconstructed=vae.interpolate(first(start), first(end), n_steps),
        image_shape=(8, 8),
    ).plot(ax, cmap="gray_r")
    ax.set_yticks([0, 1], ["pixels mixed", "codes mixed"])
    ax.set_title(f"from {start} to {end}", loc="left", fontsize="medium")
plt.show()

# %%
# ``score_samples`` is log p(x) in nats. Mixtures of pixels have low scores in the middle, where
# two digits overlap. Both interpolations are between decoded images, because these are smoother
# than real ones and have higher scores for that reason alone.

nats = {"pixels": [], "codes": []}
rng = np.random.default_rng(0)
for start, end in rng.choice(10, size=(60, 2)):
    if start == end:
        continue
    one, other = rng.choice(X[y == start]), rng.choice(X[y == end])
    walk = vae.interpolate(one, other, n_steps)
    nats["codes"].append(vae.score_samples(walk))
    nats["pixels"].append(vae.score_samples(mixed(walk[0], walk[-1])))

fig, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
for name, scores in nats.items():
    ax.plot(weight, np.mean(scores, axis=0), marker="o", label=f"{name} mixed")
ax.set(xlabel="weight of the second digit", ylabel="log p(x) (nats), mean over pairs")
ax.legend(frameon=False)
plt.show()
