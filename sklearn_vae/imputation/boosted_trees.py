"""Gradient-boosted trees as arrays, which numpy alone computes."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np

from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.imputation.target_encoding import TargetEncoding
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array, check_count


@serializable
@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """Sums of trees, which predict some columns of a table from the others.

    A column of numbers has one sum. A column of classes has one for each class: its
    log-probability, but for a term that is the same for all classes.

    The nodes of all trees are numbered from 0 on, parents before their children. A leaf is its
    own child.
    """

    n_features: int
    takes_missing: bool  # whether predictions are from rows with missing values, not imputed ones
    is_real: np.ndarray  # (n_features,): mask of real columns, draws of which are shifted
    columns: np.ndarray  # (k,): column that each sum predicts
    classes: np.ndarray  # (k,): class that each sum is for; NaN in columns of numbers
    baselines: np.ndarray  # (k,): values that the trees are added to
    bounds: np.ndarray  # (k, 2): smallest and largest prediction of a number; 0 for classes
    targets: np.ndarray  # (n_trees,): sum that each tree is a part of
    roots: np.ndarray  # (n_trees,): first node of each tree
    # (n_nodes,): column that each node splits by; after those of the table come the encodings of
    # the predicted column
    features: np.ndarray
    thresholds: np.ndarray  # (n_nodes,): largest value of that column in the left child
    missing_left: np.ndarray  # (n_nodes,): whether missing values go to the left child
    children: np.ndarray  # (n_nodes, 2): left and right child of each node
    values: np.ndarray  # (n_nodes,): values of leaves
    # (n_ordered,): columns of ordered classes, whose median is predicted
    ordered: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    encodings: tuple[TargetEncoding, ...] = ()  # for each predicted column

    def select(self, columns: np.ndarray) -> Self:
        """Return the trees of some of the columns."""
        is_kept = np.isin(self.columns, columns)
        position, is_used = np.cumsum(is_kept) - 1, is_kept[self.targets]
        # nodes of a tree follow its root
        is_node = np.repeat(is_used, np.diff(self.roots, append=len(self.values)))
        node = np.cumsum(is_node) - 1
        return replace(
            self,
            columns=self.columns[is_kept],
            classes=self.classes[is_kept],
            baselines=self.baselines[is_kept],
            bounds=self.bounds[is_kept],
            targets=position[self.targets[is_used]],
            roots=node[self.roots[is_used]],
            features=self.features[is_node],
            thresholds=self.thresholds[is_node],
            missing_left=self.missing_left[is_node],
            children=node[self.children[is_node]],
            values=self.values[is_node],
            encodings=tuple(each for each in self.encodings if each.target in columns),
        )

    def replaces(self, weight: float) -> np.ndarray:
        """Mask of the columns whose imputations are predictions alone: (n_features,).

        Numbers are averaged with other imputations, unless the trees' weight is 1.
        """
        is_replaced = np.zeros(self.n_features, dtype=bool)
        is_replaced[self.columns[~np.isnan(self.classes) | (weight == 1)]] = True
        return is_replaced

    def leaves_missing(self, rows: np.ndarray, weight: float) -> np.ndarray:
        """Mask of the rows that another imputation is needed for: (n, n_features) -> (n,)."""
        if not self.takes_missing:
            return np.isnan(rows).any(axis=1)
        return (np.isnan(rows) & ~self.replaces(weight)).any(axis=1)

    def correct(self, rows: np.ndarray, imputed: np.ndarray, weight: float) -> np.ndarray:
        """Average the imputed numbers of rows with predictions, and replace classes by them.

        Numbers are moved by ``weight`` towards the predictions: (n, n_features).
        """
        predicted = self.predict(rows if self.takes_missing else imputed, np.isnan(rows))
        # columns that are not predicted
        predicted = np.where(np.isnan(predicted), imputed, predicted)
        with np.errstate(over="ignore"):  # numbers near the largest ones
            average = imputed + weight * (predicted - imputed)
        return np.where(self.replaces(weight), predicted, average)

    def shift(self, rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Difference of predictions from the mean, 0 but in real columns: (n, n_features)."""
        with np.errstate(over="ignore"):  # numbers near the largest ones
            return np.where(self.is_real, self.correct(rows, mean, 1.0) - mean, 0.0)

    def predict(self, X: np.ndarray, missing: np.ndarray) -> np.ndarray:
        """Replace the cells of the mask ``missing`` in the predicted columns: (n, n_features)."""
        predicted = X.copy()
        for column in np.unique(self.columns).tolist():
            is_missing = missing[:, column]
            rows = self._inputs(X[is_missing], column)
            # missing values are below all thresholds, or above them
            rows = np.hstack([np.where(np.isnan(rows), side, rows) for side in (-np.inf, np.inf)])
            sums = np.flatnonzero(self.columns == column).tolist()
            total = np.array([self._sum(rows, k) for k in sums])  # (n_sums, n)
            if np.isnan(self.classes[sums[0]]):
                predicted[is_missing, column] = np.clip(total[0], *self.bounds[sums[0]])
                continue
            index = total.argmax(axis=0)
            if column in self.ordered:
                up_to = np.exp(total - total.max(axis=0)).cumsum(axis=0)
                index = (up_to < 0.5 * up_to[-1]).sum(axis=0)
            predicted[is_missing, column] = self.classes[sums][index]
        return predicted

    def _inputs(self, rows: np.ndarray, column: int) -> np.ndarray:
        """Rows (n, n_features) and the target encodings for a column: (n, n_inputs)."""
        parts = [rows, *(each.transform(rows) for each in self.encodings if each.target == column)]
        n_left = self._n_inputs - sum(part.shape[1] for part in parts)
        return np.hstack([*parts, np.full((len(rows), n_left), np.nan)])

    @cached_property
    def _n_inputs(self) -> int:
        """Number of columns and of the most target encodings for a column."""
        widths = [each.width for each in self.encodings]
        of_target = np.bincount([each.target for each in self.encodings], widths)
        return self.n_features + int(of_target.max(initial=0))

    def _sum(self, rows: np.ndarray, k: int) -> np.ndarray:
        """Sum of the trees of one target: (n, 2 n_inputs) -> (n,)."""
        total = np.full(len(rows), self.baselines[k])
        with np.errstate(over="ignore"):  # numbers near the largest ones keep to their bounds
            for root in self.roots[self.targets == k].tolist():
                total += self.values[self._leaves(rows, root)]
        return total

    def _leaves(self, rows: np.ndarray, root: int) -> np.ndarray:
        """Leaf of each row in a tree: (n, 2 n_inputs) -> (n,)."""
        values, children = rows.ravel(), self.children.ravel()
        node, first = np.full(len(rows), root), np.arange(0, rows.size, 2 * self._n_inputs)
        while True:
            is_right = values[first + self._sources[node]] > self.thresholds[node]
            child = children[2 * node + is_right]
            if (child == node).all():
                return node
            node = child

    @cached_property
    def _sources(self) -> np.ndarray:
        """Column that each node splits by; missing values of the last half go right: (n_nodes,)."""
        return self.features + self._n_inputs * ~self.missing_left

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        check_count("n_features", self.n_features)
        for each in self.encodings:
            check_count("column", each.column, 0, self.n_features - 1)
            check_count("target", each.target, 0, self.n_features - 1)
        n_trees, n_nodes = len(self.roots), len(self.values)
        n_sums = len(self.columns)
        for name, kind, shape, limit in (
            ("is_real", "b", (self.n_features,), None),
            ("columns", "i", (None,), self.n_features),
            ("classes", "f", (n_sums,), None),
            ("baselines", "f", (n_sums,), None),
            ("bounds", "f", (n_sums, 2), None),
            ("targets", "i", (n_trees,), n_sums),
            ("roots", "i", (n_trees,), n_nodes),
            ("features", "i", (n_nodes,), self._n_inputs),
            ("thresholds", "f", (n_nodes,), None),
            ("missing_left", "b", (n_nodes,), None),
            ("children", "i", (n_nodes, 2), None),
            ("values", "f", (n_nodes,), None),
            ("ordered", "i", (None,), self.n_features),
        ):
            values = getattr(self, name)
            check_array(name, values, kind, shape, allows_nan=name == "classes")
            if limit is not None and not ((values >= 0) & (values < limit)).all():
                raise ValueError(f"{name!r} must be at least 0 and less than {limit}")
        nodes = np.arange(n_nodes)[:, None]
        is_leaf = (self.children == nodes).all(axis=1, keepdims=True)
        is_parent = ((self.children > nodes) & (self.children < n_nodes)).all(axis=1, keepdims=True)
        if not (is_leaf | is_parent).all():
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
        if (self.is_real & ~has_numbers).any():
            column = (self.is_real & ~has_numbers).argmax()
            raise ValueError(f"'is_real' names column {column}, which has classes")
