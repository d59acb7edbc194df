"""Interface of the objectives: the batch of a call, the terms of the loss; schedules of beta."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from sklearn_vae.models.vae import VAE
from sklearn_vae.persistence.validation import (
    Requirement,
    check_integer,
    check_number,
    serializable,
)


class LossTerms(NamedTuple):
    """A loss and its terms, one number per member: tensors of shape (M,), in nats per row.

    loss = reconstruction_loss + beta * kl_loss + the objective's own penalty, if it has one.
    """

    loss: Tensor
    reconstruction_loss: Tensor
    kl_loss: Tensor


class Minibatch(NamedTuple):
    """Encoded rows of each member, their weights, and the noise for the reparameterization."""

    x: Tensor  # (M, B, n_columns): encoded rows
    weight: Tensor | None  # (M, B): weights of the rows, 1 on average over the table
    noise: Tensor  # (M or 1, K, B or 1, l): standard normal draws
    # (M, B, n_inputs): the encoder's input if missing values were imputed before training
    encoder_input: Tensor | None = None
    n_rows: int | None = None  # of the table that the batch is drawn from; None if it is the table


class Objective(ABC):
    """Base class of the objectives: frozen dataclasses that compute the loss of a batch."""

    # Conditions on other parameters of an estimator, checked by ModelParts.
    requirements: ClassVar[Sequence[Requirement]] = ()
    # Whether it is an ELBO without a penalty: decoders may then be autoregressive, and draws of
    # categorical codes relaxed, which have no importance weights.
    is_elbo: ClassVar[bool] = False
    # Whether it estimates the aggregated posterior from a batch, which then has to be a random
    # sample of the table.
    uses_aggregated_posterior: ClassVar[bool] = False
    # Number of draws of z per row in one bound; several bounds are averaged.
    n_draws: int = 1
    # KL in nats that each latent dimension has at no cost.
    free_bits: float = 0.0

    @abstractmethod
    def __call__(self, model: VAE, batch: Minibatch, beta: float | Tensor = 1.0) -> LossTerms:
        """Compute the loss of a batch, with weight beta, also (M,), on the KL."""


Schedule = Callable[[int], float]


@serializable
@dataclass(frozen=True)
class LinearWarmup:
    """A beta that rises in the first iterations (KL annealing).

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
