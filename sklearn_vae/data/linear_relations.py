"""Numbers that follow from others by a linear equation, or that of logarithms.

Totals are sums of parts, amounts are products of prices and quantities.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from sklearn_vae.data.columns.base import Draws, cauchy_log_density
from sklearn_vae.persistence.validation import check_array, serializable

# Rounds values (n, d), but for those of a mask (n, d) of fixed ones.
Rounding = Callable[[np.ndarray, np.ndarray], np.ndarray]


@serializable
@dataclass(frozen=True, eq=False)
class LinearRelation:
    """A column whose values are a function of those of other columns, its sources.

    Only the sources have a likelihood. The derived column is a constant: its values are replaced
    by 0 where they agree with the sources, and by 1 where they contradict them.
    """

    derived: int  # index of the derived column in X
    sources: Annotated[np.ndarray, "i", "k"]  # indices of the sources
    is_log: bool  # whether the equation is that of logarithms: of a product, of powers
    coefficients: Annotated[np.ndarray, "f", "k"]  # of the sources
    intercept: float
    # of the sources, or of their logarithms
    covariance: Annotated[np.ndarray, "f", "k", "k"]
    # (k + 1,), 1 for sources that are never negative, -1 never positive, otherwise 0; then that of
    # the derived column, 0 also where the sources imply it
    signs: np.ndarray
    # a derived value, and their recording step, 0 if decimals say all
    lattice: Annotated[np.ndarray, "f", 2]
    decimals: int  # of derived values, -1 if there are more
    width: float  # their step, or rounding error: values up to half of it from the function's agree
    scale: float  # standard deviation of derived values
    limits: Annotated[np.ndarray, "f", 2]  # the least and the largest of them
    draws_ties: bool = False  # whether samples in the middle of two steps are either one

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        check_array("signs", self.signs, "i", self.columns.shape)
        if not (self.coefficients.all() and self.width > 0 and self.scale > 0):
            raise ValueError("coefficients must not be 0, width and scale must be above 0")

    def describe(self, names: Sequence[str]) -> str:
        """Describe the function, by the names of the columns: ``net + tax``, ``price * pieces``."""
        form, added, subtracted = (
            ("{1}^{0:.6g}", " * ", " / ") if self.is_log else ("{0:.6g} {1}", " + ", " - ")
        )
        terms: dict[bool, list[str]] = {True: [], False: []}
        for j, c in sorted(zip(self.sources.tolist(), self.coefficients.tolist(), strict=True)):
            text = names[j] if abs(c) == 1 else form.format(abs(c), names[j])
            terms[c > 0].append(text)
        if self.intercept:
            constant = np.exp(self.intercept) if self.is_log else abs(self.intercept)
            terms[self.is_log or self.intercept > 0].append(f"{constant:.6g}")
        if not terms[True] and not self.is_log:
            return "-" + subtracted.join(terms[False])
        return subtracted.join([added.join(terms[True]) or "1", *terms[False]])

    @property
    def columns(self) -> np.ndarray:
        """Indices of the sources, then that of the derived column: (k + 1,)."""
        return np.append(self.sources, self.derived)

    # -- the function ----------------------------------------------------------------

    def _link(self, X: np.ndarray, columns: int | np.ndarray) -> np.ndarray:
        """Values of columns in the equation, logarithms or themselves: (n, d) -> (n, ...)."""
        values = X[:, columns].astype(np.float64)
        return np.log(values) if self.is_log else values

    def _inverse_link(self, values: np.ndarray) -> np.ndarray:
        return np.exp(values) if self.is_log else values

    def _linear(self, X: np.ndarray) -> np.ndarray:
        """Values of the function, in the units of the equation: (n, d) -> (n,)."""
        return self._link(X, self.sources) @ self.coefficients + self.intercept

    @np.errstate(all="ignore")  # numbers near the largest ones, and those that have no logarithm
    def predict(self, X: np.ndarray) -> np.ndarray:
        """Values of the derived column, not rounded: (n, d) -> (n,)."""
        return self._inverse_link(self._linear(X))

    def _slopes(self, X: np.ndarray) -> np.ndarray:
        """Absolute derivatives of the derived values by the sources: (n, d) -> (n, k)."""
        slopes = np.abs(self.coefficients) * np.ones((len(X), 1))
        return slopes * np.abs(X[:, [self.derived]] / X[:, self.sources]) if self.is_log else slopes

    @np.errstate(all="ignore")
    def agrees(self, X: np.ndarray, doubt: np.ndarray | float = 0.0) -> np.ndarray:
        """Find rows in which the relation holds, but for rounding and the ``doubt``: (n,)."""
        predicted = self.predict(X)
        agrees = np.abs(X[:, self.derived] - predicted) <= self.tolerance(X) + doubt
        return agrees & np.isfinite(predicted)  # no ratio to 0

    def is_beyond(self, X: np.ndarray) -> np.ndarray:
        """Find rows whose derived value is less or larger than all in ``fit``: (n, d) -> (n,)."""
        low, high = self.limits
        return (X[:, self.derived] < low - self.width) | (X[:, self.derived] > high + self.width)

    @np.errstate(all="ignore")
    def tolerance(self, X: np.ndarray) -> np.ndarray:
        """Largest rounding error of derived values: (n, d) -> (n,)."""
        largest = np.abs(self._link(X, self.sources)) @ np.abs(self.coefficients)
        if self.is_log:
            predicted = self.predict(X)
            largest = np.where(predicted == 0, 0, (1 + largest) * predicted)
        return 0.5 * self.width * (1 + 1e-6) + 8 * np.finfo(X.dtype).eps * largest

    def decode(
        self,
        X: np.ndarray,
        *,
        rounds: bool,
        rows: np.ndarray | slice = slice(None),
        generator: Draws = None,
    ) -> None:
        """Derive the column, in place; values are rounded as those in ``fit``, or not.

        In the middle of two steps they stay, or a generator draws, what was either one in ``fit``.
        """
        values, (origin, step) = self.predict(X[rows]), self.lattice
        if self.draws_ties:
            side = np.sign(np.nan_to_num(X[rows, self.derived] - values))
            side = side if generator is None else generator.choice([-1, 1], len(values))
            values += 1e-3 * self.width * side
        if rounds and step:
            values = origin + step * np.rint((values - origin) / step)
        if rounds and self.decimals >= 0:
            values = np.round(values, self.decimals) + 0.0  # not -0.0
        if rounds:
            is_error = (values * self.signs[-1] < 0) & (np.abs(values) <= 0.5 * self.width)
            values = np.where(is_error, 0.0, values)
        values = np.where(np.isinf(values), values.clip(*self.limits), values)  # a ratio to 0
        largest = np.finfo(X.dtype).max
        X[rows, self.derived] = np.clip(values, -largest, largest)

    def reflect(self, X: np.ndarray, is_fixed: np.ndarray, *, is_sample: bool) -> np.ndarray:
        """Change derived values of the wrong sign, in place: those of samples are reflected at 0.

        They are also reflected at the largest value that sources of the right sign allow. Means
        become 0. Return these rows (n,), whose free sources are still to be adjusted.
        """
        sign, is_free = self.signs[-1], ~is_fixed[:, self.sources]
        is_wrong = ~is_fixed[:, self.derived] & is_free.any(axis=1)
        is_wrong &= X[:, self.derived] * sign < 0
        rows, is_free = X[is_wrong], is_free[is_wrong]
        values = is_sample * np.abs(rows[:, self.derived])
        is_limited = ~(is_free & (self.signs[:-1] * self.coefficients * sign >= 0)).any(axis=1)
        rows[:, self.sources] = np.where(is_free, 0, rows[:, self.sources])
        largest = np.maximum(sign * self.predict(rows), np.finfo(X.dtype).tiny)
        folded = largest - np.abs(largest - values % (2 * largest))
        X[is_wrong, self.derived] = sign * np.where(is_limited, folded, values)
        return is_wrong

    def _gap(self, X: np.ndarray) -> np.ndarray:
        """Derived values less the function's, in the units of the equation: (n, d) -> (n,)."""
        return self._link(X, self.derived) - self._linear(X)

    # -- encoding --------------------------------------------------------------------

    @np.errstate(all="ignore")
    def resolve(
        self,
        X: np.ndarray,
        doubt: np.ndarray,
        codes: np.ndarray,
        log_p: np.ndarray,
        round_values: Callable[[np.ndarray], np.ndarray],
        within_bounds: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        """Fill in a single missing value of rows X (n, d), compare the others, all in place.

        ``codes`` (n,) are NaN of rows to be resolved, and become 0 where the derived value is
        filled in or agrees, 1 where it contradicts. ``log_p`` (n,) is increased by its log-density:
        with the change of variables where a source is filled in, and of a Cauchy distribution where
        it contradicts. ``round_values`` and ``within_bounds``, both (n, d) -> (n, d), keep a
        source's steps and range. ``doubt`` (n, d) is the largest error of filled values: a rounded
        total tells its parts up to an error.
        """
        missing = np.isnan(X[:, self.columns]) & np.isnan(codes)[:, None]
        n_missing = np.where(np.isnan(codes), missing.sum(axis=1), -1)
        rows = np.flatnonzero((n_missing == 1) & missing[:, -1])
        self.decode(X, rounds=True, rows=rows)
        doubt[rows, self.derived] = self._doubt(X, doubt, rows)
        codes[rows] = 0
        rows = np.flatnonzero(n_missing == 0)
        agrees = self.agrees(X[rows], self._doubt(X, doubt, rows) + doubt[rows, self.derived])
        codes[rows] = ~agrees
        error = np.nan_to_num(X[rows, self.derived] - self.predict(X[rows]))
        log_contradiction = cauchy_log_density(error, 0.0, 0.0, self.scale)
        log_step = np.log(self.lattice[1] or self.width)
        is_tie = self.draws_ties & (np.abs(error) > 0.499 * self.width)  # one of two values
        log_p[rows] += np.where(agrees, -log_step - np.log1p(is_tie), log_contradiction)
        for k, source in enumerate(self.sources.tolist()):
            rows = np.flatnonzero((n_missing == 1) & missing[:, k])
            if not len(rows):
                continue
            X[rows, source] = 1 if self.is_log else 0
            rest = self.predict(X[rows])
            X[rows, source] = exact = self._inverse_link(self._gap(X[rows]) / self.coefficients[k])
            slope = self._slopes(X[rows])[:, k]
            slope = np.where(slope > 0, slope, np.where(rest > 0, rest, 1))  # also of a zero
            error = self._doubt(X, doubt, rows) + doubt[rows, self.derived]
            margin = (error + 0.5 * self.width) / slope
            X[rows, source] = values = round_values(X[rows])[:, source]
            # where the derived value was rounded, a number above 0 may be filled in as 0
            inside = within_bounds(X[rows])[:, source]
            X[rows, source] = values = np.where(np.abs(inside - exact) <= margin, inside, values)
            agrees = self.agrees(X[rows], error) & (values * self.signs[k] >= 0)
            X[rows[~agrees], source] = np.nan
            doubt[rows, source] = np.where(agrees, np.abs(values - exact) + margin, 0)
            is_any = np.isnan(exact) & self.is_log  # a product is 0 as another factor is
            codes[rows] = ~(agrees | is_any)
            log_p[rows] -= np.where(agrees, np.log(slope), is_any * log_step)

    def _doubt(self, X: np.ndarray, doubt: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Largest error of derived values in some rows, by that of their sources: (m,)."""
        of_sources = self._slopes(X[rows]) * doubt[np.ix_(rows, self.sources)]
        return np.nan_to_num(of_sources.sum(axis=1))

    @np.errstate(all="ignore")
    def adjust(self, X: np.ndarray, is_fixed: np.ndarray, round_values: Rounding) -> None:
        """Change values that are not fixed such that the relation holds, in place.

        A fixed total moves its imputed parts by their regression on it [1]_, within their bounds
        and on their steps, which ``round_values`` of values and those that are fixed, both (n, d),
        keeps. These are then fixed.

        References
        ----------
        .. [1] Y. Hoffman and E. Ribak, "Constrained Realizations of Gaussian Fields", The
           Astrophysical Journal 380, 1991.
        """
        is_free = ~is_fixed[:, self.sources]
        rows = np.flatnonzero(is_fixed[:, self.derived] & is_free.any(axis=1))
        is_free, is_kept = is_free[rows], is_fixed[rows]
        is_other = ~is_kept  # values that may follow the sources later
        is_other[:, self.sources] = False
        gain = (is_free * self.coefficients) @ self.covariance * is_free
        gain /= (gain * self.coefficients).sum(axis=1, keepdims=True)
        # what rounding leaves is taken by one part after the other, the most variable one first
        order = np.argsort(-np.abs(gain * self.coefficients), axis=1).T
        one_by_one = [*(np.eye(len(self.sources))[order] / self.coefficients * is_free)]
        steps = [gain] * 8 + one_by_one + one_by_one[:1]
        for n_left, step in zip(reversed(range(len(steps))), steps, strict=True):
            values = np.where(is_other, np.nan, X[rows])
            gap = self._gap(values)[:, None]
            moved = self._inverse_link(self._link(values, self.sources) + step * gap)
            is_moved = (step != 0) & np.isfinite(moved)  # no value is that of a contradiction
            if n_left > len(one_by_one):
                is_moved &= np.isfinite(gap)  # one factor of a product of 0 is 0
            if not n_left:  # rounding errors are not moved
                is_moved &= ~self.agrees(values)[:, None]
            values[:, self.sources] = np.where(is_moved, moved, values[:, self.sources])
            if n_left:  # the last one takes what is off all steps
                values = round_values(values, is_kept)
            X[np.ix_(rows, self.sources)] = values[:, self.sources]
        is_fixed[np.ix_(rows, self.sources)] = True


def all_sources(relations: Sequence[LinearRelation]) -> dict[int, set[int]]:
    """Columns that each derived one follows from, through others as well."""
    sources: dict[int, set[int]] = {}
    for relation in relations:  # sources come before what is derived from them
        direct = set(relation.sources.tolist())
        sources[relation.derived] = direct.union(*(sources.get(j, set()) for j in direct))
    return sources
