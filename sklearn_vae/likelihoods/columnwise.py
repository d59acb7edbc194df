"""Joint likelihood of the columns of a row, and limits of their samples."""

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate, compress, pairwise, repeat
from typing import Any, NamedTuple, cast

import numpy as np

from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import Array, namespace

# Bound of log-scales: they lie between 0.0009 and 1097 standard deviations of the column.
LOG_SCALE_BOUND = 7.0
# Least raw parameter where there is none: any is larger.
NO_LEAST = -1e4
# A scale is at least a recording step divided by this. A normal density of that scale is nowhere
# above 1 per step, so that a recorded value gets no more of it than a probability can be.
STEPS_PER_SCALE = math.sqrt(2 * math.pi)
# Times that a sample beyond its limits is drawn again.
MAX_REDRAWS = 16

Parameters = Sequence[Array]


class Limits(NamedTuple):
    """Limits of samples of real columns."""

    low: Array  # (n,)
    high: Array  # (n,)
    # (n, n_excluded), values with a probability of their own; NaN where a column has fewer
    excluded: Array
    radius: Array  # (n,), distance up to which a number counts as an excluded value

    def exceeded(self, value: Array) -> Array:
        """Mask of the values beyond the limits: (..., n) -> (..., n)."""
        is_excluded = (abs(value[..., None] - self.excluded) <= self.radius[..., None]).any(-1)
        return (value < self.low) | (value > self.high) | is_excluded


