"""
Strange digits
==============

A detector that has seen one digit only is shown all ten. Which ones does it find strange, and
which of its own?
"""

# %%
# One detector per digit learns from half of that digit's images (about 90), which are known to be
# clean, so ``novelty=True``. The other half and all images of other digits are new to it. AUROC is
# the share of pairs, one of its own digit and one of another, in which the other is found
# stranger.
#
# A little noise is added to all images. A pixel that was white in 90 images would otherwise be
# white for certain, and the faintest grey there infinitely strange.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from sklearn_vae import VAEOutlierDetector
from sklearn_vae.inspection import ReconstructionDisplay

images, y = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
X = images + rng.normal(size=images.shape)


def halves(digit):
    """Rows to learn from and new ones of one digit."""
    rows = rng.permutation(np.flatnonzero(y == digit))
    return np.array_split(rows, 2)


detectors, own_rows, auroc = [], [], np.full((10, 10), np.nan)
for digit in range(10):
    known, new = halves(digit)
    detector = VAEOutlierDetector(novelty=True, n_init=1, max_iter=60, random_state=0).fit(X[known])
    scores = detector.score_samples(X)
    for other in set(range(10)) - {digit}:
        asked = np.concatenate([new, np.flatnonzero(y == other)])
        auroc[digit, other] = roc_auc_score(y[asked] == digit, scores[asked])
    detectors.append(detector)
    own_rows.append(new)

# %%
# Rows are what a detector has learned, columns what it is shown. Nearly all strangers are found.
# The least sure is the detector of eights, and of ones above all: they lie within an eight's
# strokes.

fig, ax = plt.subplots(figsize=(6.5, 5.4), layout="constrained")
image = ax.imshow(auroc, cmap="viridis", vmin=np.nanmin(auroc), vmax=1)
for digit, other in np.argwhere(~np.isnan(auroc)):
    value = auroc[digit, other]
    shade = "black" if value > (1 + np.nanmin(auroc)) / 2 else "white"
    ax.text(other, digit, f"{value:.2f}", ha="center", va="center", size=7, color=shade)
means = np.nanmean(auroc, axis=1)
ax.set_yticks(range(10), [f"{digit} ({mean:.3f})" for digit, mean in enumerate(means)])
ax.set_xticks(range(10))
ax.set(xlabel="digit that is shown", ylabel="digit that was learned (mean AUROC)")
fig.colorbar(image, ax=ax, label="AUROC")
plt.show()
print(f"mean over all pairs: {np.nanmean(auroc):.3f}")

# %%
# The strangest of their kind
# ---------------------------
# Above, the most usual new image of each digit, by its own detector; below, the strangest. Some
# are digits that people would mistake, too.

usual, strange = [], []
for detector, new in zip(detectors, own_rows, strict=True):
    order = new[np.argsort(detector.score_samples(X[new]))]
    strange.append(order[0])
    usual.append(order[-1])
display = ReconstructionDisplay.from_predictions(
    images[usual], images[strange], image_shape=(8, 8), cmap="gray_r"
)
display.ax_.set_yticks([0, 1], ["most usual", "strangest"])
plt.show()

# %%
# Where in the image?
# -------------------
# ``explain`` shares out what the score lacks among the pixels. Red ones are to blame: ink where
# this digit has none, or none where it has.

parts = np.array(
    [detector.explain(X[[row]])[0] for detector, row in zip(detectors, strange, strict=True)]
)
fig, axes = plt.subplots(2, 10, figsize=(9, 2.2), layout="constrained")
for digit, row in enumerate(strange):
    axes[0, digit].imshow(images[row].reshape(8, 8), cmap="gray_r")
    largest = np.abs(parts[digit]).max()
    axes[1, digit].imshow(parts[digit].reshape(8, 8), cmap="RdBu_r", vmin=-largest, vmax=largest)
for ax in axes.flat:
    ax.set_axis_off()
plt.show()
