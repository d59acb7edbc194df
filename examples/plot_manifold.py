"""
The manifold of digits
======================

Two numbers per image: what does a model with two latent dimensions make of handwritten digits? The
picture on the right is the one that made variational autoencoders known.
"""

# %%
# A pixel of scikit-learn's digits counts how many of 4 × 4 points were black, from 0 to 16. So
# they are counts, and ``likelihood="poisson"`` is told so. It never gives a grey below white, and,
# with only two numbers to describe an image, its images are nearer to the originals than a
# Gaussian's.

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
# On the left stands each digit where its code is; the colours are the classes, which the model has
# not seen. On the right stands the image that each code means, at the quantiles of the prior, so
# that each image stands for an equal share of it. Both pictures show the same plane: where
# there is a cloud of zeros on the left, there are zeros on the right, and between two clouds one
# digit turns into another. Images in between are no digits: a code has to lie somewhere, and the
# plane has no room for borders.

fig, axes = plt.subplots(1, 2, figsize=(13, 6), layout="constrained")
LatentSpaceDisplay.from_estimator(vae, X, y, ax=axes[0])
ManifoldDisplay.from_estimator(
    vae, X, image_shape=(8, 8), n_steps=17, ax=axes[1], gap=0.15, cmap="gray_r"
)
axes[0].set_title("codes of the digits")
axes[1].set_title("digits of the codes")
plt.show()
