"""Estimators that metrics refuse, and imports that metrics avoid."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_vae import VAEClassifier, VAEOutlierDetector, VAETransformer
from sklearn_vae.metrics import (
    active_units,
    check_posterior_collapse,
    decompose_uncertainty,
    generalization_gap,
    kl_per_dimension,
    pit_calibration,
    total_correlation,
)


@pytest.mark.parametrize(
    "metric",
    [
        kl_per_dimension,
        active_units,
        total_correlation,
        generalization_gap,
        check_posterior_collapse,
        decompose_uncertainty,
        pit_calibration,
    ],
)
def test_an_unfitted_estimator_is_refused(metric):
    """Before anything is computed."""
    arguments = [] if metric is generalization_gap else [np.ones((3, 2))]
    with pytest.raises(NotFittedError):
        metric(VAETransformer(), *arguments)


@pytest.mark.parametrize(
    "metric",
    [kl_per_dimension, active_units, total_correlation, decompose_uncertainty, pit_calibration],
)
def test_what_holds_a_model_is_refused(metric):
    """A Pipeline or search scores other rows than those of its model."""
    X = np.random.default_rng(0).normal(size=(20, 3))
    pipeline = make_pipeline(StandardScaler(), VAETransformer(1, max_iter=1, random_state=0))
    with pytest.raises(TypeError, match=r"needs an estimator .* Got Pipeline instead"):
        metric(pipeline.fit(X), X)


def test_the_gap_of_a_classifier_is_refused():
    """Its score needs classes."""
    X = np.random.default_rng(0).normal(size=(20, 3))
    model = VAETransformer(1, conditional=True, max_iter=1, random_state=0)
    classifier = VAEClassifier(model).fit(X, X[:, 0] > 0)
    with pytest.raises(TypeError, match=r"needs an estimator .* Got VAEClassifier instead"):
        generalization_gap(classifier, X, X)


@pytest.mark.parametrize("metric", [pit_calibration, generalization_gap])
def test_a_detector_is_refused(metric):
    """Its scores are no densities."""
    X = np.random.default_rng(0).normal(size=(20, 3))
    detector = VAEOutlierDetector(max_iter=1, random_state=0).fit(X)
    with pytest.raises(TypeError, match=r"needs an estimator .* Got VAEOutlierDetector instead"):
        metric(detector, X, *[X] * (metric is generalization_gap))
