"""Feature attributions as bars."""

import numpy as np
import pytest

from sklearn_vae import VAEOutlierDetector
from sklearn_vae.inspection import ExplanationDisplay


def test_bars_are_the_attributions_and_add_up(named):
    """The largest on top; the last bar is the sum of all attributions without a bar."""
    table, _ = named
    detector = VAEOutlierDetector(random_state=0, max_iter=3).fit(table)
    (attributions,) = detector.explain(table.iloc[[4]])
    display = ExplanationDisplay.from_estimator(detector, table.iloc[[4]], n_columns=2)
    lengths = [bar.get_width() for bar in display.bars_]
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    shown = np.argsort(-np.abs(attributions))[:2]
    shown = shown[np.argsort(-attributions[shown])]

    np.testing.assert_allclose(lengths[:2], attributions[shown])
    assert sum(lengths) == pytest.approx(attributions.sum())
    assert names[0] == f"{table.columns[shown[0]]} = {table.iloc[4, shown[0]]:.4g}"
    assert names[2] == "3 other columns"
    assert "nats" in display.ax_.get_xlabel()
    assert display.ax_.yaxis_inverted()


def test_attributions_of_several_rows_are_averaged(named):
    """Labels then have no values; the unit of distances is not nats."""
    table, _ = named
    detector = VAEOutlierDetector(method="masked", random_state=0, max_iter=3).fit(table)
    display = ExplanationDisplay.from_estimator(detector, table[:9])

    np.testing.assert_allclose(display.attributions, detector.explain(table[:9]).mean(axis=0))
    assert sorted(t.get_text() for t in display.ax_.get_yticklabels()) == list("abcde")
    assert "units of the score" in display.ax_.get_xlabel()
