"""What training minimises: nats per row, parts that add up, weights that are copies."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.distributions import Normal, kl_divergence

from sklearn_vae import VAETransformer
from sklearn_vae.objectives import (
    ELBO,
    IWAE,
    OBJECTIVES,
    REPORTED,
    Checked,
    Constant,
    ImportanceWeighted,
    Trimmed,
    WarmUp,
)
from sklearn_vae.randomness import sobol_normal


def shared_noise(seed=0):
    """Draws that all rows share: (1, 3, 1, 2)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, 1, 2, generator=generator, dtype=torch.float64)


@pytest.fixture
def model(table, make_model):
    """A model of two dimensions whose every weight has been moved."""
    model = make_model(table)
    generator = torch.Generator().manual_seed(7)
    model.flat += 0.2 * torch.randn(model.flat.shape, generator=generator, dtype=torch.float64)
    return model


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
    terms = ELBO()(model, x, None, shared_noise(), beta)

    torch.testing.assert_close(terms.reconstruction_loss, reconstruction)
    torch.testing.assert_close(terms.kl_loss, kl)
    torch.testing.assert_close(terms.loss, reconstruction + beta * kl)


def test_free_bits_are_spent_by_dimension_on_average_over_rows(model, x):
    """Clamping row by row would leave a row below the threshold without a gradient."""
    by_dimension = kl_by_torch(model, x).mean(1)[0]
    free = by_dimension.mean().item()  # between the two dimensions' KLs
    expected = np.maximum(by_dimension.detach().numpy(), free).sum()
    terms = ELBO(free_bits=free)(model, x, None, shared_noise(), 1.0)

    assert by_dimension.min() < free < by_dimension.max()
    assert terms.kl_loss.item() == pytest.approx(expected, rel=1e-9)


def test_free_bits_push_nothing_below_the_threshold(model, x):
    """A dimension may spend its free nats with no gradient against it."""
    model.flat_grad.zero_()
    ELBO(free_bits=100.0)(model, x, None, shared_noise(), 1.0).kl_loss.sum().backward()

    assert (model.flat_grad == 0).all()


@pytest.mark.parametrize(
    "objective",
    [
        ELBO(),
        ELBO(free_bits=0.3, prior_rows=2.0),
        ImportanceWeighted(3, prior_rows=2.0),
        ImportanceWeighted(1, doubly_reparameterized=False),
    ],
)
def test_a_weight_is_a_number_of_copies(objective, model, x, rng):
    """A row of weight 3 is three rows, one of weight 0 is not there; so are the gradients."""
    weight = torch.as_tensor(rng.integers(0, 4, 80))
    copies = x[:, torch.repeat_interleave(torch.arange(80), weight)]
    relative = (weight / weight.double().mean())[None]
    results = []
    for own_x, own_weight in [(copies, None), (x, relative)]:
        model.flat_grad.zero_()
        terms = objective(model, own_x, own_weight, shared_noise(), 0.7)
        terms.to_minimise.sum().backward()
        results.append((torch.stack(terms), model.flat_grad.clone()))
    expected, ours = results

    torch.testing.assert_close(ours, expected)


def test_the_penalty_is_the_negative_log_prior_of_so_many_rows(model, x):
    """Imagined rows with the linear model's residuals keep the scales from collapsing."""
    *_, log_prior = model.elbo_terms(x, shared_noise())
    without = ELBO()(model, x, None, shared_noise(), 1.0)
    terms = ELBO(prior_rows=0.25)(model, x, None, shared_noise(), 1.0)

    torch.testing.assert_close(terms.penalty, -0.25 * log_prior.mean(1))
    torch.testing.assert_close(terms.to_minimise, without.loss + terms.penalty)
    torch.testing.assert_close(terms.reported(), without.reported())
    assert (without.penalty == 0).all()


def test_each_member_has_a_loss_of_its_own(rng, make_model):
    """Members are summed only for the gradient."""
    tables = [rng.standard_normal((20, 4)) for _ in range(3)]
    objective = ELBO(free_bits=0.1, prior_rows=1.0)
    fleet = make_model(*tables)
    x = torch.as_tensor(np.stack(tables))
    together = torch.stack(objective(fleet, x, None, shared_noise(), 2.0))
    alone = [
        torch.stack(objective(make_model(own), own_x[None], None, shared_noise(), 2.0))
        for own, own_x in zip(tables, x, strict=True)
    ]

    # a single model draws member 0's hidden layers, which the last layer of 0 keeps silent
    torch.testing.assert_close(together, torch.cat(alone, dim=1))


