"""Displays: what is drawn is what the estimators' own methods and histories say."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits, load_iris
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
    PITCalibrationDisplay,
    ReconstructionDisplay,
    TraversalDisplay,
)
from sklearn_vae.metrics import kl_per_dimension, pit_calibration

pd = pytest.importorskip("pandas")

mpl = pytest.importorskip("matplotlib", reason="pictures need matplotlib: sklearn_vae[plot]")
mpl.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

QUICK = {"max_iter": 3, "hidden_layer_sizes": (8,), "random_state": 0}
PACKAGE = Path(sklearn_vae.__file__).parent


@pytest.fixture(scope="module")
def digits():
    """Images of 8 x 8 pixels, their classes, and a model with three components."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:300], y[:300]
    return X, y, VAETransformer(3, **QUICK).fit(X)


@pytest.fixture(scope="module")
def named():
    """A table with names and five columns, of which one is constant, and a model."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(200, 4))
    table = pd.DataFrame(X * [1, 10, 100, 0.1], columns=["a", "b", "c", "d"]).assign(e=1.0)
    return table, VAETransformer(2, **QUICK).fit(table)


@pytest.fixture
def ax():
    """Axes of a figure of the test's own."""
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


@pytest.fixture(autouse=True)
def no_figure_left():
    """Figures that displays have made are closed."""
    yield
    plt.close("all")


def pixels(artists):
    """Values in images, as one array."""
    return np.array([[own.get_array() for own in row] for row in artists])


# what importing and drawing may not do


def test_matplotlib_is_imported_by_drawing_alone():
    """Who fits models on a server does not wait for pictures, nor need matplotlib."""
    code = "import sys, sklearn_vae.inspection; print('matplotlib' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    importing = [
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if "import matplotlib" in path.read_text() or "from matplotlib" in path.read_text()
    ]

    assert run.stdout.strip() == "False"
    assert set(importing) == {"inspection"}


def test_what_to_install_is_said_where_matplotlib_is_missing(digits, monkeypatch):
    """Before anything is computed."""
    X, _, vae = digits
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    for draw in (
        lambda: LatentSpaceDisplay.from_estimator(vae, X),
        lambda: LossCurveDisplay.from_estimator(vae),
        lambda: ManifoldDisplay.from_estimator(vae, image_shape=(8, 8)),
        lambda: TraversalDisplay.from_estimator(vae, X),
        lambda: ReconstructionDisplay.from_estimator(vae, X),
        lambda: PITCalibrationDisplay.from_estimator(vae, X),
        lambda: ExplanationDisplay(parts=np.ones(3)).plot(),
    ):
        with pytest.raises(ImportError, match=r"pip install sklearn_vae\[plot\]"):
            draw()


def test_given_axes_are_drawn_on_and_nothing_else_is_made(digits, named, ax):
    """pyplot's figures are a global state, and subplots are the reason for ``ax``."""
    X, y, vae = digits
    table, small = named
    open_before, style_before = plt.get_fignums(), dict(mpl.rcParams)
    history = {"terms": "loss"}
    displays = [
        LatentSpaceDisplay.from_estimator(vae, X, y, ax=ax),
        ReconstructionDisplay.from_estimator(vae, X, image_shape=(8, 8), n_rows=2, ax=ax),
        ReconstructionDisplay.from_estimator(small, table, ax=ax),
        TraversalDisplay.from_estimator(vae, X, image_shape=(8, 8), n_steps=2, ax=ax),
        TraversalDisplay.from_estimator(small, table, ax=ax),
        ManifoldDisplay.from_estimator(vae, image_shape=(8, 8), n_steps=2, ax=ax),
        PITCalibrationDisplay.from_estimator(small, table, n_draws=64, ax=ax),
        ExplanationDisplay(parts=np.array([1.0, -2.0])).plot(ax),
    ]
    losses = LossCurveDisplay.from_estimator(vae, ax=ax, **history)

    assert all(own.ax_ is ax and own.figure_ is ax.figure for own in displays)
    assert losses.axes_.tolist() == [ax]
    assert plt.get_fignums() == open_before
    assert dict(mpl.rcParams) == style_before
    ax.figure.canvas.draw()


