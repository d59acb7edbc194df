"""The aggregated posterior q(z), the mixture of the posteriors of all rows."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from sklearn_vae.models.vae import VAE
from sklearn_vae.objectives.base import Minibatch
from sklearn_vae.objectives.elbo import ELBO
from sklearn_vae.persistence.validation import check_number
from sklearn_vae.requirements import Requirement

# Largest number of pairs (draw, posterior) computed at once, per member: a whole table of 256
# rows with 4 draws each, or 512 rows with one.
MAX_PAIRS = 1 << 18

# What penalties on the aggregated posterior require of prior and posterior.
FACTORIZED = (
    Requirement(
        "prior",
        lambda prior: prior.is_standard_normal,
        "'normal'",
        "which compares the aggregated posterior with independent dimensions",
    ),
    Requirement(
        "posterior",
        lambda posterior: posterior.is_diagonal_gaussian,
        "'gaussian'",
        "which integrates over each dimension separately",
    ),
)


@dataclass(frozen=True)
class AggregatedPosterior:
    r"""The aggregated posterior of a table, :math:`q(z) = \sum_j w_j \, q(z | x_j)`, by a batch.

    Attributes
    ----------
    z : Tensor of shape (M, K, B, l)
        Draws from each row's posterior; 0 in dimensions that a member lacks.
    loc, log_scale : Tensor of shape (M, B, l)
        The posteriors; 0 in dimensions that a member lacks.
    weight : Tensor of shape (M or 1, B)
        Weights of the rows, 1 on average over the table.
    n_rows : float
        Rows of the table.

    References
    ----------
    .. [1] R. T. Q. Chen, X. Li, R. Grosse and D. Duvenaud, "Isolating Sources of
       Disentanglement in Variational Autoencoders", NeurIPS 2018, appendix C.2, for the
       stratified sampling of pairs.
    """

    z: Tensor
    loc: Tensor
    log_scale: Tensor
    weight: Tensor
    n_rows: float

    @classmethod
    def from_batch(cls, model: VAE, q: Tensor, batch: Minibatch) -> Self:
        """Sample the posteriors q (M, B, 2 l) of the rows of a batch."""
        noise, weight = batch.noise, batch.weight
        if (mask := model.mask) is not None:
            noise = noise * mask[:, None, None]
        weight = q.new_ones(1, q.shape[1]) if weight is None else weight
        # a batch of rows of weight 0: its term is any finite number, which has weight 0
        weight = weight.clamp(min=torch.finfo(weight.dtype).tiny)
        z = model.posterior.rsample(q, noise)
        loc, log_scale = model.posterior.split(q)
        return cls(z, loc, log_scale, weight, batch.n_rows or q.shape[1])

    @property
    def normalized_weight(self) -> Tensor:
        """Weights of the rows, normalized to sum 1 over the batch: (M or 1, B)."""
        return self.weight / self.weight.sum(1, keepdim=True)

    def log_mixture_weights(self) -> Tensor:
        """Log-weights of the posteriors in q(z) at each row's draws: (M or 1, B, B).

        A row's own posterior has its weight in the table, which is less than its weight in
        the batch; the other rows of the batch represent the rest of the table.
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

    def split(self) -> Iterator[tuple[Self, Tensor]]:
        """Split a large batch into interleaved parts; yield each with its weight (M,)."""
        n_draws, n_rows = self.z.shape[1:3]
        largest = max(math.isqrt(MAX_PAIRS // n_draws), 1)
        n_parts = -(-n_rows // largest)
        for first in range(n_parts):
            rows = slice(first, None, n_parts)
            part = type(self)(
                self.z[:, :, rows],
                self.loc[:, rows],
                self.log_scale[:, rows],
                self.weight[:, rows],
                self.n_rows,
            )
            yield part, self.normalized_weight[:, rows].sum(1)


@dataclass(frozen=True)
class AggregatedPosteriorPenalty(ELBO):
    """Base class of objectives that penalize a divergence of the aggregated posterior."""

    supports_autoregressive = False
    supports_relaxed_draws = False
    has_penalty = True
    uses_aggregated_posterior = True
    requirements = FACTORIZED

    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "weight", self.weight)

    def penalty(self, model: VAE, q: Tensor, batch: Minibatch) -> Tensor:
        """Weighted divergence of the aggregated posterior: (M,)."""
        parts = AggregatedPosterior.from_batch(model, q, batch).split()
        values = [weight * self.divergence(part, model.mask) for part, weight in parts]
        return self.weight * torch.stack(values).sum(0)

    def divergence(self, q: AggregatedPosterior, mask: Tensor | None) -> Tensor:
        """Compute the divergence of q(z), where mask (M, l) is 0 for padding dimensions: (M,)."""
        raise NotImplementedError
