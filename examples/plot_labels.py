"""
Choose a threshold with some labels
===================================

Some rows of a table are known to be wrong. Labels measure how well a detector ranks the rows, and
choose the threshold of :class:`~sklearn_vae.VAEOutlierDetector`, which is fitted without them.
"""

# %%
# Tissue samples with ten measurements and a diagnosis. In 45 of 569 rows one cell is that of
# another row: these have the label -1.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import precision_recall_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_vae import VAEOutlierDetector

data = load_breast_cancer(as_frame=True)
original = data.data.iloc[:, :10].rename(columns=lambda name: name.removeprefix("mean "))
original["diagnosis"] = data.target_names[data.target]

rng = np.random.default_rng(1)
table, labels = original.copy(), np.ones(len(original), dtype=int)
for row in rng.choice(len(table), 45, replace=False):
    column = rng.integers(table.shape[1])
    table.iat[row, column] = original.iat[rng.integers(len(table)), column]
    labels[row] = -1

# %%
# Each threshold flags some rows: *precision* is the fraction of these that are wrong, *recall* the
# fraction of the wrong rows that are found. Here half of the flagged rows are to be wrong, and of
# the thresholds with this precision, the one with the highest recall is taken.

detector = VAEOutlierDetector(random_state=0).fit(table)
encoder = make_column_transformer((OneHotEncoder(), ["diagnosis"]), remainder="passthrough")
forest = make_pipeline(encoder, IsolationForest(random_state=0)).fit(table)

fig, ax = plt.subplots(figsize=(5.8, 3.8), layout="constrained")
for name, model in {"VAEOutlierDetector": detector, "IsolationForest": forest}.items():
    precision, recall, _ = precision_recall_curve(labels == -1, -model.score_samples(table))
    ax.plot(recall, precision, label=name)
precision, recall, thresholds = precision_recall_curve(labels == -1, -detector.score_samples(table))
useful = np.flatnonzero(precision[:-1] >= 0.5)
best = useful[recall[useful].argmax()]
ax.plot(recall[best], precision[best], "ko", label="the threshold")
ax.set(xlabel="recall: wrong rows found", ylabel="precision: flagged rows that are wrong")
ax.legend(frameon=False)
plt.show()

# %%
# ``predict`` flags scores below ``offset_``: it lies just above the score of the chosen threshold.

detector.offset_ = np.nextafter(-thresholds[best], np.inf)
flagged = detector.predict(table) == -1
print(f"{flagged.sum()} rows to check, {(flagged & (labels == -1)).sum()} of them wrong")
