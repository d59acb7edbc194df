"""Densities of rows given classes or numbers, and the classifier that follows from them."""

import pickle

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression
from skorch.callbacks import Callback

from sklearn_vae import VAEClassifier, VAEDensity, VAEImputer, VAETransformer, load
from sklearn_vae.initialization.ppca import ConditionRegression
from sklearn_vae.metrics import active_units, kl_per_dimension, pit_calibration
from sklearn_vae.model_selection import VAESearchCV
from sklearn_vae.networks import ConvNet, GRUNet
from tests.conftest import as_table, condition_normal, reread, slow
from tests.model_selection.test_search import both

pd = pytest.importorskip("pandas")

LETTERS = np.array(["a", "b", "c"])
# no step of any size: a model stays at its start
STILL = {
    "prior": "normal",
    "likelihood": "gaussian",
    "learning_rate": 1e-12,
    "max_iter": 1,
    "early_stopping": False,
    "random_state": 0,
}


# integers, strings, floats and objects
CLASSES = [3, 5, 8], ["a", "b", "c"], [0.0, 1.0, 2.0], np.array(["a", "b", "c"], object)


def rows_of_classes(n=300, seed=0, n_columns=4):
    """Normal rows about three centres, and the names of these."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(1)
    centre, loadings = 2 * fixed.normal(size=(3, n_columns)), fixed.normal(size=(2, n_columns))
    place = rng.integers(3, size=n)
    noise = 0.5 * rng.normal(size=(n, n_columns))
    return centre[place] + rng.normal(size=(n, 2)) @ loadings + noise, LETTERS[place]


def rows_of_numbers(n=300, seed=0, n_columns=4):
    """Normal rows that follow a line in y, the line, and the covariance about it."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(1)
    slope, loadings = 2 * fixed.normal(size=n_columns), fixed.normal(size=(2, n_columns))
    y = 3 * rng.normal(size=n) + 10
    noise = 0.5 * rng.normal(size=(n, n_columns))
    X = np.outer(y, slope) + rng.normal(size=(n, 2)) @ loadings + noise
    return X, y, slope, loadings.T @ loadings + 0.25 * np.eye(n_columns)


def residual_density(rest):
    """Log-density of two-factor probabilistic PCA of residuals, by its formulas."""
    scale = rest.std(axis=0)
    values, axes = np.linalg.eigh(np.corrcoef(rest.T))
    noise = values[:-2].mean()
    axes = axes[:, -2:] * np.sqrt(values[-2:] - noise)
    covariance = (axes @ axes.T + noise * np.eye(len(scale))) * np.outer(scale, scale)
    return stats.multivariate_normal(np.zeros(len(scale)), covariance).logpdf(rest)


@pytest.fixture(scope="module")
def of_classes():
    X, y = rows_of_classes()
    return VAETransformer(2, conditional=True, max_iter=5, random_state=0).fit(X, y), X, y


@pytest.fixture(scope="module")
def of_numbers():
    X, y, *_ = rows_of_numbers()
    return VAETransformer(2, conditional=True, max_iter=5, random_state=0).fit(X, y), X, y


# -- the start -------------------------------------------------------------------------


def test_the_initial_score_given_classes_is_the_normal_density_about_the_class_means():
    """Before the first step the model is exact: scipy's density of rows about class means."""
    X, y = rows_of_classes()
    rest = X - np.array([X[y == own].mean(axis=0) for own in y])

    vae = VAETransformer(2, conditional=True, **STILL).fit(X, y)

    found = vae.score_samples(X, y, n_draws=1024)
    np.testing.assert_allclose(found, residual_density(rest), atol=2e-3)


@pytest.mark.parametrize("units", [1e6, *slow(1.0)])
def test_the_initial_score_given_numbers_is_the_normal_density_about_the_regression(units):
    """The same for numbers, in any units; here LinearRegression says what is left."""
    X, y, *_ = rows_of_numbers()
    rest = X - LinearRegression().fit(y[:, None], X).predict(y[:, None])

    vae = VAETransformer(2, conditional=True, **STILL).fit(X, units * y)

    found = vae.score_samples(X, units * y, n_draws=1024)
    np.testing.assert_allclose(found, residual_density(rest), atol=2e-3)