def test_a_figure_is_made_where_no_axes_are_given_and_drawn_again_elsewhere(digits, ax):
    """A display keeps what it shows, so that it can be put into another figure."""
    X, _, vae = digits
    before = set(plt.get_fignums())
    display = LatentSpaceDisplay.from_estimator(vae, X)

    assert set(plt.get_fignums()) - before == {display.figure_.number}
    assert display.plot(ax).ax_ is ax
    np.testing.assert_array_equal(display.scatters_[0].get_offsets(), display.codes)


def test_what_is_not_axes_is_refused(digits):
    """A figure in place of axes is an easy mistake."""
    X, _, vae = digits
    with pytest.raises(TypeError, match=r"ax must be matplotlib axes or None\. Got Figure"):
        LatentSpaceDisplay.from_estimator(vae, X, ax=plt.figure())
    with pytest.raises(TypeError, match=r"ax must be matplotlib axes or None\. Got str"):
        LossCurveDisplay.from_estimator(vae, ax="here")


# the latent space


def test_codes_are_those_of_transform_in_the_two_components_of_the_most_kl(digits):
    """A component that says nothing is not worth an axis."""
    X, _, vae = digits
    kl = kl_per_dimension(vae, X)
    shown = np.argsort(-kl)[:2]
    display = LatentSpaceDisplay.from_estimator(vae, X)

    np.testing.assert_allclose(display.scatters_[0].get_offsets(), vae.transform(X)[:, shown])
    assert display.ax_.get_xlabel() == f"component {shown[0]} (KL {kl[shown[0]]:.2f} nats)"
    assert display.ax_.get_ylabel() == f"component {shown[1]} (KL {kl[shown[1]]:.2f} nats)"


def test_components_are_those_asked_for(digits):
    """In the order that was asked for."""
    X, _, vae = digits
    display = LatentSpaceDisplay.from_estimator(vae, X, components=(2, 0))

    np.testing.assert_allclose(display.scatters_[0].get_offsets(), vae.transform(X)[:, [2, 0]])


@pytest.mark.parametrize("as_classes", [lambda y: y, lambda y: np.array(list("abcdefghij"))[y]])
def test_classes_have_a_colour_and_a_word_each(digits, as_classes):
    """Numbers and words alike."""
    X, y, vae = digits
    y = as_classes(y)
    display = LatentSpaceDisplay.from_estimator(vae, X, y)
    colours = {tuple(own.get_facecolor()[0]) for own in display.scatters_}
    words = [text.get_text() for text in display.ax_.get_legend().get_texts()]

    assert len(colours) == 10
    assert words == [str(own) for own in np.unique(y)]
    np.testing.assert_allclose(
        display.scatters_[3].get_offsets(), display.codes[y == np.unique(y)[3]]
    )


def test_a_quantity_has_a_colour_bar(digits):
    """A score has no classes; its name is written where it has one."""
    X, _, vae = digits
    score = pd.Series(vae.score_samples(X), name="log p(x), nats")
    display = LatentSpaceDisplay.from_estimator(vae, X, score)
    (_, bar) = display.figure_.axes

    np.testing.assert_allclose(display.scatters_[0].get_array(), score)
    assert bar.get_ylabel() == "log p(x), nats"
    assert display.ax_.get_legend() is None


@pytest.mark.parametrize("y", [np.arange(300), np.arange(300) % 3 + 0.5, np.arange(300.0) % 30])
def test_numbers_with_many_values_or_fractions_are_no_classes(digits, y, ax):
    """A legend of three hundred words helps nobody."""
    X, _, vae = digits
    display = LatentSpaceDisplay.from_estimator(vae, X, y.reshape(-1, 1), ax=ax)

    np.testing.assert_array_equal(display.scatters_[0].get_array(), y)


