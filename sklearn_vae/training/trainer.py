"""The training loop: a skorch net with epochs of its own.

skorch brings the history, the callbacks and the order of events. An epoch here is a loop over
slices of a tensor in memory, without a record per batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from copy import copy
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer, PrintLog
from skorch.utils import TeeGenerator
from torch import Tensor

from sklearn_vae.models.vae import StackedModule
from sklearn_vae.networks.per_member import PerMember
from sklearn_vae.numerics.random import (
    Stream,
    make_generator,
    normal_rows,
    sobol_normal,
    stream_seed,
)
from sklearn_vae.numerics.rows import aligned, validation_sizes
from sklearn_vae.objectives import LossTerms, Minibatch
from sklearn_vae.system.compute import map_on_threads, threads_for
from sklearn_vae.training.dataset import CHUNK_ROWS, Dataset
from sklearn_vae.training.gradients import LossGradient
from sklearn_vae.training.interruption import keyboard
from sklearn_vae.training.jobs import TrainingConfig, TrainingJob, TrainingResult
from sklearn_vae.training.optimizer import (
    STAGES,
    ExponentialMovingAverage,
    FlatAdam,
    StageScheduler,
)


class Batch(NamedTuple):
    """Row indices (S, B) of one batch and standard normal noise (S, K, P, l).

    S is the number of members, or 1 if all have one seed. There are as many points P as rows, or in
    full-batch training ``batch_size``: then a row of weight 2 has the noise of two.
    """

    rows: Tensor
    noise: Tensor


class Trainer(NeuralNet):
    """A skorch net that trains the members of a stacked model, each by its ``TrainingJob``.

    Members that have finished are removed, so that the epochs of the rest take less time:
    ``members_`` are the indices of the others, and ``results_`` are those of the finished ones.
    What is in ``TrainingJob.shape`` is the same for all members, as batch size and objective.
    """

    def __init__(self, module: StackedModule, jobs: Sequence[TrainingJob], **kwargs: Any):
        # skorch calls the criterion to make criterion_
        make = partial(copy, jobs[0].config.objective)
        super().__init__(module, criterion=make, device=None, train_split=None, **kwargs)
        self.jobs = jobs
        self.configs = [job.config for job in jobs]

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        return [("epoch_timer", EpochTimer()), ("print_log", PrintLog())] if self.verbose else []

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> "Trainer":
        """Use ``FlatAdam`` in place of a torch optimizer."""
        self.optimizer_ = FlatAdam(self.module_, self.configs)
        return self

    # -- training --------------------------------------------------------------------

    def train(self, optimizer_state: dict[str, np.ndarray] | None = None) -> list[TrainingResult]:
        """Train all members, with early stopping by validation rows; return one result for each."""
        train = self.begin(optimizer_state)
        try:
            self.remove_finished(self.scheduler_.done)
            while len(self.members_) and self.train_epoch():
                pass
            self.remove_finished(np.ones(len(self.members_), dtype=bool))
        finally:
            self.notify("on_train_end", X=train, y=None)
        return [self.results_[member] for member in range(len(self.jobs))]

    def end(self) -> None:
        """End a training that was interrupted: results are those of its last complete epoch."""
        if len(self.members_):
            n_epochs = int(self.scheduler_.n_iter.sum(axis=1).max())
            del self.history[n_epochs:], self.records_[n_epochs:]
            self.remove_finished(np.ones(len(self.members_), dtype=bool))

    def begin(self, optimizer_state: dict[str, np.ndarray] | None = None) -> Dataset:
        """Prepare the first epoch; return the training rows of all members."""
        train = Dataset.stack([job.train for job in self.jobs])
        valids = [job.valid for job in self.jobs if job.valid is not None]
        valid = Dataset.stack(valids) if valids else None
        self.initialize()
        if optimizer_state is not None:
            self.optimizer_.load_state_dict(optimizer_state)
        model, configs = self.module_, self.configs
        self.train_, self.valid_, self.n_rows_ = train, valid, len(train)
        self.validation_noise_: dict[tuple[int, ...], Tensor] = {}
        self.members_ = np.arange(len(configs))
        self.results_: dict[int, TrainingResult] = {}
        self.records_: list[dict[str, np.ndarray]] = []
        self.scheduler_ = StageScheduler(configs, model.flat)
        self._update_members()
        self.inputs_ = self._gradient.impute_inputs(train)
        # the noise of a row is then that of its copies, whose number may be given as a weight
        self.ranks_ = train.ranks() if len(train) <= configs[0].batch_size else None
        decay = configs[0].ema_decay
        self.ema_ = ExponentialMovingAverage(model.flat, decay) if decay else None
        if valid is not None:
            is_active = ~self.scheduler_.done
            self.scheduler_.update_best(is_active, self.validate(valid)[0], model.flat)
        # training has diverged if the loss exceeds the first one by so many nats
        margin = 100 + 10 * model.architecture.n_columns
        self.max_loss_ = self.validate(train, is_quick=True)[0] + margin
        self.notify("on_train_begin", X=train, y=None)
        return train

    def train_epoch(self) -> bool:
        """Train for one epoch; return False if a callback stops the training."""
        train, valid, model, scheduler = self.train_, self.valid_, self.module_, self.scheduler_
        self.notify("on_epoch_begin", dataset_train=train, dataset_valid=valid)
        epoch = self.configs[0].first_epoch + len(self.history) - 1
        self.beta_ = np.array([config.beta(epoch) for config in self._configs], dtype=float)
        is_last_stage = scheduler.stage == len(STAGES) - 1
        is_homoscedastic = np.array([config.is_homoscedastic for config in self._configs])
        self._gradient.freeze_scales(is_homoscedastic & ~is_last_stage)
        self.optimizer_.lrs = scheduler.learning_rates()
        self.optimizer_.begin_epoch()
        self.records_.append({})
        self._record(beta=self.beta_, learning_rate=self.optimizer_.learning_rates())
        loss = self._record_losses("", self._train_on_batches(train, epoch), train)
        if self.ema_ is not None:
            self.ema_.apply(model.flat)
        val_loss = None
        if valid is not None:
            val_loss = self._record_losses("val_", self.validate(valid), valid)
        loss = np.where(self._has_diverged(loss), np.nan, loss)
        is_annealing = self.beta_ != self.final_beta_
        ended = scheduler.step(loss, val_loss, model.flat, is_annealing=is_annealing)
        if self.ema_ is not None:
            self.ema_.restore(model.flat, ended)
        self.optimizer_.reset(ended & ~scheduler.done)
        goes_on = self._notify_epoch_end(train, valid)
        self.remove_finished(scheduler.done)
        return goes_on

    def remove_finished(self, finished: np.ndarray) -> None:
        """Store the results of some members (M,) and continue without them."""
        removed, remaining = np.flatnonzero(finished), np.flatnonzero(~finished)
        if len(removed) == 0:
            return
        with torch.no_grad():
            self.module_.flat[removed] = self.scheduler_.best_params[removed]
        for index in removed.tolist():
            self.results_[int(self.members_[index])] = self._result_of(index)
        self.members_ = self.members_[remaining]
        if len(remaining):
            indices = torch.as_tensor(remaining).to(self.module_.flat.device)
            parts: list[Any] = [self.module_, self.optimizer_, self.scheduler_, self.ema_]
            for part in parts:
                if part is not None:
                    part.select(indices)
            self.train_ = self.train_.select(indices)
            self.valid_, self.inputs_ = (
                None if rows is None else rows.select(indices)
                for rows in (self.valid_, self.inputs_)
            )
            self.max_loss_ = self.max_loss_[remaining]
            self._update_members()
        else:  # the results hold all parameters: rows and buffers can be freed
            del self.train_, self.valid_, self.inputs_, self._gradient

    def _result_of(self, index: int) -> TrainingResult:
        """Return the result of one member, whose best parameters are in the model.

        Its iterations follow those of the previous training, if any.
        """
        scheduler, member = self.scheduler_, int(self.members_[index])
        if not scheduler.best_params[index].isfinite().all():
            raise FloatingPointError("The weights that training started from are not finite.")
        job, n_epochs = self.jobs[member], int(scheduler.n_iter[index].sum())
        previous, skorchs_own = job.previous, {"epoch", "batches"}
        rows = zip(self.history[:n_epochs], self.records_, strict=False)
        history = [
            {
                "iteration": iteration,
                **{name: value for name, value in row.items() if name not in skorchs_own},
                **{name: values[member].item() for name, values in record.items()},
                "refit": job.is_refit,
            }
            for iteration, (row, record) in enumerate(rows, start=len(previous.history) + 1)
        ]
        last_loss = history[-1]["loss"] if history else np.inf
        return TrainingResult(
            weights=self.module_.weights(index),
            n_iter_per_stage=tuple(scheduler.best_n_iter[index].tolist()),
            loss=float(last_loss if self.valid_ is None else scheduler.best_loss[index]),
            history=[*previous.history, *history],
            diverged=bool(scheduler.diverged[index]) or previous.diverged,
            starts_finite=bool(np.isfinite(self.max_loss_[index])),
            n_steps=previous.n_steps + len(history) * job.config.n_steps(len(job.train)),
        )

    def _update_members(self) -> None:
        """Update all that depends on which members are in training."""
        self._configs = [self.configs[member] for member in self.members_.tolist()]
        self.final_beta_ = np.array([config.beta(config.max_iter - 1) for config in self._configs])
        self._gradient = LossGradient(self.module_, self.criterion_)

    # -- epochs ----------------------------------------------------------------------

    @torch.no_grad()
    def _train_on_batches(self, train: Dataset, epoch: int) -> np.ndarray:
        """Take the steps of one epoch; return mean losses (3, M), NaN for broken parameters."""
        flat = self.module_.flat
        self._epoch_beta = torch.as_tensor(self.beta_).to(flat)
        total = flat.new_zeros(len(LossTerms._fields), len(flat))
        config, architecture = self.configs[0], self.module_.architecture
        seeds = [config.seed for config in self._configs]
        batches = iterate_batches(config, seeds, epoch, train, architecture.n_noise)
        _, n_decoded = config.rows_per_step(len(train))
        with ExitStack() as stack:
            stack.enter_context(threads_for(len(flat) * n_decoded * architecture.n_products))
            for side, network in enumerate((self.module_.encoder, self.module_.decoder)):
                if isinstance(network, PerMember):
                    stack.enter_context(network.dropout(seeds, epoch, side))
            for batch in batches:
                total += self.train_step(train, batch)
        # 0 * sum is not finite where a parameter is not, though the last loss may still be
        return (total / config.n_steps(len(train)) + 0 * flat.sum(1)).double().cpu().numpy()

    def train_step(self, train: Dataset, batch: Batch) -> Tensor:
        """Take one gradient step for all members; return their loss terms (3, M)."""
        (rows, noise), model = batch, self.module_
        if self.ranks_ is not None:
            ranks = self.ranks_[rows + train.first_row.unsqueeze(1)]  # (M, B)
            noise = noise.take_along_dim(ranks[:, None, :, None], dim=2)
        x, weight = train.take(rows)
        encoder_input = None if self.inputs_ is None else self.inputs_.take(rows)[0]
        minibatch = Minibatch(x, weight, noise, encoder_input, self.n_rows_)
        terms = self._gradient(minibatch, self._epoch_beta)
        named = TeeGenerator(model.named_parameters())
        self.notify("on_grad_computed", named_parameters=named, batch=batch, training=True)
        self.optimizer_.step()
        if self.ema_ is not None:
            self.ema_.update(model.flat)
        return terms

    @torch.no_grad()
    def validate(self, valid: Dataset, *, is_quick: bool = False) -> np.ndarray:
        """Compute each member's mean loss terms ``LossTerms._fields`` at the final beta: (3, M).

        The draws of z are Sobol points by the seed. Few rows share them; many have a few of their
        own each, whose errors average out. If quick, it is one draw for each of the first rows.
        """
        model, objective, configs = self.module_, self.criterion_, self._configs
        n_rows = min(len(valid), 1024) if is_quick else len(valid)
        n_draws, n_points, n_together = validation_sizes(
            n_rows, objective.n_draws, model.architecture.widest, 1 if is_quick else None
        )
        noise = [self._validation_noise(config, n_draws, n_points) for config in configs]
        beta = torch.as_tensor(self.final_beta_).to(model.flat)
        rows = torch.arange(n_rows, device=model.flat.device)
        chunks: Sequence[Tensor] = rows.split(n_together)
        if objective.uses_aggregated_posterior:  # every chunk is then a sample of all rows
            chunks = [rows[first :: len(chunks)] for first in range(len(chunks))]

        @torch.no_grad()
        def evaluate(chunk: Tensor) -> np.ndarray:
            x, weight = valid.take(chunk.unsqueeze(0))
            draws = torch.stack([points[:, chunk % n_points] for points in noise])
            terms = objective(model, Minibatch(x, weight, draws, n_rows=self.n_rows_), beta)
            return torch.stack(terms).cpu().numpy() * (len(chunk) / n_rows)

        is_thread_safe = rows.device.type == "cpu" and model.architecture.is_thread_safe
        total = np.zeros((len(LossTerms._fields), len(configs)))
        for terms in list(map_on_threads(evaluate, chunks, is_thread_safe=is_thread_safe)):
            total += terms
        return total

    def _validation_noise(self, config: TrainingConfig, n_draws: int, n_points: int) -> Tensor:
        """Sobol points of a member, for rows in turn: (n_draws, n_points, n_noise)."""
        seed = config.seed if config.validation_seed is None else config.validation_seed
        key = seed, n_draws, n_points
        if key not in self.validation_noise_:
            n_noise = self.module_.architecture.n_noise
            points = sobol_normal(n_points * n_draws, n_noise, stream_seed(seed, Stream.VALIDATION))
            noise = torch.as_tensor(points).view(n_points, n_draws, n_noise)
            self.validation_noise_[key] = noise.to(self.module_.flat).movedim(1, 0)
        return self.validation_noise_[key]

    def _has_diverged(self, loss: np.ndarray) -> np.ndarray:
        """Find members that have diverged, and did not only take a step by an outlier: (M,)."""
        has_diverged = ~(loss < self.max_loss_)
        if (has_diverged & np.isfinite(loss)).any():
            of_first_rows = self.validate(self.train_, is_quick=True)[0]
            has_diverged &= ~(np.isfinite(loss) & (of_first_rows < self.max_loss_))
        return has_diverged

    # -- records ---------------------------------------------------------------------

    def _record(self, **values: np.ndarray) -> None:
        """Record numbers of the members in training (M,), and their means in skorch's history."""
        for name, numbers in values.items():
            of_all = np.full(len(self.jobs), np.nan)
            of_all[self.members_] = numbers
            self.records_[-1][name] = of_all
            self.history.record(name, float(numbers.mean()))

    def _record_losses(self, prefix: str, means: np.ndarray, rows: Dataset) -> np.ndarray:
        """Record mean loss terms (3, M) in X's units; return the losses of the encoded rows."""
        loss, reconstruction, kl = means
        in_units = loss + rows.loss_offset, reconstruction + rows.loss_offset, kl
        names = (prefix + name for name in LossTerms._fields)
        self._record(**dict(zip(names, in_units, strict=True)))
        return loss

    def _notify_epoch_end(self, train: Dataset, valid: Dataset | None) -> bool:
        """Call the callbacks at the end of an epoch; return False if one stops the training."""
        try:
            self.notify("on_epoch_end", dataset_train=train, dataset_valid=valid)
        except KeyboardInterrupt:  # raised by skorch callbacks to stop the training
            if keyboard.was_pressed:
                raise
            return False
        except KeyError as error:  # skorch's callbacks look for its own names, as "valid_loss"
            names = sorted(name for name in self.history[-1] if name != "batches")
            error.add_note(f"Names in net.history[-1] are {', '.join(map(repr, names))}.")
            raise
        return True


