"""
Reconstruction, noise, and missing pixels
=========================================

A code of a few numbers keeps what is typical of an image and loses what is not. That makes it
useful on images that were spoiled.
"""

# %%
# How much comes back?
# --------------------
# Images that the model has not seen, and what comes back of them from twelve numbers; below the
# same for a PCA with as many components. A Gaussian likelihood, which ``"auto"`` takes for the
# pixels, learns how exact each pixel is; with a code that says much, that is better than a
# Poisson's fixed ratio of variance and mean.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from sklearn_vae import VAETransformer
from sklearn_vae.inspection import ReconstructionDisplay

X_train, X_new = train_test_split(load_digits().data, random_state=0)
vae = VAETransformer(n_components=12, random_state=0).fit(X_train)
pca = PCA(n_components=12).fit(X_train)

image = {"image_shape": (8, 8), "cmap": "gray_r", "vmin": 0, "vmax": 16}


def error(images):
    """Mean squared error per pixel."""
    return np.square(images - X_new).mean()


fig, axes = plt.subplots(2, 1, figsize=(9, 4.4), layout="constrained")
for ax, model in zip(axes, [vae, pca], strict=True):
    display = ReconstructionDisplay.from_estimator(model, X_new, ax=ax, **image)
    title = f"{type(model).__name__}: mean squared error {error(display.X_reconstructed):.2f}"
    ax.set_title(title, loc="left", fontsize="medium")
plt.show()

# %%
# Noise
# -----
# Now all images are noisy, those that are learned from as well; no clean one was ever seen. Noise
# is not typical of anything, so a code cannot hold it, and as it is zero on average, the mean of
# p(x|z), which is what comes back, is the image without it.

rng = np.random.default_rng(0)
noisy_train, noisy = (X + rng.normal(scale=4, size=X.shape) for X in (X_train, X_new))
of_noise = VAETransformer(n_components=12, random_state=0).fit(noisy_train)
display = ReconstructionDisplay.from_estimator(of_noise, noisy, X_true=X_new, **image)
before, after = error(noisy), error(display.X_reconstructed)
title = f"mean squared error: {before:.1f} with noise, {after:.1f} after"
display.ax_.set_title(title, loc="left", fontsize="medium")
plt.show()

# %%
# A model of clean images would not do this: in a corner that is white in each of them, it takes
# the least grey for news.
#
# Missing pixels
# --------------
# Half of the pixels of each image are hidden: a NaN is a pixel of which nothing is known.
# ``impute`` finds the codes that go with the others and gives the mean of what the hidden ones may
# be. Known pixels stay as they are.

hidden = np.random.default_rng(1).random(X_new.shape) < 0.5
holes = np.where(hidden, np.nan, X_new)
filled = vae.impute(holes)
means = np.where(hidden, X_train.mean(axis=0), X_new)

display = ReconstructionDisplay.from_predictions(holes, filled, X_true=X_new, **image)
display.ax_.set_yticks(range(3), ["true", "half hidden", "filled"])
share = error(filled) / error(means)
title = f"the columns' means would be {1 / share:.1f} times as far off, in squares"
display.ax_.set_title(title, loc="left", fontsize="medium")
plt.show()

# %%
# With ``n_draws``, ``impute`` draws what the missing pixels may be, given the others. Here the
# lower half of a digit is missing; each column is one of the images that go with the upper half.

half = np.where(np.arange(64) < 32, X_new[:2], np.nan)
draws = vae.impute(half, n_draws=10, random_state=0)
fig, axes = plt.subplots(2, 1, figsize=(9, 4.4), layout="constrained")
for ax, given, own in zip(axes, half, draws.swapaxes(0, 1), strict=True):
    ReconstructionDisplay.from_predictions(np.tile(given, (10, 1)), own, ax=ax, **image)
    ax.set_yticks([0, 1], ["given", "drawn"])
plt.show()