def test_a_search_over_a_pipeline_is_drawn_as_its_best_end(digits):
    """Rows go through the steps before, and what a step needs is asked of the last one."""
    X, _, _ = digits
    pipeline = make_pipeline(StandardScaler(), VAETransformer(2, **QUICK))
    search = GridSearchCV(pipeline, {"vaetransformer__beta": [1.0]}, cv=2).fit(X)
    best = search.best_estimator_
    codes = LatentSpaceDisplay.from_estimator(search, X)
    rows = ReconstructionDisplay.from_estimator(search, X, image_shape=(8, 8), n_rows=2)
    manifold = ManifoldDisplay.from_estimator(search, image_shape=(8, 8), n_steps=3)
    expected = best.inverse_transform(manifold.values[[[0, 2]]])

    np.testing.assert_allclose(codes.codes, best.transform(X))
    np.testing.assert_allclose(codes.kl, kl_per_dimension(best[-1], best[0].transform(X)))
    np.testing.assert_allclose(rows.X_reconstructed, best.inverse_transform(best.transform(X)))
    np.testing.assert_allclose(manifold.rows[2, 0], expected[0])
    assert len(LossCurveDisplay.from_estimator(search).iterations) == best[-1].n_iter_


# training


def test_curves_are_the_history_with_a_gap_before_the_refit(digits):
    """The second run starts anew; a line between the two would be a jump that never was."""
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
    assert {own.get_ylabel() for own in display.axes_} == {"nats per row"}
    assert "refit on all rows" in [text.get_text() for text in display.axes_[0].texts]


def test_one_run_has_no_mark_and_no_validation_curve(digits):
    """Nothing was set aside, so nothing is repeated."""
    X, _, _ = digits
    vae = VAETransformer(2, early_stopping=False, **QUICK).fit(X)
    display = LossCurveDisplay.from_estimator(vae, terms=["loss", "kl_loss"])

    assert display.refit_from is None
    assert sorted(display.lines_) == ["kl_loss", "loss"]
    assert len(display.lines_["loss"].get_xdata()) == vae.n_iter_


def test_terms_share_axes_or_have_their_own(digits):
    """One pair of axes for all, or one for each, as in scikit-learn's partial dependence."""
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


def test_members_have_curves_of_their_own(named):
    """VAEDensity and the detector train several models."""
    table, _ = named
    X = table.drop(columns="e")
    density = VAEDensity(max_iter=3, random_state=0).fit(X)
    history = pd.DataFrame(density.history_)
    display = LossCurveDisplay.from_estimator(density, member=1)
    expected = history["loss"][history["member"] == 1]

    np.testing.assert_array_equal(display.curves["loss"], expected)
    with pytest.raises(ValueError, match="no records of member=99"):
        LossCurveDisplay.from_estimator(density, member=99)


def test_a_history_that_was_kept_is_drawn():
    """Records are plain values and may come from a file."""
    history = [{"iteration": k + 1, "loss": 5.0 - k, "kl_loss": 1.0 + k} for k in range(3)]
    display = LossCurveDisplay.from_history(history, terms="loss")

    np.testing.assert_array_equal(display.lines_["loss"].get_xydata().T, [[1, 2, 3], [5, 4, 3]])
    with pytest.raises(
        ValueError, match=r"terms must be among \['loss', 'kl_loss'\]. Got \['elbo'"
    ):
        display.plot(terms=["elbo"])
    with pytest.raises(ValueError, match="terms must be among"):
        display.plot(terms=[])


# reconstructions


def test_originals_stand_above_their_reconstructions(digits):
    """Row by row the pixels of X, and of what inverse_transform makes of its code."""
    X, _, vae = digits
    display = ReconstructionDisplay.from_estimator(vae, X, image_shape=(8, 8), n_rows=4)
    back = vae.inverse_transform(vae.transform(X))
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    above, below = (own.get_extent() for own in display.images_[:, 0])

    np.testing.assert_allclose(pixels(display.images_)[0], X[:4].reshape(4, 8, 8))
    np.testing.assert_allclose(pixels(display.images_)[1], back[:4].reshape(4, 8, 8))
    assert names == ["original", "reconstructed"]
    assert (
        display.ax_.transData.transform((0, above[2]))[1]
        > (display.ax_.transData.transform((0, below[2]))[1])
    )
    assert all(own.get_clim() == (X.min(), X.max()) for own in display.images_.flat)


