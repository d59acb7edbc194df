"""Estimators that metrics refuse, and imports that metrics avoid."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_vae import VAEOutlierDetector, VAETransformer
from sklearn_vae.metrics import active_units, kl_per_dimension, pit_calibration

METRICS = [kl_per_dimension, active_units, pit_calibration]
X = np.random.default_rng(0).normal(size=(20, 3))


@pytest.mark.parametrize("metric", METRICS)
def test_an_unfitted_estimator_is_refused(metric):
    """Before anything is computed."""
    with pytest.raises(NotFittedError):
        metric(VAETransformer(), X)


@pytest.mark.parametrize("metric", METRICS)
def test_what_holds_a_model_is_refused(metric):
    """A Pipeline or search scores other rows than those of its model; a detector has no codes."""
    pipeline = make_pipeline(StandardScaler(), VAETransformer(1, max_iter=1, random_state=0))
    for estimator in (pipeline, VAEOutlierDetector(max_iter=1, random_state=0)):
        name = type(estimator).__name__
        with pytest.raises(TypeError, match=rf"needs an estimator .* Got {name} instead"):
            metric(estimator.fit(X), X)
