"""Random numbers of torch's generator on the CPU, so that scores draw what the estimator's draw."""

import math

import numpy as np

# Normal numbers are made in blocks of so many, and fewer of them one by one.
BLOCK = 16


class TorchGenerator:
    """Counterpart of :class:`torch.Generator`, in double precision.

    Parameters
    ----------
    seed : int
        Seed of the Mersenne Twister.
    """

    def __init__(self, seed: int):
        self.twister = np.random.RandomState(seed % (1 << 32))
        self.next_normal: list[float] = []  # of few normal numbers, which are made in pairs

    def _integers(self, n: int) -> np.ndarray:
        """Integers of 32 bits: (n,)."""
        return self.twister.randint(1 << 32, size=n, dtype=np.uint32).astype(np.int64)

    def permutation(self, n: int) -> np.ndarray:
        """Random permutation, as ``torch.randperm``: (n,)."""
        order = list(range(n))
        for i, number in enumerate(self._integers(max(n - 1, 0)).tolist()):
            j = i + number % (n - i)
            order[i], order[j] = order[j], order[i]
        return np.array(order, dtype=int)

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uniform numbers in [0, 1), as ``torch.rand``."""
        high, low = self._integers(2 * math.prod(shape)).reshape(-1, 2).T
        return ((high % (1 << 21) << 32 | low) / (1 << 53)).reshape(shape)

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal numbers, as ``torch.randn``."""
        n = math.prod(shape)
        if n < BLOCK:
            return np.array([self._normal() for _ in range(n)]).reshape(shape)
        n_whole = n // BLOCK * BLOCK
        normal = _box_muller(self.random((n,))[:n_whole])
        if n_whole < n:  # the last block overlaps the one before
            last = _box_muller(self.random((BLOCK,)))
            normal = np.concatenate([normal[: n - BLOCK], last])
        return normal.reshape(shape)

    def _normal(self) -> float:
        """One of few standard normal numbers."""
        if self.next_normal:
            return self.next_normal.pop()
        first, second = self.random((2,)).tolist()
        radius, angle = math.sqrt(-2 * math.log1p(-second)), 2 * math.pi * first
        self.next_normal.append(radius * math.sin(angle))
        return radius * math.cos(angle)


def _box_muller(uniform: np.ndarray) -> np.ndarray:
    """Turn blocks of uniform numbers into normal ones: (n,) -> (n,)."""
    first, second = uniform.reshape(-1, 2, BLOCK // 2).swapaxes(0, 1)
    radius, angle = np.sqrt(-2 * np.log(1 - first)), 2 * math.pi * second
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
