"""Cells hidden completely at random, at random and not at random, as HyperImpute hides them.

The masks are those of ``hyperimpute.plugins.utils.simulate.simulate_nan`` with its defaults
(``p_obs=0.5, opt="logistic"``), which are those of Muzellec et al. [1]_; the draws are not the
same, as NumPy's generators are others. X is min-max scaled first.

- **MCAR**: each cell is hidden with probability p.
- **MAR**: half of the columns (rounded down, at least one), drawn at random, are always observed.
  In each of the others, a cell is hidden with probability s(x · w + b), where s is the logistic
  function, x the row's observed columns, w uniform weights, scaled so that x · w has unit standard
  deviation, and b such that the mean probability is p.
- **MNAR**: the same, and then each cell of the columns that were always observed is hidden with
  probability p.
- **self-masked**: a cell x of any column is hidden with probability s(x / std + b), where std is
  the column's standard deviation and b such that the mean probability in the column is p: larger
  values are hidden more often. It is HyperImpute's MNAR with ``opt="selfmasked"``, whose b depends
  on the other columns as well, so that its shares of hidden cells are not p.

References
----------
.. [1] B. Muzellec, J. Josse, C. Boyer and M. Cuturi, "Missing Data Imputation using Optimal
   Transport", ICML 2020.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

MECHANISMS = ("MCAR", "MAR", "MNAR", "self-masked")
OBSERVED_SHARE = 0.5
WIDEST = 50.0  # bounds of the intercept


def hide(
    X: np.ndarray, mechanism: str, fraction: float, generator: np.random.Generator
) -> np.ndarray:
    """Return the mask of hidden cells of min-max scaled rows."""
    hidden = generator.random(X.shape) < fraction
    if mechanism == "MCAR":
        return hidden
    n_columns = X.shape[1]
    if mechanism == "self-masked":
        for column, values in enumerate(X.T):
            hidden[:, column] = hide_by(values / values.std(), fraction, generator)
        return hidden
    n_inputs = max(int(OBSERVED_SHARE * n_columns), 1)
    order = generator.permutation(n_columns)
    inputs, others = order[:n_inputs], order[n_inputs:]
    for column in others:
        score = X[:, inputs] @ generator.random(n_inputs)
        hidden[:, column] = hide_by(score / score.std(), fraction, generator)
    if mechanism == "MAR":
        hidden[:, inputs] = False
    return hidden


def hide_by(score: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Hide cells with logistic probabilities, whose mean is the fraction: (n,) -> (n,)."""
    intercept = brentq(lambda b: expit(score + b).mean() - fraction, -WIDEST, WIDEST)
    return generator.random(len(score)) < expit(score + intercept)
