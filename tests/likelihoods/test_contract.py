"""Contract of every likelihood: shapes, densities, distribution functions, samples, gradients."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from scipy import special, stats

from sklearn_vae.data.fit import COLUMNS
from sklearn_vae.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    Columnwise,
    Gaussian,
    Limits,
    LogNormal,
    NegativeBinomial,
    Ordinal,
    Poisson,
    ZeroInflated,
)
from sklearn_vae.likelihoods.counts import Counts
from tests.likelihoods.conftest import draw

EXAMPLES = [
    Gaussian(), Gaussian("per_column"), Gaussian(0.5), LogNormal(), ZeroInflated(2),
    Bernoulli(), Categorical(3), Ordinal(4), Poisson(unit=2.0), NegativeBinomial(unit=0.5),
]  # fmt: skip
N = 3  # columns
SPIKE = 100.0  # values 100 and 101 are the first and the second spike of a zero-inflated column

each = pytest.mark.parametrize("likelihood", EXAMPLES, ids=repr)
libraries = pytest.mark.parametrize("convert", [torch.as_tensor, np.asarray])


def draw_params(likelihood, *shape):
    """Random parameters of N columns; those that do not depend on z have one row for all."""
    sizes = zip(likelihood.depends_on_z, likelihood.param_sizes, strict=True)
    return [
        draw(*(shape if depends else [1] * len(shape)), N * size, seed=k)
        for k, (depends, size) in enumerate(sizes)
    ]


def draw_values(likelihood, shape, rng):
    """Values that the columns can have: (*shape, N)."""
    shape = (*shape, N)
    if isinstance(likelihood, Bernoulli):
        return rng.integers(2, size=shape)
    if isinstance(likelihood, Categorical | Ordinal):
        return rng.integers(likelihood.n_classes, size=shape)
    if isinstance(likelihood, Counts):
        return rng.poisson(2.0, size=shape)
    numbers = 3 * rng.standard_normal(shape)
    if isinstance(likelihood, ZeroInflated):
        numbers = np.where(rng.random(shape) < 0.6, SPIKE + rng.integers(2, size=shape), numbers)
    return numbers


def encode(likelihood, values):
    """Values as the model sees them: (..., N) -> (..., N width)."""
    values = np.asarray(values)
    if isinstance(likelihood, Categorical):
        values = np.eye(likelihood.n_classes)[values].reshape(*values.shape[:-1], -1)
    elif isinstance(likelihood, Ordinal):
        values = values / (likelihood.n_classes - 1)
    elif isinstance(likelihood, Counts):
        values = np.sqrt(values) / likelihood.unit
    elif isinstance(likelihood, ZeroInflated):
        spikes = values[..., None] == SPIKE + np.arange(likelihood.n_spikes)
        numbers = np.where(spikes.any(-1), 0, values)[..., None]
        values = np.concatenate([spikes, numbers], axis=-1).reshape(*values.shape[:-1], -1)
    return torch.as_tensor(values, dtype=torch.float64)


def decode(likelihood, x):
    """Undo ``encode``: (..., N width) -> (..., N)."""
    x = x.reshape(*x.shape[:-1], N, -1)
    if isinstance(likelihood, Categorical):
        return x.argmax(-1)
    if isinstance(likelihood, ZeroInflated):
        is_spike = x[..., :-1].any(-1)
        return np.where(is_spike, SPIKE + x[..., :-1].argmax(-1), x[..., -1])
    if isinstance(likelihood, Ordinal):
        return np.rint(x[..., 0] * (likelihood.n_classes - 1)).astype(int)
    return (
        np.rint((x[..., 0] * likelihood.unit) ** 2) if isinstance(likelihood, Counts) else x[..., 0]
    )


def normal(likelihood, loc, raw):
    """The normal distribution of a Gaussian column, in scipy's terms."""
    return stats.norm(loc, np.exp(7 * np.tanh(raw / 7)))


def probabilities(likelihood, params):
    """Probability of every class, from the formulas: (..., N, K)."""
    if isinstance(likelihood, Categorical):
        return special.softmax(params[0].reshape(*params[0].shape[:-1], N, -1), axis=-1)
    raw = params[1].reshape(*params[1].shape[:-1], N, -1)
    gaps = np.log1p(np.exp(raw[..., 1:])) + 1e-3
    thresholds = np.concatenate([raw[..., :1], gaps], axis=-1).cumsum(-1)
    up_to = stats.logistic.cdf(thresholds - params[0][..., None])
    ends = [np.zeros_like(up_to[..., :1]), up_to, np.ones_like(up_to[..., :1])]
    return np.diff(np.concatenate(ends, axis=-1), axis=-1)


