"""What training minimizes: nats per row, parts that add up, weights that are copies."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from sklearn.decomposition import PCA
from torch.distributions import Normal, kl_divergence

from sklearn_vae.numerics.array_api import log_mean_exp
from sklearn_vae.numerics.random import sobol_normal
from sklearn_vae.objectives import (
    ELBO,
    IWAE,
    KERNEL_VARIANCES,
    MMD,
    OBJECTIVES,
    AggregatedPosterior,
    KLWeight,
    LinearWarmup,
    Minibatch,
    TotalCorrelation,
)


def loss(objective, model, x, weight, noise, beta=1.0):
    """Terms of a batch."""
    return objective(model, Minibatch(x, weight, noise), beta)


def shared_noise(seed=0):
    """Draws that all rows share: (1, 3, 1, 2)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, 1, 2, generator=generator, dtype=torch.float64)


@pytest.fixture
def x(table):
    """The table's rows with a member axis."""
    return torch.as_tensor(table)[None]


def kl_by_torch(model, x):
    """KL of each row and dimension from torch.distributions: (M, B, l)."""
    loc, raw = model.encode(x).chunk(2, dim=-1)
    return kl_divergence(Normal(loc, (12 * torch.tanh(raw / 12)).exp()), Normal(0.0, 1.0))


def reconstruction_by_torch(model, x, noise):
    """Mean of -log p(x|z) from torch.distributions: (M,)."""
    loc, raw = model.encode(x).chunk(2, dim=-1)
    z = loc[:, None] + (12 * torch.tanh(raw / 12)).exp()[:, None] * noise
    ((mean, raw_scale),) = model.decode(z)
    p = Normal(mean, (7 * torch.tanh(raw_scale / 7)).exp())
    return -p.log_prob(x[:, None]).sum(-1).mean((1, 2))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 4.0])
def test_the_loss_is_reconstruction_plus_beta_kl(beta, model, x):
    """A history whose columns add up can be read."""
    reconstruction = reconstruction_by_torch(model, x, shared_noise())
    kl = kl_by_torch(model, x).sum(-1).mean(1)
    terms = loss(ELBO(), model, x, None, shared_noise(), beta)

    torch.testing.assert_close(terms.reconstruction_loss, reconstruction)
    torch.testing.assert_close(terms.kl_loss, kl)
    torch.testing.assert_close(terms.loss, reconstruction + beta * kl)


def test_free_bits_are_spent_by_dimension_on_average_over_rows(model, x):
    """Clamping row by row would leave a row below the threshold without a gradient."""
    by_dimension = kl_by_torch(model, x).mean(1)[0]
    free = by_dimension.mean().item()  # between the two dimensions' KLs
    expected = np.maximum(by_dimension.detach().numpy(), free).sum()
    terms = loss(ELBO(free_bits=free), model, x, None, shared_noise())

    assert by_dimension.min() < free < by_dimension.max()
    assert terms.kl_loss.item() == pytest.approx(expected, rel=1e-9)


def test_free_bits_push_nothing_below_the_threshold(model, x):
    """A dimension may spend its free nats with no gradient against it."""
    model.flat_grad.zero_()
    loss(ELBO(free_bits=100.0), model, x, None, shared_noise()).kl_loss.sum().backward()

    assert (model.flat_grad == 0).all()


# -- importance-weighted -----------------------------------------------------------------


def sets_of_draws(n_sets, n_draws, seed=0):
    """Sobol draws that all rows share, in sets that are points of one space: (1, K, 1, 2)."""
    points = sobol_normal(n_sets, 2 * n_draws, seed).reshape(-1, 2)
    return torch.as_tensor(points)[None, :, None]


def with_a_wrong_encoder(model):
    """A linear model at probabilistic PCA whose encoder is off by a fifth."""
    with torch.no_grad():
        model.encoder.linear.weight.mul_(0.8)
        model.encoder.linear.bias[..., 2:] += 0.2
    return model


