"""scikit-learn's searches and cross-validation with VAEs."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_vae import VAETransformer

pd = pytest.importorskip("pandas")


def bent_rows(n=240, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 2))
    return np.hstack([z, z**2, z[:, :1] * z[:, 1:]]) + 0.2 * rng.normal(size=(n, 5))


X = bent_rows()
GRID = {"vaetransformer__n_components": [1, 2], "vaetransformer__beta": [0.5, 5]}


def search(n_jobs=None, **params):
    params = {"max_iter": 4, "hidden_layer_sizes": (16,), "random_state": 0, **params}
    pipeline = make_pipeline(StandardScaler(), VAETransformer(**params))
    return GridSearchCV(pipeline, GRID, cv=2, n_jobs=n_jobs)


@pytest.fixture(scope="module")
def found():
    return search().fit(X)


def test_grid_search_selects_the_best_density_of_new_rows(found):
    """By the mean log-density, without a scorer."""
    fresh = bent_rows(600, seed=1)
    candidates = found.cv_results_["params"]
    scores = [found.estimator.set_params(**own).fit(X).score(fresh) for own in candidates]
    chosen = scores[found.best_index_]

    assert np.isfinite(found.cv_results_["mean_test_score"]).all()
    assert chosen > max(scores) - 0.3
    assert chosen > min(scores) + 0.3


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_dask_cluster_has_bit_identical_results(found, processes):
    """As a joblib backend."""
    distributed = pytest.importorskip("distributed")
    from joblib import parallel_config

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        parallel_config("dask"),
    ):
        other = search().fit(X)

    np.testing.assert_array_equal(
        other.cv_results_["mean_test_score"], found.cv_results_["mean_test_score"]
    )
