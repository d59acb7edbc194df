"""Maximum mean discrepancy: how far all codes together are from the prior."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sklearn_vae.models.vae import VAE
from sklearn_vae.objectives.aggregated_posterior import Aggregate
from sklearn_vae.objectives.penalized import PenalizedELBO
from sklearn_vae.persistence.validation import check_number

# Variances of the kernels, per latent dimension: the second is about 1/e between two codes of
# the prior, the first sees how they lie locally, the third still sees codes that are far out.
KERNELS = (0.25, 1.0, 4.0)


def discrepancy(q: Aggregate, has: Tensor) -> Tensor:
    """Squared discrepancy of q(z) from the standard normal: (M,).

    Integrals of a Gaussian kernel over normal distributions are known, so only one side
    of the pairs of codes is drawn, and none of the prior.

    Parameters
    ----------
    q : Aggregate
        Posteriors of a batch.
    has : Tensor of shape (M, l)
        Which dimensions each member has, as 0 and 1.
    """
    total, shares = q.loc.new_zeros(len(q.loc)), q.log_shares().exp().unsqueeze(1)
    for per_dimension in KERNELS:
        width = per_dimension * has.sum(1).view(-1, 1, 1)  # (M, 1, 1)
        among = q.mean((_mean_kernel(q.z, q, width, 0.0, has) * shares).sum(3))
        origin = q.loc.new_zeros(len(q.loc), 1, 1, q.loc.shape[2])
        across = (_mean_kernel(origin, q, width, 1.0, has)[:, 0, 0] * q.share).sum(1)
        within = (width / (width + 2)).flatten() ** (has.sum(1) / 2)
        total = total + (among - 2 * across + within) / len(KERNELS)
    return total


def _mean_kernel(
    points: Tensor, q: Aggregate, width: Tensor, variance: float, has: Tensor
) -> Tensor:
    """Mean kernel between points with a variance and the posteriors: (M, K, P, l) -> (M, K, P, B).

    The kernel is exp(-|z - z'|^2 / (2 width)).
    """
    spread = width + variance + (2 * q.log_scale).exp()  # (M, B, l)
    has = has.unsqueeze(1)
    log_norm = 0.5 * (has * (width / spread).log()).sum(-1)  # (M, B)
    precision = has / spread
    # squared distances as one product of matrices
    powers = torch.cat([points.square(), points], dim=-1).flatten(1, 2)
    slopes = torch.cat([-0.5 * precision, precision * q.loc], dim=-1)
    at_zero = log_norm - 0.5 * (precision * q.loc.square()).sum(-1)
    log_mean = torch.baddbmm(at_zero.unsqueeze(1), powers, slopes.mT)  # (M, K P, B)
    return log_mean.exp().unflatten(1, points.shape[1:3])


class MMDLoss(PenalizedELBO):
    """Negative evidence lower bound plus a weight times the discrepancy of the codes."""

    compares_rows = True

    def term(
        self, model: VAE, seen: Tensor, weight: Tensor | None, noise: Tensor, kl_loss: Tensor
    ) -> Tensor:
        """Squared discrepancy of the aggregated posterior from the prior: (M,)."""
        q = Aggregate.of(model, seen, weight, noise, self.n_rows)
        has = torch.ones_like(q.loc[:, 0]) if model.mask is None else model.mask
        return torch.stack([share * discrepancy(own, has) for own, share in q.groups()]).sum(0)


@dataclass(frozen=True)
class MMD:
    r"""The bound minus a weight times how far all codes are from the prior (InfoVAE).

    .. math::
        E_{q(z|x)}[\log p(x|z)] - \beta \, KL(q(z|x) \,\|\, p(z)) - w \, MMD^2(q(z), p(z)),
        \qquad q(z) = \frac{1}{n} \sum_i q(z | x_i)

    The KL asks every row's code to be like the prior, which costs what codes say of their
    rows; the maximum mean discrepancy asks it of all codes together. So a small ``beta``
    leaves codes that say much and yet lie where the prior does [1]_. In the paper's
    words, ``beta`` is 1 - alpha and the weight alpha + lambda - 1; its MMD-VAE is
    ``beta=0``.

    The kernel is the mean of three Gaussian ones, whose variances are 1/4, 1 and 4 times the
    number of latent dimensions; its squared discrepancy lies between 0 and 2. q(z) is
    estimated from the rows of a batch as for :class:`TotalCorrelation`. One code of each
    pair is drawn; the rest is integrated exactly.

    Parameters
    ----------
    weight : float, default=100.0
        What the squared discrepancy counts, in nats.

    Raises
    ------
    ValueError
        If ``weight`` is not a finite number >= 0.

    References
    ----------
    .. [1] S. Zhao, J. Song and S. Ermon, "InfoVAE: Balancing Learning and Inference in
       Variational Autoencoders", AAAI 2019 (arXiv:1706.02262, 2017).
    .. [2] A. Gretton et al., "A Kernel Two-Sample Test", Journal of Machine Learning
       Research 13, 2012, for the discrepancy.

    Examples
    --------
    >>> from sklearn_vae.objectives import MMD
    >>> MMD(weight=50.0)
    MMD(weight=50.0)
    """

    weight: float = 100.0
    n_draws: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        check_number(self, "weight", self.weight)

    def loss(self, free_bits: float | Tensor, prior_rows: float | Tensor) -> MMDLoss:
        """Make the loss, for numbers that each member has."""
        return MMDLoss(self.weight, free_bits, prior_rows)
