"""Real columns: scales per row, per column and fixed, heavy tails, and densities of mass one."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.distributions import Normal

from sklearn_vae import VAETransformer
from sklearn_vae.likelihoods import Gaussian, StudentT
from tests.likelihoods.conftest import draw

LIKELIHOODS = [Gaussian(), Gaussian(scale="per_column")]
each_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)


def draw_params(likelihood, *shape):
    """Random parameters; those that do not depend on z have one row for all."""
    return [
        draw(*shape, seed=k) if depends_on_z else draw(*[1] * (len(shape) - 1), shape[-1], seed=k)
        for k, depends_on_z in enumerate(likelihood.depends_on_z)
    ]


def by_torch(params):
    """The normal distribution of each value."""
    return Normal(params[0], (7 * torch.tanh(params[1] / 7)).exp())


@each_likelihood
def test_a_density_integrates_to_one(likelihood):
    """Scores of models can be compared only if each spends a mass of one."""
    params = draw_params(likelihood, 1, 1)
    dist = by_torch(params)
    loc, scale = dist.mean.item(), dist.stddev.item()

    def density(x):
        return likelihood.log_prob(params, torch.tensor([[x]]).double()).exp().item()

    mass, _ = integrate.quad(density, loc - 12 * scale, loc + 12 * scale)

    assert mass == pytest.approx(1, abs=1e-6)


def test_a_scale_per_column_is_the_same_density_as_one_that_ignores_z():
    """The two Gaussians differ in where the scale comes from, not in what it means."""
    loc, raw, x = draw(3, 4, 5), draw(1, 1, 5, seed=1), draw(1, 4, 5, seed=2)
    by_z = Gaussian("per_row").log_prob([loc, raw.expand(3, 4, 5)], x)

    torch.testing.assert_close(Gaussian("per_column").log_prob([loc, raw], x), by_z)
    assert (Gaussian("per_row").depends_on_z, Gaussian("per_column").depends_on_z) == (
        (True, True),
        (True, False),
    )


def test_a_fixed_scale_is_not_learned():
    """In the density, in a fit and in samples it is what it was set to."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 3)) * 10
    vae = VAETransformer(2, likelihood=Gaussian(0.25), max_iter=3, random_state=0).fit(X)
    scale = 7 * np.tanh(vae.state_dict_["free"] / 7)
    x, z = (X - X.mean(axis=0)) / X.std(axis=0), vae.transform(X)
    module = vae.module_
    params = module.decode(torch.as_tensor(z)[None, None])[0]
    expected = stats.norm.logpdf(x, params[0][0, 0].numpy(), 0.25).sum(axis=1)

    np.testing.assert_allclose(scale, np.log(0.25), rtol=1e-6)
    found = module.likelihood.log_prob([params], torch.as_tensor(x)[None, None])[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-7)
    assert (Gaussian(0.25).depends_on_z, Gaussian(1).has_fixed_scale) == ((True, False), True)


@pytest.mark.parametrize("scale", ["row", None, 0.0, -1.0, 2000, True, float("nan")])
def test_an_invalid_scale_is_refused(scale):
    """The message names the parameter, the value and what is allowed."""
    with pytest.raises(
        ValueError, match="'scale' parameter of Gaussian must be 'per_row', 'per_col"
    ) as e:
        Gaussian(scale=scale)

    assert repr(scale) in str(e.value)


@each_likelihood
def test_gaussian_columns_are_initialized_as_the_linear_model(likelihood):
    """p(x|z) = N(loc + z @ loadings, scale) for every z, not only near 0."""
    loadings, loc, scale = draw(2, 3), draw(3, seed=1), draw(3, seed=2).exp()
    z, x = 3 * draw(7, 2, seed=3), draw(7, 3, seed=4)
    params = [z @ slope + offset for slope, offset in likelihood.initialize(loadings, loc, scale)]
    mean = loc.numpy() + z.numpy() @ loadings.numpy()
    expected = stats.norm(mean, scale.numpy()).logpdf(x.numpy()).sum(-1)

    np.testing.assert_allclose(likelihood.log_prob(params, x).numpy(), expected, rtol=1e-9)


def test_a_student_t_with_many_degrees_of_freedom_is_normal():
    """Within the density's tails."""
    params = [torch.zeros(1, 1), torch.zeros(1, 1), torch.full((1, 1), 60.0)]
    x = torch.linspace(-3, 3, 7).unsqueeze(1)

    expected = stats.norm.logpdf(x.numpy())
    np.testing.assert_allclose(
        StudentT().log_prob_per_column(params, x).numpy(), expected, atol=0.05
    )


def test_the_loss_of_an_outlier_is_logarithmic_and_finite_for_student_t():
    """Squares would overflow in single precision."""
    params = [torch.zeros(1, 1)] * 3
    x = torch.tensor([[1e5], [1e10], [1e30]])
    costs = StudentT().log_prob_per_column(params, x)[:, 0]

    assert costs.isfinite().all()
    assert (costs[0] - costs[1]) / 5 == pytest.approx(float(costs[1] - costs[2]) / 20, rel=1e-3)
