"""
Calibration of a density
========================

If a density is calibrated, a tenth of the held-out values are below their predicted 10 % quantile.
The probability integral transform (PIT) checks this for all quantiles.
"""

# %%
# The PIT of a value is the predicted probability of smaller values. If the model is right, the
# PITs of held-out rows are uniform between 0 and 1, and each curve, their cumulative
# distribution, follows the diagonal. The curve of a calibrated column stays within the grey band
# in 95 % of cases.

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import kstwo
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from sklearn_vae import VAETransformer
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.metrics import pit_calibration

X, _ = load_breast_cancer(return_X_y=True, as_frame=True)
X = X.filter(like="mean")
X_train, X_test = train_test_split(X, random_state=0)
vae = VAETransformer(n_components=4, random_state=0).fit(X_train)


def draw_calibration(model):
    result = pit_calibration(model, X_test)
    _, ax = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    u, width = np.linspace(0, 1, 101), kstwo.ppf(0.95, len(X_test))
    ax.fill_between(u, np.maximum(u - width, 0), np.minimum(u + width, 1), color="0.85")
    for column, pit, statistic in zip(X.columns, result.pit.T, result.statistic, strict=True):
        ax.ecdf(pit, label=f"{column}, KS {statistic:.2f}")
    ax.set(xlabel="predicted cumulative probability", ylabel="fraction of rows")
    ax.legend(loc="center left", bbox_to_anchor=(1.03, 0.5), frameon=False, fontsize="small")
    plt.show()


draw_calibration(vae)

# %%
# The columns are skewed. A linear model with normal noise predicts symmetric distributions, and
# smaller values than there are. So its curves begin late, and leave the band farther and more
# often.

linear = VAETransformer(
    n_components=4, hidden_layer_sizes=(), likelihood=Gaussian(scale="per_column"), random_state=0
).fit(X_train)

draw_calibration(linear)
