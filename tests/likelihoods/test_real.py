"""p(x|z) of real and binary columns, and of several kinds side by side."""

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Normal

from sklearn_vae import VAETransformer
from sklearn_vae.likelihoods import Bernoulli, Columnwise, Gaussian

LIKELIHOODS = [Gaussian(), Gaussian(scale="per_column"), Bernoulli()]


def draw(*shape, seed=0):
    """Random numbers in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def draw_params(likelihood, *shape):
    """Random parameters; those that do not depend on z have one row for all."""
    return [
        draw(*shape, seed=k) if depends_on_z else draw(*[1] * (len(shape) - 1), shape[-1], seed=k)
        for k, depends_on_z in enumerate(likelihood.depends_on_z)
    ]


def draw_rows(likelihood, *shape):
    """Rows that the likelihood can have."""
    x = 2 * draw(*shape, seed=9)
    return (x > 0).double() if isinstance(likelihood, Bernoulli) else x


def by_torch(likelihood, params):
    """The same density of each cell as torch.distributions states it."""
    if isinstance(likelihood, Bernoulli):
        return TorchBernoulli(logits=params[0])
    return Normal(params[0], (7 * torch.tanh(params[1] / 7)).exp())


each_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)


@each_likelihood
def test_log_prob_is_the_textbook_density_summed_over_columns(likelihood):
    """A model states a density, in nats."""
    params, x = draw_params(likelihood, 2, 3, 4, 5), draw_rows(likelihood, 2, 1, 4, 5)
    expected = by_torch(likelihood, params).log_prob(x).sum(-1)

    torch.testing.assert_close(likelihood.log_prob(params, x), expected)


@pytest.mark.parametrize("likelihood", LIKELIHOODS[:2], ids=repr)
def test_a_density_integrates_to_one(likelihood):
    """Scores of models can be compared only if each spends a mass of one."""
    params = draw_params(likelihood, 1, 1)
    dist = by_torch(likelihood, params)
    loc, scale = dist.mean.item(), dist.stddev.item()

    def density(x):
        return likelihood.log_prob(params, torch.tensor([[x]]).double()).exp().item()

    mass, _ = integrate.quad(density, loc - 12 * scale, loc + 12 * scale)

    assert mass == pytest.approx(1, abs=1e-6)


def test_the_probabilities_of_a_binary_column_sum_to_one():
    """As above, for what can be counted."""
    params = [draw(50, 1)]
    mass = sum(
        Bernoulli().log_prob(params, torch.full((50, 1), x).double()).exp() for x in (0.0, 1.0)
    )

    torch.testing.assert_close(mass, torch.ones(50).double())


@each_likelihood
def test_mean_is_the_densitys_mean(likelihood):
    """inverse_transform() gives it."""
    params = draw_params(likelihood, 2, 4, 5)

    torch.testing.assert_close(likelihood.mean(params), by_torch(likelihood, params).mean)


@each_likelihood
def test_samples_have_the_densitys_moments(likelihood, generator):
    """Samples hold the decoder's noise, not its mean alone."""
    params = [param.expand(40_000, 3) for param in draw_params(likelihood, 1, 3)]
    dist = by_torch(likelihood, [param[0] for param in params])
    x = likelihood.sample(params, generator)
    error = (x.mean(0) - dist.mean) / dist.stddev

    assert x.shape == (40_000, 3)
    torch.testing.assert_close(error, torch.zeros(3).double(), rtol=0, atol=0.02)
    torch.testing.assert_close(x.var(0), dist.variance, rtol=0.04, atol=0)


@each_likelihood
def test_samples_follow_from_their_generator(likelihood):
    """sample(random_state=0) twice gives the same rows."""
    params = draw_params(likelihood, 2, 4, 5)
    first, again = (
        likelihood.sample(params, torch.Generator().manual_seed(1)) for _ in range(2)
    )  # fmt: skip

    assert first.tolist() == again.tolist()


@each_likelihood
def test_the_gradient_flows_to_every_parameter(likelihood):
    """Finite differences agree with autograd, for the density and for the scales' prior."""
    params = [param.requires_grad_() for param in draw_params(likelihood, 4, 3)]
    x, scale = draw_rows(likelihood, 4, 3), draw(3).exp()

    assert torch.autograd.gradcheck(lambda *params: likelihood.log_prob(params, x), params)
    assert torch.autograd.gradcheck(lambda *params: likelihood.log_prior(params, scale), params)


@pytest.mark.parametrize("likelihood", LIKELIHOODS[:2], ids=repr)
def test_the_prior_of_a_scale_is_the_density_of_a_row_at_that_distance(likelihood):
    """It is one more row whose residual is the linear model's: no scale can collapse for free."""
    params, scale = draw_params(likelihood, 2, 4, 3), draw(3).exp()
    dist = by_torch(likelihood, params)
    expected = dist.log_prob(dist.mean + scale).sum(-1)

    torch.testing.assert_close(likelihood.log_prior(params, scale).expand(2, 4), expected)


