"""
A pipeline with selected columns
================================

A ``ColumnTransformer`` selects columns of a mixed table, and :class:`~sklearn_vae.VAETransformer`
encodes them for a regression. No column is scaled or one-hot encoded.
"""

# %%
# scikit-learn's diabetes table in its original units, with sex as a category.

import matplotlib.pyplot as plt
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from sklearn_vae import VAETransformer

table = load_diabetes(as_frame=True, scaled=False).frame
target = table.pop("target")
table["sex"] = table["sex"].map({1.0: "a", 2.0: "b"}).astype("category")
X_train, X_test, y_train, y_test = train_test_split(table, target, random_state=0)

# %%
# With ``set_output``, each step returns a data frame: columns keep their names and categories, and
# codes have names and the index of the table.

columns = make_column_transformer(
    ("drop", ["s1", "s2"]), remainder="passthrough", verbose_feature_names_out=False
)
pipeline = make_pipeline(columns, VAETransformer(2, random_state=0), Ridge())
pipeline = pipeline.set_output(transform="pandas").fit(X_train, y_train)
print(f"R2 of two codes: {pipeline.score(X_test, y_test):.2f}")
print(pipeline[1].columns_)

# %%
# Codes of the test rows, coloured by the progression of the disease. All steps but the last
# compute them.

codes = pipeline[:-1].transform(X_test)
fig, ax = plt.subplots(figsize=(5.8, 4.2), layout="constrained")
points = ax.scatter(*codes.to_numpy().T, c=y_test, s=16)
ax.set(xlabel=codes.columns[0], ylabel=codes.columns[1])
fig.colorbar(points, label="disease progression")
plt.show()