def test_images_stand_upright(ax):
    """The first pixel of a row of X is at the upper left."""
    X = np.zeros((1, 6))
    X[0, 0] = 1.0
    display = ReconstructionDisplay.from_predictions(X, X, image_shape=(2, 3), ax=ax)
    left, right, bottom, top = display.images_[0, 0].get_extent()
    (x0, y0), (x1, y1) = ax.transData.transform([(left, bottom), (right, top)])

    assert display.images_[0, 0].origin == "upper"
    assert x0 < x1
    assert y0 < y1


def test_a_third_layer_shows_what_rows_were_before(digits):
    """Noise and holes are seen beside the truth; holes in a colour that no grey has."""
    X, _, vae = digits
    holes = X[:3].copy()
    holes[:, :20] = np.nan
    filled = vae.impute(holes)
    display = ReconstructionDisplay.from_predictions(
        holes, filled, X_true=X[:3], image_shape=(8, 8), cmap="gray_r"
    )
    drawn = pixels(display.images_).reshape(3, 3, 64)
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    colours = display.images_[1, 0].to_rgba(np.ma.masked_invalid(holes[0].reshape(8, 8)))

    np.testing.assert_allclose(drawn[0], X[:3])
    np.testing.assert_allclose(drawn[2], filled)
    assert names == ["true", "given", "reconstructed"]
    assert len(set(colours[0, 0, :3])) == 3
    assert len(set(colours[7, 0, :3])) == 1


@pytest.mark.parametrize("image_shape", [(3, 2, 4), (2, 4, 3)])
def test_colours_may_come_first_or_last(image_shape, rng):
    """As torch has them, and as image files have them; as shares of the brightest."""
    X = rng.integers(0, 256, size=(2, 24)).astype(float)
    X[0, :2] = 0.0, 255.0
    image = X[0].reshape(image_shape)
    image = np.moveaxis(image, 0, -1) if image_shape[0] == 3 else image
    display = ReconstructionDisplay.from_predictions(X, X, image_shape=image_shape)

    np.testing.assert_allclose(display.images_[0, 0].get_array(), image / 255, atol=1e-12)


def test_one_channel_is_grey(rng):
    """As convolutional networks count it."""
    X = rng.random((2, 6))
    display = ReconstructionDisplay.from_predictions(X, X, image_shape=(1, 2, 3))

    np.testing.assert_allclose(display.images_[1, 1].get_array(), X[1].reshape(2, 3))


def test_rows_of_a_table_are_lines_in_standard_deviations(named):
    """Columns of several units share one axis; a constant one lies at 0."""
    table, vae = named
    display = ReconstructionDisplay.from_estimator(vae, table, n_rows=2)
    centred = (table - table.mean()) / table.std(ddof=0).replace(0, 1)
    back = pd.DataFrame(vae.inverse_transform(vae.transform(table)), columns=table.columns)
    back = (back - table.mean()) / table.std(ddof=0).replace(0, 1)
    drawn = np.array([[line.get_ydata() for line in layer] for layer in display.lines_])

    np.testing.assert_allclose(drawn[0], centred[:2], atol=1e-9)
    np.testing.assert_allclose(drawn[1], back[:2], atol=1e-9)
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == list("abcde")
    assert display.ax_.get_ylabel() == "standard deviations"
    colours = np.array([[line.get_color() for line in layer] for layer in display.lines_])
    assert (colours[0] == colours[1]).all()
    assert colours[0, 0] != colours[0, 1]


def test_a_pca_is_drawn_beside(digits):
    """Anything that gives codes and rows back can be compared."""
    X, _, _ = digits
    pca = PCA(2).fit(X)
    display = ReconstructionDisplay.from_estimator(pca, X, image_shape=(8, 8), n_rows=1)

    np.testing.assert_allclose(
        pixels(display.images_)[1, 0].ravel(), pca.inverse_transform(pca.transform(X[:1]))[0]
    )


