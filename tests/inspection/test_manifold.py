"""Grids of decoded images."""

import numpy as np
import pytest
from scipy import stats

from sklearn_vae import VAETransformer
from sklearn_vae.inspection import ManifoldDisplay


def test_the_grid_is_at_quantiles_of_the_prior(digits):
    """The first component increases to the right, the second upwards."""
    X, _, vae = digits
    display = ManifoldDisplay.from_estimator(
        vae, X, components=(2, 0), n_steps=3, image_shape=(8, 8)
    )
    low, _, high = expected = stats.norm.ppf([0.025, 0.5, 0.975])
    right_below = vae.inverse_transform([[low, 0, high]])[0]

    np.testing.assert_allclose(display.values, expected, atol=1e-12)
    np.testing.assert_allclose(
        display.images_[0, 2].get_array().ravel(), right_below, rtol=1e-5, atol=1e-5
    )
    left, _, bottom, top = display.images_[0, 2].get_extent()
    x, y = display.ax_.transData.transform((left, bottom))
    assert (x, y) > tuple(display.ax_.transData.transform((0.5, -0.6)))
    assert y < display.ax_.transData.transform((left, top))[1]
    assert display.ax_.get_xlabel() == "component 2"
    assert display.ax_.get_ylabel() == "component 0"


def test_the_grid_spans_the_components_of_most_variance(digits):
    """By default."""
    X, _, vae = digits
    display = ManifoldDisplay.from_estimator(vae, X, n_steps=2, image_shape=(8, 8))

    assert display.components == np.argsort(-vae.transform(X).var(axis=0))[:2].tolist()


def test_codes_that_are_classes_are_refused():
    X = np.random.default_rng(0).normal(size=(60, 4))
    vae = VAETransformer(3, posterior="categorical", max_iter=1, random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"real numbers, and some .* are classes"):
        ManifoldDisplay.from_estimator(vae, X, image_shape=(2, 2))
