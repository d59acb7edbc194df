"""Where training stands: stages, the best weights so far and the way to them."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from sklearn_vae.training.config import TrainingConfig

# Learning rates as shares of the first: each stage starts from the best weights so far.
STAGES = (1.0, 0.3, 0.1)
# Shares of max_iter that the stages get at the most.
STAGE_SHARES = (0.5, 0.25, 0.25)


class StageScheduler:
    """Where each member stands: its stage, its best weights and the way to them.

    A stage ends when it has had its iterations, when the validation loss has stopped
    falling, or when a loss is not finite. The next one starts from the best weights so
    far with a smaller step.

    Parameters
    ----------
    configs : sequence of TrainingConfig
        Each member's run.
    flat : Tensor of shape (M, P)
        The weights to start from.

    Attributes
    ----------
    stage : ndarray of shape (M,)
        Number of the stage, ``len(STAGES)`` for a member that is done.
    best : ndarray of shape (M,)
        Lowest validation loss so far.
    best_flat : Tensor of shape (M, P)
        Its weights; without validation rows, the last ones that were finite.
    best_path : ndarray of shape (M, n_stages)
        Iterations in each stage that lead to them.
    diverged : ndarray of shape (M,)
        Whether a loss was ever not finite.
    """

    def __init__(self, configs: Sequence[TrainingConfig], flat: Tensor):
        n_members = len(flat)
        self.learning_rate = np.array([config.learning_rate for config in configs])
        self.patience = np.array([config.patience for config in configs])
        self.tol = np.array([config.tol for config in configs])
        self.lengths = np.array(
            [config.n_iter_per_stage or split_stages(config.max_iter) for config in configs]
        )
        self.stage = np.zeros(n_members, dtype=int)
        self.best = np.full(n_members, np.inf)
        self.reference = np.full(n_members, np.inf)
        self.best_flat = flat.clone()
        self.spent = np.zeros((n_members, len(STAGES)), dtype=int)
        self.path = self.spent.copy()
        self.best_path = self.spent.copy()
        self.wait = np.zeros(n_members, dtype=int)
        self.diverged = np.zeros(n_members, dtype=bool)
        self._leave(np.zeros(n_members, dtype=bool))

    @property
    def done(self) -> np.ndarray:
        """Which members have nothing left to do."""
        return self.stage >= len(STAGES)

    def rates(self) -> np.ndarray:
        """Step size of each member, 0 for those that are done."""
        return self.learning_rate * np.append(STAGES, 0.0)[self.stage]

    def keep(self, members: Tensor) -> None:
        """Go on with these members only."""
        own = members.cpu().numpy()
        for name, value in vars(self).items():
            setattr(self, name, value[members if isinstance(value, Tensor) else own])

    def advance(
        self,
        loss: np.ndarray,
        val_loss: np.ndarray | None,
        flat: Tensor,
        *,
        warming_up: np.ndarray | bool = False,
    ) -> np.ndarray:
        """Take note of an iteration that is over.

        Parameters
        ----------
        loss : ndarray of shape (M,)
            Training loss; not finite where the member has diverged.
        val_loss : ndarray of shape (M,) or None
            Validation loss.
        flat : Tensor of shape (M, P)
            Weights; those of a member that diverged, or with validation rows of any whose
            stage ended, are set back to its best.
        warming_up : ndarray of shape (M,) or bool, default=False
            Whether the KL has not its final weight yet: patience waits for it.

        Returns
        -------
        ndarray of shape (M,)
            Which members' stage ended.
        """
        running = ~self.done
        members = np.flatnonzero(running)
        self.spent[members, self.stage[members]] += 1
        self.path[members, self.stage[members]] += 1
        bad = running & ~np.isfinite(loss)
        self.diverged |= bad
        self.keep_best(running & ~bad, val_loss, flat)
        self.wait[np.broadcast_to(warming_up, self.wait.shape)] = 0
        ended = self._leave(bad | (running & (self.wait >= self.patience)))
        back = ended if val_loss is not None else bad
        flat[back] = self.best_flat[back]
        self.path[back] = self.best_path[back]
        return ended

    def keep_best(self, members: np.ndarray, val_loss: np.ndarray | None, flat: Tensor) -> None:
        """Keep the weights of those members that are better than ever."""
        if val_loss is None:
            better = members
        else:
            better = members & (val_loss < self.best)
            self.best = np.where(better, val_loss, self.best)
            gained = members & (val_loss < self.reference - self.tol)
            self.reference = np.where(gained, val_loss, self.reference)
            self.wait = np.where(gained, 0, self.wait + 1)
        self.best_flat[better] = flat[better]
        self.best_path[better] = self.path[better]

    def _leave(self, ended: np.ndarray) -> np.ndarray:
        """Move on the members whose stage has ended, over stages without iterations too."""
        before = self.stage.copy()
        self.stage = self.stage + (ended & ~self.done)
        for _ in STAGES:
            here = np.minimum(self.stage, len(STAGES) - 1)
            members = np.arange(len(here))
            over = self.spent[members, here] >= self.lengths[members, here]
            self.stage = self.stage + (over & ~self.done)
        moved = self.stage > before
        self.wait[moved] = 0
        return moved


def split_stages(max_iter: int) -> tuple[int, ...]:
    """Divide the iterations among the stages, the earlier ones first."""
    ends = np.ceil(np.cumsum(STAGE_SHARES) * max_iter).astype(int)
    return tuple(np.diff(ends, prepend=0).tolist())
