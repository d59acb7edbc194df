"""Fit of boosted trees: each column of a table from the others."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sklearn_vae._compat import boosted_trees
from sklearn_vae.data.training_column import times_power_of_two
from sklearn_vae.imputation.boosted_trees import BoostedTrees
from sklearn_vae.imputation.target_encoding import TargetEncoding
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
LARGEST = np.finfo(float).max
# Numbers of 2 to this power or more are scaled by a power of two.
MAX_EXPONENT = 990


class _Sum(NamedTuple):
    """Trees that are added to a value."""

    label: float  # class whose log-probability the sum is, but for a term; NaN for numbers
    baseline: float
    bounds: tuple[float, float]  # of predictions
    unit: float  # factor of the leaves' values
    trees: Sequence[np.ndarray]  # nodes, as scikit-learn has them


class _Nodes(NamedTuple):
    """Nodes of a tree, as of ``BoostedTrees``."""

    features: np.ndarray
    thresholds: np.ndarray
    missing_left: np.ndarray
    children: np.ndarray
    values: np.ndarray


# The nodes of no tree.
NO_NODES = _Nodes(
    np.zeros(0, int), np.zeros(0), np.zeros(0, bool), np.zeros((0, 2), int), np.zeros(0)
)


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
    to the range of the targets. Columns of the mask ``is_class`` (n_features,) hold classes, which
    are predicted as such, and split as numbers. Rows with missing values get target encodings of
    columns whose values repeat.
    """
    used = np.flatnonzero(~np.isnan(X).all(axis=0))
    takes_missing = bool(np.isnan(X[:, used]).any())
    params: dict[str, Any] = {"max_iter": N_TREES, "min_samples_leaf": MIN_ROWS_PER_LEAF}
    params |= OF_INCOMPLETE_ROWS if takes_missing else {}
    # scikit-learn adds neighbouring values, and none of its thresholds is above 1e300
    exponents = np.maximum(np.frexp(np.nan_to_num(np.abs(X)).max(axis=0))[1] - MAX_EXPONENT, 0)
    scaled = times_power_of_two(X.astype(np.float64), -exponents)
    sums: list[tuple[int, _Sum]] = []
    trees: list[tuple[int, _Nodes]] = []
    encodings: list[TargetEncoding] = []
    for column in columns[[bool((used != column).any()) for column in columns]].tolist():
        rows = observed[:, column]
        # columns that are never observed beside this one say nothing about it
        others = used[~np.isnan(X[rows][:, used]).all(axis=0) & (used != column)]
        if not len(others):
            continue
        weight = None if sample_weight is None else sample_weight[rows]
        has_classes = is_class is not None and is_class[column]
        fit = _fit_classes if has_classes else _fit_numbers
        inputs = scaled[rows][:, others]
        if takes_missing:
            fitted, encoded = _encode(X[rows], column, others.tolist(), has_classes)
            encodings += fitted
            inputs = np.hstack([inputs, encoded])
            others = np.append(others, X.shape[1] + np.arange(encoded.shape[1]))
        for tree_sum in fit(inputs, X[rows, column], weight, params):
            trees += [
                (len(sums), _to_nodes(tree, others, exponents, tree_sum.unit))
                for tree in tree_sum.trees
            ]
            sums.append((column, tree_sum))
    return _join(sums, trees, encodings, n_features=X.shape[1], takes_missing=takes_missing)


def _encode(
    X: np.ndarray, target: int, columns: list[int], has_classes: bool
) -> tuple[list[TargetEncoding], np.ndarray]:
    """Fit target encodings of columns to the rows of a target; return them and their values."""
    labels, codes = np.unique(X[:, target], return_inverse=True)
    targets, n_classes = codes.astype(float), len(labels)
    if not has_classes or n_classes == 2:
        targets, n_classes = _standardize(X[:, target])[0], 0
    found = [TargetEncoding.fit(X[:, k], targets, k, target, n_classes) for k in columns]
    fitted = [each for each in found if each is not None]
    parts = [each.transform(X, targets) for each in fitted]
    return fitted, np.hstack([X[:, :0], *parts])


def _to_nodes(tree: np.ndarray, others: np.ndarray, exponents: np.ndarray, unit: float) -> _Nodes:
    """Nodes of a tree of the columns ``others``, with X's own indices and units."""
    features, is_leaf = others[tree["feature_idx"]], tree["is_leaf"] == 1
    children = np.column_stack([tree["left"], tree["right"]]).astype(int)
    children[is_leaf] = np.flatnonzero(is_leaf)[:, None]
    unit_exponents = np.append(exponents, 0).take(features, mode="clip")
    thresholds = np.ldexp(tree["num_threshold"], unit_exponents)
    return _Nodes(
        features=features,
        # infinite where missing values alone go to one side
        thresholds=np.clip(thresholds, -LARGEST, LARGEST),
        missing_left=tree["missing_go_to_left"] == 1,
        children=children,
        values=unit * tree["value"] * is_leaf,
    )


def _join(
    sums: Sequence[tuple[int, _Sum]],
    trees: Sequence[tuple[int, _Nodes]],
    encodings: Sequence[TargetEncoding],
    *,
    n_features: int,
    takes_missing: bool,
) -> BoostedTrees:
    """Join sums, each with its column, and trees, each with the index of its sum."""
    parts = [NO_NODES, *(nodes for _, nodes in trees)]
    n_before = np.cumsum([len(nodes.values) for nodes in parts])[:-1].tolist()
    children = [NO_NODES.children]
    children += [nodes.children + n for nodes, n in zip(parts[1:], n_before, strict=True)]
    return BoostedTrees(
        n_features=n_features,
        takes_missing=takes_missing,
        is_real=np.zeros(n_features, dtype=bool),
        columns=np.array([column for column, _ in sums], dtype=int),
        classes=np.array([tree_sum.label for _, tree_sum in sums], dtype=float),
        baselines=np.array([tree_sum.baseline for _, tree_sum in sums], dtype=float),
        bounds=np.reshape([tree_sum.bounds for _, tree_sum in sums], (-1, 2)).astype(float),
        targets=np.array([target for target, _ in trees], dtype=int),
        roots=np.array(n_before, dtype=int),
        features=np.concatenate([nodes.features for nodes in parts]),
        thresholds=np.concatenate([nodes.thresholds for nodes in parts]),
        missing_left=np.concatenate([nodes.missing_left for nodes in parts]),
        children=np.concatenate(children),
        values=np.concatenate([nodes.values for nodes in parts]),
        encodings=tuple(encodings),
    )


def _standardize(y: np.ndarray) -> tuple[np.ndarray, float, float, float]:
    """Standardize numbers (n,); return also mean and scale after a division, and the divisor."""
    y = y.astype(np.float64)
    largest = np.abs(y).max() or 1.0  # sums of the largest numbers overflow
    y /= largest
    loc, scale = y.mean(), y.std() or 1.0
    return (y - loc) / scale, loc, scale, largest


def _fit_numbers(
    X: np.ndarray, y: np.ndarray, weight: np.ndarray | None, params: dict[str, Any]
) -> list[_Sum]:
    """Fit the trees of a column of numbers."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    bounds = float(y.min()), float(y.max())
    # scikit-learn's gradients are of single precision
    y, loc, scale, largest = _standardize(y)
    regressor = HistGradientBoostingRegressor(early_stopping=False, random_state=0, **params)
    with one_openmp_thread():
        regressor.fit(X, y, weight)
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
