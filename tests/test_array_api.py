"""Functions that torch and numpy share have one meaning in both."""

import numpy as np
import pytest
import torch
from scipy import special

from sklearn_vae import array_api
from sklearn_vae.inference.importance_sampling import WidthCheck
from sklearn_vae.inference.laplace import NormalProposal, laplace_approximation

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


class StandardNormal:
    """The standard normal distribution of codes, as a target."""

    def gradient(self, z):
        """Gradient of its log-density."""
        return -z


@libraries
def test_the_laplace_approximation_of_a_normal_distribution_is_exact(library):
    """Its step leads to the mode, from anywhere."""
    loc = library.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)))
    axes = library.zeros((2, 3, 4, 4)) + library.asarray(np.eye(4))
    guess = NormalProposal(loc, axes, library.ones_like(loc))

    normal, step = laplace_approximation(StandardNormal(), guess)
    np.testing.assert_allclose(normal.scale, np.ones(loc.shape), rtol=1e-6)
    np.testing.assert_allclose(loc + step, np.zeros(loc.shape), atol=1e-6)


def test_results_are_on_the_device_of_their_inputs():
    """PyTorch refuses operations between tensors on the CPU and on another device."""
    z = torch.ones(2, 3, 4, device="meta")
    guess = NormalProposal(z, torch.ones(2, 3, 4, 4, device="meta"), z)
    check = WidthCheck(torch.ones(1, 256, 1, 4, device="meta"))

    results = (
        array_api.arange(3, z),
        array_api.as_type(torch.eye(4), z),
        check.is_narrow(torch.ones(2, 256, 3, device="meta")),
        *laplace_approximation(StandardNormal(), guess)[0],
    )
    assert {result.device.type for result in results} == {"meta"}
