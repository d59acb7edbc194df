"""Hyperparameters of a training run."""

import math
from dataclasses import dataclass

from sklearn_vae.objectives import OBJECTIVES, Objective, Schedule

# Draws of z per step that all rows share in full-batch training: with draws of its own, a row of
# weight 2 would not equal two rows. Antithetic draws cancel the gradients at the initialization
# up to rounding errors, which Adam amplifies.
SHARED_DRAWS = 4


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters of a member's training run.

    Attributes
    ----------
    seed : int
        Seed of all random streams.
    max_iter : int
        Maximum number of epochs.
    min_steps_per_epoch : int
        Minimum number of gradient steps in an epoch. An epoch is one pass over the rows, or
        several where a pass has fewer steps.
    batch_size : int
        Maximum number of rows in a batch.
    learning_rate : float
        Adam's learning rate in the first stage.
    weight_decay : float
        Decoupled weight decay of the weight matrices.
    beta : callable
        Weight of the KL divergence as a function of the epoch.
    patience : int
        Number of epochs without improvement after which the first stage ends; half of it ends a
        later one.
    tol : float
        Minimum decrease of the validation loss, in nats, that counts as improvement.
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
        Objective to maximise.
    ema_decay : float, default=0.0
        Decay per step of the exponential moving average (EMA) of the parameters; 0 is no
        average. Validation and early stopping use the averaged parameters.
    max_grad_norm_ratio : float, default=10.0
        Gradient clipping: maximum ratio of the gradient's norm to its running root mean square.
    input_noise : float, default=0.0
        Standard deviation of Gaussian noise added to the encoder's input in training. The
        likelihood is that of the row without noise.
    input_mask : float, default=0.0
        Probability with which each cell of the encoder's input is set to 0 in training.
    is_homoscedastic : bool, default=False
        Whether the decoder's scales do not depend on z before the last stage. On a curved
        manifold they would otherwise fit single rows before the means fit the manifold.
    """

    seed: int
    max_iter: int
    min_steps_per_epoch: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    beta: Schedule
    patience: int
    tol: float
    n_iter_per_stage: tuple[int, ...] | None = None
    rise: float = math.inf
    first_epoch: int = 0
    validation_seed: int | None = None
    objective: Objective = OBJECTIVES["elbo"]
    ema_decay: float = 0.0
    max_grad_norm_ratio: float = 10.0
    input_noise: float = 0.0
    input_mask: float = 0.0
    is_homoscedastic: bool = False

    def n_steps(self, n_rows: int) -> int:
        """Return the number of gradient steps in an epoch over ``n_rows`` rows."""
        return max(-(-n_rows // self.batch_size), self.min_steps_per_epoch)

    def is_full_batch(self, n_rows: int) -> bool:
        """Return whether every batch is the whole dataset; its rows then share draws of z."""
        return n_rows <= self.batch_size

    def n_draws(self, n_rows: int) -> int:
        """Return the number of draws of z per row and step."""
        n_draws = self.objective.n_draws
        return n_draws * -(-SHARED_DRAWS // n_draws) if self.is_full_batch(n_rows) else n_draws
