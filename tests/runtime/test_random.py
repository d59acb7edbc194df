"""Random numbers in numpy are those of scipy and of torch."""

import numpy as np
import pytest
import torch
from scipy.special import ndtri

from sklearn_vae.numerics import random
from sklearn_vae.runtime import functions
from sklearn_vae.runtime.random import MAX_DIMS, TorchGenerator, sobol_normal

SEEDS = [0, 7, (1 << 40) + 3]


@pytest.mark.parametrize(
    ("n_draws", "n_dims", "seed"),
    [(1, 2, 0), (2, 1, 1), (64, 3, 2), (100, 7, 3), (4096, 20, 4), (128, MAX_DIMS, 5)],
)
def test_sobol_points_are_those_of_scipy(n_draws, n_dims, seed):
    expected = random.sobol_normal(n_draws, n_dims, seed)

    np.testing.assert_allclose(sobol_normal(n_draws, n_dims, seed), expected, atol=1e-14)


@pytest.mark.parametrize("seed", SEEDS)
def test_numbers_are_those_of_torch(seed):
    """One stream of uniform, normal and permuted numbers; normal ones are made in blocks."""
    expected, actual = torch.Generator().manual_seed(seed), TorchGenerator(seed)
    for shape in ((1, 64, 2), (3, 5, 7), (2, 17)):
        normal = torch.randn(shape, generator=expected, dtype=torch.float64)
        uniform = torch.rand(shape, generator=expected, dtype=torch.float64)

        np.testing.assert_allclose(actual.standard_normal(shape), normal.numpy(), atol=1e-14)
        np.testing.assert_array_equal(actual.random(shape), uniform.numpy())
    for n in (0, 1, 4, 30, 500):
        order = torch.randperm(n, generator=expected)

        np.testing.assert_array_equal(actual.permutation(n), order.numpy())


@pytest.mark.parametrize("seed", SEEDS)
def test_few_normal_numbers_are_those_of_torch(seed):
    """They are made in pairs, and the second of a pair may wait for the next call."""
    expected, actual = torch.Generator().manual_seed(seed), TorchGenerator(seed)
    for shape in ((1, 1, 1), (3, 5), (2, 9), (2, 2), (1, 15), (16,), (7,)):
        normal = torch.randn(shape, generator=expected, dtype=torch.float64)

        np.testing.assert_allclose(actual.standard_normal(shape), normal.numpy(), atol=1e-14)


def test_normal_quantiles_are_those_of_scipy():
    probability = np.concatenate([[0, 1, 1e-300, 1 - 1e-16], np.linspace(0, 1, 999)])

    np.testing.assert_allclose(functions.ndtri(probability), ndtri(probability), rtol=1e-13)
