"""Arguments that displays refuse."""

import numpy as np
import pytest

from sklearn_vae import VAETransformer
from sklearn_vae.inspection import (
    ExplanationDisplay,
    LatentSpaceDisplay,
    ManifoldDisplay,
    PITCalibrationDisplay,
    ReconstructionDisplay,
    TraversalDisplay,
)
from tests.inspection.conftest import QUICK


@pytest.mark.parametrize(
    ("draw", "match"),
    [
        (lambda vae, X: LatentSpaceDisplay.from_estimator(vae, X, components=(0, 3)), "Got 3 in"),
        (lambda vae, X: LatentSpaceDisplay.from_estimator(vae, X, components=(0,)), "2 integers"),
        (lambda vae, X: LatentSpaceDisplay.from_estimator(vae, X, components=(1, 1)), "differ"),
        (lambda vae, X: LatentSpaceDisplay.from_estimator(vae, X, [1, 2]), "inconsistent"),
        (lambda vae, X: TraversalDisplay.from_estimator(vae, X, components=[]), "components must"),
        (lambda vae, X: TraversalDisplay.from_estimator(vae, X, components=-1), "among 0 to 2"),
        (lambda vae, X: TraversalDisplay.from_estimator(vae, X, components=1.5), "Got 1.5 instead"),
        (lambda vae, X: TraversalDisplay.from_estimator(vae, X, components=[True]), "Got .True"),
        (lambda vae, X: TraversalDisplay.from_estimator(vae, X, feature_names=3), "Got 3 instead"),
        (lambda vae, X: TraversalDisplay.from_estimator(vae, X, n_steps=1), "n_steps must be"),
        (lambda vae, X: TraversalDisplay.from_estimator(vae, X, row=300), "row must be None or"),
        (lambda vae, X: TraversalDisplay.from_estimator(vae, X, coverage=0), "coverage must lie"),
        (lambda vae, X: ReconstructionDisplay.from_estimator(vae, X, n_rows=0), "n_rows must be"),
        (
            lambda vae, X: ReconstructionDisplay.from_estimator(vae, X, X_true=X[1:]),
            r"X_true must have the shape of X, \(300, 64\). Got \(299, 64\)",
        ),
        (
            lambda vae, X: ReconstructionDisplay.from_estimator(vae, X, image_shape=(8, 9)),
            r"64 pixels, as the rows have 64 columns. Got \(8, 9\), of 72 pixels",
        ),
        (
            lambda vae, X: ReconstructionDisplay.from_estimator(vae, X, image_shape=64),
            r"image_shape must be \(height, width\)",
        ),
        (
            lambda vae, X: TraversalDisplay.from_estimator(vae, X, image_shape=(2, 4, 8)),
            "with 1 or 3 channels",
        ),
        (
            lambda vae, X: ManifoldDisplay.from_estimator(vae, image_shape=(8, 7)),
            "image_shape must have 64 pixels",
        ),
        (
            lambda vae, X: ManifoldDisplay.from_estimator(vae, image_shape=(8, 8), coverage=1),
            "coverage must lie between 0 and 1",
        ),
        (
            lambda vae, X: ReconstructionDisplay.from_estimator(vae, X, feature_names=["a"]),
            "one name for each of 64 columns. Got 1",
        ),
        (
            lambda vae, X: PITCalibrationDisplay.from_estimator(vae, X, kind="pie", n_draws=1),
            "kind must be",
        ),
        (
            lambda vae, X: ExplanationDisplay(attributions=X[0]).plot(n_columns=0),
            "n_columns must be",
        ),
        (lambda vae, X: PITCalibrationDisplay(pit=np.full((3, 1), np.nan)).plot(), "were constant"),
    ],
)
def test_invalid_arguments_are_named(digits, draw, match):
    """The error says what was passed and what is allowed."""
    X, _, vae = digits
    with pytest.raises(ValueError, match=match):
        draw(vae, X)


def test_categories_are_refused(named):
    """A table with categories has no numeric reconstruction."""
    table, _ = named
    mixed = table.assign(e=np.where(table["a"] > 0, "yes", "no")).astype({"e": "category"})
    vae = VAETransformer(2, **QUICK).fit(mixed)
    with pytest.raises(ValueError, match="X must be a table of numbers to be drawn"):
        ReconstructionDisplay.from_estimator(vae, mixed)


@pytest.mark.parametrize(
    ("display", "options"),
    [
        (ReconstructionDisplay, {}),
        (TraversalDisplay, {}),
        (ManifoldDisplay, {"image_shape": (8, 8)}),
    ],
)
def test_displays_that_decode_codes_refuse_conditional_models(display, options, digits):
    """Its decoder needs y, which they do not take."""
    X, y = (part[:60] for part in digits[:2])
    vae = VAETransformer(2, conditional=True, **QUICK).fit(X, y)

    with pytest.raises(ValueError, match=rf"{display.__name__}.*without y.*conditional=True"):
        display.from_estimator(vae, X, **options)
