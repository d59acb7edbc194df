"""Estimators, figures and axes that all displays share."""

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sklearn_vae
from sklearn_vae import VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer
from sklearn_vae.inspection import (
    ExplanationDisplay,
    LatentSpaceDisplay,
    LossCurveDisplay,
    ManifoldDisplay,
    ReconstructionDisplay,
)
from tests.inspection.conftest import QUICK

mpl = pytest.importorskip("matplotlib")
plt = pytest.importorskip("matplotlib.pyplot")
PACKAGE = Path(sklearn_vae.__file__).parent


def test_only_displays_import_matplotlib():
    """It is optional."""
    importing = [
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if "import matplotlib" in path.read_text() or "from matplotlib" in path.read_text()
    ]

    assert set(importing) == {"inspection"}


DISPLAYS = (
    lambda vae, X, ax: LatentSpaceDisplay.from_estimator(vae, X, ax=ax),
    lambda vae, X, ax: LossCurveDisplay.from_estimator(vae, ax=ax),
    lambda vae, X, ax: ManifoldDisplay.from_estimator(vae, X, image_shape=(8, 8), n_steps=2, ax=ax),
    lambda vae, X, ax: ReconstructionDisplay.from_estimator(vae, X, image_shape=(8, 8), ax=ax),
    lambda vae, X, ax: ExplanationDisplay(attributions=np.array([1.0, -2.0])).plot(ax),
)


def test_a_missing_matplotlib_is_an_import_error_with_advice(digits, monkeypatch):
    """Before anything is computed."""
    X, _, vae = digits
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    for draw in DISPLAYS:
        with pytest.raises(ImportError, match=r"pip install sklearn_vae\[plot\]"):
            draw(vae, X, None)


def test_drawing_on_axes_creates_no_figure(digits, ax):
    """pyplot's figures and style are global state."""
    X, _, vae = digits
    open_before, style_before = plt.get_fignums(), dict(mpl.rcParams)
    displays = [draw(vae, X, ax) for draw in DISPLAYS]

    assert all(display.ax_ is ax and display.figure_ is ax.figure for display in displays)
    assert plt.get_fignums() == open_before
    assert dict(mpl.rcParams) == style_before
    ax.figure.canvas.draw()


def test_without_axes_a_figure_is_created_and_a_display_can_be_drawn_again(digits, ax):
    """A display keeps its data."""
    X, _, vae = digits
    before = set(plt.get_fignums())
    display = LatentSpaceDisplay.from_estimator(vae, X)

    assert set(plt.get_fignums()) - before == {display.figure_.number}
    assert display.plot(ax).ax_ is ax
    np.testing.assert_array_equal(display.scatters_[0].get_offsets(), display.codes)


def test_searches_and_pipelines_are_drawn_as_their_final_estimator(digits):
    """Rows are transformed by the earlier steps; the codes are those of the final estimator."""
    X = digits[0][:100]
    pipeline = make_pipeline(StandardScaler(), VAETransformer(2, **QUICK))
    search = GridSearchCV(pipeline, {"vaetransformer__beta": [1.0]}, cv=2).fit(X)
    best = search.best_estimator_
    codes = LatentSpaceDisplay.from_estimator(search, X)
    rows = ReconstructionDisplay.from_estimator(search, X, image_shape=(8, 8), n_rows=2)
    manifold = ManifoldDisplay.from_estimator(search, X, image_shape=(8, 8), n_steps=3)
    expected = best.inverse_transform(manifold.values[[[0, 2]]])

    np.testing.assert_allclose(codes.codes, best.transform(X))
    np.testing.assert_allclose(rows.X_reconstructed, best.inverse_transform(best.transform(X)))
    np.testing.assert_allclose(manifold.rows[2, 0], expected[0])
    assert len(LossCurveDisplay.from_estimator(search).history) == best[-1].n_iter_


def test_an_estimator_without_codes_is_refused(named):
    """The error names the display, the attributes that it needs, and the estimator."""
    table, _ = named
    density = VAEDensity(max_iter=1, random_state=0).fit(table)
    imputer = VAEImputer(VAETransformer(1, max_iter=1), random_state=0).fit(table)
    pca = PCA(2).fit(table)

    with pytest.raises(TypeError, match=r"LatentSpaceDisplay needs .* Got VAEDensity"):
        LatentSpaceDisplay.from_estimator(density, table)
    with pytest.raises(TypeError, match="Got VAEImputer"):
        ReconstructionDisplay.from_estimator(imputer, table, image_shape=(1, 5))
    with pytest.raises(TypeError, match=r"LossCurveDisplay needs .* history_.* Got PCA"):
        LossCurveDisplay.from_estimator(pca)
    with pytest.raises(TypeError, match=r"ExplanationDisplay needs .* explain.* Got PCA"):
        ExplanationDisplay.from_estimator(pca, table)


def test_an_unfitted_estimator_is_refused(named):
    """With scikit-learn's own error."""
    table, _ = named
    with pytest.raises(NotFittedError):
        LatentSpaceDisplay.from_estimator(VAETransformer(), table)
    with pytest.raises(NotFittedError):
        ExplanationDisplay.from_estimator(VAEOutlierDetector(), table)


@pytest.mark.parametrize("posterior", ["full", "categorical"])
def test_posteriors_without_a_kl_per_dimension_are_drawn(posterior):
    """The default dimensions are then those whose codes have the largest variance."""
    X = load_iris().data
    vae = VAETransformer(4, posterior=posterior, max_iter=3, random_state=0).fit(X)
    display = LatentSpaceDisplay.from_estimator(vae, X)
    most = np.argsort(-vae.transform(X).var(axis=0), kind="stable")[:2]

    assert sorted(display.components) == sorted(most)
