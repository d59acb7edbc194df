"""k-means and linear discriminants, from which categorical latent variables are initialized."""

import warnings

import numpy as np
from scipy.special import softmax
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from sklearn_vae.initialization.ppca import MIN_VARIANCE, LinearGaussian, observed_moments
from sklearn_vae.numerics.rows import spread_out

# Rows of a longer table that are clustered, or tested for light tails, at most.
MAX_ROWS = 1 << 13


def kmeans_initialization(
    x: np.ndarray, weight: np.ndarray, n_variables: int, n_classes: int, seed: int
) -> LinearGaussian:
    """Fit k-means for categorical latent variables.

    Missing values of x (n, d) are NaN, and taken as the column's mean. Each variable clusters the
    residuals of the previous ones. ``posterior_weights`` and ``intercept`` give logits: the linear
    discriminants of spherical clusters, scaled down to a maximum median confidence.
    """
    rows = spread_out(len(x), MAX_ROWS)
    subset, weight = x[rows].astype(np.float64), weight[rows]
    loc, total_variance = observed_moments(subset, weight)
    centred = residual = np.nan_to_num(subset - loc)
    centres, labels = [], []
    for _ in range(n_variables):
        means, label = k_means(residual, weight, n_classes, seed, n_init=8, tol=0)
        centres.append(means)
        labels.append(label)
        residual = residual - means[label]
    variance = np.average(np.square(residual), axis=0, weights=weight)
    variance = np.maximum(variance, MIN_VARIANCE * total_variance)
    logits = [_linear_discriminants(centred, means, variance, weight) for means in centres]
    coef = np.hstack([slopes for slopes, _ in logits])  # (d, classes of all variables)
    intercept = np.concatenate([offsets for _, offsets in logits])

    # samples from the posterior are sometimes of another class, or between classes
    misassigned = np.zeros(len(loc))  # mean squared distance between both centres
    row_weight = (weight / weight.sum())[:, None]
    for means, label, (slopes, offsets) in zip(centres, labels, logits, strict=True):
        posterior = softmax(centred @ slopes + offsets, axis=1)
        joint = (np.eye(n_classes)[label] * row_weight).T @ posterior  # (label, sampled class)
        misassigned += np.einsum("ls,lsd->d", joint, np.square(means[:, None] - means))
    return LinearGaussian(
        loc=loc,
        residual=np.sqrt(variance + misassigned),
        loadings=np.vstack(centres),
        posterior_weights=coef,
        posterior_scale=np.ones(len(intercept)),
        intercept=intercept - loc @ coef,
    )


def k_means(
    x: np.ndarray, weight: np.ndarray, n_clusters: int, seed: int, n_init: int, tol: float = 1e-4
) -> tuple[np.ndarray, np.ndarray]:
    """Fit k-means to rows with weights: centres (n_clusters, d) and labels (n,).

    Clusters do not depend on the order of the rows, and weights are the same as copies.
    """
    if not x.shape[1]:  # every column of the table is constant
        return np.zeros((n_clusters, 0)), np.zeros(len(x), dtype=int)
    generator = np.random.RandomState(seed)
    key = (x * generator.standard_normal(x.shape[1])).sum(axis=1)
    _, first, row = np.unique(key, return_index=True, return_inverse=True)
    total = np.bincount(row, weight)
    n_distinct = min(n_clusters, int(np.count_nonzero(total)))
    with warnings.catch_warnings(), config_context(array_api_dispatch=False):
        warnings.simplefilter("ignore", ConvergenceWarning)  # of rows that differ by rounding only
        kmeans = KMeans(n_distinct, n_init=n_init, tol=tol, random_state=generator)
        kmeans.fit(x[first], sample_weight=total)
    centres = kmeans.cluster_centers_[np.arange(n_clusters) % n_distinct]
    return centres, kmeans.labels_[row]


def _linear_discriminants(
    x: np.ndarray, centres: np.ndarray, variance: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute coefficients (d, n_clusters) and intercepts of the logits of centred rows."""
    coef = (centres / variance).T
    intercept = -0.5 * (centres.T * coef).sum(axis=0)
    if len(centres) < 2:
        return coef, intercept
    largest = np.sort(x @ coef + intercept, axis=1)[:, -2:]
    order = np.argsort(gap := largest[:, 1] - largest[:, 0])
    cumulative = np.cumsum(weight[order])
    median_gap = gap[order[np.searchsorted(cumulative, cumulative[-1] / 2)]]
    # relaxed samples of a more confident posterior would almost never be of another class
    factor = min(3 / median_gap, 1.0) if median_gap > 0 else 1.0
    return factor * coef, factor * intercept
