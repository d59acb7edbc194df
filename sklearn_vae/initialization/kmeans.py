"""Start from clusters: k-means of the rows, where codes say which class a row is of."""

from dataclasses import replace

import numpy as np
from scipy.special import softmax

from sklearn_vae.initialization.ppca import (
    SMALLEST_VARIANCE,
    CorrelationPCA,
    LinearGaussian,
    pseudo_observation_scale,
    recording_steps,
)

# Rows that are clustered, evenly spread over a longer table.
MOST_ROWS = 1 << 13
# Starts of k-means, and steps at the most.
N_STARTS = 8
N_STEPS = 50
# Nats between the likeliest class and the next one that half of the rows start with at the
# most: relaxed draws of surer posteriors would hardly ever be of another class, and no
# gradient would say what that one makes of a row.
GAP = 3.0


def kmeans_initialization(
    x: np.ndarray,
    weight: np.ndarray | None,
    codes: tuple[int, int],
    n_components: int,
    generator: np.random.Generator,
    prior_rows: float = 0.0,
) -> LinearGaussian:
    """Classes at centres of clusters, and probabilistic PCA of what they leave.

    Parameters
    ----------
    x : ndarray of shape (n, d)
        Rows, missing cells of which are NaN and taken for means.
    weight : ndarray of shape (n,) or None
        What each row counts.
    codes : tuple of (n_variables, n_classes)
        Categorical variables; each clusters what the ones before it have left.
    n_components : int
        Width of the code: all classes of all variables, and continuous dimensions.
    generator : numpy.random.Generator
        What the starts of k-means follow from.
    prior_rows : float, default=0.0
        Rows that the scales' prior imagines, per row.

    Returns
    -------
    LinearStart
        With classes in place of the first dimensions: their ``posterior_weights`` and
        ``intercept`` give logits. Linear discriminants would be the posteriors of
        spherical clusters; they are made less sure of themselves.
    """
    rows = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_ROWS)).astype(int))
    seen = x[rows].astype(np.float64)
    counts = np.ones(len(rows)) if weight is None else weight[rows].astype(np.float64)
    observed = ~np.isnan(seen)
    total = np.maximum(counts @ observed, np.finfo(np.float64).tiny)
    loc = counts @ np.where(observed, seen, 0) / total
    left = np.where(observed, seen - loc, 0)
    spread = np.average(np.square(left), axis=0, weights=counts)
    n_variables, n_classes = codes
    centres, labels, apart = [], [], left
    for _ in range(n_variables):
        own, label = k_means(left, counts, n_classes, generator)
        centres.append(own)
        labels.append(label)
        left = left - own[label]
    floor = SMALLEST_VARIANCE * np.where(spread > 0, spread, 1.0)
    variance = np.maximum(np.average(np.square(left), axis=0, weights=counts), floor)
    logits = [_discriminants(apart, own, variance, counts) for own in centres]
    slopes = np.hstack([slope for slope, _ in logits])  # (d, classes of all variables)
    offsets = np.concatenate([offset for _, offset in logits])

    steps, n_rest = recording_steps(seen), n_components - n_variables * n_classes
    start = replace(CorrelationPCA.of(left, counts, n_rest), steps=steps).start(n_rest, prior_rows)
    of_rest = np.square(start.residual) if n_rest else variance
    # draws are now and then of another class, or between classes
    blurred = of_rest + sum(
        _astray(own, label, softmax(apart @ slope + offset, axis=1), counts)
        for own, label, (slope, offset) in zip(centres, labels, logits, strict=True)
    )
    return replace(
        start,
        loc=loc,
        residual=np.sqrt(blurred),
        pseudo_observation_scale=pseudo_observation_scale(of_rest, steps, prior_rows),
        loadings=np.vstack([*centres, start.loadings]),
        posterior_weights=np.hstack([slopes, start.posterior_weights]),
        posterior_scale=np.concatenate([np.ones(len(offsets)), start.posterior_scale]),
        intercept=np.concatenate([offsets - loc @ slopes, -loc @ start.posterior_weights]),
    )


