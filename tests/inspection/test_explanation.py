"""Feature attributions as bars."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.datasets import load_iris

from sklearn_vae import VAEOutlierDetector
from sklearn_vae.inspection import ExplanationDisplay

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
    names = label_texts(display)
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
    assert sorted(label_texts(display)) == list("abcde")
    assert "units of the score" in display.ax_.get_xlabel()


def test_labels_of_a_mixed_table():
    """Categories are text and whole numbers are written in full, beside their expected values."""
    flowers = load_iris(as_frame=True)
    table = flowers.data.assign(
        price=np.where(flowers.target == 0, 80_000.0, 120_000.0),
        species=flowers.target_names[flowers.target],
        is_rare=flowers.target == 0,
    )
    detector = VAEOutlierDetector(novelty=True, max_iter=10, random_state=0).fit(table)
    row = table[143:144].assign(species="setosa")
    display = ExplanationDisplay.from_estimator(detector, row)
    names = label_texts(display)

    assert names[0] == "species = setosa (expected virginica)"
    assert "is_rare = False (expected False)" in names
    assert any(name.startswith("price = 120000 (expected 1") for name in names)


def test_long_labels_lose_their_middle_and_have_room():
    """Names, values and expected values; labels of two lines do not overlap."""
    display = ExplanationDisplay(
        attributions=np.linspace(-1, 9, 9),
        feature_names=[f"average cost of {'all ' * 12}trips ($, year {j})" for j in range(9)],
        values=np.array([*["Briggs, Florence (Mrs. John Bradley)"] * 8, 1e-13], dtype=object),
        expected_values=np.array([*["Heikkinen, Miss Laina\nof Turku"] * 8, 2e300], dtype=object),
    ).plot()
    display.figure_.canvas.draw()
    boxes = [label.get_window_extent() for label in display.ax_.get_yticklabels()]

    assert display.ax_.get_window_extent().width > 1.2 * display.figure_.dpi
    assert min(box.x0 for box in boxes) >= 0
    assert all(upper.y0 > lower.y1 - 2 for upper, lower in pairwise(boxes))
    texts = label_texts(display)
    assert all("…" in text and f"{8 - j})" in text for j, text in enumerate(texts))
    assert "= 1e-13\n(expected 2e+300)" in texts[0]


def test_a_polars_frame_with_dates_is_shown():
    """Which numpy has no dtype for."""
    pl = pytest.importorskip("polars")
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(60), "D")
    table = pl.DataFrame({"day": list(days), "size": np.arange(60.0), "kind": ["a", "b"] * 30})
    detector = VAEOutlierDetector(random_state=0, max_iter=2).fit(table)
    labels = label_texts(ExplanationDisplay.from_estimator(detector, table[3:4]))

    assert any(label.startswith("day = 2020-01-04 (expected 2020-0") for label in labels)
    assert any(label.startswith("size = 3 (expected ") for label in labels)


def test_columns_without_names_are_columns():
    """A number alone would look like a value."""
    X = load_iris().data
    detector = VAEOutlierDetector(random_state=0, max_iter=1).fit(X)
    display = ExplanationDisplay.from_estimator(detector, X[:9])

    assert sorted(label_texts(display)) == [f"column {j}" for j in range(4)]
