"""Batches of an epoch: rows in random order, and noise of the latent variables."""

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_vae.numerics.random import Stream, make_generator, normal_rows
from sklearn_vae.numerics.rows import aligned
from sklearn_vae.training.jobs import TrainingConfig

# Noise is drawn for about this many rows at a time.
NOISE_ROWS = 1 << 14


class Batch(NamedTuple):
    """Row indices (S, B) of one batch and standard normal noise (S, K, P, l).

    S is the number of members, or 1 if all have one seed. There are as many points P as rows, or in
    full-batch training ``batch_size``: then a row of weight 2 has the noise of two.
    """

    rows: Tensor
    noise: Tensor


def iterate_batches(
    config: TrainingConfig,
    seeds: Sequence[int],
    epoch: int,
    n_rows: int,
    n_components: int,
    like: Tensor,
    rows_per_window: int | None = None,
) -> Iterator[Batch]:
    """Yield the batches of one epoch: passes over the rows, each in a new random order.

    All have one size, so that one may end a pass and begin the next. Each member's seed and the
    number of the epoch determine order and noise, which has ``n_components`` dimensions, and dtype
    and device of ``like``. ``rows_per_window`` neighbouring rows are shuffled, by default all.
    """
    n_steps, n_batches = config.n_steps(n_rows), -(-n_rows // config.batch_size)
    size = min(aligned(-(-n_rows // n_batches)), config.batch_size, n_rows)
    members = seeds
    seeds = list(dict.fromkeys(members))
    indices = [seeds.index(seed) for seed in members] if len(seeds) > 1 else slice(None)
    generators = [make_generator(seed, Stream.ROWS, epoch) for seed in seeds]
    batch_rows = _batch_rows(generators, n_rows, rows_per_window or n_rows, size, like.device)
    n_draws = config.objective.n_draws
    length = n_draws * (config.batch_size if n_batches == 1 else size)
    steps_per_block = max(NOISE_ROWS // length, 1)
    for block, first in enumerate(range(0, n_steps, steps_per_block)):
        n_numbers = length * min(steps_per_block, n_steps - first)
        generators = [make_generator(seed, Stream.NOISE, epoch, block) for seed in seeds]
        of_seeds = [normal_rows(n_components, n_numbers, g, like.dtype).T for g in generators]
        noise = torch.stack(of_seeds).to(like.device)  # (S, draws of all batches, l)
        for draws in noise.split(length, dim=1):
            noise_of_seeds = draws.view(len(seeds), n_draws, -1, n_components)
            yield Batch(next(batch_rows)[indices], noise_of_seeds[indices])


def _batch_rows(
    generators: Sequence[torch.Generator],
    n_rows: int,
    rows_per_window: int,
    size: int,
    device: torch.device,
) -> Iterator[Tensor]:
    """Yield the row indices of batches (S, size): windows in random orders, pass after pass."""
    windows = cycle(range(0, n_rows, rows_per_window))
    rows = torch.empty(len(generators), 0, dtype=torch.long, device=device)
    while True:
        while rows.shape[1] < size:
            first = next(windows)
            n_shuffled = min(rows_per_window, n_rows - first)
            orders = [torch.randperm(n_shuffled, generator=generator) for generator in generators]
            rows = torch.cat([rows, (first + torch.stack(orders)).to(device)], dim=1)
        yield rows[:, :size]
        rows = rows[:, size:]
