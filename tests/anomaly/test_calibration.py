"""Conformal p-values and thresholds."""

import numpy as np
import pytest

from sklearn_vae.anomaly.calibration import conformal_p_values, conformal_threshold


def test_p_values_of_exchangeable_scores_are_uniform():
    """P(p <= k / (n + 1)) = k / (n + 1), exactly, over all ranks of a new score."""
    calibration = np.arange(9.0)
    ranks = np.arange(10) - 0.5  # each rank of a new score has the same probability

    np.testing.assert_allclose(
        np.sort(conformal_p_values(ranks, calibration)), np.arange(1, 11) / 10
    )


# 0.29 * 200 is less than 58 in double precision
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.1, 0.29, 0.3, 0.5])
def test_scores_below_the_threshold_have_p_values_of_at_most_alpha(alpha):
    """Or of the least that there is, 1 / (n + 1)."""
    calibration = np.sort(np.random.default_rng(0).normal(size=199))
    scores = np.random.default_rng(1).normal(size=1000)
    is_below = scores < conformal_threshold(calibration, alpha)

    np.testing.assert_array_equal(
        is_below, conformal_p_values(scores, calibration) <= max(alpha, 1 / 200)
    )
