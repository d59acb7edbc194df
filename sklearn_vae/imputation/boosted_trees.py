"""Gradient-boosted trees as arrays, which numpy alone computes."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.imputation.target_encoding import TargetEncoding
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array, check_count


@serializable
@dataclass(frozen=True, eq=False)
class ColumnTrees:
    """Sums of trees, which predict a column of a table from the others.

    A column of numbers has one sum. A column of classes has one for each class: its
    log-probability, but for a term that is the same for all classes.

    The nodes of all trees are numbered from 0 on, parents before their children. A leaf is its
    own child.
    """

    column: int
    classes: np.ndarray  # (n_sums,), none of a column of numbers
    baselines: np.ndarray  # (n_sums,): values that the trees are added to
    bounds: np.ndarray  # (2,): smallest and largest prediction of a number
    targets: np.ndarray  # (n_trees,): sum that each tree is a part of
    roots: np.ndarray  # (n_trees,): first node of each tree
    features: np.ndarray  # (n_nodes,): input that each node splits by, columns and then encodings
    thresholds: np.ndarray  # (n_nodes,): largest value of that input in the left child
    missing_left: np.ndarray  # (n_nodes,): whether missing values go to the left child
    children: np.ndarray  # (n_nodes, 2): left and right child of each node
    values: np.ndarray  # (n_nodes,): values of leaves
    encodings: tuple[TargetEncoding, ...] = ()

    def predict(self, X: np.ndarray, *, is_ordered: bool) -> np.ndarray:
        """Predict numbers, likeliest classes, or medians of ordered ones: (n, d) -> (n,)."""
        rows = np.hstack([X, *(encoding.transform(X) for encoding in self.encodings)])
        sources = self.features + rows.shape[1] * ~self.missing_left
        # missing values are below all thresholds, or above them
        rows = np.hstack([np.where(np.isnan(rows), side, rows) for side in (-np.inf, np.inf)])
        total = np.repeat(self.baselines[:, None], len(rows), axis=1)  # (n_sums, n)
        with np.errstate(over="ignore"):  # numbers near the largest ones keep to their bounds
            for target, root in zip(self.targets.tolist(), self.roots.tolist(), strict=True):
                total[target] += self.values[self._leaves(rows, root, sources)]
        if not len(self.classes):
            return np.clip(total[0], *self.bounds)
        index = total.argmax(axis=0)
        if is_ordered:
            up_to = np.exp(total - total.max(axis=0)).cumsum(axis=0)
            index = (up_to < 0.5 * up_to[-1]).sum(axis=0)
        return self.classes[index]

    def _leaves(self, rows: np.ndarray, root: int, sources: np.ndarray) -> np.ndarray:
        """Leaf of each row (n, n_inputs) in a tree, whose nodes split by ``sources``: (n,)."""
        values, children = rows.ravel(), self.children.ravel()
        node, first = np.full(len(rows), root), np.arange(0, rows.size, rows.shape[1])
        while True:
            is_right = values[first + sources[node]] > self.thresholds[node]
            child = children[2 * node + is_right]
            if (child == node).all():
                return node
            node = child

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        n_sums, n_trees, n_nodes = max(len(self.classes), 1), len(self.roots), len(self.values)
        for name, kind, shape, limit in (
            ("classes", "f", (None,), None),
            ("baselines", "f", (n_sums,), None),
            ("bounds", "f", (2,), None),
            ("targets", "i", (n_trees,), n_sums),
            ("roots", "i", (n_trees,), n_nodes),
            ("features", "i", (n_nodes,), None),
            ("thresholds", "f", (n_nodes,), None),
            ("missing_left", "b", (n_nodes,), None),
            ("children", "i", (n_nodes, 2), None),
            ("values", "f", (n_nodes,), None),
        ):
            values = getattr(self, name)
            check_array(name, values, kind, shape)
            if limit is not None and not ((values >= 0) & (values < limit)).all():
                raise ValueError(f"{name!r} must be at least 0 and less than {limit}")
        nodes = np.arange(n_nodes)[:, None]
        is_leaf = (self.children == nodes).all(axis=1, keepdims=True)
        is_parent = ((self.children > nodes) & (self.children < n_nodes)).all(axis=1, keepdims=True)
        if not (is_leaf | is_parent).all():
            raise ValueError("parents of trees must come before their children")
        if len(np.unique(self.classes)) < len(self.classes):
            raise ValueError("'classes' must differ")
        if self.bounds[0] > self.bounds[1]:
            raise ValueError("'bounds' must be in order")


@serializable
@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """Trees that predict some columns of a table from the others."""

    takes_missing: bool  # whether predictions are from rows with missing values, not imputed ones
    is_real: np.ndarray  # (n_features,): mask of real columns, draws of which are shifted
    is_ordered: np.ndarray  # (n_features,): mask of ordered classes, whose median is predicted
    parts: tuple[ColumnTrees, ...]

    @property
    def columns(self) -> np.ndarray:
        """The predicted columns: (k,)."""
        return np.array([part.column for part in self.parts], dtype=int)

    def select(self, columns: np.ndarray) -> Self:
        """Return the trees of some of the columns."""
        return replace(self, parts=tuple(part for part in self.parts if part.column in columns))

    def replaces(self, weight: float) -> np.ndarray:
        """Mask of the columns whose imputations are predictions alone: (n_features,).

        Numbers are averaged with other imputations, unless the trees' weight is 1.
        """
        is_replaced = np.zeros(len(self.is_real), dtype=bool)
        is_replaced[[p.column for p in self.parts if len(p.classes) or weight == 1]] = True
        return is_replaced

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

    def predict(self, X: np.ndarray, missing: np.ndarray) -> np.ndarray:
        """Replace the cells of the mask ``missing`` in the predicted columns: (n, n_features)."""
        predicted = X.copy()
        for part in self.parts:
            column, rows = part.column, missing[:, part.column]
            is_ordered = bool(self.is_ordered[column])
            predicted[rows, column] = part.predict(X[rows], is_ordered=is_ordered)
        return predicted

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        check_array("is_real", self.is_real, "b", (None,))
        n_features = len(self.is_real)
        check_array("is_ordered", self.is_ordered, "b", (n_features,))
        columns = [part.column for part in self.parts]
        for column in (*columns, *(e.column for part in self.parts for e in part.encodings)):
            check_count("column", column, 0, n_features - 1)
        if len({*columns}) < len(columns):
            raise ValueError("a column must have its trees once")
        for part in self.parts:
            n_inputs = n_features + sum(each.totals.shape[1] for each in part.encodings)
            if not ((part.features >= 0) & (part.features < n_inputs)).all():
                raise ValueError(f"'features' must be at least 0 and less than {n_inputs}")

    def check_columns(self, encoder: TableEncoder, has_numbers: np.ndarray) -> None:
        """Check that the trees are of the columns of a table, after reading both from a file.

        Columns of the mask ``has_numbers`` (n_features,) are predicted by numbers, others by
        classes.
        """
        n_features = len(has_numbers)
        if len(self.is_real) != n_features:
            raise ValueError(
                f"the trees are those of {len(self.is_real)} columns, the table has {n_features}"
            )
        for part in self.parts:
            rows = np.full((len(part.classes), n_features), np.nan)
            rows[:, part.column] = part.classes
            if bool(len(rows)) == has_numbers[part.column] or encoder.is_unseen(rows).any():
                raise ValueError(f"the trees predict other values in column {part.column}")
        if (self.is_real & ~has_numbers).any():
            column = (self.is_real & ~has_numbers).argmax()
            raise ValueError(f"'is_real' names column {column}, which has classes")
