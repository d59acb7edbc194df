"""Sizes of a training: jobs that are trained together, and rows that are validated at a time.

Bytes and multiplications are approximate.
"""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np

from sklearn_vae.device import threads_for
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.jobs import TrainingJob

# Bytes that a stacked model works on in a gradient step: they fit in the last cache.
WORKING_SET = 16 << 20
# Bytes that a stacked model may hold, beside rows that are in memory anyway.
MEMORY = 256 << 20
# Draws of z for all validation rows together; draws that are computed at a time, and numbers in
# the widest layer.
VALIDATION_DRAWS = 4096
VALIDATION_DRAWS_AT_A_TIME = 2048
VALIDATION_NUMBERS = 1 << 20


def group_jobs(jobs: Sequence[TrainingJob]) -> Iterator[list[int]]:
    """Group jobs by shape, cache and memory; yield the indices of each group."""
    alike: dict[Hashable, list[int]] = {}
    for index, job in enumerate(jobs):
        alike.setdefault(job.shape, []).append(index)
    for indices in alike.values():
        # 0 bytes of a model without weights, as of a constant column
        n_bytes = max(1, *(working_set(jobs[index]) for index in indices))
        largest = max(WORKING_SET // n_bytes, 1)
        n_groups = -(-len(indices) // largest)
        groups = [group.tolist() for group in np.array_split(indices, n_groups)][::-1]
        while groups:
            group = groups.pop()
            if len(group) == 1 or memory_of_jobs([jobs[index] for index in group]) <= MEMORY:
                yield group
            else:
                middle = len(group) // 2
                groups += group[middle:], group[:middle]


def threads_for_jobs(jobs: Sequence[TrainingJob]) -> AbstractContextManager[None]:
    """Set torch's number of threads for the gradient steps of a group of jobs."""
    _, n_decoded = _rows_per_step(jobs[0])
    return threads_for(len(jobs) * n_decoded * jobs[0].architecture.n_products)


def working_set(job: TrainingJob) -> int:
    """Bytes that a gradient step of a job reads and writes."""
    # weights, gradients and two moments; values and gradients of every layer, twice
    return _bytes(job, 4, 4 * sum(_rows_per_step(job)))


def memory_of_jobs(jobs: Sequence[TrainingJob]) -> int:
    """Bytes of jobs in gradient steps or in validation, beside rows that are in memory anyway."""
    valid = [job.valid for job in jobs if job.valid is not None]
    memory = Dataset.bytes_to_stack([job.train for job in jobs]) + Dataset.bytes_to_stack(valid)
    for job in jobs:
        n_rows = 0 if job.valid is None else len(job.valid)
        n_draws, n_together = validation_sizes(
            n_rows, job.config.objective.n_draws, job.architecture.widest
        )
        # the best weights and the mask of weight decay are kept beside the weights
        memory += working_set(job) + _bytes(job, 2, min(n_rows, n_together) * (1 + n_draws))
    return memory


def _rows_per_step(job: TrainingJob) -> tuple[int, int]:
    """Rows that pass through the encoder in a gradient step, and through the decoder."""
    n_rows = min(len(job.train), job.config.batch_size)
    return n_rows, n_rows * job.config.n_draws(len(job.train))


def _bytes(job: TrainingJob, n_weights: int, n_values: int) -> int:
    """Bytes of ``n_weights`` numbers per weight and ``n_values`` per feature of a network."""
    widths = sum(job.architecture.hidden_layer_sizes) + 2 * job.train.x.shape[1]
    n_numbers = n_weights * job.architecture.n_products + n_values * widths
    return job.train.x.dtype.itemsize * n_numbers


def validation_sizes(
    n_rows: int, per_value: int, widest: int, n_draws: int | None = None
) -> tuple[int, int]:
    """Draws of z per validation row, and rows that are validated at a time.

    The draws are a multiple of those of one bound (``per_value``); ``widest`` is the width of the
    widest layer.
    """
    default = 2 ** int(np.log2(np.clip(VALIDATION_DRAWS // max(n_rows, 1), 1, 16)))
    n_draws = -(-(n_draws or default) // per_value) * per_value
    at_a_time = min(VALIDATION_DRAWS_AT_A_TIME, VALIDATION_NUMBERS // widest)
    return n_draws, max(at_a_time // n_draws, 1)
