"""Many runs at once: those whose models have one shape are trained as members of a fleet.

Runs differ as they like in rows, seeds, latent sizes and everything that a plan holds;
what decides the shape of the program (widths, kinds of columns, lengths of tables and
batches, precision) decides which fleet a run rides in.
"""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from sklearn_vae.device import threads_for
from sklearn_vae.initialization.ppca import LinearGaussian
from sklearn_vae.models.vae import build
from sklearn_vae.objectives import LossState
from sklearn_vae.random import Stream, make_generator, sample_categorical
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.initialize import starts
from sklearn_vae.training.run import RunResult, TrainingRun
from sklearn_vae.training.trainer import Trainer

# Bytes that a fleet works on in a step: what stays in the last cache before memory.
WORKING_SET = 16 << 20
# Bytes that a fleet may hold, beside rows that are in memory anyway.
MEMORY = 256 << 20


def train(runs: Sequence[TrainingRun], **kwargs: Any) -> list[RunResult]:
    """Train all runs, as few fleets as their shapes and the cache allow.

    Parameters
    ----------
    runs : sequence of TrainingRun
        What to train.
    **kwargs
        For the trainer: callbacks, verbose.

    Returns
    -------
    list of Outcome
        One per run, in their order. Each is what the run alone would have led to.
    """
    outcomes: list[Any] = [None] * len(runs)
    for places in fleets_of(runs):
        own = [runs[place] for place in places]
        with speed_for(own):
            found = launch(own, **kwargs).train(*tables_of(own))
        for place, outcome in zip(places, found, strict=True):
            outcomes[place] = outcome
    return outcomes


def fleets_of(runs: Sequence[TrainingRun]) -> Iterator[list[int]]:
    """Divide runs into fleets, by shape, cache and memory; yield the places of each one's."""
    alike: dict[Hashable, list[int]] = {}
    for place, run in enumerate(runs):
        alike.setdefault(run.shape, []).append(place)
    for places in alike.values():
        most = max(WORKING_SET // max(runs[place].working_set for place in places), 1)
        n_fleets = -(-len(places) // most)
        for part in np.array_split(places, n_fleets):
            yield from _halves(part.tolist(), runs)


def _halves(places: list[int], runs: Sequence[TrainingRun]) -> Iterator[list[int]]:
    """Halve a fleet until it holds no more than it may."""
    if len(places) == 1 or memory_of([runs[place] for place in places]) <= MEMORY:
        yield places
        return
    middle = len(places) // 2
    yield from _halves(places[:middle], runs)
    yield from _halves(places[middle:], runs)


def memory_of(runs: Sequence[TrainingRun]) -> int:
    """About how many bytes a fleet holds, beside rows that are in memory anyway."""
    train = Dataset.bytes_to_stack([run.train for run in runs])
    valid = Dataset.bytes_to_stack([run.valid for run in runs if run.valid is not None])
    return train + valid + sum(run.memory for run in runs)


def launch(runs: Sequence[TrainingRun], **kwargs: Any) -> Trainer:
    """Make the trainer of one fleet, its members at their start."""
    largest = max(runs, key=lambda run: run.architecture.n_components)
    sizes = [run.architecture.n_components for run in runs]
    like = runs[0].train.x[:0]
    model = build(largest.architecture, len(runs), sizes).to(like)
    model.flatten()
    start = starts(max(sizes))
    rows = []
    for member, run in enumerate(runs):
        if run.weights is None:
            own = start(run)
            model.reset_parameters(member, run.config.seed)
            model.initialize(member, own)
            if run.is_random:
                model.initialize_at_prior(member, own, run.config.seed)
            rows.append(_spread_rows(run, own, model.prior.n_rows))
        else:
            model.load(run.weights, member)
    if rows and model.prior.n_rows:
        model.initialize_prior(torch.stack(rows))
    objective = runs[0].config.objective
    state = LossState(
        free_bits=_per_member([run.free_bits for run in runs], like),
        pseudo_observations=_per_member([run.prior_rows for run in runs], like),
    )
    return Trainer(model, [run.config for run in runs], objective, state, **kwargs)


def tables_of(runs: Sequence[TrainingRun]) -> tuple[Dataset, Dataset | None]:
    """Stack the tables of one fleet."""
    valid = [run.valid for run in runs if run.valid is not None]
    return Dataset.stack([run.train for run in runs]), Dataset.stack(valid) if valid else None


@contextmanager
def speed_for(runs: Sequence[TrainingRun]) -> Iterator[None]:
    """Set torch up for the steps of one fleet."""
    with threads_for(len(runs) * runs[0].batch_rows * sum(runs[0].architecture.layers)):
        yield


def _per_member(values: list[float], like: torch.Tensor) -> float | torch.Tensor:
    """One number per member, or none at all where all are zero."""
    return like.new_tensor(values) if any(values) else 0.0


def _spread_rows(run: TrainingRun, start: LinearGaussian, n_rows: int) -> torch.Tensor:
    """Draw rows of a run's table, evenly along its first principal axis: (n_rows, n_columns).

    They are drawn by quantile: a row of weight 2 is as two rows.
    """
    if n_rows == 0:
        return run.train.x[:0]
    everything = torch.arange(len(run.train), device=run.train.x.device)
    x, weight = run.train.take(everything.unsqueeze(0))
    x = x.nan_to_num()
    along = torch.as_tensor(start.posterior_weights[:, 0]).to(x)
    order = (x[0, :, : len(along)] @ along).argsort()
    counts = torch.ones(len(order)) if weight is None else weight[0, order].cpu()
    ends = counts.double().cumsum(0)
    generator = make_generator(run.config.seed, Stream.PRIOR)
    chance = torch.rand(n_rows, generator=generator, dtype=torch.double)
    places = (torch.arange(n_rows) + chance) / n_rows * ends[-1]
    chosen = sample_categorical(ends, places)
    return x[0, order[chosen.to(order.device)]]