def gradients_of(model, x, noise, n_draws):
    """Plain and doubly reparameterized gradient of the bound: (P,), (P,)."""
    q = model.encode(x)
    z = model.posterior.rsample(q, noise)
    log_joint = model.likelihood.log_prob(model.decode(z), x[:, None]) + model.prior.log_prob(z)
    log_weight = log_joint - model.posterior.log_prob(q, z)
    plain = -log_mean_exp(log_weight.unflatten(1, (-1, n_draws)), 2).mean()
    gradients = []
    for total in (plain, loss(IWAE(n_draws), model, x, None, noise).loss.sum()):
        model.flat_grad.zero_()
        total.backward()
        gradients.append(model.flat_grad[0].clone())
    return gradients


def encoders_share(model):
    """Number of the flat parameters that are the encoder's, which come first."""
    return sum(param[0].numel() for param in model.encoder.parameters())


def test_with_one_draw_the_importance_weighted_bound_is_the_elbo(model, x):
    """Its KL is that of the draws, which tends to the closed form."""
    noise = sets_of_draws(8192, 1)
    expected = loss(ELBO(), model, x, None, noise)
    ours = loss(IWAE(1), model, x, None, noise)

    torch.testing.assert_close(ours.reconstruction_loss, expected.reconstruction_loss)
    torch.testing.assert_close(ours.kl_loss, expected.kl_loss, rtol=0, atol=1e-3)


