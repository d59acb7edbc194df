"""Small models, axes, and figures that are closed after each test."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from sklearn_vae import VAETransformer

pd = pytest.importorskip("pandas")
mpl = pytest.importorskip("matplotlib", reason="displays need matplotlib: sklearn_vae[plot]")
mpl.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

QUICK = {"max_iter": 3, "hidden_layer_sizes": (8,), "random_state": 0}


@pytest.fixture(scope="session")
def digits():
    """Images of 8 x 8 pixels, their classes, and a model with three components."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:300], y[:300]
    return X, y, VAETransformer(3, **QUICK).fit(X)


@pytest.fixture(scope="session")
def named():
    """A data frame of five columns, one of them constant, and a model."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(200, 4))
    table = pd.DataFrame(X * [1, 10, 100, 0.1], columns=["a", "b", "c", "d"]).assign(e=1.0)
    return table, VAETransformer(2, **QUICK).fit(table)


@pytest.fixture
def ax():
    """Axes of a new figure."""
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


@pytest.fixture(autouse=True)
def no_figure_left():
    """Close the figures of displays."""
    yield
    plt.close("all")


def pixels(artists):
    """Pixel values of images, as one array."""
    return np.array([[image.get_array() for image in row] for row in artists])
