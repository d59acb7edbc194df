"""
The manifold of digits
======================

Handwritten digits in two latent dimensions: the codes of the images, and the images decoded from a
grid of codes.
"""

# %%
# A pixel of scikit-learn's digits is the number of black points among 4 × 4, from 0 to 16. These
# are counts, so ``likelihood="poisson"`` is appropriate. With two latent dimensions, its
# reconstructions have a smaller error than those of a Gaussian likelihood.

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from sklearn_vae import VAETransformer
from sklearn_vae.inspection import LatentSpaceDisplay, ManifoldDisplay
from sklearn_vae.likelihoods import Gaussian

X, y = load_digits(return_X_y=True)
vae = VAETransformer(n_components=2, likelihood="poisson", random_state=0).fit(X)
real = VAETransformer(n_components=2, likelihood=Gaussian(), random_state=0).fit(X)

for name, model in {"Poisson": vae, "Gaussian": real}.items():
    error = ((model.inverse_transform(model.transform(X)) - X) ** 2).mean()
    print(f"{name}: mean squared error per pixel {error:.2f}")

# %%
# Left: the codes of the images, coloured by class; the model was trained without classes. Right:
# the images decoded from a grid at quantiles of the prior, so that each image represents an equal
# probability. Both plots show the same plane: a cluster of zeros on the left corresponds to zeros
# on the right. Between two clusters one digit changes into another; these images are no digits.

fig, axes = plt.subplots(1, 2, figsize=(9.6, 4.5), layout="constrained")
LatentSpaceDisplay.from_estimator(vae, X, y, ax=axes[0])
ManifoldDisplay.from_estimator(vae, X, image_shape=(8, 8), n_steps=15, ax=axes[1], cmap="gray_r")
labels = {"xlabel": "component 0", "ylabel": "component 1"}
axes[0].set(title="codes of images, coloured by class", **labels)
axes[1].set(title="images decoded from a grid of codes", **labels)
plt.show()
