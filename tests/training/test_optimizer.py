"""FlatAdam: torch's Adam and AdamW as oracles."""

import math

import numpy as np
import pytest
import torch

from sklearn_vae.objectives import KLWeight
from sklearn_vae.training.jobs import TrainingConfig
from sklearn_vae.training.optimizer import FlatAdam


def make_adam(model, lr, weight_decay):
    """Adam without clipping, with one learning rate for all members or one for each."""
    rest = {"beta": KLWeight(1.0), "patience": 1, "max_grad_norm_ratio": math.inf}
    rates = np.broadcast_to(lr, model.n_members).tolist()
    return FlatAdam(
        model,
        [TrainingConfig(0, 1, 1, rate, weight_decay=weight_decay, **rest) for rate in rates],
    )


class TorchAdam:
    """torch's optimizer on one member's weights, whose matrices alone decay."""

    def __init__(self, kind, flat, model, lr, weight_decay):
        self.decays = model.decays.bool()
        self.parts = [flat[self.decays].clone(), flat[~self.decays].clone()]
        groups = [{"params": self.parts[:1], "weight_decay": weight_decay}]
        groups += [{"params": self.parts[1:], "weight_decay": 0.0}]
        self.optimizer = kind(groups, lr=lr, betas=FlatAdam.BETAS, eps=FlatAdam.EPS)

    def step(self, gradient):
        for part, own in zip(self.parts, (self.decays, ~self.decays), strict=True):
            part.grad = gradient[own]
        self.optimizer.step()

    @property
    def flat(self):
        flat = torch.empty(len(self.decays), dtype=self.parts[0].dtype)
        flat[self.decays], flat[~self.decays] = self.parts
        return flat


def step(model, ours, oracles, gradient):
    """A step of ours, and of the oracle of each member."""
    model.flat_grad.copy_(gradient)
    ours.step()
    for own, oracle in zip(gradient, oracles, strict=True):
        oracle.step(own)


def gradients(n_steps, shape):
    """Random gradients of very different sizes."""
    generator = torch.Generator().manual_seed(3)
    sizes = torch.logspace(-6, 3, shape[-1]).double()
    return [
        sizes * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(n_steps)
    ]


@pytest.mark.parametrize(
    ("kind", "weight_decay"), [(torch.optim.AdamW, 0.3), (torch.optim.Adam, 0.0)]
)
def test_adam_is_torchs_adam_step_by_step(kind, weight_decay, table, make_model):
    """One flat tensor is faster, not another method; only the matrices decay."""
    model = make_model(table)
    ours = make_adam(model, 1e-2, weight_decay)
    oracle = TorchAdam(kind, model.flat[0], model, 1e-2, weight_decay)

    for gradient in gradients(12, model.flat.shape):
        step(model, ours, [oracle], gradient)
        torch.testing.assert_close(model.flat[0], oracle.flat, rtol=1e-9, atol=1e-12)


