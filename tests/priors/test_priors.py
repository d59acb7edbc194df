"""p(z): densities that integrate to one, against scikit-learn, torch.distributions and sums."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn.mixture import GaussianMixture
from torch import distributions

from sklearn_vae import VAETransformer
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.numerics.array_api import log_mean_exp
from sklearn_vae.numerics.random import sobol_normal
from sklearn_vae.priors import DiagonalMixture, MixturePrior, VampPrior
from tests.conftest import iwae_bound
from tests.priors.conftest import random_model
from tests.priors.test_contract import ALL


def random_mixture(n_members=1, n_parts=3, n_components=2):
    """A mixture whose weights, locations and scales all differ."""
    generator = torch.Generator().manual_seed(1)
    shape = (n_members, n_parts, n_components)
    logit = torch.randn(shape[:2], generator=generator).double()
    loc = 2 * torch.randn(shape, generator=generator).double()
    log_scale = 0.5 * torch.randn(shape, generator=generator).double()
    return DiagonalMixture(logit, loc, log_scale)


def by_torch(mixture):
    """The same mixture as torch.distributions states it, with members as its batch."""
    normal = distributions.Normal(mixture.loc, mixture.log_scale.exp())
    return distributions.MixtureSameFamily(
        distributions.Categorical(logits=mixture.log_weight), distributions.Independent(normal, 1)
    )


def test_a_mixture_scores_as_scikit_learns(rng):
    """GaussianMixture.score_samples, to rounding."""
    mixture = random_mixture()
    theirs = GaussianMixture(3, covariance_type="diag")
    theirs.weights_ = mixture.log_weight[0].exp().numpy()
    theirs.means_ = mixture.loc[0].numpy()
    theirs.covariances_ = (2 * mixture.log_scale[0]).exp().numpy()
    theirs.precisions_cholesky_ = 1 / np.sqrt(theirs.covariances_)
    z = 3 * rng.standard_normal((50, 2))
    ours = mixture.log_prob(torch.as_tensor(z)[None, None])[0, 0]

    np.testing.assert_allclose(ours.numpy(), theirs.score_samples(z), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-5, 1e-4, 1e-2])
def test_narrow_components_are_precise_in_single_precision(scale):
    """A posterior may be narrow, and a VampPrior is made of posteriors."""
    loc = torch.tensor([[[3.0, -2.0]]])
    mixture = DiagonalMixture(torch.zeros(1, 1), loc, torch.full((1, 1, 2), np.log(scale)))
    z = loc.unsqueeze(1) + scale * torch.tensor([1.0, -0.5])
    noise = (z.double() - loc.double()).numpy() / np.exp(float(mixture.log_scale[0, 0, 0]))
    expected = stats.norm.logpdf(noise).sum() - 2 * float(mixture.log_scale[0, 0, 0])

    assert mixture.log_prob(z).item() == pytest.approx(expected, abs=1e-4)


def test_a_vamp_prior_is_the_mean_of_the_posteriors_at_its_pseudo_inputs(generator):
    """As in the paper, with equal weights."""
    model = random_model(VampPrior(5), n_members=2)
    z = torch.randn(2, 3, 4, 2, generator=generator).double()
    inputs = model.prior_weights["pseudo_input"]
    parts = [
        model.posterior.log_prob(model.encode(inputs[:, [c]]).expand(-1, 4, -1), z)
        for c in range(5)
    ]
    expected = log_mean_exp(torch.stack(parts), dim=0)

    torch.testing.assert_close(model.prior_distribution().log_prob(z), expected)


def test_a_component_of_no_weight_is_never_drawn(generator):
    """Rounding at the ends of the cumulated weights must not draw it."""
    logit = torch.tensor([[-1e4, 0.0, -1e4]])
    loc = torch.tensor([[[-50.0], [0.0], [50.0]]])
    z = DiagonalMixture(logit, loc, torch.zeros(1, 3, 1)).sample(
        (1, 5000, 1), generator, torch.float32
    )

    assert z.abs().max() < 10


@pytest.mark.parametrize("prior", ALL, ids=repr)
def test_the_score_is_the_integral_over_z(prior, table):
    """log p(x) of a nonlinear model, against numerical integration."""
    model = random_model(prior, n_components=1)
    x = torch.as_tensor(table[:5])[None]
    axis = torch.linspace(-20, 20, 8001).double()
    z = axis[None, None, :, None]
    with torch.no_grad():
        log_prob = torch.stack(
            [model.likelihood.log_prob(model.decode(z), row)[0, 0] for row in x[0]]
        )
        joint = (log_prob + model.prior_distribution().log_prob(z)[0, 0]).exp().numpy()
        noise = torch.as_tensor(sobol_normal(8192, 1, 0))[None, :, None]
        bound = iwae_bound(model, x, noise, scale=4.0)[0].numpy()

    np.testing.assert_allclose(
        bound, np.log(integrate.simpson(joint, x=axis.numpy(), axis=-1)), atol=0.02
    )


def test_a_mixture_starts_as_the_codes(table, make_model):
    """With the mean of the rows' posteriors, and their variance: moments of the aggregate."""
    model = make_model(table)
    x = torch.as_tensor(table)[None]
    loc, log_scale = model.posterior_params(x)
    start = MixturePrior(8).initial_params(x, model.posterior_params)
    exact = by_torch(MixturePrior(8).distribution(start, model.posterior_params))
    variance = loc.var(1, unbiased=False) + (2 * log_scale).exp().mean(1)

    torch.testing.assert_close(exact.mean, loc.mean(1), rtol=0, atol=1e-3)
    torch.testing.assert_close(exact.variance, variance, rtol=1e-2, atol=0)


