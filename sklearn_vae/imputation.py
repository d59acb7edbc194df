"""The average of VAEImputer and the boosted trees in it, which numpy alone computes; their fit."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Self

import numpy as np

from sklearn_vae.data.columns.base import find_in_order
from sklearn_vae.data.columns.binary import BinaryColumns, ConstantColumns, OneHotColumns
from sklearn_vae.data.columns.categories import CategoricalColumns, OrdinalColumns
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.numerics.rows import CACHED_NUMBERS, batches
from sklearn_vae.persistence.validation import check_array, check_count, serializable
from sklearn_vae.system import one_thread

# Values that scikit-learn's boosting tells apart, at most; more frequent ones have their own bins.
MAX_BINS = 255
# Parameters of trees that are fitted to imputed rows, and in large tables to incomplete ones.
OF_IMPUTED_ROWS: dict[str, float] = {"max_iter": 60, "min_samples_leaf": 10}
OF_INCOMPLETE_ROWS: dict[str, float] = {
    "max_iter": 100,
    "max_features": 0.5,
    "learning_rate": 0.07,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 20,
    "l2_regularization": 10.0,
}


@serializable
@dataclass(frozen=True, eq=False)
class TargetEncoding:
    """Target encoding of a column whose values repeat, by the rows that share its value.

    The encoding of a row is the mean target of the other rows with its value, shrunk towards 0 as
    by one more row; of a target with classes, it is the share of each class. It is NaN where there
    is no such row.

    References
    ----------
    .. [1] D. Micci-Barreca, "A Preprocessing Scheme for High-Cardinality Categorical Attributes in
       Classification and Prediction Problems", SIGKDD Explorations 3, 2001.
    """

    column: int  # column that is encoded
    values: Annotated[np.ndarray, "f<", "K"]  # values of the training rows, in ascending order
    # number of rows with each value; sample weights do not count
    counts: Annotated[np.ndarray, "i+", "K"]
    # sums of their targets, or numbers of rows in each of classes
    totals: Annotated[np.ndarray, "f", "K", "width"]

    @classmethod
    def fit(
        cls, values: np.ndarray, targets: np.ndarray, column: int, n_classes: int
    ) -> Self | None:
        """Fit to training rows; None unless rows that share a value are more alike than neighbours.

        In 25 pairs at least, by three tenths of the distance and by five errors.
        ``targets`` (n,) are numbers, or indices of classes. Frequent values need no encoding.
        """
        # in random order: rows that follow one another in a table may be alike for other reasons
        rows = np.random.default_rng(0).permutation(np.flatnonzero(~np.isnan(values)))
        rows = rows[values[rows].argsort(kind="stable")]
        values, targets = values[rows], targets[rows]
        _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
        if len(counts) <= MAX_BINS:
            return None
        is_rare = counts[index] * MAX_BINS <= len(values)
        # whether classes differ, or between the ranks of numbers
        ranks = targets if n_classes else np.sort(targets).searchsorted(targets)
        distance = np.abs(np.diff(ranks)).clip(max=1 if n_classes else None)
        is_shared = np.diff(index) == 0
        shared, others = distance[is_shared & is_rare[1:]], distance[~is_shared]
        if len(shared) < 25:
            return None
        error = others.std() / np.sqrt(len(shared))
        if others.mean() - shared.mean() <= max(0.3 * others.mean(), 5 * error):
            return None
        unique, index, counts = np.unique(values[is_rare], return_inverse=True, return_counts=True)
        totals = np.zeros((len(unique), max(n_classes, 1)))
        np.add.at(totals, index, _to_columns(targets[is_rare], totals.shape[1]))
        return cls(column, unique, counts, totals)

    def transform(self, X: np.ndarray, left_out: np.ndarray | None = None) -> np.ndarray:
        """Encode rows (n, n_features): (n, width).

        ``left_out`` (n,) are the rows' own targets if they are training rows.
        """
        index = find_in_order(X[:, self.column], self.values)
        count, total = np.where(index >= 0, self.counts[index], 0), self.totals[index]
        if left_out is not None:
            count, total = count - 1, total - _to_columns(left_out, total.shape[1])
        encoded = total / np.maximum(count + 1, 1)[:, None]
        # the last bits of a sum that a row's own target is subtracted from depend on this target
        return np.where(count[:, None] > 0, encoded, np.nan).round(6)


def _to_columns(targets: np.ndarray, width: int) -> np.ndarray:
    """Targets (n,) as a column, or as columns of 0 and 1: (n, width)."""
    columns = targets[:, None]
    return columns == np.arange(width) if width > 1 else columns


@serializable
@dataclass(frozen=True, eq=False)
class ColumnTrees:
    """Sums of trees, which predict a column of a table from the others.

    A column of numbers has one sum, one of classes a logit for each. The nodes of all trees are
    numbered from 0 on, parents before their children. A leaf is its own child.
    """

    column: int
    classes: Annotated[np.ndarray, "f", "n_classes"]  # none of a column of numbers
    baselines: Annotated[np.ndarray, "f", "n_sums"]  # values that the trees are added to
    bounds: Annotated[np.ndarray, "f", 2]  # smallest and largest prediction of a number
    targets: Annotated[np.ndarray, "i", "n_trees"]  # sum that each tree is a part of
    roots: Annotated[np.ndarray, "i", "n_trees"]  # first node of each tree
    # input that each node splits by, columns and then encodings
    features: Annotated[np.ndarray, "i", "n_nodes"]
    thresholds: Annotated[np.ndarray, "f", "n_nodes"]  # largest value of it in the left child
    missing_left: Annotated[np.ndarray, "b", "n_nodes"]  # whether missing values go there
    children: Annotated[np.ndarray, "i", "n_nodes", 2]  # left and right child of each node
    values: Annotated[np.ndarray, "f", "n_nodes"]  # of leaves
    encodings: tuple[TargetEncoding, ...] = ()

    def predict(self, X: np.ndarray, *, is_ordered: bool) -> np.ndarray:
        """Predict numbers, likeliest classes, or medians of ordered ones: (n, d) -> (n,)."""
        rows = np.hstack([X, *(encoding.transform(X) for encoding in self.encodings)])
        sources = self.features + rows.shape[1] * ~self.missing_left
        # missing values are below all thresholds, or above them
        rows = np.hstack([np.where(np.isnan(rows), side, rows) for side in (-np.inf, np.inf)])
        total = np.repeat(self.baselines[:, None], len(rows), axis=1)  # (n_sums, n)
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
        n_sums, n_nodes = len(self.baselines), len(self.values)
        if n_sums != max(len(self.classes), 1):
            raise ValueError("'baselines' must be one number, or one of each class")
        for name, limit in (("targets", n_sums), ("roots", n_nodes)):
            values = getattr(self, name)
            if not ((values >= 0) & (values < limit)).all():
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
    # masks of real columns, draws of which are shifted, and of ordered classes, whose median is
    # predicted
    is_real: Annotated[np.ndarray, "b", "n_features"]
    is_ordered: Annotated[np.ndarray, "b", "n_features"]
    parts: tuple[ColumnTrees, ...]

    @property
    def columns(self) -> np.ndarray:
        """The predicted columns: (k,)."""
        return np.array([part.column for part in self.parts], dtype=int)

    def select(self, columns: np.ndarray) -> Self:
        """Return the trees of some of the columns."""
        return replace(self, parts=tuple(part for part in self.parts if part.column in columns))

    def replaces(self, weight: float) -> np.ndarray:
        """Mask of the columns imputed by predictions alone, as classes are: (n_features,)."""
        replaced = [part.column for part in self.parts if len(part.classes) or weight == 1]
        return np.isin(np.arange(len(self.is_real)), replaced)

    def correct(self, rows: np.ndarray, imputed: np.ndarray, weight: float) -> np.ndarray:
        """Move imputed numbers by ``weight`` towards predictions, which replace classes."""
        predicted = self.predict(rows if self.takes_missing else imputed, np.isnan(rows))
        predicted = np.where(np.isnan(predicted), imputed, predicted)  # columns without trees
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
        n_features = len(self.is_real)
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
        """Check that trees predict numbers in columns of a mask, and the table's classes else."""
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


