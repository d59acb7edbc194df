"""The contract of every prior: a normalized density, samples from it and gradients."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from sklearn_vae.posteriors import RelaxedCategorical
from sklearn_vae.priors import MixturePrior, StandardNormal, UniformCategorical, VampPrior
from tests.priors.conftest import random_model

ALL = [StandardNormal(), MixturePrior(4), VampPrior(5)]


@pytest.mark.parametrize("prior", ALL, ids=repr)
@pytest.mark.parametrize("n_components", [1, 2])
def test_the_density_integrates_to_one(prior, n_components):
    """Otherwise scores of different models could not be compared."""
    distribution = random_model(prior, n_components=n_components).prior_distribution()
    axis = np.linspace(-12, 12, 961)
    grid = np.stack(np.meshgrid(*[axis] * n_components, indexing="ij"), axis=-1)
    z = torch.as_tensor(grid.reshape(1, 1, -1, n_components))
    total = distribution.log_prob(z).exp().detach().numpy().reshape([len(axis)] * n_components)
    for _ in range(n_components):
        total = integrate.simpson(total, x=axis, axis=-1)

    assert total == pytest.approx(1, abs=1e-6)


def test_uniform_codes_have_equal_probabilities():
    """Nine codes of two variables of three classes."""
    z = RelaxedCategorical(2).enumerate_codes(6, torch.zeros(1).double())

    torch.testing.assert_close(
        UniformCategorical(2).log_prob(z).exp(), torch.full((9,), 1 / 9.0).double()
    )


@pytest.mark.parametrize("prior", ALL, ids=repr)
def test_samples_have_the_density(prior, generator):
    """In one dimension, by a Kolmogorov-Smirnov test against the integral of the density."""
    distribution = random_model(prior, n_components=1).prior_distribution()
    z = distribution.sample((1, 5000, 1), generator, torch.float64)[0, :, 0].detach().numpy()
    axis = torch.linspace(-15, 15, 6001).double()
    density = distribution.log_prob(axis[None, None, :, None])[0, 0].exp().detach().numpy()
    cdf = integrate.cumulative_simpson(density, x=axis.numpy(), initial=0)

    assert stats.kstest(z, lambda at: np.interp(at, axis.numpy(), cdf)).pvalue > 0.001


def test_samples_of_uniform_codes_are_one_hot_and_uniform(generator):
    """One class per variable."""
    z = UniformCategorical(2).sample((2, 3000, 6), generator, torch.float64)
    codes = z.numpy().reshape(2, 3000, 2, 3)

    assert ((codes == 0) | (codes == 1)).all()
    assert (codes.sum(-1) == 1).all()
    np.testing.assert_allclose(codes.mean(axis=1), 1 / 3, atol=0.04)


@pytest.mark.parametrize("prior", ALL, ids=repr)
def test_shapes_are_those_of_members_draws_and_rows(prior, generator):
    """Two members, three draws of four rows, and two latent dimensions."""
    distribution = random_model(prior, n_members=2).prior_distribution()
    z = torch.randn(2, 3, 4, 2, generator=generator).double()

    assert distribution.log_prob(z).shape == (2, 3, 4)
    assert distribution.sample((2, 5, 2), generator, torch.float64).shape == (2, 5, 2)


@pytest.mark.parametrize("prior", ALL, ids=repr)
def test_initial_parameters_have_the_shapes_that_the_prior_states(prior, generator):
    """With a member axis; a prior without parameters needs no rows."""
    model = random_model(prior, n_members=2)
    shapes = prior.param_shapes(2, 4)
    x = torch.randn(2, prior.n_rows, 4, generator=generator).double()
    initial = prior.initial_params(x, model.posterior_params)

    assert {name: value.shape[1:] for name, value in initial.items()} == shapes
    assert {name: value.shape[1:] for name, value in model.prior_weights.items()} == shapes
    assert bool(prior.n_rows) == bool(shapes)


@pytest.mark.parametrize("prior", ALL[1:], ids=repr)
def test_the_gradient_reaches_every_parameter(prior, generator):
    """And the draws, for the reparameterized encoder."""
    model = random_model(prior)
    z = torch.randn(1, 3, 4, 2, generator=generator).double().requires_grad_()
    params = list(model.prior_weights.values())
    gradients = torch.autograd.grad(model.prior_distribution().log_prob(z).sum(), [z, *params])

    assert all(gradient.ne(0).all() for gradient in gradients)
