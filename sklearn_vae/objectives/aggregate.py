"""What the rows of a batch together say of z: their posteriors, as one mixture."""

import math
from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
from torch import Tensor

from sklearn_vae.model import VAE

# Pairs of a draw of one row and the posterior of another that are looked at together, per
# member: a whole table of 256 rows with 4 draws each, or 512 rows with one.
PAIRS = 1 << 18


class Aggregate(NamedTuple):
    r"""The aggregated posterior of a batch, :math:`q(z) = \sum_j w_j \, q(z | x_j)`.

    Attributes
    ----------
    z : Tensor of shape (M, K, B, l)
        Draws from each row's posterior; 0 in dimensions that a member lacks.
    loc, log_scale : Tensor of shape (M, B, l)
        The posteriors; 0 in dimensions that a member lacks.
    share : Tensor of shape (M or 1, B)
        The weights w, whose sum is 1.
    """

    z: Tensor
    loc: Tensor
    log_scale: Tensor
    share: Tensor

    @classmethod
    def of(cls, model: VAE, seen: Tensor, weight: Tensor | None, noise: Tensor) -> Self:
        """Encode rows (M, B, n_columns) and draw from their posteriors."""
        q = model.encode(seen)
        if model.mask is not None:
            noise = noise * model.mask[:, None, None]
        share = q.new_ones(1, q.shape[1]) if weight is None else weight
        # a batch of rows that count nothing: its term is any number, which counts nothing
        share = share.clamp(min=torch.finfo(share.dtype).tiny)
        z = model.posterior.rsample(q, noise)
        return cls(z, *model.posterior.split(q), share / share.sum(1, keepdim=True))

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
            share = self.share[:, own]
            total = share.sum(1, keepdim=True)
            part = self.z[:, :, own], self.loc[:, own], self.log_scale[:, own], share / total
            yield type(self)(*part), total.squeeze(1)
