"""What training minimises: nats per row, parts that add up, weights that are copies."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from sklearn_vae.objectives import ELBO, REPORTED, Checked, Constant, WarmUp


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


@pytest.mark.parametrize("objective", [ELBO(), ELBO(free_bits=0.3, prior_rows=2.0)])
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
