"""Missing values given the observed values of their rows, by a weighted mixture of models."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sklearn_vae.inference.missing import resample
from sklearn_vae.inference.mixture_log_density import PosteriorDraws
from sklearn_vae.inference.mixture_posterior import PosteriorComponents
from sklearn_vae.models.mixture_vae import MixtureVAE


def conditional_mean(
    models: Sequence[MixtureVAE], draws: PosteriorDraws | PosteriorComponents, x: Tensor
) -> Tensor:
    """Mean of every column of encoded rows given their observed values: (B, n_columns)."""
    weight = draws.log_weight.softmax(0)  # (K, B)
    model, (n_draws, n_rows) = models[0], weight.shape
    real = x.new_zeros(n_rows, len(model.real_columns))
    params = draws.params
    if params is None:
        params = x.new_zeros(n_draws, n_rows, model.others.n_params)
    member = torch.where(weight > 0, draws.member, -1)
    for mixture, part, (draw, row) in _by_member(models, member, x):
        mean, of_others = mixture.conditional(*part, draws.z[draw, row], draws.component[draw, row])
        real.index_add_(0, row, weight[draw, row].unsqueeze(1) * mean)
        if draws.params is None:
            params[draw, row] = of_others
    filled = torch.empty_like(x)
    filled[:, model.real_columns] = real
    if model.others.blocks:
        blocks = model.others.split_params(params[None])
        filled[:, model.other_columns] = model.others.average_over_draws(blocks, weight[None])
    return filled


def sample_given_observed(
    models: Sequence[MixtureVAE],
    draws: PosteriorDraws | PosteriorComponents,
    x: Tensor,
    generator: torch.Generator,
    n_draws: int,
) -> Tensor:
    """Encoded rows drawn given their observed values: (B, n_draws, n_columns)."""
    weight = draws.log_weight.softmax(0).T.contiguous()  # (B, K)
    chosen = resample(weight, n_draws, generator).T  # (n_draws, B)
    member, component = (part.gather(0, chosen) for part in (draws.member, draws.component))
    filled = x.new_empty(n_draws, *x.shape)
    for mixture, part, (draw, row) in _by_member(models, member, x):
        z = draws.z[chosen[draw, row], row]
        filled[draw, row] = mixture.sample_given(*part, z, component[draw, row], generator)
    return filled.transpose(0, 1)


def _by_member(
    models: Sequence[MixtureVAE], member: Tensor, x: Tensor
) -> Iterator[tuple[MixtureVAE, tuple[Tensor, Tensor | None], tuple[Tensor, Tensor]]]:
    """Yield each model that explains some draws, and indices of draw and row.

    Between them are the real columns of these rows, and the mask of their observed values.
    """
    real, _, observed, _ = models[0].split(x)  # all have the same columns
    for index, model in enumerate(models):
        draw, row = (member == index).nonzero().unbind(1)
        if len(draw):
            yield model, (real[row], None if observed is None else observed[row]), (draw, row)
