"""Sobol points, without PyTorch."""

from functools import lru_cache

import numpy as np

# scipy's Sobol points have no more dimensions
MAX_DIMS = 21201
# Sets of points of no more numbers are kept for the next call.
MAX_NUMBERS_KEPT = 1 << 13


def sobol_normal(n_draws: int, n_dims: int, seed: int) -> np.ndarray:
    """Scrambled Sobol points [1]_ (quasi-Monte Carlo), made standard normal: (n_draws, n_dims).

    In double precision. Averages over them err less than those over as many random points, over
    a power of two the least. The seed decides the scrambling.

    References
    ----------
    .. [1] A. B. Owen, "Scrambling Sobol' and Niederreiter-Xing points",
       Journal of Complexity 14, 1998.
    """
    if n_draws * n_dims > MAX_NUMBERS_KEPT:
        return _sobol_normal.__wrapped__(n_draws, n_dims, seed)
    return _sobol_normal(n_draws, n_dims, seed).copy()


@lru_cache(maxsize=64)
def _sobol_normal(n_draws: int, n_dims: int, seed: int) -> np.ndarray:
    from scipy.special import ndtri
    from scipy.stats import qmc  # its import takes most of a second

    engine = qmc.Sobol(n_dims, scramble=True, rng=np.random.default_rng(seed))
    # a power of two is drawn and cut: Sobol points are balanced only in such blocks
    points = engine.random_base2(max(int(np.ceil(np.log2(n_draws))), 0))[:n_draws]
    if points.size > n_dims and np.array_equal(points[0], points[1]):
        raise KeyboardInterrupt  # Ctrl-C while scipy read its table, which it ignores
    smallest = np.finfo(np.float64).eps
    return ndtri(np.clip(points, smallest, 1 - smallest))
