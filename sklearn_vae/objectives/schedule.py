"""Schedules of beta, the weight of the KL (KL annealing)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_integer, check_number

Schedule = Callable[[int], float]


@serializable
@dataclass(frozen=True)
class LinearWarmup:
    """Linear warm-up of the KL weight (KL annealing).

    Parameters
    ----------
    beta : float, default=1.0
        Final weight.
    n_iter : int, default=10
        Iterations of the warm-up; the first one has beta / n_iter. Training of fewer
        iterations does not reach ``beta``. The single iteration of a small table
        (``early_stopping="auto"``) has the weight of iteration ``max_iter``.

    Examples
    --------
    >>> from sklearn_vae.objectives import LinearWarmup
    >>> [LinearWarmup(beta=2.0, n_iter=4)(iteration) for iteration in range(6)]
    [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]

    References
    ----------
    .. [1] S. R. Bowman et al., "Generating Sentences from a Continuous Space",
       CoNLL 2016.
    """

    beta: float = 1.0
    n_iter: int = 10

    def __post_init__(self) -> None:
        check_number(self, "beta", self.beta)
        check_integer(self, "n_iter", self.n_iter)

    def __call__(self, iteration: int) -> float:
        """Weight in the iteration of this number, counted from 0."""
        return self.beta * min((iteration + 1) / self.n_iter, 1.0)


@dataclass(frozen=True)
class Constant:
    """Constant weight of the KL."""

    beta: float

    def __call__(self, iteration: int) -> float:
        """Weight in the iteration of this number, counted from 0."""
        return self.beta


@dataclass(frozen=True)
class Checked:
    """A user's schedule, with validation of every value."""

    schedule: Callable[[int], Any]

    def __call__(self, iteration: int) -> float:
        """Weight in the iteration of this number, counted from 0."""
        message = (
            f"The 'beta' parameter must be a finite number >= 0, or a function of the iteration "
            f"that gives one. Got {self.schedule!r}, which"
        )
        try:
            beta = self.schedule(iteration)
        except TypeError as error:
            raise ValueError(f"{message} failed in iteration {iteration}: {error}") from error
        if not isinstance(beta, Real) or not 0 <= float(beta) < math.inf:
            raise ValueError(f"{message} gave {beta!r} in iteration {iteration}.")
        return float(beta)