# traversals and the manifold


def test_a_walk_changes_one_component_and_holds_the_others_at_the_row(digits):
    """All others are held at the row's code; the walk goes by quantiles of the rows' codes."""
    X, _, vae = digits
    code = vae.transform(X)[7]
    kl = kl_per_dimension(vae, X)
    display = TraversalDisplay.from_estimator(
        vae, X, row=7, n_steps=5, coverage=0.8, image_shape=(8, 8)
    )
    first = int(np.argmax(kl))
    walk = np.tile(code, (5, 1))
    walk[:, first] = np.quantile(vae.transform(X)[:, first], [0.1, 0.3, 0.5, 0.7, 0.9])
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    ticks = [label.get_text() for label in display.ax_.get_xticklabels()]

    np.testing.assert_allclose(
        pixels(display.images_)[0].reshape(5, 64), vae.inverse_transform(walk), rtol=1e-5, atol=1e-5
    )
    assert display.components == np.argsort(-kl).tolist()
    assert names[0] == f"component {first}\nKL {kl[first]:.2f} nats"
    assert ticks == ["10 %", "30 %", "50 %", "70 %", "90 %"]
    assert display.images_[0, 0].get_clim() == (X.min(), X.max())


def test_a_table_s_walk_is_drawn_as_changes(named):
    """In standard deviations from the walk's mean, and upwards as codes go up."""
    table, vae = named
    display = TraversalDisplay.from_estimator(vae, table, components=1, n_steps=3)
    low, middle, high = np.quantile(vae.transform(table)[:, 1], [0.025, 0.5, 0.975])
    rows = vae.inverse_transform([[0, low], [0, middle], [0, high]])
    scale = table.std(ddof=0).replace(0, 1).to_numpy()
    image = display.images_[0, 0]
    _, _, bottom, top = image.get_extent()
    low, high = display.ax_.transData.transform([(0, bottom), (0, top)])[:, 1]

    np.testing.assert_allclose(
        image.get_array(), (rows - rows.mean(axis=0)) / scale, rtol=1e-5, atol=1e-6
    )
    assert image.origin == "lower"
    assert low < high
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == list("abcde")
    assert "standard deviations" in display.figure_.axes[1].get_ylabel()


def test_the_manifold_stands_at_quantiles_of_the_prior(digits):
    """Each image for an equal share of the codes; the first component goes to the right."""
    X, _, vae = digits
    display = ManifoldDisplay.from_estimator(
        vae, X, components=(2, 0), n_steps=3, coverage=0.5, image_shape=(8, 8), gap=0.1
    )
    low, _, high = expected = stats.norm.ppf([0.25, 0.5, 0.75])
    right_below = vae.inverse_transform([[low, 0, high]])[0]

    np.testing.assert_allclose(display.values, expected, atol=1e-12)
    np.testing.assert_allclose(
        display.images_[0, 2].get_array().ravel(), right_below, rtol=1e-5, atol=1e-5
    )
    left, _, bottom, top = display.images_[0, 2].get_extent()
    x, y = display.ax_.transData.transform((left, bottom))
    assert (x, y) > tuple(display.ax_.transData.transform((0.5, -0.6)))
    assert y < display.ax_.transData.transform((left, top))[1]
    assert display.ax_.get_xlabel() == "component 2"
    assert display.ax_.get_ylabel() == "component 0"


def test_the_manifold_spans_the_components_of_the_most_kl(digits):
    """Where rows are given, by which they are found."""
    X, _, vae = digits
    found = ManifoldDisplay.from_estimator(vae, X, n_steps=2, image_shape=(8, 8))
    first = ManifoldDisplay.from_estimator(vae, n_steps=2, image_shape=(8, 8))

    assert found.components == np.argsort(-kl_per_dimension(vae, X))[:2].tolist()
    assert first.components == [0, 1]


