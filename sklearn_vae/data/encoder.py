"""The border: what the columns of X are, and the units in which the model sees them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np

from sklearn_vae.data.fields import UNKNOWN
from sklearn_vae.data.infer import (
    MOST_DECIMALS,
    ROUNDING,
    ColumnHint,
    bounds_of,
    decimals_of,
    kind_of,
    same,
    spikes_of,
)
from sklearn_vae.likelihoods import (
    NAMED,
    Bernoulli,
    Categorical,
    Counts,
    Gaussian,
    Likelihood,
    Ordinal,
    StudentT,
    ZeroInflated,
)
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array, check_hashes

# Standardised values are cut here, so that their squares stay finite.
_LIMIT = {np.dtype(np.float64): 1e140, np.dtype(np.float32): 1e14}
# A link's values that are not finite are as these.
_FARTHEST = 1e300
# Powers of two of numbers, from the smallest to the largest.
LARGEST_EXPONENT = 1100


@serializable
@dataclass(repr=False)
class TableEncoder:
    """What each column is, and the way from its values to the model's numbers and back.

    Real columns are standardised, positive ones as logarithms; of counts the model sees
    roots; binary columns are coded 0 and 1, ordered classes as evenly spaced numbers from 0
    to 1, others as one number per class; constant columns are kept aside. Inside, columns of
    one kind stand side by side, in the order ``order``. A missing cell is NaN.

    Attributes
    ----------
    names : list of str or int
        The columns' names, or their numbers where they have none.
    likelihoods : list of Likelihood or None
        Likelihood of each column of X; None for a constant one.
    order : ndarray of shape (n,)
        Columns of X that the model sees, in the model's order.
    exponent : ndarray of shape (n_features,)
        Power of two by which a column is divided first, so that no square overflows.
    shift, scale : ndarray of shape (n_features,)
        What is then subtracted and divided by. A binary column's are its lower value
        and the distance to its upper one.
    log_unseen : float
        Log-probability of a value that a column of few values never had.
    dtype : dtype
        Type of the rows that this was learned from.
    classes : dict of int to ndarray
        The values that a column of classes has, by its number, where they are not 0, 1, 2
        and so on; and the common values of a spiked one.
    has_missing : bool
        Whether any cell was missing.
    log_seen : float
        Log-probability that a cell of a column that is limited in its values has one of them:
        the rest is kept for values that no row had. 0 in files that know nothing of it.
    allows_missing : bool
        Whether the model takes missing cells: of a cell with an impossible value it then sees
        nothing, else the nearest possible one.
    bounds : ndarray of shape (2, n_features) or None
        Numbers between which samples of real columns lie, in X's units; NaN for other columns,
        and for those that had no other values than common ones.
    decimals : ndarray of shape (n_features,) or None
        Decimals of samples of real columns; -1 where they are not rounded.
    """

    names: list[str] | list[int]
    likelihoods: list[Likelihood | None]
    order: np.ndarray
    exponent: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    log_unseen: float
    dtype: np.dtype
    classes: dict[int, np.ndarray] = field(default_factory=dict)
    has_missing: bool = False
    log_seen: float = 0.0
    allows_missing: bool = True
    bounds: np.ndarray | None = None
    decimals: np.ndarray | None = None

    @classmethod
    def fit(
        cls,
        X: np.ndarray,
        weight: np.ndarray | None,
        likelihood: Any,
        names: Sequence[str] | None,
        column_hints: Sequence[ColumnHint] | None = None,
        *,
        point_masses: bool = True,
    ) -> "TableEncoder":
        """Find out what the columns are.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
            Rows, finite but for missing cells, which are NaN; categories as numbers.
        weight : ndarray of shape (n,) or None
            What each row counts.
        likelihood : str, Likelihood, list or dict
            The estimator's parameter.
        names : sequence of str or None
            The columns' names, if they have any.
        column_hints : sequence of ColumnHint, optional
            What the columns' types say of them; by default nothing.
        point_masses : bool, default=True
            Whether real numbers may have common values.

        Returns
        -------
        Columns
            With all that ``transform`` and ``inverse_transform`` need.
        """
        known_as = list(range(X.shape[1])) if names is None else list(names)
        wishes = _wishes(likelihood, X.shape[1], known_as)
        column_hints = (
            [ColumnHint(name) for name in known_as] if column_hints is None else column_hints
        )
        total = float(len(X) if weight is None else weight.sum())
        exponent, (shift, scale) = np.zeros(X.shape[1], dtype=int), np.zeros((2, X.shape[1]))
        kinds: list[Likelihood | None] = []
        classes = {}
        has_holes = False
        bounds, decimals = np.full((2, X.shape[1]), np.nan), np.full(X.shape[1], -1)
        for j, wish in enumerate(wishes):
            observed = ~np.isnan(X[:, j])
            values, counts = X[:, j], weight
            if not observed.all():
                has_holes = True
                values, counts = values[observed], None if weight is None else weight[observed]
            kind = kind_of(values, counts, total, wish, column_hints[j], spikes=point_masses)
            if isinstance(kind, ZeroInflated):
                of_reals = wish is None and not column_hints[j].is_integer
                classes[j] = spikes_of(values, counts, of_reals=of_reals)
            elif isinstance(kind, Bernoulli):
                classes[j] = np.array([values.min(), values.max()])
            elif column_hints[j].n_classes is None and isinstance(kind, Categorical | Ordinal):
                classes[j] = np.unique(values)
                values = np.searchsorted(classes[j], values)
            kind, exponent[j], shift[j], scale[j] = _units_of(values, counts, kind)
            kinds.append(kind)
            if isinstance(kind, ZeroInflated):
                rest = ~np.isin(values, classes[j])
                values, counts = values[rest], None if counts is None else counts[rest]
            if isinstance(kind, Gaussian | StudentT | ZeroInflated) and len(values):
                bounds[:, j] = _bounds_of(values, counts, kind, exponent[j])
                decimals[j] = decimals_of(values, is_integer=column_hints[j].is_integer)
        unseen = -float(np.log(total + 2))
        return cls(
            known_as,
            kinds,
            _grouped(kinds),
            exponent,
            shift,
            scale,
            unseen,
            X.dtype,
            classes,
            has_holes,
            float(np.log1p(-np.exp(unseen))),
            bounds=bounds,
            decimals=decimals,
        )

    def shared_scale(self, n_values: int = 1) -> "TableEncoder":
        """Give columns that are alike, each ``n_values``-th one, one unit and the same classes.

        Real ones of all rows together have the mean 0 and the variance 1, and a place without
        order has as many classes as all of them show.
        """
        numbers = np.arange(len(self.likelihoods))
        found = self
        for first in range(n_values):
            own = numbers % n_values == first
            found = found._with_unit(own)._with_classes(np.flatnonzero(own))
        return replace(found, order=_grouped(found.likelihoods))

    def _with_unit(self, own: np.ndarray) -> "TableEncoder":
        """Give real columns of these the unit of all of them."""
        own = own & self._are(Gaussian, StudentT)
        if not own.any():
            return self
        exponent, shift, scale = self.exponent.copy(), self.shift.copy(), self.scale.copy()
        exponent[own] = self.exponent[own].max()
        down = self.exponent[own] - exponent[own]
        means, spreads = np.ldexp(shift[own], down), np.ldexp(scale[own], down)
        shift[own] = means.mean()
        scale[own] = np.sqrt(np.mean(np.square(spreads) + np.square(means - means.mean())))
        return replace(self, exponent=exponent, shift=shift, scale=scale)

    def _with_classes(self, numbers: np.ndarray) -> "TableEncoder":
        """Give columns of classes of these the classes of all of them."""
        named = [
            j for j in numbers if j in self.classes and isinstance(self.likelihoods[j], Categorical)
        ]
        if not named:
            return self
        low, high = self.ends
        bits = [j for j in numbers if isinstance(self.likelihoods[j], Bernoulli)]
        both = [np.array([low[j], high[j]]) for j in bits]
        known = np.unique(np.concatenate([*(self.classes[j] for j in named), *both]))
        kinds, (shift, scale) = list(self.likelihoods), (self.shift.copy(), self.scale.copy())
        exponent = self.exponent.copy()
        for j in [*named, *bits]:
            kinds[j] = Categorical(len(known))
            exponent[j], shift[j], scale[j] = 0, 0.0, 1.0
        classes = {**self.classes, **dict.fromkeys([*named, *bits], known)}
        return replace(
            self, likelihoods=kinds, exponent=exponent, shift=shift, scale=scale, classes=classes
        )

    def check(self) -> None:
        """Check that all this can be, as when it comes from a file.

        Raises
        ------
        ValueError
            If arrays have other shapes than the columns, or hold what no column can have.
        """
        n = len(self.likelihoods)
        seen = [j for j, kind in enumerate(self.likelihoods) if kind is not None]
        check_array("order", self.order, "i", (len(seen),))
        kinds = [self.likelihoods[j] for j in self.order if 0 <= j < n]
        n_blocks = sum(own != before for own, before in pairwise([None, *kinds]))
        if sorted(self.order.tolist()) != seen or n_blocks != len(set(kinds)):
            raise ValueError("'order' must hold each column once, those of one kind side by side")
        check_array("exponent", self.exponent, "i", (n,))
        check_array("shift", self.shift, "f", (n,), allows_nan=True)
        check_array("scale", self.scale, "f", (n,))
        if not (self.scale > 0).all() or (np.abs(self.exponent) > LARGEST_EXPONENT).any():
            raise ValueError("'scale' must be above 0, and 'exponent' that of a number")
        if (
            not np.isfinite(self.shift[self.order]).all()
            or not self.log_unseen < 0
            or self.log_seen > 0
        ):
            raise ValueError("'shift' must be finite, and log-probabilities not above 0")
        if self.dtype not in _LIMIT or len(self.names) != n:
            raise ValueError("'dtype' must be of rows, and 'names' as many as columns")
        check_hashes(self.names)
        self._check_classes()
        if self.bounds is not None:
            check_array("bounds", self.bounds, "f", (2, n), allows_nan=True)
            if (self.bounds[0] > self.bounds[1]).any():
                raise ValueError("'bounds' must be in order")
        if self.decimals is not None:
            check_array("decimals", self.decimals, "i", (n,))
            if (np.abs(self.decimals) > MOST_DECIMALS).any():
                raise ValueError(f"'decimals' must be at most {MOST_DECIMALS}")

    def _check_classes(self) -> None:
        """Check that columns of classes have as many as their kinds say, in order."""
        for j, kind in enumerate(self.likelihoods):
            n_known = getattr(kind, "n_spikes", getattr(kind, "n_classes", 2))
            if j in self.classes:
                check_array("classes", self.classes[j], "biuf", (n_known,))
            if isinstance(kind, ZeroInflated) and j not in self.classes:
                raise ValueError(f"column {self.names[j]!r} has no common values")
        for j, known in self.classes.items():
            if not 0 <= j < len(self.likelihoods) or not (np.diff(known) > 0).all():
                raise ValueError(f"'classes' must hold those of columns, in order. Got {j!r}.")

    @property
    def blocks(self) -> tuple[tuple[Likelihood, int], ...]:
        """Kinds, and how many neighbouring columns of each the model sees."""
        found: dict[Likelihood, int] = {}
        for j in self.order:
            found[self.likelihoods[j]] = found.get(self.likelihoods[j], 0) + 1
        return tuple(found.items()) or ((Gaussian(), 0),)

    @property
    def n_columns(self) -> int:
        """Numbers by which the model sees a row."""
        return sum(n * kind.width for kind, n in self.blocks)

    @property
    def n_given(self) -> int:
        """Columns of what is given with rows, which stand after those of X."""
        return 0

    @property
    def n_conditions(self) -> int:
        """Numbers by which the model sees what is given with a row."""
        return 0

    @property
    def is_binary(self) -> np.ndarray:
        """Which columns of X are binary."""
        return self._are(Bernoulli)

    @property
    def is_constant(self) -> np.ndarray:
        """Which columns of X are constant."""
        return self._are(type(None))

    def _are(self, *kinds: type) -> np.ndarray:
        return np.array([isinstance(kind, kinds) for kind in self.likelihoods], dtype=bool)

    def _linked(self, link: str) -> np.ndarray:
        return np.array(
            [kind is not None and kind.link == link for kind in self.likelihoods], dtype=bool
        )

    @property
    def is_limited(self) -> np.ndarray:
        """Which columns of X the model sees and can have some values only."""
        is_closed = [self._is_closed(j) for j in range(len(self.likelihoods))]
        return self._are(Bernoulli, Categorical, Ordinal, Counts) | self._linked("log") | is_closed

    def _is_closed(self, j: int) -> bool:
        """Whether all values of a column were common ones."""
        if self.bounds is None or not isinstance(self.likelihoods[j], ZeroInflated):
            return False
        return bool(np.isnan(self.bounds[0, j]))

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Put X into the model's units: (n, n_features) -> (n, n_columns), in X's type."""
        X = self._possible(X)
        limit = _LIMIT[X.dtype]
        values = X[:, self.order].astype(np.float64)
        for j, known in self.classes.items():
            if not isinstance(self.likelihoods[j], Categorical | Ordinal):
                continue
            (own,) = np.flatnonzero(self.order == j)
            there, dtype = ~np.isnan(values[:, own]), self._coarser(X)
            values[there, own] = np.searchsorted(known.astype(dtype), X[there, j].astype(dtype))
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            is_log, is_root = (self._linked(link)[self.order] for link in ("log", "root"))
            if is_log.any():
                values[:, is_log] = np.log(np.maximum(values[:, is_log], 0))
            if is_root.any():
                values[:, is_root] = np.sqrt(np.maximum(values[:, is_root], 0))
            values = np.ldexp(values, -self.exponent[self.order])
            values -= self.shift[self.order]
            values /= self.scale[self.order]
        np.clip(values, -limit, limit, out=values)
        binary = self.is_binary[self.order]
        if binary.any():
            bits = values[:, binary]
            values[:, binary] = np.where(np.isnan(bits), bits, bits > 0.5)
        if self._are(Categorical, ZeroInflated).any():
            values = self._spread(values, X)
        return values.astype(X.dtype, copy=False)

    def _spikes(self, values: np.ndarray, j: int) -> np.ndarray:
        """Which common value of a column cells (n,) have, as zeros with a one: (n, S)."""
        dtype = self._coarser(values)
        return values[:, None].astype(dtype) == self.classes[j].astype(dtype)

    def _nearest_spike(self, values: np.ndarray, j: int) -> np.ndarray:
        """Common values of a column that are nearest to cells: (n,) -> (n,)."""
        return self.classes[j][np.abs(values[:, None] - self.classes[j]).argmin(axis=1)]

    def _coarser(self, X: np.ndarray) -> np.dtype:
        """The type in which values of X can be compared with those of the training rows."""
        return min(X.dtype, self.dtype, key=lambda dtype: dtype.itemsize)

    def _spread(self, values: np.ndarray, X: np.ndarray) -> np.ndarray:
        """Write classes as zeros with a one: (n, n) -> (n, n_columns)."""
        parts, first = [], 0
        for kind, n in self.blocks:
            own = values[:, first : first + n]
            if isinstance(kind, Categorical):
                own = np.where(
                    np.isnan(own)[..., None],
                    np.nan,
                    own[..., None] == np.arange(kind.n_classes),
                ).reshape(len(values), -1)
            elif isinstance(kind, ZeroInflated):
                places = range(first, first + n)
                cells = [self._with_spikes(values[:, k], X, self.order[k]) for k in places]
                own = np.concatenate(cells, axis=1)
            parts.append(own)
            first += n
        return np.concatenate(parts, axis=1)

    def _with_spikes(self, number: np.ndarray, X: np.ndarray, j: int) -> np.ndarray:
        """Numbers of one spiked column as the model sees them: (n,) -> (n, S + 1)."""
        spikes = self._spikes(X[:, j], j)
        cells = np.column_stack([spikes, np.where(spikes.any(axis=1), 0, number)])
        return np.where(np.isnan(number)[:, None], np.nan, cells)

    def inverse_transform(
        self, values: np.ndarray, *, rounds: bool = False, is_sample: bool = False
    ) -> np.ndarray:
        """Put rows back into X's units: (n, n_columns) -> (n, n_features).

        Parameters
        ----------
        values : ndarray of shape (n, n_columns)
            Rows in the model's units.
        rounds : bool, default=False
            Whether binary columns and counts get values that they can have; other columns
            of classes always do.
        is_sample : bool, default=False
            Whether the rows are draws: real columns then keep to their bounds and decimals, too.
        """
        X = np.zeros((len(values), len(self.likelihoods)))
        X[:, self.order] = self._gathered(values) * self.scale[self.order]
        X[:, self.is_constant] = 0
        is_log, is_root = self._linked("log"), self._linked("root")
        with np.errstate(over="ignore"):
            X = np.ldexp(X + self.shift, self.exponent)
            X[:, is_log] = np.exp(X[:, is_log])
            X[:, is_root] = np.square(X[:, is_root])
        if rounds or is_sample:
            X[:, is_root] = np.rint(X[:, is_root])
            binary = self.is_binary
            low, high = (end[binary] for end in self.ends)
            bits = X[:, binary]
            rounded = np.where(bits > (low / 2 + high / 2), high, low)
            X[:, binary] = np.where(np.isnan(bits), bits, rounded)
        if is_sample:
            X = self._as_recorded(X)
        for j, known in self.classes.items():
            if isinstance(self.likelihoods[j], Categorical | Ordinal):
                there = ~np.isnan(X[:, j])
                X[there, j] = known[np.rint(X[there, j]).astype(int)]
        self._put_spikes(X, values)
        if (is_ordinal := self._are(Ordinal)).any():
            unnamed = [j for j in np.flatnonzero(is_ordinal) if j not in self.classes]
            X[:, unnamed] = np.rint(X[:, unnamed])
        with np.errstate(over="ignore"):
            return X.astype(values.dtype, copy=False)

    def _as_recorded(self, X: np.ndarray) -> np.ndarray:
        """Draws within the bounds of real columns, to as many decimals as these have."""
        if self.bounds is None or self.decimals is None:  # of a file of an older version
            return X
        X = np.fmin(np.fmax(X, self.bounds[0]), self.bounds[1])
        for decimals in np.unique(self.decimals[self.decimals >= 0]).tolist():
            columns = self.decimals == decimals
            X[:, columns] = np.round(X[:, columns], decimals)
        for j in filter(self._is_closed, range(len(self.likelihoods))):
            X[:, j] = self._nearest_spike(X[:, j], j)
        return X

    def _put_spikes(self, X: np.ndarray, values: np.ndarray) -> None:
        """Write common values as they are where a row is sure of one."""
        first = place = 0
        for kind, n in self.blocks:
            if isinstance(kind, ZeroInflated):
                cells = values[:, first : first + n * kind.width].reshape(len(X), n, kind.width)
                for number, j in enumerate(self.order[place : place + n]):
                    share = cells[:, number, :-1]
                    sure = share.max(axis=1) == 1
                    X[sure, j] = self.classes[j][share[sure].argmax(axis=1)]
            first, place = first + n * kind.width, place + n

    def limits(self) -> tuple[np.ndarray, ...] | None:
        """Where draws of the model's columns lie, in its units and order.

        Returns
        -------
        low, high : ndarray of shape (n,)
            Bounds, which are infinite where there are none.
        taken : ndarray of shape (n, n_taken)
            Common values, which other draws are not; NaN where there are fewer.
        radius : ndarray of shape (n,)
            How near to them a number is rounded to one of them.
        """
        if self.bounds is None or self.decimals is None:
            return None
        spikes = [
            self.classes[j] if isinstance(self.likelihoods[j], ZeroInflated) else ()
            for j in self.order
        ]
        taken = np.full((len(self.order), max(map(len, spikes), default=0)), np.nan)
        for own, values in zip(taken, spikes, strict=True):
            own[: len(values)] = values
        order, decimals = self.order, self.decimals[self.order]
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            low, high = self._scaled(self.bounds[:, order])
            step = np.where(decimals >= 0, 0.5 * 10.0 ** -np.maximum(decimals, 0), 0)
            radius = np.ldexp(step, -self.exponent[order]) / self.scale[order]
            taken = self._scaled(taken.T).T
        low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
        return low, high, taken, radius

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        """Values of real columns in the model's units and order: (..., n) -> (..., n)."""
        logs = np.where(self._linked("log")[self.order], np.log(values), values)
        return (np.ldexp(logs, -self.exponent[self.order]) - self.shift[self.order]) / (
            self.scale[self.order]
        )

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper value of each binary column, in X's units: (n_features,) each."""
        with np.errstate(over="ignore"):
            low, high = (np.ldexp(v, self.exponent) for v in (self.shift, self.shift + self.scale))
        for j in np.flatnonzero(self.is_binary).tolist():
            if j in self.classes:  # exactly
                low[j], high[j] = self.classes[j]
        return low, high

    def _gathered(self, values: np.ndarray) -> np.ndarray:
        """One number per column: of classes the likeliest one's: (n, n_columns) -> (n, n)."""
        parts: list[np.ndarray] = []
        first = 0
        for kind, n in self.blocks:
            own = values[:, first : first + n * kind.width].astype(np.float64)
            if isinstance(kind, Categorical):
                scores = own.reshape(len(own), n, kind.n_classes)
                missing = np.isnan(scores).any(axis=2)
                own = np.where(missing, np.nan, np.nan_to_num(scores).argmax(axis=2))
            elif isinstance(kind, ZeroInflated):
                place = sum(part.shape[1] for part in parts)
                cells = own.reshape(len(own), n, kind.width)
                own = self._with_means(cells, self.order[place : place + n])
            parts.append(own)
            first += n * kind.width
        return np.concatenate(parts, axis=1)

    def _with_means(self, cells: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """One number for each cell of spiked columns: (n, n, S + 1) -> (n, n)."""
        spikes = np.stack([self.classes[j] for j in columns])
        units = (np.ldexp(spikes, -self.exponent[columns, None]) - self.shift[columns, None]) / (
            self.scale[columns, None]
        )
        share = cells[..., :-1]
        return (share * units).sum(-1) + (1 - share.sum(-1)) * cells[..., -1]

    def log_abs_det_jacobian(self, X: np.ndarray) -> np.ndarray:
        """Give what the border knows of each row's log-density: (n, n_features) -> (n,).

        For real columns it is the log-determinant of the scaling, of logarithms as well. By
        the rule of succession, a column that is limited in its values keeps the probability
        1/(n + 2) for those that no row had: a category or a constant's other value has all of
        it, and in counts and positive columns it is spread as a Cauchy density over the
        impossible numbers. A cell that is missing says nothing.
        """
        unseen = self.unseen_cells(X)
        log_unseen = np.zeros(len(X))
        for j, cells in unseen.items():
            log_unseen[cells] += self._log_of_unseen(j, X[cells, j])
        if unseen:
            X = _with_nan(X, unseen)
        return self._log_det(X) + self._log_seen(X) + log_unseen

    def _log_det(self, X: np.ndarray) -> np.ndarray:
        """Log-determinant of the scaling of what is there: (n, n_features) -> (n,)."""
        real = self._are(Gaussian, StudentT)
        log_scale = np.log(self.scale) + self.exponent * np.log(2)
        if has_missing_values(X).any():
            log_det = -(log_scale[real] * ~np.isnan(X[:, real])).sum(axis=1)
        else:
            log_det = np.full(len(X), -log_scale[real].sum())
        if (is_log := self._linked("log")).any():
            logs = np.log(X[:, is_log].astype(np.float64))
            log_det -= np.nan_to_num(logs).sum(axis=1)
        for j in np.flatnonzero(self._are(ZeroInflated)).tolist():
            is_number = ~(self._spikes(X[:, j], j).any(axis=1) | np.isnan(X[:, j]))
            log_det -= log_scale[j] * is_number
        return log_det

    def _log_seen(self, X: np.ndarray) -> np.ndarray:
        """Log-probability that columns have values that training showed: (n,)."""
        of_constant = float(np.log1p(-np.exp(self.log_unseen)))
        each = np.where(self.is_constant, of_constant, self.log_seen * self.is_limited)
        columns = np.flatnonzero(each)
        return ~np.isnan(X[:, columns]) @ each[columns]

    def _log_of_unseen(self, j: int, values: np.ndarray) -> np.ndarray:
        """Log-probability, or log-density, of values that no row had in a column: (n,)."""
        kind = self.likelihoods[j]
        if isinstance(kind, Counts):
            centre = scale = kind.unit**2
        elif kind is not None and kind.link == "log":
            centre = scale = np.exp(self.shift[j])
        elif isinstance(kind, ZeroInflated):
            centre, scale = np.ldexp([self.shift[j], self.scale[j]], self.exponent[j])
        else:
            return np.full(len(values), self.log_unseen)
        with np.errstate(over="ignore"):
            distance = np.abs(values.astype(np.float64) / scale - centre / scale)
        distance = np.minimum(distance, _FARTHEST)
        return self.log_unseen - np.log(np.pi * scale) - 2 * np.log(np.hypot(1, distance))

    def known_values(self, X: np.ndarray) -> np.ndarray:
        """Say which values binary and constant columns had: (n, n_features) -> (n, n_few)."""
        few = np.flatnonzero(self.is_binary | self.is_constant)
        cells = X[:, few]
        with np.errstate(over="ignore"):
            low, high = (end[few].astype(X.dtype) for end in self.ends)
            same = (cells == low) | (cells == np.where(self.is_binary[few], high, low))
            if (same | np.isnan(cells)).all():  # as is usual, and soon seen
                return same
            values = np.ldexp(cells.astype(np.float64), -self.exponent[few])
        low, distance = self.shift[few], self.scale[few]
        # X may be a copy of the training rows in single precision, or the other way round
        rounding = max(ROUNDING, np.finfo(X.dtype).eps, np.finfo(self.dtype).eps)

        def is_near(value: np.ndarray) -> np.ndarray:
            tolerance = np.minimum(rounding * np.abs(value), distance / 4)
            return np.abs(values - value) <= tolerance

        return is_near(low) | (self.is_binary[few] & is_near(low + distance))

    def unseen_cells(self, X: np.ndarray) -> dict[int, np.ndarray]:
        """Which cells (n,) hold what their column cannot have, by the number of the column."""
        few = np.flatnonzero(self.is_binary | self.is_constant)
        masks, known = {}, self.known_values(X)
        if not known.all():
            of_few = ~(known | np.isnan(X[:, few]))
            masks = {int(few[k]): of_few[:, k] for k in np.flatnonzero(of_few.any(axis=0))}
        for j, kind in enumerate(self.likelihoods):
            mask = self._impossible(j, kind, X[:, j])
            if mask is not None and mask.any():
                masks[j] = mask
        return masks

    def is_incomplete(self, X: np.ndarray) -> np.ndarray:
        """Which rows the model sees with missing cells: (n, n_features) -> (n,)."""
        return has_missing_values(self._possible(X))

    def _possible(self, X: np.ndarray) -> np.ndarray:
        """Rows as the model takes them: impossible values missing, or the nearest possible ones."""
        unseen = self.unseen_cells(X)
        if not unseen:
            return X
        X = X.copy()
        for j, cells in unseen.items():
            X[cells, j] = self._stand_in(j, X[cells, j])
        return X

    def _stand_in(self, j: int, values: np.ndarray) -> Any:
        """What the model sees in the place of impossible values of a column."""
        kind = self.likelihoods[j]
        if kind is None:  # the model does not see the column
            return values
        if isinstance(kind, Bernoulli):  # of numbers, encode takes the nearer one
            return np.where((values == UNKNOWN) & self.allows_missing, np.nan, values)
        if self.allows_missing:
            return np.nan
        if isinstance(kind, Counts):
            return np.maximum(np.rint(values), 0)
        if kind.link == "log":
            return np.exp(self.shift[j])
        if isinstance(kind, ZeroInflated):
            return self._nearest_spike(values, j)
        return self.classes[j][0] if j in self.classes else 0

    def check_values(self, X: np.ndarray, *, unknown_is_missing: bool = False) -> np.ndarray:
        """Refuse values that a column cannot have, or take them as missing: X as it then is."""
        unseen = self.unseen_cells(X)
        if unseen and not unknown_is_missing:
            raise ValueError(f"{self.describe_unseen(X, min(unseen))}.")
        return _with_nan(X, unseen)

    def describe_unseen(self, X: np.ndarray, j: int) -> str:
        """Say which value a column of rows has that it cannot have, and which it can."""
        kind, values = self.likelihoods[j], X[self.unseen_cells(X)[j], j]
        said = "constant column" if kind is None else f"column of the kind {kind}"
        return (
            f"Column {self.names[j]!r} has the value {values[0].item()!r}, which a {said} cannot "
            f"have; in the fit its values were {self._values_of(j)}"
        )

    def _impossible(self, j: int, kind: Likelihood | None, values: np.ndarray) -> np.ndarray | None:
        if isinstance(kind, Categorical | Ordinal):
            if j in self.classes:
                dtype = self._coarser(values)
                known = np.isin(values.astype(dtype), self.classes[j].astype(dtype))
                return ~(np.isnan(values) | known)
            return values < 0  # what a schema gives for a category that it does not have
        if isinstance(kind, Counts):
            return (values < 0) | ((values != np.rint(values)) & ~np.isnan(values))
        if kind is not None and kind.link == "log":
            return values <= 0
        if self._is_closed(j):
            return ~(np.isnan(values) | self._spikes(values, j).any(axis=1))
        return None

    def _values_of(self, j: int) -> str:
        kind = self.likelihoods[j]
        if j in self.classes:
            return ", ".join(map(str, self.classes[j].tolist()))
        if kind is None or isinstance(kind, Bernoulli):
            low, high = (end[j].item() for end in self.ends)
            return f"{low}" if kind is None else f"{low}, {high}"
        if isinstance(kind, Categorical | Ordinal):
            return f"the numbers of {kind.n_classes} classes"
        return "whole numbers of 0 or more" if isinstance(kind, Counts) else "above 0"

    def check_requested_likelihoods(self, likelihood: Any) -> None:
        """Refuse a parameter that asks for other likelihoods than the columns have."""
        wishes = _wishes(likelihood, len(self.likelihoods), self.names)
        for name, wish, kind in zip(self.names, wishes, self.likelihoods, strict=True):
            if wish is None or kind is None:
                continue
            if not _fits(kind, wish):
                raise ValueError(
                    f"The 'likelihood' parameter must be {kind} or 'auto' for column {name!r}, as "
                    f"in the fit that this one goes on from. Got {_said(wish)} instead."
                )

    def __repr__(self) -> str:
        rows = self._described()
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join(f"{name:<{width}}  {kind}" for name, kind in rows)

    def _repr_html_(self) -> str:
        cells = (
            f"<th>{escape(name)}</th><td>{escape(kind)}</td>" for name, kind in self._described()
        )
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"

    def _described(self) -> list[tuple[str, str]]:
        """Name and likelihood of each column, as they are shown."""
        return [
            (
                name if isinstance(name, str) else f"column {name}",
                "constant" if kind is None else str(kind),
            )
            for name, kind in zip(self.names, self.likelihoods, strict=True)
        ]


def _bounds_of(
    values: np.ndarray, weight: np.ndarray | None, kind: Likelihood, exponent: int
) -> tuple[float, float]:
    """Numbers between which samples of a real column lie, in X's units."""
    values = values.astype(np.float64)
    low, high = values.min(), values.max()
    with np.errstate(over="ignore"):
        if kind.link == "log":
            lower, upper = np.exp(bounds_of(np.log(values), weight))
        else:
            lower, upper = np.ldexp(bounds_of(np.ldexp(values, -exponent), weight), exponent)
            # none of them crosses 0, where no value did
            lower = 0.0 if low >= 0 > lower > -np.inf else lower
            upper = 0.0 if high <= 0 < upper < np.inf else upper
    largest = np.finfo(np.float64).max
    lower, upper = np.clip([lower, upper], -largest, largest).tolist()
    # not the next number below or above the extreme one
    return low if same(lower, low) else lower, high if same(high, upper) else upper


def _with_nan(X: np.ndarray, cells: Mapping[int, np.ndarray]) -> np.ndarray:
    """Rows with some cells missing, which are said by the numbers of their columns."""
    if not cells:
        return X
    X = X.copy()
    for j, mask in cells.items():
        X[mask, j] = np.nan
    return X


def has_missing_values(X: np.ndarray) -> np.ndarray:
    """Which rows have missing cells: (n, n_features) -> (n,)."""
    with np.errstate(over="ignore", invalid="ignore"):
        may_have = np.isnan(X.sum(axis=1))  # a hundredth of the memory of np.isnan(X)
    places = np.flatnonzero(may_have)
    may_have[places] = np.isnan(X[places]).any(axis=1)
    return may_have


def _wishes(likelihood: Any, n_features: int, names: list[str] | list[int]) -> list[Any]:
    """Turn the parameter into one wish per column, None where it is to be found out."""
    if isinstance(likelihood, Mapping):
        for key in likelihood:
            is_number = isinstance(key, Integral) and not isinstance(key, bool)
            is_name = isinstance(key, str) and key in names
            if not (is_name or (is_number and 0 <= key < n_features)):
                raise ValueError(
                    f"The 'likelihood' parameter names {key!r}, which is no column of X; its "
                    f"columns are {names}."
                )
        return [
            _wish(likelihood.get(name, likelihood.get(j, "auto"))) for j, name in enumerate(names)
        ]
    if isinstance(likelihood, Sequence) and not isinstance(likelihood, str):
        if len(likelihood) != n_features:
            raise ValueError(
                f"The 'likelihood' parameter is a list of {len(likelihood)}, but X has "
                f"{n_features} columns; give one likelihood per column."
            )
        return [_wish(wish) for wish in likelihood]
    return [_wish(likelihood)] * n_features


def _wish(wish: Any) -> Any:
    if isinstance(wish, str) and wish == "auto":
        return None
    if isinstance(wish, str) and wish in NAMED:
        return NAMED[wish]
    if isinstance(wish, tuple(NAMED.values())):
        return wish
    raise ValueError(
        f"The 'likelihood' parameter must be 'auto', one of {sorted(NAMED)}, a likelihood such as "
        f"Gaussian(scale='per_column'), or a list or dict of these by column. Got {wish!r} instead."
    )


def _fits(kind: Likelihood, wish: Any) -> bool:
    """Whether a column's kind is what a wish makes of it."""
    if not isinstance(wish, type):
        return bool(kind == wish)
    if issubclass(wish, Categorical | Ordinal):  # of two classes, a bit is made
        return isinstance(kind, wish | Bernoulli)
    if issubclass(wish, ZeroInflated):
        return isinstance(kind, wish)
    return isinstance(kind, wish) if issubclass(wish, Counts) else bool(kind == wish())


def _said(wish: Any) -> str:
    return wish.__name__ if isinstance(wish, type) else repr(wish)


def _units_of(
    values: np.ndarray, weight: np.ndarray | None, kind: Likelihood | None
) -> tuple[Likelihood | None, int, float, float]:
    """Kind, exponent, shift and scale of a column, of its values that are there."""
    if len(values) == 0:
        return kind, 0, np.nan, 1.0
    values = values.astype(np.float64)
    if isinstance(kind, Ordinal):
        return kind, 0, 0.0, float(kind.n_classes - 1)
    if isinstance(kind, Categorical):
        return kind, 0, 0.0, 1.0
    if isinstance(kind, Counts):
        root = np.sqrt(np.average(values, weights=weight))
        unit = 2.0 ** np.rint(np.log2(root))
        return replace(kind, unit=unit), 0, 0.0, unit  # type: ignore[type-var]
    exponent = 0
    if kind is not None and kind.link == "log":
        values = np.log(values)
    else:
        exponent = int(np.frexp(max(values.max(), -values.min()))[1])
        values = np.ldexp(values, -exponent)
    if kind is None:
        return kind, exponent, values[0], 1.0
    if isinstance(kind, Bernoulli):
        return kind, exponent, values.min(), values.max() - values.min()
    mean = np.average(values, weights=weight)
    scale = np.sqrt(np.average(np.square(values - mean), weights=weight))
    return kind, exponent, mean, scale


def _grouped(kinds: list[Likelihood | None]) -> np.ndarray:
    """Columns that the model sees, those of one likelihood side by side."""
    first_seen = list(dict.fromkeys(kind for kind in kinds if kind is not None))
    return np.array(
        [j for wanted in first_seen for j, kind in enumerate(kinds) if kind == wanted], dtype=int
    )
