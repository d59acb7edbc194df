"""Posterior collapse: KL divergence per latent dimension, and the active units."""

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sklearn_vae.metrics.validation import check_is_model
from sklearn_vae.system.warnings import warn

if TYPE_CHECKING:
    from sklearn_vae.estimators.transformer import VAETransformer

# A latent dimension is active if its mean KL exceeds this, in nats.
ACTIVE_THRESHOLD = 0.1
# A warning is due if a smaller fraction of the dimensions is active.
MIN_ACTIVE_FRACTION = 0.5


def kl_per_dimension(estimator: "VAETransformer", X: Any, y: Any = None) -> np.ndarray:
    """KL divergence of q(z|x) from the standard normal prior, per latent dimension.

    Parameters
    ----------
    estimator : VAETransformer
        A fitted estimator. An ensemble is represented by its best member.
    X : array-like of shape (n_samples, n_features)
        Rows, in the units of the training rows.
    y : scalar or array-like of shape (n_samples,), default=None
        Conditions of the rows, if the estimator is conditional.

    Returns
    -------
    ndarray of shape (n_components,)
        Nats, averaged over the rows. A categorical latent variable is one dimension, whatever
        its number of classes; its KL is that from equal probabilities.

    Raises
    ------
    ValueError
        If dimensions depend on each other, as with ``posterior="full"``.

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
    check_is_model(estimator, "kl_per_dimension", has_codes=True)
    posterior = estimator.architecture_.posterior
    if not posterior.has_per_dimension_kl:
        raise ValueError(
            f"The KL of posterior={posterior!r} is no sum over latent dimensions, so no dimension "
            f"has a KL of its own. Use posterior='gaussian'."
        )
    rows = estimator._validate_with_conditions(X, y)
    return estimator._predictor().kl_per_dimension(rows).mean(axis=0)


def active_units(
    estimator: "VAETransformer", X: Any, y: Any = None, *, threshold: float = ACTIVE_THRESHOLD
) -> np.ndarray:
    """Mask of the latent dimensions whose mean KL exceeds a threshold; warn if they are few.

    The criterion is the KL, not the variance of the codes [1]_: in a linear model with two
    factors and more than two dimensions, the variance criterion counts more than two.

    Parameters
    ----------
    estimator : VAETransformer
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
    active = kl_per_dimension(estimator, X, y) > threshold
    n_active, n_components = int(active.sum()), len(active)
    if n_active >= MIN_ACTIVE_FRACTION * n_components:
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
