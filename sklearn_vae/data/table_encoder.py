"""The encoder of a table: X in its own units to the model's input and back.

In a data frame, the schema (``schema.py``) has replaced categories and dates by numbers before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape

import numpy as np

from sklearn_vae.data.column_groups import ColumnGroups
from sklearn_vae.data.columns.base import Draws
from sklearn_vae.data.equal_cells import EqualCells
from sklearn_vae.data.fields import UNKNOWN, Field, first_of, shorten, shown_name
from sklearn_vae.data.linear_relations import LinearRelation
from sklearn_vae.data.relations import ManyToOne, OneToOne, Orders
from sklearn_vae.data.residuals import Residuals
from sklearn_vae.numerics.random import Stream, stream_seed
from sklearn_vae.persistence.validation import serializable


@serializable
@dataclass(repr=False, eq=False)
class TableEncoder(ColumnGroups):
    """Encoder of a table: its columns, and what follows from other columns or is related to them.

    Real columns are standardized, positive ones as logarithms; of counts the model's input is the
    root; binary columns are encoded as 0 and 1, ordered categories as evenly spaced numbers from
    0 to 1, others one-hot; constant columns are no input. Columns of one likelihood are adjacent
    in the model's input. A missing value is NaN.
    """

    conditions: "TableEncoder | None" = None  # columns of y, which come after those of X
    # columns that are derived from others: their groups are those of constants
    one_to_one: list[OneToOne] = field(default_factory=list)
    # labels that follow from codes, those of the most codes first
    many_to_one: list[ManyToOne] = field(default_factory=list)
    # numbers that are derived from others, constants, too; a source may be derived before
    linear_relations: list[LinearRelation] = field(default_factory=list)
    # columns with a point mass at the value of another column, which comes first
    equal_cells: list[EqualCells] = field(default_factory=list)
    # pairs of columns that are in order in all rows
    orders: Orders = field(default_factory=Orders)
    # inputs of nearly collinear numbers
    residuals: Residuals = field(default_factory=Residuals)
    # log-probability of rows that keep orders and labels, as the model draws them
    log_kept: float = 0.0

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        super().check()
        both = np.append(self.residuals.inputs, self.residuals.sources)
        if not np.isin(both, self.inputs_of_numbers).all():
            raise ValueError("residuals must be those of inputs of numbers")
        if not self.log_kept <= 0:
            raise ValueError("a log-probability must not be above 0")

    # -- columns ---------------------------------------------------------------------

    @property
    def derivations(self) -> list[OneToOne | LinearRelation]:
        """Columns that are derived from others."""
        return [*self.one_to_one, *self.linear_relations]

    @property
    def n_condition_columns(self) -> int:
        """Number of columns of y."""
        return 0 if self.conditions is None else self.conditions.n_features

    @property
    def n_conditions(self) -> int:
        """Number of the model's inputs of y."""
        return 0 if self.conditions is None else self.conditions.n_columns

    @cached_property
    def joint(self) -> "TableEncoder":
        """Encoder of the columns of X and y as one table; itself without y."""
        if self.conditions is None:
            return self
        groups = [
            replace(group, indices=self.n_features + group.indices)
            for group in self.conditions.groups
        ]
        return replace(
            self,
            names=[*self.names, *self.conditions.names],
            groups=[*self.groups, *groups],
            conditions=None,
        )

    # -- encoding --------------------------------------------------------------------

    def dequantize(self, X: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Spread values that are recorded in steps over their step, for training: (n, d) -> (n, d).

        They are normal scores or logarithms, whose density alone could grow without bound. Missing
        partners get the column's value as often as both are equal: else, all would be unequal.
        """
        if self.equal_cells and self.linear_relations:
            X = self._fill_derived(X)
        for equal in self.equal_cells[::-1]:
            X = equal.fill_partner(X, generator)
        noisy = self._dequantize(X, generator)
        if noisy is X:
            return X
        for _ in range(2):  # partners may be derived
            for equal in self.equal_cells:
                rows = equal.holds(X)
                noisy[rows, equal.column] = noisy[rows, equal.partner]
            for relation in self.linear_relations:
                relation.decode(noisy, rounds=False, rows=relation.agrees(X))
        return noisy

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Encode rows (and y), in the dtype of X: (n, n_features + n_y) -> (n, n_inputs)."""
        rows, filled, _ = self._resolve(X)
        encoded = self._encode(filled)
        if self.conditions is not None:
            encoded.append(self.conditions.transform(X[:, self.n_features :]))
        # column by column unless one-hot: the layout decides how sums over columns are rounded
        is_one_hot = any(group.width > 1 for group in self.groups)
        shape = len(X), sum(values.shape[1] for values in encoded)
        values = np.empty(shape, X.dtype, "C" if is_one_hot else "F")
        np.concatenate(encoded, axis=1, out=values)
        self.residuals.encode(values)
        for equal in self.equal_cells:
            is_equal, masses = equal.holds(rows), self._masses_of(equal.column)
            values[np.ix_(is_equal, masses)] = 0
            values[is_equal, masses[-1]] = 1
        return values

    def fill_missing(
        self, X: np.ndarray, encoded: np.ndarray, is_rounded: np.ndarray
    ) -> np.ndarray:
        """Replace missing values by decoded means, in the columns' ranges: (n, n_features).

        Means of the columns with mask ``is_rounded`` (n_features,) are rounded to possible values.
        """
        X = X[:, : self.n_features]
        values = self.inverse_transform(encoded, is_rounded=is_rounded, observed=X)
        return self.complete(X, self.within_bounds(values))

    def complete(self, X: np.ndarray, values: np.ndarray, generator: Draws = None) -> np.ndarray:
        """Replace missing values (n, d) by imputed ones, such that labels follow from codes.

        Values have the shape (n, d), or (K, n, d) of draws, which have a generator.
        """
        observed, X = X, self._fill_derived(X)
        for relation in self.linear_relations if generator is not None else ():
            if relation.draws_ties:  # each draw has either of two values
                X[np.isnan(observed[:, relation.derived]), relation.derived] = np.nan
        filled = np.ascontiguousarray(np.where(np.isnan(X), values, X))
        if not (self._one_hot or self.many_to_one or self.linear_relations or self.orders):
            return filled  # without copies of all draws
        is_fixed = np.broadcast_to(~np.isnan(X), filled.shape).reshape(-1, self.n_features).copy()
        rows = filled.reshape(is_fixed.shape)
        self._relate(rows, values.reshape(rows.shape), is_fixed, generator)
        return np.where(np.isnan(X), filled, X)

    def _relate(
        self, rows: np.ndarray, values: np.ndarray, is_fixed: np.ndarray, generator: Draws
    ) -> None:
        """Change cells of rows (n, d) that are not fixed such that all relations hold, in place.

        All cells of ``values`` (n, d) are the model's: draws, which have a generator, or means.
        """
        is_sample = generator is not None
        self._restore_orders(rows, is_fixed, reach=is_sample, rounds=is_sample)
        for relation in self.linear_relations:  # labels may follow from totals
            is_free = ~is_fixed[:, relation.derived]
            relation.decode(rows, rounds=True, rows=is_free, generator=generator)
        for is_last in (False, True):  # first the labels of fixed codes, then all others
            for each in self.many_to_one:
                if is_last:
                    self._follow(each.code, rows, is_fixed)
                    each.choose(rows, is_fixed, generator)
                    if each.code in self.orders.pairs:  # fixed ends lie within the label's codes
                        ends = np.where(is_fixed, rows, np.nan)
                        ends[:, each.code] = rows[:, each.code]
                        self._restore_orders(ends, is_fixed, reach=0, rounds=is_sample)
                        rows[:, each.code] = ends[:, each.code]
                    is_fixed[:, each.code] = True
                each.derive(rows, is_fixed)
        for group in self._one_hot:
            observed = np.where(is_fixed[:, group.indices], rows[:, group.indices], np.nan)
            imputed = values[:, group.indices]
            rows[:, group.indices] = group.complete(group.fill(observed), imputed, generator)
        for pair in self.one_to_one:
            pair.decode(rows)
        for relation in self.linear_relations[::-1]:  # totals before their parts
            is_wrong = relation.reflect(rows, is_fixed, is_sample=is_sample)
            is_fixed[is_wrong, relation.derived] = True
            relation.adjust(rows, is_fixed, self._nearest_possible)
            is_fixed[is_wrong, relation.derived] = False
        self._restore_orders(rows, is_fixed, reach=is_sample, rounds=is_sample)
        for relation in self.linear_relations:
            relation.decode(rows, rounds=True, rows=~is_fixed[:, relation.derived])

    def _follow(self, column: int, rows: np.ndarray, is_fixed: np.ndarray) -> None:
        """Move a column to fixed values that follow from it, and derive it from others, in place.

        Cells of the mask (n, d) are fixed.
        """
        for relation in self.linear_relations:
            if column in relation.sources:
                relation.adjust(rows, is_fixed.copy(), self._nearest_possible)
            elif column == relation.derived:
                relation.decode(rows, rounds=True, rows=~is_fixed[:, column])

    def _restore_orders(
        self, X: np.ndarray, is_fixed: np.ndarray, *, reach: float, rounds: bool
    ) -> None:
        """Put columns in order as ``Orders.restore`` does, within bounds and rounded, in place.

        They are moved up to twelve times, twice as far each time: from a start that is rounded to
        days to the day before an end in minutes.
        """
        left, n_moves = np.flatnonzero(self.orders.are_broken(X, is_fixed)), 12
        for k in range(n_moves + 1):
            if not len(left):
                return
            rows, is_kept = X[left], is_fixed[left]
            is_last = k == n_moves  # it makes values equal, off steps and bounds
            distance = 0.0 if is_last else reach + rounds * (2.0**k - 1)
            self.orders.restore(rows, is_kept, reach=distance)
            is_possible = ~self.orders.are_broken(rows, is_kept)
            if not is_last:
                nearest = self.within_bounds(self._on_steps(rows) if rounds else rows)
                rows = np.where(is_kept, rows, nearest)
            X[left] = rows
            left = left[is_possible & self.orders.are_broken(rows, is_kept)]

    def _nearest_possible(self, X: np.ndarray, is_fixed: np.ndarray) -> np.ndarray:
        """Round numbers (n, d) that are not fixed to steps within bounds, in order with others."""
        X = np.where(is_fixed, X, self.within_bounds(self._on_steps(X)))
        self._restore_orders(X, is_fixed, reach=0, rounds=True)
        return X

    def on_steps(self, X: np.ndarray) -> np.ndarray:
        """Round numbers to the recording steps of their columns: (n, n_features) -> same."""
        rounded = self._on_steps(X)
        for relation in self.linear_relations:
            relation.decode(rounded, rounds=True, rows=relation.agrees(X))
        return rounded

    def has_open_total(self, X: np.ndarray) -> np.ndarray:
        """Find rows whose known derived values leave several sources open: (n,)."""
        derived, encoded = [each.derived for each in self.linear_relations], self._resolve(X)[1]
        return (np.isnan(encoded[:, derived]) & ~np.isnan(X[:, derived])).any(axis=1)

    def fill_missing_with_draws(
        self, X: np.ndarray, encoded: np.ndarray, n_kept: int, seed: int
    ) -> np.ndarray:
        """Replace missing values by decoded draws: (n, K, n_columns) -> (n_kept, n, n_features).

        Of more draws those are kept whose derived values are the nearest to known ones.
        """
        X, n_draws = X[:, : self.n_features], encoded.shape[1]
        rows = encoded.reshape(len(encoded) * n_draws, encoded.shape[2])
        is_needed = self.equal_cells or self.residuals
        observed = X.repeat(n_draws, axis=0) if is_needed else None
        generator = np.random.default_rng(stream_seed(seed, Stream.LEVELS))
        draws = self.inverse_transform(rows, generator, observed=observed)
        draws = np.moveaxis(draws.reshape(*encoded.shape[:2], -1), 1, 0)
        if n_kept < n_draws:
            known = np.tile(self._fill_derived(X), (n_draws, 1))
            rows = np.where(np.isnan(known), draws.reshape(known.shape), known)
            distance = np.zeros(len(rows))
            for relation in self.linear_relations:
                relation.decode(rows, rounds=False, rows=np.isnan(known[:, relation.derived]))
                with np.errstate(all="ignore"):  # of products of wrong signs
                    gap = (rows[:, relation.derived] - relation.predict(rows)) / relation.scale
                    distance += np.nan_to_num(gap**2, nan=np.inf)
            nearest = distance.reshape(n_draws, -1).argpartition(n_kept - 1, axis=0)[:n_kept]
            draws = np.take_along_axis(draws, np.sort(nearest, axis=0)[:, :, None], axis=0)
        generator = np.random.default_rng(stream_seed(seed, Stream.LEVELS, 1))
        return self.complete(X, draws, generator)

    def relate(self, X: np.ndarray, generator: np.random.Generator) -> None:
        """Change cells of decoded samples (n, n_features) such that all relations hold."""
        moves_sources = any(relation.signs[-1] for relation in self.linear_relations)
        if self.many_to_one or self.orders or moves_sources:
            self._relate(X, X.copy(), np.zeros(X.shape, dtype=bool), generator)

    @property
    def related(self) -> np.ndarray:
        """Indices of columns in orders, and of codes and labels: (k,)."""
        parts = [np.append(each.labels, each.code) for each in self.many_to_one]
        return np.unique(np.concatenate([self.orders.pairs.ravel(), *parts]))

    def are_broken(self, X: np.ndarray, *, is_partial: bool = False) -> np.ndarray:
        """Find rows out of order or with a label of another code: (n, n_features) -> (n,).

        With ``is_partial``, labels of some codes count, and derived numbers beyond those in fit.
        """
        is_broken = np.zeros(len(X), bool) if is_partial else self.orders.are_broken(X)
        for relation in self.linear_relations if is_partial else ():
            is_broken |= relation.is_beyond(X)
        for each in self.many_to_one:
            if each.is_partial or not is_partial:
                is_broken |= each.is_contradicted(X)
        return is_broken

    def inverse_transform(
        self,
        values: np.ndarray,
        generator: Draws = None,
        *,
        is_rounded: np.ndarray | bool = False,
        observed: np.ndarray | None = None,
    ) -> np.ndarray:
        """Decode means, or samples, in their dtype: (n, n_columns) -> (n, n_features).

        Samples have a generator. Columns with mask ``is_rounded`` (n_features,) are rounded. Cells
        equal others, or nearly, also where these are ``observed`` (n, n_features).
        """
        if self.residuals:
            values = values.copy()
            known = None
            if observed is not None:
                known = np.hstack(self._encode(self._fill_derived(observed)))
            self.residuals.decode(values, known)
        is_sample = generator is not None
        X = self._decode(values, is_rounded | is_sample, generator)
        for pair in self.one_to_one:
            pair.decode(X)
        if self.equal_cells:
            for relation in self.linear_relations:  # partners may be derived
                relation.decode(X, rounds=is_sample)
            self._decode_equal(X, values, observed)
        for relation in self.linear_relations:
            relation.decode(X, rounds=is_sample, generator=generator)
        return X

    def _fill_derived(self, X: np.ndarray) -> np.ndarray:
        """Replace missing values that other columns determine: (n, d) -> (n, d)."""
        filled, _, _ = self._resolve(X)
        for group in self._one_hot:
            cells = group.take(filled)
            if (full := group.fill(cells)) is not cells:
                filled = filled.copy() if filled is X else filled
                filled[:, group.indices] = full
        return filled

    def _resolve(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fill rows, encode derived columns, and return the latter's log-density, too.

        Derived values become 0, or 1 for contradictions. (n, d) -> (n, d), (n, d), (n,).
        """
        if not self.derivations:
            return X, X, np.zeros(len(X))
        filled, doubt, log_p = X.copy(), np.zeros(X.shape), np.zeros(len(X))
        for pair in 2 * self.one_to_one:  # a source that is filled last fills the others
            pair.fill(filled)
        codes = np.full((len(self.linear_relations), len(X)), np.nan)
        pairs = zip(self.linear_relations, codes, strict=True)
        finest_first = sorted(pairs, key=lambda pair: pair[0].width / pair[0].scale)
        for _ in self.linear_relations:  # a value that is filled last determines others
            for relation, of_relation in finest_first:
                relation.resolve(
                    filled, doubt, of_relation, log_p, self._on_steps, self.within_bounds
                )
        encoded = filled.copy()
        for pair in self.one_to_one:
            encoded[:, pair.derived] = pair.encode(filled)
        for relation, of_relation in zip(self.linear_relations, codes, strict=True):
            encoded[:, relation.derived] = of_relation
        for each in self.derivations:
            encoded[np.isnan(X[:, each.derived]), each.derived] = np.nan
        return filled, encoded, log_p

    def check_sources(self, X: np.ndarray) -> None:
        """Refuse rows of a derived column that lack two of its sources: (n, n_features)."""
        _, encoded, _ = self._resolve(X)
        for each in self.linear_relations:
            values, code = X[:, each.derived], encoded[:, each.derived]
            if np.isnan(code).all() and not np.isnan(values).all():
                names = [str(name) for name in self.names]
                raise ValueError(
                    f"Column {names[each.derived]!r} follows from others "
                    f"({each.describe(names)}) and has no density of its own: the 'columns' "
                    f"parameter must name all of these but one, or none."
                )

    def _masses_of(self, column: int) -> np.ndarray:
        """Inputs of a column's point masses, the partner's last; the number follows: (S,)."""
        return np.flatnonzero(self.column_of_input == column)[:-1]

    def _decode_equal(self, X: np.ndarray, values: np.ndarray, observed: np.ndarray | None) -> None:
        """Replace decoded cells by those of their partners, or the reverse, in place.

        Rows X are decoded from ``values``; of their means, cells are replaced in part. Values
        ``observed`` (n, n_features) are given, NaN where none is.
        """
        nothing = np.full_like(X, np.nan)
        observed = nothing if observed is None else self._fill_derived(observed).copy()
        last = [self._masses_of(equal.column)[-1] for equal in self.equal_cells]
        pairs = list(zip(self.equal_cells, values[:, last].clip(0, 1).T, strict=True))
        for equal, p in pairs[::-1]:
            a, b = equal.column, equal.partner
            own = np.where(equal.is_common(observed), np.nan, observed[:, a])
            mixed = equal.mix(X[:, b], own, p)
            observed[:, b] = np.where(np.isnan(observed[:, b]), mixed, observed[:, b])
        # of other columns, draws of a one-hot class tell what its observed cells leave
        both = sorted({j for equal, _ in pairs for j in (equal.column, equal.partner)})
        X[:, both] = np.where(np.isnan(observed[:, both]), X[:, both], observed[:, both])
        for equal, p in pairs:
            a, b = equal.column, equal.partner
            mixed = equal.mix(X[:, a], X[:, b], p)
            X[:, a] = np.where(np.isnan(observed[:, a]), mixed, X[:, a])

    def log_abs_det_jacobian(self, X: np.ndarray, *, in_units: bool = True) -> np.ndarray:
        """Log-abs-det-Jacobian of the encoding (log-det-Jacobian): (n, n_features) -> (n,).

        Added to a log-density of encoded rows, it gives the log-density of X in its own units.
        It has the scaling, of logarithms as well, and the log-probability of seen and unseen values
        in columns that are restricted to some values. A missing value contributes 0. Without the
        log-derivatives of the encoding (``in_units``), a log-density is in the model's units.
        """
        rows, X, log_det = self._resolve(X)
        if len(related := self.related):
            n_pairs = len(self.orders.pairs) + sum(len(each.labels) for each in self.many_to_one)
            is_known = ~np.isnan(rows[:, related]).any(axis=1)
            log_broken = min(self.log_unseen + np.log(n_pairs), 0.0)  # of any pair
            is_broken = self.are_broken(rows)
            log_det += np.where(is_broken, log_broken, -self.log_kept * is_known)
        X = X.copy() if self.equal_cells and X is rows else X
        for equal in self.equal_cells:
            log_det += equal.log_density(rows)
            X[equal.holds(rows), equal.column] = np.nan
        if self.residuals and in_units:
            log_det += self.residuals.encode(np.hstack(self._encode(X)))
        for group in self.groups:
            values = group.take(X)
            log_det += group.log_abs_det_jacobian(values, self.log_unseen, in_units=in_units)
        return log_det

    def limits(self) -> tuple[np.ndarray, ...]:
        """Return limits as ``ColumnGroups.limits`` does; residuals have no bounds."""
        low, high, masses, half_steps = super().limits()
        of_residuals = self._position_of_input[self.residuals.inputs]
        low[of_residuals], high[of_residuals] = -np.inf, np.inf
        return low, high, masses, half_steps

    @property
    def recording_steps(self) -> np.ndarray:
        """Recording steps in the model's units, 0 where there are none: (n,), in its order."""
        steps = super().recording_steps
        steps[self._position_of_input[self.residuals.inputs]] /= self.residuals.scales
        return steps

    # -- unseen and missing values ---------------------------------------------------

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find values that a column's likelihood gives no probability: (n, n_features)."""
        return super().is_unseen(self._resolve(X)[1])

    def check_values(
        self, X: np.ndarray, fields: Sequence[Field] | None, handle_unknown: str
    ) -> np.ndarray:
        """Refuse unseen values, keep them or replace them by NaN: (n, n_features) -> same."""
        if handle_unknown not in ("error", "infrequent", "missing"):
            raise ValueError(
                f"handle_unknown must be 'error', 'infrequent' or 'missing'. "
                f"Got {handle_unknown!r} instead."
            )
        if handle_unknown == "infrequent" or not (unseen := self.is_unseen(X)).any():
            return X
        if handle_unknown == "error":
            raise ValueError(f"{self.describe_unseen(X, fields)[0]}.")
        return np.where(unseen, np.nan, X)

    def describe_unseen(self, X: np.ndarray, fields: Sequence[Field] | None) -> list[str]:
        """Describe the first unseen value of each column that has any, by the schema if given."""
        unseen, descriptions = self.is_unseen(X), []
        for j in np.flatnonzero(unseen.any(axis=0)).tolist():
            value, field = X[unseen[:, j], j][0], _coded_field(fields, j)
            if field is None:
                text = f"the value {value.item()!r}"
            elif field.categories is not None and value == UNKNOWN:
                text = "an unknown category"
            else:
                text = f"the value {shorten(field.decode(np.array([value])).tolist())}"
            reason = self.describe_reason(j, X[unseen[:, j]][0], fields)
            descriptions.append(f"Column {self.names[j]!r} has {text}, which {reason}")
        return descriptions

    def describe_reason(self, j: int, row: np.ndarray, fields: Sequence[Field] | None) -> str:
        """Describe why a row's value (n_features,) is unseen, by those that it had in ``fit``."""
        for each in self.derivations:
            if each.derived == j:
                sources = [
                    f"{self.names[k]!r}{' (which follows)' if np.isnan(row[k]) else ''}"
                    for k in each.sources.tolist()
                ]
                return f"no row with its values of {' and '.join(sources)} had in fit"
        group = next(group for group in self.groups if j in group.indices)
        values, field = group.values(group.indices.tolist().index(j)), _coded_field(fields, j)
        is_constant, possible = group.likelihood is None, group.possible_values
        name = "constant column" if is_constant else f"column of {group.likelihood}"
        if values is not None and field is not None:
            possible = shorten(field.decode(values).tolist())
        elif values is not None:
            possible = ", ".join(map(str, values.tolist()))
        others = [self.names[k] for k in np.flatnonzero(self.is_told_by[j]).tolist() if k != j]
        beside = f" beside those of {shorten(others)}" if others else ""
        return f"a {name} cannot have{beside}; in fit its values were {possible}"

    # -- display ---------------------------------------------------------------------

    def _descriptions(self) -> list[tuple[str, str]]:
        """Name and distribution of each column of X."""
        names = [shown_name(name) for name in self.names]
        texts = ["constant" if one is None else str(one) for one in self.likelihoods]
        for columns in self._one_hot:
            for group in columns.grouped(columns.indices).tolist():
                for j in group:
                    others = [names[other] for other in sorted(group) if other != j]
                    texts[j] = f"{texts[j]}, excludes {first_of(others)}"
        for pair in self.one_to_one:
            texts[pair.derived] = f"one-to-one with {names[pair.source]}"
        for relation in self.linear_relations:
            texts[relation.derived] = relation.describe(names)
        for equal in self.equal_cells:
            texts[equal.column] = f"{texts[equal.column]}, often equals {names[equal.partner]}"
        inputs = self.column_of_input
        for j, source, *_ in self.residuals:
            texts[inputs[j]] = f"{texts[inputs[j]]}, nearly follows from {names[inputs[source]]}"
        for high in np.unique(self.orders.pairs[:, 1]).tolist():
            low = [names[j] for j, other in self.orders.pairs.tolist() if other == high]
            texts[high] = f"{texts[high]}, at least {', '.join(low)}"
        for each in self.many_to_one[::-1]:
            part = "values of " * each.is_partial
            for label in each.labels.tolist():
                texts[label] = f"{texts[label]}, follows from {part}{names[each.code]}"
        return list(zip(names, texts, strict=True))

    def __repr__(self) -> str:
        descriptions = self._descriptions()
        width = max((len(name) for name, _ in descriptions), default=0)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in descriptions)

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>"
            for name, text in self._descriptions()
        )
        return f"<table><tr><th>column</th><th>distribution</th></tr>{rows}</table>"


def _coded_field(fields: Sequence[Field] | None, j: int) -> Field | None:
    """Return the schema of a column whose numbers stand for other values, otherwise None."""
    return None if not fields or fields[j].is_numeric else fields[j]
