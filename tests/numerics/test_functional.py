"""Functions that neither PyTorch nor numpy has, against numpy, scipy and autograd."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from sklearn_vae.numerics.functional import bounded, bounded_slope, log_mean_exp, one_hot, unbounded

libraries = pytest.mark.parametrize("library", [np, torch])


@libraries
def test_bounded_log_scales_stay_within_the_bound(library):
    """An unbounded log-variance is the most reported fault of VAEs: exp of it is infinite."""
    raw = np.array([-1e30, -1e3, -2.0, 0.0, 2.0, 1e3, 1e30])
    within = np.linspace(-6.9, 6.9, 31)
    inverse = unbounded(library.asarray(within), 7.0)

    np.testing.assert_allclose(bounded(library.asarray(raw), 7.0), 7 * np.tanh(raw / 7))
    np.testing.assert_allclose(inverse, 7 * np.arctanh(within / 7))
    np.testing.assert_allclose(bounded(inverse, 7.0), within)
    assert np.isfinite(np.asarray(unbounded(library.asarray([-100.0, 100.0]), 7.0))).all()


@libraries
def test_bounded_slope_is_the_derivative(library):
    raw = torch.linspace(-30, 30, 61, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(bounded(raw, 7.0).sum(), raw)

    found = bounded_slope(library.asarray(raw.detach()), 7.0)
    np.testing.assert_allclose(found, slope, rtol=1e-9, atol=1e-12)


@libraries
@pytest.mark.parametrize("dim", [0, 1])
def test_log_mean_exp_is_that_of_scipy(dim, library):
    """Beyond the range of exp, too."""
    values = 1e3 * np.random.default_rng(0).normal(size=(5, 4))
    mean = log_mean_exp(library.asarray(values), dim)

    np.testing.assert_allclose(mean, logsumexp(values, axis=dim) - np.log(values.shape[dim]))


@libraries
def test_one_hot_is_that_of_torch(library):
    chosen = torch.tensor([[2, 0], [1, 1], [0, 2]])
    expected = torch.nn.functional.one_hot(chosen, 3)
    codes = one_hot(library.asarray(chosen), 3, library.float64)

    np.testing.assert_array_equal(codes, expected.flatten(1))
    np.testing.assert_array_equal(
        one_hot(library.asarray(chosen), 3, library.float64, flat=False), expected
    )
