"""Random numbers in numpy are those of scipy."""

import numpy as np
import pytest
from scipy.special import ndtri

from sklearn_vae.numerics import random
from sklearn_vae.runtime import functions
from sklearn_vae.runtime.random import MAX_DIMS, sobol_normal


@pytest.mark.parametrize(
    ("n_draws", "n_dims", "seed"),
    [(1, 2, 0), (2, 1, 1), (64, 3, 2), (100, 7, 3), (4096, 20, 4), (128, MAX_DIMS, 5)],
)
def test_sobol_points_are_those_of_scipy(n_draws, n_dims, seed):
    expected = random.sobol_normal(n_draws, n_dims, seed)

    np.testing.assert_allclose(sobol_normal(n_draws, n_dims, seed), expected, atol=1e-14)


def test_normal_quantiles_are_those_of_scipy():
    probability = np.concatenate([[0, 1, 1e-300, 1 - 1e-16], np.linspace(0, 1, 999)])

    np.testing.assert_allclose(functions.ndtri(probability), ndtri(probability), rtol=1e-13)
