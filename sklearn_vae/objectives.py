"""Objectives of training, in nats per row: sums over columns, means over rows.

An objective such as ``IWAE()`` is a frozen dataclass of hyperparameters. It is called with a
model, a batch and the weight of the KL, and returns the terms of the loss. Beside the ELBO and the
importance-weighted bound there are penalties on the aggregated posterior q(z), the mixture of the
posteriors of all rows. Schedules change the weight of the KL.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from sklearn_vae.numerics.array_api import Array, log_mean_exp, namespace
from sklearn_vae.numerics.random import MAX_DRAWS
from sklearn_vae.numerics.rows import CACHED_NUMBERS
from sklearn_vae.persistence.validation import (
    Requirement,
    check_integer,
    check_number,
    needs_diagonal_gaussian,
    needs_normal_prior,
    serializable,
)

if TYPE_CHECKING:
    from sklearn_vae.models.vae import VAE


class LossTerms(NamedTuple):
    """A loss and its terms, one number per member: tensors of shape (M,), in nats per row.

    loss = reconstruction_loss + beta * kl_loss + the objective's own penalty, if it has one.
    """

    loss: Array
    reconstruction_loss: Array
    kl_loss: Array


class Minibatch(NamedTuple):
    """Encoded rows of each member, their weights, and the noise for the reparameterization."""

    x: Array  # (M, B, n_columns): encoded rows
    weight: Array | None  # (M, B): weights of the rows, 1 on average over the table
    noise: Array  # (M or 1, K, B or 1, l): standard normal draws
    # (M, B, n_inputs): the encoder's input if missing values were imputed before training
    encoder_input: Array | None = None
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
    def __call__(self, model: "VAE", batch: Minibatch, beta: float | Array = 1.0) -> LossTerms:
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

    def __call__(self, model: "VAE", batch: Minibatch, beta: float | Array = 1.0) -> LossTerms:
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

    def penalty(self, model: "VAE", q: Array, batch: Minibatch) -> Array | float:
        """Compute the weighted penalty of q (M, B, 2 l), by default none: (M,)."""
        return 0.0


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
        Requirement(
            "beta",
            lambda beta: not callable(beta) and beta == 1,
            "1",
            "whose bound has no KL of its own",
        ),
    )

    n_draws: int = 5

    def __post_init__(self) -> None:
        check_integer(self, "n_draws", self.n_draws, 1, MAX_DRAWS)

    def __call__(self, model: "VAE", batch: Minibatch, beta: float | Array = 1.0) -> LossTerms:
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

    def _split_sets(self, values: Array) -> Array:
        """Split the draws into sets, one per bound: (M, K, B) -> (M, K / k, k, B)."""
        return values.unflatten(1, (-1, self.n_draws))


# -- penalties on the aggregated posterior -----------------------------------------------


@dataclass(frozen=True)
class AggregatedPosterior:
    r"""The aggregated posterior of a table, :math:`q(z) = \sum_j w_j \, q(z | x_j)`, by a batch."""

    z: Array  # (M, K, B, l): draws from each row's posterior
    loc: Array  # (M, B, l): the posteriors
    log_scale: Array  # (M, B, l)
    weight: Array  # (M or 1, B): weights of the rows, 1 on average over the table
    n_rows: float  # of the table

    @property
    def normalized_weight(self) -> Array:
        """Weights of the rows, normalized to sum 1 over the batch: (M or 1, B)."""
        return self.weight / self.weight.sum(1, keepdim=True)

    def log_mixture_weights(self) -> Array:
        """Log-weights of the posteriors in q(z) at each row's draws: (M or 1, B, B).

        A row's own posterior has its weight in the table, and the other rows of the batch represent
        the rest of the table (Chen et al., 2018, appendix C.2).
        """
        torch, in_batch = namespace(self.z), self.normalized_weight
        tiny = torch.finfo(self.weight.dtype).tiny
        of_row = torch.minimum(self.weight / self.n_rows, in_batch)
        rest = (1 - of_row).clamp(min=tiny) / (1 - in_batch).clamp(min=tiny)
        log_weight = rest.log().unsqueeze(2) + in_batch.log().unsqueeze(1)
        is_diagonal = torch.eye(in_batch.shape[1], dtype=torch.bool, device=in_batch.device)
        return torch.where(is_diagonal, of_row.log().unsqueeze(2), log_weight)

    def mean(self, values: Array) -> Array:
        """Weighted mean over the draws of all rows: (M, K, B) -> (M,)."""
        return (values * self.normalized_weight.unsqueeze(1)).sum(2).mean(1)


@dataclass(frozen=True)
class AggregatedPosteriorPenalty(ELBO):
    """Base class of objectives that penalize a divergence of the aggregated posterior."""

    is_elbo = False
    uses_aggregated_posterior = True
    requirements = (
        needs_normal_prior("which compares the aggregated posterior with independent dimensions"),
        needs_diagonal_gaussian("which integrates over each dimension separately"),
    )

    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "weight", self.weight)

    def penalty(self, model: "VAE", q: Array, batch: Minibatch) -> Array:
        """Weighted divergence of the aggregated posterior: (M,)."""
        z, (loc, log_scale) = model.posterior.rsample(q, batch.noise), model.posterior.split(q)
        torch = namespace(z)
        weight = q.new_ones(1, q.shape[1]) if batch.weight is None else batch.weight
        # a batch of rows of weight 0: its term is any finite number, which has weight 0
        weight = weight.clamp(min=torch.finfo(weight.dtype).tiny)
        normalized = weight / weight.sum(1, keepdim=True)
        values, n_rows = [], batch.n_rows or q.shape[1]
        # interleaved parts of a large batch, such as of 512 rows with one draw each
        n_parts = -(-q.shape[1] // max(math.isqrt(CACHED_NUMBERS // z.shape[1]), 1))
        for first in range(n_parts):
            rows = slice(first, None, n_parts)
            codes = z[:, :, rows], loc[:, rows], log_scale[:, rows]
            part = AggregatedPosterior(*codes, weight[:, rows], n_rows)
            values.append(normalized[:, rows].sum(1) * self.divergence(part))
        return self.weight * torch.stack(values).sum(0)

    def divergence(self, q: AggregatedPosterior) -> Array:
        """Compute the divergence of q(z): (M,)."""
        raise NotImplementedError


@serializable
@dataclass(frozen=True)
class TotalCorrelation(AggregatedPosteriorPenalty):
    r"""For independent latent dimensions: the ELBO with a penalty of their dependence (β-TCVAE).

    .. math::
        E_{q(z|x)}[\log p(x|z)] - \beta \, KL(q(z|x) \,\|\, p(z))
        - w \, KL\Bigl(q(z) \,\|\, \prod_d q(z_d)\Bigr),
        \qquad q(z) = \frac{1}{n} \sum_i q(z | x_i)

    The mean of the KL over rows is the mutual information of rows and codes, plus this total
    correlation, plus the KL of each dimension's marginal from the prior [1]_. ``beta``
    weights all three; ``weight`` the second alone, so that dimensions become independent at
    the same mutual information. In the paper's notation, alpha and gamma are ``beta`` and
    beta is ``beta + weight``.

    q(z) is estimated from the rows of a batch by the paper's stratified sampling: a row's
    own posterior has its weight in the whole table, the other rows of the batch represent
    the rest. The estimate is exact for a table of one batch. In small batches it is biased
    where posteriors are narrow; each further dimension needs more rows.

    Parameters
    ----------
    weight : float, default=5.0
        Weight of a nat of total correlation, at least 0.
    free_bits : float, default=0.0
        As of :class:`ELBO`.

    References
    ----------
    .. [1] R. T. Q. Chen, X. Li, R. Grosse and D. Duvenaud, "Isolating Sources of
       Disentanglement in Variational Autoencoders", NeurIPS 2018.

    Examples
    --------
    >>> from sklearn_vae.objectives import TotalCorrelation
    >>> TotalCorrelation(weight=3.0)
    TotalCorrelation(free_bits=0.0, weight=3.0)
    """

    weight: float = 5.0

    def divergence(self, q: AggregatedPosterior) -> Array:
        """Estimate the total correlation of q(z) at the draws, in nats: (M,)."""
        log_joint = log_weights = q.log_mixture_weights().unsqueeze(1)  # (M or 1, 1, B, B)
        log_marginals = namespace(q.z).zeros_like(q.z[..., 0])  # (M, K, B)
        by_dimension = q.z.unbind(3), q.loc.unbind(2), q.log_scale.unbind(2)
        for z, loc, log_scale in zip(*by_dimension, strict=True):
            residual = (z.unsqueeze(3) - loc[:, None, None]) * (-log_scale).exp()[:, None, None]
            # without the normal distribution's constant: those of all dimensions cancel
            log_prob = -0.5 * residual.square() - log_scale[:, None, None]  # (M, K, B, B)
            log_joint = log_joint + log_prob
            log_marginals = log_marginals + (log_prob + log_weights).logsumexp(3)
        return q.mean(log_joint.logsumexp(3) - log_marginals)


# Variances of the kernels, per latent dimension: the second is about 1/e between two draws from
# the prior, the first resolves local structure, the third reaches codes far from the origin.
KERNEL_VARIANCES = (0.25, 1.0, 4.0)


def _mean_kernel(
    points: Array, q: AggregatedPosterior, variance: float, point_variance: float
) -> Array:
    """Mean kernel between normal distributions at points (M, K, P, l) and the posteriors.

    The kernel is exp(-|z - z'|^2 / (2 variance)). The result has the shape (M, K, P, B).
    """
    total_variance = variance + point_variance + (2 * q.log_scale).exp()  # (M, B, l)
    log_norm = 0.5 * (variance / total_variance).log().sum(-1)  # (M, B)
    precision = 1 / total_variance
    # squared distances as one product of matrices
    torch = namespace(points)
    powers = torch.cat([points.square(), points], dim=-1).flatten(1, 2)
    coefs = torch.cat([-0.5 * precision, precision * q.loc], dim=-1)
    at_zero = log_norm - 0.5 * (precision * q.loc.square()).sum(-1)
    log_mean = torch.baddbmm(at_zero.unsqueeze(1), powers, coefs.mT)  # (M, K P, B)
    return log_mean.exp().unflatten(1, points.shape[1:3])


@serializable
@dataclass(frozen=True)
class MMD(AggregatedPosteriorPenalty):
    r"""For informative codes that are distributed as the prior: the ELBO with an MMD (InfoVAE).

    .. math::
        E_{q(z|x)}[\log p(x|z)] - \beta \, KL(q(z|x) \,\|\, p(z)) - w \, MMD^2(q(z), p(z)),
        \qquad q(z) = \frac{1}{n} \sum_i q(z | x_i)

    The KL pulls the posterior of every row to the prior, which reduces the mutual information
    of rows and codes; the maximum mean discrepancy (MMD) pulls the aggregated posterior q(z)
    only. With a small ``beta`` codes are informative and still distributed as the prior [1]_.
    In the paper's notation, ``beta`` is 1 - alpha and the weight alpha + lambda - 1; its
    MMD-VAE is ``beta=0``.

    The kernel is the mean of three Gaussian kernels, whose variances are 1/4, 1 and 4 times
    the number of latent dimensions. The squared MMD lies between 0 and 2. q(z) is estimated
    from the rows of a batch as for :class:`TotalCorrelation`. One code of each pair is drawn,
    the other is integrated in closed form.

    Parameters
    ----------
    weight : float, default=100.0
        Weight of the squared MMD, in nats, at least 0.
    free_bits : float, default=0.0
        As of :class:`ELBO`.

    References
    ----------
    .. [1] S. Zhao, J. Song and S. Ermon, "InfoVAE: Balancing Learning and Inference in
       Variational Autoencoders", AAAI 2019 (arXiv:1706.02262, 2017).
    .. [2] A. Gretton et al., "A Kernel Two-Sample Test", Journal of Machine Learning
       Research 13, 2012, for the MMD.

    Examples
    --------
    >>> from sklearn_vae.objectives import MMD
    >>> MMD(weight=50.0)
    MMD(free_bits=0.0, weight=50.0)
    """

    weight: float = 100.0

    def divergence(self, q: AggregatedPosterior) -> Array:
        """Compute the squared MMD of q(z) from the standard normal: (M,)."""
        total, weights = q.loc.new_zeros(len(q.loc)), q.log_mixture_weights().exp().unsqueeze(1)
        n_dims = q.loc.shape[2]
        for per_dimension in KERNEL_VARIANCES:
            variance = per_dimension * n_dims
            q_q = q.mean((_mean_kernel(q.z, q, variance, 0.0) * weights).sum(3))
            origin = q.loc.new_zeros(len(q.loc), 1, 1, n_dims)
            kernel = _mean_kernel(origin, q, variance, 1.0)[:, 0, 0]
            q_p = (kernel * q.normalized_weight).sum(1)
            p_p = (variance / (variance + 2)) ** (n_dims / 2)
            total = total + (q_q - 2 * q_p + p_p) / len(KERNEL_VARIANCES)
        return total


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
class KLWeight:
    """Weight of the KL: a number, or a user's schedule with validation of every value."""

    beta: float | Callable[[int], Any]

    def __call__(self, iteration: int) -> float:
        """Weight in the iteration of this number, counted from 0."""
        if not callable(self.beta):
            return float(self.beta)
        message = (
            f"The 'beta' parameter must be a finite number >= 0, or a function of the iteration "
            f"that gives one. Got {self.beta!r}, which"
        )
        try:
            beta = self.beta(iteration)
        except TypeError as error:
            raise ValueError(f"{message} failed in iteration {iteration}: {error}") from error
        if not isinstance(beta, Real) or not 0 <= float(beta) < math.inf:
            raise ValueError(f"{message} gave {beta!r} in iteration {iteration}.")
        return float(beta)


# Names of the parameter ``objective``.
OBJECTIVES: dict[str, Objective] = {
    "elbo": ELBO(),
    "iwae": IWAE(),
    "tc": TotalCorrelation(),
    "mmd": MMD(),
}
