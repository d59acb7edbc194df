"""Columns that follow from another one, as labels from codes, or that are never below it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Self

import numpy as np

from sklearn_vae.data.columns.base import Draws, find_in_order, in_coarser_dtype
from sklearn_vae.data.training_column import MAX_COMPARED, MIN_EVIDENCE, N_ERRORS
from sklearn_vae.numerics.rows import MAX_DISTINCT_ROWS, small_batches, spread_out, without_copies
from sklearn_vae.persistence.validation import serializable

# Rows that repeat an earlier value other than the most common one, at least, against chance.
MIN_REPEATS = 10
# Rows for each label of a number, at least: labels of fewer are numbers that depend on it.
ROWS_PER_LABEL = 10
# Fraction of missing values in columns of which some codes have labels, at most.
MAX_MISSING = 0.05
# Passes that move values beyond fixed ones, at most: between two fixed values they need not end.
MAX_PASSES = 16
NO_PAIRS = np.zeros((0, 2), int)


@serializable
@dataclass(frozen=True, eq=False)
class ManyToOne:
    """A column of codes and the columns of labels that follow from it, as bands from ages.

    The model has all of them; samples and imputations are made to agree. Where labels are
    ``in_order``, numbers that ``fit`` did not see have those of the nearest one. Other numbers are
    identifiers, as those of persons: their labels tell them, not their size. A relation that
    ``is_partial`` has the labels of some codes, as none smoked of those who never did: other codes
    have NaN, or are not among them.
    """

    code: int  # index of the column of codes in X
    labels: Annotated[np.ndarray, "i", "m"]  # indices of the columns of labels
    codes: Annotated[np.ndarray, "f", "L"]  # the codes in order; of labels in order, few of them
    values: Annotated[np.ndarray, "n", "L", "m"]  # their labels; NaN where no row has both
    n_rows: Annotated[np.ndarray, "f", "L"]  # rows of each code, by weight
    in_order: bool = False  # whether codes are numbers, and those of a label adjacent
    is_partial: bool = False
    is_identifier: bool = False  # whether codes are numbers, and those of a label not adjacent

    def derive(self, X: np.ndarray, is_fixed: np.ndarray) -> None:
        """Set labels that are not fixed of codes that are, in place."""
        rows = np.flatnonzero(is_fixed[:, self.code])
        values = self._labels_of(X[rows, self.code])
        cells = np.ix_(rows, self.labels)
        is_set = ~(is_fixed[cells] | np.isnan(values))
        X[cells] = np.where(is_set, values, X[cells])
        is_fixed[cells] |= is_set

    def choose(self, X: np.ndarray, is_fixed: np.ndarray, generator: Draws) -> None:
        """Replace codes that are not fixed, and contradict fixed labels, in place.

        They are drawn from the codes of these labels by their frequencies in ``fit``; without a
        generator, the most frequent one is taken, or where labels are in order the nearest one.
        """
        if self.is_identifier:
            rows = ~is_fixed[:, self.code]
            X[rows, self.code] = self._identify(X[rows])
        rows = np.flatnonzero(~is_fixed[:, self.code] & is_fixed[:, self.labels].any(axis=1))
        labels = np.where(is_fixed[rows][:, self.labels], X[rows][:, self.labels], np.nan)
        clash = _differ(self._labels_of(X[rows, self.code]), labels).any(axis=1)
        unique, index = np.unique(labels[clash], axis=0, return_inverse=True)
        for k, wanted in enumerate(unique):
            changed = rows[clash][index.ravel() == k]
            p = np.where(_differ(self.values, wanted).any(axis=1), 0, self.n_rows)
            if p.any() and generator is not None:
                X[changed, self.code] = generator.choice(self.codes, len(changed), p=p / p.sum())
            elif p.any() and self.in_order:
                X[changed, self.code] = _nearest(X[changed, self.code], self.codes[p > 0])
            elif p.any():
                X[changed, self.code] = self.codes[p.argmax()]

    @np.errstate(all="ignore")  # of numbers near the largest
    def _identify(self, X: np.ndarray) -> np.ndarray:
        """Return the codes whose labels are the most like those of rows: (n, d) -> (n,).

        Labels are compared in standard deviations. Of codes with equal ones, it is the nearest.
        """
        from scipy.spatial import KDTree

        known = np.column_stack([self.values, self.codes]).astype(np.float64)
        mean, scale = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
        scale = np.where(scale > 0, scale, 1.0) * np.append(np.ones(len(self.labels)), 1e4)

        def standardize(x: np.ndarray) -> np.ndarray:
            return np.nan_to_num((x - mean) / scale).clip(-1e9, 1e9)

        tree = KDTree(standardize(known))
        return self.codes[tree.query(standardize(X[:, np.append(self.labels, self.code)]))[1]]

    def _labels_of(self, codes: np.ndarray) -> np.ndarray:
        """Labels of codes, NaN of other values: (n,) -> (n, m)."""
        codes = _nearest(codes, self.codes) if self.in_order else codes
        index = find_in_order(codes, self.codes)
        return np.where((index >= 0)[:, None], self.values[index], np.nan)

    def is_contradicted(self, X: np.ndarray) -> np.ndarray:
        """Find rows with another label than that of their code, or of codes beside it: (n,)."""
        codes, labels = X[:, self.code], X[:, self.labels]
        if self.in_order:
            above = np.searchsorted(self.codes, codes).clip(max=len(self.codes) - 1)
            below = np.where(self.codes[above] > codes, np.maximum(above - 1, 0), above)
            clash = _differ(self.values[above], labels) & _differ(self.values[below], labels)
            clash &= ~np.isnan(codes)[:, None]
        else:
            clash = _differ(self._labels_of(codes), labels)
        return np.any(clash, axis=1)

    def select(self, columns: np.ndarray) -> Self:
        """Select labels."""
        return replace(self, labels=self.labels[columns], values=self.values[:, columns])

    def verify(self, X: np.ndarray) -> Self:
        """Return the relation without the labels of codes that some row contradicts."""
        values = self.values.copy()
        for batch in small_batches(X):
            rows = X[batch]
            labels = self._labels_of(rows[:, self.code])
            row, label = np.nonzero(_differ(labels, rows[:, self.labels]))
            values[find_in_order(rows[row, self.code], self.codes), label] = np.nan
        return replace(self, values=values)

    def sort(self) -> Self:
        """Return the relation of labels in order, with the ends of each, and some between them."""
        values = self.values.copy()
        for label in values.T:
            observed = ~np.isnan(label)
            nearest = _nearest(self.codes, self.codes[observed])
            label[:] = label[observed][np.searchsorted(self.codes[observed], nearest)]
        changes = (values[1:] != values[:-1]).any(axis=1)
        kept = np.append(True, changes) | np.append(changes, True)
        kept[:: -(-len(kept) // 256)] = True
        codes, n_rows = self.codes[kept], self.n_rows[kept]
        return replace(self, codes=codes, values=values[kept], n_rows=n_rows, in_order=True)


# Labels that follow from codes, by chance or not; the rows that are evidence of each code and label
# (L, m); and whether codes are numbers.
Followers = tuple[ManyToOne, np.ndarray, bool]


def find_followers(
    X: np.ndarray,
    code: int,
    labels: np.ndarray,
    weight: np.ndarray,
    is_first: np.ndarray | None = None,
) -> Followers:
    """Find columns of which each code has one label in all rows with both.

    They are among those with the indices ``labels``. The weight (n,) counts copies of rows. Codes
    are numbers if ``is_first`` (n,) of ``first_of_copies`` is passed: those rows are the evidence.
    """
    observed = np.flatnonzero(~np.isnan(X[:, code]))
    for n_rows in (64, 1024, len(X)):  # few rows refuse most labels
        rows = observed[:n_rows]
        rows = rows[np.argsort(X[rows, code])]
        codes, first = np.unique(X[rows, code], return_index=True)
        x = X[np.ix_(rows, labels)]
        values = np.fmin.reduceat(x, first)
        follows = ~(values < np.fmax.reduceat(x, first)).any(axis=0)
        if is_first is not None and len(rows) <= len(codes):  # nothing is repeated
            follows &= np.array([_is_in_order(label) for label in values.T], bool)
        labels, values, x = labels[follows], values[:, follows], x[:, follows]
        if not len(labels):
            break
    times = weight if is_first is None else is_first
    counts = np.add.reduceat(~np.isnan(x) * times[rows, None], first)
    n_rows_of_code = np.add.reduceat(weight[rows], first)
    relation = ManyToOne(code, labels, codes, values, n_rows_of_code)
    return relation, counts, is_first is not None


def first_of_copies(X: np.ndarray) -> np.ndarray:
    """Return 1 for rows that are evidence, of very many for some, and 0 for copies: (n,)."""
    chosen = spread_out(len(X), MAX_DISTINCT_ROWS)
    is_first = np.zeros(len(X))
    is_first[chosen[without_copies(X[chosen])]] = 1
    return is_first


@np.errstate(all="ignore")  # of columns without values beside a code
def find_partial(
    X: np.ndarray,
    columns: np.ndarray,
    classes: np.ndarray,
    weight: np.ndarray,
    complete: Iterable[ManyToOne],
    has_probability: Callable[[int, np.ndarray], np.ndarray],
) -> list[ManyToOne]:
    """Find codes with one label in all rows, by more than chance, of which others have several.

    Both are among the ``columns`` that are known in nearly all rows: cells may be missing wherever
    they would contradict. Their values recur. By chance, each row has a label as often as any.
    Copies of rows are evidence for codes that are ``classes``, but not for numbers. Labels
    that follow from all codes are those of ``complete`` relations. The weight (n,) counts copies.
    Models draw values (L,) of a column that it ``has_probability`` of.
    """
    chosen = spread_out(len(X))
    rows, weight = X[np.ix_(chosen, columns)], weight[chosen]
    is_known = weight @ np.isnan(rows) <= MAX_MISSING * weight.sum()
    columns, rows = columns[is_known], rows[:, is_known]
    if not 1 < len(columns) <= MAX_COMPARED:
        return []
    is_first = first_of_copies(rows)
    follows = {(each.code, label) for each in complete for label in each.labels.tolist()}
    relations: list[ManyToOne] = []
    for k, code in enumerate(columns.tolist()):
        times = weight if code in classes else is_first
        times = times * ~np.isnan(rows[:, k])
        n_rows = times @ ~np.isnan(rows)
        codes, index = np.unique(rows[:, k], return_inverse=True)
        counts = np.bincount(index, times)
        recurs = (counts >= MIN_REPEATS) & ~np.isnan(codes)
        codes, counts = codes[recurs], counts[recurs]
        values = np.full((len(codes), len(columns)), np.nan)
        for of_value, value in zip(values, codes.tolist(), strict=True):
            of_code = rows[:, k] == value
            low, high = np.fmin.reduce(rows[of_code]), np.fmax.reduce(rows[of_code])
            n_known = times[of_code] @ ~np.isnan(rows[of_code])
            same = np.flatnonzero((low == high) & (n_known >= MIN_REPEATS))
            frequency = times @ (rows[:, same] == low[same]) / n_rows[same]
            labels = same[-n_known[same] * np.log(frequency) >= MIN_EVIDENCE]
            of_value[labels] = low[labels]
        for label, of_label in zip(columns.tolist(), values.T, strict=True):
            is_told = (code, label) in follows or label == code
            of_label[is_told | ~has_probability(label, of_label)] = np.nan
        if np.isnan(values).all():
            continue
        relation = ManyToOne(code, columns, codes, values, counts, is_partial=True).verify(X)
        has_labels = ~np.isnan(relation.values).all(axis=0)
        if has_labels.any():
            relations.append(relation.select(has_labels))
    return relations


def find_many_to_one(followers: Iterable[Followers], columns: np.ndarray) -> list[ManyToOne]:
    """Find labels that follow from codes by more than chance, finest codes first.

    Both are among the columns with indices ``columns``.
    """
    relations: list[ManyToOne] = []
    for relation, counts, is_number in sorted(followers, key=lambda each: -len(each[0].codes)):
        pairs = zip(relation.values.T, counts.T, strict=True)
        evidence = [_evidence(*pair, is_number=is_number) for pair in pairs]
        is_clear = np.array(evidence).reshape(-1, 2) >= MIN_EVIDENCE
        is_free = np.isin(relation.labels, columns) & (relation.code in columns)
        in_order = is_free & is_clear[:, 0]
        repeats = is_free & ~in_order & is_clear[:, 1]
        if in_order.any():
            relations.append(relation.select(in_order).sort())
        if repeats.any():
            relations.append(replace(relation.select(repeats), is_identifier=is_number))
    return relations


def _evidence(values: np.ndarray, n_rows: np.ndarray, *, is_number: bool) -> tuple[float, float]:
    """Evidence in nats against chance, by the order of labels and by rows that repeat a code.

    It is that of the label and the number of rows of each code: (L,). By chance, all orders of rows
    are as likely; and each row after the first one of its code has that row's label as often as any
    row, or where codes are numbers at least as often as the next code.
    """
    from scipy.special import gammaln

    observed = n_rows > 0
    _, index = np.unique(values[observed], return_inverse=True)
    totals, repeats = np.bincount(index, n_rows[observed]), np.maximum(n_rows[observed] - 1, 0)
    if is_number and observed.any():
        repeats[repeats.argmax()] = 0  # that 0 alone has one label says nothing of other numbers
    by_repeats = float(repeats @ np.log(totals.sum() / totals)[index])
    if not is_number:
        return 0.0, by_repeats
    n_same = (index[1:] == index[:-1]).sum()
    by_repeats = min(by_repeats, float(repeats.sum() * np.log((len(index) + 1) / (n_same + 1))))
    if not _is_in_order(values):
        return 0.0, by_repeats
    n_orders = gammaln([totals.sum() + 1, len(totals) + 1])
    return float(n_orders[0] - n_orders[1] - gammaln(totals + 1).sum()), by_repeats


def _is_in_order(labels: np.ndarray) -> bool:
    """Return whether equal labels are adjacent, but for NaN: (L,)."""
    observed = labels[~np.isnan(labels)]
    return bool((observed[1:] != observed[:-1]).sum() < len(np.unique(observed)))


def _nearest(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the nearest of ordered values: (n,) -> (n,)."""
    return values[np.searchsorted(0.5 * values[1:] + 0.5 * values[:-1], x)]


