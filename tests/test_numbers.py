"""Numbers of any size: statistics in double precision, scores that are finite and in order."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer
from tests.conftest import slow

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")
arrays = pytest.importorskip("hypothesis.extra.numpy").arrays

pytestmark = pytest.mark.usefixtures("few_steps")

SMALL = {"hidden_layer_sizes": (16,), "random_state": 0}
MODELS = {
    "transformer": VAETransformer(**SMALL, max_iter=4),
    "density": VAEDensity(**SMALL, max_iter=2, mixtures=[(1, "full"), (3, "diag")]),
    "detector": VAEOutlierDetector(**SMALL, max_iter=1),
    "novelty": VAEOutlierDetector(**SMALL, max_iter=1, novelty=True),
}


def rows(n=150):
    """Correlated columns of mean 0 and variance 1: (n, 4)."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4)) @ rng.normal(size=(4, 4))
    return (X - X.mean(axis=0)) / X.std(axis=0)


# a single row of 30 in training is, for the density, as good as a step too far
@pytest.mark.filterwarnings("ignore:Training diverged")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("offset", [1e8, pytest.param(-1e8, marks=pytest.mark.slow)])
def test_an_offset_hides_no_outlier(name, offset):
    """30 standard deviations beside 1e8 are lost in single precision, and found here.

    Among rows that were fitted, and among new ones.
    """
    X = rows() + offset
    X[7, 2] += 30
    new = X[::-1].copy()
    model = clone(MODELS[name])

    assert model.fit(np.delete(X, 7, axis=0)).score_samples(new).argmin() == len(X) - 8
    assert model.fit(X).score_samples(X).argmin() == 7


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("sign", "column"), [(1, [0]), (-1, slice(None)), *slow((-1, [0]), (1, slice(None)))], ids=str
)
def test_far_rows_have_finite_scores_in_order(name, sign, column):
    """Strictly, to 1e15 standard deviations; finite to 1e300. Codes are finite, too.

    In a mixture they may be out of order, far below all others.
    """
    model = clone(MODELS[name]).fit(rows())
    X = np.repeat(rows()[:1], 300, axis=0)
    X[:, column] = sign * np.logspace(1, 300, 300)[:, None]
    scores = model.score_samples(X)

    assert np.isfinite(scores).all()
    if name == "density":
        assert scores.max() < 10 * model.score_samples(rows()).min()
    else:
        assert (np.diff(scores[:15]) < 0).all()
    if name == "transformer":
        assert np.isfinite(model.transform(X)).all()
    if name in ("detector", "novelty"):
        assert np.isfinite(model.explain(X)).all()
        assert ((model.p_values(X) > 0) & (model.p_values(X) <= 1)).all()


@pytest.mark.parametrize("name", MODELS)
def test_far_rows_of_single_precision_are_in_order(name):
    """To 1e13, as squares have to be finite in single precision; finite to its end."""
    model = clone(MODELS[name]).fit(rows().astype(np.float32))
    X = np.repeat(rows()[:1], 38, axis=0)
    X[:, 0] = np.logspace(1, 38, 38)
    scores = model.score_samples(X.astype(np.float32))

    assert np.isfinite(scores).all()
    assert (np.diff(scores[:13]) < 0).all()


EXTREMES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),  # from 5e-324 to 1.8e308
    st.sampled_from([0.0, -0.0, 5e-324, 2.2e-308, 1e-160, 1e160, 1.7e308, -1.79e308, 1.0]),
)
TABLES = st.tuples(st.integers(3, 12), st.integers(1, 4)).flatmap(
    lambda shape: st.tuples(
        arrays(np.float64, shape, elements=EXTREMES),
        arrays(np.bool_, shape, elements=st.sampled_from([False] * 19 + [True])),
        st.sampled_from(list(MODELS)),
    )
)


@pytest.mark.parametrize("n_examples", [10, *slow(1_000)])
def test_a_thousand_tables_of_numbers_are_fitted_or_refused(n_examples):
    """Whatever their size, and wherever values are missing: finite scores, or an error."""

    @hypothesis.settings(
        max_examples=n_examples,
        deadline=None,
        derandomize=n_examples == 10,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    @hypothesis.given(TABLES)
    @hypothesis.example((np.array([[1.2e308], [0], [0]]), np.zeros((3, 1), bool), "density"))
    def check(given_table):
        X, is_missing, name = given_table
        X = np.where(is_missing, np.nan, X)
        model = clone(MODELS[name]).set_params(max_iter=1, hidden_layer_sizes=(3,))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                scores = model.fit(X).score_samples(X)
            except ValueError:
                assert not any(attribute.endswith("_") for attribute in vars(model))
            else:
                assert np.isfinite(scores).all()

    check()
