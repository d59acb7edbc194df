"""Training: skorch's frame around epochs of our own.

skorch brings the history, the callbacks and the order of events. The data sit in
memory as one tensor, so an epoch here is a bare loop over slices of a permutation:
no per-row indexing, no per-batch record, one number read back per epoch.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, PrintLog
from torch import Tensor

from sklearn_vae.model import VAE
from sklearn_vae.objectives import ELBO, Schedule, Terms
from sklearn_vae.optimizer import FlatAdam
from sklearn_vae.randomness import Stream, make_generator, normal_rows, sobol_normal, stream_seed

# Learning rates as shares of the first: each stage starts from the best weights so far.
STAGES = (1.0, 0.3, 0.1)
# Without validation rows the stages get these shares of max_iter.
STAGE_SHARES = (0.5, 0.25, 0.25)
# Draws of z that all rows share when every step sees the whole table: with noise of
# their own, a row of weight 2 would not be two rows. No mirror images: they make the
# gradients at the start vanish but for rounding, which Adam then blows up.
SHARED_DRAWS = 4
# Noise is drawn for about this many rows at a time.
NOISE_ROWS = 1 << 16
# Draws of z for all validation rows together, and rows that are validated at a time.
VALIDATION_DRAWS = 4096
VALIDATION_ROWS = 4096


@dataclass
class Table:
    """Encoded rows in memory.

    Attributes
    ----------
    x : Tensor of shape (n, n_columns)
        The rows.
    weight : Tensor of shape (n,) or None
        What each counts, 1 on average.
    offset : float
        What is to be added to a row's loss to have it in X's own units.
    """

    x: Tensor
    weight: Tensor | None = None
    offset: float = 0.0
    total: float = 1.0

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Give rows (M, B) of the table: (M, B, n_columns) and their weights (M, B)."""
        x = self.x.index_select(0, rows.flatten()).unflatten(0, rows.shape)
        return x, None if self.weight is None else self.weight[rows]


@dataclass(frozen=True)
class Plan:
    """Everything that decides a run beside the model and the rows.

    Attributes
    ----------
    seed : int
        What all draws follow from.
    max_iter : int
        Iterations at the most.
    n_steps, batch_size : int
        Gradient steps in an iteration and rows in a step, at the most.
    learning_rate, weight_decay : float
        Adam's step size; the share by which the networks' matrices shrink, per step and
        unit of step size.
    beta : callable
        Weight of the KL by iteration.
    patience, tol : int, float
        A stage ends after so many iterations without a gain of tol nats on the
        validation rows.
    stage_lengths : tuple of int, optional
        Iterations of each stage; required where there are no validation rows.
    shares_noise : bool
        Whether the rows of a step share their draws of z.
    first_iteration : int
        Number of the first iteration, by which it draws its order and noise.
    """

    seed: int
    max_iter: int
    n_steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    beta: Schedule
    patience: int
    tol: float
    stage_lengths: tuple[int, ...] | None = None
    shares_noise: bool = False
    first_iteration: int = 0


class Step(NamedTuple):
    """Rows (M, B) of one gradient step and the noise (M, K, B or 1, l) of their codes."""

    rows: Tensor
    noise: Tensor


