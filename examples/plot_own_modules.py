"""
Own modules as encoder and decoder
==================================

Encoder and decoder can be any :class:`torch.nn.Module`. Here they are networks with a sine as
activation function, which :class:`~sklearn_vae.VAETransformer` does not have.
"""

# %%
# The module is a class that takes the widths of its input and output. It need not know what the
# numbers mean: the estimator encodes the columns, and makes distributions of the output.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import make_moons
from torch import nn

from sklearn_vae import VAETransformer
from sklearn_vae.networks import CustomNetwork


class Sine(nn.Module):
    def __init__(self, n_in, n_out, width=32):
        super().__init__()
        self.first = nn.Linear(n_in, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, n_out)

    def forward(self, x):
        return self.last(torch.sin(self.second(torch.sin(2 * self.first(x)))))


X, _ = make_moons(800, noise=0.08, random_state=0)
X_train, X_test = X[:500], X[500:]
options = {"n_components": 2, "refit": False, "random_state": 0}
models = {
    "own modules": VAETransformer(network=CustomNetwork(Sine, Sine), **options),
    "default networks": VAETransformer(**options),
}

# %%
# log p(x) over the plane, the darker the higher, with some training rows. The titles have the mean
# score of held-out rows. ``encoder=partial(Sine, width=64)`` would set the width.

x, y = np.meshgrid(np.linspace(-1.6, 2.6, 36), np.linspace(-1.1, 1.6, 36))
grid = np.stack([x.ravel(), y.ravel()], axis=1)
fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.6), layout="constrained", sharey=True)
for ax, (name, model) in zip(axes, models.items(), strict=True):
    score = model.fit(X_train).score(X_test)
    density = model.score_samples(grid).reshape(x.shape)
    ax.pcolormesh(x, y, density.clip(-6), cmap="Blues", shading="gouraud")
    ax.plot(*X_train[:250].T, ".", color="black", markersize=3)
    ax.set_title(f"{name}: {score:.2f} nats per row")
plt.show()

# %%
# Own modules start at probabilistic PCA, as the default ones do, and are trained by autograd, which
# takes longer. For densities of few columns, :class:`~sklearn_vae.VAEDensity` is better than both.
