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
from sklearn_vae.inspection import TraversalDisplay
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
TraversalDisplay.from_estimator(vae, X, row=3, image_shape=(8, 8), cmap="gray_r")
plt.show()

# %%
# With a larger ``beta``, each active dimension changes more of the image. The last row is a
# collapsed dimension: all images have the same code there, and the decoder ignores it.

kl = kl_per_dimension(strict, X)
components = [*np.argsort(-kl)[:4], np.argmin(kl)]
TraversalDisplay.from_estimator(
    strict, X, row=3, components=components, image_shape=(8, 8), cmap="gray_r"
)
plt.show()
