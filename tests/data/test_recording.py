"""Arithmetic of the columns' units: numpy is the oracle."""

import numpy as np
import pytest

from sklearn_vae.data.columns.base import times_power_of_two
from sklearn_vae.data.fields import Field
from sklearn_vae.data.fit import fit_encoder
from sklearn_vae.data.training_column import TrainingColumn, recording
from sklearn_vae.likelihoods import Gaussian


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


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([3.0, 1.0, 1.0, 2.0, 7.0], 1.0),
        ([0.25, 0.5, 0.25, 1.5], 0.25),
        ([10.0, 20.0, 20.0, 60.0], 10.0),
        ([0.0, 2.0, 5.0, 5.0], 1.0),
        (np.array([0.1, 0.3, 0.3, 0.7], dtype=np.float32), 0.1),
        (0.01 * np.array([101, 102, 102, 250]) / 3, 0.01 / 3),
        (0.1 * np.arange(1, 40) * 3, 0.3),  # as 0.8999999999999999
        (np.float32(0.1) * np.arange(1, 40, dtype=np.float32), 0.1),
        ([0.0, 1.0, 1.0, np.pi], 0.0),
        ([1.0, 2.0, 3.0], 1.0),
    ],
)
def test_recording_steps_are_found_in_any_unit(values, step):
    """All values are multiples, counted from the smallest."""
    column = TrainingColumn(0, np.asarray(values), None, len(values), Field(0, "number", None, ""))

    assert recording(column)[1] == pytest.approx(step, rel=1e-5)


def test_the_recording_step_of_sorted_rows_is_found(rng):
    """The first thousand of them have one value, in which there is no step."""
    values = np.where(rng.random(5000) < 0.3, 0, 0.25 * rng.integers(1, 400, 5000))

    for rows in (values, np.sort(values)):
        (columns,) = fit_encoder(rows[:, None], None, "gaussian").groups
        assert columns.steps == [0.25]


@pytest.mark.parametrize("likelihood", ["gaussian", "lognormal"])
def test_recording_steps_are_differences_of_encoded_values(likelihood, rng):
    """Of two neighbours; of logarithms, whose steps differ, the least one."""
    x = np.round(rng.gamma(9.0, size=(300, 1)), 1)
    columns = fit_encoder(x, None, likelihood, is_plain=True)
    largest = np.array([[x.max() - 0.1], [x.max()]])

    np.testing.assert_allclose(columns.recording_steps, np.diff(columns.transform(largest)[:, 0]))


@pytest.mark.parametrize("step", [10.0, 1.0, 0.25, 0.1, 1 / 1.8])
def test_one_finer_value_does_not_decide_how_a_column_is_read(step, rng):
    """As 171.25 among whole centimetres: no point masses, and samples are multiples of the step."""
    multiples = 300 + np.rint(4 * rng.normal(size=160))
    for finer in (300.55, 300.125, 300.5, 319.5, 0.3):
        multiples[7] = finer
        (columns,) = fit_encoder(step * multiples[:, None], None, "auto").groups
        samples = columns.on_steps(np.linspace(*columns.bounds[0], 99)[:, None]) / step

        assert columns.likelihood == Gaussian() or finer < 99  # far values are no test of steps
        np.testing.assert_allclose(columns.steps, step)
        np.testing.assert_allclose(samples, np.rint(samples), atol=1e-6)


def test_weights_act_as_copies_on_recording_steps(rng):
    """Also where they decide whether a finer value is one of few."""
    x = np.append(rng.integers(0, 9, 60), 2.5)
    for weight, expected in ((1, (0, 1.0, (0.0, 8.0))), (7, (1, 0.5, (0.0, 8.0)))):
        weights = np.append(rng.integers(1, 4, 60), weight)
        weighted = TrainingColumn.of_numbers(x, weights.astype(float))

        assert recording(weighted) == expected
        assert recording(TrainingColumn.of_numbers(np.repeat(x, weights))) == expected


def test_finer_values_that_recur_set_the_step(rng):
    """Quarters beside whole numbers; amounts of cents beside many zeros; half floors."""
    whole = rng.integers(0, 40, 2000)
    quarters = whole + 0.25 * (rng.random(2000) < 0.03)
    cents = np.where(rng.random(2000) < 0.98, 0, rng.integers(1, 9999, 2000) / 100)
    floors = rng.choice([1, 1.5, 2, 2.5, 3], 2000, p=[0.5, 0.005, 0.475, 0.005, 0.015])

    steps = [recording(TrainingColumn.of_numbers(x))[1] for x in (quarters, cents, floors)]

    assert steps == [0.25, 0.01, 0.5]
