"""
Comparison with PCA
===================

PCA has a density, too: probabilistic PCA. It is the model at which a VAE starts, so the difference
of the two scores is what the neural networks add.
"""

# %%
# Held-out log p(x) of two tables by the number of components, for PCA and
# :class:`~sklearn_vae.VAETransformer`. ``PCA.score`` is the log-density of probabilistic PCA; the
# columns are standardized for it, and the constant converts its nats to those of the table's units.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sklearn_vae import VAETransformer

components = [1, 2, 4, 8]
tables = {"wine": load_wine, "breast cancer": load_breast_cancer}
fig, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
for ax, (name, load) in zip(axes, tables.items(), strict=True):
    train, test = train_test_split(load().data, random_state=0)
    scaler = StandardScaler().fit(train)
    constant = np.log(scaler.scale_).sum()
    pca_scores = [
        PCA(k).fit(scaler.transform(train)).score(scaler.transform(test)) - constant
        for k in components
    ]
    vae_scores = [VAETransformer(k, random_state=0).fit(train).score(test) for k in components]
    ax.plot(components, pca_scores, "o-", color="C1", label="PCA")
    ax.plot(components, vae_scores, "o-", color="C0", label="VAETransformer")
    ax.set(title=name, xlabel="components", xticks=components)
    gain = max(vae_scores) - max(pca_scores)
    print(f"{name:13} best VAE minus best PCA: {gain:+.2f} nats per row")
axes[0].set_ylabel("held-out log p(x), nats per row")
axes[0].legend(frameon=False)
plt.show()
