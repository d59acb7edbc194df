"""Functions that torch and numpy share have one meaning in both."""

import numpy as np
import pytest
import torch
from scipy import linalg, special

from sklearn_vae.inference.laplace import Expansion, NormalProposal
from sklearn_vae.numerics import array_api

libraries = pytest.mark.parametrize("library", [np, torch])


@libraries
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sums_of_exponentials_are_those_of_scipy(axis, library):
    """Also of weights of 0, whose logarithm is -inf."""
    x = np.random.default_rng(0).normal(0, 300, (3, 4, 5))
    x[0, 0, 0] = -np.inf
    given = library.asarray(x)

    actual = array_api.logsumexp(given, axis), array_api.softmax(given, axis)
    np.testing.assert_allclose(actual[0], special.logsumexp(x, axis), rtol=1e-12)
    np.testing.assert_allclose(actual[1], special.softmax(x, axis), rtol=1e-12, atol=1e-300)


@libraries
def test_a_sum_of_no_weights_is_0(library):
    log_weight = library.full((3, 2), -np.inf)

    np.testing.assert_array_equal(array_api.logsumexp(log_weight, 0), np.full(2, -np.inf))


@libraries
def test_parts_along_an_axis_are_those_of_numpy(library):
    x = np.random.default_rng(0).integers(0, 3, (2, 4, 3))
    given, order = library.asarray(x), np.argsort(x, 1, kind="stable")
    chosen = library.asarray(np.array([2, 0]))
    parts = array_api.split(given, [1, 0, 2])

    np.testing.assert_array_equal(array_api.argsort(given, 1), order)
    np.testing.assert_array_equal(array_api.take(given, chosen, 1), x[:, [2, 0]])
    np.testing.assert_array_equal(
        array_api.take_along(given, library.asarray(order[..., :1]), 1),
        np.take_along_axis(x, order[..., :1], 1),
    )
    assert [part.shape for part in parts] == [(2, 4, 1), (2, 4, 0), (2, 4, 2)]
    np.testing.assert_array_equal(array_api.concatenate(parts), x)
    assert array_api.as_type(given, library.ones(1, dtype=library.float32)).dtype == library.float32


@libraries
@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (array_api.sigmoid, special.expit),
        (array_api.log_sigmoid, special.log_expit),
        (array_api.softplus, lambda x: np.logaddexp(0, x)),
        (array_api.log_softmax, lambda x: special.log_softmax(x, -1)),
        (lambda x: array_api.lgamma(abs(x)), lambda x: special.gammaln(abs(x))),
        (lambda x: array_api.rsqrt(abs(x)), lambda x: abs(x) ** -0.5),
    ],
)
def test_functions_of_numbers_are_those_of_scipy(function, expected, library):
    """Also where an exponential overflows."""
    x = np.random.default_rng(0).normal(0, 300, (3, 4, 5))
    x[0, 0, 0] = 1000.0

    np.testing.assert_allclose(function(library.asarray(x)), expected(x), rtol=1e-8, atol=1e-8)


@libraries
@pytest.mark.parametrize("n_rows", [0, 2])
def test_axes_are_split_joined_and_padded_as_in_numpy(n_rows, library):
    """Of tables without rows, too."""
    x = np.random.default_rng(0).normal(size=(n_rows, 6))
    given = library.asarray(x)
    split = array_api.unflatten(given, 2)

    np.testing.assert_array_equal(split, x.reshape(n_rows, 3, 2))
    np.testing.assert_array_equal(array_api.flatten(split), x)
    np.testing.assert_array_equal(array_api.pad(given, 1, 2), np.pad(x, ((0, 0), (1, 2))))


def test_results_are_on_the_device_of_their_inputs():
    """PyTorch refuses operations between tensors on the CPU and on another device."""
    z = torch.ones(2, 3, 4, device="meta")
    flat = torch.ones(2, 3, 4, 5, device="meta")
    local = Expansion.of(z[..., 0], z, flat, z)

    results = (
        array_api.arange(3, z),
        array_api.as_type(torch.eye(4), z),
        *local,
        *NormalProposal.from_expansion(z, local),
    )
    assert {result.device.type for result in results} == {"meta"}


@libraries
def test_roots_solve_systems_as_scipy_does(library):
    """Of matrices that are positive definite; NaN is the root of others."""
    rng = np.random.default_rng(0)
    root, x = np.tril(rng.normal(size=(4, 3, 3))) + 3 * np.eye(3), rng.normal(size=(4, 3))
    matrices = root @ root.swapaxes(1, 2)
    indefinite = np.concatenate([matrices, -matrices[:1]])
    lower = array_api.cholesky(library.asarray(indefinite))

    np.testing.assert_allclose(lower[:4], root * np.sign(np.diagonal(root, 0, 1, 2))[:, None])
    assert np.isnan(np.asarray(lower[4])).all()
    solved = array_api.cholesky_solve(lower[:4], library.asarray(x))
    np.testing.assert_allclose(solved, np.linalg.solve(matrices, x[..., None])[..., 0])
    solved = array_api.solve_lower(library.asarray(root), library.asarray(x))
    expected = [linalg.solve_triangular(a, b, lower=True) for a, b in zip(root, x, strict=True)]
    np.testing.assert_allclose(solved, expected)


@libraries
def test_the_root_of_a_matrix_that_rounds_to_a_singular_one_solves(library):
    """Curvatures of far rows: their identity part is lost."""
    slopes = library.asarray(np.array([[[1e9], [1e9]]]))
    lower = array_api.cholesky(slopes @ slopes.swapaxes(1, 2) + library.eye(2))

    step = array_api.cholesky_solve(lower, library.ones_like(slopes[..., 0]))
    assert not np.isinf(np.asarray(step)).any()


@libraries
def test_places_and_indices_are_those_of_loops(library):
    rng = np.random.default_rng(0)
    index, values = rng.integers(4, size=20), rng.normal(size=20)
    columns = np.array([[0, 3], [2, 1]])
    expected = [values[index == k].max() if (index == k).any() else -np.inf for k in range(6)]
    largest = array_api.index_max(library.asarray(values), library.asarray(index), 6)
    placed = array_api.place(library.asarray(values[:4].reshape(2, 2)), library.asarray(columns), 5)

    np.testing.assert_array_equal(largest, expected)
    assert placed.tolist() == [
        [values[0], 0, 0, values[1], 0],
        [0, values[3], values[2], 0, 0],
    ]
    ordered = np.sort(rng.random((3, 6)), axis=1)
    found = array_api.search_rows(library.asarray(ordered), library.asarray(ordered[0]))
    np.testing.assert_array_equal(found, (ordered[:, None] <= ordered[0][:, None]).sum(-1))


@libraries
def test_arrays_are_like_others(library):
    like = library.ones(2, dtype=library.float32)
    matrix = array_api.diagonal_matrix(library.asarray(np.arange(6.0).reshape(2, 3)))

    assert type(array_api.as_array(np.arange(3), like)) is type(like)
    assert array_api.empty((2, 3), like).dtype == like.dtype
    assert array_api.empty((2, 3), like).shape == (2, 3)
    assert array_api.in_double(like).dtype == library.float64
    assert array_api.sum_last(matrix).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert matrix[1].tolist() == np.diag([3.0, 4, 5]).tolist()
