"""Total correlation: KL of the aggregated posterior from the product of its marginals."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from sklearn_vae.objectives.aggregated_posterior import (
    AggregatedPosterior,
    AggregatedPosteriorPenalty,
)
from sklearn_vae.persistence.registry import serializable


class LogDensityRatio(torch.autograd.Function):
    """log q(z) - sum of log q(z_d) at draws z, with a hand-written gradient.

    A matrix of all pairs fits the cache, one of all pairs and dimensions does not: computed
    one dimension at a time, a step takes two to four times less than by autograd.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, z: Tensor, loc: Tensor, log_scale: Tensor, log_weights: Tensor
    ) -> Tensor:
        """Mixtures of densities: (M, K, B, l), (M, B, l) twice, (M or 1, B, B) -> (M, K, B)."""
        precision, log_weights = (-log_scale).exp(), log_weights.unsqueeze(1)
        log_joint = log_weights.expand(*z.shape[:2], -1, -1).clone()  # (M, K, B, B)
        log_ratio, saved = torch.zeros_like(z[..., 0]), []
        for d in range(z.shape[3]):
            loc_d, log_scale_d, precision_d = (
                part[:, None, None, :, d] for part in (loc, log_scale, precision)
            )
            residual = (z[..., d, None] - loc_d).mul_(precision_d)  # (M, K, B, B)
            # without the normal distribution's constant: those of all dimensions cancel
            log_prob = torch.addcmul(-log_scale_d, residual, residual, value=-0.5)
            log_joint.add_(log_prob)
            log_ratio -= _logsumexp_(log_prob.add_(log_weights))
            saved += [residual, log_prob]
        log_ratio += _logsumexp_(log_joint)
        ctx.save_for_backward(precision, log_joint, *saved)
        return log_ratio

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of draws, locations and log-scales."""
        precision, in_joint, *saved = ctx.saved_tensors  # type: ignore[attr-defined]
        by_dimension = []
        for d, (residual, in_marginal) in enumerate(zip(saved[::2], saved[1::2], strict=True)):
            precision_d = precision[..., d]  # (M, B)
            grad_pair = (in_joint - in_marginal).mul_(grads[0].unsqueeze(-1))  # (M, K, B, B)
            grad_residual = grad_pair * residual
            grad_z = -(grad_residual @ precision_d[:, None, :, None]).squeeze(-1)
            grad_loc = grad_residual.sum((1, 2)) * precision_d
            grad_log_scale = grad_residual.mul_(residual).sum((1, 2)) - grad_pair.sum((1, 2))
            by_dimension.append((grad_z, grad_loc, grad_log_scale))
        z, loc, log_scale = (torch.stack(parts, -1) for parts in zip(*by_dimension, strict=True))
        return z, loc, log_scale, None


def _logsumexp_(values: Tensor) -> Tensor:
    """Return logsumexp over the last axis; overwrite the values with their softmax."""
    top = values.amax(-1, keepdim=True)
    total = values.sub_(top).exp_().sum(-1, keepdim=True)
    values.div_(total)
    return (total.log() + top).squeeze(-1)


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
    TotalCorrelation(weight=3.0)
    """

    weight: float = 5.0

    def divergence(self, q: AggregatedPosterior, mask: Tensor | None) -> Tensor:
        """Estimate the total correlation of q(z) at the draws, in nats: (M,)."""
        return q.mean(LogDensityRatio.apply(q.z, q.loc, q.log_scale, q.log_mixture_weights()))
