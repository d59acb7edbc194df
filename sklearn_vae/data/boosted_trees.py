"""Gradient-boosted regression trees as arrays, which numpy alone computes."""

from dataclasses import dataclass

import numpy as np

from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array, check_count


@serializable
@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """Sums of regression trees, which predict some columns of a table from the others.

    The nodes of all trees are numbered from 0 on, parents before their children. A leaf is its
    own child.

    Attributes
    ----------
    n_features : int
        Number of columns of the table.
    columns : ndarray of shape (k,)
        Predicted columns.
    baselines : ndarray of shape (k,)
        Values that the sums of trees are added to.
    bounds : ndarray of shape (k, 2)
        Smallest and largest prediction.
    targets : ndarray of shape (n_trees,)
        Position in ``columns`` of the column that each tree is for.
    roots : ndarray of shape (n_trees,)
        First node of each tree.
    features : ndarray of shape (n_nodes,)
        Column that each node splits by.
    thresholds : ndarray of shape (n_nodes,)
        Largest value of that column in the left child.
    children : ndarray of shape (n_nodes, 2)
        Left and right child of each node.
    values : ndarray of shape (n_nodes,)
        Values of leaves.
    """

    n_features: int
    columns: np.ndarray
    baselines: np.ndarray
    bounds: np.ndarray
    targets: np.ndarray
    roots: np.ndarray
    features: np.ndarray
    thresholds: np.ndarray
    children: np.ndarray
    values: np.ndarray

    def predict(self, X: np.ndarray, missing: np.ndarray) -> np.ndarray:
        """Replace the missing cells of the predicted columns: (n, n_features).

        X has no missing values: those cells, of the mask ``missing``, have been imputed.
        """
        predicted = X.copy()
        for k, column in enumerate(self.columns.tolist()):
            is_missing = missing[:, column]
            rows = X[is_missing]
            total = np.full(len(rows), self.baselines[k])
            for root in self.roots[self.targets == k].tolist():
                total += self.values[self._leaves(rows, root)]
            predicted[is_missing, column] = np.clip(total, *self.bounds[k])
        return predicted

    def _leaves(self, rows: np.ndarray, root: int) -> np.ndarray:
        """Leaf of each row in a tree: (n, n_features) -> (n,)."""
        node, index = np.full(len(rows), root), np.arange(len(rows))
        while True:
            is_right = rows[index, self.features[node]] > self.thresholds[node]
            child = self.children[node, is_right.astype(int)]
            if (child == node).all():
                return node
            node = child

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        check_count("n_features", self.n_features)
        n_trees, n_nodes = len(self.roots), len(self.values)
        for name, kind, shape in (
            ("columns", "i", (None,)),
            ("baselines", "f", (len(self.columns),)),
            ("bounds", "f", (len(self.columns), 2)),
            ("targets", "i", (n_trees,)),
            ("roots", "i", (n_trees,)),
            ("features", "i", (n_nodes,)),
            ("thresholds", "f", (n_nodes,)),
            ("children", "i", (n_nodes, 2)),
            ("values", "f", (n_nodes,)),
        ):
            check_array(name, getattr(self, name), kind, shape)
        nodes = np.arange(n_nodes)[:, None]
        is_leaf = (self.children == nodes).all(axis=1, keepdims=True)
        is_parent = ((self.children > nodes) & (self.children < n_nodes)).all(axis=1, keepdims=True)
        if not (is_leaf | is_parent).all():
            raise ValueError("parents of trees must come before their children")
        if (self.bounds[:, 0] > self.bounds[:, 1]).any():
            raise ValueError("'bounds' must be in order")
        for name, limit in (
            ("columns", self.n_features),
            ("features", self.n_features),
            ("targets", len(self.columns)),
            ("roots", n_nodes),
        ):
            if not ((getattr(self, name) >= 0) & (getattr(self, name) < limit)).all():
                raise ValueError(f"{name!r} must be at least 0 and less than {limit}")
