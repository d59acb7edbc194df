"""Draws and densities of a row's columns given its other ones, of models in PyTorch."""

from typing import TYPE_CHECKING

from sklearn_vae.inference.laplace import JointDensity
from sklearn_vae.inference.log_density import Points, sample_posterior
from sklearn_vae.inference.mixture_log_density import posterior_draws
from sklearn_vae.models.base import BaseVAE
from sklearn_vae.models.mixture_ensemble import MixtureEnsemble
from sklearn_vae.numerics.array_api import Array, arange, concatenate, logsumexp, namespace
from sklearn_vae.numerics.random import sample_categorical

if TYPE_CHECKING:
    import torch

    from sklearn_vae.models.vae import VAE


def mean_log_prob(model: BaseVAE, x: Array, points: Points) -> Array:
    """Mean log p(x|z) over draws from the first member's q(z|x), in nats: (M, B, n) -> (B,)."""
    z = model.posterior.rsample(model.encode(model.fill_missing(x)), points.first)
    return JointDensity.from_rows(model, x).log_likelihood(z).mean(1)[0]


def conditional_log_prob(model: BaseVAE, x: Array, points: Points) -> Array:
    """Log p(column | other columns) in nats: (M, B, n) -> (B, n_columns)."""
    log_ratios = []
    for rows, codes in sample_posterior(model, x, points).chunks(model.codes_per_chunk):
        values, observed = model.likelihood.split_missing(x[:1, None, rows])
        params = model.decode(codes.z, x[:, rows])
        log_prob = model.likelihood.log_prob_per_column(params, values)
        if observed is not None:
            log_prob = log_prob * observed
        # of draws of p(x|z), by all columns and by all but one: (M K, B, n_columns)
        of_all = codes.log_weight.reshape(-1, codes.log_weight.shape[2], 1)
        of_others = of_all - log_prob.reshape(len(of_all), *log_prob.shape[2:])
        log_ratios.append(logsumexp(of_all, 0) - logsumexp(of_others, 0))
    return concatenate(log_ratios, 0)


def sample_given_observed(
    model: "VAE", x: Array, generator: "torch.Generator", points: Points, n_draws: int
) -> Array:
    """Rows drawn given their observed values: (M, B, n) -> (B, n_draws, n_columns)."""
    torch, sampled, codes = namespace(x), [], sample_posterior(model, x, points)
    n_members, n_codes = codes.log_weight.shape[:2]
    for rows, part in codes.chunks(model.codes_per_chunk * n_codes // n_draws):
        member, code = (index.T for index in resample(part.weight, n_draws, generator))
        row = arange(part.z.shape[2], code)
        z = part.z[member, code, row].unsqueeze(0).expand(n_members, -1, -1, -1)
        # (M, n_draws, B, n_columns)
        drawn = model.likelihood.sample(model.decode(z, x[:, rows]), generator)
        draw = arange(n_draws, row).unsqueeze(1)
        sampled.append(drawn[member, draw, row].movedim(0, 1))
    return torch.cat(sampled)


def sample_mixture_given_observed(
    model: MixtureEnsemble, x: Array, generator: "torch.Generator", points: Points, n_draws: int
) -> Array:
    """Rows drawn given their observed values: (B, n_columns) -> (B, n_draws, n_columns)."""
    component, codes = posterior_draws(model, x, points)
    rank, draw = (index.flatten() for index in resample(codes.weight, n_draws, generator))
    row = arange(len(x), x).repeat_interleave(n_draws)
    z = codes.z[rank, draw, row]
    rows = model.sample_given(x[row], z, component[rank, row], generator)
    return rows.unflatten(0, (len(x), n_draws))


def resample(weight: Array, n_draws: int, generator: "torch.Generator") -> tuple[Array, Array]:
    """Resample codes by weights (M, K, B), systematically and in random order.

    Return indices along the first and the second axis, (B, n_draws) each.
    """
    torch, (n_codes, n_rows) = namespace(weight), weight.shape[1:]
    weight = weight.flatten(0, 1).T.contiguous()  # (B, M K)
    # the uniform numbers are evenly spread
    uniform = torch.rand(n_rows, n_draws, generator=generator, dtype=weight.dtype)
    position = (torch.arange(n_draws) + uniform) / n_draws
    cumulative = weight.cumsum(1)
    chosen = sample_categorical(cumulative, position.to(cumulative) * cumulative[:, -1:])
    # in random order: every draw has the same distribution
    order = torch.rand(n_rows, n_draws, generator=generator, dtype=torch.float).argsort(1)
    chosen = chosen.gather(1, order.to(chosen.device))
    return chosen // n_codes, chosen % n_codes
