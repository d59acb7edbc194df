"""Mean loss of a dataset, with the same noise at every call."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.models.stacked import StackedModule
from sklearn_vae.models.vae import VAE
from sklearn_vae.objectives import REPORTED, LossState, Minibatch, Objective
from sklearn_vae.random import Stream, sobol_normal, stream_seed
from sklearn_vae.training.config import TrainingConfig
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.jobs import validation_draws, validation_rows


@torch.no_grad()
def mean_losses(
    model: StackedModule,
    objective: Objective,
    state: LossState,
    configs: Sequence[TrainingConfig],
    dataset: Dataset,
    beta: np.ndarray,
    n_rows: int | None = None,
    n_draws: int | None = None,
) -> np.ndarray:
    """Compute each member's mean loss terms.

    All rows share the draws of z, Sobol points that depend on the seed only.

    Parameters
    ----------
    model : StackedModule
        The model.
    objective : Objective
        The objective.
    state : LossState
        Free bits and pseudo-observations of each member.
    configs : sequence of TrainingConfig
        Each member's configuration.
    dataset : Dataset
        Rows of all members.
    beta : ndarray of shape (M,)
        Weight of the KL divergence.
    n_rows : int, optional
        Number of rows to use, the first ones; by default all.
    n_draws : int, optional
        Minimum number of draws of z per row.

    Returns
    -------
    ndarray of shape (3, M)
        Loss, reconstruction loss and KL divergence.
    """
    n_rows = min(n_rows or len(dataset), len(dataset))
    n_draws = validation_draws(n_rows, objective.n_draws, n_draws)
    noise = np.zeros((len(configs), n_draws, 1, model.architecture.n_noise))
    for member, (config, n_noise) in enumerate(zip(configs, model.sizes.tolist(), strict=True)):
        seed = config.seed if config.validation_seed is None else config.validation_seed
        points = sobol_normal(n_draws, n_noise, stream_seed(seed, Stream.VALIDATION))
        noise[member, :, 0, :n_noise] = points
    draws = torch.as_tensor(noise).to(model.flat)
    state = replace(state, beta=torch.as_tensor(beta).to(model.flat))
    rows = torch.arange(n_rows, device=model.flat.device)
    chunks: Sequence[Tensor] = rows.split(validation_rows(n_draws, model.architecture.widest))
    if objective.uses_aggregated_posterior:  # every chunk is then a sample of the whole dataset
        chunks = [rows[first :: len(chunks)] for first in range(len(chunks))]
    total = np.zeros((len(REPORTED), len(configs)))
    for chunk in chunks:
        x, weight = dataset.take(chunk.expand(len(configs), -1))
        terms = objective(cast(VAE, model), Minibatch(x, weight, draws), state)
        total += terms.reported().cpu().numpy() * (len(chunk) / n_rows)
    return total
