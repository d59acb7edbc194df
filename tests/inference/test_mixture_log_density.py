"""Proposals of the scores of ``MixtureVAE`` models."""

import numpy as np
import pytest
import torch
from scipy import stats

from sklearn_vae import VAEDensity
from sklearn_vae.inference.mixture_log_density import PROPOSAL_SHARES, LaplaceProposal

GRID = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]


@pytest.fixture(scope="module")
def proposal():
    """One of three rows on a curve, for a model with one latent dimension."""
    t = np.random.default_rng(0).uniform(-2, 2, 300)
    X = np.column_stack([t, t**2]) + 0.3 * np.random.default_rng(1).normal(size=(300, 2))
    density = VAEDensity(1, mixtures=[(1, "full")], max_iter=5, random_state=0).fit(X)
    rows, predictor = density._rows_and_model(X[:3], None)
    (member,) = predictor.members
    return LaplaceProposal(predictor.model(rows.dtype), member.encode(rows)[0])


@pytest.mark.parametrize("row", range(3))
def test_codes_are_drawn_from_the_density_of_the_proposals(proposal, row):
    """By numerical integration, which gives the distribution function, too."""
    n_draws, rng = 4000, np.random.default_rng(row)
    noise = torch.as_tensor(rng.normal(size=(n_draws, 1)))
    origin = torch.as_tensor(rng.choice(3, n_draws, p=PROPOSAL_SHARES))
    component, index = torch.zeros_like(origin), torch.full_like(origin, row)
    codes = proposal.draw_codes(component, index, noise, origin)
    on_grid = torch.zeros(len(GRID), dtype=torch.long), torch.full((len(GRID),), row)
    density = proposal.log_prob(GRID, *on_grid).exp().numpy()

    cumulative = np.cumsum(density) * (GRID[1, 0] - GRID[0, 0]).item()
    assert cumulative[-1] == pytest.approx(1, abs=1e-4)
    cdf = stats.kstest(codes[:, 0].numpy(), lambda z: np.interp(z, GRID[:, 0], cumulative))
    assert cdf.pvalue > 1e-3


@pytest.mark.parametrize("row", range(3))
def test_wider_proposals_are_as_wide_as_the_prior_at_most(proposal, row):
    """Where the likelihood determines the code, they are wider than the Laplace approximation."""
    narrow, wide = proposal.root[:, 0, row, 0, 0]

    assert narrow < wide < 1
