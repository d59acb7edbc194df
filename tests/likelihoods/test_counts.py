"""Counts: probabilities that sum to one, and the start of their training."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from sklearn_vae import VAETransformer
from sklearn_vae.likelihoods import LIKELIHOODS, Counts

KINDS = [kind() for kind in LIKELIHOODS.values() if issubclass(kind, Counts)]


@pytest.mark.parametrize("rate", [3.0, 1e4, 1e6])
@pytest.mark.parametrize("kind", ["poisson", "negative_binomial"])
def test_log_probabilities_of_large_counts_are_exact_in_single_precision(kind, rate):
    """They are differences of terms of the size of the count: scores were off by 1 nat at 1e6."""
    unit = 2.0 ** round(math.log2(math.sqrt(rate)))
    likelihood = LIKELIHOODS[kind](unit)
    params = [torch.zeros(1, 1)] * len(likelihood.depends_on_z)  # a rate of unit², a shape of 1
    counts = torch.arange(0.5 * rate, 1.5 * rate, rate / 10).round().unsqueeze(1)
    n, mean = counts[:, 0].double().numpy(), unit**2
    oracle = stats.poisson(mean) if kind == "poisson" else stats.nbinom(1, 1 / (1 + mean))

    x = counts.double().sqrt().div(unit).float()
    log_prob = likelihood.log_prob_per_column(params, x)[:, 0]
    assert log_prob.dtype == torch.float32
    np.testing.assert_allclose(log_prob.numpy(), oracle.logpmf(n), rtol=1e-6)


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_training_on_sparse_counts_starts_near_their_means(likelihood, rng):
    """Rates of rare counts started at a tenth of their means, and at thousands for some codes."""
    topics, shares = rng.gamma(0.3, 0.5, (3, 100)), rng.dirichlet([0.5] * 3, 150)
    counts = rng.poisson(shares @ topics).astype(np.float32)
    options = {"max_iter": 1, "learning_rate": 1e-9, "refit": False, "random_state": 0}
    vae = VAETransformer(4, likelihood=likelihood, **options)
    vae.fit(counts)
    rows, decoded = vae.sample(1000, random_state=0), vae.inverse_transform(vae.transform(counts))

    assert (counts == 0).mean() > 0.8
    assert rows.mean() == pytest.approx(counts.mean(), rel=0.2)
    assert decoded.max() < 3 * counts.max()


@pytest.mark.parametrize("shape", [1.0, 5.0, 150.0])
def test_training_on_counts_starts_near_their_variance(shape, rng):
    """Ages of mean 60 have a variance near it: with a shape of 10 they started at 420."""
    counts = stats.nbinom.rvs(shape, shape / (shape + 60), size=500, random_state=rng)
    rows = np.column_stack([counts, rng.normal(size=(500, 2))])
    options = {"max_iter": 1, "learning_rate": 1e-9, "refit": False, "random_state": 0}
    likelihood = {0: "negative_binomial"}
    samples = VAETransformer(1, likelihood=likelihood, **options).fit(rows).sample(4000, 0)

    assert samples[:, 0].std() == pytest.approx(counts.std(), rel=0.25)


@pytest.mark.parametrize("spread", [0.3, 0.6])
def test_counts_that_depend_on_the_code_start_near_their_variance(spread, rng):
    """The variance of the rates was counted twice: 1.2 to 1.4 of the rows' deviation."""
    z = rng.normal(size=80)
    counts = rng.poisson(np.exp(4 + spread * z))
    rows = np.column_stack([counts, z + 0.3 * rng.normal(size=80), z + 0.3 * rng.normal(size=80)])
    options = {"max_iter": 1, "learning_rate": 1e-9, "refit": False, "random_state": 0}
    likelihood = {0: "negative_binomial"}
    samples = VAETransformer(1, likelihood=likelihood, **options).fit(rows).sample(4000, 0)

    assert samples[:, 0].std() == pytest.approx(counts.std(), rel=0.2)
    assert stats.spearmanr(samples[:, :2])[0] > stats.spearmanr(rows[:, :2])[0] - 0.15
