"""
Wrong cells in a mixed table
============================

In a table of measurements and classes, some rows have one wrong cell.
:class:`~sklearn_vae.VAEOutlierDetector` ranks these rows before others, names the cell, and
gives the value that was to be expected.
"""

# %%
# A table with wrong cells
# ------------------------
# Ten measurements of cell nuclei in 569 tissue samples, and the diagnosis. In 45 rows one cell is
# replaced by that of another row, as by a slip in copying.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_vae import VAEOutlierDetector
from sklearn_vae.inspection import ExplanationDisplay

data = load_breast_cancer(as_frame=True)
original = data.data.iloc[:, :10].rename(columns=lambda name: name.removeprefix("mean "))
original["diagnosis"] = data.target_names[data.target]

rng = np.random.default_rng(1)
table, changed = original.copy(), {}
for row in rng.choice(len(table), 45, replace=False):
    column = rng.integers(table.shape[1])
    table.iat[row, column] = original.iat[rng.integers(len(table)), column]
    changed[row] = table.columns[column]
is_wrong = table.index.isin(list(changed))

# %%
# Find the rows
# -------------
# The detector takes the table as it is, with the wrong cells in it. Its rival is scikit-learn's
# isolation forest of encoded columns. The values are ordinary by themselves; they are wrong beside
# the others of their row, which a forest of splits of single columns hardly sees.

detector = VAEOutlierDetector(contamination=0.03, random_state=0).fit(table)
encoder = make_column_transformer((OneHotEncoder(), ["diagnosis"]), remainder="passthrough")
forest = make_pipeline(encoder, IsolationForest(random_state=0)).fit(table)

for name, model in {"VAEOutlierDetector": detector, "IsolationForest": forest}.items():
    anomaly = -model.score_samples(table)
    auroc, precision = roc_auc_score(is_wrong, anomaly), average_precision_score(is_wrong, anomaly)
    print(f"{name:18} AUROC {auroc:.2f}, average precision {precision:.2f}")

# %%
# Name the cells
# --------------
# ``report`` lists the rows that are flagged, the most anomalous first. ``column`` is the one with
# the largest attribution, ``expected`` its expected value given the row's other cells, and
# ``share`` its share of the row's attributions.

report = detector.report(table)
report["was changed"] = [changed.get(row, "") for row in report["row"]]
print(report.drop(columns="sentence").round(3).to_string())
print(report["sentence"][0])

# %%
# Not all of these rows have a wrong cell: others are rare samples, whose values are as they were. A
# detector ranks rows, and you decide.

is_named = report["column"] == report["was changed"]
print(f"{is_named.sum()} wrong cells named in {len(report)} flagged rows of {len(table)}")

# %%
# Half of them. The longest bar is the cell that fits the others least. The bars of a row add up to
# its anomaly score minus the mean score of all rows.

fig, axes = plt.subplots(2, figsize=(6, 5), layout="constrained")
for ax, column in zip(axes, ["perimeter", "diagnosis"], strict=True):
    row = report["row"][is_named & (report["column"] == column)][:1]
    ExplanationDisplay.from_estimator(detector, table.loc[row], n_columns=5, ax=ax)
    ax.set(title=f"wrong {column}", xlabel="how unusual (nats)")
plt.show()
