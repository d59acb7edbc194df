"""Penalties on the aggregated posterior q(z), the mixture of the posteriors of all rows."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_vae.models.vae import VAE
from sklearn_vae.objectives.bounds import ELBO, Minibatch
from sklearn_vae.persistence.validation import (
    check_number,
    needs_diagonal_gaussian,
    needs_normal_prior,
    serializable,
)

# Largest number of pairs (draw, posterior) computed at once, per member: of 512 rows with a draw.
MAX_PAIRS = 1 << 18


@dataclass(frozen=True)
class AggregatedPosterior:
    r"""The aggregated posterior of a table, :math:`q(z) = \sum_j w_j \, q(z | x_j)`, by a batch."""

    z: Tensor  # (M, K, B, l): draws from each row's posterior
    loc: Tensor  # (M, B, l): the posteriors
    log_scale: Tensor  # (M, B, l)
    weight: Tensor  # (M or 1, B): weights of the rows, 1 on average over the table
    n_rows: float  # of the table

    @property
    def normalized_weight(self) -> Tensor:
        """Weights of the rows, normalized to sum 1 over the batch: (M or 1, B)."""
        return self.weight / self.weight.sum(1, keepdim=True)

    def log_mixture_weights(self) -> Tensor:
        """Log-weights of the posteriors in q(z) at each row's draws: (M or 1, B, B).

        A row's own posterior has its weight in the table, and the other rows of the batch represent
        the rest of the table (Chen et al., 2018, appendix C.2).
        """
        in_batch, tiny = self.normalized_weight, torch.finfo(self.weight.dtype).tiny
        of_row = torch.minimum(self.weight / self.n_rows, in_batch)
        rest = (1 - of_row).clamp(min=tiny) / (1 - in_batch).clamp(min=tiny)
        log_weight = rest.log().unsqueeze(2) + in_batch.log().unsqueeze(1)
        is_diagonal = torch.eye(in_batch.shape[1], dtype=torch.bool, device=in_batch.device)
        return torch.where(is_diagonal, of_row.log().unsqueeze(2), log_weight)

    def mean(self, values: Tensor) -> Tensor:
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

    def penalty(self, model: VAE, q: Tensor, batch: Minibatch) -> Tensor:
        """Weighted divergence of the aggregated posterior: (M,)."""
        z, (loc, log_scale) = model.posterior.rsample(q, batch.noise), model.posterior.split(q)
        weight = q.new_ones(1, q.shape[1]) if batch.weight is None else batch.weight
        # a batch of rows of weight 0: its term is any finite number, which has weight 0
        weight = weight.clamp(min=torch.finfo(weight.dtype).tiny)
        normalized = weight / weight.sum(1, keepdim=True)
        values, n_rows = [], batch.n_rows or q.shape[1]
        # interleaved parts of a large batch
        n_parts = -(-q.shape[1] // max(math.isqrt(MAX_PAIRS // z.shape[1]), 1))
        for first in range(n_parts):
            rows = slice(first, None, n_parts)
            codes = z[:, :, rows], loc[:, rows], log_scale[:, rows]
            part = AggregatedPosterior(*codes, weight[:, rows], n_rows)
            values.append(normalized[:, rows].sum(1) * self.divergence(part))
        return self.weight * torch.stack(values).sum(0)

    def divergence(self, q: AggregatedPosterior) -> Tensor:
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

    def divergence(self, q: AggregatedPosterior) -> Tensor:
        """Estimate the total correlation of q(z) at the draws, in nats: (M,)."""
        log_joint = log_weights = q.log_mixture_weights().unsqueeze(1)  # (M or 1, 1, B, B)
        log_marginals = torch.zeros_like(q.z[..., 0])  # (M, K, B)
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
    points: Tensor, q: AggregatedPosterior, variance: float, point_variance: float
) -> Tensor:
    """Mean kernel between normal distributions at points (M, K, P, l) and the posteriors.

    The kernel is exp(-|z - z'|^2 / (2 variance)). The result has the shape (M, K, P, B).
    """
    total_variance = variance + point_variance + (2 * q.log_scale).exp()  # (M, B, l)
    log_norm = 0.5 * (variance / total_variance).log().sum(-1)  # (M, B)
    precision = 1 / total_variance
    # squared distances as one product of matrices
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

    def divergence(self, q: AggregatedPosterior) -> Tensor:
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
