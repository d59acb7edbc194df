"""What a type checker knows of a fitted estimator: `make lint` runs mypy over this file."""

from contextlib import suppress
from typing import Any, assert_type

import numpy as np

from sklearn_vae import VAEClassifier, VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer
from sklearn_vae.model_selection import VAESearchCV

X = np.random.default_rng(0).normal(size=(40, 3))
SMALL: Any = {"hidden_layer_sizes": (4,), "max_iter": 1, "random_state": 0}


def test_fit_gives_the_estimator_that_it_was_called_on() -> None:
    """Not Any, which would switch off every check of what follows."""
    vae = VAETransformer(2, **SMALL)

    assert assert_type(vae.fit(X), VAETransformer) is vae
    assert assert_type(vae.partial_fit(X), VAETransformer) is vae
    assert_type(VAEDensity(2, **SMALL).fit(X), VAEDensity)
    assert_type(VAEOutlierDetector(**SMALL).fit(X), VAEOutlierDetector)
    assert_type(VAEImputer(vae).fit(X), VAEImputer)
    assert_type(VAESearchCV(vae, {"beta": [1.0]}, cv=2).fit(X), VAESearchCV)
    conditional = VAETransformer(2, conditional=True, **SMALL)
    assert_type(VAEClassifier(conditional).fit(X, X[:, 0] > 0), VAEClassifier)


def test_what_a_fitted_estimator_gives_has_a_type() -> None:
    """Arrays are arrays and a score is a number, after fit in one line too."""
    vae = VAETransformer(2, **SMALL).fit(X)

    assert isinstance(assert_type(vae.transform(X), np.ndarray), np.ndarray)
    assert isinstance(assert_type(vae.inverse_transform(vae.transform(X)), np.ndarray), np.ndarray)
    assert isinstance(assert_type(vae.score(X), float), float)
    assert isinstance(assert_type(vae.history_, list[dict[str, Any]]), list)


def test_a_wrong_argument_is_found_before_it_runs() -> None:
    """mypy says so of the line below: an ignored error that is none is an error itself."""
    with suppress(TypeError):
        VAETransformer(2, **SMALL).fit(X, weights=None)  # type: ignore[call-arg]