def steps_of(
    plan: Plan, iteration: int, n_rows: int, n_components: int, like: Tensor
) -> Iterator[Step]:
    """Yield the steps of one iteration: passes over the rows, each in a new order.

    Parameters
    ----------
    plan : Plan
        The run.
    iteration : int
        Its number, which with the plan's seed decides order and noise.
    n_rows, n_components : int
        Rows of the table and latent dimensions.
    like : Tensor
        A tensor of the type and on the device that the noise is needed in.

    Yields
    ------
    Step
        A last batch is never dropped: the batches of a pass differ by one row at most.
    """
    batches = _batches(plan, n_rows, make_generator(plan.seed, Stream.ROWS, iteration), like.device)
    for block in count():
        some = list(islice(batches, max(NOISE_ROWS // plan.batch_size, 1)))
        if not some:
            return
        n_draws = [SHARED_DRAWS if plan.shares_noise else len(rows) for rows in some]
        generator = make_generator(plan.seed, Stream.NOISE, iteration, block)
        noise = normal_rows(n_components, sum(n_draws), generator, like.dtype).to(like.device)
        for rows, own in zip(some, noise.split(n_draws, dim=1), strict=True):
            yield Step(rows.unsqueeze(0), _arrange(own, shared=plan.shares_noise))


def _batches(
    plan: Plan, n_rows: int, order: torch.Generator, device: torch.device
) -> Iterator[Tensor]:
    n_batches = -(-n_rows // plan.batch_size)
    for first in range(0, plan.n_steps, n_batches):
        rows = torch.randperm(n_rows, generator=order).to(device)
        yield from rows.tensor_split(n_batches)[: plan.n_steps - first]


def _arrange(noise: Tensor, *, shared: bool) -> Tensor:
    """(l, draws) -> (1, K, 1, l) for draws that the rows share, else (1, 1, B, l)."""
    if shared:
        return noise.T[None, :, None, :]
    return noise.T[None, None]


class Course:
    """Where each member stands: its stage, its best weights and the way to them.

    A stage ends when it has had its iterations, when the validation loss has stopped
    falling, or when a loss is not finite. The next one starts from the best weights so
    far with a smaller step.

    Parameters
    ----------
    plan : Plan
        The run.
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

    def __init__(self, plan: Plan, flat: Tensor):
        n_members = len(flat)
        self.plan = plan
        self.lengths = np.array(plan.stage_lengths or split_stages(plan.max_iter))
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
        return self.plan.learning_rate * np.append(STAGES, 0.0)[self.stage]

    def advance(self, loss: np.ndarray, val_loss: np.ndarray | None, flat: Tensor) -> np.ndarray:
        """Take note of an iteration that is over.

        Parameters
        ----------
        loss : ndarray of shape (M,)
            Training loss; not finite where the member has diverged.
        val_loss : ndarray of shape (M,) or None
            Validation loss.
        flat : Tensor of shape (M, P)
            Weights; those of a member whose stage ended are set back to its best.

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
        ended = self._leave(bad | (running & (self.wait >= self.plan.patience)))
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
            gained = members & (val_loss < self.reference - self.plan.tol)
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
            over = self.spent[np.arange(len(here)), here] >= self.lengths[here]
            self.stage = self.stage + (over & ~self.done)
        moved = self.stage > before
        self.wait[moved] = 0
        return moved


def split_stages(max_iter: int) -> tuple[int, ...]:
    """Divide the iterations among the stages, the earlier ones first."""
    ends = np.ceil(np.cumsum(STAGE_SHARES) * max_iter).astype(int)
    return tuple(np.diff(ends, prepend=0).tolist())


class Trainer(NeuralNet):
    """A skorch net that trains a ``VAE`` by a ``Plan``.

    Parameters
    ----------
    module : VAE
        The model, with the weights to start from.
    plan : Plan
        The run.
    objective : ELBO
        What to minimise.
    **kwargs
        skorch's own: callbacks, verbose.
    """

    def __init__(self, module: VAE, plan: Plan, objective: ELBO, **kwargs: Any):
        super().__init__(
            module, criterion=type(objective), device=None, train_split=None, **kwargs
        )
        self.plan = plan
        self.objective = objective

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [("epoch_timer", EpochTimer()), ("print_log", PrintLog())] if self.verbose else []

    def initialize_criterion(self) -> "Trainer":
        """Take the objective as it is."""
        self.criterion_ = self.objective
        return self

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> "Trainer":
        """Put our Adam in place of torch's."""
        self.optimizer_ = FlatAdam(self.module_, self.plan.learning_rate, self.plan.weight_decay)
        return self

    def train(
        self, train: Table, valid: Table | None = None, moments: dict[str, Any] | None = None
    ) -> Course:
        """Run the plan; the model ends with the best weights.

        Parameters
        ----------
        train : Table
            Rows to learn from.
        valid : Table, optional
            Rows whose loss says when to stop and which weights are best.
        moments : dict, optional
            State of the optimizer to go on from.

        Returns
        -------
        Course
            How it went.
        """
        self.initialize()
        if moments is not None:
            self.optimizer_.load_state_dict(moments)
        self.notify("on_train_begin", X=train, y=None)
        try:
            self.fit_loop(train, valid)
        finally:
            self.notify("on_train_end", X=train, y=None)
        return self.course_

    def fit_loop(
        self, X: Table, y: Table | None = None, epochs: int | None = None, **fit_params: Any
    ) -> "Trainer":
        """Iterate until every member is done or a callback has had enough."""
        train, valid, model = X, y, self.module_
        self.course_ = course = Course(self.plan, model.flat)
        self.beta_ = self.final_beta_ = self.plan.beta(self.plan.max_iter - 1)
        if valid is not None:
            course.keep_best(~course.done, self.validate(valid).loss, model.flat)
        while not course.done.all():
            self.notify("on_epoch_begin", dataset_train=train, dataset_valid=valid)
            self.beta_ = self.plan.beta(len(self.history) - 1)
            self.optimizer_.lrs = course.rates()
            terms = self.run_single_epoch(train, training=True, prefix="", step_fn=self.train_step)
            val_loss = None
            if valid is not None:
                val_loss = self.run_single_epoch(
                    valid, training=False, prefix="val_", step_fn=self.validate
                ).loss
            if self.beta_ != self.final_beta_:
                course.wait[:] = 0
            finite = model.flat.sum(1).isfinite().cpu().numpy()
            loss = np.where(finite, terms.loss, np.nan)
            self.optimizer_.restart(course.advance(loss, val_loss, model.flat))
            if not self._goes_on(train, valid):
                break
        self._settle()
        return self

    def run_single_epoch(
        self, iterator: Table, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> Terms:
        """Train on, or validate, one table and record the means of its losses."""
        if training:
            iteration = self.plan.first_iteration + len(self.history) - 1
            n_components = self.module_.architecture.n_components
            steps = steps_of(self.plan, iteration, len(iterator), n_components, self.module_.flat)
            sizes, terms = zip(
                *((step.rows.shape[1], torch.stack(step_fn(iterator, step))) for step in steps),
                strict=True,
            )
            share = torch.tensor(sizes, dtype=terms[0].dtype, device=terms[0].device)
            mean = torch.einsum("s,stm->tm", share / share.sum(), torch.stack(terms))  # (3, M)
            means = Terms(*mean.cpu().numpy())
        else:
            means = step_fn(iterator)
        for name, value in zip(means._fields[:3], means, strict=False):
            self.history.record(prefix + name, float(value.mean()) + self._offset(name, iterator))
        return means

    def train_step(self, batch: Table, step: Step) -> Terms:  # type: ignore[override]
        """Take one gradient step for all members."""
        x, weight = batch.take(step.rows)
        self.optimizer_.zero_grad()
        terms = self.criterion_(self.module_, x, weight, step.noise, self.beta_)
        (terms.loss + terms.penalty).sum().backward()
        self.optimizer_.step()
        return Terms(*(term.detach() for term in terms))

    @torch.no_grad()
    def validate(self, valid: Table) -> Terms:
        """Mean losses of a table at the final beta, with the same noise every time."""
        flat, n_components = self.module_.flat, self.module_.architecture.n_components
        n_draws = 2 ** int(np.log2(np.clip(VALIDATION_DRAWS // len(valid), 1, 16)))
        seed = stream_seed(self.plan.seed, Stream.VALIDATION)
        noise = torch.as_tensor(sobol_normal(n_draws, n_components, seed)).to(flat)  # (K, l)
        total = np.zeros((len(Terms._fields), len(flat)))
        for rows in torch.arange(len(valid), device=flat.device).split(VALIDATION_ROWS):
            x, weight = valid.take(rows.expand(len(flat), -1))
            terms = self.criterion_(
                self.module_, x, weight, noise[None, :, None, :], self.final_beta_
            )
            total += torch.stack(terms).cpu().numpy() * (len(rows) / len(valid))
        return Terms(*total)

    def _offset(self, name: str, table: Table) -> float:
        return 0.0 if name == "kl_loss" else table.offset

    def _goes_on(self, train: Table, valid: Table | None) -> bool:
        """Tell the callbacks that an iteration is over, and whether none wants to stop."""
        try:
            self.notify("on_epoch_end", dataset_train=train, dataset_valid=valid)
        except KeyboardInterrupt:  # as skorch's own callbacks stop a training
            return False
        return True

    def _settle(self) -> None:
        """Take the best weights, and warn if a loss was ever not finite."""
        with torch.no_grad():
            self.module_.flat.copy_(self.course_.best_flat)
        if not self.module_.flat.isfinite().all():
            raise FloatingPointError("The weights to start from are not finite.")
        if self.course_.diverged.any():
            warnings.warn(
                f"Training diverged (a loss was not finite) with learning_rate="
                f"{self.plan.learning_rate}. The last good weights were kept and training went "
                f"on with a smaller step; a smaller learning_rate avoids this.",
                ConvergenceWarning,
                stacklevel=4,
            )
