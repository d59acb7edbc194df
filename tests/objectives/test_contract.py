"""The contract of every objective: terms per member, gradients and row weights."""

import numpy as np
import pytest
import torch

from sklearn_vae.objectives import ELBO, IWAE, MMD, OBJECTIVES, Minibatch, TotalCorrelation

ALL = [*OBJECTIVES.values()]


@pytest.fixture
def batch(table):
    """The rows of the table, and 15 draws that they share: sets of 3 and of 5."""
    noise = torch.randn(1, 15, 1, 2, generator=torch.Generator().manual_seed(0)).double()
    return Minibatch(torch.as_tensor(table)[None], None, noise)


@pytest.mark.parametrize("objective", ALL, ids=repr)
def test_terms_are_finite_and_one_per_member(objective, rng, make_model):
    """A stack of members has the losses that each member alone has."""
    tables = [rng.standard_normal((20, 4)) for _ in range(3)]
    noise = torch.as_tensor(rng.standard_normal((1, 15, 1, 2)))

    def terms(model, *tables):
        batch = Minibatch(torch.as_tensor(np.stack(tables)), None, noise)
        return torch.stack(objective(model, batch))

    together = terms(make_model(*tables), *tables)
    # a single model has member 0's hidden layers, whose output layer of zeros ignores them
    alone = [terms(make_model(own), own) for own in tables]

    assert together.shape == (3, 3)
    assert together.isfinite().all()
    torch.testing.assert_close(together, torch.cat(alone, dim=1))


@pytest.mark.parametrize("objective", ALL, ids=repr)
def test_the_gradient_reaches_every_parameter(objective, model, batch):
    """A parameter without a gradient would never be trained."""
    terms = objective(model, batch)
    params = [param for param in model.parameters() if param.numel()]
    gradients = torch.autograd.grad(terms.loss.sum(), params)

    assert all(gradient.ne(0).any() for gradient in gradients)


@pytest.mark.parametrize("objective", [own for own in ALL if type(own) is not IWAE], ids=repr)
def test_the_gradient_is_that_of_finite_differences(objective, model, batch):
    """Along a random direction. The DReG estimator is unbiased, but no gradient of one batch."""

    def loss():
        return objective(model, batch).loss.sum()

    model.flat_grad.zero_()
    loss().backward()
    direction = torch.randn(model.flat.shape, generator=torch.Generator().manual_seed(1)).double()
    slope = (model.flat_grad * direction).sum().item()
    with torch.no_grad():
        model.flat += 1e-6 * direction
        above = loss().item()
        model.flat -= 2e-6 * direction
        below = loss().item()

    assert slope == pytest.approx((above - below) / 2e-6, rel=1e-4)


@pytest.mark.parametrize(
    "objective",
    [ELBO(), ELBO(free_bits=0.3), IWAE(3), IWAE(1), TotalCorrelation(2.0, free_bits=0.1), MMD()],
    ids=repr,
)
def test_a_weight_is_a_number_of_copies(objective, model, batch, rng):
    """A row of weight 3 is three rows, one of weight 0 is none; so are the gradients."""
    weight = torch.as_tensor(rng.integers(0, 4, 80))
    copies = batch.x[:, torch.repeat_interleave(torch.arange(80), weight)]
    relative = (weight / weight.double().mean())[None]
    results = []
    for rows in (batch._replace(x=copies), batch._replace(weight=relative)):
        model.flat_grad.zero_()
        terms = objective(model, rows, 0.7)
        terms.loss.sum().backward()
        results.append((torch.stack(terms), model.flat_grad.clone()))
    expected, ours = results

    torch.testing.assert_close(ours, expected)