def test_each_member_has_its_own_step_size(table, make_model):
    """Stages end at different times; a member with learning rate 0 does not change."""
    model = make_model(table, table, table, table)
    before = model.flat.clone()
    rates = np.array([1e-2, 0.0, 1e-3, 1e-2])
    ours = make_adam(model, 1e-2, 0.3)
    ours.lrs = rates
    oracles = [
        TorchAdam(torch.optim.AdamW, flat, model, lr, 0.3)
        for flat, lr in zip(model.flat, rates, strict=True)
    ]
    for gradient in gradients(5, model.flat.shape):
        step(model, ours, oracles, gradient)
    expected = torch.stack([oracle.flat for oracle in oracles])

    torch.testing.assert_close(model.flat, expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(model.flat[1], before[1])
    assert ours.count.tolist() == [5, 0, 5, 5]


def test_a_reset_concerns_the_moments_of_its_members_only(table, make_model):
    """A new stage begins with a smaller step, not with the old momentum."""
    model = make_model(table, table)
    first, *rest = gradients(5, model.flat.shape)
    ours = make_adam(model, 1e-2, 0.0)
    model.flat_grad.copy_(first)
    ours.step()
    oracle = TorchAdam(torch.optim.Adam, model.flat[1], model, 1e-2, 0.0)
    ours.reset(np.array([False, True]))

    for gradient in rest:
        model.flat_grad.copy_(gradient)
        ours.step()
        oracle.step(gradient[1])
    torch.testing.assert_close(model.flat[1], oracle.flat, rtol=1e-9, atol=1e-12)
    assert ours.count.tolist() == [5, 4]


def test_a_callbacks_schedule_scales_every_members_step(table, make_model):
    """torch's schedulers change the group's step size; the stages' shares stay."""
    model = make_model(table)
    (gradient,) = gradients(1, model.flat.shape)
    ours = make_adam(model, 1e-2, 0.3)
    oracle = TorchAdam(torch.optim.AdamW, model.flat[0], model, 1.5e-3, 0.3)
    ours.lrs = np.array([3e-3])
    ours.param_groups[0]["lr"] = 0.5e-2
    step(model, ours, [oracle], gradient)

    torch.testing.assert_close(model.flat[0], oracle.flat, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rates", [[1e-2, 1e-2], [1e-2, 2e-3]])
def test_weights_of_a_wide_input_take_shorter_steps(rates, rng, make_model):
    """Adam moves each by about the learning rate; over 512 inputs, that adds up."""
    model = make_model(*rng.standard_normal((2, 40, 512)))
    ours, before = make_adam(model, rates, 0.0), model.flat.clone()
    model.flat_grad.fill_(1e3)  # far above Adam's epsilon
    ours.step()
    model.flat, steps = before - model.flat, torch.tensor(rates, dtype=torch.float64)[:, None]
    is_wide = torch.zeros_like(before[0], dtype=bool)
    for weight in (model.encoder.hidden[0].weight, model.encoder.linear.weight):
        is_wide[model.offsets[id(weight)] :][: weight[0].numel()] = True

    limits = torch.where(is_wide, 1.28 / 512, 1.0).double()
    n_params = sum(param[0].numel() for param in model.parameters())
    torch.testing.assert_close(model.flat[:, :n_params], steps.minimum(limits)[:, :n_params])


@pytest.mark.parametrize(("noise", "is_precise"), [(0.02, True), (0.5, False)])
def test_locations_of_precise_codes_and_columns_take_shorter_steps(
    noise, is_precise, rng, make_model
):
    """By their standard deviations at the start, in tenths, as powers of two."""
    rows = rng.standard_normal((200, 2)) @ rng.standard_normal((2, 6))
    rows = rows / rows.std(0) + noise * rng.standard_normal((200, 6))
    model = make_model(rows, n_components=2)
    ours, before = make_adam(model, 1e-2, 0.0), model.flat.clone()
    model.flat_grad.fill_(1e3)
    ours.step()

    def steps(weight):
        first = model.offsets[id(weight)]
        return ((before - model.flat) / 1e-2)[:, first : first + weight[0].numel()].view_as(weight)

    for weight in (model.decoder.linear.weight, model.decoder.linear.bias, model.decoder.last):
        means, scales = steps(weight).tensor_split(2, dim=-1)
        assert (
            torch.all(0.5 * noise / 0.1 < means)
            if is_precise
            else torch.allclose(means, torch.ones_like(means))
        )
        assert torch.all(means < 2 * noise / 0.1)
        torch.testing.assert_close(scales, torch.ones_like(scales))
    code = model.posterior.split(model.encoder.linear.bias)[1].exp()[0, 0]
    of_code = steps(model.encoder.linear.bias)[0, 0]
    expected = (code / 0.1).log2().floor().clamp(max=0).exp2()
    torch.testing.assert_close(of_code[:2], expected.to(of_code))
    torch.testing.assert_close(of_code[2:], torch.ones_like(of_code[2:]))
    assert (expected < 1).all() == is_precise
