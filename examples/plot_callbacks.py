"""
Callbacks: an end of your own
=============================

A callback of skorch is called at every iteration, and may end the training.
"""

# %%
# A callback that raises ``KeyboardInterrupt`` ends the training, and the weights so far are kept:
# here once the codes carry four nats per row.

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine
from skorch.callbacks import Callback

from sklearn_vae import VAETransformer

X = load_wine().data


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

fig, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
ax.plot(range(1, ended.n_iter_ + 1), [record["kl_loss"] for record in ended.history_])
ax.axhline(4.0, color="gray", ls="--")
ax.set(xlabel="iteration", ylabel="KL in nats per row")
plt.show()
print(f"ended after {ended.n_iter_} of 60 iterations")
