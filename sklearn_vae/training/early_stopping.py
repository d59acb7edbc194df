"""Learning-rate scheduler with early stopping, for each ensemble member."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from sklearn_vae.training.jobs import TrainingConfig

# Learning rate of each stage, as a factor of the first.
STAGES = (1.0, 0.3, 0.1)
# Maximum number of epochs of each stage, as a fraction of max_iter.
STAGE_FRACTIONS = (0.5, 0.25, 0.25)
# Least decrease of the validation loss that counts as improvement, in nats per row.
TOL = 1e-3
# Most epochs that one epoch counts for when its loss is far above the lowest.
MAX_EPOCHS_PER_EPOCH = 4
# Epochs without improvement after which a stage ends, as a fraction of the patience.
PATIENCE_FRACTIONS = (1.0, 0.5, 0.5)


class StageScheduler:
    """Lowers each member's learning rate in stages and keeps its best parameters.

    A stage ends after its maximum number of epochs, when the loss diverges, or when the validation
    loss has not improved for ``patience`` epochs, half of them after the first stage. The next one
    then starts from the best parameters. Checkpoints hold all attributes, with members in front.
    """

    def __init__(self, configs: Sequence[TrainingConfig], params: Tensor):
        n_members = len(params)
        self.initial_lr = np.array([config.learning_rate for config in configs])
        self.patience = np.array([config.patience for config in configs])
        self.rise = np.array([config.rise for config in configs])
        self.max_n_iter = np.array(
            [config.n_iter_per_stage or split_stages(config.max_iter) for config in configs]
        )
        self.stage = np.zeros(n_members, dtype=int)  # len(STAGES) when training has finished
        self.best_loss = np.full(n_members, np.inf)  # of validation
        # the loss that reset the counter, and epochs since; those of a far higher loss count more
        self.patience_loss = np.full(n_members, np.inf)
        self.patience_counter = np.zeros(n_members)
        self.best_params = params.clone()  # without validation rows, the last finite ones
        # epochs in each stage: all, those that lead to the current parameters, and to the best ones
        self.n_iter = np.zeros((n_members, len(STAGES)), dtype=int)
        self.current_n_iter = self.n_iter.copy()
        self.best_n_iter = self.n_iter.copy()
        self.diverged = np.zeros(n_members, dtype=bool)  # whether a loss was ever not finite
        self._end_stages(np.zeros(n_members, dtype=bool))

    @property
    def done(self) -> np.ndarray:
        """Mask of the members that have finished training: (M,)."""
        return self.stage >= len(STAGES)

    def learning_rates(self) -> np.ndarray:
        """Return each member's learning rate, 0 if it has finished: (M,)."""
        return self.initial_lr * np.append(STAGES, 0.0)[self.stage]

    def select(self, members: Tensor) -> None:
        """Remove all members except these."""
        indices = members.cpu().numpy()
        for name, value in vars(self).items():
            setattr(self, name, value[members if isinstance(value, Tensor) else indices])

    def step(
        self,
        loss: np.ndarray,
        val_loss: np.ndarray | None,
        params: Tensor,
        *,
        is_annealing: np.ndarray | bool = False,
    ) -> np.ndarray:
        """Update stages and best parameters after an epoch; return whose stage ended: (M,).

        The training loss (M,) is not finite for members that diverged. Their parameters (M, P) are
        reset to the best ones, with validation rows also those of members whose stage ended. While
        beta still changes (``is_annealing``), no epoch counts towards the patience.
        """
        is_active = ~self.done
        members = np.flatnonzero(is_active)
        self.n_iter[members, self.stage[members]] += 1
        self.current_n_iter[members, self.stage[members]] += 1
        has_diverged = is_active & ~np.isfinite(loss)
        self.diverged |= has_diverged
        self.update_best(is_active & ~has_diverged, val_loss, params)
        self.patience_counter[is_annealing] = 0
        patience = np.ceil(self.patience * np.append(PATIENCE_FRACTIONS, 1.0)[self.stage])
        is_out_of_patience = is_active & (self.patience_counter >= patience)
        ended = self._end_stages(has_diverged | is_out_of_patience)
        is_reset = ended if val_loss is not None else has_diverged
        params[is_reset] = self.best_params[is_reset]
        self.current_n_iter[is_reset] = self.best_n_iter[is_reset]
        return ended

    def update_best(self, members: np.ndarray, val_loss: np.ndarray | None, params: Tensor) -> None:
        """Store parameters of members (M,) with their lowest validation loss; count patience."""
        is_best = members
        if val_loss is not None:
            is_best = members & (val_loss < self.best_loss)
            self.best_loss = np.where(is_best, val_loss, self.best_loss)
            has_improved = members & (val_loss < self.patience_loss - TOL)
            self.patience_loss = np.where(has_improved, val_loss, self.patience_loss)
            with np.errstate(invalid="ignore"):  # losses that are not finite count as one epoch
                risen = np.nan_to_num((val_loss - self.best_loss) / self.rise, posinf=0.0)
            n_epochs = np.minimum(1 + risen, MAX_EPOCHS_PER_EPOCH)
            self.patience_counter = np.where(has_improved, 0, self.patience_counter + n_epochs)
        self.best_params[is_best] = params[is_best]
        self.best_n_iter[is_best] = self.current_n_iter[is_best]

    def _end_stages(self, ended: np.ndarray) -> np.ndarray:
        """Start the next stage of some members, and of all that have had their epochs."""
        previous = self.stage.copy()
        self.stage = self.stage + (ended & ~self.done)
        members = np.arange(len(self.stage))
        for _ in STAGES:  # a stage may have no epochs
            stage = np.minimum(self.stage, len(STAGES) - 1)
            is_full = self.n_iter[members, stage] >= self.max_n_iter[members, stage]
            self.stage = self.stage + (is_full & ~self.done)
        has_ended = self.stage > previous
        self.patience_counter[has_ended] = 0
        return has_ended


def split_stages(max_iter: int) -> tuple[int, ...]:
    """Divide ``max_iter`` epochs among the stages, rounding up the earlier ones."""
    ends = np.ceil(np.cumsum(STAGE_FRACTIONS) * max_iter).astype(int)
    return tuple(np.diff(ends, prepend=0).tolist())