def _differ(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Find labels that differ, where both are known."""
    labels, others = in_coarser_dtype(labels, others)
    return (labels < others) | (labels > others)


@serializable
@dataclass(frozen=True, eq=False)
class OneToOne:
    """A column with one value for each value of another column, its source, and the reverse.

    Only the source has a likelihood. The derived column is a constant: its values are replaced
    by 0 where they agree with the source, and by 1 where they contradict it.
    """

    source: int  # index of a column in X
    derived: int  # index of the other one
    source_values: Annotated[np.ndarray, "f", "L"]  # values of the source in order
    derived_values: Annotated[np.ndarray, "f", "L"]  # the other column's values beside them

    @property
    def sources(self) -> np.ndarray:
        """Indices of the columns that it follows from: (1,)."""
        return np.array([self.source])

    def fill(self, X: np.ndarray) -> None:
        """Replace missing values of either column by those of the other one, in place."""
        source, derived = (self.source, self.source_values), (self.derived, self.derived_values)
        for (column, values), (other, other_values) in ((source, derived), (derived, source)):
            code = _look_up(X[:, other], other_values)
            is_filled = np.isnan(X[:, column]) & (code >= 0)
            X[is_filled, column] = values[code[is_filled]]

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Return 0 for values that agree, 1 for others: (n, d) -> (n,)."""
        code = _look_up(X[:, self.derived], self.derived_values)
        agrees = (code >= 0) & (code == _look_up(X[:, self.source], self.source_values))
        return ~agrees

    def decode(self, X: np.ndarray) -> None:
        """Derive the column from the source, in place; linearly between two values."""
        X[:, self.derived] = np.interp(X[:, self.source], self.source_values, self.derived_values)


def find_one_to_one(
    X: np.ndarray, followers: Iterable[Followers], others: list[int]
) -> list[OneToOne]:
    """Find columns that determine each other in all rows that have both.

    Each value occurs in such a row: missing ones are those of the other column. Columns with
    indices ``others`` may be derived, from the first one that they follow from.
    """
    pairs: list[OneToOne] = []
    for relation, counts, _ in followers:
        columns = zip(relation.labels.tolist(), relation.values.T, counts.T, strict=True)
        for j, values, n_rows in columns:
            source, derived = relation.code, {pair.derived for pair in pairs}
            is_used = {source, j} & derived or j in {pair.source for pair in pairs}
            is_repeated = n_rows.sum() - n_rows.max() - (len(n_rows) - 1) >= MIN_REPEATS
            is_free = j in others and not is_used
            if is_free and is_repeated and _is_one_to_one(X[:, [source, j]], values):
                pairs.append(OneToOne(source, j, relation.codes, values))
    return pairs


def _is_one_to_one(X: np.ndarray, values: np.ndarray) -> bool:
    """Return whether codes, the first column, follow from labels, the second, by their values.

    Two values, or one in most rows, may agree by chance where other cells are missing.
    """
    missing, n_values = np.isnan(X), len(values)
    is_unique = len(np.unique(values)) == n_values and not np.isnan(values).any()
    if not is_unique or len(np.unique(X[~missing[:, 1], 1])) > n_values:
        return False
    return 2 < n_values < len(X) / 2 or bool((missing[:, 0] == missing[:, 1]).all())


def _look_up(X: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Indices of X among values; -1 for other X: (n,) -> (n,)."""
    order = np.argsort(values)
    index = find_in_order(X, values[order])
    return np.where(index >= 0, order[index], -1)


@serializable
@dataclass(frozen=True, eq=False)
class Orders:
    """Pairs of columns, of which the first one was never above the second one in ``fit``."""

    pairs: Annotated[np.ndarray, "i", "m", 2] = field(default_factory=lambda: NO_PAIRS)  # indices
    # columns that the other one does not move: it was missing more often than they
    stays: Annotated[np.ndarray, "b", "m", 2] = field(default_factory=lambda: NO_PAIRS > 0)

    def __bool__(self) -> bool:
        return len(self.pairs) > 0

    def are_broken(self, X: np.ndarray, is_fixed: np.ndarray | None = None) -> np.ndarray:
        """Find rows with a pair that is not in order, but for fixed ones: (n, d) -> (n,)."""
        are_broken = np.zeros(len(X), dtype=bool)
        for a, b in self.pairs.tolist():
            are_broken |= _is_broken(X, a, b, is_fixed)
        return are_broken

    def restore(self, X: np.ndarray, is_fixed: np.ndarray, *, reach: float) -> None:
        """Put pairs in order, in place: values of which none is fixed change places.

        Next to a fixed value, or that of a column that stays, the other one is moved beyond it, by
        ``reach`` times their distance: 0 makes both equal, 1 reflects.
        """
        stays = self.stays
        # each time, values pass one column at least
        for n_done in range(MAX_PASSES + len(np.unique(self.pairs))):
            if n_done == MAX_PASSES:
                reach, stays = 0.0, np.zeros_like(stays)
            is_done = True
            for (a, b), ends in zip(self.pairs.tolist(), stays, strict=True):
                rows = np.flatnonzero(_is_broken(X, a, b, is_fixed))
                low, high = X[rows, a], X[rows, b]
                moved, is_kept = reach * (high - low), is_fixed[np.ix_(rows, [a, b])]
                is_kept |= ends & ~is_kept[:, ::-1]
                X[rows, a] = np.where(is_kept[:, 0], low, high + moved * is_kept[:, 1])
                X[rows, b] = np.where(is_kept[:, 1], high, low - moved * is_kept[:, 0])
                is_done &= not len(rows)
            if is_done:
                return


def _is_broken(X: np.ndarray, a: int, b: int, is_fixed: np.ndarray | None) -> np.ndarray:
    """Find rows whose value in column a is above that in b, but where both are fixed: (n,).

    Rounding errors do not count, as of a part that is a difference.
    """
    low, high = X[:, a], X[:, b]
    with np.errstate(invalid="ignore"):
        is_above = low - high > 1e-12 * np.maximum(np.abs(low), np.abs(high))
    return is_above if is_fixed is None else is_above & ~(is_fixed[:, a] & is_fixed[:, b])


def find_orders(
    X: np.ndarray, columns: list[int], units: Sequence[object], ratios: Sequence[set[int]] = ()
) -> Orders:
    """Find pairs of columns that are in order in all rows with both, by more than chance.

    Of the columns with the indices ``columns``, those of the same unit are compared. By chance,
    each row is in order with the probability that any two of their values are. Of ``ratios``, both
    columns of which are known, half of the evidence is enough: most pairs of columns are none. Of
    pairs that follow from others, or that go in a circle, none is kept.
    """
    if not 1 < len(columns) <= MAX_COMPARED:
        return Orders()
    rows = X[np.ix_(spread_out(len(X)), np.array(columns))]
    rows = rows[without_copies(rows)]  # of one thing that was recorded several times
    has_many = np.array([len(np.unique(x[~np.isnan(x)])) > 2 for x in rows.T])
    rows, indices = rows[:, has_many], np.array(columns)[has_many]
    ordered = np.sort(rows, axis=0)  # missing values are last
    n_known = (~np.isnan(rows)).sum(axis=0)
    is_often = np.zeros(2 * [len(indices)], bool)
    for a, x in enumerate(rows.T):
        candidates = ~(x[:, None] > rows).any(axis=0) & (x[:, None] < rows).any(axis=0)
        for b in np.flatnonzero(candidates).tolist():
            low = x[~(np.isnan(x) | np.isnan(rows[:, b]))]
            below = np.searchsorted(ordered[: n_known[b], b], low).mean() / n_known[b]
            least = MIN_EVIDENCE / (2 if {*indices[[a, b]].tolist()} in ratios else 1)
            is_often[a, b] = -len(low) * np.log1p(-below) >= least
    kinds = [units[k] for k in np.flatnonzero(has_many).tolist()]
    is_often &= np.array([[one == other for one in kinds] for other in kinds], bool)
    for batch in small_batches(X):
        for a, b in np.argwhere(is_often).tolist():
            is_often[a, b] &= not (X[batch, indices[a]] > X[batch, indices[b]]).any()
    follows = is_often.copy()
    for _ in range(len(indices).bit_length()):
        follows |= follows.astype(int) @ follows > 0
    is_often &= ~follows.T
    pairs = np.argwhere(is_often & ~(is_often.astype(int) @ follows > 0))
    is_known = (~np.isnan(rows)).astype(int)
    alone = is_known.T @ (1 - is_known)  # rows with a value of one column and none of another
    # the other column may have no values in a class of rows
    stays = alone - alone.T > N_ERRORS * np.sqrt(alone + alone.T)
    return Orders(indices[pairs], np.stack([stays[*pairs.T], stays[*pairs.T[::-1]]], 1))
