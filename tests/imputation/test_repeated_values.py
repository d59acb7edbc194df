"""Values that repeat, which draws are rounded to."""

from dataclasses import replace

import numpy as np
import pytest

from sklearn_vae.imputation.repeated_values import RepeatedValues


@pytest.fixture
def X():
    """A rating, a real number, a rating with missing cells, a column of zeros, an empty one."""
    rng = np.random.default_rng(0)
    X = np.column_stack(
        [
            rng.choice([1.0, 2.0, 4.0], 200),
            rng.normal(size=200),
            rng.choice([0.5, 9.0, np.nan], 200),
            np.zeros(200),
            np.full(200, np.nan),
        ]
    )
    return X


def fit(X, weight=None, without=()):
    return RepeatedValues.fit(X, weight, ~np.isin(np.arange(X.shape[1]), without))


def test_values_are_those_of_columns_whose_values_repeat(X):
    repeated = fit(X)

    assert repeated.columns.tolist() == [0, 2, 3]
    assert [values.tolist() for values in repeated.values] == [[1, 2, 4], [0.5, 9], [0]]
    assert fit(X, without=[2]).columns.tolist() == [0, 3]


def test_numbers_are_rounded_to_the_nearest_value(X):
    """Compared with all distances; ties may go to either side."""
    rng = np.random.default_rng(1)
    draws = rng.normal(2, 4, (3, 50, 5))
    rounded = fit(X).round(draws)

    np.testing.assert_array_equal(rounded[:, :, [1, 4]], draws[:, :, [1, 4]])
    for column in (0, 2, 3):
        values = np.unique(X[~np.isnan(X[:, column]), column])
        distance = np.abs(draws[:, :, [column]] - values)
        np.testing.assert_array_equal(rounded[:, :, column], values[distance.argmin(axis=-1)])


def test_the_largest_numbers_are_rounded():
    largest = np.finfo(float).max
    X = np.repeat([[-largest], [largest]], 4, axis=0)

    assert fit(X).round(np.array([[1e300], [-1e300]])).tolist() == [[largest], [-largest]]


@pytest.mark.parametrize(
    "values",
    [
        [[1, 2, 4], [0.5, 9]],
        [[1, 2, 4], [], [0]],
        [[1, 2, 2], [0.5, 9], [0]],
        [[1, np.nan, 4], [0.5, 9], [0]],
    ],
)
def test_wrong_values_are_refused(X, values):
    with pytest.raises(ValueError, match="values"):
        replace(fit(X), values=[np.array(each, float) for each in values]).check()
