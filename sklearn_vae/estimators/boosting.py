"""Fit of boosted trees: each column of a table from the others."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sklearn_vae._compat import boosted_trees
from sklearn_vae.data.boosted_trees import BoostedTrees

N_TREES = 60
MIN_ROWS_PER_LEAF = 10
# Other parameters of trees that are fitted to rows with missing values, in large tables.
OF_INCOMPLETE_ROWS = {"learning_rate": 0.07, "max_leaf_nodes": 15, "min_samples_leaf": 20}


class _Sum(NamedTuple):
    """Trees that are added to a value.

    Attributes
    ----------
    label : float
        Class whose log-probability the sum is, but for a term; NaN for numbers.
    baseline : float
        Value that the trees are added to.
    bounds : tuple of float
        Smallest and largest prediction.
    unit : float
        Factor of the leaves' values.
    trees : sequence of ndarray
        Nodes, as scikit-learn has them.
    """

    label: float
    baseline: float
    bounds: tuple[float, float]
    unit: float
    trees: Sequence[np.ndarray]


def fit_boosted_trees(
    X: np.ndarray,
    observed: np.ndarray,
    columns: np.ndarray,
    sample_weight: np.ndarray | None,
    is_class: np.ndarray | None = None,
) -> BoostedTrees:
    """Fit scikit-learn's gradient boosting of some columns on the others.

    The targets are the observed values, of the mask ``observed`` (n, n_features). Missing values
    of X have been imputed, or are NaN. Columns of NaN alone are not used. Predicted numbers keep
    to the range of the targets. Columns of the mask ``is_class`` (n_features,) hold classes.
    """
    used = np.flatnonzero(~np.isnan(X).all(axis=0))
    takes_missing = bool(np.isnan(X[:, used]).any())
    params: dict[str, Any] = {"max_iter": N_TREES, "min_samples_leaf": MIN_ROWS_PER_LEAF}
    params |= OF_INCOMPLETE_ROWS if takes_missing else {}
    # scikit-learn adds neighbouring values, and none of its thresholds is above 1e300
    exponents = np.frexp(np.nan_to_num(np.abs(X)).max(axis=0))[1]
    scaled = np.ldexp(X, -exponents)
    sums: list[_Sum] = []
    predicted, targets, roots, n_nodes = [], [], [], 0
    nodes = [(np.zeros(0, int), np.zeros(0), np.zeros(0, bool), np.zeros((0, 2), int), np.zeros(0))]
    for column in columns[[bool((used != column).any()) for column in columns]].tolist():
        rows = observed[:, column]
        # columns that are never observed beside this one say nothing about it
        others = used[~np.isnan(X[rows][:, used]).all(axis=0) & (used != column)]
        if not len(others):
            continue
        weight = None if sample_weight is None else sample_weight[rows]
        has_classes = is_class is not None and is_class[column]
        fit = _fit_classes if has_classes else _fit_numbers
        for tree_sum in fit(scaled[rows][:, others], X[rows, column], weight, params):
            for tree in tree_sum.trees:
                child = np.column_stack([tree["left"], tree["right"]]).astype(np.int64)
                child[tree["is_leaf"] == 1] = np.flatnonzero(tree["is_leaf"])[:, None]
                feature = others[tree["feature_idx"]]
                threshold = np.ldexp(tree["num_threshold"], exponents[feature])
                nodes.append(
                    (
                        feature,
                        # infinite where missing values alone go to the right
                        np.minimum(threshold, np.finfo(float).max),
                        tree["missing_go_to_left"] == 1,
                        child + n_nodes,
                        tree_sum.unit * tree["value"] * tree["is_leaf"],
                    )
                )
                targets.append(len(sums))
                roots.append(n_nodes)
                n_nodes += len(tree)
            predicted.append(column)
            sums.append(tree_sum)
    features, thresholds, missing_left, children, values = (
        np.concatenate(parts) for parts in zip(*nodes, strict=True)
    )
    return BoostedTrees(
        n_features=X.shape[1],
        takes_missing=takes_missing,
        is_real=np.zeros(X.shape[1], dtype=bool),
        columns=np.array(predicted, dtype=int),
        classes=np.array([tree_sum.label for tree_sum in sums], dtype=float),
        baselines=np.array([tree_sum.baseline for tree_sum in sums], dtype=float),
        bounds=np.reshape([tree_sum.bounds for tree_sum in sums], (-1, 2)).astype(float),
        targets=np.array(targets, dtype=int),
        roots=np.array(roots, dtype=int),
        features=features,
        thresholds=thresholds,
        missing_left=missing_left,
        children=children,
        values=values,
    )


def _fit_numbers(
    X: np.ndarray, y: np.ndarray, weight: np.ndarray | None, params: dict[str, Any]
) -> list[_Sum]:
    """Fit the trees of a column of numbers."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    y = y.astype(np.float64)
    bounds = y.min(), y.max()
    # scikit-learn's gradients are of single precision; sums of the largest numbers overflow
    largest = np.abs(y).max() or 1.0
    y /= largest
    loc, scale = y.mean(), y.std() or 1.0
    regressor = HistGradientBoostingRegressor(early_stopping=False, random_state=0, **params)
    regressor.fit(X, (y - loc) / scale, weight)
    ((baseline, trees),) = boosted_trees(regressor)
    return [_Sum(np.nan, largest * (loc + scale * baseline), bounds, largest * scale, trees)]


def _fit_classes(
    X: np.ndarray, y: np.ndarray, weight: np.ndarray | None, params: dict[str, Any]
) -> list[_Sum]:
    """Fit the trees of each class, or of the second one of two; none for a single class."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    if (y == y[0]).all():
        return []
    classifier = HistGradientBoostingClassifier(early_stopping=False, random_state=0, **params)
    labels, codes = np.unique(y, return_inverse=True)  # durations may be fractions of a second
    classifier.fit(X, codes, weight)
    sums = boosted_trees(classifier)
    if len(sums) == 1:  # the log-odds of the second class
        sums = [(0.0, []), *sums]
    return [
        _Sum(label, baseline, (0.0, 0.0), 1.0, trees)
        for label, (baseline, trees) in zip(labels.tolist(), sums, strict=True)
    ]
