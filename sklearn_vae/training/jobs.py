"""A training job is one model to train by its configuration; its result is weights and losses."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from sklearn_vae.models.architecture import Architecture
from sklearn_vae.objectives import OBJECTIVES, KLWeight, Objective, Schedule
from sklearn_vae.training.dataset import Dataset, draw_halves

# Minimum number of gradient steps in an epoch.
MIN_STEPS = 25
# Iterations and learning rate of further training on all rows, relative to the first training.
REFIT_ITERATIONS, REFIT_RATE = 0.2, 0.3


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters of a member's training run."""

    seed: int  # of all random streams
    max_iter: int  # epochs, at most
    batch_size: int  # rows in a batch, at most
    learning_rate: float  # Adam's, in the first stage
    beta: Schedule  # weight of the KL divergence by epoch
    # epochs without improvement that end the first stage; half as many end a later one
    patience: int
    weight_decay: float = 0.0  # of the weight matrices, decoupled
    # an epoch is one pass over the rows, or several where a pass has fewer gradient steps
    min_steps_per_epoch: int = MIN_STEPS
    n_iter_per_stage: tuple[int, ...] | None = None  # by default, fractions of ``max_iter``
    # height of the validation loss above its minimum, in nats, for which an epoch without
    # improvement counts more by one; it counts at most four
    rise: float = math.inf
    first_epoch: int = 0  # batches and noise depend on the number of the epoch
    validation_seed: int | None = None  # shared by runs that are compared; by default ``seed``
    objective: Objective = OBJECTIVES["elbo"]
    # decay per step of the moving average (EMA) of parameters that validation uses; 0 is no average
    ema_decay: float = 0.0
    # gradient clipping: maximum ratio of the gradient's norm to its running root mean square
    max_grad_norm_ratio: float = 10.0
    # whether the decoder's scales do not depend on z before the last stage: on a curved manifold
    # they would otherwise fit single rows before the means fit the manifold
    is_homoscedastic: bool = False

    def __post_init__(self) -> None:
        for name in ("max_iter", "batch_size", "patience"):  # numpy's int8 may overflow
            object.__setattr__(self, name, int(getattr(self, name)))

    def n_steps(self, n_rows: int) -> int:
        """Return the number of gradient steps in an epoch over ``n_rows`` rows."""
        return max(-(-n_rows // self.batch_size), self.min_steps_per_epoch)

    def rows_per_step(self, n_rows: int) -> tuple[int, int]:
        """Return the rows that a gradient step encodes, and those that it decodes, at most."""
        n_encoded = min(n_rows, self.batch_size)
        return n_encoded, n_encoded * self.objective.n_draws


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training job."""

    weights: dict[str, np.ndarray]  # the best ones, with a member axis of length 1
    n_iter_per_stage: tuple[int, ...] = ()  # until the best weights
    loss: float = np.inf  # of validation; without validation rows, the last one of training
    history: list[dict[str, Any]] = field(default_factory=list)  # one record per iteration
    diverged: bool = False  # whether a loss was ever not finite or far above its start
    starts_finite: bool = True  # whether the loss was finite before the first step
    n_steps: int = 0  # of the iterations in ``history``


def stack_weights(results: Sequence[TrainingResult]) -> dict[str, np.ndarray]:
    """Stack the weights of members, by name, along the member axis."""
    weights = [result.weights for result in results]
    return {name: np.concatenate([each[name] for each in weights]) for name in weights[0]}


@dataclass(frozen=True)
class TrainingJob:
    """One model to train on one table."""

    architecture: Architecture
    config: TrainingConfig
    train: Dataset
    valid: Dataset | None = None  # for early stopping
    steps: np.ndarray | None = None  # (n,): columns' recording steps, which give least scales
    # None initializes at probabilistic PCA of the training rows
    weights: dict[str, np.ndarray] | None = None
    is_random: bool = False  # whether multilayer perceptrons are initialized at random instead
    is_refit: bool = False  # whether this is the second training, on all rows
    # of the same model, whose history this one continues
    previous: TrainingResult = TrainingResult({})

    def refit(self, result: TrainingResult, rows: Dataset) -> Self:
        """Make the job that trains on all rows: further, or anew if the best weights came soon.

        The initialization then gains more by all rows.
        """
        is_long = sum(result.n_iter_per_stage) >= 20
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
            beta=KLWeight(config.beta(n_iter)),
        )
        job = replace(self, config=config, train=rows, valid=None, is_refit=True)
        return replace(job, weights=result.weights, previous=result)

    def halve(self, rows: Dataset) -> list[Self]:
        """Make the jobs of two halves of the rows, each with the other one for validation.

        They have half of the iterations, as they have fewer rows to learn from.
        """
        config = replace(self.config, max_iter=max(self.config.max_iter // 2, 1))
        first, second = (rows.subset(half) for half in draw_halves(len(rows), self.config.seed))
        pairs = (first, second), (second, first)
        return [replace(self, config=config, train=train, valid=valid) for train, valid in pairs]

    def join(self, results: Sequence[TrainingResult], rows: Dataset) -> Self:
        """Make the job that trains on all rows, for as many iterations as both halves together.

        Of many, the better half's are its first ones; a start soon after the initialization gains
        more by all rows.
        """
        first, second = sorted(results, key=lambda result: result.loss)
        n_first, n_iter = (np.array(each.n_iter_per_stage) for each in (first, second))
        is_long = n_first.sum() + n_iter.sum() >= self.config.max_iter
        n_iter += 0 if is_long else n_first
        config = replace(self.config, n_iter_per_stage=tuple(n_iter.tolist()))
        job = replace(self, config=config, train=rows, valid=None, is_refit=True, previous=first)
        return replace(job, weights=first.weights if is_long else None)

    @property
    def shape(self) -> Hashable:
        """Key of jobs that can be trained as members of one stacked model."""
        config, n_rows = self.config, len(self.train)
        return (
            (self.architecture, config.objective, config.ema_decay, config.max_grad_norm_ratio),
            (n_rows, config.batch_size, config.n_steps(n_rows), config.first_epoch),
            None if self.valid is None else len(self.valid),
            (self.train.weight is None, self.train.x.dtype, self.train.like.device),
            None if self.train.rows_per_window is None else id(self.train.x),
            None if self.weights is None else tuple(w.shape for w in self.weights.values()),
        )
