"""
Convolutions on images
======================

Discs anywhere on an image: convolutions share their weights over positions, fully connected layers
learn every position anew.
"""

# %%
# 1,000 images of 16 × 16 pixels with one disc of random position and size, and some noise. Both
# models have three components, as many as a disc has numbers.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_vae import VAETransformer
from sklearn_vae.inspection import ReconstructionDisplay
from sklearn_vae.networks import ConvNet

rng = np.random.default_rng(0)
row, column = np.mgrid[:16, :16]


def discs(n):
    center, radius = rng.uniform(4, 12, (2, n, 1, 1)), rng.uniform(1.5, 3.5, (n, 1, 1))
    distance = np.hypot(row - center[0], column - center[1])
    disc = np.clip(radius - distance + 0.5, 0, 1)
    return (disc + rng.normal(scale=0.05, size=disc.shape)).reshape(n, -1).astype(np.float32)


X_train, X_new = discs(1000), discs(100)
options = {"n_components": 3, "max_iter": 15, "refit": False, "n_init": 1, "random_state": 0}
network = ConvNet(image_shape=(16, 16), channels=(8, 16))
models = {
    "fully connected": VAETransformer(**options),
    "convolutions": VAETransformer(network=network, hidden_layer_sizes=(64,), **options),
}

# %%
# New images, and their reconstructions from three numbers.

fig, axes = plt.subplots(2, 1, figsize=(8, 4.2), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    display = ReconstructionDisplay.from_estimator(
        model.fit(X_train), X_new, image_shape=(16, 16), ax=ax, cmap="gray_r", vmin=0, vmax=1
    )
    error = np.square(display.X_reconstructed - X_new).mean()
    score = model.score(X_new)
    title = f"{name}: {score:.0f} nats per image, mean squared error {error:.4f}"
    ax.set_title(title, loc="left", fontsize="medium")
plt.show()
