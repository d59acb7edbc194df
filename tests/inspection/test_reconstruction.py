"""Rows beside their reconstructions."""

import numpy as np
from sklearn.decomposition import PCA

from sklearn_vae.inspection import ReconstructionDisplay
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