def reference(likelihood, params, values):
    """log p(x), P(X < x) and P(X = x) of each value by scipy: three arrays (..., N)."""
    params = [param.numpy() for param in params]
    if isinstance(likelihood, ZeroInflated):
        logits = params[0].reshape(*params[0].shape[:-1], N, -1)
        weight = special.softmax(np.concatenate([logits, 0 * logits[..., :1]], axis=-1), axis=-1)
        at = (weight[..., :-1] * (values[..., None] == SPIKE + np.arange(2))).sum(-1)
        before = np.where(values == SPIKE + 1, weight[..., 0], 0)
        distribution = normal(likelihood, *params[1:])
        is_spike = values >= SPIKE
        log_density = np.log(weight[..., -1]) + distribution.logpdf(values)
        below = 1 - weight[..., -1] + weight[..., -1] * distribution.cdf(values)
        with np.errstate(divide="ignore"):
            log_prob = np.where(is_spike, np.log(at), log_density)
        return log_prob, np.where(is_spike, before, below), at
    if isinstance(likelihood, Categorical | Ordinal):
        table = probabilities(likelihood, params)
        table = np.broadcast_to(table, (*values.shape, likelihood.n_classes))
        at = np.take_along_axis(table, values[..., None], axis=-1)[..., 0]
        below = np.take_along_axis(table.cumsum(-1), values[..., None], axis=-1)[..., 0] - at
        return np.log(at), below, at
    if isinstance(likelihood, Bernoulli | Counts):
        if isinstance(likelihood, Bernoulli):
            distribution = stats.bernoulli(special.expit(params[0]))
        else:
            rate = likelihood.unit**2 * np.exp(12 * np.tanh(params[0] / 12))
            distribution = stats.poisson(rate)
            if isinstance(likelihood, NegativeBinomial):
                shape = np.exp(7 * np.tanh(params[1] / 7))
                distribution = stats.nbinom(shape, shape / (shape + rate))
        return distribution.logpmf(values), distribution.cdf(values - 1), distribution.pmf(values)
    distribution = normal(likelihood, *params)  # of logarithms, if the column is log-normal
    return distribution.logpdf(values), distribution.cdf(values), np.zeros(values.shape)


def test_every_likelihood_is_tested():
    """A new likelihood gets a reference in this file."""
    assert {type(likelihood) for likelihood in EXAMPLES} == set(LIKELIHOODS.values())


@each
def test_a_saved_model_may_have_it(likelihood):
    """The class of columns that encodes its values takes it, and no other class does."""
    cls = type(likelihood)

    takers = {columns for columns in COLUMNS.values() if cls in columns.likelihoods}
    assert takers == {COLUMNS[cls]}


@each
@libraries
def test_log_prob_is_scipys(likelihood, convert, rng):
    """Column by column, and summed over columns."""
    params, values = draw_params(likelihood, 2, 4), draw_values(likelihood, (2, 4), rng)
    expected, _, _ = reference(likelihood, params, values)
    params, x = [convert(param) for param in params], convert(encode(likelihood, values))

    per_column = likelihood.log_prob_per_column(params, x)
    np.testing.assert_allclose(per_column, expected, rtol=1e-9)
    np.testing.assert_allclose(likelihood.log_prob(params, x), expected.sum(-1), rtol=1e-9)


@each
def test_samples_have_the_distribution(likelihood, generator):
    """Kolmogorov-Smirnov test of the probability integral transform, randomized at point masses."""
    params = [param.expand(20_000, -1) for param in draw_params(likelihood, 1)]
    values = decode(likelihood, likelihood.sample(params, generator, None).numpy())
    _, below, at = reference(likelihood, params, values)
    pit = below + torch.rand(at.shape, generator=generator).numpy() * at

    for column in pit.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3


@each
def test_samples_follow_from_their_generator(likelihood):
    """The same seed gives the same rows."""
    params = draw_params(likelihood, 2, 4)
    generators = (torch.Generator().manual_seed(1) for _ in range(2))
    first, again = (likelihood.sample(params, generator, None) for generator in generators)

    assert torch.equal(first, again)


