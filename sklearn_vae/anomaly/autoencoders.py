"""Training jobs of the detector's autoencoders, and their random weights."""

from dataclasses import replace
from typing import cast

import numpy as np
import torch

from sklearn_vae.initialization.factor_analysis import FactorModel
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.vae import build
from sklearn_vae.networks import MLP
from sklearn_vae.numerics.random import Stream, make_generator, start_seeds
from sklearn_vae.objectives import TrimmedELBO
from sklearn_vae.training import Dataset, TrainingConfig, TrainingJob, TrainingResult


def make_jobs(
    architecture: Architecture, config: TrainingConfig, table: Dataset, left_out: np.ndarray
) -> list[TrainingJob]:
    """Make one job per autoencoder, without the rows of the table that it leaves out (M, n)."""
    imputation = None
    if architecture.n_factors:
        factors = FactorModel.fit(*table.arrays(), architecture.n_factors)
        imputation = factors.linear_gaussian(1).imputation
    seeds = start_seeds(config.seed, len(left_out))
    return [
        TrainingJob(
            architecture,
            replace(config, seed=seed),
            table.subset(torch.as_tensor(np.flatnonzero(~is_left_out))),
            weights=random_parameters(architecture, seed, imputation),
        )
        for seed, is_left_out in zip(seeds, left_out, strict=True)
    ]


def trimmed_job(job: TrainingJob, result: TrainingResult, trim_fraction: float) -> TrainingJob:
    """Make the job that trains an autoencoder further with the trimmed ELBO."""
    n_untrimmed, *_ = cast(tuple[int, ...], job.config.n_iter_per_stage)
    config = replace(
        job.config,
        n_iter_per_stage=(job.config.max_iter - n_untrimmed, 0, 0),
        first_epoch=n_untrimmed,
        objective=TrimmedELBO(trim_fraction),
    )
    return job.resume(result, config=config)


def random_parameters(
    architecture: Architecture, seed: int, imputation: tuple[np.ndarray, ...] | None = None
) -> dict[str, np.ndarray]:
    """Parameters of a VAE whose output layers are random, too, with variance 1 / fan-in.

    Other estimators are initialized at probabilistic PCA. There, outliers among the training
    rows would have principal axes of their own and be reconstructed well. ``imputation`` are the
    parameters of an imputation layer.
    """
    model = build(architecture).float()
    model.reset_parameters(0, seed)
    if imputation is not None:
        model.filler.initialize(0, imputation)
    for side, network in enumerate(cast(list[MLP], [model.encoder, model.decoder])):
        matrix = network.linear.weight if network.last is None else network.last
        generator = make_generator(seed, Stream.WEIGHTS, side, len(network.hidden))
        values = torch.randn(matrix.shape, generator=generator, dtype=torch.float)
        matrix.data.copy_(values / matrix.shape[1] ** 0.5)
    return model.weights()
