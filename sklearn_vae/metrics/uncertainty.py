"""Epistemic uncertainty of deep ensembles: disagreement of the members' log-densities."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from sklearn_vae.inference.constants import SCORE_DRAWS
from sklearn_vae.metrics.validation import check_has_codes
from sklearn_vae.numerics.seeds import MAX_DRAWS
from sklearn_vae.persistence.validation import check_count

if TYPE_CHECKING:
    from sklearn_vae.estimators.transformer import VAETransformer


class UncertaintyDecomposition(NamedTuple):
    """Log-density of an ensemble as a sum of an expected and an epistemic part.

    Attributes
    ----------
    expected : ndarray of shape (n_samples,)
        Mean of the members' log-densities, in nats.
    epistemic : ndarray of shape (n_samples,)
        Log of the members' mean density less ``expected``, in nats (Jensen's gap): 0 if all
        members agree, and large where the training rows do not determine the weights.
    """

    expected: np.ndarray
    epistemic: np.ndarray


def decompose_uncertainty(
    estimator: "VAETransformer", X: Any, y: Any = None, *, n_draws: int = SCORE_DRAWS
) -> UncertaintyDecomposition:
    """Decompose ``score_samples`` of an ensemble into expected log-density and disagreement.

    The members of a deep ensemble [1]_ approximate a sample from the posterior distribution of
    the networks' weights. Both parts add up to ``score_samples``. The epistemic part is small
    where there are training rows.

    Parameters
    ----------
    estimator : VAETransformer
        A fitted ensemble, with ``n_init=5`` and ``ensemble=True``, say.
    X : array-like of shape (n_samples, n_features)
        Rows, in the units of the training rows.
    y : scalar or array-like of shape (n_samples,), default=None
        Conditions of the rows, if the estimator is conditional.
    n_draws : int, default=64
        Points in latent space per row, as of ``score_samples``: at most 65,536.

    Returns
    -------
    UncertaintyDecomposition
        With ``expected`` and ``epistemic``, in nats per row.

    Raises
    ------
    ValueError
        If the estimator has one member only, or ``n_draws`` is out of range.
    TypeError
        If the estimator has no codes.

    References
    ----------
    .. [1] B. Lakshminarayanan, A. Pritzel and C. Blundell, "Simple and Scalable Predictive
       Uncertainty Estimation using Deep Ensembles", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae import VAETransformer
    >>> from sklearn_vae.metrics import decompose_uncertainty
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_init=4, ensemble=True, random_state=0).fit(X)
    >>> decomposition = decompose_uncertainty(vae, X)
    >>> bool(np.allclose(sum(decomposition), vae.score_samples(X)))
    True
    """
    check_has_codes(estimator, "decompose_uncertainty")
    n_draws = check_count("n_draws", n_draws, maximum=MAX_DRAWS)
    fitted = estimator._predictor()
    if fitted.n_members < 2:
        raise ValueError(
            "decompose_uncertainty needs an ensemble, and this estimator has 1 member. Fit it with "
            "n_init=5 and ensemble=True."
        )
    rows = estimator._validate_with_conditions(X, y)
    log_density = fitted.log_density_per_member(rows, n_draws)  # (M, n)
    expected = log_density.mean(axis=0)
    epistemic = logsumexp(log_density - expected, axis=0) - np.log(len(log_density))
    return UncertaintyDecomposition(expected, epistemic)
