"""Seeds of named random streams, all of which follow from one integer."""

from enum import IntEnum
from typing import Any

import numpy as np

# Type of the parameter random_state, as in scikit-learn.
RandomState = int | np.random.RandomState | None

# The largest seed that scikit-learn takes
MAX_SEED = (1 << 32) - 1
# Draws of a score, and imputed tables, at the most: Sobol points of them all exist at once
MAX_DRAWS = 1 << 16


class Stream(IntEnum):
    """Purpose of a stream of random numbers."""

    WEIGHTS = 0
    SPLIT = 1
    ROWS = 2
    NOISE = 3
    VALIDATION = 4
    SCORE = 5
    SAMPLE = 6
    RESTART = 7
    PRIOR = 8
    CALIBRATION = 9
    DEQUANTIZE = 10
    INPUT = 11
    MASK = 12
    CLUSTERS = 14
    WORDS = 15
    DROPOUT = 16
    CONDITIONAL = 17
    LEVELS = 19


def draw_seed(random_state: Any) -> int:
    """Convert scikit-learn's ``random_state`` to the seed of all random streams, below 2**32.

    None takes fresh entropy from the operating system, an integer is used as it is, and a
    RandomState gives its next integer.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(np.iinfo(np.int32).max))
    return int(random_state)


def stream_seed(seed: int, stream: Stream, *indices: int) -> int:
    """Seed of the stream for one purpose and its indices (of a layer, an iteration, ...).

    A purpose always has the same number of indices: trailing zeros do not count.
    """
    return int(np.random.SeedSequence([seed, stream, *indices]).generate_state(1)[0])


def start_seeds(seed: int, n_starts: int) -> list[int]:
    """Seeds of several starts; the first one has the seed itself."""
    return [seed, *(stream_seed(seed, Stream.RESTART, k) for k in range(1, n_starts))]
