"""Scores, codes and imputed rows of fitted models, as numpy computes them and as torch does."""

import numpy as np
import pytest

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.inference.fitted_models import FittedModel
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.priors import MixturePrior, VampPrior

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.usefixtures("few_steps")

BY_COLUMN = [
    "gaussian", "lognormal", "bernoulli", "categorical", "ordinal", "poisson",
    "negative_binomial", "zero_inflated", "gaussian", "auto",
]  # fmt: skip
SMALL = {"hidden_layer_sizes": (8, 6), "max_iter": 2, "random_state": 0}
LINEAR, START = SMALL | {"hidden_layer_sizes": ()}, SMALL | {"max_iter": 0}
SEVERAL = {"n_init": 2, "ensemble": True}
SCALES = {0: Gaussian("per_column"), 1: Gaussian(0.5)}
MIXTURES = {"mixtures": [(3, "full"), (4, "diag")]}
REAL = {"columns": [0, 1, 8]}


def rows(n_rows=150, missing=0.0):
    """A column for each likelihood, and a constant one: (n, 10)."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, n_rows))
    X = np.column_stack([
        a + 0.3 * rng.normal(size=n_rows), np.exp(b), a > 0, np.digitize(b, [-1, 0, 1]),
        np.digitize(a, [-1, 0, 1]), rng.poisson(np.exp(a)), rng.poisson(3 * np.exp(b)),
        np.where(a > 0.3, b, 0), a + rng.standard_t(2, size=n_rows), np.full(n_rows, 7.0),
    ])  # fmt: skip
    X[rng.random(X.shape) < missing] = np.nan
    return X


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
def fitted(request):
    """A fitted estimator, its rows and y."""
    estimator, how = (MODELS | CONDITIONAL)[request.param]
    return fit(estimator, **how)


def changed(X, change):
    """Twelve rows, as they are, as outliers, or with missing cells, the first without any value."""
    X = X[:12].copy()
    if change == "outliers":  # whose codes are searched from many starts
        X[:, [0, 1, -2]] *= 6
    elif change == "missing values":
        X[np.random.default_rng(1).random(X.shape) < 0.3] = np.nan
        X[0] = np.nan
    return X


@pytest.mark.parametrize("change", ["none", "outliers", "missing values"])
def test_numpy_computes_what_torch_does(fitted, change, monkeypatch):
    """The same functions compute with arrays of either library, given y and without."""
    estimator, X, y = fitted
    X = changed(X, change)
    given = [None] if y is None else [y[:12]]
    if y is not None and (isinstance(y, np.ndarray) or isinstance(estimator, VAEDensity)):
        given.append(None)
    codes = [estimator.transform(X, each) for each in given if hasattr(estimator, "transform")]
    needs_no_y = isinstance(estimator, VAEDensity)

    def compute():
        results = [estimator.score_samples(X, each) for each in given]
        imputed = [estimator.impute(X, y=each) for each in (given if needs_no_y else given[:1])]
        codes_again = [estimator.transform(X, each) for each in given[: len(codes)]]
        decoded = [estimator.inverse_transform(Z, given[0]) for Z in codes[:1]]
        return np.column_stack([*results, *imputed, *codes_again, *decoded])

    in_numpy = compute()
    monkeypatch.setattr(FittedModel, "backend", lambda self, X: self.in_torch(X.dtype))
    np.testing.assert_allclose(in_numpy, compute(), rtol=1e-6, atol=1e-6)
