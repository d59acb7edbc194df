"""Learning curves of a fit's history."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer
from sklearn_vae.inspection import LossCurveDisplay
from tests.inspection.conftest import QUICK

pd = pytest.importorskip("pandas")


def test_curves_are_the_history_with_a_gap_before_the_refit(digits, ax):
    """The refit starts from new weights, so the curves are not connected."""
    vae = digits[2]
    history = pd.DataFrame(vae.history_)
    display = LossCurveDisplay.from_estimator(vae)
    at = int(history["refit"].argmax())

    assert set(display.lines_) == {c for c in history if c.removeprefix("val_").endswith("loss")}
    for name, line in display.lines_.items():
        assert np.isnan(line.get_ydata()[at])
        np.testing.assert_array_equal(np.delete(line.get_ydata(), at), history[name])
    assert {axes.get_ylabel() for axes in display.axes_} == {"nats per row"}
    assert [axes.get_title("left") for axes in display.axes_] == [
        "loss", "reconstruction_loss", "kl_loss",
    ]  # fmt: skip
    assert "refit on all rows" in [text.get_text() for text in display.axes_[0].texts]
    assert sorted(display.plot(ax).lines_) == ["loss", "val_loss"]


def test_a_single_run_has_no_refit_mark_and_no_validation_curve(digits):
    """Without early stopping there are no validation rows and no refit."""
    X, _, _ = digits
    vae = VAETransformer(2, early_stopping=False, **QUICK).fit(X)
    display = LossCurveDisplay.from_estimator(vae)

    assert sorted(display.lines_) == ["kl_loss", "loss", "reconstruction_loss"]
    assert len(display.lines_["loss"].get_xdata()) == vae.n_iter_
    assert not display.ax_.texts


def test_each_ensemble_member_has_its_curves(named):
    """VAEDensity trains an ensemble."""
    table, _ = named
    X = table.drop(columns="e")
    density = VAEDensity(mixtures=[(1, "full")] * 2, max_iter=3, random_state=0).fit(X)
    history = pd.DataFrame(density.history_)
    display = LossCurveDisplay.from_estimator(density, member=1)
    drawn = display.lines_["loss"].get_ydata()

    np.testing.assert_array_equal(drawn[~np.isnan(drawn)], history["loss"][history["member"] == 1])
    with pytest.raises(ValueError, match="no records of member=99"):
        LossCurveDisplay.from_estimator(density, member=99)


def test_curves_of_a_detector_are_those_of_its_model(named):
    """Also in a pipeline."""
    detector = VAEOutlierDetector(**QUICK).fit(named[0])
    display = LossCurveDisplay.from_estimator(make_pipeline(detector))

    assert display.history == list(detector.estimator_.history_)


def test_fits_of_one_iteration_are_points():
    """As of small tables by default, and of some refits: a line of one point shows nothing."""
    history = [{"iteration": 1, "loss": 2.0}, {"iteration": 2, "loss": 1.0}]
    refit = [{"iteration": 3, "loss": 0.5, "refit": True}]
    (point,) = LossCurveDisplay(history=history[:1]).plot().lines_.values()
    (curve,) = LossCurveDisplay(history=history).plot().lines_.values()
    (both,) = LossCurveDisplay(history=history + refit).plot().lines_.values()

    assert (point.get_marker(), point.get_markevery()) == ("o", [0])
    assert curve.get_marker() == "None"
    assert np.array(both.get_ydata())[both.get_markevery()].tolist() == [0.5]
