"""
Can the density be trusted?
===========================

A model that says how likely values are can be held to it: of the values that it expects to lie
below their 10 % quantile, a tenth should.
"""

# %%
# For each value of a held-out row, the model is asked for the probability of smaller ones, the
# probability integral transform. If the model is right, these are spread evenly between 0 and 1,
# and each curve, the share of rows with a transform of at most u, follows the diagonal. In 95 % of
# the cases, the curve of a column that is right stays within the grey band.

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from sklearn_vae import VAETransformer
from sklearn_vae.inspection import PITCalibrationDisplay
from sklearn_vae.likelihoods import Gaussian

X, _ = load_breast_cancer(return_X_y=True, as_frame=True)
X = X.filter(like="mean")
X_train, X_test = train_test_split(X, random_state=0)
vae = VAETransformer(n_components=4, random_state=0).fit(X_train)

PITCalibrationDisplay.from_estimator(vae, X_test)
plt.show()

# %%
# The table's columns are skewed. A linear model with normal noise expects as many small values as
# large ones, and smaller ones than there are: its curves begin late, and leave the band farther
# and more often.

linear = VAETransformer(
    n_components=4, hidden_layer_sizes=(), likelihood=Gaussian(scale="per_column"), random_state=0
).fit(X_train)

PITCalibrationDisplay.from_estimator(linear, X_test)
plt.show()

# %%
# The same, where all other values of the row are known, and as densities: each bar should be within
# the band. Radius, perimeter and area follow from each other almost exactly, and the model knows
# it less exactly than they do: rows crowd in the middle, where it has underrated itself. Too many
# rows at both ends would mean the contrary.

PITCalibrationDisplay.from_estimator(
    vae, X_test, distribution="conditional", n_draws=1024, kind="histogram"
)
plt.show()
