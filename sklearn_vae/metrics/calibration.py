"""Calibration of predicted distributions: probability integral transforms (PIT)."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import stats

from sklearn_vae.metrics.validation import check_is_model
from sklearn_vae.numerics.random import MAX_DRAWS
from sklearn_vae.persistence.validation import check_count
from sklearn_vae.system.progress import show_progress

if TYPE_CHECKING:
    from sklearn_vae.estimators.density_estimator import DensityEstimator


class PITCalibration(NamedTuple):
    """Probability integral transforms, tested for uniformity column by column.

    Attributes
    ----------
    pit : ndarray of shape (n_samples, n_features)
        Probability integral transforms, from 0 to 1; NaN in constant columns and missing cells.
    statistic : ndarray of shape (n_features,)
        Kolmogorov-Smirnov distance of each column's transforms from the uniform distribution, by
        the observed cells; NaN if there are none.
    pvalue : ndarray of shape (n_features,)
        p-value of the statistic under the hypothesis that the model is calibrated.
    """

    pit: np.ndarray
    statistic: np.ndarray
    pvalue: np.ndarray


def pit_calibration(
    estimator: "DensityEstimator",
    X: Any,
    y: Any = None,
    *,
    distribution: str = "marginal",
    n_draws: int = 4096,
) -> PITCalibration:
    r"""Probability integral transforms of held-out rows, column by column.

    The transform of a value is the predicted cumulative probability :math:`F_j(x_j)`. The
    transforms of a calibrated model are uniform between 0 and 1. An excess near 0 and 1 means
    that the model is overconfident, an excess in the middle that it is underconfident [1]_. The
    jumps of :math:`F_j` in discrete columns are filled in uniformly at random.

    Parameters
    ----------
    estimator : VAETransformer or VAEDensity
        A fitted estimator; an ensemble predicts the mixture of its members. VAEDensity has
        marginal distributions only, whatever y, estimated from ``n_draws`` samples.
    X : array-like of shape (n_samples, n_features)
        Held-out rows, in the units of the training rows.
    y : scalar or array-like of shape (n_samples,), default=None
        Conditions of the rows, if the estimator is conditional.
    distribution : {"marginal", "conditional"}, default="marginal"
        Predicted distribution of a value: the marginal one of its column, or the conditional
        one given all other columns of its row.
    n_draws : int, default=4096
        Codes over which distributions are averaged: drawn from p(z), or with
        ``distribution="conditional"`` from a widened q(z|x), with importance weights. They
        follow from the estimator's ``random_state``.

    Returns
    -------
    PITCalibration
        Transforms, and each column's Kolmogorov-Smirnov test of uniformity.

    Raises
    ------
    ValueError
        If ``distribution`` or ``n_draws`` is invalid.

    References
    ----------
    .. [1] A. P. Dawid, "Present Position and Potential Developments: Some Personal
       Views: Statistical Theory: The Prequential Approach", Journal of the Royal
       Statistical Society A 147, 1984.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae import VAETransformer
    >>> from sklearn_vae.metrics import pit_calibration
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X[::2])
    >>> pit_calibration(vae, X[1::2], n_draws=64).pit.shape
    (75, 4)
    """
    from sklearn_vae.estimators.checks import check_not_autoregressive  # imports PyTorch

    is_conditional = distribution == "conditional"
    metric = "pit_calibration" + " with distribution='conditional'" * is_conditional
    check_is_model(estimator, metric, has_codes=is_conditional)
    if distribution not in ("marginal", "conditional"):
        raise ValueError(
            f"distribution must be 'marginal' or 'conditional'. Got {distribution!r} instead."
        )
    n_draws = check_count("n_draws", n_draws, maximum=MAX_DRAWS)
    check_not_autoregressive(estimator, "pit_calibration")
    rows = estimator._validate_with_conditions(X, y)
    fitted = estimator._predictor()
    transform = fitted.conditional_pit if is_conditional else fitted.marginal_pit
    columns, n_features = fitted.columns.order, fitted.columns.n_features
    pit = np.full((len(rows), n_features), np.nan)
    with show_progress("Computing", len(rows), estimator.verbose):
        pit[:, columns] = transform(rows, n_draws)
    pit[np.isnan(rows[:, :n_features])] = np.nan
    statistic, pvalue = np.full((2, n_features), np.nan)
    for column in columns:
        if len(observed := pit[~np.isnan(pit[:, column]), column]):
            statistic[column], pvalue[column] = stats.kstest(observed, "uniform")
    return PITCalibration(pit, statistic, pvalue)
