"""Many runs at once: those whose models have one shape are trained as members of a fleet.

Runs differ as they like in rows, seeds, latent sizes and everything that a plan holds;
what decides the shape of the program (widths, kinds of columns, lengths of tables and
batches, precision) decides which fleet a run rides in.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from sklearn_vae.device import onednn_for, threads_for
from sklearn_vae.model import VAE, Architecture
from sklearn_vae.objectives import ELBO
from sklearn_vae.start import LinearStart, Spectrum
from sklearn_vae.training.plan import SHARED_DRAWS, Plan, Table
from sklearn_vae.training.trainer import Outcome, Trainer

# Bytes that a fleet works on in a step: what stays in the last cache before memory.
WORKING_SET = 16 << 20


@dataclass(frozen=True)
class Run:
    """One training of one model.

    Attributes
    ----------
    architecture : Architecture
        Shapes of its weights.
    plan : Plan
        How it is trained.
    train : Table
        Rows to learn from.
    valid : Table or None
        Rows that say when to stop.
    free_bits, prior_rows : float
        What the objective takes.
    weights : dict of ndarray or None
        Where to go on from; None starts at probabilistic PCA of the rows.
    """

    architecture: Architecture
    plan: Plan
    train: Table
    valid: Table | None
    free_bits: float
    prior_rows: float
    weights: dict[str, np.ndarray] | None = None

    @property
    def shape(self) -> Hashable:
        """What runs must have in common to be computed as one program."""
        rows = len(self.train)
        return (
            replace(self.architecture, n_components=0),
            (rows, self.plan.batch_size, self.plan.n_steps(rows), self.plan.first_iteration),
            None if self.valid is None else len(self.valid),
            (self.train.weight is None, self.train.x.dtype, self.train.x.device),
            None if self.weights is None else id(self.weights),
        )

    @property
    def batch_rows(self) -> int:
        """Rows that pass through the decoder in a step."""
        if self.plan.shares_noise(len(self.train)):
            return len(self.train) * SHARED_DRAWS
        return self.plan.batch_size

    @property
    def working_set(self) -> int:
        """About how many bytes a step reads and writes."""
        layers = self.architecture.layers
        widths = 2 * sum(self.architecture.hidden_layer_sizes) + 4 * self.train.x.shape[1]
        # weights, gradients and two moments; values and gradients of every layer, twice
        return self.train.x.element_size() * (4 * sum(layers) + 4 * self.batch_rows * widths)


def train(runs: Sequence[Run], **kwargs: Any) -> list[Outcome]:
    """Train all runs, as few fleets as their shapes and the cache allow.

    Parameters
    ----------
    runs : sequence of Run
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


def fleets_of(runs: Sequence[Run]) -> Iterator[list[int]]:
    """Divide runs into fleets; yield the places of each one's."""
    alike: dict[Hashable, list[int]] = {}
    for place, run in enumerate(runs):
        alike.setdefault(run.shape, []).append(place)
    for places in alike.values():
        most = max(WORKING_SET // max(runs[place].working_set for place in places), 1)
        n_fleets = -(-len(places) // most)
        for part in np.array_split(places, n_fleets):
            yield part.tolist()


def launch(runs: Sequence[Run], **kwargs: Any) -> Trainer:
    """Make the trainer of one fleet, its members at their start."""
    largest = max(runs, key=lambda run: run.architecture.n_components)
    sizes = [run.architecture.n_components for run in runs]
    like = runs[0].train.x
    model = VAE(largest.architecture, len(runs), sizes).to(like)
    model.flatten()
    start = _starts(max(sizes))
    for member, run in enumerate(runs):
        if run.weights is None:
            model.draw(member, run.plan.seed)
            model.start_at(member, start(run))
        else:
            model.load(run.weights)
    objective = ELBO(
        _per_member([run.free_bits for run in runs], like),
        _per_member([run.prior_rows for run in runs], like),
    )
    return Trainer(model, [run.plan for run in runs], objective, **kwargs)


def tables_of(runs: Sequence[Run]) -> tuple[Table, Table | None]:
    """Stack the tables of one fleet."""
    valid = [run.valid for run in runs if run.valid is not None]
    return Table.stack([run.train for run in runs]), Table.stack(valid) if valid else None


@contextmanager
def speed_for(runs: Sequence[Run]) -> Iterator[None]:
    """Set torch up for the steps of one fleet."""
    layers = runs[0].architecture.layers
    rows = runs[0].batch_rows
    with (
        threads_for(len(runs) * rows * sum(layers)),
        onednn_for(runs[0].train.x.device, rows * sum(layers) / len(layers)),
    ):
        yield


def _per_member(values: list[float], like: torch.Tensor) -> float | torch.Tensor:
    """One number per member, or none at all where all are zero."""
    return like.new_tensor(values) if any(values) else 0.0


def _starts(n_components: int) -> Callable[[Run], LinearStart]:
    """Give probabilistic PCA of each run's rows; runs on the same rows share its axes."""
    spectra: dict[int, Spectrum] = {}

    def start(run: Run) -> LinearStart:
        key = id(run.train)
        if key not in spectra:
            spectra[key] = Spectrum.of(*run.train.arrays(), n_components)
        return spectra[key].start(run.architecture.n_components, run.prior_rows)

    return start