def test_the_initial_score_of_incomplete_rows_is_the_marginal_normal_density():
    """Cells are missing, y is not: scipy's marginal density, of a model fitted to the whole."""
    X, y, slope, covariance = rows_of_numbers(2000)
    holed = np.where(np.random.default_rng(2).random(X.shape) < 0.2, np.nan, X)

    vae = VAETransformer(2, conditional=True, **STILL).fit(holed, y)
    own, given = holed[:60], y[:60]
    some = ~np.isnan(own).all(axis=1)
    rows = zip(given[some], own[some], strict=True)
    expected = [condition_normal(t * slope, covariance, row)[0] for t, row in rows]

    assert vae.score(own[some], given[some]) == pytest.approx(np.mean(expected), abs=0.1)


def test_the_regression_on_conditions_is_weighted_least_squares(rng):
    """LinearRegression is the oracle, with weights as well."""
    c, weight = rng.normal(size=(50, 2)), rng.integers(1, 4, 50).astype(float)
    x = c @ rng.normal(size=(2, 3)) + rng.normal(size=(50, 3))
    expected = LinearRegression().fit(c, x, sample_weight=weight)

    found = ConditionRegression.fit(np.hstack([x, c]), weight, 3)

    np.testing.assert_allclose(found.coef, expected.coef_.T, atol=1e-4)


# -- the density -----------------------------------------------------------------------


def test_the_mean_score_given_y_is_higher_by_the_mutual_information():
    """Given y the score is higher by I(x; y), which has a closed form for normal rows."""
    X, y, slope, covariance = rows_of_numbers(600)
    test, given, *_ = rows_of_numbers(600, seed=5)
    marginal = covariance + 9 * np.outer(slope, slope)
    expected = 0.5 * (np.linalg.slogdet(marginal)[1] - np.linalg.slogdet(covariance)[1])

    params = {"max_iter": 8, "random_state": 0}
    without = VAETransformer(3, **params).fit(X).score(test)
    score = VAETransformer(2, conditional=True, **params).fit(X, y).score(test, given)

    assert score - without == pytest.approx(expected, abs=0.2)


def test_the_score_without_y_is_the_log_of_the_average_over_classes(of_classes):
    """log p(x) = log sum_k p(k) p(x|k), with the classes' shares in the fit."""
    vae, X, y = of_classes[0], of_classes[1][:60], of_classes[2]
    joint = [vae.score_samples(X, own) + np.log(np.mean(y == own)) for own in LETTERS]

    np.testing.assert_allclose(vae.score_samples(X), logsumexp(joint, axis=0), atol=1e-8)
    scores, error = vae.score_samples(X[:5], return_std=True)
    assert scores.shape == error.shape == (5,)
    assert vae.score(X) == pytest.approx(logsumexp(joint, axis=0).mean())


def test_codes_without_y_are_averages_over_the_classes(of_classes):
    """E[z|x] = sum_k p(k|x) E[z|x, k]; fit_transform gives the same as transform."""
    vae, X, y = of_classes
    joint = np.stack([vae.score_samples(X, own) + np.log(np.mean(y == own)) for own in LETTERS])
    posterior = np.exp(joint - logsumexp(joint, axis=0))
    expected = sum(
        p[:, None] * vae.transform(X, k) for p, k in zip(posterior, LETTERS, strict=True)
    )

    np.testing.assert_allclose(vae.transform(X), expected, atol=1e-8)
    np.testing.assert_array_equal(clone(vae).fit_transform(X, y), vae.transform(X))


def test_a_model_given_numbers_refuses_rows_without_y(of_numbers):
    """No mean can be taken over numbers; fit_transform has them at hand."""
    vae, X, y = of_numbers

    for ask in (vae.score_samples, vae.transform, vae.score):
        with pytest.raises(ValueError, match=r"requires y to be passed.*numbers"):
            ask(X)
    with pytest.raises(ValueError, match="requires y to be passed"):
        vae.sample(3)
    np.testing.assert_array_equal(clone(vae).fit_transform(X, y), vae.transform(X, y))


