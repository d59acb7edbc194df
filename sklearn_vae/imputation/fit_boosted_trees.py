"""Fit of boosted trees: each column of a table from the others."""

from typing import NamedTuple

import numpy as np

from sklearn_vae._compat import boosted_trees
from sklearn_vae.data.training_column import times_power_of_two
from sklearn_vae.imputation.boosted_trees import BoostedTrees, ColumnTrees
from sklearn_vae.imputation.target_encoding import TargetEncoding
from sklearn_vae.system.blas import one_thread

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


class _Fit(NamedTuple):
    """A fitted regressor or classifier of scikit-learn: sums of trees."""

    classes: np.ndarray  # of each sum; none of a regressor
    baselines: list[float]  # values that the trees are added to
    bounds: tuple[float, float]  # of predictions
    unit: float  # factor of the leaves' values
    trees: list[list[np.ndarray]]  # nodes of the trees of each sum


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
    params: dict[str, float] = {"max_iter": N_TREES, "min_samples_leaf": MIN_ROWS_PER_LEAF}
    params |= OF_INCOMPLETE_ROWS if takes_missing else {}
    # scikit-learn adds neighbouring values, and none of its thresholds is above 1e300
    exponents = np.maximum(np.frexp(np.nan_to_num(np.abs(X)).max(axis=0))[1] - MAX_EXPONENT, 0)
    scaled = times_power_of_two(X.astype(np.float64), -exponents)
    parts: list[ColumnTrees] = []
    for column in columns[[bool((used != column).any()) for column in columns]].tolist():
        rows = observed[:, column]
        # columns that are never observed beside this one say nothing about it
        others = used[~np.isnan(X[rows][:, used]).all(axis=0) & (used != column)]
        if not len(others):
            continue
        weight = None if sample_weight is None else sample_weight[rows]
        has_classes = is_class is not None and is_class[column]
        inputs = scaled[rows][:, others]
        encodings: tuple[TargetEncoding, ...] = ()
        if takes_missing:
            encodings, encoded = _encode(X[rows], column, others.tolist(), has_classes)
            inputs = np.hstack([inputs, encoded])
            others = np.append(others, X.shape[1] + np.arange(encoded.shape[1]))
        fit = _fit_classes if has_classes else _fit_numbers
        fitted = fit(inputs, X[rows, column], weight, params)
        if fitted is not None:
            parts.append(_to_column_trees(column, fitted, others, exponents, encodings))
    none = np.zeros(X.shape[1], dtype=bool)
    return BoostedTrees(X.shape[1], takes_missing, none, none, tuple(parts))


def _encode(
    X: np.ndarray, target: int, columns: list[int], has_classes: bool
) -> tuple[tuple[TargetEncoding, ...], np.ndarray]:
    """Fit target encodings of columns to the rows of a target; return them and their values."""
    labels, codes = np.unique(X[:, target], return_inverse=True)
    targets, n_classes = codes.astype(float), len(labels)
    if not has_classes or n_classes == 2:
        targets, n_classes = _standardize(X[:, target])[0], 0
    found = [TargetEncoding.fit(X[:, k], targets, k, n_classes) for k in columns]
    fitted = tuple(each for each in found if each is not None)
    parts = [each.transform(X, targets) for each in fitted]
    return fitted, np.hstack([X[:, :0], *parts])


def _to_column_trees(
    column: int,
    fit: _Fit,
    inputs: np.ndarray,
    exponents: np.ndarray,
    encodings: tuple[TargetEncoding, ...],
) -> ColumnTrees:
    """Convert trees of inputs of these indices, whose units are powers of two."""
    trees = [tree for of_sum in fit.trees for tree in of_sum]
    nodes, n_nodes = np.concatenate(trees), np.array([len(tree) for tree in trees])
    roots = np.cumsum(n_nodes) - n_nodes
    features, is_leaf = inputs[nodes["feature_idx"]], nodes["is_leaf"] == 1
    children = np.column_stack([nodes["left"], nodes["right"]]).astype(int)
    children += np.repeat(roots, n_nodes)[:, None]
    children[is_leaf] = np.flatnonzero(is_leaf)[:, None]
    unit_exponents = np.append(exponents, 0).take(features, mode="clip")
    return ColumnTrees(
        column=column,
        classes=fit.classes,
        baselines=np.array(fit.baselines),
        bounds=np.array(fit.bounds),
        targets=np.repeat(np.arange(len(fit.trees)), [len(of_sum) for of_sum in fit.trees]),
        roots=roots,
        features=features,
        # infinite where missing values alone go to one side
        thresholds=np.clip(np.ldexp(nodes["num_threshold"], unit_exponents), -LARGEST, LARGEST),
        missing_left=nodes["missing_go_to_left"] == 1,
        children=children,
        values=fit.unit * nodes["value"] * is_leaf,
        encodings=encodings,
    )


def _standardize(y: np.ndarray) -> tuple[np.ndarray, float, float, float]:
    """Standardize numbers (n,); return also mean and scale after a division, and the divisor."""
    y = y.astype(np.float64)
    largest = np.abs(y).max() or 1.0  # sums of the largest numbers overflow
    y /= largest
    loc, scale = y.mean(), y.std() or 1.0
    return (y - loc) / scale, loc, scale, largest


def _fit_numbers(
    X: np.ndarray, y: np.ndarray, weight: np.ndarray | None, params: dict[str, float]
) -> _Fit:
    """Fit the trees of a column of numbers."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    bounds = float(y.min()), float(y.max())
    # scikit-learn's gradients are of single precision
    y, loc, scale, largest = _standardize(y)
    regressor = HistGradientBoostingRegressor(early_stopping=False, random_state=0, **params)
    with one_thread("openmp"):
        regressor.fit(X, y, weight)
    ((baseline, trees),) = boosted_trees(regressor)
    baselines = [largest * (loc + scale * baseline)]
    return _Fit(np.zeros(0), baselines, bounds, largest * scale, [trees])


def _fit_classes(
    X: np.ndarray, y: np.ndarray, weight: np.ndarray | None, params: dict[str, float]
) -> _Fit | None:
    """Fit the trees of each class, or of the second one of two; none for a single class."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    if (y == y[0]).all():
        return None
    classifier = HistGradientBoostingClassifier(early_stopping=False, random_state=0, **params)
    labels, codes = np.unique(y, return_inverse=True)  # durations may be fractions of a second
    with one_thread("openmp"):
        classifier.fit(X, codes, weight)
    sums = boosted_trees(classifier)
    if len(sums) == 1:  # the log-odds of the second class
        sums = [(0.0, []), *sums]
    baselines, trees = zip(*sums, strict=True)
    return _Fit(labels.astype(float), [*baselines], (0.0, 0.0), 1.0, [*trees])
