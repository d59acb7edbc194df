"""Feature attributions as bars."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.datasets import load_iris

from sklearn_vae import VAEOutlierDetector
from sklearn_vae.inspection import ExplanationDisplay

to_rgb = pytest.importorskip("matplotlib.colors").to_rgb
plt = pytest.importorskip("matplotlib.pyplot")
pd = pytest.importorskip("pandas")


def label_texts(display):
    return [label.get_text() for label in display.ax_.get_yticklabels()]


def test_bars_are_the_attributions_and_add_up(named):
    """The largest on top; the last bar is the sum of all attributions without a bar."""
    table, _ = named
    detector = VAEOutlierDetector(random_state=0, max_iter=3).fit(table)
    (attributions,) = detector.explain(table.iloc[[4]]).to_numpy()
    display = ExplanationDisplay.from_estimator(detector, table.iloc[[4]], n_columns=2)
    lengths = [bar.get_width() for bar in display.bars_]
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    shown = np.argsort(-np.abs(attributions))[:2]
    shown = shown[np.argsort(-attributions[shown])]

    np.testing.assert_allclose(lengths[:2], attributions[shown])
    assert sum(lengths) == pytest.approx(attributions.sum())
    value, expected = table.iloc[4], detector.expected_values(table.iloc[[4]]).iloc[0]
    largest = table.columns[shown[0]]
    assert names[0] == f"{largest} = {value[largest]:.4g} (expected {expected[largest]:.4g})"
    assert names[2] == "3 other columns"
    assert "nats" in display.ax_.get_xlabel()
    assert display.ax_.yaxis_inverted()


def test_attributions_of_several_rows_are_averaged(named):
    """Labels then have no values; the unit of distances is not nats."""
    table, _ = named
    detector = VAEOutlierDetector(method="reconstruction", random_state=0, max_iter=3).fit(table)
    display = ExplanationDisplay.from_estimator(detector, table[:9])

    np.testing.assert_allclose(display.attributions, detector.explain(table[:9]).mean(axis=0))
    assert sorted(t.get_text() for t in display.ax_.get_yticklabels()) == list("abcde")
    assert "units of the score" in display.ax_.get_xlabel()


def test_labels_of_a_mixed_table():
    """Categories are text and whole numbers are written in full, beside their expected values."""
    flowers = load_iris(as_frame=True)
    table = flowers.data.assign(
        price=np.where(flowers.target == 0, 80_000.0, 120_000.0),
        species=flowers.target_names[flowers.target],
        is_rare=flowers.target == 0,
    )
    detector = VAEOutlierDetector(novelty=True, random_state=0).fit(table)
    row = table[143:144].assign(species="setosa")
    display = ExplanationDisplay.from_estimator(detector, row)
    names = [label.get_text() for label in display.ax_.get_yticklabels()]

    assert names[0] == "species = setosa (expected virginica)"
    assert "is_rare = False (expected False)" in names
    assert any(name.startswith("price = 120000 (expected 1") for name in names)


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("n_axes", [None, 1, 2])
def test_labels_and_bars_have_room(style, n_axes):
    """Long names and categories lose their middle; no label overlaps another or the edge."""
    with plt.style.context(style):
        ax = None
        if n_axes:
            _, axes = plt.subplots(
                n_axes, n_axes, figsize=(5.5 * n_axes, 3 * n_axes), layout="constrained"
            )
            ax = np.ravel(axes)[-1]
        display = ExplanationDisplay(
            attributions=np.linspace(-1, 9, 9),
            feature_names=[f"average cost of {'all ' * 12}trips ($, year {j})" for j in range(9)],
            values=np.array([*["Briggs, Florence (Mrs. John Bradley)"] * 8, 1e-13], dtype=object),
            expected_values=np.array(
                [*["Heikkinen, Miss Laina\nof Turku"] * 8, 2e300], dtype=object
            ),
        ).plot(ax)
        figure = display.figure_
        figure.canvas.draw()
        boxes = [label.get_window_extent() for label in display.ax_.get_yticklabels()]
        (line,) = display.ax_.lines
        background = display.ax_.get_facecolor()

    assert display.ax_.get_window_extent().width > 1.2 * figure.dpi
    assert min(box.x0 for box in boxes) >= 0
    assert all(upper.y0 > lower.y1 - 2 for upper, lower in pairwise(boxes))
    texts = label_texts(display)
    assert all("…" in text and f"{8 - j})" in text for j, text in enumerate(texts))
    assert "= 1e-13 (expected 2e+300)" in texts[0].replace("\n", " ")
    contrast = np.subtract(to_rgb(line.get_color()), background[:3])
    assert np.abs(contrast).min() > 0.5
    plt.close(figure)


def test_a_polars_frame_with_dates_is_shown():
    """Which numpy has no dtype for."""
    pl = pytest.importorskip("polars")
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(60), "D")
    table = pl.DataFrame({"day": list(days), "size": np.arange(60.0), "kind": ["a", "b"] * 30})
    detector = VAEOutlierDetector(random_state=0, max_iter=2).fit(table)
    labels = label_texts(ExplanationDisplay.from_estimator(detector, table[3:4]))

    assert any(label.startswith("day = 2020-01-04 (expected 2020-0") for label in labels)
    assert any(label.startswith("size = 3 (expected ") for label in labels)
