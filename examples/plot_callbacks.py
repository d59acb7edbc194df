"""
Callbacks: progress, scores and an end of your own
==================================================

Callbacks of scikit-learn show the progress of a fit and record a score at every iteration; one of
skorch ends the training.
"""

# %%
# Progress and scores
# -------------------
# From scikit-learn 1.9 on, ``ProgressBar`` shows a bar with the time left for a fit, and one for
# each level of a pipeline or a search; it needs ``rich``. ``ScoringMonitor`` computes a score after
# every iteration, here log p(x). ``verbose=True`` would print the losses.

import matplotlib.pyplot as plt
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_wine
from skorch.callbacks import Callback

from sklearn_vae import VAETransformer

X = load_wine().data


def mean_log_density(estimator, X, y):
    return estimator.score(X, y)


monitor = ScoringMonitor(scoring={"log_density": mean_log_density})
vae = VAETransformer(n_components=2, early_stopping=False, max_iter=60, random_state=0)
vae.set_callbacks(ProgressBar(), monitor).fit(X)
records = [record for record in monitor.get_logs().data if record["task_name"] == "iteration"]

fig, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
ax.plot([record["log_density"] for record in records], label="log p(x), by ScoringMonitor")
ax.plot([-record["loss"] for record in vae.history_], label="ELBO, from history_")
ax.set(xlabel="iteration", ylabel="nats per row")
ax.legend(frameon=False)
plt.show()

# %%
# The ELBO is a lower bound of log p(x), and the average of an iteration in which weights change.
#
# An end of your own
# ------------------
# A callback that raises ``KeyboardInterrupt`` ends the training, and the weights so far are kept:
# here once the codes carry four nats per row.


class EndAtKL(Callback):
    def __init__(self, nats):
        self.nats = nats

    def on_epoch_end(self, net, **kwargs):
        if net.history[-1]["kl_loss"] >= self.nats:
            raise KeyboardInterrupt


ended = VAETransformer(
    n_components=2,
    early_stopping=False,
    max_iter=60,
    callbacks=[EndAtKL(4.0)],
    random_state=0,
).fit(X)
print(f"ended after {ended.n_iter_} of 60 iterations")