def test_samples_given_y_have_the_mean_and_covariance_of_rows_with_that_y(of_classes, of_numbers):
    """Means and spreads of rows drawn given y are those of the rows that were given it."""
    vae, X, y = of_classes
    drawn = vae.sample(4000, random_state=0, y="b")
    np.testing.assert_allclose(drawn.mean(axis=0), X[y == "b"].mean(axis=0), atol=0.2)

    vae, X, y = of_numbers
    given = np.repeat([5.0, 15.0], 2000)
    drawn = vae.sample(4000, random_state=0, y=given)
    line = LinearRegression().fit(y[:, None], X)
    for own in (5.0, 15.0):
        expected = line.predict([[own]])[0]
        np.testing.assert_allclose(drawn[given == own].mean(axis=0), expected, atol=0.5)


def test_y_may_be_a_data_frame_of_classes_and_numbers():
    """Classes and numbers side by side in a data frame; the regression on both is the oracle."""
    X, y, *_ = rows_of_numbers()
    rows, letters = rows_of_classes()
    given = pd.DataFrame({"t": y, "k": pd.Categorical(letters)})
    known = np.column_stack([y, *(letters == own for own in LETTERS)])
    rest = X + rows - LinearRegression().fit(known, X + rows).predict(known)

    vae = VAETransformer(2, conditional=True, **STILL).fit(X + rows, given)

    found = vae.score_samples(X + rows, given)
    np.testing.assert_allclose(found, residual_density(rest), atol=0.02)
    with pytest.raises(ValueError, match="several columns"):
        vae.score_samples(X)
    with pytest.raises(ValueError, match="must have 2 columns"):
        vae.score_samples(X, y)


# -- missing cells ---------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
def test_missing_cells_are_imputed_by_the_conditional_mean_given_y(whole):
    """By what is known of the row and by y: the normal distribution's conditional mean."""
    X, y, slope, covariance = rows_of_numbers(600)
    rows = X if whole else np.where(np.random.default_rng(2).random(X.shape) < 0.1, np.nan, X)
    holed = X[:100].copy()
    holed[:, 1:] = np.nan

    vae = VAETransformer(2, conditional=True, max_iter=3, random_state=0).fit(rows, y)

    rest = X[:100, 0] - y[:100] * slope[0]
    expected = np.outer(y[:100], slope) + np.outer(rest, covariance[0] / covariance[0, 0])
    found = vae.impute(holed, y=y[:100])
    error = np.sqrt(np.square(found - expected).mean(axis=0))
    assert (error < 0.25 * np.sqrt(covariance.diagonal())).all()
    drawn = vae.impute(holed, 4, random_state=0, y=y[:100])
    assert drawn.shape == (4, 100, 4)
    assert np.isfinite(vae.transform(holed, y[:100])).all()


# -- what is refused -------------------------------------------------------------------


def test_invalid_y_is_refused_with_a_message_that_names_y(of_classes, of_numbers):
    """Each message says what y has to be, and the estimator stays as it was."""
    vae, X, _ = of_classes
    with pytest.raises(ValueError, match=r"class 'd', which no row had.*'a', 'b', 'c'.*Leave"):
        vae.score_samples(X[:2], ["a", "d"])
    with pytest.raises(ValueError, match=r"as many rows as X.*3\. Got 2"):
        vae.sample(3, y=["a", "b"])
    with pytest.raises(ValueError, match="requires y to be passed"):
        vae.inverse_transform(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="'estimator' parameter of VAEImputer"):
        VAEImputer(VAETransformer(conditional=True)).fit(X)
    for message, *values in (
        ("requires y to be passed", None),
        ("y contains missing values", ["a", None], ["a", np.nan], [True, None], [1, None]),
        ("y contains NaN", np.ma.masked_array([1, 2], [True, False]), [0.5, np.nan]),
        (r"strings, or numbers, and not both.*types int, str", ["a", 1]),
        (r"a value for each row of X in fit\. Got .*species", "species", np.array("species")),
        (r"dtype datetime64", np.array(["2000-01-01"] * 2, dtype="M8[D]")),
        (r"shape \(1, 2, 1\)", np.zeros((1, 2, 1))),
        (r"shape \(2, 0\)", pd.DataFrame(index=range(2))),
    ):
        for y in values:
            with pytest.raises(ValueError, match=message):
                VAETransformer(conditional=True).fit(X[:2], y)
    with pytest.raises(ValueError, match="must hold numbers, as in fit"):
        of_numbers[0].score_samples(X[:2], ["a", "b"])


