"""Total correlation: KL of the aggregated posterior from the product of its marginals."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_vae.objectives.aggregated_posterior import (
    AggregatedPosterior,
    AggregatedPosteriorPenalty,
)
from sklearn_vae.persistence.registry import serializable


@serializable
@dataclass(frozen=True)
class TotalCorrelation(AggregatedPosteriorPenalty):
    r"""The ELBO minus a weight times the total correlation of the codes (β-TCVAE).

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
        Weight of a nat of total correlation.
    free_bits : float, default=0.0
        As of :class:`ELBO`.

    Raises
    ------
    ValueError
        If ``weight`` is not a finite number >= 0.

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

    def divergence(self, q: AggregatedPosterior, mask: Tensor | None) -> Tensor:
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