@each
def test_mean_is_that_of_many_samples(likelihood, generator):
    """Roots of counts have the root of the counts' mean."""
    params = draw_params(likelihood, 1)
    mean = likelihood.mean(params)[0]
    x = likelihood.sample([param.expand(40_000, -1) for param in params], generator, None)
    if isinstance(likelihood, ZeroInflated):  # the mean of the numbers is that of non-spikes
        x = x.unflatten(-1, (N, 3))
        is_number = 1 - x[..., :2].sum(-1)
        number = (x[..., 2] * is_number).sum(0) / is_number.sum(0)
        expected = torch.cat([x[..., :2].mean(0), number.unsqueeze(-1)], dim=-1).flatten()
        spread = torch.ones(()).double()
    elif isinstance(likelihood, Counts):
        expected, mean, spread = x.square().mean(0), mean.square(), x.square().std(0)
    else:
        expected, spread = x.mean(0), x.std(0)

    assert ((expected - mean).abs() < 0.05 * spread.clamp(min=0.1)).all()


@each
def test_mode_is_the_most_probable_class_and_the_mean_of_numbers(likelihood):
    """An autoregressive decoder reads it as the step before."""
    params = draw_params(likelihood, 4)
    mode = likelihood.mode(params)
    if isinstance(likelihood, Categorical | Bernoulli):
        n_values = getattr(likelihood, "n_classes", 2)
        values = np.broadcast_to(np.arange(n_values)[:, None, None], (n_values, 4, N))
        log_prob, _, _ = reference(likelihood, params, values)
        expected = encode(likelihood, log_prob.argmax(0))
    else:
        expected = likelihood.mean(params)

    torch.testing.assert_close(mode, expected)


@each
@libraries
def test_identical_draws_average_to_their_mean(likelihood, convert):
    """Of ordinal classes the median is given instead."""
    params = draw_params(likelihood, 1, 1, 4)
    draws = [convert(param.expand(2, 5, -1, -1)) for param in params]
    average = likelihood.average_over_draws(draws, convert(torch.full((2, 5, 4), 0.1).double()))
    expected = likelihood.mean(params)[0, 0]
    mean = likelihood.mean([convert(param) for param in params])[0, 0]
    torch.testing.assert_close(torch.as_tensor(mean), expected)
    if isinstance(likelihood, Ordinal):
        table = probabilities(likelihood, [param.numpy()[0, 0] for param in params])
        expected = encode(likelihood, (table.cumsum(-1) < 0.5).sum(-1))

    torch.testing.assert_close(torch.as_tensor(average), expected)


@each
def test_gradients_are_finite_differences(likelihood, rng):
    """In every parameter that is learned."""
    params = [param.requires_grad_() for param in draw_params(likelihood, 4)]
    x = encode(likelihood, draw_values(likelihood, (4,), rng))
    learned = params[:1] if likelihood.has_fixed_scale else params

    def log_prob(*learned):
        return likelihood.log_prob([*learned, *params[len(learned) :]], x)

    assert torch.autograd.gradcheck(log_prob, learned)


@each
def test_missing_values_add_nothing(likelihood, rng):
    """Neither to the density nor to a gradient."""
    rows = Columnwise([(likelihood, N)])
    params = [param.requires_grad_() for param in draw_params(likelihood, 6)]
    x = encode(likelihood, draw_values(likelihood, (6,), rng))
    missing = torch.zeros(6, N, dtype=torch.bool)
    missing[::2, 1] = missing[3] = True
    with_nan = x.masked_fill(missing.repeat_interleave(likelihood.width, dim=1), torch.nan)
    observed = rows.observed(with_nan)
    log_prob = rows.log_prob([params], with_nan.nan_to_num(), observed)
    expected = (likelihood.log_prob_per_column(params, x) * ~missing).sum(-1)
    log_prob.sum().backward()

    assert torch.equal(observed, ~missing)
    torch.testing.assert_close(log_prob, expected)
    for depends, size, param in zip(
        likelihood.depends_on_z, likelihood.param_sizes, params, strict=True
    ):
        if depends:
            assert (param.grad.unflatten(-1, (N, size))[missing] == 0).all()