@pytest.mark.parametrize(
    ("cls", "library"),
    [(VAEDensity, "pandas"), *((VAETransformer, name) for name in ("pandas", "polars", "pyarrow"))],
)
def test_the_columns_of_y_are_known_by_name(cls, library, tmp_path):
    """In another order they would be other conditions; a saved model knows them, too."""
    X, _ = rows_of_classes(30)
    frame = pd.DataFrame({"length": X[:, 0], "width": X[:, 1]})
    y, swapped = (as_table(each, library) for each in (frame, frame[["width", "length"]]))
    model = cls(conditional=True, max_iter=1, random_state=0).fit(X[:, 2:], y)
    again = reread(model, tmp_path)

    np.testing.assert_array_equal(
        again.score_samples(X[:, 2:], y), model.score_samples(X[:, 2:], y)
    )
    for fitted in (model, again):
        with pytest.raises(ValueError, match=r"'length', 'width'\. Column 0 is 'width'"):
            fitted.score_samples(X[:, 2:], swapped)
        by_name = fitted.score_samples(X[:, 2:], y)
        np.testing.assert_array_equal(by_name, fitted.score_samples(X[:, 2:], frame.to_numpy()))


@pytest.mark.parametrize("cls", [VAETransformer, VAEDensity])
def test_a_dict_has_a_value_of_each_column_of_y_for_all_rows(cls):
    """As ``given`` has; the oracle is a data frame of equal rows."""
    X = np.random.default_rng(0).normal(size=(40, 2))
    y = pd.DataFrame({"kind": ["a", "b"] * 20, "age": np.arange(40.0)})
    model = cls(1, max_iter=1, conditional=True, random_state=0).fit(X, y)
    values = {"kind": "b", "age": 3.0}
    rows = pd.DataFrame([values] * 40)

    np.testing.assert_array_equal(model.score_samples(X, values), model.score_samples(X, rows))
    drawn = (model.sample(40, y=each, random_state=0) for each in (values, rows))
    np.testing.assert_array_equal(*drawn)
    with pytest.raises(ValueError, match=r"y must have the columns of y in fit.* Missing: 'age'"):
        model.sample(2, y={"kind": "a"})
    with pytest.raises(TypeError, match=r"y is or holds a dict of the keys \[\]"):
        model.sample(2, y={})


def test_partial_fit_refuses_another_conditional_or_a_new_class(of_classes):
    """A model of p(x) cannot become one of p(x|y) on the way, nor have another class."""
    vae, X, y = of_classes
    going_on = pickle.loads(pickle.dumps(vae))

    with pytest.raises(ValueError, match="'conditional' parameter must be True"):
        going_on.set_params(conditional=False).partial_fit(X, y)
    with pytest.raises(ValueError, match="class 'z'"):
        going_on.set_params(conditional=True).partial_fit(X, np.full(len(X), "z"))
    before = going_on.score(X, y)
    assert going_on.partial_fit(X[:50], y[:50]).score(X, y) == pytest.approx(before, abs=0.5)


# -- scikit-learn ----------------------------------------------------------------------


def test_an_unconditional_model_ignores_y():
    """As before: a Pipeline may pass y to any step."""
    X, y = rows_of_classes(60)
    alone, beside = (VAETransformer(2, max_iter=2, random_state=0).fit(X, own) for own in (None, y))

    np.testing.assert_array_equal(alone.score_samples(X), beside.score_samples(X, y))


def test_both_searches_pass_y_and_find_the_same_scores():
    """Both searches pass y on, and find the same scores."""
    X, y = rows_of_classes(150)
    vae = VAETransformer(conditional=True, max_iter=1, random_state=0)
    ours, _ = both(vae, {"n_components": [1, 2]}, X=X, y=y, cv=3, atol=1e-4)

    assert ours.best_params_ == {"n_components": 2}


