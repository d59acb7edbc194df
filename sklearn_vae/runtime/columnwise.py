"""Joint likelihood of the columns of a row, in numpy.

It is the counterpart of :class:`sklearn_vae.likelihoods.columnwise.Columnwise`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from sklearn_vae.runtime.likelihoods import Likelihood, Limits, Parameters


class Columnwise:
    """Joint likelihood of columns with different likelihoods, independent given z.

    Parameters
    ----------
    blocks : sequence of (likelihood, n)
        Likelihoods, and the number of neighbouring columns of each.
    """

    def __init__(self, blocks: Sequence[tuple[Likelihood, int]]):
        self.blocks = blocks
        self._columns = _slices([n * likelihood.width for likelihood, n in blocks])
        parts = _slices([n * size for likelihood, n in blocks for size in likelihood.param_sizes])
        self.n_params, following = parts[-1].stop if parts else 0, iter(parts)
        self._params = [[next(following) for _ in block.param_sizes] for block, _ in blocks]

    def split_params(self, params: np.ndarray) -> list[Parameters]:
        """Split parameters (..., n_params) by block."""
        return [[params[..., part] for part in block] for block in self._params]

    def split_rows(self, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Values of encoded rows (..., n_columns), 0 for NaN, and observed (..., n), by block.

        The masks are None if no value is missing.
        """
        is_missing = np.isnan(x)
        if not is_missing.any():
            return [(x[..., part], None) for part in self._columns]
        x = np.where(is_missing, 0.0, x)
        blocks = zip(self.blocks, self._columns, strict=True)
        return [
            (x[..., part], ~is_missing[..., part][..., :: likelihood.width])
            for (likelihood, _), part in blocks
        ]

    def log_prob(self, params: Sequence[Parameters], x: np.ndarray) -> np.ndarray:
        """Log-density of the observed values of rows, in nats: (..., n_columns) -> (...)."""
        blocks = zip(self.blocks, params, self.split_rows(x), strict=True)
        return sum(
            _observed(likelihood.log_prob(block, values), observed).sum(-1)
            for (likelihood, _), block, (values, observed) in blocks
        )

    def gradient(
        self, params: Sequence[Parameters], x: np.ndarray, *, decoded: bool = False
    ) -> np.ndarray:
        """Gradient of the log-density in the parameters, or in those that depend on z."""
        blocks = zip(self.blocks, params, self.split_rows(x), strict=True)
        slopes = [
            _observed(likelihood.gradient(block, values, number), observed, size)
            for (likelihood, _), block, (values, observed) in blocks
            for number, size in enumerate(likelihood.param_sizes)
            if likelihood.depends_on_z[number] or not decoded
        ]
        return np.concatenate(slopes, axis=-1)

    def mean(self, params: Sequence[Parameters]) -> np.ndarray:
        """Mean of p(x|z): (..., n_columns)."""
        blocks = zip(self.blocks, params, strict=True)
        return np.concatenate([part.mean(block) for (part, _), block in blocks], axis=-1)

    def residual(self, params: Sequence[Parameters], x: np.ndarray) -> np.ndarray:
        """Residual of each value, 0 if it is missing: (..., n_columns) -> (..., n)."""
        blocks = zip(self.blocks, params, self.split_rows(x), strict=True)
        parts = [
            _observed(likelihood.residual(block, values), observed)
            for (likelihood, _), block, (values, observed) in blocks
        ]
        return np.concatenate(parts, axis=-1)

    def fisher_features(
        self, params: Sequence[Parameters], slopes: Sequence[Parameters], x: np.ndarray
    ) -> np.ndarray:
        """Features whose inner products are the Fisher information about z, of observed values.

        Of slopes of the parameters (l, N, n_params): (l, N, F).
        """
        blocks = zip(self.blocks, params, slopes, self.split_rows(x), strict=True)
        parts = []
        for (likelihood, _), block, block_slopes, (_, observed) in blocks:
            features = likelihood.fisher_features(block, block_slopes)  # (l, N, n, F)
            flat = features.reshape(*features.shape[:2], -1)
            parts.append(_observed(flat, observed, features.shape[-1]))
        return np.concatenate(parts, axis=-1)

    def average(self, params: Sequence[Parameters], weights: np.ndarray) -> np.ndarray:
        """Mean over weighted draws: (M, K, B) -> (B, n_columns)."""
        blocks = zip(self.blocks, params, strict=True)
        return np.concatenate([part.average(block, weights) for (part, _), block in blocks], -1)

    def sample(
        self, params: Sequence[Parameters], generator: Generator, limits: Limits
    ) -> np.ndarray:
        """Sample rows from p(x|z), within limits: (..., n_columns)."""
        rows, first = [], 0
        for (likelihood, n), block in zip(self.blocks, params, strict=True):
            low, high, excluded, radius = (limit[first : first + n] for limit in limits)
            rows.append(likelihood.sample(block, generator, (low, high, excluded, radius)))
            first += n
        return np.concatenate(rows, axis=-1)


def _observed(values: np.ndarray, observed: np.ndarray | None, width: int = 1) -> np.ndarray:
    """Values (..., n width) of observed cells (N, n), zeros for the others."""
    return values if observed is None else values * observed.repeat(width, axis=-1)


def _slices(sizes: Sequence[int]) -> list[slice]:
    """Consecutive slices of these sizes."""
    ends = np.cumsum([0, *sizes]).tolist()
    return list(map(slice, ends, ends[1:]))
