"""The contract of every posterior: draws, densities, KL and gradients."""

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from sklearn_vae import VAETransformer
from sklearn_vae.posteriors import DiagonalGaussian, FullCovarianceGaussian, RelaxedCategorical

CONTINUOUS = [DiagonalGaussian(), FullCovarianceGaussian()]
ALL = [*CONTINUOUS, RelaxedCategorical(), RelaxedCategorical(2)]
L = 4  # latent dimensions


def make(posterior, generator, n_members=2, n_rows=3, n_components=L):
    """Random params (M, B, n_params)."""
    shape = n_members, n_rows, posterior.n_params(n_components)
    return 0.5 * torch.randn(shape, generator=generator).double()


@pytest.mark.parametrize("posterior", ALL, ids=repr)
@pytest.mark.parametrize("shared", [False, True])
def test_shapes_are_those_of_members_draws_and_rows(posterior, shared, generator):
    """Noise may be shared by members and rows."""
    params = make(posterior, generator)
    shape = (1, 5, 1) if shared else (2, 5, 3)
    noise = torch.randn(*shape, L, generator=generator).double()

    assert posterior.rsample(params, noise).shape == (2, 5, 3, L)
    assert posterior.mean(params).shape == (2, 3, L)


@pytest.mark.parametrize("posterior", ALL, ids=repr)
def test_the_gradient_reaches_every_parameter(posterior, generator):
    """Through the reparameterized draws, to all of the encoder's outputs."""
    params = make(posterior, generator)
    params.requires_grad_()
    noise = torch.randn(2, 5, 3, L, generator=generator).double()
    z = posterior.rsample(params, noise)
    weight = torch.randn(z.shape, generator=generator).double()
    (gradient,) = torch.autograd.grad((weight * z).sum(), params)

    assert gradient.ne(0).any(dim=1).any(dim=0).all()


@pytest.mark.parametrize("posterior", CONTINUOUS, ids=repr)
def test_initial_parameters_have_the_location_and_scale(posterior, generator):
    """Before the first step, at the exact posterior of probabilistic PCA."""
    loc, scale = torch.randn(L, generator=generator), torch.rand(L, generator=generator) + 0.1
    params = posterior.initial_params(loc, scale)[None, None]
    found_loc, log_scale = posterior.split(params)

    assert params.shape == (1, 1, posterior.n_params(L))
    torch.testing.assert_close(found_loc[0, 0], loc)
    torch.testing.assert_close(log_scale.exp()[0, 0], scale)
    torch.testing.assert_close(posterior.mean(params)[0, 0], loc)


def by_torch(params):
    """A Gaussian posterior as torch.distributions states it: loc, raw log-scales, rest of L."""
    loc, raw, below = params.split([L, L, params.shape[-1] - 2 * L], dim=-1)
    factor = torch.diag_embed(torch.ones_like(loc))
    if below.shape[-1]:
        row, column = np.tril_indices(L, -1)
        factor[..., row, column] = below
    scale = (12 * torch.tanh(raw / 12)).exp()
    return MultivariateNormal(loc, scale_tril=scale.unsqueeze(-1) * factor)


@pytest.mark.parametrize("posterior", CONTINUOUS, ids=repr)
def test_draws_and_densities_are_the_multivariate_normals(posterior, generator):
    """An importance weight with a wrong denominator is a wrong score."""
    params = make(posterior, generator)
    noise = torch.randn(1, 7, 1, L, generator=generator).double()
    q = by_torch(params.unsqueeze(1))
    z = posterior.rsample(params, noise)

    torch.testing.assert_close(z, q.loc + (q.scale_tril @ noise.unsqueeze(-1)).squeeze(-1))
    torch.testing.assert_close(posterior.log_prob(params, z), q.log_prob(z))


@pytest.mark.parametrize("posterior", CONTINUOUS, ids=repr)
def test_kl_is_that_from_the_standard_normal(posterior, generator):
    """Exact, so that beta weighs what the history shows."""
    params = make(posterior, generator)
    standard = MultivariateNormal(torch.zeros(L).double(), torch.eye(L).double())

    expected = kl_divergence(by_torch(params), standard)
    torch.testing.assert_close(posterior.kl(params).sum(-1), expected)


@pytest.mark.parametrize("posterior", CONTINUOUS, ids=repr)
@pytest.mark.parametrize("raw", [-1e6, 1e6])
def test_kl_and_its_gradient_are_finite_for_any_raw_scale(posterior, raw):
    """One wild step must not end a training in NaN."""
    params = torch.zeros(1, 1, posterior.n_params(L))
    params[..., L : 2 * L] = raw
    kl = posterior.kl(params.requires_grad_())
    (gradient,) = torch.autograd.grad(kl.sum(), params)

    assert kl.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("posterior", ALL, ids=repr)
def test_stacked_members_equal_members_trained_alone(posterior, table):
    """Starts are trained side by side; one of them alone leads to the same."""
    how = {"posterior": posterior, "max_iter": 2, "refit": False, "random_state": 0}
    several = VAETransformer(L, n_init=3, ensemble=True, **how).fit(table)
    alone = VAETransformer(L, **how).fit(table)

    def is_there(member):
        return all(
            np.allclose(several.state_dict_[name][member], value[0], rtol=1e-9, atol=1e-9)
            for name, value in alone.state_dict_.items()
        )

    assert sum(map(is_there, range(3))) == 1
