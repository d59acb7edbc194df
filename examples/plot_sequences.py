"""
Sequences
=========

A recurrent network models a series step by step. Its samples are compared with those of fully
connected layers, which see all steps at once.
"""

# %%
# Noisy oscillations of 24 steps, with random phase and period.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_vae import VAETransformer
from sklearn_vae.networks import GRUNet

rng = np.random.default_rng(0)


def series(n):
    phase, period = rng.uniform(0, 2 * np.pi, (n, 1)), rng.uniform(8, 16, (n, 1))
    signal = np.sin(2 * np.pi * np.arange(24) / period + phase)
    return (signal + 0.1 * rng.normal(size=signal.shape)).astype(np.float32)


X_train, X_new = series(600), series(100)
options = {"n_components": 3, "max_iter": 16, "refit": False, "n_init": 1, "random_state": 0}
network = GRUNet(sequence_shape=(24, 1), n_units=32)
models = {
    "recurrent": VAETransformer(network=network, hidden_layer_sizes=(32,), **options),
    "fully connected": VAETransformer(**options),
}
samples = {"training rows": X_train}
for name, model in models.items():
    model.fit(X_train)
    samples[f"{name}: {model.score(X_new):.1f} nats"] = model.sample(100, random_state=0)

# %%
# Four rows of each, one above the other. Samples of the recurrent network are as smooth as the
# training rows. The titles have the mean score of new rows.

fig, axes = plt.subplots(1, 3, figsize=(8.6, 3.6), layout="constrained", sharey=True)
for ax, (name, rows) in zip(axes, samples.items(), strict=True):
    for place in range(4):
        ax.plot(rows[place] + 3 * place, lw=2, color=f"C{place}")
    ax.set(title=name, xlabel="step", yticks=[])
plt.show()