def test_a_search_over_conditional_does_not_share_encoded_rows():
    """Candidates share encoded rows only with those that see the same."""
    X, y = rows_of_classes(150)
    grid = {"conditional": [False, True]}
    search = VAESearchCV(VAETransformer(2, max_iter=2, random_state=0), grid, cv=2).fit(X, y)

    without, given = search.cv_results_["mean_test_score"]
    assert given > without + 0.3


def test_metrics_pass_y_to_the_model(of_classes):
    """Codes and columns are judged given y; transforms of a right model are uniform."""
    vae, X, y = of_classes

    assert kl_per_dimension(vae, X, y).shape == active_units(vae, X, y).shape == (2,)
    found = pit_calibration(vae, X, y)
    assert found.pit.shape == X.shape
    assert (found.pvalue > 1e-3).all()
    with pytest.raises(ValueError, match="requires y"):
        kl_per_dimension(vae, X)
    density = VAEDensity(max_iter=1, random_state=0).fit(X)
    assert pit_calibration(density, X, n_draws=64).pit.shape == X.shape


# -- the classifier --------------------------------------------------------------------


def test_the_initial_classifier_is_linear_discriminant_analysis():
    """At its start, with as many factors as columns but one, it is LDA with a covariance so cut."""
    X, y = rows_of_classes(600)
    model = VAEClassifier(VAETransformer(3, conditional=True, **STILL)).fit(X, y)
    lda = LinearDiscriminantAnalysis().fit(X, y)

    np.testing.assert_allclose(model.predict_proba(X), lda.predict_proba(X), atol=0.02)


@pytest.mark.parametrize("cls", [VAETransformer, *slow(VAEDensity)])
def test_class_probabilities_follow_bayes_rule(cls):
    """By the model's own scores; other priors move them as they should."""
    X, y = rows_of_classes(90)
    inner = cls(2, conditional=True, max_iter=2, random_state=0)
    usual = VAEClassifier(inner).fit(X, y)
    asked = VAEClassifier(inner, priors=[0.1, 0.2, 0.7]).fit(X, y)
    scores = np.stack([usual.estimator_.score_samples(X, k) for k in LETTERS], axis=1)

    for model, priors in (
        (usual, np.bincount(np.searchsorted(LETTERS, y)) / 90),
        (asked, asked.priors),
    ):
        joint = scores + np.log(priors)
        expected = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-6)
    np.testing.assert_array_equal(usual.predict(X), LETTERS[usual.predict_proba(X).argmax(axis=1)])
    assert usual.score(*rows_of_classes(150, seed=2)) > 0.9


@pytest.mark.parametrize(
    ("cls", "classes"),
    [
        (VAEDensity, ["a", "b", "c"]),
        *((VAETransformer, classes) for classes in CLASSES[2:]),
        *slow(*((VAEDensity, classes) for classes in CLASSES)),
    ],
)
def test_the_classifiers_model_has_its_classes_as_y(cls, classes, tmp_path):
    """Also where a class has rows of weight 0 alone, and is none; also read from a file."""
    X, codes = (part[::5] for part in load_iris(return_X_y=True))
    y = np.asarray(classes)[codes]
    model = VAEClassifier(cls(2, max_iter=1), random_state=0)
    model.fit(X, y, sample_weight=(codes != 1).astype(float))
    again = reread(model, tmp_path)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    for inner in (model.estimator_, again.estimator_):
        joint = [inner.score_samples(X, y=k) for k in model.classes_]

        assert inner.sample(2, y=model.classes_[1]).shape == (2, 4)
        np.testing.assert_array_equal(model.predict(X), model.classes_[np.argmax(joint, axis=0)])
    assert model.classes_.tolist() == [classes[0], classes[2]]


