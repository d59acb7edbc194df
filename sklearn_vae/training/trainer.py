"""skorch's frame around iterations of our own.

skorch brings the history, the callbacks and the order of events. The data sit in
memory as one tensor, so an iteration here is a bare loop over slices of a permutation:
no per-row indexing, no per-batch record, one number read back per iteration.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer
from torch import Tensor

from sklearn_vae.models.stacked import StackedModule
from sklearn_vae.models.vae import INPUT_CLIP, VAE
from sklearn_vae.networks import MLP
from sklearn_vae.objectives import REPORTED, LossState, Minibatch, Objective
from sklearn_vae.random import Stream, make_generator, sobol_normal, stream_seed
from sklearn_vae.training.config import TrainingConfig
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.early_stopping import StageScheduler
from sklearn_vae.training.gradients import Gradient, gradient_of
from sklearn_vae.training.keyboard_interrupt import keyboard
from sklearn_vae.training.optimizer import FlatAdam
from sklearn_vae.training.printing import PrintIterations
from sklearn_vae.training.run import RunResult, validation_draws, validation_rows
from sklearn_vae.training.sampler import Batch, iterate_batches

# Rows whose loss at the start says what a loss that has diverged would be.
ROWS_FOR_LIMIT = 1024
# A loss that is so many nats above its start, and so many more per column, has diverged.
DIVERGED = 100.0
DIVERGED_PER_COLUMN = 10.0


class Trainer(NeuralNet):
    """A skorch net that trains the members of a model, each by its ``TrainingConfig``.

    Members that are done leave, so that the others go on faster.

    Parameters
    ----------
    module : StackedModule
        The model, with the weights to start from.
    configs : sequence of TrainingConfig
        Each member's run. They agree in batches and in steps per iteration.
    objective : Objective
        Computes the loss.
    loss_state : LossState, default=LossState()
        Free bits and pseudo-observations of each member.
    is_refit : bool, default=False
        Whether this is the second training, on all rows; ``verbose`` prints it.
    **kwargs
        skorch's own: callbacks, verbose.

    Attributes
    ----------
    members_ : ndarray
        Numbers of the members that are still here.
    outcomes_ : dict of int to RunResult
        What became of those that have left.
    """

    def __init__(
        self,
        module: StackedModule,
        configs: Sequence[TrainingConfig],
        objective: Objective,
        loss_state: LossState | None = None,
        is_refit: bool = False,
        **kwargs: Any,
    ):
        super().__init__(module, criterion=type(objective), device=None, train_split=None, **kwargs)
        self.configs = configs
        self.objective = objective
        self.loss_state = loss_state or LossState()
        self.is_refit = is_refit

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        if not self.verbose:
            return []
        return [("epoch_timer", EpochTimer()), ("print_log", PrintIterations())]

    def initialize_criterion(self) -> "Trainer":
        """Take the objective as it is."""
        self.criterion_ = self.objective
        return self

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> "Trainer":
        """Put our Adam in place of torch's."""
        rates = np.array([config.learning_rate for config in self.configs])
        decays = np.array([config.weight_decay for config in self.configs])
        longest = min(config.max_grad_norm_ratio for config in self.configs)
        self.optimizer_ = FlatAdam(self.module_, rates, decays, longest)
        return self

    # -- the run ---------------------------------------------------------------------

    def train(
        self, train: Dataset, valid: Dataset | None = None, moments: dict[str, Any] | None = None
    ) -> list[RunResult]:
        """Run the plans to their end.

        Parameters
        ----------
        train : Dataset
            Rows to learn from.
        valid : Dataset, optional
            Rows whose loss says when to stop and which weights are best.
        moments : dict, optional
            State of the optimizer to go on from.

        Returns
        -------
        list of Outcome
            One per member.
        """
        self.begin(train, valid, moments)
        try:
            self.fit_loop(train, valid)
        finally:
            self.notify("on_train_end", X=train, y=None)
        return [self.outcomes_[member] for member in range(len(self.configs))]

    def begin(
        self, train: Dataset, valid: Dataset | None = None, moments: dict[str, Any] | None = None
    ) -> None:
        """Get ready for the first iteration."""
        self.initialize()
        if moments is not None:
            self.optimizer_.load_state_dict(moments)
        model, configs = self.module_, self.configs
        self.train_, self.valid_ = train, valid
        self.loss_state_ = replace(self.loss_state, n_rows=len(train))
        self.members_ = np.arange(len(configs))
        self.outcomes_: dict[int, RunResult] = {}
        self.records_: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
        self.course_ = StageScheduler(configs, model.flat)
        self._take_stock()
        self.beta_ = self.final_beta_
        averages = any(config.ema_decay for config in configs)
        self.average_: Tensor | None = model.flat.clone() if averages else None
        self._hears_gradients = any(
            type(listener).on_grad_computed is not Callback.on_grad_computed
            for _, listener in self.callbacks_
        )
        if valid is not None:
            running = ~self.course_.done
            self.course_.keep_best(running, self.validate(valid)[0], model.flat)
        self.limit_ = self._loss_of_first_rows() + self._margin
        low, high = train.x.aminmax() if train.x.numel() else (0.0, 0.0)
        self.is_far_ = bool(max(-low, high) > INPUT_CLIP)
        self.notify("on_train_begin", X=train, y=None)

    def fit_loop(
        self, X: Dataset, y: Dataset | None = None, epochs: int | None = None, **fit_params: Any
    ) -> "Trainer":
        """Iterate until every member is done or a callback has had enough."""
        self.advance()
        self.leave(np.ones(len(self.members_), dtype=bool))
        return self

    def advance(self, n_iterations: int | None = None) -> None:
        """Iterate until so many iterations are done, all by default."""
        self.leave(self.course_.done)
        while len(self.members_) and (n_iterations is None or len(self.history) < n_iterations):
            if not self.iterate():
                break

    @torch.no_grad()
    def result_of(self, member: int) -> RunResult:
        """Tell what a member has come to, whether it has left or not."""
        if member in self.outcomes_:
            return self.outcomes_[member]
        (place,) = np.flatnonzero(self.members_ == member).tolist()
        own = self.module_.flat[place]
        current = own.clone()
        own.copy_(self.course_.best_flat[place])
        outcome = self._outcome(place)
        own.copy_(current)
        return outcome

    def iterate(self) -> bool:
        """Do one iteration; tell whether the callbacks want to go on."""
        train, valid, model, course = self.train_, self.valid_, self.module_, self.course_
        self.notify("on_epoch_begin", dataset_train=train, dataset_valid=valid)
        self.beta_ = self._betas(self._iteration)
        model.begin_iteration(self._iteration)
        self._held_slopes = self._slopes_to_hold()
        rates = course.rates()
        if (rates != self.optimizer_.lrs).any():
            self.optimizer_.lrs = rates
        self.records_.append((self.members_, {}))
        self._record("beta", self.beta_)
        self._record("learning_rate", self.optimizer_.rates())
        annealing = self.criterion_.annealing(self._iteration, self._last)
        loss = self._record_losses("", self._train_once(train, annealing), train.loss_offset)
        current = self._take_average()
        val_loss = None
        if valid is not None:
            val_loss = self._record_losses("val_", self.validate(valid), valid.loss_offset)
        loss = np.where(self._is_near(loss), loss, np.nan)
        warming_up = (annealing < 1) | (self.beta_ != self.final_beta_)
        ended = course.advance(loss, val_loss, model.flat, warming_up=warming_up)
        self._leave_average(current, ended | course.diverged)
        self.optimizer_.restart(ended & ~course.done)
        wants_more = self._goes_on(train, valid)
        self.leave(course.done)
        return wants_more

    def leave(self, done: np.ndarray) -> None:
        """Note what became of some members, and go on without them."""
        leaving, staying = np.flatnonzero(done), np.flatnonzero(~done)
        if len(leaving) == 0:
            return
        with torch.no_grad():
            self.module_.flat[leaving] = self.course_.best_flat[leaving]
        for place in leaving.tolist():
            self.outcomes_[int(self.members_[place])] = self._outcome(place)
        self.members_ = self.members_[staying]
        if len(staying):
            kept = torch.as_tensor(staying).to(self.module_.flat.device)
            self.module_.select(kept)
            self.optimizer_.keep(kept)
            self.course_.keep(kept)
            if self.average_ is not None:
                self.average_ = self.average_[kept]
            self.loss_state_ = self.loss_state_.select(kept)
            self.train_ = self.train_.select(kept)
            self.valid_ = None if self.valid_ is None else self.valid_.select(kept)
            self.limit_ = self.limit_[staying]
            self._take_stock()
        else:  # the weights of all are in their outcomes: rows and buffers can go
            del self.train_, self.valid_
            self._gradients.clear()

    def _outcome(self, place: int) -> RunResult:
        course, member = self.course_, int(self.members_[place])
        if not course.best_flat[place].isfinite().all():
            raise FloatingPointError("The weights that training started from are not finite.")
        history = [
            {**row, **{name: values[own] for name, values in record.items()}}
            for row, (members, record) in zip(self.history, self.records_, strict=True)
            for own in np.flatnonzero(members == member)
        ]
        last = history[-1]["loss"] if history else np.inf
        return RunResult(
            weights=self.module_.weights(place),
            path=tuple(course.best_path[place].tolist()),
            loss=float(last if self.valid_ is None else course.best[place]),
            history=history,
            diverged=bool(course.diverged[place]),
        )

    def _take_stock(self) -> None:
        """Work out what follows from who is here."""
        own = [self.configs[member] for member in self.members_.tolist()]
        seeds = [config.seed for config in own]
        self._seeds = list(dict.fromkeys(seeds))
        self._seed_of = torch.tensor([self._seeds.index(seed) for seed in seeds])
        self._schedules = [config.beta for config in own]
        self.final_beta_ = np.array([config.beta(config.max_iter - 1) for config in own])
        self._last = np.array([config.first_epoch + config.max_iter - 1 for config in own])
        self._mask = self.module_.mask
        forget = np.array([[1 - config.ema_decay] for config in own])
        self._forget = torch.as_tensor(forget).to(self.module_.flat)  # (M, 1)
        noise, mask = (
            np.array([getattr(config, name) for config in own]).reshape(-1, 1, 1)
            for name in ("input_noise", "input_mask")
        )
        self._is_noisy, self._is_masked = bool(noise.any()), bool(mask.any())
        self._input_noise = torch.as_tensor(noise).to(self.module_.flat)  # (M, 1, 1)
        self._input_mask = torch.as_tensor(mask).to(self.module_.flat)  # (M, 1, 1)
        self._holds_scales = np.array([config.homoscedastic_first_stage for config in own])
        self._gradients: dict[tuple[int, int], Gradient] = {}
        self._written_out = gradient_of(self.module_, self.criterion_, self.loss_state_)

    # -- an iteration ----------------------------------------------------------------

    def train_step(self, batch: Dataset, step: Batch) -> Tensor:
        """Take one gradient step for all members; their terms (3, M)."""
        rows, noise = step
        if len(self._seeds) > 1:
            rows, noise = rows[self._seed_of], noise[self._seed_of]
        elif len(self.members_) > 1:
            rows = rows.expand(len(self.members_), -1)
        if self._mask is not None:
            noise = noise * self._mask[:, None, None]
        x, weight = batch.take(rows)
        if batch.dequantization_widths is not None:
            x = x + batch.dequantization_widths * self._uniform(x)
        terms = self._differentiate(x, weight, noise, self._shown(x))
        for slopes, learns in self._held_slopes:
            slopes.mul_(learns)
        if self._hears_gradients:
            named = list(self.module_.named_parameters())
            self.notify("on_grad_computed", named_parameters=named, batch=step, training=True)
        self.optimizer_.step()
        if self.average_ is not None:
            self.average_.lerp_(self.module_.flat, self._forget)
        return terms

    def _slopes_to_hold(self) -> list[tuple[Tensor, Tensor]]:
        """Gradients of weights by which scales depend on z, and which are learned: as 0 and 1.

        They are held back in the first stage of members whose plan says so. Their offsets are
        learned all the time.
        """
        is_held = self._holds_scales & (self.course_.stage == 0)
        model = self.module_
        if not is_held.any() or not isinstance(model, VAE) or type(model.decoder) is not MLP:
            return []
        is_scale = np.array(model.likelihood.is_scale_output, dtype=bool)
        learns = torch.as_tensor(~(is_held[:, None, None] & is_scale)).to(model.flat)
        weights = [model.decoder.linear.weight, model.decoder.last]
        return [(cast(Tensor, own.grad), learns) for own in weights if own is not None]

    def _uniform(self, x: Tensor) -> Tensor:
        """Draw numbers between -1/2 and 1/2, for each seed its own: as x, (M, B, d)."""
        return self._drawn(torch.rand, Stream.DEQUANTIZE, x) - 0.5

    def _shown(self, x: Tensor) -> Tensor | None:
        """What encoder and, beside it, decoder are to see of rows (M, B, n), if not all of them."""
        shown = None
        if self._is_noisy:
            noise = self._drawn(torch.randn, Stream.INPUT, x)
            shown = torch.addcmul(x, noise, self._input_noise)
        if self._is_masked:
            is_hidden = self._drawn(torch.rand, Stream.MASK, x) < self._input_mask
            shown = (x if shown is None else shown).masked_fill(is_hidden, 0)
        if self.module_.decoder.word_dropout:
            uniform = self._drawn(torch.rand, Stream.WORDS, x)
            is_hidden = self.module_.decoder.word_dropout_mask(uniform)
            shown = torch.cat([x if shown is None else shown, x.masked_fill(is_hidden, 0)], dim=-1)
        return shown

    def _drawn(self, draw: Callable[..., Tensor], stream: Stream, x: Tensor) -> Tensor:
        """Draw as many numbers as rows x (M, B, n_columns) hold, for each seed its own."""
        if stream not in self._chances:
            place = self._iteration
            self._chances[stream] = [make_generator(seed, stream, place) for seed in self._seeds]
        own = (draw(x.shape[1:], generator=g, dtype=x.dtype) for g in self._chances[stream])
        return torch.stack([*own])[self._seed_of].to(x.device)

    def _differentiate(
        self, x: Tensor, weight: Tensor | None, noise: Tensor, shown: Tensor | None
    ) -> Tensor:
        """Leave the objective's gradient in the model; its terms (3, M)."""
        if self._written_out is not None:
            shape = x.shape[1], noise.shape[1]
            if shape not in self._gradients:
                clamps = self.is_far_ or self._is_noisy or self._is_masked
                self._gradients[shape] = self._written_out(
                    self.module_, self.criterion_, self.loss_state_, *shape, clamps=clamps
                )
            beta = cast(Tensor, self._epoch_state.beta)
            return self._gradients[shape](x, weight, noise, beta, shown)
        with torch.enable_grad():
            batch = Minibatch(x, weight, noise, shown)
            terms = self.criterion_(self.module_, batch, self._epoch_state)
            total = terms.to_minimise.sum()
        params = list(self.module_.parameters())
        found = torch.autograd.grad(total, params, materialize_grads=True)
        for param, gradient in zip(params, found, strict=True):
            cast(Tensor, param.grad).copy_(gradient)
        return terms.reported()

    @torch.no_grad()
    def validate(
        self, valid: Dataset, n_rows: int | None = None, n_draws: int | None = None
    ) -> np.ndarray:
        """Mean losses (3, M) of a table at the final beta, with the same noise every time.

        Some of the rows and few draws suffice where no more than the size is asked for.
        """
        n_rows = min(n_rows or len(valid), len(valid))
        flat, n_noise = self.module_.flat, self.module_.architecture.n_noise
        per_value = self.criterion_.n_draws
        n_draws = validation_draws(n_rows, per_value, n_draws)
        noise = np.zeros((len(flat), n_draws, 1, n_noise))
        for place, member in enumerate(self.members_.tolist()):
            config, size = self.configs[member], int(self.module_.sizes[place])
            seed = config.seed if config.validation_seed is None else config.validation_seed
            points = sobol_normal(n_draws, size, stream_seed(seed, Stream.VALIDATION))
            noise[place, :, 0, :size] = points
        draws = torch.as_tensor(noise).to(flat)
        state = replace(self.loss_state_, beta=torch.as_tensor(self.final_beta_).to(flat))
        total = np.zeros((len(REPORTED), len(flat)))
        at_a_time = validation_rows(n_draws, self.module_.architecture.widest)
        for rows in self._chunks(torch.arange(n_rows, device=flat.device), at_a_time):
            x, weight = valid.take(rows.expand(len(flat), -1))
            terms = self.criterion_(self.module_, Minibatch(x, weight, draws), state)
            total += terms.reported().cpu().numpy() * (len(rows) / n_rows)
        return total

    def _chunks(self, rows: Tensor, at_a_time: int) -> Sequence[Tensor]:
        """Divide rows into chunks, each from all of the table if it has to be a random sample."""
        if not self.criterion_.uses_aggregated_posterior:
            return rows.split(at_a_time)
        n_chunks = -(-len(rows) // at_a_time)
        return [rows[first::n_chunks] for first in range(n_chunks)]

    @torch.no_grad()
    def _train_once(self, train: Dataset, annealing: np.ndarray) -> np.ndarray:
        """Take the steps of one iteration; mean losses (3, M), not finite for broken weights."""
        flat, n_noise = self.module_.flat, self.module_.architecture.n_noise
        self._epoch_state = replace(
            self.loss_state_,
            beta=torch.as_tensor(self.beta_).to(flat),
            annealing=torch.as_tensor(annealing).to(flat),
        )
        total = torch.zeros(len(REPORTED), len(flat), dtype=flat.dtype, device=flat.device)
        n_rows, config = 0, self.configs[0]
        self._chances: dict[Stream, list[torch.Generator]] = {}  # of this iteration
        with self._dropout():
            for step in iterate_batches(
                config, self._seeds, self._iteration, len(train), n_noise, flat
            ):
                size = step.rows.shape[1]
                total.add_(self.train_step(train, step), alpha=size)
                n_rows += size
        # 0 * sum is not finite where a weight is not, though the last loss may still be
        return (total / n_rows + 0 * flat.sum(1)).double().cpu().numpy()

    @contextmanager
    def _dropout(self) -> Iterator[None]:
        """Hand generators to networks with dropout, of each member's seed, for one iteration."""
        sides = self.module_.encoder, self.module_.decoder
        for side, path in enumerate(sides):
            if path.has_dropout:
                path.dropout_generators = [
                    make_generator(self.configs[member].seed, Stream.DROPOUT, self._iteration, side)
                    for member in self.members_.tolist()
                ]
        try:
            yield
        finally:
            for path in sides:
                path.dropout_generators = None

    def _is_near(self, loss: np.ndarray) -> np.ndarray:
        """Which members have not diverged: (M,) bool.

        A step of one extreme row may raise the mean loss of an iteration beyond the limit. The
        weights have only diverged if their loss is beyond it, too.
        """
        is_near = loss < self.limit_
        doubtful = np.isfinite(loss) & ~is_near
        if doubtful.any():
            is_near |= doubtful & (self._loss_of_first_rows() < self.limit_)
        return is_near

    def _loss_of_first_rows(self) -> np.ndarray:
        """Loss of each member's weights as they are, by some of its rows: (M,)."""
        return self.validate(self.train_, ROWS_FOR_LIMIT, n_draws=1)[0]

    @torch.no_grad()
    def _take_average(self) -> Tensor | None:
        """Put the average in the weights' place, if there is one; give the weights."""
        if self.average_ is None:
            return None
        current = self.module_.flat.clone()
        self.module_.flat.copy_(self.average_)
        return current

    @torch.no_grad()
    def _leave_average(self, current: Tensor | None, set_back: np.ndarray) -> None:
        """Put the weights back, but for members that the course has set back."""
        if current is None or self.average_ is None:
            return
        flat = self.module_.flat
        stays = torch.as_tensor(set_back).to(flat.device).unsqueeze(1)
        self.average_.copy_(flat)
        flat.copy_(torch.where(stays, flat, current))

    # -- small things ----------------------------------------------------------------

    def _record(self, name: str, values: np.ndarray) -> None:
        """Record each member's number, and their mean for skorch."""
        self.records_[-1][1][name] = values
        self.history.record(name, float(values.mean()))

    def _record_losses(self, prefix: str, means: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Record mean losses (3, M) in X's own units; give each member's loss in the table's."""
        for name, values in zip(REPORTED, means, strict=True):
            self._record(prefix + name, values if name == "kl_loss" else values + offset)
        return means[0]

    def _betas(self, iteration: int) -> np.ndarray:
        return np.array([schedule(iteration) for schedule in self._schedules], dtype=float)

    @property
    def _iteration(self) -> int:
        return self.configs[0].first_epoch + len(self.history) - 1

    @property
    def _margin(self) -> float:
        """How far above its start a loss may rise before it counts as diverged."""
        per_column = DIVERGED_PER_COLUMN * self.module_.architecture.n_columns
        return DIVERGED + per_column + self.criterion_.annealing_gap

    def _goes_on(self, train: Dataset, valid: Dataset | None) -> bool:
        """Tell the callbacks that an iteration is over, and whether none wants to stop."""
        try:
            self.notify("on_epoch_end", dataset_train=train, dataset_valid=valid)
        except KeyboardInterrupt:  # as skorch's own callbacks stop a training
            if keyboard.was_pressed:
                raise
            return False
        return True
