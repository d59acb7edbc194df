"""What the rows of a batch together say of z: their posteriors, as one mixture."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from sklearn_vae.models.vae import VAE

# Pairs of a draw of one row and the posterior of another that are looked at together, per
# member: a whole table of 256 rows with 4 draws each, or 512 rows with one.
PAIRS = 1 << 18


@dataclass(frozen=True)
class Aggregate:
    r"""The aggregated posterior of a table, :math:`q(z) = \sum_j w_j \, q(z | x_j)`, by a batch.

    Attributes
    ----------
    z : Tensor of shape (M, K, B, l)
        Draws from each row's posterior; 0 in dimensions that a member lacks.
    loc, log_scale : Tensor of shape (M, B, l)
        The posteriors; 0 in dimensions that a member lacks.
    count : Tensor of shape (M or 1, B)
        What each row counts, 1 on average over the table.
    n_rows : float
        Rows of the table.

    References
    ----------
    .. [1] R. T. Q. Chen, X. Li, R. Grosse and D. Duvenaud, "Isolating Sources of
       Disentanglement in Variational Autoencoders", NeurIPS 2018, appendix C.2, for the
       weights of pairs.
    """

    z: Tensor
    loc: Tensor
    log_scale: Tensor
    count: Tensor
    n_rows: float

    @classmethod
    def of(
        cls, model: VAE, seen: Tensor, weight: Tensor | None, noise: Tensor, n_rows: int | None
    ) -> Self:
        """Encode rows (M, B, n_columns) and draw from their posteriors."""
        q = model.encode(seen)
        if model.mask is not None:
            noise = noise * model.mask[:, None, None]
        count = q.new_ones(1, q.shape[1]) if weight is None else weight
        # a batch of rows that count nothing: its term is any number, which counts nothing
        count = count.clamp(min=torch.finfo(count.dtype).tiny)
        z = model.posterior.rsample(q, noise)
        loc, log_scale = model.posterior.split(q)
        return cls(z, loc, log_scale, count, n_rows or q.shape[1])

    @property
    def share(self) -> Tensor:
        """Share of each row in the batch: (M or 1, B)."""
        return self.count / self.count.sum(1, keepdim=True)

    def log_shares(self) -> Tensor:
        """Log of the posteriors' shares in q(z) at each row's draws: (M or 1, B, B).

        A row's own posterior has the share that it has in the table, which is less than in
        the batch; the batch's others stand for all of the table's others.
        """
        share, least = self.share, torch.finfo(self.share.dtype).tiny
        own = torch.minimum(self.count / self.n_rows, share)
        others = (1 - own).clamp(min=least) / (1 - share).clamp(min=least)
        log_share = others.log().unsqueeze(2) + share.log().unsqueeze(1)
        is_own = torch.eye(share.shape[1], dtype=torch.bool, device=share.device)
        return torch.where(is_own, own.log().unsqueeze(2), log_share)

    def mean(self, by_row: Tensor) -> Tensor:
        """Mean over the draws of all rows: (M, K, B) -> (M,)."""
        return (by_row * self.share.unsqueeze(1)).sum(2).mean(1)

    def groups(self) -> Iterator[tuple[Self, Tensor]]:
        """Divide a large batch into parts that are as mixed as it is, with their shares (M,)."""
        n_draws, n_rows = self.z.shape[1:3]
        largest = max(math.isqrt(PAIRS // n_draws), 1)
        n_groups = -(-n_rows // largest)
        for first in range(n_groups):
            own = slice(first, None, n_groups)
            part = self.z[:, :, own], self.loc[:, own], self.log_scale[:, own], self.count[:, own]
            yield type(self)(*part, self.n_rows), self.share[:, own].sum(1)