# explanations and calibration


def test_bars_are_the_parts_and_add_up(named):
    """The largest on top; what has no bar of its own is summed, so that nothing is lost."""
    table, _ = named
    detector = VAEOutlierDetector(random_state=0, max_iter=3).fit(table)
    (parts,) = detector.explain(table.iloc[[4]])
    display = ExplanationDisplay.from_estimator(detector, table.iloc[[4]], n_columns=2)
    lengths = [bar.get_width() for bar in display.bars_]
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    shown = np.argsort(-np.abs(parts))[:2]
    shown = shown[np.argsort(-parts[shown])]

    np.testing.assert_allclose(lengths[:2], parts[shown])
    assert sum(lengths) == pytest.approx(parts.sum())
    assert names[0] == f"{table.columns[shown[0]]} = {table.iloc[4, shown[0]]:.4g}"
    assert names[2] == "3 other columns"
    assert "nats" in display.ax_.get_xlabel()
    assert display.ax_.yaxis_inverted()


def test_several_rows_are_explained_on_average(named):
    """And no value stands beside a name; a method's distances are not called nats."""
    table, _ = named
    detector = VAEOutlierDetector(method="masked", random_state=0, max_iter=3).fit(table)
    display = ExplanationDisplay.from_estimator(detector, table[:9])

    np.testing.assert_allclose(display.parts, detector.explain(table[:9]).mean(axis=0))
    assert sorted(t.get_text() for t in display.ax_.get_yticklabels()) == list("abcde")
    assert "units of the score" in display.ax_.get_xlabel()


@pytest.mark.parametrize("kind", ["curve", "histogram"])
def test_transforms_are_those_of_calibration(named, kind):
    """As shares of rows below, or as densities; the constant column is left out."""
    table, vae = named
    display = PITCalibrationDisplay.from_estimator(vae, table, n_draws=64, kind=kind)
    pit = pit_calibration(vae, table, n_draws=64).pit
    line = display.lines_[1]
    x, y = line.get_data()

    assert sorted(display.lines_) == [0, 1, 2, 3]
    if kind == "curve":
        below = stats.ecdf(pit[:, 1]).cdf.evaluate(x[1:-1])
        np.testing.assert_allclose(y[1:-1], below, atol=1e-12)
    else:
        heights, edges = np.histogram(pit[:, 1], bins=len(x) - 1, range=(0, 1), density=True)
        np.testing.assert_allclose(x, edges)
        np.testing.assert_allclose(y[:-1], heights)


def test_the_band_is_kolmogorov_s():
    """Curves of uniform transforms leave it in one case of twenty."""
    n = 40
    display = PITCalibrationDisplay(pit=np.random.default_rng(0).uniform(size=(n, 1))).plot()
    upper = display.band_.get_paths()[0].vertices
    height = upper[:, 1][np.isclose(upper[:, 0], 0)].max()
    drawn = np.random.default_rng(1).uniform(size=(2000, n))
    off = [stats.kstest(row, "uniform").statistic for row in drawn]

    assert (off < height).mean() == pytest.approx(0.95, abs=0.015)


def test_only_the_worst_columns_are_named(rng):
    """A table of many columns would have a legend without an end."""
    pit = rng.uniform(size=(100, 9))
    pit[:, 4] **= 4
    display = PITCalibrationDisplay(pit=pit).plot()
    words = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    distance = stats.kstest(pit[:, 4], "uniform").statistic

    assert len(words) == 7
    assert words[1] == f"4, {distance:.2f} off"


# what is refused


