"""Gradient-boosted trees as arrays, which numpy alone computes."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array, check_count


@serializable
@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """Sums of trees, which predict some columns of a table from the others.

    A column of numbers has one sum. A column of classes has one for each class: its
    log-probability, but for a term that is the same for all classes.

    Node 0 is the root of a tree, and children come after their parents. A leaf is its own child.

    Attributes
    ----------
    n_features : int
        Number of columns of the table.
    takes_missing : bool
        Whether predictions are from rows with missing values, rather than from imputed ones.
    ordered : ndarray of shape (n_ordered,)
        Columns of ordered classes, whose median is predicted.
    columns : ndarray of shape (n_sums,)
        Column that each sum predicts.
    classes : ndarray of shape (n_sums,)
        Class that each sum is for; NaN in columns of numbers.
    baselines : ndarray of shape (n_sums,)
        Values that the trees are added to.
    bounds : ndarray of shape (n_sums, 2)
        Smallest and largest prediction of a number; 0 for classes.
    targets : ndarray of shape (n_trees,)
        Sum that each tree is a part of.
    features : ndarray of shape (n_trees, n_nodes)
        Column that each node splits by.
    thresholds : ndarray of shape (n_trees, n_nodes)
        Largest value of that column in the left child.
    missing_left : ndarray of shape (n_trees, n_nodes)
        Whether missing values of that column go to the left child.
    children : ndarray of shape (n_trees, n_nodes, 2)
        Left and right child of each node.
    values : ndarray of shape (n_trees, n_nodes)
        Values of leaves.
    """

    n_features: int
    takes_missing: bool
    ordered: np.ndarray
    columns: np.ndarray
    classes: np.ndarray
    baselines: np.ndarray
    bounds: np.ndarray
    targets: np.ndarray
    features: np.ndarray
    thresholds: np.ndarray
    missing_left: np.ndarray
    children: np.ndarray
    values: np.ndarray

    def select(self, columns: np.ndarray) -> Self:
        """Return the trees of some of the columns."""
        is_kept = np.isin(self.columns, columns)
        is_tree = is_kept[self.targets]
        return replace(
            self,
            columns=self.columns[is_kept],
            classes=self.classes[is_kept],
            baselines=self.baselines[is_kept],
            bounds=self.bounds[is_kept],
            targets=(np.cumsum(is_kept) - 1)[self.targets[is_tree]],
            features=self.features[is_tree],
            thresholds=self.thresholds[is_tree],
            missing_left=self.missing_left[is_tree],
            children=self.children[is_tree],
            values=self.values[is_tree],
        )

    def correct(self, rows: np.ndarray, imputed: np.ndarray, weight: float) -> np.ndarray:
        """Average the imputed numbers of rows with predictions, and replace classes by them.

        Numbers are moved by ``weight`` towards the predictions: (n, n_features).
        """
        predicted = self.predict(rows if self.takes_missing else imputed, np.isnan(rows))
        # columns that are not predicted
        predicted = np.where(np.isnan(predicted), imputed, predicted)
        is_class = np.isin(np.arange(self.n_features), self.columns[~np.isnan(self.classes)])
        with np.errstate(over="ignore"):  # numbers near the largest ones
            average = imputed + weight * (predicted - imputed)
        return np.where(is_class, predicted, average)

    def predict(self, X: np.ndarray, missing: np.ndarray) -> np.ndarray:
        """Replace the cells of the mask ``missing`` in the predicted columns: (n, n_features)."""
        predicted = X.copy()
        for column in np.unique(self.columns).tolist():
            is_missing = missing[:, column]
            sums = np.flatnonzero(self.columns == column).tolist()
            total = np.array([self._sum(X[is_missing], k) for k in sums])  # (n_sums, n)
            if np.isnan(self.classes[sums[0]]):
                predicted[is_missing, column] = np.clip(total[0], *self.bounds[sums[0]])
                continue
            index = total.argmax(axis=0)
            if column in self.ordered:
                up_to = np.exp(total - total.max(axis=0)).cumsum(axis=0)
                index = (up_to < 0.5 * up_to[-1]).sum(axis=0)
            predicted[is_missing, column] = self.classes[sums][index]
        return predicted

    def _sum(self, rows: np.ndarray, k: int) -> np.ndarray:
        """Sum of the trees of one target: (n, n_features) -> (n,)."""
        total = np.full(len(rows), self.baselines[k])
        # missing values are below all thresholds, or above them
        low, high = (np.where(np.isnan(rows), side, rows) for side in (-np.inf, np.inf))
        values = np.hstack([low, high]).ravel()
        first = np.arange(0, values.size, 2 * self.n_features)
        with np.errstate(over="ignore"):  # numbers near the largest ones keep to their bounds
            for tree in np.flatnonzero(self.targets == k).tolist():
                total += self.values[tree, self._leaves(values, first, tree)]
        return total

    def _leaves(self, values: np.ndarray, first: np.ndarray, tree: int) -> np.ndarray:
        """Leaf of each row in a tree, of values from the index ``first`` (n,) on: (n,)."""
        sources = self.features[tree] + self.n_features * ~self.missing_left[tree]
        thresholds, children = self.thresholds[tree], self.children[tree].ravel()
        node = np.zeros(len(first), dtype=int)
        while True:
            is_right = values[first + sources[node]] > thresholds[node]
            child = children[2 * node + is_right]
            if (child == node).all():
                return node
            node = child

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        check_count("n_features", self.n_features)
        n_sums = len(self.columns)
        check_array("values", self.values, "f", (None, None))
        n_trees, n_nodes = self.values.shape
        for name, kind, shape, limit in (
            ("ordered", "i", (None,), self.n_features),
            ("columns", "i", (None,), self.n_features),
            ("classes", "f", (n_sums,), None),
            ("baselines", "f", (n_sums,), None),
            ("bounds", "f", (n_sums, 2), None),
            ("targets", "i", (n_trees,), n_sums),
            ("features", "i", (n_trees, n_nodes), self.n_features),
            ("thresholds", "f", (n_trees, n_nodes), None),
            ("missing_left", "b", (n_trees, n_nodes), None),
            ("children", "i", (n_trees, n_nodes, 2), n_nodes),
        ):
            values = getattr(self, name)
            check_array(name, values, kind, shape, allows_nan=name == "classes")
            if limit is not None and not ((values >= 0) & (values < limit)).all():
                raise ValueError(f"{name!r} must be at least 0 and less than {limit}")
        distance = self.children - np.arange(n_nodes)[:, None]
        if not ((distance > 0).all(axis=2) | (distance == 0).all(axis=2)).all():
            raise ValueError("parents of trees must come before their children")
        # one sum for a column of numbers; one for each of several classes
        has_classes = ~np.isnan(self.classes)
        pairs = np.column_stack([self.columns, np.where(has_classes, self.classes, 0.0)])
        if len(np.unique(pairs, axis=0)) < len(pairs):
            raise ValueError("'classes' must differ")
        if np.intersect1d(self.columns[has_classes], self.columns[~has_classes]).size:
            raise ValueError("'classes' must be all NaN or all numbers in a column")
        if (self.bounds[:, 0] > self.bounds[:, 1]).any():
            raise ValueError("'bounds' must be in order")

    def check_columns(self, encoder: TableEncoder, has_numbers: np.ndarray) -> None:
        """Check that the trees are of the columns of a table, after reading both from a file.

        Columns of the mask ``has_numbers`` (n_features,) are predicted by numbers, others by
        classes.
        """
        if self.n_features != len(has_numbers):
            raise ValueError(
                f"the trees are those of {self.n_features} columns, the table has "
                f"{len(has_numbers)}"
            )
        has_class = ~np.isnan(self.classes)
        rows = np.full((len(has_class), self.n_features), np.nan)
        rows[has_class, self.columns[has_class]] = self.classes[has_class]
        is_wrong = (has_class == has_numbers[self.columns]) | encoder.is_unseen(rows).any(axis=1)
        if is_wrong.any():
            column, value = (part[is_wrong.argmax()] for part in (self.columns, self.classes))
            predicted = "numbers" if np.isnan(value) else f"class {value:g}"
            raise ValueError(f"the trees predict {predicted} in column {column} of other values")
