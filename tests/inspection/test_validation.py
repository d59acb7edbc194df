"""Arguments that displays refuse."""

import numpy as np
import pytest

from sklearn_vae import VAETransformer
from sklearn_vae.inspection import (
    ExplanationDisplay,
    LatentSpaceDisplay,
    LossCurveDisplay,
    ManifoldDisplay,
    ReconstructionDisplay,
)
from tests.inspection.conftest import QUICK

draw_codes = LatentSpaceDisplay.from_estimator


def explain(X, **options):
    return ExplanationDisplay(attributions=X[0], **options).plot()


def draw_grid(vae, X, image_shape=(8, 8), **options):
    return ManifoldDisplay.from_estimator(vae, X, image_shape=image_shape, **options)


def draw_images(vae, X, image_shape=(8, 8), **options):
    return ReconstructionDisplay.from_estimator(vae, X, image_shape=image_shape, **options)


@pytest.mark.parametrize(
    ("draw", "match"),
    [
        (lambda vae, X: draw_codes(vae, X, components=(0, 3)), "to 2, or None"),
        (lambda vae, X: draw_codes(vae, X, components=(0,)), "2 different"),
        (lambda vae, X: draw_codes(vae, X, components=(1, 1)), "2 different"),
        (lambda vae, X: draw_codes(vae, X, [1, 2]), "inconsistent"),
        (lambda vae, X: draw_grid(vae, X, components=1), "from 0 to 2"),
        (lambda vae, X: draw_grid(vae, X, components=(0, 1.5)), r"Got \(0, 1.5\) instead"),
        (lambda vae, X: draw_grid(vae, X, components=[True, False]), "Got .True"),
        (lambda vae, X: draw_grid(vae, X, n_steps=1), "n_steps must be"),
        (lambda vae, X: draw_images(vae, X, n_rows=0), "n_rows must be"),
        (
            lambda vae, X: draw_images(vae, X, X_true=X[1:]),
            r"X_true must have the shape of X, \(300, 64\). Got \(299, 64\)",
        ),
        (
            lambda vae, X: draw_images(vae, X, image_shape=(8, 9)),
            r"image_shape must be .* for rows of 64 columns. Got \(8, 9\)",
        ),
        (lambda vae, X: draw_images(vae, X, image_shape=64), r"must be \(height, width\)"),
        (lambda vae, X: draw_grid(vae, X, image_shape=(2, 4, 8)), "with 1 or 3 channels"),
        (lambda vae, X: explain(X, feature_names=["a"]), r"name for each of 64 .* Got \['a'\]"),
        (lambda vae, X: explain(X, n_columns=0), "n_columns must be"),
        (lambda vae, X: LossCurveDisplay(history=3).plot(), "'history' .* Got 3 instead"),
        (lambda vae, X: LossCurveDisplay(history=[]).plot(), r"'history' .* Got \[\] instead"),
        (lambda vae, X: LossCurveDisplay(history=[{"loss": 1.0}]).plot(), "with an 'iteration'"),
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
    with pytest.raises(ValueError, match="table of numbers to be drawn: could not convert"):
        draw_images(vae, mixed, image_shape=(1, 5))


def test_displays_that_decode_codes_refuse_conditional_models(digits):
    """Its decoder needs y, which they do not take."""
    X, y = (part[:30] for part in digits[:2])
    vae = VAETransformer(2, conditional=True, **QUICK).fit(X, y)

    for draw in (draw_images, draw_grid):
        with pytest.raises(ValueError, match=r"requires y to be passed.*conditional=True"):
            draw(vae, X)
