"""Stacked training: jobs whose models have one shape are trained as members of one model.

Members differ in rows, seeds, latent sizes and hyperparameters. Jobs with other widths, kinds of
columns, lengths of tables, batch sizes or precision are trained as another stacked model.
"""

from collections.abc import Sequence
from typing import Any

import torch

from sklearn_vae.initialization.ppca import LinearGaussian
from sklearn_vae.models.vae import build
from sklearn_vae.objectives import LossState
from sklearn_vae.random import Stream, make_generator, sample_categorical
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.initialize import make_initializer
from sklearn_vae.training.jobs import TrainingJob, TrainingResult
from sklearn_vae.training.sizes import group_jobs, threads_for_jobs
from sklearn_vae.training.trainer import Trainer


def train(jobs: Sequence[TrainingJob], **kwargs: Any) -> list[TrainingResult]:
    """Train all jobs, in as few stacked models as their shapes and the cache allow.

    Each result equals that of the job alone, up to rounding. Further arguments are for the
    trainer: callbacks, verbose.
    """
    results: dict[int, TrainingResult] = {}
    for indices in group_jobs(jobs):
        group = [jobs[index] for index in indices]
        with threads_for_jobs(group):
            outcomes = make_trainer(group, **kwargs).train(*stack_tables(group))
        results |= zip(indices, map(TrainingJob.finish, group, outcomes), strict=True)
    return [results[index] for index in range(len(jobs))]


def make_trainer(jobs: Sequence[TrainingJob], **kwargs: Any) -> Trainer:
    """Make the trainer of a group of jobs, with the initial weights of every member."""
    largest = max(jobs, key=lambda job: job.architecture.n_components)
    sizes = [job.architecture.n_components for job in jobs]
    like = jobs[0].train.x[:0]
    model = build(largest.architecture, len(jobs), sizes).to(like)
    model.flatten()
    linear_model_of = make_initializer(max(sizes))
    rows = []
    for member, job in enumerate(jobs):
        if job.weights is None:
            linear_model = linear_model_of(job)
            model.reset_parameters(member, job.config.seed)
            model.initialize(member, linear_model)
            if job.is_random:
                model.initialize_at_prior(member, linear_model, job.config.seed)
            rows.append(_quantile_rows(job, linear_model, model.prior.n_rows))
        else:
            model.load(job.weights, member)
    if rows and model.prior.n_rows:
        model.initialize_prior(torch.stack(rows))
    state = LossState(
        free_bits=_per_member([job.free_bits for job in jobs], like),
        pseudo_observations=_per_member([job.pseudo_observations for job in jobs], like),
    )
    configs, objective = [job.config for job in jobs], jobs[0].config.objective
    return Trainer(model, configs, objective, state, is_refit=jobs[0].is_refit, **kwargs)


def stack_tables(jobs: Sequence[TrainingJob]) -> tuple[Dataset, Dataset | None]:
    """Stack the training and validation rows of a group of jobs."""
    valid = [job.valid for job in jobs if job.valid is not None]
    return Dataset.stack([job.train for job in jobs]), Dataset.stack(valid) if valid else None


def _per_member(values: list[float], like: torch.Tensor) -> float | torch.Tensor:
    """Make a tensor of one number per member, or 0.0 where all are zero."""
    return like.new_tensor(values) if any(values) else 0.0


def _quantile_rows(job: TrainingJob, linear_model: LinearGaussian, n_rows: int) -> torch.Tensor:
    """Draw training rows at random quantiles of the first principal axis: (n_rows, n_columns).

    Quantiles are weighted: a row of weight 2 is as two rows.
    """
    if n_rows == 0:
        return job.train.x[:0]
    rows = torch.arange(min(len(job.train), job.train.rows_per_window), device=job.train.x.device)
    x, weight = job.train.take(rows.unsqueeze(0))
    x = x.nan_to_num()
    along = torch.as_tensor(linear_model.posterior_weights[:, 0]).to(x)
    order = (x[0, :, : len(along)] @ along).argsort()
    counts = torch.ones(len(order)) if weight is None else weight[0, order].cpu()
    ends = counts.double().cumsum(0)
    generator = make_generator(job.config.seed, Stream.PRIOR)
    chance = torch.rand(n_rows, generator=generator, dtype=torch.double)
    quantiles = (torch.arange(n_rows) + chance) / n_rows * ends[-1]
    chosen = sample_categorical(ends, quantiles)
    return x[0, order[chosen.to(order.device)]]