def test_a_probability_has_no_scale_and_so_no_prior():
    """Nothing of a binary column can collapse."""
    log_prior = Bernoulli().log_prior([draw(2, 4, 3)], torch.ones(3))

    assert log_prior.tolist() == np.zeros((2, 4)).tolist()


@pytest.mark.parametrize("logit", [-1e4, -50.0, 50.0, 1e4])
def test_extreme_logits_give_finite_log_probabilities(logit):
    """log(sigmoid) by hand is -inf from about 100 on in single precision."""
    logits, x = torch.full((1, 1), logit), torch.tensor([[0.0], [1.0]])
    expected = TorchBernoulli(logits=logits).log_prob(x).sum(-1)

    torch.testing.assert_close(Bernoulli().log_prob([logits], x), expected)
    assert expected.isfinite().all()


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
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert (Gaussian(0.25).depends_on_z, Gaussian(1).is_fixed) == ((True, False), True)


@pytest.mark.parametrize("scale", ["row", None, 0.0, -1.0, 2000, True, float("nan")])
def test_a_scale_that_is_neither_is_refused(scale):
    """The message names the parameter, the value and what is allowed."""
    with pytest.raises(
        ValueError, match="'scale' parameter of Gaussian must be 'per_row', 'per_col"
    ) as e:
        Gaussian(scale=scale)

    assert repr(scale) in str(e.value)


def test_likelihoods_are_values():
    """Equal likelihoods are one block, can be cloned by get_params and print as they are built."""
    assert Gaussian() == Gaussian(scale="per_row") != Gaussian(scale="per_column")
    assert len({Gaussian(), Gaussian("per_row"), Bernoulli(), Bernoulli()}) == 2
    assert repr(Gaussian("per_column")) == "Gaussian(scale='per_column')"


# -- start -------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS[:2], ids=repr)
def test_gaussian_columns_start_as_the_linear_model_itself(likelihood):
    """p(x|z) = N(loc + z @ loadings, scale) for every z, not only near 0."""
    loadings, loc, scale = draw(2, 3), draw(3, seed=1), draw(3, seed=2).exp()
    z, x = 3 * draw(7, 2, seed=3), draw(7, 3, seed=4)
    params = [z @ slope + offset for slope, offset in likelihood.initialize(loadings, loc, scale)]
    mean = loc.numpy() + z.numpy() @ loadings.numpy()
    expected = stats.norm(mean, scale.numpy()).logpdf(x.numpy()).sum(-1)

    np.testing.assert_allclose(likelihood.log_prob(params, x).numpy(), expected, rtol=1e-9)


def test_binary_columns_start_with_the_linear_models_value_and_slope_at_zero():
    """The logistic model that touches the linear one where codes are most frequent."""
    loadings, loc = 0.1 * draw(2, 3), torch.tensor([0.2, 0.5, 0.9]).double()
    ((slope, offset),) = Bernoulli().initialize(loadings, loc, torch.ones(3))

    def mean(z):
        return Bernoulli().mean([z @ slope + offset])

    at_zero = torch.zeros(2).double()
    tangent = torch.autograd.functional.jacobian(mean, at_zero)  # (3, 2)

    torch.testing.assert_close(mean(at_zero), loc)
    torch.testing.assert_close(tangent.T, loadings)


def test_rare_bits_start_at_finite_logits():
    """A column whose linear model leaves [0, 1] or is almost never 1 must not start at inf."""
    loc = torch.tensor([-0.3, 0.0, 1e-9, 1.0, 1.2]).double()
    ((slope, offset),) = Bernoulli().initialize(draw(2, 5), loc, torch.ones(5))
    expected = torch.tensor([1e-3, 1e-3, 1e-3, 0.999, 0.999]).double()

    torch.testing.assert_close(torch.sigmoid(offset), expected)
    assert slope.abs().max() <= 3


# -- columns of several kinds ------------------------------------------------------------

MIXED = Columnwise([(Gaussian("per_column"), 2), (Bernoulli(), 3), (Gaussian("per_row"), 1)])


def mixed_params():
    """Decoder's numbers: 2 means, 3 logits, a mean and a raw scale; free: 2 raw scales."""
    return draw(2, 3, 4, 7), draw(2, 1, 1, 2, seed=1)


def mixed_by_torch(depends_on_z, free):
    """Densities of the blocks (in order) as torch.distributions states them."""
    return [
        by_torch(Gaussian(), [depends_on_z[..., :2], free]),
        by_torch(Bernoulli(), [depends_on_z[..., 2:5]]),
        by_torch(Gaussian(), [depends_on_z[..., 5:6], depends_on_z[..., 6:7]]),
    ]


def mixed_rows():
    """Rows of two real columns, three binary ones and a real one."""
    x = draw(2, 1, 4, 6, seed=5)
    x[..., 2:5] = (x[..., 2:5] > 0).double()
    return x


def test_columnwise_counts_what_the_decoder_gives_and_what_is_free():
    """The model builds its last layer and its free parameters from these numbers."""
    assert (MIXED.n_columns, MIXED.n_decoder_outputs, MIXED.n_free) == (6, 7, 2)