@each
def test_initialization_is_near_the_linear_model(likelihood):
    """At z = 0 the mean is the linear model's, and so is its slope."""
    loadings = 0.05 * draw(2, N * likelihood.width)
    loc = torch.tensor([0.4, 0.5, 0.6]).double()
    if isinstance(likelihood, Categorical):
        loc = torch.tensor([0.2, 0.5, 0.3] * N).double()
        loadings = loadings - loadings.unflatten(1, (N, 3)).mean(2).repeat_interleave(3, 1)
    if isinstance(likelihood, ZeroInflated):  # frequencies of two spikes, and the number
        loc = torch.tensor([0.5, 0.2, 0.6] * N).double()
        loadings = loadings * torch.tensor([1.0, -1.0, 1.0] * N)
        loadings = loadings * torch.tensor([0.2, 0.2, 1.0] * N)
    initial = likelihood.initialize(loadings, loc, torch.full_like(loc, 0.3))

    def mean(z):
        return likelihood.mean([z @ slope + offset for slope, offset in initial])

    zero = torch.zeros(2).double()
    slope = torch.autograd.functional.jacobian(mean, zero).T
    expected = loc
    if isinstance(likelihood, Counts):  # root of the mean count, whose square has the variance, too
        expected = (loc.square() + 0.3**2).sqrt()
        loadings = loadings * loc / expected
    torch.testing.assert_close(mean(zero), expected, rtol=0.1, atol=0.03)
    torch.testing.assert_close(slope, loadings, rtol=0.25, atol=0.01)
    assert [tuple(offset.shape) for _, offset in initial] == [
        (N * size,) for size in likelihood.param_sizes
    ]


@each
@libraries
def test_components_are_broadcast(likelihood, convert, rng):
    """The density of rows in components, with and without missing values."""
    rows = Columnwise([(likelihood, N)])
    params = [param.expand(2, 4, -1) for param in draw_params(likelihood, 2, 4)]
    x = encode(likelihood, draw_values(likelihood, (2, 5), rng)).clone()
    by_row = [param.unsqueeze(2) for param in params]
    complete = likelihood.log_prob(by_row, x.unsqueeze(1))
    of_components = [convert(param) for param in params]
    found = likelihood.log_prob_by_component(of_components, convert(x), None)
    np.testing.assert_allclose(found, complete, rtol=1e-7)

    missing = torch.as_tensor(rng.random((2, 5, N)) < 0.3)
    x[missing.repeat_interleave(likelihood.width, dim=-1)] = 0
    expected = rows.log_prob([by_row], x.unsqueeze(1), ~missing.unsqueeze(1))
    found = rows.log_prob_by_component([of_components], convert(x), convert(~missing))
    np.testing.assert_allclose(found, expected, rtol=1e-7)


@each
def test_fisher_features_are_those_of_the_scores_covariance(likelihood, generator):
    """The covariance of the gradient of the log-density over many samples."""
    params = [param.expand(200_000, -1) for param in draw_params(likelihood, 1)]
    slopes = [draw(2, 1, param.shape[-1], seed=9 + k) for k, param in enumerate(params)]
    # the shape of counts, and a fixed scale
    left_out = 1 if likelihood in (NegativeBinomial(unit=0.5), Gaussian(0.5)) else None
    slopes = [0 * slope if k == left_out else slope for k, slope in enumerate(slopes)]
    x = likelihood.sample(params, generator, None)
    step = 1e-4
    ahead, behind = (
        torch.stack(
            [
                likelihood.log_prob_per_column(
                    [p + sign * step * s[k] for p, s in zip(params, slopes, strict=True)], x
                )
                for k in range(2)
            ]
        )
        for sign in (1, -1)
    )
    score = ((ahead - behind) / (2 * step)).movedim(0, -1)  # (S, N, l)
    expected = (score.unsqueeze(-1) * score.unsqueeze(-2)).mean(0)  # (N, l, l)
    features = likelihood.fisher_features([param[:1] for param in params], slopes)  # (l, 1, N, F)
    features = features[:, 0].movedim(0, 1)

    torch.testing.assert_close(features @ features.mT, expected, rtol=0.03, atol=0.02)