def test_what_is_reported_is_named_and_has_no_graph(model, x):
    """Histories hold numbers."""
    terms = ELBO(prior_rows=1.0)(model, x, None, shared_noise(), 3.0)
    expected = torch.stack([getattr(terms, name) for name in REPORTED])

    torch.testing.assert_close(terms.reported(), expected.detach())
    assert not terms.reported().requires_grad


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


def gradient_of(model, x, noise, n_draws, *, doubly):
    """Gradient of the loss: (P,)."""
    model.flat_grad.zero_()
    objective = ImportanceWeighted(n_draws, doubly, prior_rows=0.0)
    objective(model, x, None, noise, 1.0).to_minimise.sum().backward()
    return model.flat_grad[0].clone()


def encoders_share(model):
    """Number of the flat parameters that are the encoder's, which come first."""
    return sum(param[0].numel() for param in model.encoder.parameters())


def test_with_one_draw_the_importance_weighted_bound_is_the_elbo(model, x):
    """Its KL is that of the draws, which tends to the closed form."""
    noise = sets_of_draws(8192, 1)
    expected = ELBO(prior_rows=0.5)(model, x, None, noise, 1.0)
    ours = ImportanceWeighted(1, prior_rows=0.5)(model, x, None, noise, 1.0)

    torch.testing.assert_close(ours.reconstruction_loss, expected.reconstruction_loss)
    torch.testing.assert_close(ours.kl_loss, expected.kl_loss, rtol=0, atol=1e-3)
    torch.testing.assert_close(ours.penalty, expected.penalty)