def test_columnwise_log_prob_is_the_sum_of_its_parts():
    """Given z the columns are independent."""
    depends_on_z, free = mixed_params()
    x = mixed_rows()
    parts = zip(mixed_by_torch(depends_on_z, free), x.split([2, 3, 1], dim=-1), strict=True)
    expected = sum(dist.log_prob(own).sum(-1) for dist, own in parts)

    torch.testing.assert_close(MIXED.log_prob(MIXED.split(depends_on_z, free), x), expected)


def test_columnwise_log_prior_is_the_sum_over_real_columns():
    """Binary columns between real ones take no scale and lose none."""
    depends_on_z, free = mixed_params()
    scale = draw(6, seed=7).exp()
    first, _, last = mixed_by_torch(depends_on_z, free)
    expected = first.log_prob(first.mean + scale[:2]).sum(-1)
    expected = expected + last.log_prob(last.mean + scale[5:]).sum(-1)

    torch.testing.assert_close(MIXED.log_prior(MIXED.split(depends_on_z, free), scale), expected)


def test_columnwise_mean_and_samples_stand_in_the_columns_order(generator):
    """A sample whose columns are swapped is another table."""
    depends_on_z, free = mixed_params()
    params = MIXED.split(depends_on_z, free)
    expected = torch.cat([dist.mean for dist in mixed_by_torch(depends_on_z, free)], dim=-1)
    x = MIXED.sample(params, generator)

    torch.testing.assert_close(MIXED.mean(params), expected)
    assert x.shape == (2, 3, 4, 6)
    assert set(x[..., 2:5].unique().tolist()) == {0.0, 1.0}
    assert len(x[..., [0, 1, 5]].unique()) == 2 * 3 * 4 * 3


def test_columnwise_starts_each_block_at_its_own_model():
    """Slopes and offsets come out in the order in which split() cuts them."""
    loadings, scale = 0.1 * draw(2, 6), draw(6, seed=2).exp()
    loc = torch.tensor([1.0, -2.0, 0.3, 0.5, 0.7, 3.0]).double()
    slopes, offsets, free = MIXED.initialize(loadings, loc, scale)
    z = torch.zeros(5, 2).double()
    params = MIXED.split(z @ slopes + offsets, free.expand(5, -1))
    real = [0, 1, 5]
    z_one = torch.eye(2).double()
    moved = MIXED.mean(MIXED.split(z_one @ slopes + offsets, free.expand(2, -1)))

    assert [tuple(part.shape) for part in (slopes, offsets, free)] == [(2, 7), (7,), (2,)]
    torch.testing.assert_close(MIXED.mean(params), loc.expand(5, 6))
    torch.testing.assert_close(moved[:, real], (loc + loadings)[:, real])
    scales = [by_torch(Gaussian(), params[block]).stddev[0] for block in (0, 2)]
    torch.testing.assert_close(torch.cat(scales), scale[real])


def test_no_columns_at_all_have_log_density_zero():
    """A table of constant columns leaves the model nothing to say."""
    nothing = Columnwise([(Gaussian(), 0)])
    params = nothing.split(torch.zeros(1, 2, 3, 0), torch.zeros(1, 1, 1, 0))

    assert (
        nothing.log_prob(params, torch.zeros(1, 1, 3, 0)).tolist() == np.zeros((1, 2, 3)).tolist()
    )


def test_distribution_functions_are_scipys(generator):
    """Probabilities of less than x, and of x itself."""
    loc, raw = (torch.randn(2, 5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    x = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    below, at = Gaussian().cdf([loc, raw], x)
    expected = stats.norm(loc.numpy(), np.exp(7 * np.tanh(raw.numpy() / 7))).cdf(x.numpy())

    np.testing.assert_allclose(below.numpy(), expected, rtol=1e-8, atol=1e-16)
    assert (at == 0).all()

    bits = (x > 0).double()
    below, at = Bernoulli().cdf([loc], bits)
    law = stats.bernoulli(special.expit(loc.numpy()))

    np.testing.assert_allclose(below.numpy(), law.cdf(bits.numpy() - 1), atol=1e-12)
    np.testing.assert_allclose(at.numpy(), law.pmf(bits.numpy()), rtol=1e-10)


def test_columns_one_by_one_make_up_the_row(generator):
    """Densities by column sum to the row's; distribution functions stand in the columns' order."""
    both = Columnwise([(Gaussian("per_column"), 2), (Bernoulli(), 1)])
    depends_on_z = torch.randn(1, 4, 5, 3, generator=generator, dtype=torch.float64)
    free = torch.randn(1, 1, 1, 2, generator=generator, dtype=torch.float64)
    x = torch.tensor([[0.3, -1.0, 1.0]], dtype=torch.float64).expand(5, 3)
    params = both.split(depends_on_z, free)
    below, at = both.cdf(params, x)

    torch.testing.assert_close(
        both.log_prob_per_column(params, x).sum(-1), both.log_prob(params, x)
    )
    torch.testing.assert_close(at[..., 2], torch.sigmoid(depends_on_z[..., 2]))
    assert ((below[..., :2] > 0) & (at[..., :2] == 0)).all()
