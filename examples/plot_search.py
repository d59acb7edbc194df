"""
Grid search over latent size and beta
=====================================

The score of a VAE is a held-out log-density, so a grid search compares latent sizes and values of
``beta`` without a scorer. :class:`~sklearn_vae.model_selection.VAESearchCV` trains all candidates
and folds together.
"""

# %%
# Each cell of the heat map is the mean score of one candidate over the validation folds, in nats
# per row. The frame marks the best candidate.

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.model_selection import KFold

from sklearn_vae import VAETransformer
from sklearn_vae.model_selection import VAESearchCV

X = load_wine().data
search = VAESearchCV(
    VAETransformer(hidden_layer_sizes=(32,), refit=False, random_state=0),
    {"n_components": [1, 2, 4, 8], "beta": [0.5, 1.0, 2.0, 4.0]},
    cv=KFold(3, shuffle=True, random_state=0),  # the rows are sorted by cultivar
).fit(X)
print(search.best_params_)

results = pd.DataFrame(search.cv_results_)
grid = results.pivot(index="param_beta", columns="param_n_components", values="mean_test_score")

fig, ax = plt.subplots(figsize=(5.4, 3.8), layout="constrained")
image = ax.imshow(grid, cmap="viridis", aspect="auto")
for row, scores in enumerate(grid.to_numpy()):
    for column, score in enumerate(scores):
        color = "black" if score > grid.to_numpy().mean() else "white"
        ax.text(column, row, f"{score:.1f}", ha="center", va="center", color=color)
column = grid.columns.get_loc(search.best_params_["n_components"])
row = grid.index.get_loc(search.best_params_["beta"])
frame = plt.Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, fill=False, edgecolor="red", lw=3)
ax.add_patch(frame)
ax.set(
    xticks=range(grid.shape[1]),
    xticklabels=grid.columns,
    yticks=range(grid.shape[0]),
    yticklabels=grid.index,
    xlabel="n_components",
    ylabel="beta",
)
fig.colorbar(image, label="held-out log p(x), nats per row")
plt.show()

# %%
# With ``beta=0.5`` the score decreases with the latent size: large models overfit this table of 178
# rows. With ``beta=2`` large models have the highest scores.
