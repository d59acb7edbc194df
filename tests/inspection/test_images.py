"""Images above their reconstructions, and decoded from grids of codes."""

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA

from sklearn_vae import VAETransformer
from sklearn_vae.inspection import ManifoldDisplay, ReconstructionDisplay
from tests.inspection.conftest import pixels


def test_originals_are_drawn_above_their_reconstructions(digits):
    """Pixels of X, and of the inverse_transform of its codes."""
    X, _, vae = digits
    display = ReconstructionDisplay.from_estimator(vae, X, image_shape=(8, 8), n_rows=4)
    back = vae.inverse_transform(vae.transform(X))
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    above, below = (image.get_extent() for image in display.images_[:, 0])

    np.testing.assert_allclose(pixels(display.images_)[0], X[:4].reshape(4, 8, 8))
    np.testing.assert_allclose(pixels(display.images_)[1], back[:4].reshape(4, 8, 8))
    assert names == ["original", "reconstructed"]
    assert (
        display.ax_.transData.transform((0, above[2]))[1]
        > (display.ax_.transData.transform((0, below[2]))[1])
    )
    assert all(image.get_clim() == (X.min(), X.max()) for image in display.images_.flat)


def test_true_rows_are_drawn_above_the_input(digits):
    """Missing pixels have a colour that is no grey."""
    X, _, vae = digits
    holes = X[:3].copy()
    holes[:, :20] = np.nan
    filled = vae.impute(holes)
    display = ReconstructionDisplay(
        X=holes, X_reconstructed=filled, X_true=X[:3], image_shape=(8, 8)
    ).plot(cmap="gray_r")
    drawn = pixels(display.images_).reshape(3, 3, 64)
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    colours = display.images_[1, 0].to_rgba(np.ma.masked_invalid(holes[0].reshape(8, 8)))

    np.testing.assert_allclose(drawn[0], X[:3])
    np.testing.assert_allclose(drawn[2], filled)
    assert names == ["true", "input", "reconstructed"]
    assert len(set(colours[0, 0, :3])) == 3
    assert len(set(colours[7, 0, :3])) == 1


def test_reconstructions_of_a_pca_are_drawn(digits):
    """Any estimator with transform and inverse_transform is accepted."""
    X, _, _ = digits
    pca = PCA(2).fit(X)
    display = ReconstructionDisplay.from_estimator(pca, X, image_shape=(8, 8), n_rows=1)

    np.testing.assert_allclose(
        pixels(display.images_)[1, 0].ravel(), pca.inverse_transform(pca.transform(X[:1]))[0]
    )


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
    with pytest.raises(ValueError, match=r"real numbers, and those .* are classes"):
        ManifoldDisplay.from_estimator(vae, X, image_shape=(2, 2))
