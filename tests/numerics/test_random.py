"""Random numbers: named streams, prefixes, evenly spread points, no global state."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.stats import qmc

from sklearn_vae.numerics.random import (
    MAX_DIMS,
    Stream,
    draw_seed,
    make_generator,
    normal_rows,
    sobol_normal,
    stream_seed,
)
from tests.conftest import run_python


def test_a_random_state_gives_seeds_as_in_scikit_learn():
    """A number is its own seed; two fits from one RandomState differ."""
    given, same = np.random.RandomState(3), np.random.RandomState(3)
    expected = [same.randint(np.iinfo(np.int32).max) for _ in range(2)]

    assert [draw_seed(42), draw_seed(np.int64(7))] == [42, 7]
    assert expected == [draw_seed(given), draw_seed(given)]


def test_no_random_state_means_a_new_seed_each_time():
    """random_state=None promises no repetition."""
    seeds = [draw_seed(None) for _ in range(3)]

    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_streams_and_places_give_different_seeds():
    """Weights, order and noise that shared a stream would be correlated."""
    places = product([0, 1, 2**32 - 1], Stream, [(1,), (2,), (1, 1), (1, 2), (2, 1)])
    seeds = [stream_seed(seed, stream, *place) for seed, stream, place in places]

    assert len(set(seeds)) == len(seeds)


def test_a_stream_does_not_depend_on_what_was_drawn_before():
    """An epoch's numbers follow from its number alone, so training can go on where it stopped."""
    first = torch.rand(5, generator=make_generator(0, Stream.ROWS, 3))
    torch.rand(99, generator=make_generator(0, Stream.ROWS, 2))
    again = torch.rand(5, generator=make_generator(0, Stream.ROWS, 3))

    assert first.tolist() == again.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_rows", [1, 7, 16, 17, 250])
def test_first_dimensions_are_the_same_however_many_follow(n_rows, dtype):
    """A model with 2 latent dimensions sees the numbers of one with 9."""
    few, many = (
        normal_rows(n_dims, n_rows, make_generator(0, Stream.NOISE), dtype) for n_dims in (2, 9)
    )

    assert (9, n_rows) == many.shape
    assert dtype == many.dtype
    torch.testing.assert_close(few, many[:2], rtol=0, atol=0)


@pytest.mark.parametrize("n_rows", [5, 16, 1000])
def test_normal_rows_are_standard_normal(n_rows, generator):
    """Cutting blocks of 16 leaves the distribution alone."""
    draws = normal_rows(4000 // n_rows, n_rows, generator, torch.float64).numpy().ravel()

    assert stats.kstest(draws, "norm").pvalue > 0.01


@pytest.mark.parametrize("n_dims", [1, 2, 8])
@pytest.mark.parametrize("n_draws", [64, 256])
def test_sobol_points_have_the_moments_of_the_normal_closer_than_chance(n_draws, n_dims):
    """A score that all rows share the points of must not err with them."""
    points = [sobol_normal(n_draws, n_dims, seed) for seed in range(10)]
    means = np.array([p.mean(axis=0) for p in points])
    squares = np.array([np.square(p).mean(axis=0) for p in points])
    # standard errors of averages over random draws of z and of z squared
    by_chance = np.array([1, np.sqrt(2)]) / np.sqrt(n_draws)

    assert np.sqrt(np.square(means).mean()) < by_chance[0] / 5
    assert np.sqrt(np.square(squares - 1).mean()) < by_chance[1] / 2.5


@pytest.mark.parametrize("n_draws", [1, 2, 3, 64, 100])
def test_sobol_points_follow_from_their_seed(n_draws):
    """The same row gets the same score twice, and other scramblings measure its error."""
    first, again, other = (sobol_normal(n_draws, 3, seed) for seed in (5, 5, 6))

    assert (n_draws, 3) == first.shape
    assert np.isfinite(first).all()
    assert first.tolist() == again.tolist()
    assert not np.isclose(first, other).any()
    assert qmc.Sobol.MAXDIM == MAX_DIMS


INTERRUPTED = """
import numpy as np
from sklearn_vae.numerics.random import sobol_normal

load = np.load
def interrupt(*args, **kwargs):
    raise KeyboardInterrupt
np.load = interrupt
try:
    sobol_normal(4, 2, 0)
except KeyboardInterrupt:
    np.load = load
    print(len(np.unique(sobol_normal(4, 2, 0))))
"""


def test_ctrl_c_while_scipy_reads_its_table_leaves_no_equal_points():
    """scipy ignores it, and its points were all equal, also for later fits of the same seed."""
    assert run_python(INTERRUPTED).split() == ["8"]
