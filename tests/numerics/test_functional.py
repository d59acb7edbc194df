"""Functions that neither PyTorch nor numpy has, against numpy, scipy and autograd."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from sklearn_vae.numerics.functional import bounded, bounded_slope, log_mean_exp, one_hot, unbounded


def test_bounded_log_scales_stay_within_the_bound():
    """An unbounded log-variance is the most reported fault of VAEs: exp of it is infinite."""
    raw = torch.tensor([-1e30, -1e3, 0.0, 1e3, 1e30])
    expected = torch.tensor([-7.0, -7.0, 0.0, 7.0, 7.0])

    torch.testing.assert_close(bounded(raw, 7.0), expected)


def test_unbounded_finds_the_raw_value_of_a_log_scale():
    """A start in closed form needs the inverse, finite at the bounds too."""
    log_scale = torch.linspace(-6.9, 6.9, 31, dtype=torch.float64)
    expected = 7 * np.arctanh(log_scale.numpy() / 7)

    np.testing.assert_allclose(unbounded(log_scale, 7.0).numpy(), expected)
    torch.testing.assert_close(bounded(unbounded(log_scale, 7.0), 7.0), log_scale)
    assert unbounded(torch.tensor([-100.0, 100.0]), 7.0).isfinite().all()


def test_bounded_slope_is_the_derivative():
    raw = torch.linspace(-30, 30, 61, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(bounded(raw, 7.0).sum(), raw)

    torch.testing.assert_close(bounded_slope(raw.detach(), 7.0), slope)


@pytest.mark.parametrize("dim", [0, 1])
def test_log_mean_exp_is_that_of_scipy(dim):
    """Beyond the range of exp, too."""
    values = 1e3 * np.random.default_rng(0).normal(size=(5, 4))

    mean = log_mean_exp(torch.from_numpy(values), dim).numpy()

    np.testing.assert_allclose(mean, logsumexp(values, axis=dim) - np.log(values.shape[dim]))


def test_one_hot_is_that_of_torch():
    chosen = torch.tensor([[2, 0], [1, 1], [0, 2]])
    expected = torch.nn.functional.one_hot(chosen, 3).double()

    codes = one_hot(chosen, 3, torch.float64)

    assert (codes == expected.flatten(1)).all()
    assert (one_hot(chosen, 3, torch.float64, flat=False) == expected).all()


def test_arrays_of_numpy_have_the_values_of_tensors():
    """Within rounding: the bound of a tensor is computed by the logistic function."""
    raw = np.linspace(-6, 6, 9).reshape(3, 3)
    for function in (bounded, bounded_slope, unbounded):
        expected = function(torch.from_numpy(raw), 7.0).numpy()
        np.testing.assert_allclose(function(raw, 7.0), expected, rtol=1e-12, atol=1e-12)
    expected = log_mean_exp(torch.from_numpy(raw), 1).numpy()
    np.testing.assert_allclose(log_mean_exp(raw, 1), expected, rtol=1e-12)
    codes = one_hot(np.array([[2, 0], [1, 1]]), 3, np.float64)
    np.testing.assert_array_equal(codes, [[0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 1, 0]])
