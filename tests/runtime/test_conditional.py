"""Saved models of p(x|y) that numpy computes are those that torch computes."""

import numpy as np
import pytest

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.priors import MixturePrior, VampPrior
from tests.runtime.conftest import BY_COLUMN, rows, saved

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.usefixtures("few_steps")

SMALL = {"conditional": True, "hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0}
DENSITY = VAEDensity(2, mixtures=[(3, "full"), (4, "diag")], **SMALL)
SEVERAL = {"prior": VampPrior(3), "n_init": 2, "ensemble": True}
# models, the share of missing cells, and the kind of condition
MODELS = {
    "all likelihoods": (VAETransformer(2, likelihood=BY_COLUMN, **SMALL), 0.0, "classes"),
    "missing values": (VAETransformer(2, prior=MixturePrior(2), **SMALL), 0.1, "classes"),
    "ensemble": (VAETransformer(3, **SEVERAL, **SMALL), 0.0, "both"),
    **{f"density of {kind}": (DENSITY, 0.1, kind) for kind in ("classes", "number", "both")},
    "mixture": (VAEDensity(2, **SMALL | {"max_iter": 0}), 0.1, "both"),
}


def conditions(kind):
    """The condition of each of ``rows(120)``: classes, a number, or a data frame of both."""
    X = rows(120)
    classes = np.array(["high", "low", "middle"])[np.digitize(X[:, 0], [-0.5, 0.5])]
    if kind == "classes":
        return classes
    number = X[:, 1] + 0.1 * np.random.default_rng(3).normal(size=len(X))
    return number if kind == "number" else pd.DataFrame({"a": classes, "b": number})


@pytest.fixture(scope="module", params=MODELS)
def conditional(request, tmp_path_factory):
    """A fitted estimator, its rows, y, and the model that is read from its file."""
    estimator, missing, kind = MODELS[request.param]
    X, y = rows(120, missing), conditions(kind)
    X = X[:, [0, 3, 5, 8]] if isinstance(estimator, VAEDensity) else X
    return estimator.fit(X, y), X, y, saved(estimator, tmp_path_factory.mktemp("saved"))


@pytest.mark.parametrize("change", ["outliers", "missing values"])
def test_scores_and_codes_given_y_are_those_of_the_estimator(conditional, change):
    """Of lists of Python's values, of one condition for all rows, and without y."""
    estimator, X, y, model = conditional
    X, y = X[:20].copy(), y[:20]
    if change == "outliers":
        X[:, [0, -2 if X.shape[1] > 4 else -1]] *= 5
    else:
        X[np.random.default_rng(1).random(X.shape) < 0.3] = np.nan
    values = y.to_numpy(object).tolist() if isinstance(y, pd.DataFrame) else y.tolist()
    for method in {"score_samples", "transform"} & {*dir(model)}:
        actual, expected = getattr(model, method), getattr(estimator, method)

        np.testing.assert_allclose(actual(X, values), expected(X, y), rtol=1e-6, atol=1e-6)
        if isinstance(y, np.ndarray):
            np.testing.assert_allclose(actual(X, y[0]), expected(X, y[0]), rtol=1e-6, atol=1e-6)
        if isinstance(y, np.ndarray) or isinstance(estimator, VAEDensity):
            np.testing.assert_allclose(actual(X), expected(X), rtol=1e-6, atol=1e-6)


def test_rows_imputed_given_y_are_those_of_the_estimator(conditional):
    """Also a row of which nothing is known; a density integrates over y where there is none."""
    estimator, X, y, model = conditional
    X, y = X[:40].copy(), y[:40]
    X[np.random.default_rng(1).random(X.shape) < 0.2] = np.nan
    X[0] = np.nan
    imputed = model.impute(X, y=y)

    assert not np.isnan(imputed).any()
    np.testing.assert_allclose(imputed, estimator.impute(X, y=y), rtol=1e-6, atol=1e-6)
    if isinstance(estimator, VAEDensity):
        np.testing.assert_allclose(model.impute(X), estimator.impute(X), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("conditional", [*MODELS][:3], indirect=True)
def test_y_is_needed_where_the_estimator_needs_it(conditional):
    """To decode, to impute, and where no mean over y is defined."""
    estimator, X, y, model = conditional
    Z = model.transform(X[:3], y[:3])
    calls = [lambda: model.impute(np.full((1, 10), np.nan)), lambda: model.inverse_transform(Z)]
    if not isinstance(y, np.ndarray):
        calls += [lambda: model.score_samples(X), lambda: model.transform(X)]
    for call in calls:
        with pytest.raises(ValueError, match="y must be passed"):
            call()
    expected = estimator.inverse_transform(Z, y[:3])
    np.testing.assert_allclose(model.inverse_transform(Z, y[:3]), expected, rtol=1e-6, atol=1e-6)


def test_conditions_are_checked(tmp_path):
    """In the words of the estimator."""
    X, y = rows(120)[:, [0, 1]], conditions("classes")
    density = VAEDensity(1, mixtures=[(1, "full")], max_iter=0, random_state=0)
    other = saved(density.fit(X), tmp_path)
    model = saved(density.set_params(conditional=True).fit(X, y), tmp_path)
    with pytest.raises(ValueError, match="y has the class 'none', which no row had in fit"):
        model.score_samples(X[:1], "none")
    with pytest.raises(ValueError, match="as many rows as X"):
        model.score_samples(X, y[:3])
    with pytest.raises(ValueError, match="y must have 1 columns"):
        model.impute(X, y=np.column_stack([y, y]))
    with pytest.raises(ValueError, match="fitted with conditional=False"):
        other.score_samples(X, y)
