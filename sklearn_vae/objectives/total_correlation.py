"""Total correlation: how far the dimensions of all codes together are from independent."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sklearn_vae.model import VAE
from sklearn_vae.objectives.aggregate import Aggregate
from sklearn_vae.objectives.augmented import AugmentedELBO, check_number


def total_correlation(q: Aggregate) -> Tensor:
    """KL in nats of q(z) from the product of its marginals, at the draws: (M,)."""
    scale = (-q.log_scale).exp()[:, None, None]
    residual = (q.z.unsqueeze(3) - q.loc[:, None, None]) * scale
    # without the normal distributions' constants, which cancel: (M, K, B, B, l)
    log_prob = -0.5 * residual.square() - q.log_scale[:, None, None]
    log_share = q.log_shares().unsqueeze(1)  # (M or 1, 1, B, B)
    joint = torch.logsumexp(log_prob.sum(-1) + log_share, 3)  # (M, K, B)
    marginals = torch.logsumexp(log_prob + log_share.unsqueeze(-1), 3)  # (M, K, B, l)
    return q.mean(joint - marginals.sum(-1))


class TotalCorrelationELBO(AugmentedELBO):
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
    >>> from sklearn_vae import TotalCorrelation
    >>> TotalCorrelation(weight=3.0)
    TotalCorrelation(weight=3.0)
    """

    weight: float = 5.0
    n_draws: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        check_number(self, "weight", self.weight)

    def loss(self, free_bits: float | Tensor, prior_rows: float | Tensor) -> TotalCorrelationELBO:
        """Make the loss, for numbers that each member has."""
        return TotalCorrelationELBO(self.weight, free_bits, prior_rows)
