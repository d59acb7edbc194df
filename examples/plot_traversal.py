"""
Latent traversals
=================

A traversal varies one latent dimension and keeps the others; the KL measures how much information
each dimension carries.
"""

# %%
# Information per dimension
# -------------------------
# The KL of a dimension is the information that it carries about an image, in nats. With ``beta=1``
# all ten dimensions are active; with ``beta=4`` some collapse to the prior: their codes are 0 for
# every image, and the decoder does not use them.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from sklearn_vae import VAETransformer
from sklearn_vae.metrics import active_units, kl_per_dimension

X, y = load_digits(return_X_y=True)
vae = VAETransformer(n_components=10, random_state=0).fit(X)
strict = VAETransformer(n_components=10, beta=4.0, random_state=0).fit(X)

fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for shift, model in {-0.2: vae, 0.2: strict}.items():
    kl = np.sort(kl_per_dimension(model, X))[::-1]
    label = f"beta={model.beta:g}: {active_units(model, X).sum()} active, {kl.sum():.1f} nats"
    ax.bar(np.arange(10) + shift, kl, width=0.4, label=label)
ax.set(xlabel="latent dimension, sorted", ylabel="KL (nats)", xticks=range(10))
ax.legend(frameon=False)
plt.show()

# %%
# Traversals
# ----------
# Each row of images varies one dimension, between low and high quantiles of the codes. The others
# are fixed at the code of one image, a three.

# sphinx_gallery_thumbnail_number = 2


def draw_traversals(model, components, n_steps=9):
    codes = model.transform(X)
    grid = np.tile(codes[3], (len(components), n_steps, 1))
    quantiles = np.linspace(0.025, 0.975, n_steps)
    for row, component in zip(grid, components, strict=True):
        row[:, component] = np.quantile(codes[:, component], quantiles)
    images = model.inverse_transform(grid.reshape(-1, codes.shape[1]))
    images = images.reshape(*grid.shape[:2], 8, 8)
    tiles = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    rows = tiles.swapaxes(1, 2).reshape(10 * len(components), -1)
    _, ax = plt.subplots(figsize=(7, 0.75 * len(components)), layout="constrained")
    ax.imshow(rows, cmap="gray_r", vmin=0, vmax=16)
    ax.set(xticks=[], yticks=10 * np.arange(len(components)) + 4.5)
    ax.set_yticklabels([f"component {component}" for component in components])
    plt.show()


draw_traversals(vae, np.argsort(-kl_per_dimension(vae, X))[:6])

# %%
# With a larger ``beta``, each active dimension changes more of the image. The last row is a
# collapsed dimension: all images have the same code there, and the decoder ignores it.

kl = kl_per_dimension(strict, X)
draw_traversals(strict, [*np.argsort(-kl)[:4], np.argmin(kl)])
