"""Estimators that metrics refuse, and imports that metrics avoid."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
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
    """A detector has no codes and no density."""
    detector = VAEOutlierDetector(max_iter=1, random_state=0).fit(X)
    with pytest.raises(TypeError, match=r"needs an estimator .* Got VAEOutlierDetector instead"):
        metric(detector, X)


@pytest.mark.parametrize("metric", METRICS)
def test_a_pipeline_and_a_search_give_the_metric_of_their_last_step(metric):
    """The rows of their X get there by the steps before."""
    pipeline = make_pipeline(StandardScaler(), VAETransformer(1, max_iter=1, random_state=0))
    search = GridSearchCV(pipeline, {"vaetransformer__beta": [1.0]}, cv=2).fit(X)
    scaler, vae = search.best_estimator_

    expected = metric(vae, scaler.transform(X))

    for estimator in (search, search.best_estimator_):
        np.testing.assert_array_equal(expected[0], metric(estimator, X)[0])


@pytest.mark.parametrize("threshold", [-1, np.nan, "high", None])
def test_a_threshold_that_is_no_number_of_nats_is_refused(threshold):
    """All dimensions are above a negative one, and none above NaN."""
    vae = VAETransformer(1, max_iter=1, random_state=0).fit(X)
    with pytest.raises(ValueError, match=f"'threshold' .* >= 0. Got {threshold!r} instead"):
        active_units(vae, X, threshold=threshold)
