"""Distributions of columns given others: means and draws of missing values, log p.

They are averages over p(z|observed values), by importance sampling.
"""

import torch
from torch import Tensor

from sklearn_vae.inference.log_density import Points
from sklearn_vae.inference.posterior_sampling import sample_posterior
from sklearn_vae.models.vae import VAE
from sklearn_vae.numerics.random import sample_categorical


def conditional_log_prob(model: VAE, x: Tensor, points: Points) -> Tensor:
    """Log p(column | other columns) in nats: (M, B, n) -> (B, n_columns)."""
    codes = sample_posterior(model, x, points)
    values, observed = model.likelihood.split_missing(x[:1].unsqueeze(1))
    log_prob = model.likelihood.log_prob_per_column(model.decode(codes.z, x), values)
    if observed is not None:
        log_prob = log_prob * observed
    # of draws of p(x|z), by all columns and by all but one: (M K, B, n_columns)
    of_all = codes.log_weight.unsqueeze(-1).flatten(0, 1)
    of_others = of_all - log_prob.flatten(0, 1)
    return torch.logsumexp(of_all, 0) - torch.logsumexp(of_others, 0)


def sample_given_observed(
    model: VAE, x: Tensor, generator: torch.Generator, points: Points, n_draws: int
) -> Tensor:
    """Rows drawn given their observed values: (M, B, n) -> (B, n_draws, n_columns)."""
    codes = sample_posterior(model, x, points)
    n_members, n_codes, n_rows, _ = codes.z.shape
    weight = codes.weight.flatten(0, 1).T.contiguous()  # (B, M K)
    chosen = resample(weight, n_draws, generator)
    member, code = chosen.T // n_codes, chosen.T % n_codes  # (n_draws, B)
    row = torch.arange(n_rows, device=chosen.device)
    z = codes.z[member, code, row].unsqueeze(0).expand(n_members, -1, -1, -1)
    params = model.decode(z, x)
    rows = model.likelihood.sample(params, generator)  # (M, n_draws, B, n_columns)
    draw = torch.arange(n_draws, device=row.device).unsqueeze(1)
    return rows[member, draw, row].movedim(0, 1)


def resample(weight: Tensor, n_draws: int, generator: torch.Generator) -> Tensor:
    """Resample indices by weights, systematically and in random order: (B, K) -> (B, n_draws)."""
    n_rows = len(weight)
    # the uniform numbers are evenly spread
    uniform = torch.rand(n_rows, n_draws, generator=generator, dtype=weight.dtype)
    position = (torch.arange(n_draws) + uniform) / n_draws
    cumulative = weight.cumsum(1)
    chosen = sample_categorical(cumulative, position.to(cumulative) * cumulative[:, -1:])
    # in random order: every draw has the same distribution
    order = torch.rand(n_rows, n_draws, generator=generator, dtype=torch.float).argsort(1)
    return chosen.gather(1, order.to(chosen.device))