@each
def test_gradients_and_fisher_features_are_those_of_torch(likelihood, generator):
    """Of parameters that all depend on the row, as in a mixture."""
    if getattr(likelihood, "scale", "per_row") != "per_row":
        pytest.skip("a scale per row in every component")
    columns = Columnwise([(likelihood, N)])
    params, slopes = draw(5, columns.n_params), draw(2, 5, columns.n_params, seed=1)
    x = columns.sample(columns.split_params(params), generator)
    all_params = params.clone().requires_grad_()
    log_prob = columns.log_prob(columns.split_params(all_params), x)
    (gradient,) = torch.autograd.grad(log_prob.sum(), all_params)
    blocks = columns.split_params(params), columns.split_params(slopes)
    features = columns.expand(*blocks, x)[2].numpy()
    params, slopes = (columns.split_params(part.numpy()) for part in (params, slopes))
    residual = columns.likelihoods[0].residual(columns.split_params(all_params.detach())[0], x)
    x = x.numpy()

    np.testing.assert_allclose(likelihood.residual(params[0], x), residual, rtol=1e-9, atol=1e-9)
    actual, of_params = columns.value_and_gradient(params, x)
    np.testing.assert_allclose(actual, log_prob.detach().numpy(), rtol=1e-9)
    actual = np.concatenate([part for block in of_params for part in block], axis=-1)
    np.testing.assert_allclose(actual, gradient.numpy(), rtol=1e-6, atol=1e-7)
    observed = np.arange(5 * N).reshape(5, N) % 3 > 0
    (gradient,) = torch.autograd.grad(
        columns.log_prob(columns.split_params(all_params), torch.as_tensor(x),
                         torch.as_tensor(observed)).sum(), all_params)  # fmt: skip
    _, of_params = columns.value_and_gradient(params, x, observed)
    actual = np.concatenate([part for block in of_params for part in block], axis=-1)
    np.testing.assert_allclose(actual, gradient.numpy(), rtol=1e-6, atol=1e-7)
    actual = columns.expand(params, slopes, x)[2]
    np.testing.assert_allclose(actual, features, rtol=1e-8, atol=1e-8)
    _, actual, _ = columns.expand(params, slopes, x, observed)
    expected = np.einsum("lbn,bn->lb", np.concatenate(slopes[0], -1), gradient.numpy())
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


@each
def test_maximum_likelihood_is_a_maximum(likelihood, rng):
    """Of scipy's log-densities: a step in any direction from the fit lowers their weighted sum."""
    values, weights = draw_values(likelihood, (400,), rng), rng.random((2, 400))
    if isinstance(likelihood, NegativeBinomial):  # more overdispersed than a Poisson distribution
        values = rng.negative_binomial(2, 0.4, size=values.shape)
    missing = rng.random(values.shape) < 0.2
    missing[:3] = False
    x = encode(likelihood, values).clone()
    x[torch.as_tensor(missing).repeat_interleave(likelihood.width, dim=1)] = torch.nan
    params = likelihood.maximum_likelihood(x, torch.as_tensor(weights))
    is_fixed = likelihood.has_fixed_scale

    def total(params):
        each = [param.unsqueeze(1).expand(-1, 400, -1) for param in params]
        log_prob = reference(likelihood, each, np.broadcast_to(values, (2, 400, N)))[0]
        return (log_prob * ~missing * weights[..., None]).sum(1)  # (C, N)

    best = total(params)
    assert [param.shape for param in params] == [(2, N * size) for size in likelihood.param_sizes]
    for number, size in enumerate(likelihood.param_sizes):
        if is_fixed and number == likelihood.scale_param:
            continue
        for place, step in itertools.product(range(size), (-0.02, 0.02)):
            moved = [param.clone() for param in params]
            moved[number].unflatten(-1, (N, size))[..., place] += step
            assert (total(moved) < best + 1e-9).all()


@each
def test_likelihoods_are_values(likelihood):
    """Equal ones are one block of columns; copies and pickles are equal, and print alike."""
    for again in (copy.deepcopy(likelihood), pickle.loads(pickle.dumps(likelihood))):
        assert again == likelihood
        assert hash(again) == hash(likelihood)
        assert repr(again) == repr(likelihood)
    assert sum(likelihood == other for other in EXAMPLES) == 1


@pytest.mark.parametrize("likelihood", [Gaussian(), ZeroInflated(2)], ids=repr)
def test_samples_keep_to_limits(likelihood):
    """Bounds, and values that are point masses."""
    limits = (np.full(N, -1.0), np.full(N, 1.2), np.full((N, 1), 0.1), np.full(N, 0.05))
    params = [(0.3 * part).expand(4000, -1) for part in draw_params(likelihood, 1)]
    limits = Limits(*map(torch.as_tensor, limits))
    drawn = likelihood.sample(params, torch.Generator().manual_seed(1), limits).numpy()
    numbers = drawn[..., likelihood.width - 1 :: likelihood.width]

    assert numbers.min() >= -1.0
    assert numbers.max() <= 1.2
    assert not (np.abs(numbers - 0.1) <= 0.05).any()
