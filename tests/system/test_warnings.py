"""Warnings point at the line of the user's code that led to them."""

import warnings

import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_vae import VAEDensity, VAETransformer

pytestmark = pytest.mark.usefixtures("few_steps")

DIVERGES = {"learning_rate": 1e8, "max_iter": 2, "hidden_layer_sizes": (4,), "random_state": 0}
TRANSFORMER = VAETransformer(1, early_stopping=False, batch_size=10, **DIVERGES)


def pipeline(X):
    make_pipeline(StandardScaler(), TRANSFORMER).fit(X)


def cross_validation(X):
    cross_val_score(TRANSFORMER, X, cv=2)


@pytest.mark.parametrize(
    "fit",
    [
        TRANSFORMER.fit,
        TRANSFORMER.fit_transform,
        TRANSFORMER.partial_fit,
        VAEDensity(early_stopping=False, **DIVERGES).fit,
        pipeline,
        cross_validation,
    ],
)
def test_a_warning_of_divergence_points_at_the_users_line(fit, rng):
    """Neither into this package nor into scikit-learn's decorators, pipelines and searches."""
    X = rng.normal(size=(40, 3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(X)

    where = [warning.filename for warning in caught if warning.category is ConvergenceWarning]
    assert where
    assert set(where) == {__file__}


@pytest.mark.parametrize("estimator", [VAETransformer, VAEDensity])
def test_a_small_table_says_that_max_iter_is_not_reached(estimator, rng):
    """Iterations that were asked for are not cut down in silence."""
    X = rng.normal(size=(75, 3))
    with pytest.warns(UserWarning, match="max_iter=500 is not reached") as caught:
        vae = estimator(1, max_iter=500, random_state=0).fit(X)

    assert {warning.filename for warning in caught} == {__file__}
    assert max(row["iteration"] for row in vae.history_) == vae._iterations_of_small_tables


def test_a_small_table_is_trained_as_asked_without_early_stopping(rng):
    """In silence, for as many iterations as asked for; and max_iter at its default is no wish."""
    X = rng.normal(size=(75, 3))
    vae = VAETransformer(1, hidden_layer_sizes=(), max_iter=201, early_stopping=False)

    assert vae.set_params(random_state=0).fit(X).n_iter_ == 201
    assert VAETransformer(1, random_state=0).fit(X).n_iter_ == 1
    VAETransformer(1, max_iter=500, random_state=0).partial_fit(X)
