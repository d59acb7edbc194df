"""Learning curves of a fit's history."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer
from sklearn_vae.inspection import LossCurveDisplay
from tests.inspection.conftest import QUICK

pd = pytest.importorskip("pandas")
plt = pytest.importorskip("matplotlib.pyplot")


def test_curves_are_the_history_with_a_gap_before_the_refit(digits):
    """The refit starts from new weights, so the curves are not connected."""
    vae = digits[2]
    history = pd.DataFrame(vae.history_)
    display = LossCurveDisplay.from_estimator(vae)
    drawn = display.lines_["loss"].get_ydata()
    at = int(history["refit"].argmax())

    assert set(display.lines_) == {c for c in history if c.removeprefix("val_").endswith("loss")}
    np.testing.assert_array_equal(np.delete(drawn, at), history["loss"])
    assert np.isnan(drawn[at])
    assert display.refit_from == history["iteration"][at]
    np.testing.assert_array_equal(
        np.delete(display.lines_["val_kl_loss"].get_ydata(), at), history["val_kl_loss"]
    )
    assert len(display.axes_) == 3
    assert {axes.get_ylabel() for axes in display.axes_} == {"nats per row"}
    assert "refit on all rows" in [text.get_text() for text in display.axes_[0].texts]


def test_a_single_run_has_no_refit_mark_and_no_validation_curve(digits):
    """Without early stopping there are no validation rows and no refit."""
    X, _, _ = digits
    vae = VAETransformer(2, early_stopping=False, **QUICK).fit(X)
    display = LossCurveDisplay.from_estimator(vae, terms=["loss", "kl_loss"])

    assert display.refit_from is None
    assert sorted(display.lines_) == ["kl_loss", "loss"]
    assert len(display.lines_["loss"].get_xdata()) == vae.n_iter_


def test_terms_share_axes_or_have_one_each(digits):
    """One axes for all terms, or one for each, as in scikit-learn's partial dependence."""
    vae = digits[2]
    two = plt.subplots(1, 2)[1]
    apart = LossCurveDisplay.from_estimator(vae, terms=["loss", "kl_loss"], ax=two)
    together = LossCurveDisplay.from_estimator(vae, terms=["loss", "kl_loss"], ax=two[0])
    labels = [line.get_label() for line in together.lines_.values()]

    assert apart.axes_.tolist() == two.tolist()
    assert together.axes_.tolist() == [two[0], two[0]]
    assert labels == [
        f"{t}, {r} rows" for t in ("loss", "kl_loss") for r in ("training", "validation")
    ]
    with pytest.raises(ValueError, match="ax must be one pair of axes or 3"):
        LossCurveDisplay.from_estimator(vae, ax=two)


def test_each_ensemble_member_has_its_curves(named):
    """VAEDensity trains an ensemble."""
    table, _ = named
    X = table.drop(columns="e")
    density = VAEDensity(mixtures=[(1, "full")] * 2, max_iter=3, random_state=0).fit(X)
    history = pd.DataFrame(density.history_)
    display = LossCurveDisplay.from_estimator(density, member=1)
    expected = history["loss"][history["member"] == 1]

    np.testing.assert_array_equal(display.curves["loss"], expected)
    with pytest.raises(ValueError, match="no records of member=99"):
        LossCurveDisplay.from_estimator(density, member=99)


def test_curves_of_a_detector_are_those_of_its_model(named):
    """Also in a pipeline."""
    detector = VAEOutlierDetector(**QUICK).fit(named[0])
    display = LossCurveDisplay.from_estimator(make_pipeline(detector))
    expected = pd.DataFrame(detector.estimator_.history_)["loss"]

    np.testing.assert_array_equal(display.curves["loss"], expected)


def test_a_stored_history_is_drawn():
    """Records hold plain values and may come from a file."""
    history = [{"iteration": k + 1, "loss": 5.0 - k, "kl_loss": 1.0 + k} for k in range(3)]
    display = LossCurveDisplay.from_history(history, terms="loss")

    np.testing.assert_array_equal(display.lines_["loss"].get_xydata().T, [[1, 2, 3], [5, 4, 3]])
    with pytest.raises(
        ValueError, match=r"terms must be among \['loss', 'kl_loss'\]. Got \['elbo'"
    ):
        display.plot(terms=["elbo"])
    with pytest.raises(ValueError, match="terms must be among"):
        display.plot(terms=[])
