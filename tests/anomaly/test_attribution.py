"""Feature attribution of anomaly scores."""

import numpy as np
import pytest

from sklearn_vae.anomaly.attribution import softplus_attribution


def test_attributions_add_up_to_the_deviation_in_the_order_of_the_excess():
    """Hand-made numbers: a deviation of 0, of either sign, and an excess beyond any scale."""
    excess = np.array([[5.0, 0.0, -3.0]] * 3 + [[1e200, 1.0, -1e200]] * 2)
    deviation = np.array([4.0, -4.0, 0.0, 1e200, -2.0])
    attributions = softplus_attribution(deviation, excess, np.isnan(excess))

    np.testing.assert_allclose(attributions.sum(axis=1), deviation, rtol=1e-12)
    assert (np.diff(attributions, axis=1) <= 0).all()
    assert attributions[0, 0] == pytest.approx(
        4 * np.log1p(np.exp(5)) / np.log1p(np.exp([5.0, 0.0, -3.0])).sum()
    )
