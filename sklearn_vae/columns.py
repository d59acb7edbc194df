"""The border: what the columns of X are, and the units in which the model sees them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from sklearn_vae.likelihoods import NAMED, Bernoulli, Gaussian, Likelihood

# A table this small does not show whether two values are all that a column can have,
# unless they are 0 and 1.
FEWEST_ROWS_FOR_BINARY = 10

# Values of one column that differ by a smaller share of themselves are one value.
ROUNDING = 8 * float(np.finfo(np.float64).eps)

# Standardised values are cut here, so that their squares stay finite.
_LIMIT = {np.dtype(np.float64): 1e140, np.dtype(np.float32): 1e14}


@dataclass
class Columns:
    """What each column is: real (Gaussian), binary (Bernoulli) or constant.

    Real columns are standardised, binary ones coded 0 and 1; constant ones are kept
    aside. Inside, columns of one kind stand side by side, in the order ``order``.

    Attributes
    ----------
    names : list of str or int
        The columns' names, or their numbers where they have none.
    kinds : list of Likelihood or None
        Likelihood of each column of X; None for a constant one.
    order : ndarray of shape (n_columns,)
        Columns of X that the model sees, in the model's order.
    exponent : ndarray of shape (n_features,)
        Power of two by which a column is divided first, so that no square overflows.
    shift, scale : ndarray of shape (n_features,)
        What is then subtracted and divided by. A binary column's are its lower value
        and the distance to its upper one.
    unseen : float
        Log-probability of a value that a column of few values never had.
    dtype : dtype
        Type of the rows that this was learned from.
    """

    names: list[str] | list[int]
    kinds: list[Likelihood | None]
    order: np.ndarray
    exponent: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    unseen: float
    dtype: np.dtype

    @classmethod
    def learn(
        cls,
        X: np.ndarray,
        weight: np.ndarray | None,
        likelihood: Any,
        names: Sequence[str] | None,
    ) -> "Columns":
        """Find out what the columns are.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
            Finite rows.
        weight : ndarray of shape (n,) or None
            What each row counts.
        likelihood : str, Likelihood, list or dict
            The estimator's parameter.
        names : sequence of str or None
            The columns' names, if they have any.

        Returns
        -------
        Columns
            With all that ``encode`` and ``decode`` need.
        """
        known_as = list(range(X.shape[1])) if names is None else list(names)
        wishes = _wishes(likelihood, X.shape[1], known_as)
        total = float(len(X) if weight is None else weight.sum())
        largest = np.maximum(X.max(axis=0), -X.min(axis=0))
        exponent = np.frexp(largest.astype(np.float64))[1]
        kinds: list[Likelihood | None] = []
        shift, scale = np.zeros((2, X.shape[1]))
        for j, wish in enumerate(wishes):
            values = np.ldexp(X[:, j].astype(np.float64), -exponent[j])
            kinds.append(_kind_of(values, X[:, j], total, wish, known_as[j]))
            shift[j], scale[j] = _units_of(values, weight, kinds[j])
        unseen = -float(np.log(total + 2))
        return cls(known_as, kinds, _grouped(kinds), exponent, shift, scale, unseen, X.dtype)

    @property
    def blocks(self) -> tuple[tuple[Likelihood, int], ...]:
        """Neighbouring columns of one likelihood, as the model sees them."""
        found: dict[Likelihood, int] = {}
        for j in self.order:
            found[self.kinds[j]] = found.get(self.kinds[j], 0) + 1
        return tuple(found.items()) or ((Gaussian(), 0),)

    @property
    def is_binary(self) -> np.ndarray:
        """Which columns of X are binary."""
        return np.array([isinstance(kind, Bernoulli) for kind in self.kinds], dtype=bool)

    @property
    def is_constant(self) -> np.ndarray:
        """Which columns of X are constant."""
        return np.array([kind is None for kind in self.kinds], dtype=bool)

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Put X into the model's units: (n, n_features) -> (n, n_columns), in X's type."""
        limit = _LIMIT[X.dtype]
        with np.errstate(over="ignore"):
            values = np.ldexp(X[:, self.order].astype(np.float64), -self.exponent[self.order])
            values -= self.shift[self.order]
            values /= self.scale[self.order]
        np.clip(values, -limit, limit, out=values)
        binary = self.is_binary[self.order]
        values[:, binary] = values[:, binary] > 0.5
        return values.astype(X.dtype, copy=False)

    def decode(self, values: np.ndarray) -> np.ndarray:
        """Put rows back into X's units: (n, n_columns) -> (n, n_features)."""
        X = np.empty((len(values), len(self.kinds)))
        X[:, self.order] = values * self.scale[self.order]
        X[:, self.is_constant] = 0
        with np.errstate(over="ignore"):
            return np.ldexp(X + self.shift, self.exponent).astype(values.dtype, copy=False)

    def log_measure(self, X: np.ndarray) -> np.ndarray:
        """Give what the border knows of each row's log-density: (n, n_features) -> (n,).

        For real columns it is the log-determinant of the scaling. A constant column
        says its value with probability 1 - 1/(n + 2), by the rule of succession, and a
        value that a constant or binary column never had costs log(n + 2) nats.
        """
        real = ~(self.is_binary | self.is_constant)
        log_det = -(np.log(self.scale[real]) + self.exponent[real] * np.log(2)).sum()
        return log_det + self._discrete(X)

    def known_values(self, X: np.ndarray) -> np.ndarray:
        """Say which values binary and constant columns had: (n, n_features) -> (n, n_few)."""
        few = np.flatnonzero(self.is_binary | self.is_constant)
        with np.errstate(over="ignore"):
            values = np.ldexp(X[:, few].astype(np.float64), -self.exponent[few])
        low, distance = self.shift[few], self.scale[few]
        # X may be a copy of the training rows in single precision, or the other way round
        rounding = max(ROUNDING, np.finfo(X.dtype).eps, np.finfo(self.dtype).eps)

        def is_near(value: np.ndarray) -> np.ndarray:
            tolerance = np.minimum(rounding * np.abs(value), distance / 4)
            return np.abs(values - value) <= tolerance

        return is_near(low) | (self.is_binary[few] & is_near(low + distance))

    def _discrete(self, X: np.ndarray) -> np.ndarray:
        is_constant = self.is_constant[self.is_binary | self.is_constant]
        said = np.where(is_constant, np.log1p(-np.exp(self.unseen)), 0.0)
        return np.where(self.known_values(X), said, self.unseen).sum(axis=1)

    def check_wishes(self, likelihood: Any) -> None:
        """Refuse a parameter that asks for other likelihoods than the columns have."""
        wishes = _wishes(likelihood, len(self.kinds), self.names)
        for name, wish, kind in zip(self.names, wishes, self.kinds, strict=True):
            if wish is not None and kind is not None and wish != kind:
                raise ValueError(
                    f"The 'likelihood' parameter must be {kind} or 'auto' for column {name!r}, as "
                    f"in the fit that this one goes on from. Got {wish} instead."
                )

    def __str__(self) -> str:
        shown = [name if isinstance(name, str) else f"column {name}" for name in self.names]
        width = max(map(len, shown), default=0)
        return "\n".join(
            f"{name:<{width}}  {'constant' if kind is None else kind}"
            for name, kind in zip(shown, self.kinds, strict=True)
        )


