"""Binary columns: extreme logits, and the linear model's value and slope at z = 0."""

import pytest
import torch
from torch.distributions import Bernoulli as TorchBernoulli

from sklearn_vae.likelihoods import Bernoulli
from tests.likelihoods.conftest import draw


@pytest.mark.parametrize("logit", [-1e4, -50.0, 50.0, 1e4])
def test_extreme_logits_give_finite_log_probabilities(logit):
    """log(sigmoid) by hand is -inf from about 100 on in single precision."""
    logits, x = torch.full((1, 1), logit), torch.tensor([[0.0], [1.0]])
    expected = TorchBernoulli(logits=logits).log_prob(x).sum(-1)

    torch.testing.assert_close(Bernoulli().log_prob([logits], x), expected)
    assert expected.isfinite().all()


def test_rare_values_are_initialized_with_finite_logits():
    """A column whose linear model leaves [0, 1] or is almost never 1 must not start at inf."""
    loc = torch.tensor([-0.3, 0.0, 1e-9, 1.0, 1.2]).double()
    ((slope, offset),) = Bernoulli().initialize(draw(2, 5), loc, torch.ones(5))
    expected = torch.tensor([1e-3, 1e-3, 1e-3, 0.999, 0.999]).double()

    torch.testing.assert_close(torch.sigmoid(offset), expected)
    assert slope.abs().max() <= 3