def k_means(
    x: np.ndarray, weight: np.ndarray, n_clusters: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Centres (n_clusters, d) and labels (n,) of the best of several starts.

    A row of weight 2 is as two rows, whatever their order; scikit-learn's draws its first
    centres by places in the table. Where there are fewer different rows than
    clusters, the centres that are left over lie at the mean.

    References
    ----------
    .. [1] D. Arthur and S. Vassilvitskii, "k-means++: The Advantages of Careful Seeding",
       SODA 2007.
    """
    mean = np.average(x, axis=0, weights=weight)
    # equal rows side by side, in an order that does not hang on that of the table
    axis = CorrelationPCA.of(x, weight, 1).axes
    order = np.argsort((x @ axis).sum(axis=1), kind="stable")
    x, weight = x[order], weight[order]
    found = []
    for chances in generator.random((N_STARTS, n_clusters)):
        centres = _first_centres(x, weight, chances)
        for _ in range(N_STEPS):
            distance = _distances(x, centres)
            labels = distance.argmin(axis=1)
            before, centres = centres, _means(x, weight, labels, centres)
            if np.array_equal(before, centres):
                break
        found.append((weight @ distance.min(axis=1), centres, labels))
    _, centres, labels = min(found, key=lambda one: one[0])
    more = np.repeat(mean[None], n_clusters - len(centres), axis=0)
    return np.vstack([centres, more]), labels[np.argsort(order)]


def _first_centres(x: np.ndarray, weight: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Draw rows, the likelier the farther they lie from those that are drawn."""
    distance, centres = np.ones(len(x)), x[:0]
    for chance in chances:
        ends = np.cumsum(weight * distance)
        if ends[-1] <= 0:
            break
        place = min(int(np.searchsorted(ends, chance * ends[-1], side="right")), len(x) - 1)
        centres = np.vstack([centres, x[place]])
        own = np.square(x - x[place]).sum(axis=1)
        distance = own if len(centres) == 1 else np.minimum(distance, own)
    return centres


def _distances(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared distances: (n, n_clusters)."""
    own = np.square(x).sum(axis=1)[:, None]
    return np.maximum(own + np.square(centres).sum(axis=1) - 2 * (x @ centres.T), 0)


def _means(
    x: np.ndarray, weight: np.ndarray, labels: np.ndarray, centres: np.ndarray
) -> np.ndarray:
    """Means of the rows of each cluster; one without rows stays where it is."""
    counts = np.bincount(labels, weight, len(centres))
    member = (labels[:, None] == np.arange(len(centres))) * weight[:, None]
    means = (member.T @ x) / np.maximum(counts, np.finfo(np.float64).tiny)[:, None]
    return np.where(counts[:, None] > 0, means, centres)


def _astray(
    centres: np.ndarray, label: np.ndarray, share: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Mean squared distance of the centres that a row may be given from its own: (d,)."""
    counts = weight / weight.sum()
    ones = np.eye(len(centres))[label] * counts[:, None]
    together = ones.T @ share  # (own, given)
    return np.einsum("og,ogd->d", together, np.square(centres[:, None] - centres))


def _discriminants(
    x: np.ndarray, centres: np.ndarray, variance: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (d, n_clusters) and offsets of logits, for rows from which the mean is taken."""
    slopes = (centres / variance).T
    offsets = -0.5 * (centres.T * slopes).sum(axis=0)
    if len(centres) < 2:
        return slopes, offsets
    best = np.sort(x @ slopes + offsets, axis=1)[:, -2:]
    order = np.argsort(gap := best[:, 1] - best[:, 0])
    ends = np.cumsum(weight[order])
    middle = gap[order[np.searchsorted(ends, ends[-1] / 2)]]
    share = min(GAP / middle, 1.0) if middle > 0 else 1.0
    return share * slopes, share * offsets
