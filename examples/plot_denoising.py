"""
Denoising of curves
===================

Noisy curves are encoded in two numbers and decoded: what two numbers cannot encode is removed. The
family of curves is not linear, so PCA with two components cannot describe it.
"""

# %%
# Each row is a peak at 64 points in time, of random position and width, with noise. The models see
# noisy curves only.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA

from sklearn_vae import VAETransformer

rng = np.random.default_rng(0)
time = np.linspace(0, 1, 64)


def curves(n):
    position, width = rng.uniform(0.25, 0.75, (n, 1)), rng.uniform(0.04, 0.12, (n, 1))
    return np.exp(-0.5 * ((time - position) / width) ** 2)


clean_train, clean = curves(1000), curves(200)
noisy_train, noisy = (Y + rng.normal(scale=0.3, size=Y.shape) for Y in (clean_train, clean))

models = {
    "VAE, 2 components": VAETransformer(n_components=2, random_state=0),
    "PCA, 2 components": PCA(n_components=2),
    "PCA, 8 components": PCA(n_components=8),
}
denoised = {"noisy": noisy}
for name, model in models.items():
    model.fit(noisy_train)
    denoised[name] = model.inverse_transform(model.transform(noisy))
for name, rows in denoised.items():
    print(f"{name:18} mean squared error {np.square(rows - clean).mean():.4f}")

# %%
# Three new curves. PCA with eight components has room for the shapes, and for noise.

fig, axes = plt.subplots(1, 3, figsize=(8.6, 3.1), layout="constrained", sharey=True)
for ax, row in zip(axes, [0, 1, 2], strict=True):
    ax.plot(time, noisy[row], ".", color="silver", label="noisy")
    ax.plot(time, clean[row], color="black", lw=4, alpha=0.3, label="true")
    for color, name in zip(["C0", "C1", "C2"], models, strict=True):
        ax.plot(time, denoised[name][row], color=color, label=name)
    ax.set(xlabel="time")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
plt.show()