@pytest.mark.parametrize("doubly", [False, True])
def test_the_loss_is_minus_the_mean_of_the_log_of_the_mean_weight(doubly, model, x):
    """As in the paper, from torch.distributions, for two sets of three draws of rows' own."""
    noise = torch.randn(1, 6, 80, 2, generator=torch.Generator().manual_seed(0)).double()
    loc, raw = model.encode(x).chunk(2, dim=-1)
    q = Normal(loc[:, None], (12 * torch.tanh(raw / 12)).exp()[:, None])
    z = q.loc + q.scale * noise
    ((mean, raw_scale),) = model.decode(z)
    log_prob = Normal(mean, (7 * torch.tanh(raw_scale / 7)).exp()).log_prob(x[:, None]).sum(-1)
    weight = (log_prob + (Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(-1)).exp()
    sets = weight.unflatten(1, (2, 3))
    terms = ImportanceWeighted(3, doubly)(model, x, None, noise, 1.0)
    share = sets / sets.sum(2, keepdim=True)
    reconstruction = -(share * log_prob.unflatten(1, (2, 3))).sum(2).mean((1, 2))

    torch.testing.assert_close(terms.loss, -sets.mean(2).log().mean((1, 2)))
    torch.testing.assert_close(terms.reconstruction_loss, reconstruction)
    torch.testing.assert_close(terms.loss, terms.reconstruction_loss + terms.kl_loss)


def test_more_draws_never_loosen_the_bound(model, x):
    """Of the same draws in larger sets, by Jensen's inequality without any luck."""
    noise = sets_of_draws(4096, 1)
    losses = [
        ImportanceWeighted(n_draws)(model, x, None, noise, 1.0).loss.item()
        for n_draws in (1, 2, 8, 64, 512, 4096)
    ]

    assert (np.diff(losses) < 0).all()


def test_with_many_draws_the_bound_is_the_exact_density(table, x, make_model):
    """A linear model has one, which scikit-learn's PCA knows; and a KL of p(z|x) from p(z)."""
    exact = PCA(2).fit(table * np.sqrt(1 - 1 / len(table))).score(table)
    noise = sets_of_draws(8192, 1)
    right, wrong = make_model(table), with_a_wrong_encoder(make_model(table))
    posterior = kl_by_torch(right, x).sum(-1).mean().item()  # its encoder's is the exact one
    terms = ImportanceWeighted(8192)(wrong, x, None, noise, 1.0)

    assert ELBO()(wrong, x, None, noise, 1.0).loss.item() > -exact + 0.1
    assert terms.loss.item() == pytest.approx(-exact, abs=0.01)
    assert terms.kl_loss.item() == pytest.approx(posterior, abs=0.03)


@pytest.mark.parametrize("n_draws", [1, 2, 6])
def test_the_doubly_reparameterised_gradient_is_unbiased(n_draws, model, x):
    """On average over many draws, it is the plain gradient of the encoder."""
    own = slice(encoders_share(model))
    noise = sets_of_draws(8192, n_draws)
    plain, double = (
        gradient_of(model, x[:, :6], noise, n_draws, doubly=doubly)[own] for doubly in (False, True)
    )
    squared_alone = plain.norm() * 0.02

    assert plain.norm() > 0.05
    assert (double - plain).norm() < squared_alone


def test_the_doubly_reparameterised_gradient_has_less_noise(table, x, make_model):
    """Ever less beside the plain one as the draws grow in number, near a good encoder."""
    model = with_a_wrong_encoder(make_model(table))
    own = slice(encoders_share(model))
    generator = torch.Generator().manual_seed(0)
    ratios = []
    for n_draws in (4, 64):
        noises = torch.randn(100, 1, n_draws, 6, 2, generator=generator).double()
        plain, double = (
            torch.stack(
                [
                    gradient_of(model, x[:, :6], noise, n_draws, doubly=doubly)[own]
                    for noise in noises
                ]
            )
            for doubly in (False, True)
        )
        ratios.append((double.var(0).sum() / plain.var(0).sum()).item())

    assert ratios[1] < 0.1 * ratios[0] < 0.1 * 0.1


@pytest.mark.parametrize("n_draws", [1, 5])
def test_the_decoders_gradient_is_the_same_for_both(n_draws, model, x):
    """Draw by draw, and for the scales' prior as well; only the encoder's differs."""
    after = slice(encoders_share(model), None)
    noise = sets_of_draws(2, n_draws)
    found = []
    for doubly in (False, True):
        model.flat_grad.zero_()
        objective = ImportanceWeighted(n_draws, doubly, prior_rows=0.5)
        objective(model, x, None, noise, 1.0).to_minimise.sum().backward()
        found.append(model.flat_grad[0].clone())

    torch.testing.assert_close(found[0][after], found[1][after], rtol=1e-9, atol=1e-12)
    assert not torch.allclose(found[0], found[1])


def test_at_the_exact_posterior_the_doubly_reparameterised_gradient_has_no_noise(
    table, x, make_model
):
    """Every weight is p(x) there, and the encoder has nothing to learn from any draw."""
    model = make_model(table)
    own = slice(encoders_share(model))
    noise = sets_of_draws(1, 5)
    plain, double = (gradient_of(model, x, noise, 5, doubly=doubly) for doubly in (False, True))

    assert double[own].abs().max() < 1e-6
    assert plain[own].abs().max() > 1e-3


def test_the_encoder_hears_nothing_of_the_scales_prior(model, x):
    """It is a force on the decoder's scales."""
    own = slice(encoders_share(model))
    found = []
    for prior_rows in (0.0, 5.0):
        model.flat_grad.zero_()
        objective = ImportanceWeighted(3, prior_rows=prior_rows)
        objective(model, x, None, shared_noise(), 1.0).to_minimise.sum().backward()
        found.append(model.flat_grad[0].clone())

    torch.testing.assert_close(found[0][own], found[1][own])
    assert not torch.allclose(found[0], found[1])


def test_objectives_are_values():
    """They are estimators' parameters: compared, cloned, printed and pickled."""
    assert IWAE(5) == IWAE() == OBJECTIVES["iwae"] != IWAE(5, doubly_reparameterized=False)
    assert repr(IWAE(3)) == "IWAE(n_draws=3, doubly_reparameterized=True)"


@pytest.mark.parametrize("n_draws", [0, -1, 2.5, True, "five", None])
def test_what_is_no_number_of_draws_is_refused(n_draws):
    """When the objective is made, by name."""
    with pytest.raises(ValueError, match="'n_draws' parameter of IWAE must be") as caught:
        IWAE(n_draws)

    assert f"Got {n_draws!r} instead" in str(caught.value)


def test_what_is_no_yes_or_no_is_refused():
    """Of the second parameter, too."""
    with pytest.raises(ValueError, match=r"'doubly_reparameterized' .* Got 'yes' instead"):
        IWAE(doubly_reparameterized="yes")


@pytest.mark.parametrize(("name", "value"), [("beta", 0.5), ("beta", WarmUp()), ("free_bits", 0.1)])
def test_the_importance_weighted_bound_has_no_kl_to_weigh(name, value):
    """The message names both parameters."""
    with pytest.raises(ValueError, match=rf"'{name}' parameter .* with objective='iwae'") as e:
        VAETransformer(objective="iwae", **{name: value}).fit(np.zeros((9, 2)))

    assert f"Got {value!r} instead" in str(e.value)


# -- schedules ---------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("n_iter", [1, 3, 10])
def test_warm_up_rises_in_a_straight_line_and_stays(n_iter, beta):
    """The last of n_iter iterations has the whole weight, and the first is not free."""
    expected = np.interp(np.arange(1, 16), [0, n_iter], [0, beta])

    np.testing.assert_allclose([WarmUp(beta, n_iter)(k) for k in range(15)], expected)


@pytest.mark.parametrize("beta", [-1.0, -1e-9, float("nan"), float("inf"), "a", None])
def test_warm_up_refuses_what_is_no_weight(beta):
    """A negative weight pays the encoder for saying more."""
    with pytest.raises(ValueError, match="'beta' parameter of WarmUp must be a finite") as e:
        WarmUp(beta=beta)

    assert repr(beta) in str(e.value)


@pytest.mark.parametrize("n_iter", [0, -3, 2.5, "n", None])
def test_warm_up_refuses_what_is_no_length(n_iter):
    """A rise needs an iteration."""
    with pytest.raises(ValueError, match="'n_iter' parameter of WarmUp must be an integer") as e:
        WarmUp(n_iter=n_iter)

    assert repr(n_iter) in str(e.value)


@pytest.mark.parametrize("beta", [0, 2, 0.5, np.float32(0.25)])
def test_a_checked_schedule_gives_what_the_users_function_gives(beta):
    """As a plain float, which a history can be saved with."""
    given = Checked(lambda iteration: beta * iteration)(2)

    assert given == 2 * beta
    assert type(given) is float


@pytest.mark.parametrize("beta", [-1.0, float("nan"), float("inf"), "1", None, [1.0]])
def test_a_checked_schedule_refuses_what_is_no_weight(beta):
    """The message says what the function gave, and when."""
    with pytest.raises(ValueError, match="The 'beta' parameter must be a finite number >= 0") as e:
        Checked(lambda iteration: beta)(7)

    assert f"gave {beta!r} in iteration 7" in str(e.value)


def test_schedules_are_values():
    """They are estimators' parameters: compared, cloned, printed and pickled."""
    assert WarmUp(2.0, 4) == WarmUp(beta=2.0, n_iter=4) != WarmUp(2.0, 5)
    assert repr(WarmUp(2.0, 4)) == "WarmUp(beta=2.0, n_iter=4)"
    assert [Constant(0.3)(k) for k in (0, 99)] == [0.3, 0.3]


@pytest.mark.parametrize("weighted", [False, True])
def test_a_trimmed_bound_is_that_of_the_rows_it_explains_best(model, x, weighted):
    """Each member leaves its own rows out; the others are as if they were all there are."""
    n_kept = int(np.ceil(0.7 * x.shape[1]))
    kl = kl_by_torch(model, x)[0].sum(-1)
    by_row = [reconstruction_by_torch(model, x[:, [i]], shared_noise()) for i in range(x.shape[1])]
    loss = torch.cat(by_row) + 0.5 * kl
    best = loss.argsort()[:n_kept]
    weight = torch.linspace(0.5, 1.5, x.shape[1]).double()[None] if weighted else None
    own = None if weight is None else weight[:, best]
    expected = ELBO(prior_rows=0.1)(model, x[:, best], own, shared_noise(), 0.5)
    terms = Trimmed(0.3).loss(0.0, 0.1)(model, x, weight, shared_noise(), 0.5)

    torch.testing.assert_close(torch.stack(terms), torch.stack(expected))


def test_the_encoder_sees_what_it_is_shown(model, x):
    """Codes are of the rows with noise, the likelihood is of the rows without."""
    shown = x + torch.linspace(-1, 1, x.shape[2], dtype=torch.float64)
    for objective in (ELBO(), Trimmed(0.0).loss(0.0, 0.0)):
        terms = objective(model, x, None, shared_noise(), 1.0, shown)

        torch.testing.assert_close(terms.kl_loss, kl_by_torch(model, shown).sum(-1).mean(1))
    weights = model.log_weights(x, shared_noise(), shown=shown)
    loc, raw = model.encode(shown).chunk(2, dim=-1)
    z = loc[:, None] + (12 * torch.tanh(raw / 12)).exp()[:, None] * shared_noise()
    torch.testing.assert_close(weights.z, z)
