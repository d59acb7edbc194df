"""Functions of the rows that training does not change, computed once before it."""

from dataclasses import replace

import torch
from torch import Tensor

from sklearn_vae.models.mixture_vae import MixtureVAE, Whitening
from sklearn_vae.models.vae import VAE
from sklearn_vae.training.dataset import Dataset

# Numbers of all rows, at most: inputs of the encoder, and whitened rows.
MAX_NUMBERS = 1 << 27
MAX_WHITENED = 1 << 24
# Rows that are computed at a time.
CHUNK_ROWS = 1 << 12


@torch.no_grad()
def precompute(model: VAE | MixtureVAE, rows: Dataset) -> Dataset | None:
    """Compute what the loss needs of each row and no weights change; None if nothing is kept.

    Parameters
    ----------
    model : VAE or MixtureVAE
        Model of one or more members.
    rows : Dataset
        Encoded rows of all members.

    Returns
    -------
    Dataset or None
        The inputs of a ``VAE``'s encoder, by ``impute_inputs``, or the rows of a ``MixtureVAE``,
        by ``whiten_rows``.
    """
    if isinstance(model, MixtureVAE):
        return whiten_rows(model, rows)
    return impute_inputs(model, rows)


def whiten_rows(model: MixtureVAE, rows: Dataset) -> Dataset | None:
    """Compute log-densities and whitened rows in all components: C (1 + d) numbers per row.

    The dataset has rows of its own for each member. None if they would not fit into memory.
    """
    n_members, n_mixture, n_real = model.loc.shape
    if n_members * len(rows) * n_mixture * (1 + n_real) > MAX_WHITENED:
        return None
    whitening, parts = Whitening(model), []
    for chunk in torch.arange(len(rows), device=model.device).split(CHUNK_ROWS):
        x, _ = rows.take(chunk.expand(n_members, -1))
        white, log_density = whitening(model.split(x))
        both = torch.cat([log_density.unsqueeze(1), white], dim=1)  # (M, 1 + d, C, B)
        parts.append(both.permute(0, 3, 2, 1).flatten(2))
    first_row = len(rows) * torch.arange(n_members, device=model.device)
    x = torch.cat(parts, dim=1).flatten(0, 1)
    return replace(rows, x=x, row_indices=None, weight=None, first_row=first_row)


def impute_inputs(model: VAE, rows: Dataset) -> Dataset | None:
    """Impute all rows by the imputation layer: inputs of the encoder in their place.

    None if the model has no imputation layer, if its members have different ones, or if the
    inputs would not fit into memory.
    """
    if model.filler is None or not isinstance(rows.x, Tensor):
        return None
    n_members = len(model.flat)
    is_shared = all(bool((buffer == buffer[:1]).all()) for buffer in model.filler.buffers())
    if not is_shared or len(rows.x) * model.architecture.layout.encoder_sizes[0] > MAX_NUMBERS:
        return None
    inputs = [model.encoder_input(x.expand(n_members, -1, -1))[0] for x in rows.x.split(CHUNK_ROWS)]
    return replace(rows, x=torch.cat(inputs))
