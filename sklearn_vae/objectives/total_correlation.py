"""Total correlation: how far the dimensions of all codes together are from independent."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sklearn_vae.models.vae import VAE
from sklearn_vae.objectives.aggregated_posterior import Aggregate
from sklearn_vae.objectives.penalized import PenalizedELBO
from sklearn_vae.persistence.validation import check_number


class LogRatio(torch.autograd.Function):
    """log q(z) - sum of log q(z_d) at draws z, with a gradient that is written out.

    A matrix of all pairs fits the cache, one of all pairs and dimensions does not: a
    dimension at a time, a step takes two to four times less than by autograd.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, loc: Tensor, log_scale: Tensor, log_shares: Tensor) -> Tensor:
        """Mixtures of densities: (M, K, B, l), (M, B, l) twice, (M or 1, B, B) -> (M, K, B)."""
        precision, log_shares = (-log_scale).exp(), log_shares.unsqueeze(1)
        log_joint = log_shares.expand(*z.shape[:2], -1, -1).clone()  # (M, K, B, B)
        log_ratio, kept = torch.zeros_like(z[..., 0]), []
        for d in range(z.shape[3]):
            own_loc, own_log_scale, own_precision = (
                part[:, None, None, :, d] for part in (loc, log_scale, precision)
            )
            residual = (z[..., d, None] - own_loc).mul_(own_precision)  # (M, K, B, B)
            # without the normal distribution's constant: those of all dimensions cancel
            log_prob = torch.addcmul(-own_log_scale, residual, residual, value=-0.5)
            log_joint.add_(log_prob)
            log_ratio -= _to_shares_(log_prob.add_(log_shares))
            kept += [residual, log_prob]
        log_ratio += _to_shares_(log_joint)
        ctx.save_for_backward(precision, log_joint, *kept)
        return log_ratio

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of draws, locations and log-scales."""
        precision, in_joint, *kept = ctx.saved_tensors
        slopes = []
        for d, (residual, in_marginal) in enumerate(zip(kept[::2], kept[1::2], strict=True)):
            own = precision[..., d]  # (M, B)
            by_pair = (in_joint - in_marginal).mul_(grads[0].unsqueeze(-1))  # (M, K, B, B)
            slope = by_pair * residual
            of_z = -(slope @ own[:, None, :, None]).squeeze(-1)
            of_loc = slope.sum((1, 2)) * own
            of_log_scale = slope.mul_(residual).sum((1, 2)) - by_pair.sum((1, 2))
            slopes.append((of_z, of_loc, of_log_scale))
        z, loc, log_scale = (torch.stack(parts, -1) for parts in zip(*slopes, strict=True))
        return z, loc, log_scale, None


def _to_shares_(log_parts: Tensor) -> Tensor:
    """Give the log of the sum of exp(parts), and put each part's share in its place."""
    top = log_parts.amax(-1, keepdim=True)
    total = log_parts.sub_(top).exp_().sum(-1, keepdim=True)
    log_parts.div_(total)
    return (total.log() + top).squeeze(-1)


def total_correlation(q: Aggregate) -> Tensor:
    """KL in nats of q(z) from the product of its marginals, at the draws: (M,)."""
    return q.mean(LogRatio.apply(q.z, q.loc, q.log_scale, q.log_shares()))


class TotalCorrelationLoss(PenalizedELBO):
    """Negative evidence lower bound plus a weight times the total correlation of the codes."""

    compares_rows = True

    def term(
        self, model: VAE, seen: Tensor, weight: Tensor | None, noise: Tensor, kl_loss: Tensor
    ) -> Tensor:
        """Total correlation of the aggregated posterior: (M,)."""
        groups = Aggregate.of(model, seen, weight, noise, self.n_rows).groups()
        return torch.stack([share * total_correlation(own) for own, share in groups]).sum(0)


@dataclass(frozen=True)
class TotalCorrelation:
    r"""The bound minus a weight times the total correlation of the codes (β-TCVAE).

    .. math::
        E_{q(z|x)}[\log p(x|z)] - \beta \, KL(q(z|x) \,\|\, p(z))
        - w \, KL\Bigl(q(z) \,\Big\|\, \prod_d q(z_d)\Bigr),
        \qquad q(z) = \frac{1}{n} \sum_i q(z | x_i)

    On average over the rows the KL of the bound is the information that codes have of
    their rows, plus this total correlation, plus the KL of each dimension's marginal from
    the prior [1]_. A larger ``beta`` weighs all three; this one weighs the second alone, so
    that dimensions become independent without saying less. In the paper's words, its
    alpha and gamma are ``beta`` and its beta is ``beta + weight``.

    q(z) is estimated from the rows of a batch by the paper's stratified sampling: a row's
    own posterior has its share in the whole table, the others of the batch stand for the
    table's others. The estimate is exact for a table of one batch. In a small batch it is
    off where posteriors are narrow, and each dimension more needs more rows.

    Parameters
    ----------
    weight : float, default=5.0
        What a nat of total correlation counts.

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
    n_draws: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        check_number(self, "weight", self.weight)

    def loss(self, free_bits: float | Tensor, prior_rows: float | Tensor) -> TotalCorrelationLoss:
        """Make the loss, for numbers that each member has."""
        return TotalCorrelationLoss(self.weight, free_bits, prior_rows)
