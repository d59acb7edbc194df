"""
Outliers of a real table
========================

Wisconsin's breast cancer table holds 30 measurements of cell nuclei in 569 tissue samples, 357
of them benign. Two questions are asked of it, one in each setting of
:class:`~sklearn_vae.VAEOutlierDetector`, and then which measurement makes a sample strange.
"""

# %%
# Clean training rows: what is unlike all benign samples?
# -------------------------------------------------------
# Half of the benign samples are learned from. We know that they are clean, so ``novelty=True``.
# The other half and all malignant ones are new. ``calibration="conformal"`` holds a fifth of the
# samples back, from which the threshold comes: ``contamination`` is then the rate of false alarms.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from sklearn_vae import ExplanationDisplay, VAEOutlierDetector

table = load_breast_cancer()
rng = np.random.default_rng(0)
benign = rng.permutation(np.flatnonzero(table.target == 1))
malignant = rng.permutation(np.flatnonzero(table.target == 0))
known, fresh = table.data[benign[:178]], table.data[benign[178:]]
sick = table.data[malignant]

detector = VAEOutlierDetector(
    novelty=True, contamination=0.1, calibration="conformal", random_state=0
).fit(known)
caught = (detector.predict(sick) == -1).mean()
false_alarms = (detector.predict(fresh) == -1).mean()
print(f"caught: {caught:.0%} of malignant samples; false alarms: {false_alarms:.0%} of benign ones")

# %%
# A score is a number of nats, and ``offset_`` is where ``predict`` divides. With so few samples
# the rate of false alarms is itself a matter of chance; it is right on average.

scores = [detector.score_samples(rows) for rows in (fresh, sick)]
bins = np.linspace(min(map(np.min, scores)), max(map(np.max, scores)), 40)
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ax.hist(scores[0], bins, alpha=0.7, label="benign, new")
ax.hist(scores[1], bins, alpha=0.7, label="malignant")
ax.axvline(detector.offset_, color="black", linestyle="--", label="offset_")
ax.set(xlabel="score_samples, the higher the more normal (nats)", ylabel="samples")
ax.legend()
plt.show()

# %%
# Which measurement is to blame?
# ------------------------------
# ``explain`` shares the distance from the usual score out among the columns. Here is a benign
# sample in which one measurement was written down wrongly: a usual value by itself, the area of
# another sample.

wrong = fresh[:1].copy()
wrong[0, 3] = sick[:, 3].max()
display = ExplanationDisplay.from_estimator(
    detector, wrong, feature_names=table.feature_names, n_columns=8
)
display.ax_.set_title("mean area was changed")
plt.show()

# %%
# The parts add up to what the score lacks of the samples' mean score.

print(f"parts {display.parts.sum():.2f}, score {detector.score_samples(wrong)[0]:.2f}")

# %%
# Contaminated training rows: what is odd in this table?
# ------------------------------------------------------
# Now nobody has looked at the labels, and one sample in ten is malignant. This is the default,
# ``novelty=False``; new rows are scored as well.

mixed = np.vstack([known, sick[:20]])
detector = VAEOutlierDetector(contamination=0.1, random_state=0).fit(mixed)
is_sick = np.repeat([0, 1], [178, 20])
new = np.vstack([fresh, sick[20:]])
is_sick_of_new = np.repeat([0, 1], [len(fresh), len(sick) - 20])
print(f"training rows: AUROC {roc_auc_score(is_sick, -detector.score_samples(mixed)):.3f}")
print(f"new rows: AUROC {roc_auc_score(is_sick_of_new, -detector.score_samples(new)):.3f}")


# %%
# In doubt, leave ``novelty`` as it is: a malignant sample among rows that are said to be clean
# vouches for its likes.
