"""Columns of several likelihoods side by side."""

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli as TorchBernoulli, Normal

from sklearn_vae.likelihoods import Bernoulli, Columnwise, Gaussian
from tests.likelihoods.conftest import draw

MIXED = Columnwise([(Gaussian("per_column"), 2), (Bernoulli(), 3), (Gaussian("per_row"), 1)])


def normal(loc, raw):
    """The normal distribution of Gaussian columns."""
    return Normal(loc, (7 * torch.tanh(raw / 7)).exp())


def mixed_params():
    """Outputs: 2 means, 3 logits, a mean and a raw scale; free parameters: 2 raw scales."""
    return draw(2, 3, 4, 7), draw(2, 1, 1, 2, seed=1)


def mixed_by_torch(outputs, free):
    """Distributions of the blocks, by torch.distributions."""
    return [
        normal(outputs[..., :2], free),
        TorchBernoulli(logits=outputs[..., 2:5]),
        normal(outputs[..., 5:6], outputs[..., 6:7]),
    ]


def mixed_rows():
    """Rows of two real columns, three binary ones and a real one."""
    x = draw(2, 1, 4, 6, seed=5)
    x[..., 2:5] = (x[..., 2:5] > 0).double()
    return x


def test_columnwise_log_prob_is_the_sum_of_its_parts():
    """Given z the columns are independent."""
    outputs, free = mixed_params()
    x = mixed_rows()
    parts = zip(mixed_by_torch(outputs, free), x.split([2, 3, 1], dim=-1), strict=True)
    expected = sum(dist.log_prob(x).sum(-1) for dist, x in parts)

    torch.testing.assert_close(MIXED.log_prob(MIXED.split(outputs, free), x), expected)


def test_least_parameters_are_those_of_the_least_scales():
    """By torch's normal distribution; a column without a least scale, and bits, have none."""
    least = MIXED.least_params(np.array([0.5, 0.0, 1.0, 1.0, 1.0, 0.25]))
    outputs, free = torch.full((1, 7), -50.0).double(), torch.full((1, 2), -50.0).double()
    outputs = torch.maximum(outputs, torch.as_tensor(least[MIXED.is_decoded]))
    free = torch.maximum(free, torch.as_tensor(least[~MIXED.is_decoded]))
    first, _, last = mixed_by_torch(outputs, free)

    assert first.stddev[0, 0].item() == pytest.approx(0.5)
    assert first.stddev[0, 1].item() < 1e-3
    assert last.stddev.item() == pytest.approx(0.25)
    assert (outputs[:, 2:6] == -50).all()


def test_columnwise_mean_and_samples_have_the_order_of_the_columns(generator):
    """A sample whose columns are swapped is another table."""
    outputs, free = mixed_params()
    params = MIXED.split(outputs, free)
    expected = torch.cat([dist.mean for dist in mixed_by_torch(outputs, free)], dim=-1)
    x = MIXED.sample(params, generator)

    torch.testing.assert_close(MIXED.mean(params), expected)
    assert x.shape == (2, 3, 4, 6)
    assert set(x[..., 2:5].unique().tolist()) == {0.0, 1.0}
    assert len(x[..., [0, 1, 5]].unique()) == 2 * 3 * 4 * 3


def test_columnwise_initializes_each_block():
    """Slopes and offsets have the order in which split() reads them."""
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
    scales = [normal(*params[block]).stddev[0] for block in (0, 2)]
    torch.testing.assert_close(torch.cat(scales), scale[real])
