"""Stacked training: jobs whose models have one shape are trained as members of one model."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from sklearn_vae.initialization.ppca import LinearGaussian
from sklearn_vae.models.vae import build
from sklearn_vae.numerics.random import Stream, make_generator, sample_categorical
from sklearn_vae.system.compute import threads_for
from sklearn_vae.training.dataset import CHUNK_ROWS
from sklearn_vae.training.initialize import make_initializer
from sklearn_vae.training.jobs import TrainingJob, TrainingResult
from sklearn_vae.training.trainer import Trainer

# Bytes that a stacked model works on in a gradient step: they fit in the last cache.
WORKING_SET = 16 << 20
# Fraction of a GPU's free memory that it works on instead.
WORKING_FRACTION = 1 / 16


def train(jobs: Sequence[TrainingJob], **kwargs: Any) -> list[TrainingResult]:
    """Train all jobs, in as few stacked models as their shapes and the cache allow.

    Each result equals that of the job alone, up to rounding. Other arguments are the trainer's.
    """
    results: dict[int, TrainingResult] = {}
    linear_model_of = make_initializer()
    for indices in group_jobs(jobs):
        group = [jobs[index] for index in indices]
        with threads_for_jobs(group):
            outcomes = make_trainer(group, linear_model_of, **kwargs).train()
        results |= zip(indices, outcomes, strict=True)
    return [results[index] for index in range(len(jobs))]


def make_trainer(
    jobs: Sequence[TrainingJob],
    linear_model_of: Callable[[TrainingJob], LinearGaussian],
    **kwargs: Any,
) -> Trainer:
    """Make the trainer of a group of jobs, with the initial weights of every member."""
    model = build(jobs[0].architecture, len(jobs)).to(jobs[0].train.like)
    model.flatten()
    rows = []
    for member, job in enumerate(jobs):
        if job.weights is not None:
            model.load(job.weights, member)
            continue
        linear_model = linear_model_of(job)
        model.reset_parameters(member, job.config.seed)
        model.initialize(member, linear_model)
        if job.steps is not None:
            model.set_recording_steps(member, job.steps)
        if job.is_random:
            model.initialize_at_prior(member, linear_model, job.config.seed)
        if model.prior.n_rows:
            rows.append(_quantile_rows(job, linear_model, model.prior.n_rows))
    if rows:
        model.initialize_prior(torch.stack(rows))
    return Trainer(model, jobs, **kwargs)


def _quantile_rows(job: TrainingJob, linear_model: LinearGaussian, n_rows: int) -> torch.Tensor:
    """Draw training rows at random quantiles of the first principal axis: (n_rows, n_columns).

    Quantiles are weighted: a row of weight 2 is as two rows.
    """
    train, like = job.train, job.train.like
    axis = torch.as_tensor(linear_model.posterior_weights[:, 0]).to(like)
    inputs = torch.as_tensor(job.architecture.inputs).to(like.device)
    n_first = min(train.rows_per_window or len(train), len(train))
    rows = torch.arange(n_first, device=like.device)
    along, counts = like.new_empty(len(rows)), torch.ones(len(rows), dtype=torch.double)
    for chunk in rows.split(CHUNK_ROWS):
        x, weight = train.take(chunk.unsqueeze(0))
        along[chunk] = x[0].nan_to_num().index_select(1, inputs) @ axis
        if weight is not None:
            counts[chunk.cpu()] = weight[0].cpu().double()
    order = along.argsort()
    ends = counts[order.cpu()].cumsum(0)
    generator = make_generator(job.config.seed, Stream.PRIOR)
    chance = torch.rand(n_rows, generator=generator, dtype=torch.double)
    quantiles = (torch.arange(n_rows) + chance) / n_rows * ends[-1]
    chosen = sample_categorical(ends, quantiles)
    return train.take(order[chosen.to(order.device)].unsqueeze(0))[0][0]


def group_jobs(jobs: Sequence[TrainingJob]) -> Iterator[list[int]]:
    """Group jobs by shape, as many as fit in the cache; yield the indices of each group."""
    alike: dict[Hashable, list[int]] = {}
    for index, job in enumerate(jobs):
        alike.setdefault(job.shape, []).append(index)
    for indices in alike.values():
        job = jobs[indices[0]]
        architecture, x, device = job.architecture, job.train.x, job.train.like.device
        # read and written in a step, roughly: layers' values and gradients, twice; four per weight
        widths = sum(architecture.hidden_layer_sizes) + 2 * x.shape[1]
        n_values = 4 * sum(job.config.rows_per_step(len(job.train))) * widths
        n_bytes = x.dtype.itemsize * (4 * architecture.n_products + n_values)
        max_bytes = WORKING_SET
        if device.type == "cuda":
            max_bytes = int(WORKING_FRACTION * torch.cuda.mem_get_info(device)[0])
        # 0 bytes of a model without weights, as of a constant column
        largest = max(max_bytes // max(n_bytes, 1), 1)
        n_groups = -(-len(indices) // largest)
        yield from (group.tolist() for group in np.array_split(indices, n_groups))


def threads_for_jobs(jobs: Sequence[TrainingJob]) -> AbstractContextManager[None]:
    """Set torch's number of threads for the gradient steps of a group of jobs."""
    job = jobs[0]
    _, n_decoded = job.config.rows_per_step(len(job.train))
    return threads_for(len(jobs) * n_decoded * job.architecture.n_products)
