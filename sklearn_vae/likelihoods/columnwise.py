"""Columns of several kinds side by side."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sklearn_vae.likelihoods.base import Likelihood, Limits, Parameters


class Columnwise:
    """Columns of several kinds side by side; given z they are independent.

    Parameters
    ----------
    blocks : sequence of (likelihood, n)
        Kinds, and how many neighbouring columns are of each, in the order in which they
        stand in x.

    Attributes
    ----------
    limits : Limits or None
        Where draws of all columns lie, if that is known.
    """

    limits: Limits | None = None

    def __init__(self, blocks: Sequence[tuple[Likelihood, int]]):
        self.blocks = tuple(blocks)
        self.widths = [n * kind.width for kind, n in self.blocks]
        self.n_columns = sum(self.widths)
        # how many numbers the decoder gives, and how many do not depend on z
        self.n_decoder_outputs, self.n_free = (
            sum(self._sizes(depends_on_z=True)),
            sum(self._sizes(depends_on_z=False)),
        )

    @property
    def is_scale_output(self) -> list[bool]:
        """Which of the decoder's numbers are scales that depend on z, as one flag each."""
        return [
            number == likelihood.scale_param
            for likelihood, n in self.blocks
            for number, (size, depends) in enumerate(
                zip(likelihood.param_sizes, likelihood.depends_on_z, strict=True)
            )
            if depends
            for _ in range(n * size)
        ]

    def split(self, outputs: Tensor, free: Tensor) -> list[list[Tensor]]:
        """Cut the decoder's numbers and the free ones into each block's parameters."""
        of_z_parts = iter(outputs.split(self._sizes(depends_on_z=True), dim=-1))
        free_parts = iter(free.split(self._sizes(depends_on_z=False), dim=-1))
        return [
            [next(of_z_parts if depends else free_parts) for depends in kind.depends_on_z]
            for kind, _ in self.blocks
        ]

    def log_prob(
        self, params: Sequence[Parameters], x: Tensor, observed: Tensor | None = None
    ) -> Tensor:
        """Log-density of the rows, summed over columns: (..., n_columns) -> (...).

        Of rows with missing cells, ``observed`` (..., n) says which values are there; the
        density is that of these.
        """
        if observed is not None:
            return (self.log_prob_per_column(params, x) * observed).sum(-1)
        parts = [
            kind.log_prob(own, x_own)
            for (kind, _), own, x_own in zip(self.blocks, params, self.cut(x), strict=True)
        ]
        return sum(parts[1:], parts[0])

    def log_prior(self, params: Sequence[Parameters], scale: Tensor) -> Tensor:
        """Log-density of one more row whose residuals are ``scale``: (...)."""
        parts = [
            kind.log_prior(own, own_scale)
            for (kind, _), own, own_scale in zip(self.blocks, params, self.cut(scale), strict=True)
        ]
        return sum(parts[1:], parts[0])

    def mean(self, params: Sequence[Parameters]) -> Tensor:
        """Mean of p(x|z): (..., n_columns)."""
        pairs = zip(self.blocks, params, strict=True)
        return torch.cat([kind.mean(own) for (kind, _), own in pairs], dim=-1)

    def average_over_draws(self, params: Sequence[Parameters], share: Tensor) -> Tensor:
        """Mean over draws of z as well, with weights (M, K, B): (B, n_columns)."""
        pairs = zip(self.blocks, params, strict=True)
        return torch.cat([kind.average_over_draws(own, share) for (kind, _), own in pairs], dim=-1)

    def log_prob_per_column(self, params: Sequence[Parameters], x: Tensor) -> Tensor:
        """Log-density of each value: (..., n_columns) -> (..., n)."""
        parts = [
            kind.log_prob_per_column(own, x_own)
            for (kind, _), own, x_own in zip(self.blocks, params, self.cut(x), strict=True)
        ]
        return torch.cat(parts, dim=-1)

    def cdf(self, params: Sequence[Parameters], x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of less than x, and of x itself, column by column: (..., n)."""
        parts = [
            kind.cdf(own, x_own)
            for (kind, _), own, x_own in zip(self.blocks, params, self.cut(x), strict=True)
        ]
        below, at = zip(*parts, strict=True)
        return torch.cat(below, dim=-1), torch.cat(at, dim=-1)

    def sample(self, params: Sequence[Parameters], generator: torch.Generator) -> Tensor:
        """Rows drawn from p(x|z), within the limits: (..., n_columns)."""
        parts = [
            kind.sample(own, generator, limits)
            for (kind, _), own, limits in zip(self.blocks, params, self._limits(), strict=True)
        ]
        return torch.cat(parts, dim=-1)

    def _limits(self) -> list[Limits | None]:
        """Limits of each block's columns."""
        if self.limits is None:
            return [None] * len(self.blocks)
        numbers = [n for _, n in self.blocks]
        parts = (part.split(numbers) for part in self.limits)
        return [Limits(*own) for own in zip(*parts, strict=True)]

    def start(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Slopes (l, n_of_z), offsets (n_of_z) and free offsets (n_free) to start with."""
        slopes, offsets, free = [loadings[:, :0]], [loc[:0]], [loc[:0]]
        cuts = zip(self.blocks, self.cut(loadings), self.cut(loc), self.cut(scale), strict=True)
        for (kind, _), *own in cuts:
            for depends, (slope, offset) in zip(kind.depends_on_z, kind.start(*own), strict=True):
                if depends:
                    slopes.append(slope)
                    offsets.append(offset)
                else:
                    free.append(offset)
        return torch.cat(slopes, dim=1), torch.cat(offsets), torch.cat(free)

    def cut(self, x: Tensor) -> tuple[Tensor, ...]:
        """Cut columns into the blocks' own; what is given with a row after them is left out."""
        return x[..., : self.n_columns].split(self.widths, dim=-1)

    def observed(self, x: Tensor) -> Tensor:
        """Which values of x are there, those that are not being NaN: (..., n_columns) -> (..., n).

        A value's numbers are there together or not at all.
        """
        firsts = (
            own[..., :: kind.width] for (kind, _), own in zip(self.blocks, self.cut(x), strict=True)
        )
        return ~torch.cat([*firsts], dim=-1).isnan()

    def _sizes(self, *, depends_on_z: bool) -> list[int]:
        return [
            n * size
            for kind, n in self.blocks
            for depends, size in zip(kind.depends_on_z, kind.param_sizes, strict=True)
            if depends is depends_on_z
        ]
