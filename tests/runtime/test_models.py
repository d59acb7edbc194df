"""Saved models that numpy computes are those that torch computes: scores, codes, imputed rows."""

import numpy as np
import pytest

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.priors import MixturePrior, VampPrior
from tests.runtime.conftest import BY_COLUMN, rows, saved

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.usefixtures("few_steps")

SMALL = {"hidden_layer_sizes": (8, 6), "max_iter": 2, "random_state": 0}
LINEAR, START = SMALL | {"hidden_layer_sizes": ()}, SMALL | {"max_iter": 0}
SEVERAL = {"n_init": 2, "ensemble": True}
SCALES = {0: Gaussian("per_column"), 1: Gaussian(0.5)}
MIXTURES = {"mixtures": [(3, "full"), (4, "diag")]}
REAL = {"columns": [0, 1, 8]}
# models, and how their rows and conditions are made
MODELS = {
    "default": (VAETransformer(2, **SMALL), {}),
    "all likelihoods": (VAETransformer(2, likelihood=BY_COLUMN, **SMALL), {}),
    "missing values": (VAETransformer(2, likelihood=BY_COLUMN, **SMALL), {"missing": 0.1}),
    "a scale per column": (
        VAETransformer(3, likelihood=SCALES, prior=MixturePrior(3), **SMALL), {}
    ),
    "ensemble": (VAETransformer(3, prior=VampPrior(4), **SEVERAL, **SMALL), {"missing": 0.1}),
    "linear": (VAETransformer(1, beta=4.0, **LINEAR), {}),
    "density": (VAEDensity(2, likelihood=BY_COLUMN, **MIXTURES, **SMALL), {}),
    "density, missing values": (
        VAEDensity(2, likelihood=BY_COLUMN, **MIXTURES, **SMALL), {"missing": 0.1}
    ),
    "density of real columns": (VAEDensity(2, likelihood="gaussian", **MIXTURES, **SMALL), REAL),
    "density of rounded ones": (VAEDensity(2, **MIXTURES, **SMALL), REAL | {"decimals": 1}),
    "linear density": (VAEDensity(2, likelihood="gaussian", **MIXTURES, **LINEAR), REAL),
    "mixture": (VAEDensity(2, likelihood="gaussian", **MIXTURES, **START), REAL),
}  # fmt: skip
CONDITIONAL = {
    "given y": (VAETransformer(2, likelihood=BY_COLUMN, **SMALL), {"y": "classes"}),
    "given y, missing values": (
        VAETransformer(2, prior=MixturePrior(2), **SMALL), {"missing": 0.1, "y": "classes"}
    ),
    "ensemble given y": (VAETransformer(3, prior=VampPrior(3), **SEVERAL, **SMALL), {"y": "both"}),
    **{
        f"density given {y}": (
            VAEDensity(2, **(START if y == "all" else MIXTURES | SMALL)),
            {"missing": 0.1, "columns": [0, 3, 5, 8], "y": y},
        )
        for y in ("classes", "number", "both", "all")
    },
}  # fmt: skip


def conditions(kind):
    """The condition of each of ``rows(120)``: classes, a number, or a data frame of both."""
    if kind is None:
        return None
    X = rows(120)
    classes = np.array(["high", "low", "middle"])[np.digitize(X[:, 0], [-0.5, 0.5])]
    number = X[:, 1] + 0.1 * np.random.default_rng(3).normal(size=len(X))
    frame = pd.DataFrame({"a": classes, "b": number})
    return {"classes": classes, "number": number}.get(kind, frame)


def fit(estimator, missing=0.0, columns=slice(None), decimals=9, y=None):
    """A fitted estimator, its rows and y."""
    X, y = rows(120, missing)[:, columns].round(decimals), conditions(y)
    return estimator.set_params(conditional=y is not None).fit(X, y), X, y