class Columnwise:
    """Joint likelihood of columns with different likelihoods, independent given z.

    Blocks are likelihoods, and the number of neighbouring columns of each.
    """

    limits: Limits | None = None  # of the samples of all columns

    def __init__(self, blocks: Sequence[tuple[Any, int]]):
        self.blocks = tuple(blocks)
        self.likelihoods = [likelihood for likelihood, _ in self.blocks]
        self.widths = [n * likelihood.width for likelihood, n in self.blocks]
        self.n_columns, self.n_values = sum(self.widths), sum(n for _, n in self.blocks)
        # indices of the encoded numbers that the encoder of a VAE reads: (n_inputs,)
        is_input = [
            np.tile(np.arange(part.width) >= part.width - part.input_width, n)
            for part, n in self.blocks
        ]
        self.inputs = np.flatnonzero(np.concatenate([np.zeros(0, dtype=bool), *is_input]))
        # size of each parameter, in order, whether the decoder returns it, whether it is a scale
        params = [
            (n * size, depends, number == likelihood.scale_param)
            for likelihood, n in self.blocks
            for number, (size, depends) in enumerate(
                zip(likelihood.param_sizes, likelihood.depends_on_z, strict=True)
            )
        ]
        self._sizes = [size for size, _, _ in params]
        self._decoder_sizes = [size for size, depends, _ in params if depends]
        self._free_sizes = [size for size, depends, _ in params if not depends]
        self.n_decoder_outputs, self.n_free = sum(self._decoder_sizes), sum(self._free_sizes)
        self.n_params = self.n_decoder_outputs + self.n_free
        self.is_decoded, self.is_scale_param = (
            np.repeat(np.array([param[k] for param in params], dtype=bool), self._sizes)
            for k in (1, 2)
        )

    def _each(self, method: str, *parts: Iterable[Any]) -> list[Any]:
        """Call a method of each likelihood with its parts."""
        blocks = zip(self.likelihoods, *parts, strict=False)  # some parts are the same for all
        return [getattr(likelihood, method)(*block) for likelihood, *block in blocks]

    def split(self, outputs: Array, free: Array) -> list[list[Array]]:
        """Split decoder outputs and free parameters into the parameters of each block."""
        decoded = iter(ops.split(outputs, self._decoder_sizes))
        others = iter(ops.split(free, self._free_sizes))
        return [
            [next(decoded if depends else others) for depends in likelihood.depends_on_z]
            for likelihood in self.likelihoods
        ]

    def least_params(self, least_scale: np.ndarray) -> np.ndarray:
        """Raw parameters at the least scales of values, NO_LEAST for those that are no scales.

        (n,), 0 where there is none -> (n_params,), in the order of ``split_params``.
        """
        least = np.full(self.n_params, NO_LEAST)
        scales = [
            cast(np.ndarray, part) * (not likelihood.has_fixed_scale)  # which is as it is
            for likelihood, part in zip(self.likelihoods, self.split_mask(least_scale), strict=True)
            if likelihood.scale_param is not None
        ]
        scale = np.concatenate([np.zeros(0), *scales])
        is_bound = scale > np.exp(-LOG_SCALE_BOUND)
        raw = ops.unbounded(np.log(np.where(is_bound, scale, 1.0)), LOG_SCALE_BOUND)
        least[self.is_scale_param] = np.where(is_bound, raw, NO_LEAST)
        return least

    def mean_scales(self, outputs: Array, free: Array) -> Array:
        """Standard deviations of normal columns where outputs are their means, 1 elsewhere.

        Outputs are (..., n_decoder_outputs). Fixed scales count as 1.
        """
        xp, scales = namespace(outputs), list[Array]()
        for likelihood, params in zip(self.likelihoods, self.split(outputs, free), strict=True):
            of_params = [xp.ones_like(part) for part in params]
            if likelihood.scale_param is not None and not likelihood.has_fixed_scale:
                log_scale = ops.bounded(params[likelihood.scale_param], LOG_SCALE_BOUND)
                of_params[likelihood.scale_param - 1] = xp.exp(log_scale)  # the mean is before it
            scales += compress(of_params, likelihood.depends_on_z)
        return ops.concatenate(scales)

    def split_params(self, params: Array) -> list[list[Array]]:
        """Split parameters (..., n_params), all of which depend on the row, by block."""
        parts = iter(ops.split(params, self._sizes))
        return [[next(parts) for _ in likelihood.param_sizes] for likelihood in self.likelihoods]

    def split_blocks(self, x: Array) -> Sequence[Array]:
        """Split encoded rows into blocks; conditions behind them are left out."""
        return ops.split(x[..., : self.n_columns], self.widths)

    def split_mask(self, observed: Array | None) -> Sequence[Array | None]:
        """Split the mask of observed values into blocks; None for each without a mask."""
        if observed is None:
            return [None] * len(self.blocks)
        return ops.split(observed, [n for _, n in self.blocks])

    def observed(self, x: Array) -> Array:
        """Mask of the values that are not NaN: (..., n_columns) -> (..., n)."""
        # all numbers of a value are missing, or none is
        pairs = zip(self.likelihoods, self.split_blocks(x), strict=True)
        first = ops.concatenate(x[..., :: likelihood.width] for likelihood, x in pairs)
        return ~namespace(first).isnan(first)

    def has_density(self, x: np.ndarray) -> np.ndarray:
        """Mask of encoded numbers with a normal density: (..., n_columns) -> (..., n_columns)."""
        masks = []
        for likelihood, part in zip(self.likelihoods, self.split_blocks(x), strict=True):
            values = ops.unflatten(part, likelihood.width)
            mask = np.zeros_like(values, dtype=bool)
            # the last number of a value, unless one before it says that it is a point mass
            if likelihood.scale_param is not None:
                mask[..., -1] = values[..., :-1].sum(-1) < 0.5
            masks.append(ops.flatten(mask))
        return ops.concatenate(masks)

    def split_missing(self, x: Array) -> tuple[Array, Array | None]:
        """Zeros for missing values, and the mask of observed ones (..., n); None if all are."""
        xp = namespace(x)
        return (xp.nan_to_num(x), self.observed(x)) if xp.isnan(x).any() else (x, None)

    def log_prob(
        self, params: Sequence[Parameters], x: Array, observed: Array | None = None
    ) -> Array:
        """Log-density of the rows, summed over columns: (..., n_columns) -> (...).

        With a mask ``observed`` (..., n) the density is that of the observed values.
        """
        parts = params, self.split_blocks(x), self.split_mask(observed)
        first, *rest = self._each("log_prob", *parts)
        return sum(rest, first)

    def value_and_gradient(
        self, params: Sequence[Parameters], x: Array, observed: Array | None = None
    ) -> tuple[Array, list[list[Array]]]:
        """Log-density of the rows (...), and its gradient in the parameters, by block."""
        xp = namespace(x)
        if xp is np:
            parts = params, self.split_blocks(x), self.split_mask(observed)
            return self.log_prob(params, x, observed), self._each("observed_gradient", *parts)
        with xp.enable_grad():
            params = [[part.detach().requires_grad_() for part in block] for block in params]
            log_prob = self.log_prob(params, x, observed)
            flat = [part for block in params for part in block]
            parts = iter(xp.autograd.grad(log_prob.sum(), flat, materialize_grads=True))
        return log_prob.detach(), [[next(parts) for _ in block] for block in params]

    def expand(
        self,
        params: Sequence[Parameters],
        slopes: Sequence[Parameters],
        x: Array,
        observed: Array | None = None,
    ) -> tuple[Array, Array, Array]:
        """Expand ``log_prob`` quadratically in z.

        Slopes (l, ..., size) are the derivatives of the parameters (..., size) by z. Missing values
        of rows (..., n_columns) are 0. Return log-density (...), its gradient (l, ...) and features
        whose inner products are the Fisher information about z (l, ..., F).
        """
        log_prob, of_params = self.value_and_gradient(params, x, observed)
        gradient = sum(
            (slope * part).sum(-1)
            for pair in zip(slopes, of_params, strict=True)
            for slope, part in zip(*pair, strict=True)
        )
        features = self._each("fisher_features", params, slopes)
        if observed is not None:
            pairs = zip(features, self.split_mask(observed), strict=True)
            features = [part * cast(Array, mask)[..., None] for part, mask in pairs]
        return log_prob, gradient, ops.concatenate(map(ops.flatten, features))

    def log_prob_by_component(
        self, params: Sequence[Parameters], x: Array, observed: Array | None = None
    ) -> Array:
        """Log-density of rows in components: (M, C, ...), (M, B, n_columns) -> (M, C, B)."""
        parts = params, self.split_blocks(x), self.split_mask(observed)
        first, *rest = self._each("log_prob_by_component", *parts)
        return sum(rest, first)

    def maximum_likelihood(self, x: Array, weights: Array) -> Array:
        """Fit the parameters to rows with weights (C, n): (n, n_columns) -> (C, n_params)."""
        params = self._each("maximum_likelihood", self.split_blocks(x), repeat(weights))
        return ops.concatenate(part for block in params for part in block)

    def log_prob_per_column(self, params: Sequence[Parameters], x: Array) -> Array:
        """Log-density of each value: (..., n_columns) -> (..., n)."""
        return ops.concatenate(self._each("log_prob_per_column", params, self.split_blocks(x)))

    def residual(self, params: Sequence[Parameters], x: Array) -> Array:
        """Difference from the normal mean, or deviance residual: (..., n_columns) -> (..., n)."""
        return ops.concatenate(self._each("residual", params, self.split_blocks(x)))

    def mean(self, params: Sequence[Parameters]) -> Array:
        """Mean of p(x|z): (..., n_columns)."""
        return ops.concatenate(self._each("mean", params))

    def mode(self, params: Sequence[Parameters]) -> Array:
        """Means of numbers and most probable classes, as encoded rows: (..., n_columns)."""
        return ops.concatenate(self._each("mode", params))

    def average_over_draws(self, params: Sequence[Parameters], weights: Array) -> Array:
        """Mean over draws of z too, with weights (M, K, B): (B, n_columns)."""
        return ops.concatenate(self._each("average_over_draws", params, repeat(weights)))

    def sample(self, params: Sequence[Parameters], generator: Any) -> Array:
        """Sample rows from p(x|z), within the limits: (..., n_columns)."""
        limits: list[Limits | None] = [None] * len(self.blocks)
        if self.limits is not None:
            ends = pairwise(accumulate((n for _, n in self.blocks), initial=0))
            limits = [Limits._make(part[i:j] for part in self.limits) for i, j in ends]
        return ops.concatenate(self._each("sample", params, repeat(generator), limits))

    def initialize(
        self, loadings: Array, loc: Array, scale: Array, rows: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array, Array]:
        """Slopes (l, n_decoder_outputs), offsets and free parameters, from a linear model.

        Classes in order have the frequencies of rows (n_rows, n_columns) with weights (n_rows,).
        """
        pairs = [(loadings[:, :0], loc[:0])]
        linear = [self.split_blocks(tensor) for tensor in (loadings, loc, scale)]
        for k, (likelihood, *block) in enumerate(zip(self.likelihoods, *linear, strict=True)):
            initial = likelihood.initialize(*block)
            if rows is not None and hasattr(likelihood, "at_frequencies"):
                x, weights = rows
                initial = likelihood.at_frequencies(initial, self.split_blocks(x)[k], weights)
            pairs += initial
        slopes, offsets = map(ops.concatenate, zip(*pairs, strict=True))
        return slopes[:, self.is_decoded], offsets[self.is_decoded], offsets[~self.is_decoded]