def _wishes(
    likelihood: Any, n_features: int, names: list[str] | list[int]
) -> list[Likelihood | None]:
    """Turn the parameter into one likelihood per column, None where it is to be found out."""
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


def _wish(wish: Any) -> Likelihood | None:
    if isinstance(wish, str) and wish == "auto":
        return None
    if isinstance(wish, str) and wish in NAMED:
        return NAMED[wish]
    if isinstance(wish, Gaussian | Bernoulli):
        return wish
    raise ValueError(
        f"The 'likelihood' parameter must be 'auto', one of {sorted(NAMED)}, a likelihood such as "
        f"Gaussian(scale='column'), or a list or dict of these by column. Got {wish!r} instead."
    )


def _kind_of(
    values: np.ndarray, X: np.ndarray, total: float, wish: Likelihood | None, name: str | int
) -> Likelihood | None:
    low, high = values.min(), values.max()
    if _same(low, high):
        return None
    two_valued = bool(((values == low) | (values == high)).all())
    if isinstance(wish, Bernoulli) and not two_valued:
        other = X[(values != low) & (values != high)][0]
        raise ValueError(
            f"likelihood='bernoulli' needs column {name!r} to have two values, but it has "
            f"{X.min().item()!r}, {other.item()!r} and {X.max().item()!r}; use 'gaussian' or "
            f"'auto' for it."
        )
    if wish is not None:
        return wish
    bits = X.min() == 0 and X.max() == 1
    binary = two_valued and (bits or round(total) >= FEWEST_ROWS_FOR_BINARY)
    return NAMED["bernoulli" if binary else "gaussian"]


def _same(low: float, high: float) -> bool:
    """Whether two values differ by no more than rounding."""
    return bool(high - low <= ROUNDING * max(abs(low), abs(high)))


def _units_of(
    values: np.ndarray, weight: np.ndarray | None, kind: Likelihood | None
) -> tuple[float, float]:
    if kind is None:
        return values[0], 1.0
    if isinstance(kind, Bernoulli):
        return values.min(), values.max() - values.min()
    mean = np.average(values, weights=weight)
    return mean, np.sqrt(np.average(np.square(values - mean), weights=weight))


def _grouped(kinds: list[Likelihood | None]) -> np.ndarray:
    """Columns that the model sees, those of one likelihood side by side."""
    first_seen = list(dict.fromkeys(kind for kind in kinds if kind is not None))
    return np.array(
        [j for wanted in first_seen for j, kind in enumerate(kinds) if kind == wanted], dtype=int
    )
