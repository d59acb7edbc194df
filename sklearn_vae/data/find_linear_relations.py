"""Search for columns that follow from others by a linear equation, or that of logarithms."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise
from operator import itemgetter

import numpy as np

from sklearn_vae.data.fields import DAY
from sklearn_vae.data.find_broken_rows import find_broken_rows
from sklearn_vae.data.linear_relations import LinearRelation
from sklearn_vae.data.marginals import Values, is_common
from sklearn_vae.data.training_column import (
    MAX_COMPARED,
    MIN_EVIDENCE,
    RELATIVE_WIDTH,
    TrainingColumn,
    recording,
)
from sklearn_vae.numerics.rows import small_batches, spread_out, without_copies

# Error of a relation, in standard deviations of the column, beyond which values agree by chance.
MAX_ERROR = 0.125
# Fraction of derived values of the wrong sign, by errors of samples, from which on a column does
# not follow from others: too many would be reflected at 0.
MAX_WRONG = 0.25
# Cost from which on a column is derived only if totals that were found before tell no other.
MAX_COST = 0.5
# Errors of samples, in standard deviations of the most variable column; derived ones have the same.
BLUR = 0.1
# Coefficient, in standard deviations, from which on a source may be derived in place of the other
# column.
LARGE_PART = 0.05
# Seconds of a year of 365.25 days.
YEAR = 365.25 * DAY
# Rounding errors up to this fraction of the width are none; others may be up to half of it.
EXACT = 0.01
# Lattice, decimals, width and standard deviation of a column, and the width of its last decimal.
Units = tuple[tuple[np.ndarray, int, float, float], float]


def find_linear_relations(
    X: np.ndarray, columns: list[int], weight: np.ndarray
) -> list[LinearRelation]:
    """Find columns that follow from others in all rows that have all of them, but for a few.

    Of the columns in a relation, which have indices ``columns``, one is derived whose samples keep
    to its bounds, of the lowest cost (``_Search._preference``). The weight (n,) counts copies.
    """
    if not 1 < len(columns) <= MAX_COMPARED:
        return []
    if (is_broken := find_broken_rows(X, columns)).any():
        X, weight = X[~is_broken], weight[~is_broken]
    n_known = sum((~np.isnan(X[rows])).sum(axis=0) for rows in small_batches(X))
    columns = [j for j in columns if n_known[j] > 0.5 * len(X)]
    zeros = {j: (X[:, j] == 0).sum() / n_known[j] for j in columns if np.nanmin(X[:, j]) >= 0}
    pairs, totals, products = [(columns, "pairs")], [(columns, "totals")], []
    # fractions of zeros in factors of products: a column of many hides relations of others
    for low, high in pairwise((-1.0, 0.0, 0.5, 0.9)):
        if any(low < fraction <= high for fraction in zeros.values()):
            products.append(([j for j in zeros if zeros[j] <= high], "products"))
    best: list[LinearRelation] = []
    least = _search(X, weight, [*totals, *products], best)
    # a derived column follows from no other columns: of other orders, one may find more relations
    for first, others in ((pairs, [*totals, *products]), (products, totals)):
        relations: list[LinearRelation] = []
        cost = _search(X, weight, first if best else [], relations)
        if relations:
            cost += _search(X, weight, others, relations)
            if (-len(relations), cost) < (-len(best), least):
                best, least = relations, cost
    return _sources_first(best) or []


def _search(
    X: np.ndarray,
    weight: np.ndarray,
    searches: Sequence[tuple[list[int], str]],
    relations: list[LinearRelation],
) -> float:
    """Search for relations of columns and add them, in turn; return the sum of their costs.

    They are two columns in proportion ("pairs"), or columns or their logarithms of which one is a
    sum ("totals", "products").
    """
    cost = 0.0
    for indices, kind in searches:
        for has_totals, max_cost in ((False, MAX_COST), (True, np.inf), (False, np.inf)):
            left_out = set() if has_totals else _derived(relations)  # they may hide others
            used = [j for j in indices if j not in left_out]
            if has_totals or len(used) < len(indices):
                search = _Search(X, used, weight, relations, is_log=kind == "products")
                cost += search.run_pairs() if kind == "pairs" else search.run(max_cost)
    return cost


class _Search:
    """Search for relations, column by column; those that do not follow from others are a basis.

    Columns are known by their position among those that vary in the rows without missing values.
    """

    def __init__(
        self,
        X: np.ndarray,
        columns: list[int],
        weight: np.ndarray,
        relations: list[LinearRelation],
        *,
        is_log: bool,
    ):
        complete = []
        for batch in small_batches(X):
            x = X[batch][:, columns]
            is_known = x > 0 if is_log else ~np.isnan(x)
            complete.append(batch.start + np.flatnonzero(is_known.all(axis=1)))
        rows = np.concatenate(complete)
        rows = rows[spread_out(len(rows))]
        self.rows = X[rows[without_copies(X[np.ix_(rows, columns)])]]
        values = self.rows[:, columns].astype(np.float64)
        with np.errstate(all="ignore"):  # of very large and very small numbers, or no logarithms
            linked = np.log(values) if is_log else values
            scale = np.std(linked, axis=0) if len(values) else np.zeros(len(columns))
        varies = (values[:1] != values).any(axis=0) & np.isfinite(scale) & (scale > 0)
        self.X, self.weight, self.relations, self.is_log = X, weight, relations, is_log
        self.columns, self.values = np.array(columns, dtype=int)[varies], values[:, varies]
        linked, self.scale = linked[:, varies], scale[varies]
        self.mean = linked.sum(axis=0) / max(len(linked), 1)
        self.Z = (linked - self.mean) / self.scale
        low, high = (f(X[:, self.columns], axis=0) for f in (np.nanmin, np.nanmax))
        self.limits = np.stack([low, high], axis=1).astype(np.float64)
        self.signs = (low >= 0).astype(int) - ((high <= 0) & (low < 0))
        self.units = cache(self._read)
        self.fraction_common = cache(self._fraction_common)
        self.basis: list[int] = []
        self.cost = 0.0  # of the relations that it has found
        self.span = np.zeros((len(linked), 0))  # orthonormal

    def run_pairs(self) -> float:
        """Add the relations of two columns that are found; return the sum of their costs."""
        errors = 1 - np.square(self.Z.T @ self.Z / max(len(self.Z), 1)).clip(max=1)
        for j, k in combinations(np.argsort(self.scale, kind="stable").tolist(), 2):
            self.basis, pair = [j], self.columns[[j, k]].tolist()
            norm = float(np.sqrt(errors[j, k] * len(self.Z)))
            if errors[j, k] < MAX_ERROR**2 and _derived(self.relations).isdisjoint(pair):
                self._add_relation(k, norm, MAX_COST)
        return self.cost

    def run(self, max_cost: float) -> float:
        """Add the relations that are found: parts before totals, derived columns in the basis.

        Return the sum of their costs.
        """
        derived = _derived(self.relations)
        order = np.argsort(self.scale, kind="stable").tolist()
        for k in sorted(order, key=lambda k: self.columns[k] not in derived):
            residual = self.Z[:, k]  # what the basis does not explain: (m,)
            for _ in range(2):  # the second time takes rounding errors off
                residual = residual - self.span @ (self.span.T @ residual)
            norm, is_near = float(np.linalg.norm(residual)), np.abs(residual).max() < MAX_ERROR
            may_follow = is_near and self.columns[k] not in derived
            is_added = may_follow and self._add_relation(k, norm, max_cost)
            if not is_added and norm > RELATIVE_WIDTH:
                self.basis.append(k)
                self.span = np.column_stack([self.span, residual / norm])
        return self.cost

    @np.errstate(all="ignore")  # of very large and very small numbers
    def _may_follow(self, k: int, norm: float) -> bool:
        """Return whether rounding may be all of a column's errors, and whether rows are enough."""
        columns = [*self.basis, k]
        rounding = np.array([self.units(j)[0][2] for j in columns]) / self.scale[columns]
        if self.is_log:
            rounding /= self.values[:, columns].min(axis=0)
        # no coefficient is above 1, as the basis has smaller scales
        largest = 2 * float(rounding.max()) * np.sqrt(len(columns) * len(self.Z))
        return not norm > largest and len(columns) < len(self.Z)

    def _add_relation(self, k: int, norm: float, max_cost: float) -> bool:
        """Add a relation of a column with those of the basis, if there is one of lower cost.

        The derived column leaves the basis, and the others are in it.
        """
        if not self._may_follow(k, norm):
            return False
        parts, errors = self._solve(k, self.basis)
        near = [(1 + 1e-6, k), *zip(np.abs(parts).tolist(), self.basis, strict=True)]
        before = _derived(self.relations)
        best, least = None, max_cost
        large = [(part, j) for part, j in near if part >= LARGE_PART]
        free = [(part, j) for part, j in large if self.columns[j] not in before]
        keeps_common = self.is_log or len(free) < 3
        broken = self._fractions_broken(large, errors)
        order = sorted(self._preference(*each, broken[each[1]], keeps_common) for each in free)
        for cost, *_, derived in order:
            if cost >= least:
                break
            relation = self._fit(derived, [j for j in (*self.basis, k) if j != derived])
            if relation is None or _sources_first([*self.relations, relation]) is None:
                continue
            wrong = self._fraction_wrong(relation)
            if wrong < MAX_WRONG and cost + wrong < least:
                best, least = relation, cost + wrong
        if best is not None:
            self.basis = [k if self.columns[j] == best.derived else j for j in self.basis]
            self.cost += least
            self.relations.append(best)
        return best is not None

    @np.errstate(all="ignore")  # standard deviations of very large and very small numbers
    def _preference(
        self, part: float, k: int, broken: float, keeps_common: bool
    ) -> tuple[float, float, float, int]:
        """Order of columns that may be derived, first their costs.

        These are the share by which errors increase the standard deviation, the fraction of
        ``broken`` equations, and that of common values, which sums do not keep. Of equal ones the
        finest recorded comes first: finer columns do not follow from a coarser one.
        """
        (lattice, decimals, width, scale), _ = self.units(k)
        is_recorded = decimals >= 0 or lattice[1] > 0
        steps = round(float(np.log(scale / width)), 1) if is_recorded else np.inf
        blur = float(np.hypot(1, BLUR / part)) - 1
        common = 0.0 if keeps_common else self.fraction_common(k)
        return round(blur + broken + common, 1), -steps, -part, k

    @np.errstate(all="ignore")  # without rounding
    def _fractions_broken(
        self, parts: list[tuple[float, int]], errors: np.ndarray
    ) -> dict[int, float]:
        """Fractions of rows whose equation a derived column breaks, as others are finer.

        Columns come after their parts. None breaks it where errors (m,) are those of its rounding:
        it was derived.
        """
        rounding = np.zeros((len(self.Z), len(parts)))
        for i, (part, k) in enumerate(parts):
            (lattice, decimals, width, _), _ = self.units(k)
            if decimals >= 0 or lattice[1] > 0:
                rounding[:, i] = width * part / self.scale[k]
                rounding[:, i] /= self.values[:, k] if self.is_log else 1
        finest = rounding.min(axis=1), 4 * np.abs(errors)
        kept = np.max([(each[:, None] / rounding).mean(axis=0) for each in finest], axis=0)
        broken = (1 - np.nan_to_num(kept, nan=1)).clip(min=0)
        return {k: fraction for (_, k), fraction in zip(parts, broken.tolist(), strict=True)}

    def _solve(self, derived: int, sources: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Least squares, in standard deviations: coefficients (k,) and errors (m,)."""
        z = self.Z[:, sources]
        coefficients = np.linalg.lstsq(z, self.Z[:, derived], rcond=None)[0]
        return coefficients, self.Z[:, derived] - z @ coefficients

    def _read(self, k: int) -> Units:
        """Read the units of a column."""
        column = TrainingColumn.of_numbers(self.X[:, self.columns[k]])
        decimals, step, (low, _) = recording(column)
        least_width = 10.0**-decimals if decimals >= 0 else column.width
        is_decimal = step == least_width  # ties are rounded as numpy does
        lattice = np.array([low, 0.0 if is_decimal else step], np.float64)
        return (lattice, decimals, step or column.width, float(column.values.std())), least_width

    def _fit(self, derived: int, sources: list[int]) -> LinearRelation | None:
        """Return a column's relation with the sources that it needs, if there is one."""
        counts = np.unique(self.values[:, derived], return_counts=True)[1]
        log_chance = np.log(np.square(counts / len(self.Z)).sum())
        evidence = -log_chance * (len(self.Z) - len(sources) - 1)
        if len(counts) < 3 or evidence < MIN_EVIDENCE:
            return None
        _, errors = self._solve(derived, sources)
        if np.abs(errors).max() > MAX_ERROR:
            return None
        (*_, width, scale), _ = self.units(derived)
        if width > 2 * MAX_ERROR * scale and np.abs(errors).max() > EXACT * width / scale:
            return None  # steps are so coarse that values agree by chance
        fewer = best = self._relation(derived, sources)
        while fewer[0] >= best[0] >= 0:  # nearly equal sources share a coefficient
            best = fewer
            if best[1] is not None:
                sources = np.flatnonzero(np.isin(self.columns, best[1].sources)).tolist()
            if len(sources) == 1:
                break
            smallest = int(np.abs(self._solve(derived, sources)[0]).argmin())
            sources = sources[:smallest] + sources[smallest + 1 :]
            fewer = self._relation(derived, sources)
        relation = best[1]
        if relation is None or not self._is_useful(relation):
            return None
        if self._is_implied(relation):
            relation = replace(relation, signs=np.append(relation.signs[:-1], 0))
        return relation

    def _relation(self, derived: int, sources: list[int]) -> tuple[float, LinearRelation | None]:
        """Return the evidence for a relation with the needed ones of these sources, and it."""
        parts, errors = self._solve(derived, sources)
        slopes = parts * (self.scale[derived] / self.scale[sources])
        linked = self.Z[:, sources] * self.scale[sources]
        units, least_width = self.units(derived)
        relation = LinearRelation(
            int(self.columns[derived]),
            self.columns[sources],
            self.is_log,
            slopes,
            float(self.mean[derived] - self.mean[sources] @ slopes),
            np.atleast_2d(np.cov(linked.T)),
            self.signs[[*sources, derived]],
            *units,
            self.limits[derived],
        )
        tolerance = relation.tolerance(self.rows)
        if self.is_log:
            with np.errstate(all="ignore"):
                fraction = tolerance / self.rows[:, relation.derived]
                tolerance = -np.log1p(-np.minimum(fraction, 1))
        # what other coefficients may add to the squared errors, of which these have the least
        room = np.square(tolerance).sum() - np.square(errors * self.scale[derived]).sum()
        if room < 0:
            return -np.inf, None
        # a rounded value tells nothing of what varies less than its rounding errors, but of dates
        is_told = np.abs(parts) > np.abs(errors).max() * (self.is_log | ~_is_per_year(slopes))
        if not is_told.all():
            told = np.array(sources)[is_told].tolist()
            return self._relation(derived, told) if told else (-np.inf, None)
        evidence, simplest = self._simplest(relation, self.mean[sources], room)
        if simplest is None or evidence < MIN_EVIDENCE or not self._holds(simplest):
            return 0.0, None
        if least_width < simplest.width:
            lattice = simplest.lattice * [1, 0]  # its decimals alone: a coarser step may break it
            exact = replace(simplest, width=least_width, lattice=lattice)
            simplest = exact if self._holds(exact) else simplest
        rows = self.rows.copy()
        simplest.decode(rows, rounds=True)
        # rows between two steps that are rounded up, and down, against the rule
        steps = (self.rows - rows)[:, relation.derived] / simplest.width
        n_ties = min((steps > 0.5).sum(), (steps < -0.5).sum())
        return evidence, replace(simplest, draws_ties=bool(n_ties > 0.05 * len(rows)))

    def _simplest(
        self, relation: LinearRelation, mean: np.ndarray, room: float
    ) -> tuple[float, LinearRelation | None]:
        """Round the coefficients of a relation, as far as its squared errors leave room.

        ``mean`` (k,) is that of the sources. Return the evidence for the likeliest one, and it.
        """
        sources_of_rows = self.rows[:, relation.sources].T
        n_common = max(np.unique(x, return_counts=True)[1].max() for x in sources_of_rows)
        # against similar relations that do not hold: each row would with a probability of this
        # fraction, and those of a source's most common value always
        log_chance = {exact: np.log(EXACT if exact else 0.5) for exact in (True, False)}
        best: tuple[float, LinearRelation | None] = -np.inf, None
        for cost, coefficients in sorted(_round_numbers(relation.coefficients), key=itemgetter(0)):
            if (n_common - len(self.rows)) * log_chance[True] - cost <= best[0]:
                break
            change = coefficients - relation.coefficients
            added = (len(self.rows) - 1) * (change @ relation.covariance @ change)
            if coefficients.all() and added <= room:
                intercept = float(relation.intercept - mean @ change)
                rounded = replace(relation, coefficients=coefficients, intercept=intercept)
                if (coefficients == 1 / YEAR).any():
                    # calendar years differ by a day
                    rounded = replace(rounded, width=relation.width + 2 * DAY / YEAR)
                for intercept_cost, intercept, is_exact in self._intercepts(rounded):
                    evidence = (n_common - len(self.rows)) * log_chance[is_exact]
                    evidence -= cost + intercept_cost
                    if evidence > best[0]:
                        best = float(evidence), replace(rounded, intercept=intercept)
        return best

    @np.errstate(all="ignore")
    def _intercepts(self, relation: LinearRelation) -> list[tuple[float, float, bool]]:
        """Cost of each intercept with which a relation holds, it, and whether it does exactly."""
        y, tolerance = self.rows[:, relation.derived], relation.tolerance(self.rows)
        expected = replace(relation, intercept=0.0).predict(self.rows)
        bounds = np.stack([y - tolerance, y + tolerance])
        bounds = bounds / expected if self.is_log else bounds - expected
        low, high = bounds[0].max(), bounds[1].min()
        candidates = []
        if np.isfinite([low, high]).all() and low <= high:
            for cost, (x,) in _round_numbers(np.array([low / 2 + high / 2])):
                if low <= x <= high:
                    errors = np.abs(y - (expected * x if self.is_log else expected + x))
                    is_exact = bool((errors <= 2 * EXACT * tolerance).all())
                    candidates.append((cost, float(np.log(x) if self.is_log else x), is_exact))
        return candidates

    def _holds(self, relation: LinearRelation) -> bool:
        """Return whether a relation holds in all rows that have all of its columns."""
        batches = (self.X[rows] for rows in small_batches(self.X))
        return all(
            (relation.agrees(X) | np.isnan(X[:, relation.columns]).any(axis=1)).all()
            for X in batches
        )

    def _fraction_wrong(self, relation: LinearRelation) -> float:
        """Fraction of derived values whose sign would be wrong, by a normal distribution.

        It is 0 where there is less than one, and at least that of zeros, which samples do not have.
        """
        from scipy.special import ndtr

        y = self.X[:, relation.derived]
        if not relation.signs[-1]:
            return 0.0
        largest = np.sqrt(np.diag(relation.covariance) * np.square(relation.coefficients)).max()
        wrong = float(np.nanmean(ndtr(-np.abs(y) / (BLUR * largest))))
        is_none = self.weight.sum() * wrong < 1
        return 0.0 if is_none else max(wrong, float((y == 0).sum() / (~np.isnan(y)).sum()))

    def _fraction_common(self, k: int) -> float:
        """Fraction of a column's values that are point masses."""
        values = Values.of(TrainingColumn.of_numbers(self.X[:, self.columns[k]], self.weight))
        return float(values.rows @ is_common(values)) / values.n_rows

    def _is_implied(self, relation: LinearRelation) -> bool:
        """Return whether derived values keep their sign for all values of the sources together."""
        X = self.X[:, relation.sources]
        corners = np.stack([np.nanmin(X, axis=0), np.nanmax(X, axis=0)]).astype(np.float64)
        ends = np.sort(corners * relation.coefficients, axis=0).sum(axis=1) + relation.intercept
        return relation.is_log or bool((ends * relation.signs[-1] > -relation.width).all())

    def _is_useful(self, relation: LinearRelation) -> bool:
        """Return whether derived values tell missing sources.

        They do not where a second column is missing in 5 % of the rows, nor where a total leaves
        missing parts out: all would follow as 0, a rare value, by a surprise of 4 nats.
        """
        missing = np.isnan(self.X[:, relation.columns])
        n_missing, parts = missing.sum(axis=1), missing[:, :-1]
        is_lost = (n_missing > 1) & ~missing[:, -1]
        if self.weight @ is_lost > 0.05 * self.weight.sum():
            return False
        rows = np.flatnonzero((n_missing == 1) & ~missing[:, -1])
        n_zeros = (self.X[:, relation.sources] == 0).sum(axis=0)
        surprise = -np.log((1 + n_zeros) / (2 + (~parts).sum(axis=0))) @ parts[rows].sum(axis=0)
        skips_missing = relation.agrees(np.nan_to_num(self.X[rows])).all()
        return bool(surprise <= 4 or not skips_missing)


def _derived(relations: list[LinearRelation]) -> set[int]:
    """Indices of the columns that are derived."""
    return {relation.derived for relation in relations}


def _sources_first(relations: list[LinearRelation]) -> list[LinearRelation] | None:
    """Sort relations such that a derived source comes before; None if they go in a circle.

    Those of many sources come before those of some of these, which are adjusted first.
    """
    ordered: list[LinearRelation] = []
    left = relations
    while left:
        missing = _derived(left)
        ready = [each for each in left if missing.isdisjoint(each.sources.tolist())]
        if not ready:
            return None
        ordered += sorted(ready, key=lambda each: -len(each.sources))
        left = [each for each in left if each not in ready]
    return ordered


def _is_per_year(coefficients: np.ndarray) -> np.ndarray:
    """Return whether coefficients may be those of dates in a number of years: (k,)."""
    return np.rint(np.abs(coefficients) * YEAR) == 1


@np.errstate(divide="ignore")
def _round_numbers(values: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Return values (k,) as they are, as fractions, and with few digits, or their reciprocals.

    Before each is its cost, the logarithm of the number of values that are as simple. Denominators
    are at most 12, digits 6.
    """
    candidates = [(-len(values) * float(np.log(RELATIVE_WIDTH)), values)]
    for denominator in range(1, 13):
        numerators = np.rint(values * denominator)
        cost = np.log(denominator * np.maximum(np.abs(numerators), 1)).sum()
        candidates.append((float(cost), numerators / denominator))
    if _is_per_year(values).all():
        candidates.append((0.0, np.sign(values) / YEAR))
    for n_digits in range(1, 7):
        for exponent in (1, -1):
            rounded = [float(f"{x:.{n_digits}g}") for x in (values**exponent).tolist()]
            cost = len({*map(abs, rounded)}) * n_digits * float(np.log(10))
            candidates.append((cost, np.array(rounded) ** exponent))
    return candidates
