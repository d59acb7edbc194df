"""Codes of rows: classes, the ELBO, reconstructions."""

import torch
from torch import Tensor

from sklearn_vae.inference.log_density import JointDensity
from sklearn_vae.inference.posterior_sampling import all_codes
from sklearn_vae.models.vae import VAE


def class_probabilities(model: VAE, x: Tensor) -> Tensor:
    """Code of rows, where NaN is a missing value: (M, B, n) -> (M, B, l).

    The posterior mean of categorical codes; q(z|x)'s of classes beside numbers.
    """
    if model.architecture.n_codes is None:
        return model.mean_code(x)
    codes = all_codes(model, x)
    return (codes.log_weight.softmax(1).unsqueeze(-1) * codes.z).sum(1)


def elbo_terms(model: VAE, x: Tensor, noise: Tensor, rows_per_chunk: int) -> Tensor:
    """Mean log p(x|z) and the KL from the prior, in nats: (M, B, n) -> (B, 2, M).

    ``noise`` are standard normal draws (1, K, 1, n_noise), which the rows share.
    """
    chunks = []
    for rows in x.split(rows_per_chunk, 1):
        if model.filler is None and rows.isnan().any():  # a model of complete rows
            z, kl = model.codes_and_kl(model.encode(model.fill_missing(rows)), noise)
            log_prob = JointDensity.from_rows(model, rows).log_likelihood(z).mean(1)
        else:
            log_prob, kl = model.elbo_terms(rows, noise)
        chunks.append(torch.stack([log_prob, kl.sum(-1)]))
    return torch.cat(chunks, 2).movedim(2, 0)


def residuals(model: VAE, x: Tensor) -> Tensor:
    """Residuals of the first member's reconstructions: (M, B, n_columns) -> (B, n_values).

    The residual of a missing value is 0.
    """
    likelihood, z = model.likelihood, model.mean_code(x)
    values, observed = likelihood.split_missing(x)
    residual = likelihood.residual(model.decode(z.unsqueeze(1)), values.unsqueeze(1)).squeeze(1)
    return (residual if observed is None else residual * observed)[0]
