"""
What each latent dimension says
===============================

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
frugal = VAETransformer(n_components=10, beta=4.0, random_state=0).fit(X)

fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for shift, model in {-0.2: vae, 0.2: frugal}.items():
    kl = np.sort(kl_per_dimension(model, X))[::-1]
    label = f"beta={model.beta:g}: {active_units(model, X).sum()} active, {kl.sum():.1f} nats"
    ax.bar(np.arange(10) + shift, kl, width=0.4, label=label)
ax.set(xlabel="latent dimension, sorted", ylabel="KL (nats)", xticks=range(10))
ax.legend(frameon=False)
plt.show()

# %%
# What does it say?
# -----------------
# Each row of pictures walks along one dimension, from the codes that few images go below to those
# that few exceed, and holds the others where the code of one image is, a three.

TraversalDisplay.from_estimator(vae, X, row=3, image_shape=(8, 8), cmap="gray_r")
plt.show()

# %%
# With a high price, a dimension that is used is worth much: it changes more of the image. The last
# one has fallen silent. All images have one code there, so nothing changes.

kl = kl_per_dimension(frugal, X)
shown = [*np.argsort(-kl)[:4], np.argmin(kl)]
TraversalDisplay.from_estimator(
    frugal, X, row=3, components=shown, image_shape=(8, 8), cmap="gray_r"
)
plt.show()
