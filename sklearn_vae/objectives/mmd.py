"""Maximum mean discrepancy (MMD) between the aggregated posterior and the prior."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_vae.objectives.aggregated_posterior import (
    AggregatedPosterior,
    AggregatedPosteriorPenalty,
)
from sklearn_vae.persistence.registry import serializable

# Variances of the kernels, per latent dimension: the second is about 1/e between two draws from
# the prior, the first resolves local structure, the third reaches codes far from the origin.
KERNEL_VARIANCES = (0.25, 1.0, 4.0)


def _mean_kernel(
    points: Tensor, q: AggregatedPosterior, variance: Tensor, point_variance: float, mask: Tensor
) -> Tensor:
    """Mean kernel between normal distributions at points (M, K, P, l) and the posteriors.

    The kernel is exp(-|z - z'|^2 / (2 variance)). The result has the shape (M, K, P, B).
    """
    total_variance = variance + point_variance + (2 * q.log_scale).exp()  # (M, B, l)
    mask = mask.unsqueeze(1)
    log_norm = 0.5 * (mask * (variance / total_variance).log()).sum(-1)  # (M, B)
    precision = mask / total_variance
    # squared distances as one product of matrices
    powers = torch.cat([points.square(), points], dim=-1).flatten(1, 2)
    coefs = torch.cat([-0.5 * precision, precision * q.loc], dim=-1)
    at_zero = log_norm - 0.5 * (precision * q.loc.square()).sum(-1)
    log_mean = torch.baddbmm(at_zero.unsqueeze(1), powers, coefs.mT)  # (M, K P, B)
    return log_mean.exp().unflatten(1, points.shape[1:3])


@serializable
@dataclass(frozen=True)
class MMD(AggregatedPosteriorPenalty):
    r"""The ELBO minus a weight times the MMD of q(z) from the prior (InfoVAE).

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
        Weight of the squared MMD, in nats.
    free_bits : float, default=0.0
        As of :class:`ELBO`.

    Raises
    ------
    ValueError
        If ``weight`` is not a finite number >= 0.

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

    def divergence(self, q: AggregatedPosterior, mask: Tensor | None) -> Tensor:
        """Compute the squared MMD of q(z) from the standard normal: (M,).

        Gaussian kernels have closed-form integrals over normal distributions: one code of each
        pair is a draw, the other and the prior are integrated.
        """
        mask = torch.ones_like(q.loc[:, 0]) if mask is None else mask
        total, weights = q.loc.new_zeros(len(q.loc)), q.log_mixture_weights().exp().unsqueeze(1)
        n_dims = mask.sum(1)
        for per_dimension in KERNEL_VARIANCES:
            variance = per_dimension * n_dims.view(-1, 1, 1)  # (M, 1, 1)
            q_q = q.mean((_mean_kernel(q.z, q, variance, 0.0, mask) * weights).sum(3))
            origin = q.loc.new_zeros(len(q.loc), 1, 1, q.loc.shape[2])
            kernel = _mean_kernel(origin, q, variance, 1.0, mask)[:, 0, 0]
            q_p = (kernel * q.normalized_weight).sum(1)
            p_p = (variance / (variance + 2)).flatten() ** (n_dims / 2)
            total = total + (q_q - 2 * q_p + p_p) / len(KERNEL_VARIANCES)
        return total
