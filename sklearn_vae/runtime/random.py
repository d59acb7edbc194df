"""Random numbers of scipy: scrambled Sobol points.

Scores draw what the estimator's draw. The points are those of ``scipy.stats.qmc.Sobol`` with the
same seed. ``sobol.npz`` has the direction numbers of S. Joe and F. Y. Kuo, "Constructing Sobol
Sequences with Better Two-Dimensional Projections", SIAM Journal on Scientific Computing 30, 2008
(the file new-joe-kuo-6; ``sobol-LICENSE.txt`` is its licence) for the first 1,024 dimensions.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from sklearn_vae.runtime.functions import ndtri

# Bits of a coordinate.
BITS = 30
# Dimensions at most.
MAX_DIMS = 1024


@lru_cache(maxsize=32)
def sobol_normal(n_draws: int, n_dims: int, seed: int) -> np.ndarray:
    """Scrambled Sobol points, made standard normal: (n_draws, n_dims), read-only.

    They are those of ``sklearn_vae.numerics.random.sobol_normal``. The last ones are kept.

    References
    ----------
    .. [1] A. B. Owen, "Scrambling Sobol' and Niederreiter-Xing points",
       Journal of Complexity 14, 1998.
    """
    n_columns = max(n_draws - 1, 0).bit_length()
    generator = np.random.default_rng(seed).spawn(1)[0]
    powers = 2 ** np.arange(BITS)
    shift = generator.integers(2, size=(n_dims, BITS), dtype=np.uint32) @ powers
    matrix = np.tril(generator.integers(2, size=(n_dims, BITS, BITS), dtype=np.uint32))
    matrix[:, np.arange(BITS), np.arange(BITS)] = 1
    bits = _direction_numbers(n_dims, n_columns)[..., None] >> np.arange(BITS)[::-1] & 1
    scrambled = (bits @ matrix.swapaxes(1, 2) % 2) @ powers[::-1]  # (n_dims, n_columns)
    index = np.arange(n_draws)[:, None]
    gray_code, points = index ^ (index >> 1), np.tile(shift, (n_draws, 1))
    for column, numbers in enumerate(scrambled.T):
        points ^= (gray_code >> column & 1) * numbers
    smallest = np.finfo(np.float64).eps
    normal = ndtri(np.clip(points / 2**BITS, smallest, 1 - smallest))
    normal.flags.writeable = False
    return normal


def _direction_numbers(n_dims: int, n_columns: int) -> np.ndarray:
    """First columns of the generator matrices, as numbers of ``BITS`` bits: (n_dims, n_columns)."""
    polynomials, first_numbers = _table()
    numbers = np.ones((n_dims, n_columns), dtype=np.int64)
    for dim in range(1, n_dims):
        polynomial, row = int(polynomials[dim]), first_numbers[dim].tolist()
        degree = polynomial.bit_length() - 1
        for column in range(degree, n_columns):
            number = row[column - degree]
            for k in range(1, degree + 1):
                if polynomial >> (degree - k) & 1:
                    number ^= row[column - k] << k
            row[column : column + 1] = [number]
        numbers[dim] = row[:n_columns]
    return numbers << np.arange(BITS - 1, BITS - 1 - n_columns, -1)


@lru_cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    """Primitive polynomials (MAX_DIMS,) and initial numbers (MAX_DIMS, 13)."""
    with np.load(Path(__file__).with_name("sobol.npz")) as table:
        return table["polynomial"], table["number"]
