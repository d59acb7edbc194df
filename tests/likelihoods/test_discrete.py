"""Discrete columns: extreme logits, and where they start."""

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli as TorchBernoulli

from sklearn_vae import VAETransformer
from sklearn_vae.likelihoods import Bernoulli, Columnwise, Ordinal
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


def test_classes_in_order_start_at_their_frequencies():
    """Averaged over z, as few steps of training follow in small tables, by quadrature."""
    frequency = np.array([0.05, 0.5, 0.1, 0.3, 0.05])
    x = torch.as_tensor(np.repeat(np.arange(5) / 4, (1000 * frequency).astype(int)))[:, None]
    mean, scale = x.mean(0), x.std(0)
    likelihood = Columnwise([(Ordinal(5), 1)])
    loadings, residual = 0.8 * scale[None], 0.6 * scale
    rows = x, torch.ones(len(x)).to(x)
    slope, offset, free = likelihood.initialize(loadings, mean, residual, rows)
    z, weights = np.polynomial.hermite_e.hermegauss(40)
    params = [offset + torch.as_tensor(z)[:, None] * slope, free.expand(40, -1)]
    log_p = Ordinal(5).log_prob_per_column
    found = [
        weights @ log_p(params, torch.full((40, 1), k / 4).to(x)).exp()[:, 0].numpy()
        for k in range(5)
    ]

    np.testing.assert_allclose(np.array(found) / weights.sum(), frequency, atol=0.02)


def test_classes_in_order_of_a_small_table_keep_their_frequencies(rng):
    """One that never occurs is not drawn because the linear model had its number."""
    X = np.column_stack([rng.normal(size=(100, 3)), 4 * (rng.random(100) < 0.3)])
    X[:5, 3] = [1, 2, 3, 4, 4]
    model = VAETransformer(likelihood=["auto"] * 3 + ["ordinal"], random_state=0).fit(X)
    sample = model.sample(2000, random_state=0)[:, 3]

    for k in range(5):
        assert abs((sample == k).mean() - (X[:, 3] == k).mean()) < 0.06