def test_long_tables_have_more_components_and_go_on_with_them():
    """10, and 40 from 800 rows on: clusters of a prior of ten would be blurred."""
    X = np.random.default_rng(0).normal(size=(800, 2))
    vae = VAETransformer(2, max_iter=1, random_state=0).fit(X)

    assert vae.prior_ == MixturePrior(40)
    assert vae.partial_fit(X[:200]).prior_ == MixturePrior(40)
    assert vae.fit(X[:799]).prior_ == MixturePrior(10)
    with pytest.raises(ValueError, match="must have been chosen"):
        replace(vae.architecture_, prior=MixturePrior()).check_sizes([10**6] * 9)


def test_draws_from_a_mixture_have_its_distribution(rng):
    """Standard normal draws become draws of each component, in its share; scipy is the oracle."""
    mixture = DiagonalMixture(
        torch.tensor([[0.2, 0.8]]).log(), torch.tensor([[[-3.0], [2.0]]]), torch.zeros(1, 2, 1)
    )
    noise = torch.as_tensor(stats.norm.ppf((np.arange(1024) + 0.5) / 1024))
    z = mixture.transform(noise[torch.as_tensor(rng.permutation(1024)), None])[0, :, 0]

    assert (z < -0.5).double().mean().item() == pytest.approx(0.2, abs=0.02)
    assert stats.kstest(z[z > 0], stats.truncnorm(-2, 9, 2).cdf).pvalue > 0.01


def clusters(n, rng):
    """Three clusters on a plane in five dimensions, and the density that they come from."""
    loadings = np.random.default_rng(5).normal(size=(2, 5))
    centres = np.array([[-4.0, 0], [4, 0], [0, 5]])
    place = rng.integers(0, 3, n)
    z = centres[place] + 0.5 * rng.normal(size=(n, 2))
    covariance = 0.25 * loadings.T @ loadings + 0.3**2 * np.eye(5)
    parts = [stats.multivariate_normal(centre @ loadings, covariance) for centre in centres]
    X = z @ loadings + 0.3 * rng.normal(size=(n, 5))
    return X, lambda X: np.log(np.mean([part.pdf(X) for part in parts], axis=0))


@pytest.mark.parametrize(
    "prior",
    [MixturePrior(6), pytest.param(VampPrior(20), marks=pytest.mark.slow), "normal"],
    ids=repr,
)
def test_a_linear_model_with_a_learned_prior_finds_clusters(prior, rng):
    """A linear decoder can only have them from p(z): it comes near to the true density."""
    X, _ = clusters(800, rng)
    test, log_density = clusters(1000, rng)
    linear = {"hidden_layer_sizes": (), "likelihood": Gaussian("per_column"), "random_state": 0}
    truth = log_density(test).mean()
    ours = VAETransformer(2, prior=prior, **linear).fit(X)
    if prior == "normal":
        assert ours.score(test) < truth - 0.4
        return
    drawn = ours.sample(4000, random_state=0)

    assert truth - 0.1 < ours.score(test) < truth + 0.1
    assert log_density(drawn).mean() == pytest.approx(log_density(test).mean(), abs=0.5)


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
def test_fits_go_on_with_the_prior_that_they_have(prior):
    """In partial_fit; another prior is refused by name."""
    X, _ = clusters(300, np.random.default_rng(0))
    stream = VAETransformer(2, prior=prior, random_state=0)
    for _ in range(10):
        stream.partial_fit(X)

    assert stream.history_[-1]["loss"] < stream.history_[0]["loss"] - 0.05
    with pytest.raises(ValueError, match="'prior' parameter must be StandardNormal"):
        VAETransformer(2, prior="normal").partial_fit(X).set_params(prior=prior).partial_fit(X)