def iterate_batches(
    config: TrainingConfig, seeds: Sequence[int], epoch: int, table: Dataset, n_components: int
) -> Iterator[Batch]:
    """Yield the batches of one epoch: passes over the rows, each in a new random order.

    All have one size, so that one may end a pass and begin the next. Each member's seed and the
    number of the epoch determine order and noise, which has ``n_components`` dimensions.
    """
    n_rows, like = len(table), table.like
    n_steps, n_batches = config.n_steps(n_rows), -(-n_rows // config.batch_size)
    size = min(aligned(-(-n_rows // n_batches)), config.batch_size, n_rows)
    members = seeds
    seeds = list(dict.fromkeys(members))
    indices = [seeds.index(seed) for seed in members] if len(seeds) > 1 else slice(None)
    generators = [make_generator(seed, Stream.ROWS, epoch) for seed in seeds]
    orders = _orders(generators, n_rows, table.rows_per_window or n_rows)
    rows = torch.empty(len(seeds), 0, dtype=torch.long)
    n_draws = config.objective.n_draws
    length = n_draws * (config.batch_size if n_batches == 1 else size)
    steps_per_block = max(CHUNK_ROWS // length, 1)
    for block, first in enumerate(range(0, n_steps, steps_per_block)):
        n_steps_of_block = min(steps_per_block, n_steps - first)
        generators = [make_generator(seed, Stream.NOISE, epoch, block) for seed in seeds]
        n_numbers, n_rows_of_block = length * n_steps_of_block, size * n_steps_of_block
        of_seeds = [normal_rows(n_components, n_numbers, g, like.dtype).T for g in generators]
        noise = torch.stack(of_seeds).to(like.device)  # (S, draws of all batches, l)
        while rows.shape[1] < n_rows_of_block:
            rows = torch.cat([rows, next(orders)], dim=1)
        of_block, rows = rows.tensor_split([n_rows_of_block], dim=1)
        row_batches, noise_batches = of_block.to(like.device).split(size, 1), noise.split(length, 1)
        for batch, draws in zip(row_batches, noise_batches, strict=True):
            noise_of_seeds = draws.view(len(seeds), n_draws, -1, n_components)
            yield Batch(batch[indices], noise_of_seeds[indices])


def _orders(
    generators: Sequence[torch.Generator], n_rows: int, rows_per_window: int
) -> Iterator[Tensor]:
    """Yield the indices (S, n) of windows of rows in random orders, pass after pass."""
    for first in cycle(range(0, n_rows, rows_per_window)):
        n_shuffled = min(rows_per_window, n_rows - first)
        orders = [torch.randperm(n_shuffled, generator=generator) for generator in generators]
        yield first + torch.stack(orders)
