"""Draws of missing cells are moved to the trees' means, and spread around them."""

import numpy as np

from sklearn_vae.imputation import AveragedImputation


class Identity:
    """Encoder of columns without bounds, steps and relations."""

    def on_steps(self, X):
        return X

    within_bounds = on_steps

    def complete(self, X, values, generator):
        return values


def imputation(n_features, **attributes):
    """Make an imputation of real columns, whose draws are given."""
    mask = np.ones(n_features, dtype=bool)
    return AveragedImputation(None, Identity(), mask, **attributes)


def test_moved_draws_have_the_moments_of_a_mixture(rng):
    """Of two distributions, whose means differ by the shift; the spread multiplies deviations."""
    rows = np.array([[np.nan, np.nan, 1.0]] * 50)
    mean = np.where(np.isnan(rows), [[2.0, 5.0, 0.0]], rows)
    draws = np.where(np.isnan(rows), mean + rng.normal(size=(4000, 50, 3)), rows)
    shift, share, spread = np.isnan(rows) * [[3.0, 0.0, 0.0]], 0.25, np.array([0.5, 1.0, 1.0])
    moved = imputation(3, trees_weight=share, spread=spread).move(draws, rows, mean, shift, seed=0)

    np.testing.assert_allclose(moved[:, :, 0].mean(), 2 + 0.25 * 3, atol=0.01)
    # the law of total variance
    variance = 0.5**2 * (1 + 0.25 * 0.75 * 3**2)
    np.testing.assert_allclose(moved[:, :, 0].var(axis=0).mean(), variance, rtol=0.01)
    np.testing.assert_array_equal(moved[:, :, 1:], draws[:, :, 1:])


def test_the_share_of_moved_draws_is_as_near_as_whole_numbers_are():
    """Seeds round it up or down, so that it is right on average."""
    rows, draws = np.array([[np.nan]]), np.zeros((10, 1, 1))
    counts = [
        imputation(1, trees_weight=0.23).move(draws, rows, rows * 0, np.ones((1, 1)), seed).sum()
        for seed in range(200)
    ]

    assert set(counts) == {2.0, 3.0}
    assert 2.2 < np.mean(counts) < 2.4