# -- average --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class AveragedImputation:
    """Imputation by a model, averaged with predictions of trees; see ``VAEImputer``."""

    # imputes rows by means, or by a number of draws with a seed: (n_draws or 1, n, n_features)
    model: Callable[..., np.ndarray]
    encoder: TableEncoder
    is_rounded: np.ndarray  # (n_features,): mask of the columns whose dtype holds no means
    trees: BoostedTrees | None = None
    trees_weight: float = 0.0  # of their predictions
    spread: np.ndarray | None = None  # (n_features,): factor of the draws' distance from their mean

    @cached_property
    def is_averaged(self) -> np.ndarray:
        """Mask of the columns imputed by means, not by classes or one of two values."""
        mask = self.encoder.mask
        has_classes = mask(CategoricalColumns, OrdinalColumns, ConstantColumns)
        return ~(has_classes | (self.is_rounded & mask(BinaryColumns, OneHotColumns)))

    def impute(self, rows: np.ndarray) -> np.ndarray:
        """Impute means, and classes, by model and trees: (n, n_features)."""
        if self.trees is None:
            return self.model(rows)[0]
        missing, imputed = np.isnan(rows) & ~self.encoder.is_empty, rows.copy()
        if self.trees.takes_missing:
            missing &= ~self.trees.replaces(self.trees_weight)
        needs_model = missing.any(axis=1)
        if needs_model.any():
            imputed[needs_model] = self.model(rows[needs_model])[0]
        average = self.trees.correct(rows, imputed, self.trees_weight)
        return self.encoder.complete(rows, average)

    def draw(self, rows: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
        """Draw imputations: (n_draws, n, n_features)."""
        draws = self.model(rows, n_draws, seed)
        has_shift = self.trees is not None and self.trees.is_real[self.trees.columns].any()
        if not has_shift and self.spread is None:
            return draws
        mean = self.model(rows)[0]
        return self.move(draws, rows, mean, find_shift(self.trees, rows, mean), seed)

    def move(
        self, draws: np.ndarray, rows: np.ndarray, mean: np.ndarray, shift: np.ndarray, seed: int
    ) -> np.ndarray:
        """Move draws of real columns: (n_draws, n, n_features).

        Missing cells of ``rows`` (n, n_features) have been imputed by ``draws``, and by their
        mean, ``mean``. A fraction of the draws, the trees' weight, is moved by ``shift`` (n,
        n_features). Distances from the mean of all draws are then multiplied by ``spread``.
        """
        n_draws, weight, spread = len(draws), self.trees_weight, self.spread
        generator = np.random.default_rng((seed, 1))
        # as near to the weight as whole numbers are
        is_shifted = generator.permutation(n_draws) + generator.random() < weight * n_draws
        moved = draws.copy()
        for batch in batches(n_draws, CACHED_NUMBERS // max(rows.size, 1)):
            part, has_shift = moved[batch], is_shifted[batch, None, None]
            with np.errstate(all="ignore"):  # numbers near the largest ones overflow
                target = np.where(has_shift, part + shift, part)
                if spread is not None:
                    center = mean + weight * shift
                    target = np.where(spread == 1, target, center + spread * (target - center))
            is_moved = np.isnan(rows) & (target != part) & np.isfinite(target)
            targets = np.where(is_moved, target, part).reshape(-1, rows.shape[1])
            # moved draws keep to the bounds and recording steps of their columns
            kept = self.encoder.within_bounds(self.encoder.on_steps(targets))
            part[is_moved] = kept.reshape(part.shape)[is_moved]
        return self.encoder.complete(rows, moved, generator)

    def check(self) -> None:
        """Check that the parts are those of one table, as after reading them from a file."""
        n_features = len(self.is_averaged)
        if not 0 <= self.trees_weight <= 1:
            raise ValueError("the weight of the trees must lie between 0 and 1")
        if self.trees is not None:
            self.trees.check_columns(self.encoder, self.is_averaged)
        if self.spread is not None:
            check_array("spread_", self.spread, "f", (n_features,))
            if not (self.spread > 0).all():
                raise ValueError("'spread_' must be positive")


def find_shift(trees: BoostedTrees | None, rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Difference of predictions from the mean in real columns, 0 in others: (n, n_features)."""
    if trees is None:
        return np.zeros(mean.shape)
    with np.errstate(over="ignore"):  # numbers near the largest ones
        return np.where(trees.is_real, trees.correct(rows, mean, 1.0) - mean, 0.0)


# -- fit -----------------------------------------------------------------------------------


def fit_boosted_trees(
    X: np.ndarray,
    observed: np.ndarray,
    columns: np.ndarray,
    sample_weight: np.ndarray | None,
    is_class: np.ndarray | None = None,
) -> BoostedTrees:
    """Fit scikit-learn's gradient boosting of some columns on the others.

    The targets are the values of the mask ``observed`` (n, n_features); others of X are imputed, or
    NaN. Predicted numbers keep to the range of the targets. Columns of the mask ``is_class``
    (n_features,) hold classes, which are predicted as such, and split as numbers. Rows with missing
    values get target encodings of columns whose values repeat.
    """
    # no threshold of scikit-learn's is above 1e300
    is_small = np.nan_to_num(np.abs(X)).max(axis=0).astype(np.float64) <= 1e298
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

    from sklearn_vae._compat import boosted_trees

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
