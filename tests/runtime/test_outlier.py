"""A saved VAEOutlierDetector that numpy computes is the one that torch and scikit-learn compute."""

import numpy as np
import pytest

from sklearn_vae import VAEOutlierDetector
from tests.conftest import slow
from tests.runtime.conftest import mixed_frame, saved

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.usefixtures("few_steps")

SMALL = {"hidden_layer_sizes": (6,), "max_iter": 1, "random_state": 0}


def rows(n_rows=90, missing=0.0, seed=0):
    """Real columns with heavy tails, a binary and a constant one: (n_rows, 5)."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n_rows))
    X = np.column_stack([a, a + b, rng.standard_t(2, size=n_rows), b > 0, np.full(n_rows, 7.0)])
    X[rng.random(X.shape) < missing] = np.nan
    return X


def new_rows(missing=0.0):
    """Inliers, outliers, and values that were not in fit."""
    X = rows(30, missing, seed=1)
    return np.concatenate([X, 8 * X[:5], X[:5] + [0, 0, 0, 1, 0], X[:5] + [0, 0, 0, 0, 1]])


def assert_same(model, estimator, X, table=None):
    """The four methods, of all rows and of one; ``table`` are the rows as the estimator's."""
    table = X if table is None else table
    for method in ("score_samples", "decision_function", "predict"):
        actual, expected = getattr(model, method)(X), getattr(estimator, method)(table)
        np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6, err_msg=method)
    # by rounding, the estimator's score of a training row may be below its own
    n_scores = len(estimator.calibration_scores_)
    np.testing.assert_allclose(model.p_values(X), estimator.p_values(table), atol=3 / n_scores)
    alone = [model.score_samples(X[i : i + 1])[0] for i in range(0, len(X), 7)]
    np.testing.assert_allclose(alone, model.score_samples(X)[::7], rtol=1e-8, atol=1e-8)


METHODS = ["neighbors", "log_likelihood", "reconstruction"]


@pytest.mark.parametrize(
    ("missing", "novelty"), [(0.0, True), (0.1, False), *slow((0.0, False), (0.1, True))]
)
@pytest.mark.parametrize("options", [{}, *({"method": name} for name in METHODS)], ids=str)
def test_scores_are_those_of_the_estimator(missing, options, novelty, tmp_path):
    """Training rows, which are not their own neighbours and are corrected, and new ones."""
    X = rows(missing=missing)
    estimator = VAEOutlierDetector(novelty=novelty, **options, **SMALL).fit(X)
    model = saved(estimator, tmp_path)

    assert_same(model, estimator, X)
    assert_same(model, estimator, new_rows(missing))


@pytest.mark.parametrize("novelty", [False, *slow(True)])
def test_tied_neighbors_are_those_of_the_estimator(novelty, tmp_path, rng):
    """Of a table of counts."""
    X = rng.poisson(np.exp(0.5 * rng.normal(size=(200, 1)) + 0.5 * np.ones(4))).astype(float)
    estimator = VAEOutlierDetector(novelty=novelty, **SMALL).fit(X[:150])
    model = saved(estimator, tmp_path)

    assert_same(model, estimator, X)


@pytest.mark.parametrize("novelty", [*slow(False), True])
def test_mixed_tables_are_lists_of_their_values(novelty, tmp_path):
    """Also an unknown category and missing cells."""
    frame = mixed_frame()
    estimator = VAEOutlierDetector(novelty=novelty, **SMALL).fit(frame)
    model = saved(estimator, tmp_path)
    new = pd.concat([frame, pd.DataFrame({"size": [0.5], "colour": ["black"], "n": [3]})])

    assert_same(model, estimator, np.array(new, dtype=object), new)


def test_a_training_row_has_its_own_rank(tmp_path):
    """Rounding does not change it: p-values of the training rows are their ranks."""
    X = rows()
    model = saved(VAEOutlierDetector(method="reconstruction", **SMALL).fit(X), tmp_path)

    ranks = np.arange(2, len(X) + 2) / (len(X) + 1)
    np.testing.assert_allclose(np.sort(model.p_values(X)), ranks, rtol=1e-12)


def test_a_method_that_numpy_does_not_have_is_refused(tmp_path):
    estimator = VAEOutlierDetector(method="reconstruction_probability", **SMALL).fit(rows())
    with pytest.raises(ValueError, match="support method='reconstruction_probability'"):
        saved(estimator, tmp_path)


def test_rows_in_single_precision_score_as_in_double(tmp_path, rng):
    """Values of training rows are found again, and so are those that are unseen."""
    X = np.column_stack([rng.normal(size=200), rng.choice([0.1, 0.7, 1.3], 200)])
    X = X.astype(np.float32).astype(float)
    estimator = VAEOutlierDetector(**SMALL).fit(X)
    model = saved(estimator, tmp_path)

    scores = model.score_samples(X)
    np.testing.assert_allclose(model.score_samples(X.astype(np.float32)), scores, rtol=1e-9)
