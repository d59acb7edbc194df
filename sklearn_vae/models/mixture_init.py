"""Mixtures to start from, fitted by scikit-learn."""

import warnings

import numpy as np
from scipy import linalg
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from sklearn_vae.initialization.ppca import recording_steps
from sklearn_vae.models.mixture_vae import MixtureInit

# Added to the components' variances, in units of the columns' own.
SMALLEST_VARIANCE = 1e-5
# A smallest scale is surpassed by so much: from below it, no gradient leads.
ABOVE_LEAST = 1.001
# A start needs no more rows than these, drawn by chance.
MOST_ROWS = 20_000


def learn_anchors(
    x: np.ndarray,
    counts: np.ndarray | None,
    is_bit: np.ndarray,
    n_mixture: int,
    covariance_type: str,
    seed: int,
    least_scale: np.ndarray | None = None,
) -> MixtureInit:
    """Fit a mixture: Gaussian in the real columns, Bernoulli in the binary ones.

    Parameters
    ----------
    x : ndarray of shape (n, n_columns)
        Encoded rows.
    counts : ndarray of shape (n,) or None
        How many times each row is there. Where these are no whole numbers, or too many,
        as many rows as there are at the most are drawn by them.
    is_bit : ndarray of shape (n_columns,)
        Which columns are binary.
    n_mixture : int
        Number of components.
    covariance_type : {"full", "diag"}
        Covariances of the real columns. A single full one is that of Ledoit and Wolf,
        which is not singular where rows are few.
    seed : int
        What the mixture's own start follows from.
    least_scale : ndarray of shape (d,), optional
        Smallest scale of each real column, given those before it; by default as small as
        rounding leaves it.

    Returns
    -------
    Anchors
        Weights, means, whitenings and logits.

    References
    ----------
    .. [1] O. Ledoit and M. Wolf, "A Well-Conditioned Estimator for Large-Dimensional
       Covariance Matrices", Journal of Multivariate Analysis 88, 2004.
    """
    rows = _copies(counts, len(x), np.random.default_rng(seed))
    real = x[rows][:, ~is_bit].astype(np.float64)
    bits = x[rows][:, is_bit].astype(np.float64)
    floor = np.maximum(np.square(recording_steps(real)) / 12 - SMALLEST_VARIANCE, 0)
    with warnings.catch_warnings(), config_context(array_api_dispatch=False):
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is a start, no end
        mixing, loc, covariance, share = _mixture(real, bits, n_mixture, covariance_type, seed)
    whiten = _whitening(covariance, floor)
    return MixtureInit(
        weight=mixing,
        loc=loc,
        whiten=whiten if least_scale is None else _widened(whiten, ABOVE_LEAST * least_scale),
        logit=_logits(share, bits),
    )


def _mixture(
    real: np.ndarray, bits: np.ndarray, n_mixture: int, covariance_type: str, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shares (C,), means (C, d), covariances, and the rows' parts (n, C) in the components."""
    n_real, is_full = real.shape[1], covariance_type == "full"
    if n_real and (n_mixture > 1 or not is_full):
        mixture = GaussianMixture(
            n_mixture,
            covariance_type=covariance_type,
            reg_covar=SMALLEST_VARIANCE,
            random_state=seed,
        ).fit(real)
        share = mixture.predict_proba(real)
        return mixture.weights_, mixture.means_, mixture.covariances_, share
    if n_real:
        shrunk = LedoitWolf().fit(real)
        covariance = shrunk.covariance_ + SMALLEST_VARIANCE * np.eye(n_real)
        return np.ones(1), shrunk.location_[None], covariance[None], np.ones((len(real), 1))
    labels = np.zeros(len(bits), dtype=int)
    if bits.shape[1] and n_mixture > 1:
        labels = KMeans(n_mixture, random_state=seed).fit_predict(bits)
    share = np.eye(n_mixture)[labels]
    empty = np.zeros((n_mixture, 0, 0) if is_full else (n_mixture, 0))
    return share.mean(axis=0), np.zeros((n_mixture, 0)), empty, share


def _copies(counts: np.ndarray | None, n_rows: int, generator: np.random.Generator) -> np.ndarray:
    """Numbers of the rows to learn from, each as often as it counts."""
    most = max(n_rows, MOST_ROWS)
    if counts is None and n_rows <= MOST_ROWS:
        return np.arange(n_rows)
    if counts is None:
        return np.sort(generator.choice(n_rows, MOST_ROWS, replace=False))
    whole = counts.round().astype(int)
    if np.allclose(counts, whole, rtol=1e-6) and whole.sum() <= most:
        return np.repeat(np.arange(n_rows), whole)
    return np.sort(generator.choice(n_rows, min(n_rows, MOST_ROWS), p=counts / counts.sum()))


def _whitening(covariance: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Root of each precision: lower triangular (C, d, d), or (C, d) for variances."""
    if covariance.ndim == 2:
        return 1 / np.sqrt(covariance + floor)
    identity = np.eye(covariance.shape[-1])
    roots = [np.linalg.cholesky(own + np.diag(floor)) for own in covariance]
    return np.array([linalg.solve_triangular(root, identity, lower=True) for root in roots])


def _widened(whiten: np.ndarray, least_scale: np.ndarray) -> np.ndarray:
    """Whitenings whose columns have no smaller scale, given those before them, than this."""
    if whiten.ndim == 2:
        return whiten / np.maximum(whiten * least_scale, 1)
    diagonal = np.diagonal(whiten, axis1=1, axis2=2)  # (C, d)
    return whiten / np.maximum(diagonal * least_scale, 1)[..., None]


def _logits(share: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Log-odds of each bit in each component, with one imagined row of the table's: (C, e)."""
    ones = share.T @ bits + bits.mean(axis=0)
    total = share.sum(axis=0)[:, None] + 1
    probability = np.clip(ones / total, 1e-6, 1 - 1e-6)
    return np.log(probability) - np.log1p(-probability)
