"""
Loss curves: early stopping, refit and warm-up
==============================================

The loss and its two terms during training, with early stopping, without it, and with warm-up.
"""

# %%
# Training, early stopping and refit
# ----------------------------------
# A fit holds out validation rows (``validation_fraction``) and trains on the others until the
# validation loss no longer falls. Right of the dotted line it trains on all rows: the best weights
# further or, where fewer than 20 iterations led to them, as here, anew. The loss is the sum of its
# terms, in nats per row.

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from sklearn_vae import VAETransformer
from sklearn_vae.inspection import LossCurveDisplay
from sklearn_vae.objectives import LinearWarmup

X = load_digits().data
vae = VAETransformer(n_components=8, random_state=0).fit(X)
LossCurveDisplay.from_estimator(vae)
for ax in plt.gcf().axes[:2]:
    ax.set_ylim(60, 120)
plt.show()

# %%
# Training is initialized at probabilistic PCA, so the validation loss is low from the first
# iteration. The training loss of an iteration is that of its steps; those of the first one are
# above the picture. It jumps where training returns to the best weights so far and continues with a
# smaller learning rate.
#
# Overfitting without early stopping
# ----------------------------------
# Here training continues although the validation loss increases. The training loss keeps falling.
# After one half and three quarters of the iterations at the latest, the learning rate is reduced,
# and training returns to the best weights.

few = X[:400]
endless = VAETransformer(
    n_components=8, n_iter_no_change=200, weight_decay=0.0, refit=False, random_state=0
).fit(few)
fig, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
LossCurveDisplay.from_estimator(endless, ax=ax)
best = min(endless.history_, key=lambda record: record["val_loss"])
ax.plot(best["iteration"], best["val_loss"], "ko", label="best weights, kept")
ax.legend(loc="center right", bbox_to_anchor=(1, 0.35), frameon=False)
plt.show()

# %%
# The weights at the black point are kept. With the default ``n_iter_no_change``, the first stage
# ends eight iterations after its best one, and later ones four.
#
# Warm-up
# -------
# In the first iterations the decoder cannot yet use the codes, so a KL of zero has the lowest
# loss. ``LinearWarmup`` increases the weight of the KL during training: codes are informative at
# first (a large KL), and later keep the information that reduces the reconstruction loss enough.

fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for schedule, name in [(1.0, "beta=1"), (LinearWarmup(beta=1.0, n_iter=30), "warm-up over 30")]:
    model = VAETransformer(n_components=8, beta=schedule, refit=False, random_state=0).fit(X)
    best = min(record["val_loss"] for record in model.history_)
    for ax, term in zip(axes, ["reconstruction_loss", "kl_loss"], strict=True):
        values = [record[term] for record in model.history_]
        ax.plot(range(1, len(values) + 1), values, label=f"{name}: {best:.1f}")
        ax.set(title=term, xlabel="iteration", ylabel="nats per row")
axes[1].legend(frameon=False, title="lowest validation loss")
plt.show()

# %%
# Randomly initialized networks may need warm-up. Here the initial codes are informative, and both
# trainings end at about the same KL; on these rows warm-up gains nothing.
