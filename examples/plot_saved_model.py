"""
A saved model without PyTorch
=============================

A model is saved to a file, and read by a module that needs no PyTorch: its codes and scores are
those of the estimator.
"""

# %%
# Save and load
# -------------
# ``save`` writes data only: JSON and arrays, no code. ``sklearn_vae.load`` reads the estimator, and
# ``sklearn_vae.runtime.load`` a model that computes with numpy alone.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine

from sklearn_vae import VAETransformer, runtime

X, y = load_wine(return_X_y=True)
vae = VAETransformer(n_components=2, random_state=0).fit(X[y < 2])

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "wine.vae")
    vae.save(path)
    print(f"{path.stat().st_size / 1024:.0f} kB")
    model = runtime.load(path)

print(f"largest difference of a code: {np.abs(model.transform(X) - vae.transform(X)).max():.0e}")

# %%
# Scores
# ------
# The model was fitted to two of three cultivars; the third one scores low. Both scores estimate
# log p(x) by the same draws, from Laplace approximations of the posterior and from the prior.

expected, scores = vae.score_samples(X), model.score_samples(X)

fig, ax = plt.subplots(figsize=(4.8, 4.1), layout="constrained")
for label, rows in {"known cultivars": y < 2, "unknown cultivar": y == 2}.items():
    ax.scatter(expected[rows], scores[rows], s=18, alpha=0.8, label=label)
ends = [min(expected.min(), scores.min()), max(expected.max(), scores.max())]
ax.plot(ends, ends, color="gray", lw=1, zorder=0)
ax.set(xlabel="log p(x) by the estimator (nats)", ylabel="by the file, without PyTorch")
ax.legend(frameon=False)
plt.show()

# %%
# The module needs no PyTorch, so the model fits a small container;
# ``benchmarks/runtime.py`` measures its import and its calls.

for name, rows in {"known": y < 2, "unknown": y == 2}.items():
    error = np.abs(scores - expected)[rows]
    print(f"{name:8} largest difference {error.max():.0e} nats")
