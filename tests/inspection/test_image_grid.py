"""Grids of images."""

import numpy as np
import pytest

from sklearn_vae.inspection import ReconstructionDisplay


def test_images_are_upright(ax):
    """The first pixel of a row is at the upper left."""
    X = np.zeros((1, 6))
    X[0, 0] = 1.0
    display = ReconstructionDisplay(X=X, X_reconstructed=X, image_shape=(2, 3)).plot(ax)
    left, right, bottom, top = display.images_[0, 0].get_extent()
    (x0, y0), (x1, y1) = ax.transData.transform([(left, bottom), (right, top)])

    assert display.images_[0, 0].origin == "upper"
    assert x0 < x1
    assert y0 < y1


@pytest.mark.parametrize("n_channels", [1, 3])
def test_colours_are_scaled_and_a_single_channel_is_grey(n_channels, rng):
    """Colours are between 0 and 1."""
    X = rng.integers(0, 256, size=(2, 8 * n_channels)).astype(float)
    X[0, :2] = 0.0, 255.0
    shape = 2, 4, n_channels
    display = ReconstructionDisplay(X=X, X_reconstructed=X, image_shape=shape).plot()
    expected = X[0].reshape(2, 4) if n_channels == 1 else X[0].reshape(shape) / 255

    np.testing.assert_allclose(display.images_[0, 0].get_array(), expected, atol=1e-12)
