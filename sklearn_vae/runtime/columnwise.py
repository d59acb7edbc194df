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
        self.widths = [n * likelihood.width for likelihood, n in blocks]
        self.sizes = [[n * size for size in likelihood.param_sizes] for likelihood, n in blocks]
        self.n_params = sum(map(sum, self.sizes))

    def split_params(self, params: np.ndarray) -> list[Parameters]:
        """Split parameters (..., n_params) by block."""
        ends = np.cumsum([size for sizes in self.sizes for size in sizes])
        parts = iter(np.split(params, ends[:-1], axis=-1))
        return [[next(parts) for _ in sizes] for sizes in self.sizes]

    def split_blocks(self, x: np.ndarray) -> list[np.ndarray]:
        """Split encoded rows (..., n_columns) by block."""
        return np.split(x, np.cumsum(self.widths)[:-1], axis=-1)

    def observed(self, x: np.ndarray) -> list[np.ndarray]:
        """Masks of the values that are not NaN, by block: (..., n_columns) -> (..., n) each."""
        pairs = zip(self.blocks, self.split_blocks(x), strict=True)
        return [~np.isnan(values[..., :: likelihood.width]) for (likelihood, _), values in pairs]

    def log_prob(self, params: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Log-density of the observed values of rows: (N, n_params), (N, n_columns) -> (N,)."""
        blocks = zip(
            self.blocks, self.split_params(params), self.split_blocks(np.nan_to_num(x)),
            self.observed(x), strict=True,
        )  # fmt: skip
        total = np.zeros(len(x))
        for (likelihood, _), block, values, observed in blocks:
            total += (likelihood.log_prob(block, values) * observed).sum(-1)
        return total

    def gradient(self, params: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Gradient of the log-density in the parameters: (N, n_params), (N, n_columns)."""
        blocks = zip(
            self.blocks, self.split_params(params), self.split_blocks(np.nan_to_num(x)),
            self.observed(x), strict=True,
        )  # fmt: skip
        slopes = [
            likelihood.gradient(block, values, number) * np.repeat(observed, size, axis=-1)
            for (likelihood, _), block, values, observed in blocks
            for number, size in enumerate(likelihood.param_sizes)
        ]
        return np.concatenate(slopes, axis=-1)

    def fisher_features(self, params: np.ndarray, slopes: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Features whose inner products are the Fisher information about z, of observed values.

        Parameters (N, n_params), their slopes (l, N, n_params) and rows -> (l, N, F).
        """
        blocks = zip(
            self.blocks, self.split_params(params), self.split_params(slopes), self.observed(x),
            strict=True,
        )  # fmt: skip
        features = [
            likelihood.fisher_features(block, slopes) * observed[..., None]
            for (likelihood, _), block, slopes, observed in blocks
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
