"""What a fitted model makes of its codes, and whether its densities can be trusted."""

from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import stats
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_scalar, gen_batches
from sklearn.utils.validation import check_is_fitted

from sklearn_vae.warnings import warn

if TYPE_CHECKING:
    from sklearn_vae.estimators.base import BaseVAE
    from sklearn_vae.estimators.table import DensityEstimator

# Points in latent space per row, as score_samples has them.
SCORE_DRAWS = 64
# A unit whose KL is no larger than this, in nats, says next to nothing of a row.
ACTIVE_FROM = 0.1
# Numbers that exist at once where every code is compared with every row's posterior.
PAIRS = 1 << 22
# Few units are active where it is less than this share of them.
FEW = 0.5


class Calibration(NamedTuple):
    """Where rows lie in the distributions that a model predicts for them.

    Attributes
    ----------
    pit : ndarray of shape (n_samples, n_features)
        Probability integral transforms, in 0 to 1; NaN in constant columns.
    statistic : ndarray of shape (n_features,)
        Kolmogorov and Smirnov's distance of each column's transforms from uniform ones.
    pvalue : ndarray of shape (n_features,)
        Probability of a distance so large in a calibrated model.
    """

    pit: np.ndarray
    statistic: np.ndarray
    pvalue: np.ndarray


def _check_has_codes(estimator: Any, asked: str) -> None:
    """Refuse an estimator whose codes are not for use."""
    check_is_fitted(estimator)
    if not hasattr(estimator, "transform"):
        raise TypeError(
            f"{asked} needs an estimator with codes, such as VAETransformer. "
            f"Got {type(estimator).__name__} instead."
        )


def kl_per_unit(estimator: "BaseVAE", X: Any, y: Any = None) -> np.ndarray:
    """KL of q(z|x) from the standard normal, per latent dimension.

    Parameters
    ----------
    estimator : VAETransformer
        A fitted estimator. Of several members the best is asked.
    X : array-like of shape (n_samples, n_features)
        Rows, in the units of the training rows.
    y : scalar or array-like of shape (n_samples,), default=None
        What is given with the rows, where the estimator is conditional.

    Returns
    -------
    ndarray of shape (n_components,)
        Nats, averaged over the rows. A categorical variable is one unit, whatever the number
        of its classes; its KL is that from equal probabilities.

    Raises
    ------
    ValueError
        If dimensions depend on each other, as with ``posterior="full"`` and ``"flow"``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae import VAETransformer
    >>> from sklearn_vae.metrics.diagnostics import kl_per_unit
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X)
    >>> kl_per_unit(vae, X).shape
    (2,)
    """
    _check_has_codes(estimator, "kl_per_unit")
    posterior = estimator.architecture_.posterior
    if not posterior.kl_is_per_unit:
        raise ValueError(
            f"The KL of posterior={posterior!r} is no sum over latent dimensions, so no dimension "
            f"has one of its own. posterior='gaussian' has."
        )
    return estimator._fitted().kl(estimator._validate_given(X, y)).mean(axis=0)


def active_units(
    estimator: "BaseVAE", X: Any, y: Any = None, *, threshold: float = ACTIVE_FROM
) -> np.ndarray:
    """Which latent dimensions say something of a row.

    The mean KL is asked, not the variance of the codes [1]_, which in a linear model with
    two factors and dimensions to spare counts more than two.

    Parameters
    ----------
    estimator : VAETransformer
        A fitted estimator.
    X : array-like of shape (n_samples, n_features)
        Rows, in the units of the training rows.
    y : scalar or array-like of shape (n_samples,), default=None
        What is given with the rows, where the estimator is conditional.
    threshold : float, default=0.1
        Nats of KL above which a dimension is active.

    Returns
    -------
    ndarray of bool of shape (n_components,)
        Their sum is the number of active dimensions.

    References
    ----------
    .. [1] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance Weighted
       Autoencoders", ICLR 2016.
    """
    return kl_per_unit(estimator, X, y) > threshold


