"""Fit of boosted trees: each column of a table from the others."""

from typing import Any, NamedTuple

import numpy as np

from sklearn_vae._compat import boosted_trees
from sklearn_vae.imputation.boosted_trees import BoostedTrees
from sklearn_vae.system.threads import one_openmp_thread

N_TREES = 60
MIN_ROWS_PER_LEAF = 10
# Other parameters of trees that are fitted to rows with missing values, in large tables.
OF_INCOMPLETE_ROWS = {
    "max_iter": 100,
    "max_features": 0.5,
    "learning_rate": 0.07,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 20,
    "l2_regularization": 10.0,
}
# scikit-learn adds two neighbouring values.
LARGEST = 1e300


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
    trees : list of ndarray
        Nodes, as scikit-learn has them.
    """

    label: float
    baseline: float
    bounds: tuple[float, float]
    unit: float
    trees: list[np.ndarray]


def fit_boosted_trees(
    X: np.ndarray,
    observed: np.ndarray,
    columns: np.ndarray,
    sample_weight: np.ndarray | None,
    is_class: np.ndarray | None = None,
    is_ordered: np.ndarray | None = None,
) -> BoostedTrees:
    """Fit scikit-learn's gradient boosting of some columns on the others.

    The targets are the observed values, of the mask ``observed`` (n, n_features). Missing values
    of X have been imputed, or are NaN. Columns of NaN alone are not used. Predicted numbers keep
    to the range of the targets. Columns of the mask ``is_class`` (n_features,) hold classes, with
    an order in those of ``is_ordered`` (n_features,).
    """
    n_features = X.shape[1]
    used = np.flatnonzero(~np.isnan(X).all(axis=0))
    takes_missing = bool(np.isnan(X[:, used]).any())
    params: dict[str, Any] = {"max_iter": N_TREES, "min_samples_leaf": MIN_ROWS_PER_LEAF}
    params |= OF_INCOMPLETE_ROWS if takes_missing else {}
    inputs = np.clip(X.astype(np.float64), -LARGEST, LARGEST)
    sums: list[tuple[int, np.ndarray, _Sum]] = []
    for column in columns.tolist():
        rows = observed[:, column]
        # columns that are never observed beside this one say nothing about it
        others = used[~np.isnan(X[rows][:, used]).all(axis=0) & (used != column)]
        if not len(others):
            continue
        weight = None if sample_weight is None else sample_weight[rows]
        fit = _fit_classes if is_class is not None and is_class[column] else _fit_numbers
        fitted = fit(inputs[rows][:, others], X[rows, column], weight, params)
        sums += [(column, others, each) for each in fitted]
    targets = [k for k, (_, _, each) in enumerate(sums) for _ in each.trees]
    return BoostedTrees(
        n_features=n_features,
        takes_missing=takes_missing,
        ordered=np.flatnonzero(np.zeros(n_features) if is_ordered is None else is_ordered),
        columns=np.array([column for column, _, _ in sums], dtype=int),
        classes=np.array([each.label for _, _, each in sums], dtype=float),
        baselines=np.array([each.baseline for _, _, each in sums], dtype=float),
        bounds=np.reshape([each.bounds for _, _, each in sums], (-1, 2)).astype(float),
        targets=np.array(targets, dtype=int),
        **_nodes_of([(tree, others, each.unit) for _, others, each in sums for tree in each.trees]),
    )


def _nodes_of(trees: list[tuple[np.ndarray, np.ndarray, float]]) -> dict[str, np.ndarray]:
    """Return the nodes of trees, as of ``BoostedTrees``: each with its columns and unit."""
    shape = len(trees), max((len(tree) for tree, _, _ in trees), default=1)
    features, values, thresholds = np.zeros(shape, int), np.zeros(shape), np.zeros(shape)
    missing_left = np.zeros(shape, bool)
    children = np.tile(np.arange(shape[1])[:, None], (shape[0], 1, 2))
    for k, (tree, others, unit) in enumerate(trees):
        of_tree, is_leaf = (k, slice(len(tree))), tree["is_leaf"] == 1
        features[of_tree] = others[tree["feature_idx"]]
        # infinite where missing values alone go to one side
        thresholds[of_tree] = np.nan_to_num(tree["num_threshold"])
        missing_left[of_tree] = tree["missing_go_to_left"] == 1
        values[of_tree] = unit * np.where(is_leaf, tree["value"], 0.0)
        children[k, : len(tree)][~is_leaf] = np.stack([tree["left"], tree["right"]], 1)[~is_leaf]
    return {
        "features": features,
        "thresholds": thresholds,
        "missing_left": missing_left,
        "children": children,
        "values": values,
    }


def _fit_numbers(
    X: np.ndarray, y: np.ndarray, weight: np.ndarray | None, params: dict[str, Any]
) -> list[_Sum]:
    """Fit the trees of a column of numbers."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    bounds = float(y.min()), float(y.max())
    # scikit-learn's gradients are of single precision, and sums of the largest numbers overflow
    y = y.astype(np.float64)
    largest = np.abs(y).max() or 1.0
    y /= largest
    loc, scale = y.mean(), y.std() or 1.0
    regressor = HistGradientBoostingRegressor(early_stopping=False, random_state=0, **params)
    with one_openmp_thread():
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
    with one_openmp_thread():
        classifier.fit(X, codes, weight)
    sums = boosted_trees(classifier)
    if len(sums) == 1:  # the log-odds of the second class
        sums = [(0.0, []), *sums]
    return [
        _Sum(label, baseline, (0.0, 0.0), 1.0, trees)
        for label, (baseline, trees) in zip(labels.tolist(), sums, strict=True)
    ]
