"""Fit of boosted trees: each column of a table from the others."""

import numpy as np

from sklearn_vae._compat import boosted_trees
from sklearn_vae.data.boosted_trees import BoostedTrees

N_TREES = 60
MIN_ROWS_PER_LEAF = 10


def fit_boosted_trees(
    X: np.ndarray, observed: np.ndarray, columns: np.ndarray, sample_weight: np.ndarray | None
) -> BoostedTrees:
    """Fit scikit-learn's gradient boosting of some columns on the others.

    The targets are the observed values, of the mask ``observed`` (n, n_features). The others have
    been imputed; columns that still have missing values are not used. Predictions keep to the range
    of the targets.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    regressor = HistGradientBoostingRegressor(
        max_iter=N_TREES, min_samples_leaf=MIN_ROWS_PER_LEAF, early_stopping=False, random_state=0
    )
    complete = np.flatnonzero(~np.isnan(X).any(axis=0))
    columns = columns[[bool((complete != column).any()) for column in columns]]
    baselines, bounds, targets, roots = [], [], [], []
    nodes = [(np.zeros(0, int), np.zeros(0), np.zeros((0, 2), int), np.zeros(0))]
    n_nodes = 0
    for k, column in enumerate(columns.tolist()):
        rows = observed[:, column]
        others = complete[complete != column]
        weight = None if sample_weight is None else sample_weight[rows]
        y = X[rows, column].astype(np.float64)
        bounds.append((y.min(), y.max()))
        # scikit-learn's gradients are of single precision; sums of the largest numbers overflow
        largest = np.abs(y).max() or 1.0
        y /= largest
        loc, scale = y.mean(), y.std() or 1.0
        with np.errstate(over="ignore"):
            regressor.fit(X[rows][:, others], (y - loc) / scale, weight)
        trees, baseline = boosted_trees(regressor)
        baselines.append(largest * (loc + scale * baseline))
        for tree in trees:
            child = np.column_stack([tree["left"], tree["right"]]).astype(np.int64)
            child[tree["is_leaf"] == 1] = np.flatnonzero(tree["is_leaf"])[:, None]
            nodes.append(
                (
                    others[tree["feature_idx"]],
                    tree["num_threshold"],
                    child + n_nodes,
                    largest * scale * tree["value"] * tree["is_leaf"],
                )
            )
            targets.append(k)
            roots.append(n_nodes)
            n_nodes += len(tree)
    features, thresholds, children, values = (
        np.concatenate(parts) for parts in zip(*nodes, strict=True)
    )
    return BoostedTrees(
        X.shape[1],
        columns,
        np.array(baselines, dtype=float),
        np.reshape(bounds, (-1, 2)),
        np.array(targets, dtype=int),
        np.array(roots, dtype=int),
        features,
        thresholds,
        children,
        values,
    )
