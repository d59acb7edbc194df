"""Fisher scoring and Laplace approximations, in torch and in numpy."""

import numpy as np
import pytest
import torch
from scipy import stats

from sklearn_vae.inference.laplace import Expansion, NormalProposal, expand_prior, find_modes
from sklearn_vae.priors import DiagonalMixture

libraries = pytest.mark.parametrize("library", [np, torch])
RNG = np.random.default_rng(0)
LOC, FEATURES = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 3, 4, 6))


class NormalTarget:
    """p(x|z) that is normal in z, with a standard normal prior: two members, three rows."""

    def __init__(self, library, information=1.0):
        self.library, self.information, self.calls = library, information, []

    def expand(self, z, rows):
        """Its expansion; ``information`` is a factor of the Fisher information that it states."""
        self.calls.append(len(rows))
        features = self.library.asarray(FEATURES)[:, rows]
        difference = (self.library.asarray(LOC)[:, rows] - z)[..., None]
        gradient = features @ (features.swapaxes(-1, -2) @ difference)
        log_joint = -0.5 * (difference * gradient).sum((-1, -2)) - 0.5 * (z * z).sum(-1)
        stated = self.information * features @ features.swapaxes(-1, -2)
        return Expansion(log_joint, gradient[..., 0] - z, stated, self.library.ones_like(z))


def exact():
    """Mean and covariance of each row's posterior, which is normal."""
    precision = FEATURES @ FEATURES.swapaxes(-1, -2)
    covariance = np.linalg.inv(precision + np.eye(4))
    return (covariance @ precision @ LOC[..., None])[..., 0], covariance


@libraries
def test_the_posterior_of_a_normal_distribution_is_found_in_one_step(library):
    """Its mean, its covariance and its evidence, from anywhere."""
    target = NormalTarget(library)
    z, local = find_modes(target.expand, library.zeros((2, 3, 4), dtype=library.float64) + 5.0)
    mean, covariance = exact()

    assert target.calls == [3, 3]
    np.testing.assert_allclose(z, mean, atol=1e-10)
    whiten = np.asarray(NormalProposal.of(z, local.information, local.prior_precision).whiten)
    np.testing.assert_allclose(np.linalg.inv(whiten.swapaxes(-1, -2) @ whiten), covariance)
    _, log_det = np.linalg.slogdet(2 * np.pi * covariance)
    np.testing.assert_allclose(local.log_evidence, np.asarray(local.log_joint) + 0.5 * log_det)


@libraries
def test_a_step_that_is_too_long_is_taken_again_shorter(library, monkeypatch):
    """Of a target that states a twentieth of its information, whose steps are too long."""
    target = NormalTarget(library, information=0.05)
    start = library.zeros((2, 3, 4), dtype=library.float64)
    monkeypatch.setattr("sklearn_vae.inference.laplace.MAX_STEPS", 60)
    z, local = find_modes(target.expand, start)

    assert len(target.calls) > 3
    assert (local.log_joint > NormalTarget(library).expand(start, np.arange(3)).log_joint).all()
    np.testing.assert_allclose(z, exact()[0], atol=0.6)


@libraries
def test_a_row_without_a_finite_curvature_takes_no_step(library):
    """Its proposal is a standard normal distribution around its code; the others take theirs."""

    class Overflowing(NormalTarget):
        def expand(self, z, rows):
            local = super().expand(z, rows)
            is_bad = np.asarray(rows) == 1
            local.information[:, is_bad] = np.nan
            return local

    start = library.zeros((2, 3, 4), dtype=library.float64)
    z, local = find_modes(Overflowing(library).expand, start)
    normal = NormalProposal.of(z, local.information, local.prior_precision)

    assert (z[:, 1] == 0).all()
    np.testing.assert_array_equal(normal.whiten[:, 1], np.broadcast_to(np.eye(4), (2, 4, 4)))
    np.testing.assert_allclose(z[:, [0, 2]], exact()[0][:, [0, 2]], atol=1e-10)


@libraries
def test_a_proposal_draws_from_its_density(library):
    """The density is scipy's, and the draws have its covariance."""
    z, local = find_modes(
        NormalTarget(library).expand, library.zeros((2, 3, 4), dtype=library.float64)
    )
    normal = NormalProposal.of(z, local.information, local.prior_precision)
    noise = np.random.default_rng(1).normal(size=(1, 20000, 1, 4))
    codes = normal.draw(library.asarray(noise))
    mean, covariance = exact()

    for member, row in ((0, 0), (1, 2)):
        scipys = stats.multivariate_normal(mean[member, row], covariance[member, row])
        drawn = np.asarray(codes[member, :, row])
        log_prob = normal.log_prob(codes)[member, :, row]
        np.testing.assert_allclose(log_prob, scipys.logpdf(drawn), atol=1e-8)
        np.testing.assert_allclose(np.cov(drawn.T), covariance[member, row], atol=0.02)


def test_it_is_as_wide_as_the_prior_where_the_likelihood_is_flat():
    """And wider by the factor where the likelihood decides."""
    loc, precision = torch.zeros(1, 1, 2), torch.ones(1, 1, 2)
    information = torch.tensor([[[[1e8, 0.0], [0.0, 0.0]]]])
    whiten = NormalProposal.of(loc, information, precision, 1.2).whiten[0, 0].diagonal()

    torch.testing.assert_close(1 / whiten, torch.tensor([1.2e-4, 1.0]))


def test_the_gradient_of_a_mixture_prior_is_that_of_its_density(generator):
    """By autograd; precisions are averages of those of the components."""
    logit, loc, log_scale = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((2, 3), (2, 3, 4), (2, 3, 4))
    )
    prior = DiagonalMixture(logit, loc, log_scale)
    z = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(prior.log_prob(z[:, None]).sum(), z)
    gradient, precision = expand_prior(prior, z.detach())

    torch.testing.assert_close(gradient, expected)
    lowest, highest = (-2 * log_scale).exp().aminmax(dim=1)
    assert ((precision >= lowest[:, None]) & (precision <= highest[:, None])).all()
