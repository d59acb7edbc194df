"""Scatter plots of codes."""

import numpy as np
import pytest

from sklearn_vae import VAETransformer
from sklearn_vae.inspection import LatentSpaceDisplay
from tests.inspection.conftest import QUICK

pd = pytest.importorskip("pandas")


def test_codes_are_those_of_transform_in_the_two_components_of_most_variance(digits):
    """Axis labels name them."""
    X, _, vae = digits
    shown = np.argsort(-vae.transform(X).var(axis=0))[:2]
    display = LatentSpaceDisplay.from_estimator(vae, X)

    np.testing.assert_allclose(display.scatters_[0].get_offsets(), vae.transform(X)[:, shown])
    assert display.ax_.get_xlabel() == f"component {shown[0]}"
    assert display.ax_.get_ylabel() == f"component {shown[1]}"


def test_codes_of_a_conditional_model_are_averaged_over_the_classes(digits):
    """As transform does without y; the y of the display is a colour."""
    X, y = (part[:60] for part in digits[:2])
    vae = VAETransformer(3, conditional=True, **QUICK).fit(X, y)
    X, y = X[:9], y[:9]
    display = LatentSpaceDisplay.from_estimator(vae, X, y, components=(2, 0))

    np.testing.assert_allclose(display.codes, vae.transform(X)[:, [2, 0]])


@pytest.mark.parametrize("as_classes", [lambda y: y, lambda y: np.array(list("abcdefghij"))[y]])
def test_each_class_has_a_colour_and_a_legend_entry(digits, as_classes):
    """Integers and strings alike."""
    X, y, vae = digits
    y = as_classes(y)
    display = LatentSpaceDisplay.from_estimator(vae, X, y)
    colours = {tuple(scatter.get_facecolor()[0]) for scatter in display.scatters_}
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]

    assert len(colours) == 10
    assert labels == [str(label) for label in np.unique(y)]
    np.testing.assert_allclose(
        display.scatters_[3].get_offsets(), display.codes[y == np.unique(y)[3]]
    )


def test_continuous_values_have_a_colour_bar(digits):
    """The name of a Series labels the colour bar."""
    X, _, vae = digits
    score = pd.Series(vae.score_samples(X), name="log p(x), nats")
    display = LatentSpaceDisplay.from_estimator(vae, X, score)
    (_, bar) = display.figure_.axes

    np.testing.assert_allclose(display.scatters_[0].get_array(), score)
    assert bar.get_ylabel() == "log p(x), nats"
    assert display.ax_.get_legend() is None


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA], ids=repr)
@pytest.mark.parametrize("label", ["text", "integers"])
def test_rows_without_a_label_are_grey(digits, missing, label):
    """Labels of a survey have gaps; the others keep their colours."""
    X, classes, vae = digits
    y = pd.Series(classes.astype(str) if label == "text" else classes, dtype=object, name="digit")
    y[10:60] = missing
    display = LatentSpaceDisplay.from_estimator(vae, X, y)
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]

    assert texts == [*map(str, range(10)), "missing"]
    np.testing.assert_allclose(display.scatters_[-1].get_offsets(), display.codes[10:60])
    assert display.scatters_[-1].get_facecolor()[0, :3] == pytest.approx([0.827] * 3, abs=1e-3)
    assert sum(len(scatter.get_offsets()) for scatter in display.scatters_) == len(X)


def test_many_classes_have_no_legend(digits):
    """It would leave the figure."""
    X, _, vae = digits
    y = [f"class {i % 80:02}" for i in range(len(X))]
    display = LatentSpaceDisplay.from_estimator(vae, X, y)

    assert len(display.scatters_) == 80
    assert display.ax_.get_legend() is None


def test_classes_are_in_the_order_of_ordered_categories(digits):
    """The alphabet knows no order of words."""
    X, y, vae = digits
    order = ["low", "mid", "top"]
    y = pd.Series(pd.Categorical(np.array(order)[y % 3], [*order, "none"], ordered=True))
    display = LatentSpaceDisplay.from_estimator(vae, X, y)

    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == order


def test_dates_have_a_colour_bar(digits):
    """As numbers do: they are no classes."""
    X, _, vae = digits
    y = pd.Series(pd.date_range("2020-01-01", periods=len(X)), name="day").mask(
        np.arange(len(X)) < 9
    )
    display = LatentSpaceDisplay.from_estimator(vae, X, y)
    (_, bar) = display.figure_.axes
    display.figure_.canvas.draw()

    assert bar.get_ylabel() == "day"
    assert {text.get_text()[:4] for text in bar.get_yticklabels()} <= {*map(str, range(2020, 2026))}
    assert [len(scatter.get_offsets()) for scatter in display.scatters_] == [len(X) - 9, 9]
