"""Arithmetic of the columns' units: numpy is the oracle."""

import numpy as np
import pytest

from sklearn_vae.data.bounds import times_power_of_two
from sklearn_vae.data.fit import fit_encoder


@pytest.mark.parametrize("exponent", [-1080, -1001, -1000, -60, -1, 0, 7, 1000, 1074])
def test_multiplication_by_a_power_of_two_is_ldexp(exponent, rng):
    """To the bit, also of subnormal numbers and where the power itself would overflow."""
    values = rng.normal(size=(50, 3)) * [1.0, 2.0**-1015, 2.0**1000]
    values[0] = 0.0, np.nan, -np.inf
    exponents = np.array([exponent, 0, exponent])

    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(
            times_power_of_two(values, exponents), np.ldexp(values, exponents)
        )
        np.testing.assert_array_equal(
            times_power_of_two(values[:, 1:2], exponents[:1]),
            np.ldexp(values[:, 1:2], exponents[:1]),
        )


def test_the_recording_step_of_sorted_rows_is_found(rng):
    """The first thousand of them have one value, in which there is no step."""
    values = np.where(rng.random(5000) < 0.3, 0, 0.25 * rng.integers(1, 400, 5000))

    for rows in (values, np.sort(values)):
        (columns,) = fit_encoder(rows[:, None], None, "gaussian", None).groups
        assert columns.steps == [0.25]
