"""
Anomalous digits
================

A novelty detector is fitted to images of one digit and scores images of all ten. It is evaluated on
the other digits, and its most anomalous images of the digit itself are shown.
"""

# %%
# One detector per digit is fitted to half of that digit's images (about 90). They are clean, so
# ``novelty=True``. The other half and all images of other digits are new rows. AUROC is the
# fraction of pairs of an image of the digit and one of another in which the other has the higher
# anomaly score.
#
# A little noise is added to all images. A pixel that was white in 90 images would otherwise have
# variance 0, and the faintest grey there an infinite anomaly score.

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
    """Training rows and new rows of one digit."""
    rows = rng.permutation(np.flatnonzero(y == digit))
    return np.array_split(rows, 2)


detectors, new_rows, auroc = [], [], np.full((10, 10), np.nan)
for digit in range(10):
    train, new = halves(digit)
    detector = VAEOutlierDetector(novelty=True, random_state=0).fit(X[train])
    scores = detector.score_samples(X)
    for other in set(range(10)) - {digit}:
        rows = np.concatenate([new, np.flatnonzero(y == other)])
        auroc[digit, other] = roc_auc_score(y[rows] == digit, scores[rows])
    detectors.append(detector)
    new_rows.append(new)

# %%
# The digit of the training rows is on the vertical axis, the other digit on the horizontal one.
# Nearly all other digits are found. The lowest AUROC is that of ones by the detector of eights:
# they lie within an eight's strokes.

fig, ax = plt.subplots(figsize=(5.8, 4.8), layout="constrained")
image = ax.imshow(auroc, cmap="viridis", vmin=np.nanmin(auroc), vmax=1)
for digit, other in np.argwhere(~np.isnan(auroc)):
    value = auroc[digit, other]
    shade = "black" if value > (1 + np.nanmin(auroc)) / 2 else "white"
    ax.text(other, digit, f"{value:.2f}", ha="center", va="center", size=7, color=shade)
means = np.nanmean(auroc, axis=1)
ax.set_yticks(range(10), [f"{digit} ({mean:.3f})" for digit, mean in enumerate(means)])
ax.set_xticks(range(10))
ax.set(xlabel="other digit", ylabel="digit of the training rows (mean AUROC)")
fig.colorbar(image, ax=ax, label="AUROC")
plt.show()
print(f"mean over all pairs: {np.nanmean(auroc):.3f}")

# %%
# The most anomalous images
# -------------------------
# Above, the most normal new image of each digit, by the digit's detector; below, the most anomalous
# one. Some are digits that people would mistake, too.

normal, anomalous = [], []
for detector, new in zip(detectors, new_rows, strict=True):
    order = new[np.argsort(detector.score_samples(X[new]))]
    anomalous.append(order[0])
    normal.append(order[-1])
fig, ax = plt.subplots(figsize=(8, 1.9), layout="constrained")
ReconstructionDisplay(X=images[normal], X_reconstructed=images[anomalous], image_shape=(8, 8)).plot(
    ax, cmap="gray_r"
)
ax.set_yticks([0, 1], ["most normal", "most anomalous"])
plt.show()

# %%
# Feature attribution
# -------------------
# ``explain`` attributes the anomaly score to pixels. Red ones increase it: ink where
# this digit has none, or none where it has.

attributions = np.array(
    [detector.explain(X[[row]])[0] for detector, row in zip(detectors, anomalous, strict=True)]
)
fig, axes = plt.subplots(2, 10, figsize=(8, 2), layout="constrained")
for digit, row in enumerate(anomalous):
    axes[0, digit].imshow(images[row].reshape(8, 8), cmap="gray_r")
    largest = np.abs(attributions[digit]).max()
    axes[1, digit].imshow(
        attributions[digit].reshape(8, 8), cmap="RdBu_r", vmin=-largest, vmax=largest
    )
for ax in axes.flat:
    ax.set_axis_off()
plt.show()
