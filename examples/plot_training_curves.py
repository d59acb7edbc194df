"""
How training went
=================

The loss, its two parts, and what early stopping, the second run and warm-up do to them.
"""

# %%
# Two runs
# --------
# A fit sets rows aside (``validation_fraction``) and trains on the others until those that were
# set aside no longer gain: they show when learning turns into learning by heart. Then it begins
# afresh, on all rows, and goes the same way: right of the dotted line. The loss is the sum of its
# parts, all in nats per row.

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from sklearn_vae import VAETransformer
from sklearn_vae.inspection import LossCurveDisplay
from sklearn_vae.objectives import LinearWarmup

X = load_digits().data
vae = VAETransformer(n_components=8, random_state=0).fit(X)
LossCurveDisplay.from_estimator(vae)
plt.show()

# %%
# The first point is no accident: training starts at probabilistic PCA, so even the first
# iterations are those of a usable model. Where the loss jumps, training goes back to the best
# weights so far, and on with a smaller step.
#
# Without stopping
# ----------------
# Here training goes on, whatever the validation rows say. The loss of the training rows falls and
# falls; that of the others, which is what the model is worth, turns and rises. After one half and
# three quarters of the iterations the step falls at the latest, and training goes back.

few = X[:400]
endless = VAETransformer(
    n_components=8, n_iter_no_change=200, weight_decay=0.0, refit=False, random_state=0
).fit(few)
display = LossCurveDisplay.from_estimator(endless, terms="loss")
best = min(endless.history_, key=lambda record: record["val_loss"])
display.axes_[0].plot(best["iteration"], best["val_loss"], "ko", label="kept")
display.axes_[0].legend(frameon=False)
plt.show()

# %%
# The weights that are kept are those of the black point. With ``n_iter_no_change`` as it is by
# default, each stage ends ten iterations after its best.
#
# Warm-up
# -------
# The KL is the price of a code that says something. In the first iterations the decoder cannot yet
# use what codes say, and to say nothing is cheapest. ``LinearWarmup`` lets the price rise: at first
# codes say what they like (a large KL), then only what is worth its price.

fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for schedule, name in [(1.0, "beta=1"), (LinearWarmup(beta=1.0, n_iter=30), "warm-up over 30")]:
    model = VAETransformer(n_components=8, beta=schedule, refit=False, random_state=0).fit(X)
    best = min(record["val_loss"] for record in model.history_)
    for ax, term in zip(axes, ["reconstruction_loss", "kl_loss"], strict=True):
        values = [record[term] for record in model.history_]
        ax.plot(range(1, len(values) + 1), values, label=f"{name}: {best:.1f}")
        ax.set(title=term, xlabel="iteration", ylabel="nats per row")
axes[1].legend(frameon=False, title="least loss of validation rows")
plt.show()

# %%
# Networks that start at random may need this. Here training starts at a model whose codes are in
# use, and both ways come to about the same KL; on these rows warm-up gains nothing.
