"""Metrics of fitted estimators: posterior collapse and calibration.

Importing them does not import PyTorch.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_vae.data.arrays import Rows, Target
from sklearn_vae.numerics.random import MAX_DRAWS, Stream, stream_seed
from sklearn_vae.persistence.validation import check_count, check_number
from sklearn_vae.system import warn

if TYPE_CHECKING:
    from sklearn_vae.estimators.density_estimator import DensityEstimator
    from sklearn_vae.estimators.transformer import VAETransformer

__all__ = ["active_units", "kl_per_dimension", "pit_calibration"]

# Methods that a whole Pipeline has to have, not its last step alone.
CODES = ("transform", "inverse_transform")


def kl_per_dimension(estimator: "VAETransformer", X: Rows, y: Target = None) -> np.ndarray:
    """How much each latent dimension is used: the KL of q(z|x) from the standard normal.

    Parameters
    ----------
    estimator : VAETransformer, or a search or Pipeline that ends with one
        A fitted estimator. An ensemble is represented by its best member.
    X : array-like of shape (n_samples, n_features)
        Rows, in the units of the training rows.
    y : scalar or array-like of shape (n_samples,), default=None
        Conditions of the rows, if the estimator is conditional.

    Returns
    -------
    ndarray of shape (n_components,)
        Nats, averaged over the rows. Their sum is the KL: that of a dimension holds what it shares
        with those before it. A categorical latent variable is one dimension, whatever its number of
        classes; its KL is that from equal probabilities.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae import VAETransformer
    >>> from sklearn_vae.metrics import kl_per_dimension
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X)
    >>> kl_per_dimension(vae, X).shape
    (2,)
    """
    estimator, X = final_step(estimator, X, "kl_per_dimension", ("impute", "transform"))
    rows = estimator._validate_with_conditions(X, y)
    return estimator._predictor().kl_per_dimension(rows).mean(axis=0)


def active_units(
    estimator: "VAETransformer", X: Rows, y: Target = None, *, threshold: float = 0.1
) -> np.ndarray:
    """Mask of the latent dimensions whose mean KL exceeds a threshold; warn if they are few.

    The criterion is the KL, not the variance of the codes [1]_: in a linear model with two
    factors and more than two dimensions, the variance criterion counts more than two.

    Parameters
    ----------
    estimator : VAETransformer, or a search or Pipeline that ends with one
        A fitted estimator.
    X : array-like of shape (n_samples, n_features)
        Rows, in the units of the training rows.
    y : scalar or array-like of shape (n_samples,), default=None
        Conditions of the rows, if the estimator is conditional.
    threshold : float, default=0.1
        Mean KL above which a dimension is active, in nats.

    Returns
    -------
    ndarray of bool of shape (n_components,)
        Its sum is the number of active dimensions.

    Warns
    -----
    ConvergenceWarning
        If no dimension is active (posterior collapse), or fewer than half of them, with advice.

    References
    ----------
    .. [1] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance Weighted
       Autoencoders", ICLR 2016.
    """
    check_number("active_units", "threshold", threshold)
    estimator, X = final_step(estimator, X, "active_units", ("impute", "transform"))
    active = kl_per_dimension(estimator, X, y) > threshold
    n_active, n_components = int(active.sum()), len(active)
    if n_active >= n_components / 2:
        return active
    if n_active == 0:
        advice = (
            "The posterior has collapsed: codes carry no information about their rows. Lower beta "
            f"(now {estimator.beta!r}), anneal it with LinearWarmup, or try "
            f"objective=ELBO(free_bits=0.2) (now {estimator.objective!r})"
        )
    else:
        advice = (
            f"The inactive dimensions carry no information. If {n_active} are enough, set "
            f"n_components={n_active}; if not, lower beta (now {estimator.beta!r}) or try "
            f"objective=ELBO(free_bits=0.2) (now {estimator.objective!r})"
        )
    warn(
        f"{n_active} of {n_components} latent dimensions have a mean KL above {threshold} nats. "
        f"{advice}.",
        ConvergenceWarning,
    )
    return active


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
    estimator: "DensityEstimator", X: Rows, y: Target = None, *, n_draws: int = 4096
) -> PITCalibration:
    r"""Test whether predicted distributions of held-out values are right, column by column.

    The transform of a value is the predicted cumulative probability :math:`F_j(x_j)`. The
    transforms of a calibrated model are uniform between 0 and 1. An excess near 0 and 1 means
    that the model is overconfident, an excess in the middle that it is underconfident [1]_. The
    jumps of :math:`F_j` in discrete columns are filled in uniformly at random.

    Parameters
    ----------
    estimator : VAETransformer or VAEDensity, or a search or Pipeline that ends with one
        A fitted estimator, whose columns are those of its last step.
    X : array-like of shape (n_samples, n_features)
        Held-out rows, in the units of the training rows.
    y : scalar or array-like of shape (n_samples,), default=None
        Conditions of the rows, if a VAETransformer is conditional: the predicted distribution is
        that of rows with these conditions.
    n_draws : int, default=4096
        Samples that the predicted distribution of a column is estimated from, by the estimator's
        ``random_state``.

    Returns
    -------
    PITCalibration
        Transforms, and each column's Kolmogorov-Smirnov test of uniformity.

    Raises
    ------
    ValueError
        If ``n_draws`` is invalid.

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
    estimator, X = final_step(estimator, X, "pit_calibration", ("impute",))
    n_draws = check_count("n_draws", n_draws, maximum=MAX_DRAWS)
    rows, fitted = estimator._validate_with_conditions(X, y), estimator._predictor()
    n_features = fitted.columns.n_features
    values, conditions = rows[:, :n_features], rows[np.arange(n_draws) % len(rows), n_features:]
    args = (conditions,) if conditions.shape[1] else ()
    samples = np.sort(fitted.sample(n_draws, fitted.seed, rows.dtype, *args), axis=0)
    generator = np.random.default_rng(stream_seed(fitted.seed, Stream.CALIBRATION))
    pit, uniform = np.full(values.shape, np.nan), generator.random(values.shape)
    statistic, pvalue = np.full((2, n_features), np.nan)
    for j in fitted.columns.order.tolist():
        observed = ~np.isnan(values[:, j])
        if observed.any():
            below = np.searchsorted(samples[:, j], values[observed, j], "left")
            up_to = np.searchsorted(samples[:, j], values[observed, j], "right")
            # the rank of the value among the samples and itself
            rank = below + uniform[observed, j] * (up_to - below + 1)
            pit[observed, j] = rank / (n_draws + 1)
            statistic[j], pvalue[j] = stats.kstest(pit[observed, j], "uniform")
    return PITCalibration(pit, statistic, pvalue)


def final_step(
    estimator: BaseEstimator,
    X: Any,
    caller: str,
    requires: tuple[str, ...],
    such_as: str = "VAETransformer",
) -> tuple[BaseEstimator, Any]:
    """Return the fitted model that a search or Pipeline ends in, and the rows that it gets.

    It raises a TypeError without the attributes ``requires``, which ``such_as`` has.
    """
    check_is_fitted(estimator)
    final = estimator
    while isinstance(final, Pipeline) or hasattr(final, "best_estimator_"):
        if isinstance(final, Pipeline):
            X = final[:-1].transform(X) if X is not None and len(final) > 1 else X
            final = final[-1]
        else:
            final = final.best_estimator_
    if not all(hasattr(estimator if name in CODES else final, name) for name in requires):
        raise TypeError(
            f"{caller} needs an estimator with {', '.join(requires)}, such as {such_as}. Got "
            f"{type(final).__name__} instead."
        )
    return final, X