@pytest.mark.parametrize(
    ("draw", "match"),
    [
        (lambda vae, X: LatentSpaceDisplay.from_estimator(vae, X, components=(0, 3)), "Got 3 in"),
        (lambda vae, X: LatentSpaceDisplay.from_estimator(vae, X, components=(0,)), "2 integers"),
        (lambda vae, X: LatentSpaceDisplay.from_estimator(vae, X, components=(1, 1)), "differ"),
        (lambda vae, X: LatentSpaceDisplay.from_estimator(vae, X, [1, 2]), "inconsistent"),
        (lambda vae, X: TraversalDisplay.from_estimator(vae, X, components=[]), "components must"),
        (lambda vae, X: TraversalDisplay.from_estimator(vae, X, components=-1), "among 0 to 2"),
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
        (lambda vae, X: ExplanationDisplay(parts=X[0]).plot(n_columns=0), "n_columns must be"),
        (lambda vae, X: PITCalibrationDisplay(pit=np.full((3, 1), np.nan)).plot(), "were constant"),
    ],
)
def test_wrong_arguments_are_named(digits, draw, match):
    """What was given and what is allowed, before a picture is made of it."""
    X, _, vae = digits
    with pytest.raises(ValueError, match=match):
        draw(vae, X)


def test_an_estimator_without_codes_is_refused(named):
    """VAEDensity's codes are not for use, and an imputer gives rows for rows."""
    table, _ = named
    density = VAEDensity(max_iter=1, random_state=0).fit(table)
    imputer = VAEImputer(random_state=0).fit(table)
    pca = PCA(2).fit(table)

    with pytest.raises(TypeError, match=r"LatentSpaceDisplay needs .* Got VAEDensity"):
        LatentSpaceDisplay.from_estimator(density, table)
    with pytest.raises(TypeError, match="Got VAEImputer"):
        ReconstructionDisplay.from_estimator(imputer, table)
    with pytest.raises(TypeError, match=r"needs a variational autoencoder .* Got PCA"):
        TraversalDisplay.from_estimator(pca, table)
    with pytest.raises(TypeError, match=r"LossCurveDisplay needs .* history_.* Got PCA"):
        LossCurveDisplay.from_estimator(pca)
    with pytest.raises(TypeError, match=r"PITCalibrationDisplay needs .* Got PCA"):
        PITCalibrationDisplay.from_estimator(pca, table)
    with pytest.raises(TypeError, match=r"ExplanationDisplay needs .* explain.* Got PCA"):
        ExplanationDisplay.from_estimator(pca, table)


def test_one_component_spans_no_plane(named):
    """What to do with it is for the user to say."""
    table, _ = named
    vae = VAETransformer(1, **QUICK).fit(table)
    with pytest.raises(ValueError, match="at least two components, and the estimator has 1"):
        LatentSpaceDisplay.from_estimator(vae, table)


def test_what_is_not_fitted_is_refused(named):
    """With scikit-learn's own error."""
    table, _ = named
    for display in (
        LatentSpaceDisplay,
        ReconstructionDisplay,
        TraversalDisplay,
        PITCalibrationDisplay,
    ):
        with pytest.raises(NotFittedError):
            display.from_estimator(VAETransformer(), table)
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(VAETransformer())
    with pytest.raises(NotFittedError):
        ManifoldDisplay.from_estimator(VAETransformer(), image_shape=(1, 5))
    with pytest.raises(NotFittedError):
        ExplanationDisplay.from_estimator(VAEOutlierDetector(), table)


def test_words_are_not_drawn(named):
    """A table with categories has no lines; the message says so."""
    table, _ = named
    mixed = table.assign(e=np.where(table["a"] > 0, "yes", "no")).astype({"e": "category"})
    vae = VAETransformer(2, **QUICK).fit(mixed)
    with pytest.raises(ValueError, match="X must be a table of numbers to be drawn"):
        ReconstructionDisplay.from_estimator(vae, mixed)


@pytest.mark.parametrize("posterior", ["full", "categorical"])
def test_posteriors_without_a_kl_per_unit_are_drawn_too(posterior):
    """The dimensions that are shown are then those whose codes vary most."""
    X = load_iris().data
    vae = VAETransformer(4, posterior=posterior, max_iter=3, random_state=0).fit(X)
    display = LatentSpaceDisplay.from_estimator(vae, X)
    most = np.argsort(-vae.transform(X).var(axis=0), kind="stable")[:2]

    assert sorted(display.components) == sorted(most)