def total_correlation(estimator: "BaseVAE", X: Any, y: Any = None, *, n_draws: int = 4) -> float:
    r"""How far the dimensions of all rows' codes together are from independent.

    .. math::
        KL\Bigl(q(z) \,\Big\|\, \prod_d q(z_d)\Bigr), \qquad q(z) = \frac{1}{n} \sum_i q(z | x_i)

    It is 0 where no dimension tells anything of the others. ``objective="tc"`` makes it
    small.

    Parameters
    ----------
    estimator : VAETransformer
        A fitted estimator. Of several members the best is asked.
    X : array-like of shape (n_samples, n_features)
        Rows, in the units of the training rows. The more of them, the nearer is the mixture
        of their posteriors to that of all rows there could be: of few rows with narrow
        posteriors the total correlation is larger. Time grows with their square: a thousand
        take about a second.
    y : scalar or array-like of shape (n_samples,), default=None
        With ``conditional=True``, what is given with the rows.
    n_draws : int, default=4
        Codes per row at which the densities are compared: Sobol points, which follow from
        the estimator's ``random_state``.

    Returns
    -------
    float
        Nats.

    Raises
    ------
    ValueError
        If ``n_draws`` is not an integer >= 1.

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
    _check_has_codes(estimator, "total_correlation")
    posterior = estimator.architecture_.posterior
    if posterior.has_codes or not posterior.kl_is_per_unit:
        raise ValueError(
            f"total_correlation integrates over each latent dimension by itself, and those of "
            f"posterior={posterior!r} depend on each other. posterior='gaussian' is what it is for."
        )
    check_scalar(n_draws, "n_draws", Integral, min_val=1)
    rows = estimator._validate_given(X, y)
    z, loc, log_scale = estimator._fitted().draws(rows, n_draws)
    z = z.reshape(-1, z.shape[2])  # (K n, l)
    ratio = np.empty(len(z))
    for some in gen_batches(len(z), max(PAIRS // loc.size, 1)):
        residual = (z[some, None] - loc) * np.exp(-log_scale)
        # constants cancel: those of the normal distributions here, the shares' below
        log_prob = -0.5 * residual**2 - log_scale  # (rows, n, l)
        joint = logsumexp(log_prob.sum(axis=2), axis=1)
        ratio[some] = joint - logsumexp(log_prob, axis=1).sum(axis=1)
    return float(ratio.mean() + (loc.shape[1] - 1) * np.log(len(loc)))


def train_validation_gap(
    estimator: "DensityEstimator", X_train: Any = None, X_valid: Any = None
) -> float:
    """How many nats per row the model says more of rows it has learned from.

    Parameters
    ----------
    estimator : VAETransformer or VAEDensity
        A fitted estimator.
    X_train, X_valid : array-like of shape (n_samples, n_features), default=None
        Rows it was fitted to, and rows it has not seen: the gap is that of the scores.
        By default it is that of the losses in ``history_``, where that of the validation
        rows was lowest; there ``loss`` is an average over an iteration's steps. Of
        VAEDensity's members, that of the largest share is asked.

    Returns
    -------
    float
        Nats; near 0 if nothing was learned by heart.

    Raises
    ------
    ValueError
        If only one table is given, or none and there were no validation rows.
    """
    check_is_fitted(estimator)
    if (X_train is None) != (X_valid is None):
        raise ValueError("X_train and X_valid must be given both or neither.")
    if X_train is not None:
        return estimator.score(X_train) - estimator.score(X_valid)
    validated = [row for row in estimator.history_ if "val_loss" in row and not row.get("member")]
    if not validated:
        raise ValueError(
            "No rows were set aside in this fit, so its history has no 'val_loss'. Give X_train "
            "and X_valid, or fit with early_stopping=True."
        )
    best = min(validated, key=lambda row: row["val_loss"])
    return float(best["val_loss"] - best["loss"])


class ScoreParts(NamedTuple):
    """A score, and how far the members of a model are apart on it.

    Attributes
    ----------
    expected : ndarray of shape (n_samples,)
        Mean of the members' log-densities, in nats.
    epistemic : ndarray of shape (n_samples,)
        What the log of their mean density has more, in nats: 0 where all members say the
        same, and large where training did not decide what the weights are.
    """

    expected: np.ndarray
    epistemic: np.ndarray


def score_parts(
    estimator: "BaseVAE", X: Any, y: Any = None, *, n_draws: int = SCORE_DRAWS
) -> ScoreParts:
    """Tell apart what a model says of rows and how far its members agree.

    The members are a sample of what the weights might be, as in a Bayesian model [1]_, and
    both parts add up to ``score_samples``. The epistemic part is small where there were
    training rows to learn from.

    Parameters
    ----------
    estimator : VAETransformer
        A fitted estimator of several members, ``n_init=5`` and ``ensemble=True``, say.
    X : array-like of shape (n_samples, n_features)
        Rows, in the units of the training rows.
    y : scalar or array-like of shape (n_samples,), default=None
        With ``conditional=True``, what is given with the rows.
    n_draws : int, default=64
        Points in latent space per row, as of ``score_samples``.

    Returns
    -------
    ScoreParts
        With ``expected`` and ``epistemic``, in nats per row.

    Raises
    ------
    ValueError
        If the estimator has one member only.
    TypeError
        If it is another estimator's.

    References
    ----------
    .. [1] B. Lakshminarayanan, A. Pritzel and C. Blundell, "Simple and Scalable Predictive
       Uncertainty Estimation using Deep Ensembles", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae import VAETransformer
    >>> from sklearn_vae.metrics.diagnostics import score_parts
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_init=4, ensemble=True, random_state=0).fit(X)
    >>> parts = score_parts(vae, X)
    >>> bool(np.allclose(sum(parts), vae.score_samples(X)))
    True
    """
    _check_has_codes(estimator, "score_parts")
    fitted = estimator._fitted()
    if fitted.n_members < 2:
        raise ValueError(
            "score_parts needs an estimator of several members, and this one has 1. Fit it with "
            "n_init=5 and ensemble=True."
        )
    scores = fitted.per_member(estimator._validate_given(X, y), n_draws)  # (M, n)
    expected = scores.mean(axis=0)
    return ScoreParts(expected, logsumexp(scores - expected, axis=0) - np.log(len(scores)))


def warn_of_collapse(
    estimator: "BaseVAE", X: Any, y: Any = None, *, threshold: float = ACTIVE_FROM
) -> np.ndarray:
    """Warn where the codes say nothing of the rows, and say what to change.

    Parameters
    ----------
    estimator : VAETransformer
        A fitted estimator.
    X : array-like of shape (n_samples, n_features)
        Rows, in the units of the training rows.
    y : scalar or array-like of shape (n_samples,), default=None
        What is given with the rows, where the estimator is conditional.
    threshold : float, default=0.1
        Nats of KL above which a dimension is active.

    Returns
    -------
    ndarray of bool of shape (n_components,)
        Which dimensions are active.

    Warns
    -----
    ConvergenceWarning
        If none is active, or fewer than half of them.
    """
    active = active_units(estimator, X, y, threshold=threshold)
    n_active, n_components = int(active.sum()), len(active)
    if n_active >= FEW * n_components:
        return active
    if n_active == 0:
        advice = (
            "The posterior has collapsed: no code says anything of its row. Lower beta "
            f"(it is {estimator.beta!r}) or let it rise with LinearWarmup, or set free_bits to "
            f"some tenths of a nat (it is {estimator.free_bits!r})"
        )
    else:
        advice = (
            f"The others cost nothing and say nothing. If {n_active} are enough, set "
            f"n_components={n_active}; if not, lower beta (it is {estimator.beta!r}) or set "
            f"free_bits to some tenths of a nat (it is {estimator.free_bits!r})"
        )
    warn(
        f"{n_active} of {n_components} latent dimensions have a mean KL above {threshold} nats. "
        f"{advice}.",
        ConvergenceWarning,
    )
    return active


def calibration(
    estimator: "DensityEstimator",
    X: Any,
    y: Any = None,
    *,
    given: str = "nothing",
    n_draws: int = 4096,
) -> Calibration:
    r"""Probability integral transforms of held-out rows, column by column.

    A value's transform is the probability that the model gives to smaller values,
    :math:`F_j(x_j)`. If the model is right they are uniform between 0 and 1; too many near
    0 and 1 mean that it is too sure of itself, too many in the middle that it is not sure
    enough [1]_. For two-valued columns the jump of :math:`F_j` is filled in by chance.

    Parameters
    ----------
    estimator : VAETransformer or VAEDensity
        A fitted estimator; of several members the mixture is asked. VAEDensity knows the
        marginal distributions only, which it finds by ``n_draws`` rows drawn from it.
    X : array-like of shape (n_samples, n_features)
        Rows that it was not fitted to, in the units of the training rows.
    y : scalar or array-like of shape (n_samples,), default=None
        What is given with the rows, where the estimator is conditional.
    given : {"nothing", "others"}, default="nothing"
        What is known when a value is predicted: nothing, which asks for each column's
        marginal distribution, or all other columns of its row.
    n_draws : int, default=4096
        Codes over which distributions are averaged: drawn from p(z), or with
        ``given="others"`` from q(z|x), widened and weighed by importance. They follow
        from the estimator's ``random_state``.

    Returns
    -------
    Calibration
        Transforms, and each column's distance from the uniform distribution.

    Raises
    ------
    ValueError
        If ``given`` or ``n_draws`` is not as it must be.

    References
    ----------
    .. [1] A. P. Dawid, "Present Position and Potential Developments: Some Personal
       Views: Statistical Theory: The Prequential Approach", Journal of the Royal
       Statistical Society A 147, 1984.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae import VAETransformer
    >>> from sklearn_vae.metrics.diagnostics import calibration
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X[::2])
    >>> calibration(vae, X[1::2], n_draws=64).pit.shape
    (75, 4)
    """
    check_is_fitted(estimator)
    if given not in ("nothing", "others"):
        raise ValueError(f"given must be 'nothing' or 'others'. Got {given!r} instead.")
    if given == "others":
        _check_has_codes(estimator, "calibration with given='others'")
    check_scalar(n_draws, "n_draws", Integral, min_val=1)
    if hasattr(estimator, "architecture_"):
        from sklearn_vae.estimators.checks import check_does_not_follow  # which imports PyTorch

        check_does_not_follow(estimator, "calibration")
    rows = estimator._validate_given(X, y)
    fitted = estimator._fitted()
    transforms = fitted.marginals if given == "nothing" else fitted.conditionals
    n_features = len(fitted.columns.kinds)
    pit = np.full((len(rows), n_features), np.nan)
    pit[:, fitted.columns.order] = transforms(rows, n_draws)
    statistic, pvalue = np.full((2, n_features), np.nan)
    for column in fitted.columns.order:
        statistic[column], pvalue[column] = stats.kstest(pit[:, column], "uniform")
    return Calibration(pit, statistic, pvalue)
