"""Joint likelihood of the columns of a row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.likelihoods.base import Likelihood, Limits, Parameters


class Columnwise:
    """Joint likelihood of columns with different likelihoods, independent given z.

    Parameters
    ----------
    blocks : sequence of (likelihood, n)
        Likelihoods, and the number of neighbouring columns of each.

    Attributes
    ----------
    limits : Limits or None
        Limits of the samples of all columns.
    value_widths : list of int
        Numbers that encode each value of a row.
    """

    limits: Limits | None = None

    def __init__(self, blocks: Sequence[tuple[Likelihood, int]]):
        self.blocks = tuple(blocks)
        self.likelihoods = [likelihood for likelihood, _ in self.blocks]
        self.widths = [n * likelihood.width for likelihood, n in self.blocks]
        self.value_widths = [likelihood.width for likelihood, n in self.blocks for _ in range(n)]
        self.n_columns, self.n_values = sum(self.widths), len(self.value_widths)
        # of each parameter: its size, whether the decoder returns it, and whether it is a scale
        self._params = [
            (n * size, depends, number == likelihood.scale_param)
            for likelihood, n in self.blocks
            for number, (size, depends) in enumerate(
                zip(likelihood.param_sizes, likelihood.depends_on_z, strict=True)
            )
        ]
        self._decoder_sizes = [size for size, depends, _ in self._params if depends]
        self._free_sizes = [size for size, depends, _ in self._params if not depends]
        self.n_decoder_outputs, self.n_free = sum(self._decoder_sizes), sum(self._free_sizes)

    @property
    def is_scale_output(self) -> np.ndarray:
        """Mask of the decoder outputs that are scales."""
        params = self._params
        is_scale = [is_scale for size, depends, is_scale in params if depends for _ in range(size)]
        return np.array(is_scale, dtype=bool)

    def split(self, outputs: Tensor, free: Tensor) -> list[list[Tensor]]:
        """Split decoder outputs and free parameters into the parameters of each block."""
        decoded = iter(outputs.split(self._decoder_sizes, dim=-1))
        others = iter(free.split(self._free_sizes, dim=-1))
        return [
            [next(decoded if depends else others) for depends in likelihood.depends_on_z]
            for likelihood in self.likelihoods
        ]

    @property
    def n_params(self) -> int:
        """Number of parameters of a row, those that do not depend on z among them."""
        return self.n_decoder_outputs + self.n_free

    @property
    def is_scale_param(self) -> np.ndarray:
        """Mask of the parameters of a row that are scales, in the order of ``split_params``."""
        is_scale = [is_scale for size, _, is_scale in self._params for _ in range(size)]
        return np.array(is_scale, dtype=bool)

    def split_params(self, params: Tensor) -> list[list[Tensor]]:
        """Split parameters (..., n_params), all of which depend on the row, by block."""
        parts = iter(params.split([size for size, _, _ in self._params], dim=-1))
        return [[next(parts) for _ in likelihood.param_sizes] for likelihood in self.likelihoods]

    def split_blocks(self, x: Tensor) -> tuple[Tensor, ...]:
        """Split encoded rows into blocks; conditions behind them are left out."""
        return x[..., : self.n_columns].split(self.widths, dim=-1)

    def split_mask(self, observed: Tensor | None, dim: int = -1) -> Sequence[Any]:
        """Split the mask of observed values into blocks; None for each without a mask."""
        if observed is None:
            return [None] * len(self.blocks)
        return observed.split([n for _, n in self.blocks], dim=dim)

    def observed(self, x: Tensor) -> Tensor:
        """Mask of the values that are not NaN: (..., n_columns) -> (..., n)."""
        # all numbers of a value are missing, or none is
        pairs = zip(self.likelihoods, self.split_blocks(x), strict=True)
        return ~torch.cat([x[..., :: likelihood.width] for likelihood, x in pairs], -1).isnan()

    def log_prob(
        self, params: Sequence[Parameters], x: Tensor, observed: Tensor | None = None
    ) -> Tensor:
        """Log-density of the rows, summed over columns: (..., n_columns) -> (...).

        With a mask ``observed`` (..., n) the density is that of the observed values.
        """
        if observed is not None:
            return (self.log_prob_per_column(params, x) * observed).sum(-1)
        blocks = zip(self.likelihoods, params, self.split_blocks(x), strict=True)
        first, *rest = [likelihood.log_prob(params, x) for likelihood, params, x in blocks]
        return sum(rest, first)

    def log_prob_by_component(
        self, params: Sequence[Parameters], x: Tensor, observed: Tensor | None = None
    ) -> Tensor:
        """Log-density of rows in components: (M, C, ...), (M, B, n_columns) -> (M, C, B)."""
        masks = self.split_mask(observed)
        blocks = zip(self.likelihoods, params, self.split_blocks(x), masks, strict=True)
        first, *rest = [p.log_prob_by_component(params, x, mask) for p, params, x, mask in blocks]
        return sum(rest, first)

    def fisher_features(
        self,
        params: Sequence[Parameters],
        slopes: Sequence[Parameters],
        observed: Tensor | None = None,
    ) -> Tensor:
        """Features whose inner products are the Fisher information about z: (l, ..., F).

        With a mask ``observed`` (..., n) it is that of the observed values.
        """
        blocks = zip(self.likelihoods, params, slopes, strict=True)
        features = [likelihood.fisher_features(*block) for likelihood, *block in blocks]
        if observed is not None:
            pairs = zip(features, self.split_mask(observed), strict=True)
            features = [part * mask.unsqueeze(-1) for part, mask in pairs]
        return torch.cat([part.flatten(-2) for part in features], dim=-1)

    def maximum_likelihood(self, x: Tensor, weights: Tensor, start: Tensor | None = None) -> Tensor:
        """Fit the parameters to rows with weights (C, n): (n, n_columns) -> (C, n_params).

        Iterations go on from the parameters ``start`` (C, n_params), if given.
        """
        starts = [None] * len(self.blocks) if start is None else self.split_params(start)
        blocks = zip(self.likelihoods, self.split_blocks(x), starts, strict=True)
        params = [part.maximum_likelihood(x, weights, start) for part, x, start in blocks]
        return torch.cat([part for block in params for part in block], dim=-1)

    def log_prob_per_column(self, params: Sequence[Parameters], x: Tensor) -> Tensor:
        """Log-density of each value: (..., n_columns) -> (..., n)."""
        blocks = zip(self.likelihoods, params, self.split_blocks(x), strict=True)
        return torch.cat([p.log_prob_per_column(params, x) for p, params, x in blocks], -1)

    def residual(self, params: Sequence[Parameters], x: Tensor) -> Tensor:
        """Residual of each value: of normal distributions, the difference from the mean.

        Of other likelihoods it is the deviance residual. (..., n_columns) -> (..., n).
        """
        blocks = zip(self.likelihoods, params, self.split_blocks(x), strict=True)
        return torch.cat([p.residual(params, x) for p, params, x in blocks], -1)

    def log_prior(self, params: Sequence[Parameters], scale: Tensor) -> Tensor:
        """Log-density of a pseudo-observation at distance ``scale`` (..., n_columns): (...)."""
        blocks = zip(self.likelihoods, params, self.split_blocks(scale), strict=True)
        first, *rest = [likelihood.log_prior(params, scale) for likelihood, params, scale in blocks]
        return sum(rest, first)

    def mean(self, params: Sequence[Parameters]) -> Tensor:
        """Mean of p(x|z): (..., n_columns)."""
        pairs = zip(self.likelihoods, params, strict=True)
        return torch.cat([likelihood.mean(params) for likelihood, params in pairs], dim=-1)

    def mode(self, params: Sequence[Parameters]) -> Tensor:
        """Means of numbers and most probable classes, as encoded rows: (..., n_columns)."""
        pairs = zip(self.likelihoods, params, strict=True)
        return torch.cat([likelihood.mode(params) for likelihood, params in pairs], dim=-1)

    def average_over_draws(self, params: Sequence[Parameters], weights: Tensor) -> Tensor:
        """Mean over draws of z too, with weights (M, K, B): (B, n_columns)."""
        pairs = zip(self.likelihoods, params, strict=True)
        parts = [likelihood.average_over_draws(params, weights) for likelihood, params in pairs]
        return torch.cat(parts, dim=-1)

    def cdf(self, params: Sequence[Parameters], x: Tensor) -> tuple[Tensor, Tensor]:
        """P(X < x) and P(X = x) of each value: (..., n_columns) -> (..., n), (..., n)."""
        blocks = zip(self.likelihoods, params, self.split_blocks(x), strict=True)
        parts = [likelihood.cdf(params, x) for likelihood, params, x in blocks]
        below, at = zip(*parts, strict=True)
        return torch.cat(below, dim=-1), torch.cat(at, dim=-1)

    def sample(self, params: Sequence[Parameters], generator: torch.Generator) -> Tensor:
        """Sample rows from p(x|z), within the limits: (..., n_columns)."""
        blocks = zip(self.likelihoods, params, self._limits(), strict=True)
        parts = [
            likelihood.sample(params, generator, limits) for likelihood, params, limits in blocks
        ]
        return torch.cat(parts, dim=-1)

    def initialize(
        self, loadings: Tensor, loc: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Slopes (l, n_decoder_outputs), offsets and free parameters, from a linear model."""
        slopes, offsets, free = [loadings[:, :0]], [loc[:0]], [loc[:0]]
        linear = (self.split_blocks(tensor) for tensor in (loadings, loc, scale))
        for likelihood, *block in zip(self.likelihoods, *linear, strict=True):
            initial = likelihood.initialize(*block)
            for depends, (slope, offset) in zip(likelihood.depends_on_z, initial, strict=True):
                if depends:
                    slopes.append(slope)
                    offsets.append(offset)
                else:
                    free.append(offset)
        return torch.cat(slopes, dim=1), torch.cat(offsets), torch.cat(free)

    def _limits(self) -> list[Limits | None]:
        """Limits of each block's columns."""
        if self.limits is None:
            return [None] * len(self.blocks)
        numbers = [n for _, n in self.blocks]
        parts = (part.split(numbers) for part in self.limits)
        return [Limits(*limits) for limits in zip(*parts, strict=True)]
