"""k-means and linear discriminants, from which categorical latent variables are initialized."""

from dataclasses import replace

import numpy as np
from scipy.special import softmax

from sklearn_vae.initialization.ppca import (
    MIN_VARIANCE,
    CorrelationPCA,
    LinearGaussian,
)
from sklearn_vae.numerics.row_subsets import spread_out

# Maximum number of rows to cluster, evenly spread over a longer table.
MAX_ROWS = 1 << 13
# Initializations of k-means, and maximum number of iterations.
N_INIT = 8
MAX_ITER = 50
# Maximum median gap, in nats, between the logits of the likeliest and the second likeliest class.
# Relaxed samples of a more confident posterior would almost never be of another class, and the
# gradient would not depend on the other classes' reconstructions.
MAX_MEDIAN_GAP = 3.0


def kmeans_initialization(
    x: np.ndarray,
    weight: np.ndarray | None,
    codes: tuple[int, int],
    n_components: int,
    generator: np.random.Generator,
) -> LinearGaussian:
    """Fit k-means for categorical latent variables, and probabilistic PCA to its residuals.

    Missing values of x (n, d) are NaN, and taken as the column's mean. Of the categorical
    variables ``codes`` (n_variables, n_classes), each clusters the residuals of the previous ones.

    The first dimensions are the classes; their ``posterior_weights`` and ``intercept`` give
    logits. These are the linear discriminants of spherical clusters, scaled down to a maximum
    median confidence.
    """
    rows = spread_out(len(x), MAX_ROWS)
    subset = x[rows].astype(np.float64)
    weight = np.ones(len(rows)) if weight is None else weight[rows].astype(np.float64)
    observed = ~np.isnan(subset)
    total = np.maximum(weight @ observed, np.finfo(np.float64).tiny)
    loc = weight @ np.where(observed, subset, 0) / total
    centred = residual = np.where(observed, subset - loc, 0)
    total_variance = np.average(np.square(residual), axis=0, weights=weight)
    n_variables, n_classes = codes
    centres, labels = [], []
    for _ in range(n_variables):
        variable_centres, variable_labels = k_means(residual, weight, n_classes, generator)
        centres.append(variable_centres)
        labels.append(variable_labels)
        residual = residual - variable_centres[variable_labels]
    floor = MIN_VARIANCE * np.where(total_variance > 0, total_variance, 1.0)
    variance = np.maximum(np.average(np.square(residual), axis=0, weights=weight), floor)
    logits = [_linear_discriminants(centred, means, variance, weight) for means in centres]
    coef = np.hstack([slopes for slopes, _ in logits])  # (d, classes of all variables)
    intercept = np.concatenate([offsets for _, offsets in logits])

    n_continuous = n_components - n_variables * n_classes
    ppca = CorrelationPCA.fit(residual, weight, n_continuous).linear_gaussian(n_continuous)
    if n_continuous:
        variance = np.square(ppca.residual)
    # samples from the posterior are sometimes of another class, or between classes
    misassigned = sum(
        _misassignment_variance(means, label, softmax(centred @ slopes + offsets, axis=1), weight)
        for means, label, (slopes, offsets) in zip(centres, labels, logits, strict=True)
    )
    return replace(
        ppca,
        loc=loc,
        residual=np.sqrt(variance + misassigned),
        loadings=np.vstack([*centres, ppca.loadings]),
        posterior_weights=np.hstack([coef, ppca.posterior_weights]),
        posterior_scale=np.concatenate([np.ones(len(intercept)), ppca.posterior_scale]),
        intercept=np.concatenate([intercept - loc @ coef, -loc @ ppca.posterior_weights]),
    )


def k_means(
    x: np.ndarray, weight: np.ndarray, n_clusters: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Compute centres (n_clusters, d) and labels (n,), the best of several initializations.

    The result is the same if a row of weight 2 is given as two rows, in any order; with
    scikit-learn's ``KMeans``, the initial centres depend on the order. With fewer distinct rows
    than clusters, the remaining centres are the mean.

    References
    ----------
    .. [1] D. Arthur and S. Vassilvitskii, "k-means++: The Advantages of Careful Seeding",
       SODA 2007.
    """
    mean = np.average(x, axis=0, weights=weight)
    # an order that does not depend on that of the table, with equal rows next to each other
    axis = CorrelationPCA.fit(x, weight, 1).axes
    order = np.argsort((x @ axis).sum(axis=1), kind="stable")
    x, weight = x[order], weight[order]
    results = []
    for quantiles in generator.random((N_INIT, n_clusters)):
        centres = _kmeans_plusplus(x, weight, quantiles)
        for _ in range(MAX_ITER):
            distances = _squared_distances(x, centres)
            labels = distances.argmin(axis=1)
            previous, centres = centres, _cluster_means(x, weight, labels, centres)
            if np.array_equal(previous, centres):
                break
        results.append((weight @ distances.min(axis=1), centres, labels))
    _, centres, labels = min(results, key=lambda result: result[0])
    remaining = np.repeat(mean[None], n_clusters - len(centres), axis=0)
    return np.vstack([centres, remaining]), labels[np.argsort(order)]


def _kmeans_plusplus(x: np.ndarray, weight: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Draw initial centres with probability proportional to the squared distance [1]_.

    The quantiles (n_clusters,) are uniform random numbers.
    """
    distance, centres = np.ones(len(x)), x[:0]
    for quantile in quantiles:
        cumulative = np.cumsum(weight * distance)
        if cumulative[-1] <= 0:
            break
        row = int(np.searchsorted(cumulative, quantile * cumulative[-1], side="right"))
        row = min(row, len(x) - 1)
        centres = np.vstack([centres, x[row]])
        to_new = np.square(x - x[row]).sum(axis=1)
        distance = to_new if len(centres) == 1 else np.minimum(distance, to_new)
    return centres


def _squared_distances(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Compute squared distances: (n, n_clusters)."""
    norms = np.square(x).sum(axis=1)[:, None]
    return np.maximum(norms + np.square(centres).sum(axis=1) - 2 * (x @ centres.T), 0)


def _cluster_means(
    x: np.ndarray, weight: np.ndarray, labels: np.ndarray, centres: np.ndarray
) -> np.ndarray:
    """Compute the mean of each cluster; the centre of an empty one stays."""
    total = np.bincount(labels, weight, len(centres))
    membership = (labels[:, None] == np.arange(len(centres))) * weight[:, None]
    means = (membership.T @ x) / np.maximum(total, np.finfo(np.float64).tiny)[:, None]
    return np.where(total[:, None] > 0, means, centres)


def _misassignment_variance(
    centres: np.ndarray, label: np.ndarray, posterior: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Compute the mean squared distance between the labels' centres and sampled ones: (d,)."""
    one_hot = np.eye(len(centres))[label] * (weight / weight.sum())[:, None]
    joint = one_hot.T @ posterior  # (label, sampled class)
    return np.einsum("ls,lsd->d", joint, np.square(centres[:, None] - centres))


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
    factor = min(MAX_MEDIAN_GAP / median_gap, 1.0) if median_gap > 0 else 1.0
    return factor * coef, factor * intercept
