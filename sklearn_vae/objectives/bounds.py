"""Interface of the objectives; ELBO and the importance-weighted bound (IWAE); schedules of beta."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from sklearn_vae.models.vae import VAE
from sklearn_vae.numerics.array_api import log_mean_exp
from sklearn_vae.numerics.random import MAX_DRAWS
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

    # Conditions on other parameters of an estimator, checked by sklearn_vae.requirements.
    requirements: ClassVar[Sequence[Requirement]] = ()
    # Whether it is an ELBO without a penalty: decoders may then be autoregressive, and draws of
    # categorical codes relaxed, which have no importance weights.
    is_elbo: ClassVar[bool] = False
    # Whether it estimates the aggregated posterior: a batch then has to be a random sample.
    uses_aggregated_posterior: ClassVar[bool] = False
    # Number of draws of z per row in one bound; several bounds are averaged.
    n_draws: int = 1
    # KL in nats that each latent dimension has at no cost.
    free_bits: float = 0.0

    @abstractmethod
    def __call__(self, model: VAE, batch: Minibatch, beta: float | Tensor = 1.0) -> LossTerms:
        """Compute the loss of a batch, with weight beta, also (M,), on the KL."""


@serializable
@dataclass(frozen=True)
class ELBO(Objective):
    r"""The evidence lower bound, with weight :math:`\beta` on the KL.

    .. math::
        E_{q(z|x)}[\log p(x|z)] - \beta \, KL(q(z|x) \,\|\, p(z))

    Parameters
    ----------
    free_bits : float, default=0.0
        KL in nats that each latent dimension may have at no cost, on average over rows [2]_, at
        least 0. Raise it if dimensions are not used.

    References
    ----------
    .. [1] I. Higgins et al., "beta-VAE", ICLR 2017.
    .. [2] D. P. Kingma et al., "Improved Variational Inference with Inverse
       Autoregressive Flow", NeurIPS 2016, for the free bits.

    Examples
    --------
    >>> from sklearn_vae.objectives import ELBO
    >>> ELBO(free_bits=0.2)
    ELBO(free_bits=0.2)
    """

    is_elbo = True

    free_bits: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        check_number(self, "free_bits", self.free_bits)

    def __call__(self, model: VAE, batch: Minibatch, beta: float | Tensor = 1.0) -> LossTerms:
        """Compute the negative ELBO of a batch."""
        q = model.encode(batch.x)
        log_prob, kl = model.elbo_terms(batch.x, batch.noise, q)
        if batch.weight is not None:
            log_prob = log_prob * batch.weight
            kl = kl * batch.weight.unsqueeze(-1)
        reconstruction = -log_prob.mean(1)  # (M, B) -> (M,)
        kl_per_dimension = kl.mean(1)  # (M, B, l) -> (M, l)
        if self.free_bits:
            kl_per_dimension = kl_per_dimension.clamp(min=self.free_bits)
        kl_loss = kl_per_dimension.sum(-1)
        loss = reconstruction + beta * kl_loss + self.penalty(model, q, batch)
        return LossTerms(loss, reconstruction, kl_loss)

    def penalty(self, model: VAE, q: Tensor, batch: Minibatch) -> Tensor | float:
        """Compute the weighted penalty of q (M, B, 2 l), by default none: (M,)."""
        return 0.0


NO_KL_TERM = "whose bound has no KL of its own"


@serializable
@dataclass(frozen=True)
class IWAE(Objective):
    r"""For a higher density: a tighter bound on log p(x), by several draws per row.

    .. math::
        E_{z_1 \ldots z_k \sim q(z|x)} \log \frac{1}{k} \sum_{i=1}^k
        \frac{p(x|z_i) \, p(z_i)}{q(z_i|x)}

    With one draw it is the evidence lower bound, and with more it lies nearer to log p(x) [1]_. The
    encoder has the doubly reparameterized gradient (DReG) [2]_. A step takes about ``n_draws``
    times as long.

    Parameters
    ----------
    n_draws : int, default=5
        Draws of z per row in each step, up to 65,536.

    References
    ----------
    .. [1] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance Weighted
       Autoencoders", ICLR 2016.
    .. [2] G. Tucker, D. Lawson, S. Gu and C. J. Maddison, "Doubly Reparameterized
       Gradient Estimators for Monte Carlo Objectives", ICLR 2019.

    Examples
    --------
    >>> from sklearn_vae.objectives import IWAE
    >>> IWAE(n_draws=10)
    IWAE(n_draws=10)
    """

    requirements = (
        Requirement("beta", lambda beta: not callable(beta) and beta == 1, "1", NO_KL_TERM),
    )

    n_draws: int = 5

    def __post_init__(self) -> None:
        check_integer(self, "n_draws", self.n_draws, 1, MAX_DRAWS)

    def __call__(self, model: VAE, batch: Minibatch, beta: float | Tensor = 1.0) -> LossTerms:
        """Compute the negative bound of a batch, whose K draws are K / n_draws sets.

        The bounds of the sets are averaged. The terms are self-normalized importance-sampling
        estimates: ``reconstruction_loss`` is minus the weighted mean of log p(x|z), and
        ``kl_loss`` is the rest. With one draw they are the ELBO's; with many they tend to those
        of the exact posterior, -E[log p(x|z)] over p(z|x) and the KL of p(z|x) from the prior.
        """
        draws = model.log_weights(batch.x, batch.noise)
        log_weight = self._split_sets(draws.log_weight)
        log_normalized = log_weight.detach().log_softmax(2)
        normalized = log_normalized.exp()
        if draws.z.requires_grad:
            # DReG: the gradient through z is weighted by the squared normalized weights. One factor
            # comes from the bound, the hook multiplies by the other.
            factor = normalized.flatten(1, 2).unsqueeze(-1)  # (M, K, B, 1)
            draws.z.register_hook(lambda grad: grad * factor)
        bound = log_mean_exp(log_weight, 2).mean(1)  # (M, B)
        log_prob = (normalized * self._split_sets(draws.log_prob)).sum(2).mean(1)
        # log-density of the self-normalized proposal at a draw, over p(z)
        log_ratio = log_normalized + math.log(self.n_draws) - self._split_sets(draws.log_ratio)
        kl = (normalized * log_ratio).sum(2).mean(1)
        if batch.weight is not None:
            bound, log_prob, kl = (part * batch.weight for part in (bound, log_prob, kl))
        return LossTerms(-bound.mean(1), -log_prob.mean(1), kl.mean(1))  # (M, B) -> (M,)

    def _split_sets(self, values: Tensor) -> Tensor:
        """Split the draws into sets, one per bound: (M, K, B) -> (M, K / k, k, B)."""
        return values.unflatten(1, (-1, self.n_draws))


# -- schedules of beta ------------------------------------------------------------------

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
