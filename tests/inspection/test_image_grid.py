"""Grids of images."""

import numpy as np
import pytest

from sklearn_vae.inspection import ReconstructionDisplay


def test_images_are_upright(ax):
    """The first pixel of a row is at the upper left."""
    X = np.zeros((1, 6))
    X[0, 0] = 1.0
    display = ReconstructionDisplay.from_predictions(X, X, image_shape=(2, 3), ax=ax)
    left, right, bottom, top = display.images_[0, 0].get_extent()
    (x0, y0), (x1, y1) = ax.transData.transform([(left, bottom), (right, top)])

    assert display.images_[0, 0].origin == "upper"
    assert x0 < x1
    assert y0 < y1


@pytest.mark.parametrize("image_shape", [(3, 2, 4), (2, 4, 3)])
def test_channels_may_come_first_or_last(image_shape, rng):
    """Colours are scaled to between 0 and 1."""
    X = rng.integers(0, 256, size=(2, 24)).astype(float)
    X[0, :2] = 0.0, 255.0
    image = X[0].reshape(image_shape)
    image = np.moveaxis(image, 0, -1) if image_shape[0] == 3 else image
    display = ReconstructionDisplay.from_predictions(X, X, image_shape=image_shape)

    np.testing.assert_allclose(display.images_[0, 0].get_array(), image / 255, atol=1e-12)


def test_a_single_channel_is_grey(rng):
    """The channel axis is dropped."""
    X = rng.random((2, 6))
    display = ReconstructionDisplay.from_predictions(X, X, image_shape=(1, 2, 3))

    np.testing.assert_allclose(display.images_[1, 1].get_array(), X[1].reshape(2, 3))
