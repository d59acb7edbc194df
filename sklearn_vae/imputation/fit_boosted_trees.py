"""Fit of boosted trees: each column of a table from the others."""

from dataclasses import replace

import numpy as np

from sklearn_vae._compat import boosted_trees
from sklearn_vae.imputation.boosted_trees import BoostedTrees, ColumnTrees, TargetEncoding
from sklearn_vae.system import one_thread

# Parameters of trees that are fitted to imputed rows, and to rows with missing values, in large
# tables.
OF_IMPUTED_ROWS: dict[str, float] = {"max_iter": 60, "min_samples_leaf": 10}
OF_INCOMPLETE_ROWS: dict[str, float] = {
    "max_iter": 100,
    "max_features": 0.5,
    "learning_rate": 0.07,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 20,
    "l2_regularization": 10.0,
}
# Columns with larger numbers are left out: scikit-learn adds neighbouring values, and none of its
# thresholds is above 1e300.
LARGEST = 1e298


def fit_boosted_trees(
    X: np.ndarray,
    observed: np.ndarray,
    columns: np.ndarray,
    sample_weight: np.ndarray | None,
    is_class: np.ndarray | None = None,
) -> BoostedTrees:
    """Fit scikit-learn's gradient boosting of some columns on the others.

    The targets are the observed values, of the mask ``observed`` (n, n_features). Missing values
    of X have been imputed, or are NaN. Columns of NaN alone, or of numbers beyond ``LARGEST``, are
    not used. Predicted numbers keep to the range of the targets. Columns of the mask ``is_class``
    (n_features,) hold classes, which are predicted as such, and split as numbers. Rows with missing
    values get target encodings of columns whose values repeat.
    """
    is_small = np.nan_to_num(np.abs(X)).max(axis=0).astype(np.float64) <= LARGEST
    used = np.flatnonzero(~np.isnan(X).all(axis=0) & is_small)
    takes_missing = bool(np.isnan(X[:, used]).any())
    params = OF_INCOMPLETE_ROWS if takes_missing else OF_IMPUTED_ROWS
    parts: list[ColumnTrees] = []
    for column in columns[is_small[columns]].tolist():
        rows = observed[:, column]
        # columns that are never observed beside this one say nothing about it
        others = used[~np.isnan(X[rows][:, used]).all(axis=0) & (used != column)]
        if not len(others):
            continue
        weight = None if sample_weight is None else sample_weight[rows]
        has_classes = is_class is not None and is_class[column]
        inputs = X[rows][:, others].astype(np.float64)
        encodings: tuple[TargetEncoding, ...] = ()
        if takes_missing:
            encodings, encoded = _encode(X[rows], column, others.tolist(), has_classes)
            inputs = np.hstack([inputs, encoded])
            others = np.append(others, X.shape[1] + np.arange(encoded.shape[1]))
        y = X[rows, column]
        if has_classes and (y == y[0]).all():
            continue
        part = _fit_column(column, inputs, y, weight, params, is_class=has_classes)
        parts.append(replace(part, features=others[part.features], encodings=encodings))
    none = np.zeros(X.shape[1], dtype=bool)
    return BoostedTrees(takes_missing, none, none, tuple(parts))


def _encode(
    X: np.ndarray, target: int, columns: list[int], has_classes: bool
) -> tuple[tuple[TargetEncoding, ...], np.ndarray]:
    """Fit target encodings of columns to the rows of a target; return them and their values."""
    labels, codes = np.unique(X[:, target], return_inverse=True)
    targets, n_classes = codes.astype(float), len(labels)
    if not has_classes or n_classes == 2:
        targets, n_classes = _standardize(X[:, target])[0], 0
    encodings = [TargetEncoding.fit(X[:, k], targets, k, n_classes) for k in columns]
    fitted = tuple(each for each in encodings if each is not None)
    parts = [each.transform(X, targets) for each in fitted]
    return fitted, np.hstack([X[:, :0], *parts])


def _standardize(y: np.ndarray) -> tuple[np.ndarray, float, float, float]:
    """Standardize numbers (n,); return also mean and scale after a division, and the divisor."""
    y = y.astype(np.float64)
    largest = np.abs(y).max() or 1.0  # sums of the largest numbers overflow
    y /= largest
    loc, scale = y.mean(), y.std() or 1.0
    return (y - loc) / scale, loc, scale, largest


def _fit_column(
    column: int,
    X: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray | None,
    params: dict[str, float],
    *,
    is_class: bool,
) -> ColumnTrees:
    """Fit the trees of a column of numbers, or of each of its classes, of two the second one."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    classes, bounds, loc, scale, largest = np.zeros(0), np.zeros(2), 0.0, 1.0, 1.0
    if is_class:
        labels, y = np.unique(y, return_inverse=True)  # durations may be fractions of a second
        classes, model = labels.astype(float), HistGradientBoostingClassifier
    else:
        bounds, model = np.array([y.min(), y.max()], float), HistGradientBoostingRegressor
        # scikit-learn's gradients are of single precision
        y, loc, scale, largest = _standardize(y)
    fitted = model(early_stopping=False, random_state=0, **params)
    with one_thread("openmp"):
        fitted.fit(X, y, weight)
    sums = boosted_trees(fitted)
    if len(classes) == 2:  # the log-odds of the second class
        sums = [(0.0, []), *sums]
    trees = [tree for _, of_sum in sums for tree in of_sum]
    nodes, n_nodes = np.concatenate(trees), np.array([len(tree) for tree in trees])
    roots, is_leaf = np.cumsum(n_nodes) - n_nodes, nodes["is_leaf"] == 1
    children = np.column_stack([nodes["left"], nodes["right"]]).astype(int)
    children += np.repeat(roots, n_nodes)[:, None]
    children[is_leaf] = np.flatnonzero(is_leaf)[:, None]
    return ColumnTrees(
        column=column,
        classes=classes,
        baselines=np.array([largest * (loc + scale * baseline) for baseline, _ in sums]),
        bounds=bounds,
        targets=np.repeat(np.arange(len(sums)), [len(of_sum) for _, of_sum in sums]),
        roots=roots,
        features=nodes["feature_idx"],
        thresholds=np.nan_to_num(nodes["num_threshold"]),  # infinite if missing values go alone
        missing_left=nodes["missing_go_to_left"] == 1,
        children=children,
        values=largest * scale * nodes["value"] * is_leaf,
    )
