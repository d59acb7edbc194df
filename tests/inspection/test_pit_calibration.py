"""Probability integral transforms against the uniform distribution."""

import numpy as np
import pytest
from scipy import stats

from sklearn_vae.inspection import PITCalibrationDisplay
from sklearn_vae.metrics import pit_calibration


def test_transforms_are_those_of_pit_calibration(named):
    """As distribution functions; the constant column is not drawn."""
    table, vae = named
    display = PITCalibrationDisplay.from_estimator(vae, table, n_draws=64)
    pit = pit_calibration(vae, table, n_draws=64).pit
    x, y = display.lines_[1].get_data()
    below = stats.ecdf(pit[:, 1]).cdf.evaluate(x[1:-1])

    assert sorted(display.lines_) == [0, 1, 2, 3]
    np.testing.assert_allclose(y[1:-1], below, atol=1e-12)


def test_the_band_is_that_of_the_kolmogorov_smirnov_test():
    """Curves of uniform transforms leave it with a probability of 5 %."""
    n = 40
    display = PITCalibrationDisplay(pit=np.random.default_rng(0).uniform(size=(n, 1))).plot()
    upper = display.band_.get_paths()[0].vertices
    height = upper[:, 1][np.isclose(upper[:, 0], 0)].max()
    drawn = np.random.default_rng(1).uniform(size=(2000, n))
    off = [stats.kstest(row, "uniform").statistic for row in drawn]

    assert (off < height).mean() == pytest.approx(0.95, abs=0.015)


def test_only_the_worst_columns_are_in_the_legend(rng):
    """With their Kolmogorov-Smirnov statistics, in descending order."""
    pit = rng.uniform(size=(100, 9))
    pit[:, 4] **= 4
    display = PITCalibrationDisplay(pit=pit).plot()
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    distance = stats.kstest(pit[:, 4], "uniform").statistic

    assert len(labels) == 7
    assert labels[1] == f"4, KS {distance:.2f}"
