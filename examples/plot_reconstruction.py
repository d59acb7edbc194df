"""
Reconstruction, noise, and missing pixels
=========================================

A code of a few numbers encodes what images have in common. So a VAE can remove noise from images
and impute missing pixels.
"""

# %%
# Reconstruction error
# --------------------
# Held-out images and their reconstructions from eight latent dimensions, by a VAE and by PCA.
# With sixteen dimensions, PCA of unscaled pixels has the smaller error.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from sklearn_vae import VAETransformer
from sklearn_vae.inspection import ReconstructionDisplay

X_train, X_new = train_test_split(load_digits().data, random_state=0)
vae = VAETransformer(n_components=8, random_state=0).fit(X_train)
pca = PCA(n_components=8).fit(X_train)

image_shape, style = (8, 8), {"cmap": "gray_r", "vmin": 0, "vmax": 16}


def error(images):
    """Mean squared error per pixel."""
    return np.square(images - X_new).mean()


fig, axes = plt.subplots(2, 1, figsize=(9, 4.4), layout="constrained")
for ax, model in zip(axes, [vae, pca], strict=True):
    display = ReconstructionDisplay.from_estimator(
        model, X_new, image_shape=image_shape, ax=ax, **style
    )
    title = f"{type(model).__name__}: mean squared error {error(display.X_reconstructed):.2f}"
    ax.set_title(title, loc="left", fontsize="medium")
plt.show()

# %%
# Denoising
# ---------
# All images are noisy, also the training images; the model never sees a clean one. A code of
# eight numbers cannot encode the noise, and the noise has mean zero. So the reconstruction, the
# mean of p(x|z), is an image without noise.

rng = np.random.default_rng(0)
noisy_train, noisy = (X + rng.normal(scale=4, size=X.shape) for X in (X_train, X_new))
denoiser = VAETransformer(n_components=8, random_state=0).fit(noisy_train)
display = ReconstructionDisplay.from_estimator(
    denoiser, noisy, X_true=X_new, image_shape=image_shape, **style
)
before, after = error(noisy), error(display.X_reconstructed)
title = f"mean squared error: {before:.1f} with noise, {after:.1f} after"
display.ax_.set_title(title, loc="left", fontsize="medium")
plt.show()

# %%
# A model trained on clean images cannot denoise: it has learned that corners are exactly white, so
# noise there changes the code.
#
# Missing pixels
# --------------
# Half of the pixels of each image are missing (NaN). ``impute`` replaces them by their conditional
# means given the observed pixels, which are not changed.

hidden = np.random.default_rng(1).random(X_new.shape) < 0.5
incomplete = np.where(hidden, np.nan, X_new)
filled = vae.impute(incomplete)
means = np.where(hidden, X_train.mean(axis=0), X_new)

display = ReconstructionDisplay(
    X=incomplete, X_reconstructed=filled, X_true=X_new, image_shape=image_shape
).plot(**style)
display.ax_.set_yticks(range(3), ["true", "half missing", "imputed"])
ratio = error(means) / error(filled)
title = f"the mean squared error of column means is {ratio:.1f} times as large"
display.ax_.set_title(title, loc="left", fontsize="medium")
plt.show()

# %%
# With ``n_imputations``, ``impute`` draws the missing pixels from their conditional distribution.
# Here the lower half of two digits is missing; each column is one draw.

half = np.where(np.arange(64) < 32, X_new[:2], np.nan)
draws = vae.impute(half, n_imputations=10, random_state=0)
fig, axes = plt.subplots(2, 1, figsize=(9, 4.4), layout="constrained")
for ax, observed, drawn in zip(axes, half, draws.swapaxes(0, 1), strict=True):
    ReconstructionDisplay(
        X=np.tile(observed, (10, 1)), X_reconstructed=drawn, image_shape=image_shape
    ).plot(ax, **style)
    ax.set_yticks([0, 1], ["observed", "drawn"])
plt.show()