def test_integers_that_are_numbers_are_warned_of():
    """A price in y would be hundreds of classes; classes of few rows each are none of it."""
    X, _ = rows_of_classes(60)
    model = VAETransformer(1, conditional=True, **STILL)
    with pytest.warns(UserWarning, match=r"^y holds 50 different integers in 60 rows.*y\.astype"):
        model.fit(X, np.arange(60) % 50)
    with pytest.warns(UserWarning, match=r"^Column 'price' of y holds 60 different integers"):
        model.fit(X, pd.DataFrame({"price": np.arange(60), "town": ["a", "b"] * 30}))
    for y in (np.arange(60) % 30, np.arange(60.0), np.arange(60).astype(str)):
        model.fit(X, y)  # a warning would be an error


def test_wrong_priors_are_refused_before_the_training():
    """Of a long one, the error would come at its end."""

    class Refuse(Callback):
        def on_train_begin(self, net, **kwargs):
            pytest.fail("The training has begun.")

    X, y = load_iris(return_X_y=True)
    model = VAEClassifier(VAETransformer(2, callbacks=[Refuse()]), priors=[0.5, 0.5])
    with pytest.raises(ValueError, match="3 numbers"):
        model.fit(X, y)
    assert not hasattr(model, "classes_")


def test_priors_may_be_set_after_the_fit(tmp_path):
    """And are checked at use, and before a file is written that could not be read."""
    X, y = (part[::5] for part in load_iris(return_X_y=True))
    model = VAEClassifier(VAETransformer(2, max_iter=1), random_state=0).fit(X, y)
    model.save(tmp_path / "model.vae")
    model.priors_ = [1, 0, 0]
    assert (model.predict(X) == 0).all()
    model.priors_ = [0, 1, 0]
    assert (reread(model, tmp_path).predict(X) == 1).all()
    for priors in (np.array([0.5, 0.5]), np.array([-1.0, 1.0, 1.0]), "abc"):
        model.priors_ = priors
        with pytest.raises(ValueError, match=r"'priors_' attribute .* 3 numbers of at least 0"):
            model.predict(X)
        with pytest.raises(ValueError, match="'priors_' attribute"):
            model.save(tmp_path / "model.vae")

    assert (load(tmp_path / "model.vae").predict(X) == 1).all()


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_classes_are_refused(missing):
    """numpy compares them with the others, and fails with a message about types."""
    y = np.array(["a", missing] * 10, dtype=object)

    with pytest.raises(ValueError, match="y contains missing values"):
        VAEClassifier().fit(np.zeros((20, 2)), y)


def test_a_classifier_without_y_names_itself():
    with pytest.raises(ValueError, match="VAEClassifier requires y to be passed"):
        VAEClassifier().fit(np.zeros((20, 2)), None)


def test_the_classifier_fits_a_conditional_clone():
    """The copy that it fits is a model of p(x|y); the one that it was given stays as it is."""
    X, y = (part[::3] for part in load_iris(return_X_y=True))
    model = VAETransformer(2, max_iter=1, random_state=0)
    found = VAEClassifier(model).fit(X, y)
    same = VAEClassifier(clone(model).set_params(conditional=True)).fit(X, y)

    assert found.estimator_.conditional
    assert not model.conditional
    np.testing.assert_array_equal(found.predict_proba(X), same.predict_proba(X))


# -- other networks --------------------------------------------------------------------


@pytest.mark.parametrize(
    "network",
    [ConvNet((8, 8), channels=(4,)), GRUNet((8, 8), n_units=6, word_dropout=0.3)],
    ids=["conv", "gru"],
)
def test_every_network_decodes_given_the_conditions(network, rng):
    """Rows of a class have its mean, by whatever network codes become rows."""
    y = rng.integers(0, 2, size=200)
    X = 3.0 * y[:, None] + rng.normal(size=(200, 64))
    own = {"n_components": 2, "max_iter": 3, "random_state": 0}
    vae = VAETransformer(conditional=True, network=network, **own).fit(X, y)

    for place in (0, 1):
        drawn = vae.sample(100, y=np.full(100, place))
        assert drawn.shape == (100, 64)
        np.testing.assert_allclose(drawn.mean(axis=0), 3.0 * place, atol=0.6)
        back = vae.inverse_transform(vae.transform(X[:5], y[:5]), y[:5])
        np.testing.assert_allclose(back.mean(axis=1), 3.0 * y[:5], atol=1.5)
