"""A saved VAEClassifier that numpy computes is the one that torch computes."""

import numpy as np
import pytest

from sklearn_vae import VAEClassifier, VAEDensity, VAETransformer, runtime
from sklearn_vae.persistence import file_format
from sklearn_vae.priors import VampPrior
from tests.conftest import reread

pytestmark = pytest.mark.usefixtures("few_steps")

SMALL = {"hidden_layer_sizes": (6,), "max_iter": 1, "random_state": 0}


def classes(missing, n_rows=90, seed=0):
    """Rows about three centres, and their classes: (n, 4), (n,)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n_rows)
    X = (
        rng.normal(size=(3, 4))[y]
        + rng.normal(size=(n_rows, 1))
        + 0.5 * rng.normal(size=(n_rows, 4))
    )
    X[:, 3] = X[:, 3] > 0
    X[rng.random(X.shape) < missing] = np.nan
    return X, np.array(["a", "b", "c"])[y]


@pytest.mark.parametrize(
    ("model", "missing"),
    [
        (VAETransformer(2, **SMALL), 0.0),
        (VAETransformer(3, prior=VampPrior(4), n_init=2, ensemble=True, **SMALL), 0.1),
        (VAEDensity(1, mixtures=[(1, "full"), (2, "diag")], **SMALL), 0.1),
    ],
    ids=["default", "ensemble with missing values", "density"],
)
def test_class_probabilities_are_those_of_the_estimator(model, missing, tmp_path):
    """Also of rows with missing values, and of rows of no class."""
    X, y = classes(missing)
    classifier = VAEClassifier(model, priors=[0.2, 0.3, 0.5]).fit(X, y)
    _, small = reread(classifier, tmp_path)
    new, _ = classes(0.1, 30, seed=1)
    new[:10, :3] *= 3

    expected = classifier.predict_log_proba(new)
    np.testing.assert_allclose(small.predict_log_proba(new), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(small.predict_proba(new).sum(axis=1), 1)
    np.testing.assert_array_equal(small.predict(new), classifier.predict(new))


@pytest.mark.parametrize("n_draws", [0, 1.5, 1 << 40])
def test_a_forged_number_of_draws_is_refused(n_draws, tmp_path):
    """As many codes would be drawn to check the file, in memory that no machine has."""
    path = tmp_path / "classifier.vae"
    VAEClassifier(VAETransformer(1, **SMALL)).fit(*classes(0.0)).save(path)
    header, arrays = file_format.read(path)
    header["parameters"]["n_draws"] = n_draws
    file_format.write(path, header, arrays)
    with pytest.raises(ValueError, match="n_draws must be an integer between 1 and"):
        runtime.load(path)
