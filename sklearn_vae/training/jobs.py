"""A training job is one model to train by its configuration; its result is weights and losses."""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from sklearn_vae.models.architecture import Architecture
from sklearn_vae.objectives import OBJECTIVES, Constant, Objective, Schedule
from sklearn_vae.training.dataset import Dataset

# Minimum number of gradient steps in an epoch.
MIN_STEPS = 25
# Iterations and learning rate of further training on all rows, relative to the first training.
# After fewer iterations a model is trained anew: its initialization gains more by all rows.
REFIT_ITERATIONS = 0.2
REFIT_RATE = 0.3
MIN_ITERATIONS_TO_CONTINUE = 20


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters of a member's training run.

    Attributes
    ----------
    seed : int
        Seed of all random streams.
    max_iter : int
        Maximum number of epochs.
    batch_size : int
        Maximum number of rows in a batch.
    learning_rate : float
        Adam's learning rate in the first stage.
    beta : callable
        Weight of the KL divergence as a function of the epoch.
    patience : int
        Number of epochs without improvement after which the first stage ends; half of it ends a
        later one.
    weight_decay : float, default=0.0
        Decoupled weight decay of the weight matrices.
    min_steps_per_epoch : int, default=25
        Minimum number of gradient steps in an epoch. An epoch is one pass over the rows, or
        several where a pass has fewer steps.
    rise : float, default=inf
        Height of the validation loss above its minimum, in nats, for which an epoch without
        improvement counts more by one; it counts at most four.
    n_iter_per_stage : tuple of int, optional
        Maximum number of epochs of each learning-rate stage; by default, fractions of
        ``max_iter``.
    first_epoch : int, default=0
        Number of the first epoch. Batches and noise depend on the epoch's number, so that a
        resumed run draws the same ones.
    validation_seed : int, optional
        Seed of the validation noise, shared by the runs that are compared; by default ``seed``.
    objective : Objective, default=ELBO()
        Objective to maximize.
    ema_decay : float, default=0.0
        Decay per step of the exponential moving average (EMA) of the parameters; 0 is no
        average. Validation and early stopping use the averaged parameters.
    max_grad_norm_ratio : float, default=10.0
        Gradient clipping: maximum ratio of the gradient's norm to its running root mean square.
    is_homoscedastic : bool, default=False
        Whether the decoder's scales do not depend on z before the last stage. On a curved
        manifold they would otherwise fit single rows before the means fit the manifold.
    """

    seed: int
    max_iter: int
    batch_size: int
    learning_rate: float
    beta: Schedule
    patience: int
    weight_decay: float = 0.0
    min_steps_per_epoch: int = MIN_STEPS
    n_iter_per_stage: tuple[int, ...] | None = None
    rise: float = math.inf
    first_epoch: int = 0
    validation_seed: int | None = None
    objective: Objective = OBJECTIVES["elbo"]
    ema_decay: float = 0.0
    max_grad_norm_ratio: float = 10.0
    is_homoscedastic: bool = False

    def n_steps(self, n_rows: int) -> int:
        """Return the number of gradient steps in an epoch over ``n_rows`` rows."""
        return max(-(-n_rows // self.batch_size), self.min_steps_per_epoch)

    def is_full_batch(self, n_rows: int) -> bool:
        """Return whether every batch is the whole dataset."""
        return n_rows <= self.batch_size

    def rows_per_step(self, n_rows: int) -> tuple[int, int]:
        """Return the rows that a gradient step encodes, and those that it decodes, at most."""
        n_encoded = min(n_rows, self.batch_size)
        return n_encoded, n_encoded * self.objective.n_draws


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training job.

    Attributes
    ----------
    weights : dict of ndarray
        The best weights, by name, with a member axis of length 1.
    n_iter_per_stage : tuple of int
        Iterations in each learning-rate stage until the best weights.
    loss : float
        Validation loss of the best weights; without validation rows, the last training loss.
    history : list of dict
        One record per iteration.
    diverged : bool
        Whether a loss was ever not finite or far above its start.
    starts_finite : bool
        Whether the loss was finite before the first step.
    n_steps : int
        Gradient steps of the iterations in ``history``.
    """

    weights: dict[str, np.ndarray]
    n_iter_per_stage: tuple[int, ...] = ()
    loss: float = np.inf
    history: list[dict[str, Any]] = field(default_factory=list)
    diverged: bool = False
    starts_finite: bool = True
    n_steps: int = 0


