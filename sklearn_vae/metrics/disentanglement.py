"""Disentanglement of codes with respect to known generative factors: MIG and DCI."""

from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.metrics import mutual_info_score
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.multiclass import type_of_target

from sklearn_vae.numerics.seeds import RandomState
from sklearn_vae.persistence.validation import check_count

# The random forests of DCI, and the fraction of the rows on which they are scored.
N_TREES = 50
MIN_SAMPLES_LEAF = 3
TEST_FRACTION = 0.25


class Disentanglement(NamedTuple):
    """Disentanglement, completeness and informativeness of codes (DCI), each at most 1.

    Attributes
    ----------
    disentanglement : float
        1 if each dimension is important for one factor only; a mean over dimensions, weighted
        by their importance.
    completeness : float
        1 if only one dimension is important for each factor.
    informativeness : float
        Mean test score of the forests that predict the factors: accuracy, or R² of
        continuous factors.
    importance : ndarray of shape (n_components, n_factors)
        Importance of each dimension for each factor; columns sum to 1, or to 0 for constant codes.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray


def mutual_information_gap(Z: Any, factors: Any, *, n_bins: int = 20) -> float:
    r"""Mutual information gap (MIG): between the two most informative dimensions per factor.

    .. math::
        \frac{1}{K} \sum_k \frac{1}{H(v_k)} \Bigl( I(z_{d_k}; v_k)
        - \max_{d \ne d_k} I(z_d; v_k) \Bigr), \qquad d_k = \arg\max_d I(z_d; v_k)

    It is 1 if each factor is a function of one dimension and independent of all others, and 0
    if two dimensions are equally informative.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Codes, as returned by ``transform``; those of PCA, for instance, are as good.
    factors : array-like of shape (n_samples,) or (n_samples, n_factors)
        Generative factors of the rows, as numbers.
    n_bins : int, default=20
        Quantile bins of columns with more distinct values.

    Returns
    -------
    float
        Mean over the factors.

    Raises
    ------
    ValueError
        If a factor has one value only, or ``n_bins`` is not an integer >= 2.

    References
    ----------
    .. [1] R. T. Q. Chen, X. Li, R. Grosse and D. Duvenaud, "Isolating Sources of
       Disentanglement in Variational Autoencoders", NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_vae.metrics import mutual_information_gap
    >>> factors = np.array([[i, j] for i in range(8) for j in range(8)])
    >>> mutual_information_gap(factors, factors)
    1.0
    >>> mutual_information_gap(factors @ [[1, 1], [1, -1]], factors)  # rotated by 45 degrees
    0.0
    """
    Z, factors = _check(Z, factors)
    n_bins = check_count("n_bins", n_bins, minimum=2)
    codes = [_binned(column, n_bins) for column in Z.T]
    gaps = []
    for column in factors.T:
        factor = _binned(column, n_bins)
        information = np.sort([0.0, *(mutual_info_score(code, factor) for code in codes)])
        gaps.append((information[-1] - information[-2]) / mutual_info_score(factor, factor))
    return float(np.mean(gaps))


def disentanglement_scores(
    Z: Any, factors: Any, *, random_state: RandomState = 0
) -> Disentanglement:
    r"""Disentanglement, completeness and informativeness of codes (DCI).

    A random forest predicts each factor from the codes; R are its feature importances. With
    :math:`P` the rows, or columns, of R normalized to 1, a dimension's disentanglement is
    :math:`1 - H(P_{d \cdot}) / \log K`, and a factor's completeness
    :math:`1 - H(P_{\cdot k}) / \log D`, for K factors and D dimensions.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Codes, as returned by ``transform``; those of PCA, for instance, are as good.
    factors : array-like of shape (n_samples,) or (n_samples, n_factors)
        Generative factors of the rows, as numbers. Columns of integers are classes.
    random_state : int, RandomState instance or None, default=0
        Seed of the forests and of the split.

    Returns
    -------
    Disentanglement
        The three scores, and the importances.

    Raises
    ------
    ValueError
        If a factor has one value only.

    References
    ----------
    .. [1] C. Eastwood and C. K. I. Williams, "A Framework for the Quantitative Evaluation
       of Disentangled Representations", ICLR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_vae.metrics import disentanglement_scores
    >>> factors = np.random.default_rng(0).normal(size=(500, 2))
    >>> bool(disentanglement_scores(factors, factors).disentanglement > 0.95)
    True
    >>> bool(disentanglement_scores(factors @ [[1, 1], [1, -1]], factors).disentanglement < 0.1)
    True
    """
    Z, factors = _check(Z, factors)
    importances, scores = zip(*(_forest(Z, f, random_state) for f in factors.T), strict=True)
    importance = np.column_stack(importances)  # (l, K)
    weights = importance.sum(axis=1) + np.finfo(float).tiny  # equal if no dimension is important
    return Disentanglement(
        float(np.average(_concentration(importance), weights=weights)),
        float(np.mean(_concentration(importance.T))),
        float(np.mean(scores)),
        importance,
    )


def _check(Z: Any, factors: Any) -> tuple[np.ndarray, np.ndarray]:
    """Validate codes and factors, as arrays: (n, l), (n, n_factors)."""
    Z = check_array(Z, input_name="Z")
    if np.ndim(factors) == 0:
        raise ValueError(f"factors must have a value for each row of Z. Got {factors!r} instead.")
    factors = check_array(factors, ensure_2d=False, input_name="factors")
    factors = factors.reshape(len(factors), -1)
    check_consistent_length(Z, factors)
    for index, column in enumerate(factors.T):
        if (column == column[0]).all():
            raise ValueError(
                f"factors must have more than one value each. Factor {index} is "
                f"{column[0].item()!r} in all rows."
            )
    return Z, factors


def _binned(column: np.ndarray, n_bins: int) -> np.ndarray:
    """Quantile bin of each value, or index of the distinct value if they are few."""
    values, index = np.unique(column, return_inverse=True)
    if len(values) <= n_bins:
        return index
    quantiles = np.quantile(column, np.arange(1, n_bins) / n_bins)
    edges, counts = np.unique(quantiles, return_counts=True)
    bins = np.searchsorted(edges, column, side="right")
    # a value of more rows than a bin has a bin of its own
    is_repeated = np.isin(column, edges[counts > 1])
    return np.where(is_repeated, bins + n_bins, bins)


def _forest(
    Z: np.ndarray, factor: np.ndarray, random_state: RandomState
) -> tuple[np.ndarray, float]:
    """Importance of each dimension for a factor, and the forest's test score."""
    is_continuous = type_of_target(factor) == "continuous"
    cls = RandomForestRegressor if is_continuous else RandomForestClassifier
    # all dimensions compete in each split, or some splits would fall on uninformative ones
    forest = cls(
        N_TREES, min_samples_leaf=MIN_SAMPLES_LEAF, max_features=None, random_state=random_state
    )
    Z_train, Z_test, y_train, y_test = train_test_split(
        Z, factor, test_size=TEST_FRACTION, random_state=random_state
    )
    forest.fit(Z_train, y_train)
    return forest.feature_importances_, float(forest.score(Z_test, y_test))


def _concentration(importance: np.ndarray) -> np.ndarray:
    """One minus the normalized entropy of each row: 1 if all importance is in one column."""
    if importance.shape[1] == 1:
        return np.ones(len(importance))
    total = importance.sum(axis=1, keepdims=True)
    importance = np.where(total > 0, importance, 1.0)  # rows of zeros are uniform
    return 1 - stats.entropy(importance, axis=1) / np.log(importance.shape[1])
