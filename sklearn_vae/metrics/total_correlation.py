"""Total correlation: dependence between the latent dimensions."""

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logsumexp

from sklearn_vae.metrics.validation import check_has_codes
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.numerics.seeds import MAX_DRAWS
from sklearn_vae.persistence.validation import check_count

if TYPE_CHECKING:
    from sklearn_vae.estimators.transformer import VAETransformer

# Largest number of densities q(z_d | x_i) in memory at once.
MAX_DENSITIES = 1 << 22


def total_correlation(
    estimator: "VAETransformer", X: Any, y: Any = None, *, n_draws: int = 4
) -> float:
    r"""Total correlation of the aggregated posterior.

    .. math::
        KL\Bigl(q(z) \,\|\, \prod_d q(z_d)\Bigr), \qquad q(z) = \frac{1}{n} \sum_i q(z | x_i)

    It is 0 if the latent dimensions are independent. ``objective="tc"`` penalizes it.

    Parameters
    ----------
    estimator : VAETransformer
        A fitted estimator. An ensemble is represented by its best member.
    X : array-like of shape (n_samples, n_features)
        Rows, in the units of the training rows. The estimate is biased upwards if the rows are
        few and their posteriors narrow, and converges as their number grows. Time grows with
        the square of their number: a thousand rows take about a second.
    y : scalar or array-like of shape (n_samples,), default=None
        Conditions of the rows, if the estimator is conditional.
    n_draws : int, default=4
        Codes per row at which the densities are evaluated: Sobol points, which follow from
        the estimator's ``random_state``.

    Returns
    -------
    float
        Nats.

    Raises
    ------
    ValueError
        If ``n_draws`` is not an integer >= 1, or the posterior is not factorized.

    References
    ----------
    .. [1] R. T. Q. Chen, X. Li, R. Grosse and D. Duvenaud, "Isolating Sources of
       Disentanglement in Variational Autoencoders", NeurIPS 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae import VAETransformer
    >>> from sklearn_vae.metrics import total_correlation
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_components=1, max_iter=20, random_state=0).fit(X)
    >>> abs(round(total_correlation(vae, X), 6))  # a single dimension
    0.0
    """
    check_has_codes(estimator, "total_correlation")
    posterior = estimator.architecture_.posterior
    if posterior.has_categorical or not posterior.has_per_dimension_kl:
        raise ValueError(
            f"total_correlation needs a posterior whose latent dimensions are independent Gaussians"
            f". Got posterior={posterior!r} instead. Use posterior='gaussian'."
        )
    n_draws = check_count("n_draws", n_draws, maximum=MAX_DRAWS)
    rows = estimator._validate_with_conditions(X, y)
    z, loc, log_scale = estimator._predictor().sample_codes(rows, n_draws)
    z = z.reshape(-1, z.shape[2])  # (K n, l)
    log_ratio = np.empty(len(z))
    for batch in batches(len(z), max(MAX_DENSITIES // loc.size, 1)):
        residual = (z[batch, None] - loc) * np.exp(-log_scale)
        # the normal densities' constants cancel; those of the mixture weights 1/n are added below
        log_prob = -0.5 * residual**2 - log_scale  # (batch, n, l)
        log_joint = logsumexp(log_prob.sum(axis=2), axis=1)
        log_ratio[batch] = log_joint - logsumexp(log_prob, axis=1).sum(axis=1)
    return float(log_ratio.mean() + (loc.shape[1] - 1) * np.log(len(loc)))