@dataclass(frozen=True)
class TrainingJob:
    """One model to train on one table.

    Attributes
    ----------
    architecture : Architecture
        Shapes of the weights.
    config : TrainingConfig
        Hyperparameters of the training.
    train : Dataset
        Training rows.
    valid : Dataset or None
        Validation rows, for early stopping.
    steps : ndarray of shape (n_columns,) or None
        Recording steps of the columns, by which new weights get least scales.
    weights : dict of ndarray or None
        Initial weights; None initializes at probabilistic PCA of the training rows.
    is_random : bool
        Whether multilayer perceptrons are initialized at random instead.
    is_refit : bool
        Whether this is the second training, on all rows.
    previous : TrainingResult or None
        Result of an earlier training of the same model, whose history this one continues.
    """

    architecture: Architecture
    config: TrainingConfig
    train: Dataset
    valid: Dataset | None = None
    steps: np.ndarray | None = None
    weights: dict[str, np.ndarray] | None = None
    is_random: bool = False
    is_refit: bool = False
    previous: TrainingResult | None = None

    def refit(self, result: TrainingResult, rows: Dataset) -> Self:
        """Make the job that trains on all rows: further, or anew if the best weights came soon.

        Models that are homoscedastic until the last stage are trained anew, too.
        """
        is_long = sum(result.n_iter_per_stage) >= MIN_ITERATIONS_TO_CONTINUE
        if is_long and not self.config.is_homoscedastic:
            return self.continue_on(result, rows)
        config = replace(self.config, n_iter_per_stage=result.n_iter_per_stage)
        return replace(self, config=config, train=rows, valid=None, is_refit=True, previous=result)

    def continue_on(self, result: TrainingResult, rows: Dataset) -> Self:
        """Make the job that trains a result further on all rows, for a share of its iterations."""
        config, n_iter = self.config, sum(result.n_iter_per_stage)
        config = replace(
            config,
            learning_rate=REFIT_RATE * config.learning_rate,
            n_iter_per_stage=(math.ceil(REFIT_ITERATIONS * n_iter), 0, 0),
            beta=Constant(config.beta(n_iter)),
        )
        job = replace(self, config=config, train=rows, valid=None, is_refit=True)
        return replace(job, weights=result.weights, previous=result)

    def finish(self, result: TrainingResult) -> TrainingResult:
        """Complete a trainer's result: number its iterations, add those of ``previous``.

        skorch's own columns of the history are left out.
        """
        previous = TrainingResult({}) if self.previous is None else self.previous
        skorchs_own = {"epoch", "batches"}
        records = [
            {
                "iteration": iteration,
                **{name: value for name, value in row.items() if name not in skorchs_own},
                "refit": self.is_refit,
            }
            for iteration, row in enumerate(result.history, start=len(previous.history) + 1)
        ]
        return replace(
            result,
            history=[*previous.history, *records],
            diverged=result.diverged or previous.diverged,
            n_steps=previous.n_steps + len(records) * self.config.n_steps(len(self.train)),
        )

    @property
    def shape(self) -> Hashable:
        """Key of jobs that can be trained as members of one stacked model."""
        n_rows, architecture = len(self.train), self.architecture
        if architecture.supports_padding:
            architecture = replace(architecture, n_components=0)
        return (
            (architecture, self.config.objective),
            (n_rows, self.config.batch_size, self.config.n_steps(n_rows), self.config.first_epoch),
            None if self.valid is None else len(self.valid),
            (self.train.weight is None, self.train.x.dtype, self.train.like.device),
            None if self.train.rows_per_window is None else id(self.train.x),
            None if self.weights is None else tuple(w.shape for w in self.weights.values()),
        )
