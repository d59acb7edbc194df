"""Functions that torch and numpy share have one meaning in both."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import linalg, special

from sklearn_vae.inference.laplace import Expansion, NormalProposal
from sklearn_vae.numerics import array_api

libraries = pytest.mark.parametrize("library", [np, torch])
FUNCTIONS = [
    *((partial(array_api.logsumexp, axis=k), partial(special.logsumexp, axis=k)) for k in (0, -1)),
    *((partial(array_api.softmax, axis=k), partial(special.softmax, axis=k)) for k in (0, -1)),
    (array_api.log_softmax, partial(special.log_softmax, axis=-1)),
    (array_api.sigmoid, special.expit),
    (array_api.silu, lambda x: x * special.expit(x)),
    (array_api.softplus, partial(np.logaddexp, 0)),
    (lambda x: array_api.lgamma(abs(x)), lambda x: special.gammaln(abs(x))),
    (partial(array_api.argsort, axis=1), partial(np.argsort, axis=1, kind="stable")),
    (lambda x: array_api.concatenate(array_api.split(x, [1, 0, 5])), lambda x: x),
    (array_api.diagonal_matrix, lambda x: x[..., None] * np.eye(6)),
]


@libraries
@pytest.mark.parametrize(("function", "expected"), FUNCTIONS)
def test_functions_are_those_of_numpy_and_scipy(function, expected, library):
    """Also where an exponential overflows."""
    x = np.random.default_rng(0).normal(0, 300, (3, 4, 6)).round()
    x[0, 0, 0], x[x == 0] = 1000.0, 1.0
    actual = np.asarray(function(library.asarray(x)))
    is_single = library is np and function is array_api.silu

    np.testing.assert_allclose(actual, expected(x), rtol=1e-6 if is_single else 1e-8, atol=1e-8)


@libraries
def test_exponentials_have_single_precision_at_least(library):
    x = np.linspace(-80, 80, 9)
    actual = np.asarray(array_api.exp(library.asarray(x)))

    np.testing.assert_allclose(actual, np.exp(x), rtol=3e-7)


@libraries
def test_a_sum_of_no_weights_is_0(library):
    log_weight = library.full((3, 2), -np.inf)
    np.testing.assert_array_equal(array_api.logsumexp(log_weight, 0), np.full(2, -np.inf))


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


@libraries
def test_scattered_values_and_indices_are_those_of_loops(library, rng):
    values, x = rng.normal(size=4), rng.random((3, 6))
    columns = np.array([[0, 3], [2, 1]])
    given, order = library.asarray(x), library.asarray(np.argsort(x, 1))
    placed = array_api.scatter(library.asarray(values.reshape(2, 2)), library.asarray(columns), 4)
    ordered = array_api.take_along(given, order, 1)
    x.sort(axis=1)

    np.testing.assert_array_equal(placed, [[values[0], 0, 0, values[1]], [0, *values[3:1:-1], 0]])
    np.testing.assert_array_equal(ordered, x)
    np.testing.assert_array_equal(array_api.take(ordered, order[0, :2], 1), x[:, order[0, :2]])


def test_results_are_on_the_device_of_their_inputs():
    """PyTorch refuses operations between tensors on the CPU and on another device."""
    z = torch.ones(2, 3, 4, device="meta")
    local = Expansion(z[..., 0], z, torch.ones(2, 3, 4, 4, device="meta"), z)
    proposal = NormalProposal.of(z, local.information, local.prior_precision)
    results = array_api.arange(3, z), array_api.as_type(torch.eye(4), z), *local, *proposal

    assert {result.device.type for result in results} == {"meta"}


@libraries
def test_roots_solve_systems_as_scipy_does(library, rng):
    """Of matrices that are positive definite; NaN is the root of others."""
    root, x = np.tril(rng.normal(size=(4, 3, 3))) + 3 * np.eye(3), rng.normal(size=(4, 3))
    matrices = root @ root.swapaxes(1, 2)
    lower = array_api.cholesky(library.asarray(np.concatenate([matrices, -matrices[:1]])))
    solved = array_api.cholesky_solve(lower[:4], library.asarray(x))
    forward = array_api.solve_lower(library.asarray(root), library.asarray(x))
    expected = [linalg.solve_triangular(a, b, lower=True) for a, b in zip(root, x, strict=True)]

    np.testing.assert_allclose(lower[:4], root * np.sign(np.diagonal(root, 0, 1, 2))[:, None])
    assert np.isnan(np.asarray(lower[4])).all()
    np.testing.assert_allclose(solved, np.linalg.solve(matrices, x[..., None])[..., 0])
    np.testing.assert_allclose(forward, expected)


@libraries
def test_the_root_of_a_matrix_that_rounds_to_a_singular_one_solves(library):
    """Curvatures of far rows: their identity part is lost."""
    slopes = library.asarray(np.array([[[1e9], [1e9]]]))
    lower = array_api.cholesky(slopes @ slopes.swapaxes(1, 2) + library.eye(2))
    step = array_api.cholesky_solve(lower, library.ones_like(slopes[..., 0]))

    assert not np.isinf(np.asarray(step)).any()


@libraries
def test_bounded_log_scales_stay_within_the_bound(library):
    """An unbounded log-variance is the most reported fault of VAEs: exp of it is infinite."""
    raw = np.array([-1e30, -1e3, -2.0, 0.0, 2.0, 1e3, 1e30])
    within = np.linspace(-6.9, 6.9, 31)
    inverse = array_api.unbounded(library.asarray(within), 7.0)

    np.testing.assert_allclose(array_api.bounded(library.asarray(raw), 7.0), 7 * np.tanh(raw / 7))
    np.testing.assert_allclose(inverse, 7 * np.arctanh(within / 7))
    np.testing.assert_allclose(array_api.bounded(inverse, 7.0), within)
    assert np.isfinite(np.asarray(array_api.unbounded(library.asarray([-100.0, 100.0]), 7.0))).all()


@libraries
def test_bounded_slope_is_the_derivative(library):
    raw = torch.linspace(-30, 30, 61, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(array_api.bounded(raw, 7.0).sum(), raw)

    found = array_api.bounded_slope(library.asarray(raw.detach()), 7.0)
    np.testing.assert_allclose(found, slope, rtol=1e-9, atol=1e-12)


@libraries
@pytest.mark.parametrize("dim", [0, 1])
def test_log_mean_exp_is_that_of_scipy(dim, library):
    """Beyond the range of exp, too."""
    values = 1e3 * np.random.default_rng(0).normal(size=(5, 4))
    mean = array_api.log_mean_exp(library.asarray(values), dim)

    np.testing.assert_allclose(
        mean, special.logsumexp(values, axis=dim) - np.log(values.shape[dim])
    )


@libraries
def test_one_hot_is_that_of_torch(library):
    chosen = torch.tensor([[2, 0], [1, 1], [0, 2]])
    expected = torch.nn.functional.one_hot(chosen, 3)
    codes = array_api.one_hot(library.asarray(chosen), 3, library.float64)

    np.testing.assert_array_equal(codes, expected)
