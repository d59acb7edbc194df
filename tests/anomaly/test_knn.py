"""Nearest-neighbour distances: scikit-learn and least squares as oracles."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from sklearn_vae import VAEOutlierDetector
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.anomaly.scores import HyperplaneDistance, NeighborDistance


@pytest.fixture(scope="module")
def rows():
    """Reference rows, and new rows beside them."""
    X = np.random.default_rng(0).normal(size=(80, 3))
    detector = VAEOutlierDetector(max_iter=1, random_state=0).fit(X)
    model = detector.distance_encoder_, detector.estimator_._predictor()
    reference = ScoredRows(X, *model)
    return reference, ScoredRows(X[:30] * 1.1 + 0.05, *model, reference)


def test_the_mean_distance_to_neighbors_is_scikit_learns(rows):
    """Of new rows, and of reference rows without themselves."""
    reference, new = rows
    scorer = NeighborDistance("inputs", 2)
    oracle = NearestNeighbors(n_neighbors=40).fit(reference.inputs)

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

    np.testing.assert_allclose(HyperplaneDistance("inputs", 5).score(new), expected, rtol=1e-6)


def test_neighbors_tied_for_the_last_places_are_their_mean():
    """On a grid, by cases: more are tied than there are places, as many, and copies of one row."""
    grid = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), axis=-1).reshape(-1, 2)
    scorer = HyperplaneDistance("inputs", 6)
    x, itself = np.array([[0.0, 0.0], [2.0, 2.0], [-1.0, 2.0]]), np.full(3, -1)
    found = NearestNeighbors(n_neighbors=8).fit(grid).kneighbors(x, return_distance=False)
    neighbors = scorer._neighbors(x, grid, itself, found)
    corner, middle, beside = (sorted(map(tuple, near)) for near in neighbors)

    # 0, 1, 1, sqrt(2), 2, 2
    assert corner == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]
    # 0, four times 1, and one of four at sqrt(2)
    assert middle == [(1, 2), (2, 1), (2, 2), (2, 2), (2, 3), (3, 2)]
    # 1, twice sqrt(2), 2, and two of four at sqrt(5)
    assert beside == [(0, 1), (0, 2), (0, 3), (0.5, 2), (0.5, 2), (1, 2)]

    copies = np.vstack([grid[:1], grid[:1], grid])
    found = NearestNeighbors(n_neighbors=8).fit(copies).kneighbors(x[:1], return_distance=False)
    corner = scorer._neighbors(x[:1], copies, np.array([0]), found)[0]
    # its two copies, 1, 1, sqrt(2), and one of two at 2
    assert sorted(map(tuple, corner)) == [(0, 0), (0, 0), (0, 1), (1, 0), (1, 1), (1, 1)]


def test_copies_of_one_row_span_no_hyperplane(rng):
    """The distance is that to the row: rounding errors of the copies' mean are no direction."""
    x, copies = rng.normal(size=(200, 3)), rng.normal(size=(200, 1, 3)).repeat(8, axis=1)

    np.testing.assert_allclose(
        HyperplaneDistance("inputs", 8).distance(x, copies),
        np.linalg.norm(x - copies[:, 0], axis=1),
        rtol=1e-12,
    )
