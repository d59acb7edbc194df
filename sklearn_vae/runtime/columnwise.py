"""Joint likelihood of columns whose parameters all depend on the row, in numpy.

It is the counterpart of :class:`sklearn_vae.likelihoods.columnwise.Columnwise`.
"""

from collections.abc import Sequence

import numpy as np

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

    def split_rows(self, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Values of encoded rows (..., n_columns), 0 for NaN, and observed (..., n), by block."""
        is_missing = np.isnan(x)
        x = np.where(is_missing, 0.0, x)
        blocks = zip(self.blocks, self._columns, strict=True)
        return [
            (x[..., part], ~is_missing[..., part][..., :: likelihood.width])
            for (likelihood, _), part in blocks
        ]

    def log_prob(self, params: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Log-density of the observed values of rows: (N, n_params), (N, n_columns) -> (N,)."""
        blocks = zip(self.blocks, self.split_params(params), self.split_rows(x), strict=True)
        total = np.zeros(len(x))
        for (likelihood, _), block, (values, observed) in blocks:
            total += (likelihood.log_prob(block, values) * observed).sum(-1)
        return total

    def gradient(self, params: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Gradient of the log-density in the parameters: (N, n_params), (N, n_columns)."""
        blocks = zip(self.blocks, self.split_params(params), self.split_rows(x), strict=True)
        slopes = [
            likelihood.gradient(block, values, number) * np.repeat(observed, size, axis=-1)
            for (likelihood, _), block, (values, observed) in blocks
            for number, size in enumerate(likelihood.param_sizes)
        ]
        return np.concatenate(slopes, axis=-1)

    def fisher_features(self, params: np.ndarray, slopes: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Features whose inner products are the Fisher information about z, of observed values.

        Parameters (N, n_params), their slopes (l, N, n_params) and rows -> (l, N, F).
        """
        blocks = zip(
            self.blocks, self.split_params(params), self.split_params(slopes), self.split_rows(x),
            strict=True,
        )  # fmt: skip
        features = [
            likelihood.fisher_features(block, slopes) * observed[..., None]
            for (likelihood, _), block, slopes, (_, observed) in blocks
        ]
        return np.concatenate([part.reshape(*part.shape[:2], -1) for part in features], axis=-1)

    def average(self, params: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Mean over weighted draws: (K, B, n_params), (K, B) -> (B, n_columns)."""
        blocks = zip(self.blocks, self.split_params(params[None]), strict=True)
        means = [likelihood.average(block, weights[None]) for (likelihood, _), block in blocks]
        return np.concatenate(means, axis=-1)

    def sample(
        self, params: np.ndarray, generator: np.random.Generator, limits: Limits
    ) -> np.ndarray:
        """Sample rows from p(x|z), within limits: (N, n_columns)."""
        rows, first = [], 0
        for (likelihood, n), block in zip(self.blocks, self.split_params(params), strict=True):
            low, high, excluded, radius = (limit[first : first + n] for limit in limits)
            rows.append(likelihood.sample(block, generator, (low, high, excluded, radius)))
            first += n
        return np.concatenate(rows, axis=-1)


def _slices(sizes: Sequence[int]) -> list[slice]:
    """Consecutive slices of these sizes."""
    ends = np.cumsum([0, *sizes]).tolist()
    return list(map(slice, ends, ends[1:]))
