"""Nearest-neighbour distances: scikit-learn and least squares as oracles."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from sklearn_vae import VAEOutlierDetector
from sklearn_vae.anomaly.knn import (
    HyperplaneDistance,
    NeighborDistance,
    inputs,
)
from sklearn_vae.anomaly.rows import ScoredRows


@pytest.fixture(scope="module")
def rows():
    """Reference rows, and new rows beside them."""
    X = np.random.default_rng(0).normal(size=(80, 3))
    predictor = VAEOutlierDetector(max_iter=1, n_init=1, random_state=0).fit(X)._fitted()
    reference = ScoredRows(X, predictor)
    return reference, ScoredRows(X[:30] * 1.1 + 0.05, predictor, reference)


@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
def test_the_mean_distance_to_neighbors_is_scikit_learns(rows, metric):
    """Of new rows, and of reference rows without themselves."""
    reference, new = rows
    scorer = NeighborDistance(inputs, 2, fraction=0.05, metric=metric).fit(reference)
    oracle = NearestNeighbors(n_neighbors=4, metric=metric).fit(reference.inputs)

    np.testing.assert_allclose(
        scorer.score(new), oracle.kneighbors(new.inputs)[0].mean(axis=1), rtol=1e-6
    )
    np.testing.assert_allclose(
        scorer.score(reference), oracle.kneighbors()[0].mean(axis=1), rtol=1e-6
    )


def test_the_hyperplane_distance_is_that_of_ridge_regression(rows):
    """min_c |x - mean - basis c|^2 + ridge |c|^2, solved as an augmented least-squares problem."""
    reference, new = rows
    x = new.inputs
    nearest = NearestNeighbors(n_neighbors=5).fit(reference.inputs).kneighbors(x)[1]
    neighbors = reference.inputs[nearest]
    expected = []
    for row, near in zip(x, neighbors, strict=True):
        basis = near - near.mean(axis=0)
        ridge = 0.3 * np.square(basis).sum() / 5
        A = np.vstack([basis.T, np.sqrt(ridge) * np.eye(5)])
        b = np.append(row - near.mean(axis=0), np.zeros(5))
        coefficients = np.linalg.lstsq(A, b, rcond=None)[0]
        expected.append(np.linalg.norm(b[:3] - basis.T @ coefficients))

    np.testing.assert_allclose(
        HyperplaneDistance(inputs, 5).fit(reference).score(new), expected, rtol=1e-6
    )


def test_a_scorer_of_other_reference_rows_is_refused(rows):
    """Their indices would mean other rows."""
    reference, new = rows
    scorer = NeighborDistance(inputs, 1).fit(reference)
    with pytest.raises(ValueError, match="fitted to other reference rows"):
        scorer.score(ScoredRows(new.X, new.predictor))