def test_the_loss_is_minus_the_mean_of_the_log_of_the_mean_weight(model, x):
    """As in the paper, from torch.distributions, for two sets of three draws of rows' own."""
    noise = torch.randn(1, 6, 80, 2, generator=torch.Generator().manual_seed(0)).double()
    loc, raw = model.encode(x).chunk(2, dim=-1)
    q = Normal(loc[:, None], (12 * torch.tanh(raw / 12)).exp()[:, None])
    z = q.loc + q.scale * noise
    ((mean, raw_scale),) = model.decode(z)
    log_prob = Normal(mean, (7 * torch.tanh(raw_scale / 7)).exp()).log_prob(x[:, None]).sum(-1)
    weight = (log_prob + (Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(-1)).exp()
    sets = weight.unflatten(1, (2, 3))
    terms = loss(IWAE(3), model, x, None, noise, 1.0)
    share = sets / sets.sum(2, keepdim=True)
    reconstruction = -(share * log_prob.unflatten(1, (2, 3))).sum(2).mean((1, 2))

    torch.testing.assert_close(terms.loss, -sets.mean(2).log().mean((1, 2)))
    torch.testing.assert_close(terms.reconstruction_loss, reconstruction)
    torch.testing.assert_close(terms.loss, terms.reconstruction_loss + terms.kl_loss)


def test_more_draws_never_loosen_the_bound(model, x):
    """Of the same draws in larger sets, by Jensen's inequality without any luck."""
    noise = sets_of_draws(4096, 1)
    losses = [
        loss(IWAE(n_draws), model, x, None, noise, 1.0).loss.item()
        for n_draws in (1, 2, 8, 64, 512, 4096)
    ]

    assert (np.diff(losses) < 0).all()


def test_with_many_draws_the_bound_is_the_exact_density(table, x, make_model):
    """A linear model has one, which scikit-learn's PCA knows; and a KL of p(z|x) from p(z)."""
    exact = PCA(2).fit(table * np.sqrt(1 - 1 / len(table))).score(table)
    noise = sets_of_draws(8192, 1)
    right, wrong = make_model(table), with_a_wrong_encoder(make_model(table))
    posterior = kl_by_torch(right, x).sum(-1).mean().item()  # its encoder's is the exact one
    terms = loss(IWAE(8192), wrong, x, None, noise, 1.0)

    assert loss(ELBO(), wrong, x, None, noise, 1.0).loss.item() > -exact + 0.1
    assert terms.loss.item() == pytest.approx(-exact, abs=0.01)
    assert terms.kl_loss.item() == pytest.approx(posterior, abs=0.03)


@pytest.mark.parametrize("n_draws", [1, 2, 6])
def test_the_doubly_reparameterized_gradient_is_unbiased(n_draws, model, x):
    """On average over many draws, it is the plain gradient of the encoder."""
    own = slice(encoders_share(model))
    noise = sets_of_draws(8192, n_draws)
    plain, double = (part[own] for part in gradients_of(model, x[:, :6], noise, n_draws))
    squared_alone = plain.norm() * 0.02

    assert plain.norm() > 0.05
    assert (double - plain).norm() < squared_alone


def test_at_the_exact_posterior_the_doubly_reparameterized_gradient_has_no_noise(
    table, x, make_model
):
    """Every weight is p(x) there, and the encoder has nothing to learn from any draw."""
    model = make_model(table)
    own = slice(encoders_share(model))
    noise = sets_of_draws(1, 5)
    plain, double = gradients_of(model, x, noise, 5)

    assert double[own].abs().max() < 1e-6
    assert plain[own].abs().max() > 1e-3


# -- schedules ---------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("n_iter", [1, 3, 10])
def test_warm_up_rises_in_a_straight_line_and_stays(n_iter, beta):
    """The last of n_iter iterations has the whole weight, and the first is not free."""
    expected = np.interp(np.arange(1, 16), [0, n_iter], [0, beta])

    np.testing.assert_allclose([LinearWarmup(beta, n_iter)(k) for k in range(15)], expected)


@pytest.mark.parametrize("beta", [0, 2, 0.5, np.float32(0.25)])
def test_a_checked_schedule_gives_what_the_users_function_gives(beta):
    """As a plain float, which a history can be saved with."""
    given = KLWeight(lambda iteration: beta * iteration)(2)

    assert given == 2 * beta
    assert type(given) is float


@pytest.mark.parametrize("beta", [-1.0, float("nan"), float("inf"), "1", None, [1.0]])
def test_a_checked_schedule_refuses_what_is_no_weight(beta):
    """The message says what the function gave, and when."""
    with pytest.raises(ValueError, match="The 'beta' parameter must be a finite number >= 0") as e:
        KLWeight(lambda iteration: beta)(7)

    assert f"gave {beta!r} in iteration 7" in str(e.value)


# -- all codes together ------------------------------------------------------------------


def posteriors(n_rows, n_components, n_draws=2, scale=0.6, seed=0, loadings=None):
    """Draws, locations and log-scales of one member's posteriors, about correlated places."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(n_components, n_components)) if loadings is None else loadings
    loc = rng.normal(size=(n_rows, n_components)) @ loadings
    scales = scale * np.exp(0.3 * rng.normal(size=loc.shape)) if seed else np.full_like(loc, scale)
    z = loc + scales * rng.normal(size=(n_draws, *loc.shape))
    return z, loc, scales


def as_aggregate(z, loc, scales, count=None, n_rows=None):
    count = np.ones(len(loc)) if count is None else count
    parts = [torch.as_tensor(part)[None] for part in (z, loc, np.log(scales), count)]
    return AggregatedPosterior(*parts, n_rows or len(loc))


def shares_by_hand(count, n_rows):
    """What the posterior of row j is of q(z) at draws of row i: (B, B)."""
    total, found = count.sum(), np.empty((len(count), len(count)))
    for i, j in np.ndindex(found.shape):
        own = count[i] / n_rows
        found[i, j] = own if i == j else (1 - own) * count[j] / (total - count[i])
    return found


@pytest.mark.parametrize("n_rows", [7, 50])
@pytest.mark.parametrize("weighted", [False, True])
def test_total_correlation_is_that_of_the_mixture_of_posteriors(weighted, n_rows):
    """Density by density, from scipy; a row's own posterior has its share in the whole table."""
    z, loc, scales = posteriors(7, 3, seed=1)
    count = np.array([1, 2, 1, 0.5, 0.5, 1, 1]) if weighted else np.ones(7)
    shares, expected = shares_by_hand(count, n_rows), 0.0
    for (k, i), _ in np.ndenumerate(z[..., 0]):
        by_dimension = stats.norm(loc, scales).pdf(z[k, i])  # (7, 3)
        joint = shares[i] @ by_dimension.prod(axis=1)
        ratio = np.log(joint / np.prod(shares[i] @ by_dimension))
        expected += ratio * count[i] / count.sum() / len(z)
    found = TotalCorrelation().divergence(as_aggregate(z, loc, scales, count, n_rows))

    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_total_correlation_of_normal_codes_is_known():
    """A normal q(z), of posteriors about normal places: -1/2 log det of its correlations."""
    loadings = np.array([[0.8, 0.6], [0.0, 1.0]])
    covariance = loadings.T @ loadings + 0.25 * np.eye(2)
    scale = np.sqrt(np.diag(covariance))
    expected = -0.5 * np.log(np.linalg.det(covariance / np.outer(scale, scale)))
    z, loc, scales = posteriors(2000, 2, 1, 0.5, loadings=loadings)
    whole = TotalCorrelation().divergence(as_aggregate(z, loc, scales)).item()
    batches = [
        TotalCorrelation()
        .divergence(as_aggregate(z[:, own], loc[own], scales[own], n_rows=len(loc)))
        .item()
        for own in np.split(np.arange(2000), 10)
    ]

    assert expected > 0.08
    assert whole == pytest.approx(expected, abs=0.02)
    assert np.mean(batches) == pytest.approx(expected, abs=0.02)


def kernel(a, b, per_dimension):
    """Of each pair of places: (n, l), (m, l) -> (n, m)."""
    squared = ((a[:, None] - b) ** 2).sum(-1)
    return np.exp(-0.5 * squared / (per_dimension * a.shape[1]))


def kernel_with_the_prior(place, width, spread=0.0):
    """Mean of exp(-(a - b)^2 / (2 width)) over b ~ N(0, 1) and a ~ N(place, spread^2)."""
    both = stats.norm(place, np.hypot(1.0, spread)).pdf  # of their difference
    return quad(lambda a: np.exp(-0.5 * a**2 / width) * both(a), -15, 15)[0]


def test_discrepancy_of_points_is_that_of_the_kernels():
    """Pair by pair, and integrals over the prior by quadrature; posteriors are all but points."""
    points, expected = np.random.default_rng(0).normal(size=(6, 2)) + 0.5, 0.0
    for own in KERNEL_VARIANCES:
        across = [[kernel_with_the_prior(a, 2 * own) for a in point] for point in points]
        within = kernel_with_the_prior(0.0, 2 * own, 1.0) ** 2
        among = kernel(points, points, own)
        expected += among.mean() - 2 * np.prod(across, axis=1).mean() + within
    narrow = np.full_like(points, 1e-6)
    found = MMD().divergence(as_aggregate(points[None], points, narrow))

    assert found.item() == pytest.approx(expected / len(KERNEL_VARIANCES), rel=1e-5)


def test_there_is_no_discrepancy_where_codes_lie_as_the_prior_does(rng):
    """Whether each row's posterior is the prior, or all rows' are narrow and spread like it."""
    zeros, ones = np.zeros((64, 3)), np.ones((64, 3))
    silent = MMD().divergence(as_aggregate(rng.normal(size=(256, 64, 3)), zeros, ones))
    places = np.asarray(sobol_normal(1024, 3, 0))
    spread = MMD().divergence(as_aggregate(places[None], places, np.full_like(places, 0.01)))
    beside = MMD().divergence(as_aggregate(places[None] + 1, places + 1, np.ones_like(places)))

    assert abs(silent.item()) < 2e-3
    assert abs(spread.item()) < 2e-3
    assert beside.item() > 0.1


def test_rows_that_count_nothing_make_no_nan(model, x):
    """A batch of them may be drawn."""
    for objective in (TotalCorrelation(), MMD()):
        terms = loss(objective, model, x[:, :5], torch.zeros(1, 5).double(), shared_noise())

        assert terms.loss.isfinite().all()
        assert loss(objective, model, x[:, :1], None, shared_noise()).loss.isfinite().all()


@pytest.mark.parametrize("objective", [TotalCorrelation(3.0), MMD()])
def test_what_is_added_to_the_bound_reaches_the_encoder_alone(objective, model, x):
    """It asks something of the codes; decoder and scales hear the bound only."""
    found = []
    for own in (objective, OBJECTIVES["elbo"]):
        model.flat_grad.zero_()
        terms = loss(own, model, x, None, shared_noise())
        terms.loss.sum().backward()
        found.append((terms, model.flat_grad[0].clone()))
    (terms, ours), (bound, plain) = found
    encoder = slice(encoders_share(model))

    torch.testing.assert_close(ours[encoder.stop :], plain[encoder.stop :])
    assert not torch.allclose(ours[encoder], plain[encoder])
    torch.testing.assert_close(terms.reconstruction_loss, bound.reconstruction_loss)
    torch.testing.assert_close(terms.kl_loss, bound.kl_loss)