@pytest.fixture(scope="module", params=MODELS | CONDITIONAL)
def fitted(request, tmp_path_factory):
    """A fitted estimator, its rows and y, and the model that is read from its file."""
    estimator, how = (MODELS | CONDITIONAL)[request.param]
    estimator, X, y = fit(estimator, **how)
    return estimator, X, y, saved(estimator, tmp_path_factory.mktemp("saved"))


def changed(X, change):
    """Twelve rows, as they are, as outliers, or with missing cells, the first without any value."""
    X = X[:12].copy()
    if change == "outliers":  # whose codes are searched from many starts
        X[:, [0, 1, -2]] *= 6
    elif change == "missing values":
        X[np.random.default_rng(1).random(X.shape) < 0.3] = np.nan
        X[0] = np.nan
    return X


def assert_agree(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("change", ["none", "outliers", "missing values"])
def test_scores_and_codes_are_those_of_the_estimator(fitted, change):
    """Given y as a list of Python's values, or one for all rows, and without y; of one row, too."""
    estimator, X, y, model = fitted
    X, given = changed(X, change), [((), ())]
    if y is not None:
        y = y[:12]
        values = y.to_numpy(object).tolist() if isinstance(y, pd.DataFrame) else y.tolist()
        given = given if isinstance(y, np.ndarray) or isinstance(estimator, VAEDensity) else []
        given = [((values,), (y,)), *given]
        if isinstance(y, np.ndarray):
            given.append(((y[0],), (y[0],)))
    for method in sorted({"score_samples", "transform"} & {*dir(model)}):
        for own, theirs in given:
            assert_agree(getattr(model, method)(X, *own), getattr(estimator, method)(X, *theirs))
    own, theirs = given[0]
    alone = model.score_samples(X[5:6], *(part[5:6] for part in own))
    np.testing.assert_allclose(alone, model.score_samples(X, *own)[5:6], rtol=1e-9)
    if isinstance(estimator, VAETransformer):
        Z = estimator.transform(X, *theirs)
        assert_agree(model.inverse_transform(Z, *own), estimator.inverse_transform(Z, *theirs))


def test_imputed_rows_are_those_of_the_estimator(fitted):
    """Also by an encoder that has not learned from missing values; a density needs no y."""
    estimator, X, y, model = fitted
    X = changed(X, "missing values")
    before, given = X.copy(), {} if y is None else {"y": y[:12]}
    imputed = model.impute(X, **given)

    assert not np.isnan(imputed).any()
    assert_agree(imputed, estimator.impute(X, **given))
    np.testing.assert_array_equal(X, before)
    if isinstance(estimator, VAEDensity):
        assert_agree(model.impute(X), estimator.impute(X))


@pytest.mark.parametrize("fitted", [*CONDITIONAL][:3], indirect=True)
def test_y_is_needed_where_the_estimator_needs_it(fitted):
    """To decode, to impute, and where no mean over y is defined."""
    _, X, y, model = fitted
    Z = model.transform(X[:3], y[:3])
    calls = [lambda: model.impute(np.full((1, 10), np.nan)), lambda: model.inverse_transform(Z)]
    if not isinstance(y, np.ndarray):
        calls += [lambda: model.score_samples(X), lambda: model.transform(X)]
    for call in calls:
        with pytest.raises(ValueError, match="y must be passed"):
            call()


def test_conditions_are_checked(tmp_path):
    """In the words of the estimator."""
    density = VAEDensity(1, mixtures=[(1, "full")], max_iter=0, random_state=0)
    other = saved(fit(density, columns=[0, 1])[0], tmp_path)
    estimator, X, y = fit(density, columns=[0, 1], y="classes")
    model = saved(estimator, tmp_path)
    with pytest.raises(ValueError, match="y has the class 'none', which no row had in fit"):
        model.score_samples(X[:1], "none")
    with pytest.raises(ValueError, match="as many rows as X"):
        model.score_samples(X, y[:3])
    with pytest.raises(ValueError, match="y must have 1 columns"):
        model.impute(X, y=np.column_stack([y, y]))
    with pytest.raises(ValueError, match="fitted with conditional=False"):
        other.score_samples(X, y)
