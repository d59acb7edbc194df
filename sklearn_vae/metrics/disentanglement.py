"""Whether each latent dimension stands for one of the factors that rows were made of."""

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.metrics import mutual_info_score
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_consistent_length, check_scalar
from sklearn.utils.multiclass import type_of_target

# Trees of each forest, rows in a leaf at the least, and share of the rows that are held out.
N_TREES = 50
LEAF = 3
HELD_OUT = 0.25


class Disentanglement(NamedTuple):
    """How codes and factors belong together, three numbers that are 1 at best.

    Attributes
    ----------
    disentanglement : float
        Whether each dimension is important for one factor only; dimensions count by how
        important they are.
    completeness : float
        Whether each factor has one important dimension only.
    informativeness : float
        How well codes of held-out rows predict the factors: accuracy, or R² where a
        factor is continuous, on average over factors.
    importance : ndarray of shape (n_components, n_factors)
        Importance of each dimension for each factor; columns sum to 1.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray


def mutual_information_gap(Z: Any, factors: Any, *, n_bins: int = 20) -> float:
    r"""How much more of a factor one dimension says than the second best does (MIG).

    .. math::
        \frac{1}{K} \sum_k \frac{1}{H(v_k)} \Bigl( I(z_{d_k}; v_k)
        - \max_{d \ne d_k} I(z_d; v_k) \Bigr), \qquad d_k = \arg\max_d I(z_d; v_k)

    It is 1 where each factor can be read off one dimension and no other one says anything
    of it, and 0 where two dimensions say as much.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Codes, such as ``transform`` gives; PCA's as well.
    factors : array-like of shape (n_samples,) or (n_samples, n_factors)
        What the rows were made of, as numbers.
    n_bins : int, default=20
        Bins of equally many rows for columns of more different values.

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
    >>> mutual_information_gap(factors @ [[1, 1], [1, -1]], factors)  # turned by an eighth
    0.0
    """
    Z, factors = _check(Z, factors)
    check_scalar(n_bins, "n_bins", Integral, min_val=2)
    codes = [_binned(column, n_bins) for column in Z.T]
    gaps = []
    for column in factors.T:
        factor = _binned(column, n_bins)
        shared = np.sort([0.0, *(mutual_info_score(code, factor) for code in codes)])
        gaps.append((shared[-1] - shared[-2]) / mutual_info_score(factor, factor))
    return float(np.mean(gaps))


def disentanglement_scores(Z: Any, factors: Any, *, random_state: Any = 0) -> Disentanglement:
    r"""Disentanglement, completeness and informativeness of codes (DCI).

    Each factor is predicted from the codes by a random forest, whose importances R say
    which dimensions stand for it. With :math:`P` the rows, or columns, of R as shares, a
    dimension's disentanglement is :math:`1 - H(P_{d \cdot}) / \log K`, and a factor's
    completeness :math:`1 - H(P_{\cdot k}) / \log D`, for K factors and D dimensions.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Codes, such as ``transform`` gives; PCA's as well.
    factors : array-like of shape (n_samples,) or (n_samples, n_factors)
        What the rows were made of, as numbers. Columns of whole numbers are classes.
    random_state : int, RandomState instance or None, default=0
        What the forests and the rows held out follow from.

    Returns
    -------
    Disentanglement
        The three numbers, and the importances.

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
    found = [_forest(Z, column, random_state) for column in factors.T]
    importance = np.column_stack([own for own, _ in found])  # (l, K)
    per_dimension = importance.sum(axis=1)
    return Disentanglement(
        float(np.average(_concentration(importance), weights=per_dimension)),
        float(np.mean(_concentration(importance.T))),
        float(np.mean([score for _, score in found])),
        importance,
    )


def _check(Z: Any, factors: Any) -> tuple[np.ndarray, np.ndarray]:
    """Give codes and factors as arrays: (n, l), (n, n_factors)."""
    Z = check_array(Z, input_name="Z")
    factors = check_array(factors, ensure_2d=False, input_name="factors")
    factors = factors.reshape(len(factors), -1)
    check_consistent_length(Z, factors)
    for place, column in enumerate(factors.T):
        if (column == column[0]).all():
            raise ValueError(
                f"factors must have more than one value each. Factor {place} is "
                f"{column[0].item()!r} in all rows."
            )
    return Z, factors


def _binned(column: np.ndarray, n_bins: int) -> np.ndarray:
    """Number of each value's bin; of each value, where they are few."""
    values, place = np.unique(column, return_inverse=True)
    if len(values) <= n_bins:
        return place
    edges = np.quantile(column, np.arange(1, n_bins) / n_bins)
    return np.searchsorted(edges, column, side="right")


def _forest(Z: np.ndarray, factor: np.ndarray, random_state: Any) -> tuple[np.ndarray, float]:
    """Importance of each dimension for a factor, and the score of held-out rows."""
    is_continuous = type_of_target(factor) == "continuous"
    kind = RandomForestRegressor if is_continuous else RandomForestClassifier
    # every split may choose among all dimensions, or some would be given to silent ones
    forest = kind(N_TREES, min_samples_leaf=LEAF, max_features=None, random_state=random_state)
    rows = train_test_split(Z, factor, test_size=HELD_OUT, random_state=random_state)
    forest.fit(rows[0], rows[2])
    return forest.feature_importances_, float(forest.score(rows[1], rows[3]))


def _concentration(shares: np.ndarray) -> np.ndarray:
    """One minus the entropy of each row over its largest: 1 where all is in one place."""
    if shares.shape[1] == 1:
        return np.ones(len(shares))
    total = shares.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, shares, 1.0)  # of nothing each place has the same share
    return 1 - stats.entropy(shares, axis=1) / np.log(shares.shape[1])
