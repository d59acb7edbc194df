"""skorch's frame around epochs of our own.

skorch brings the history, the callbacks and the order of events. The data sit in
memory as one tensor, so an epoch here is a bare loop over slices of a permutation:
no per-row indexing, no per-batch record, one number read back per epoch.
"""

import warnings
from functools import cached_property
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer, PrintLog

from sklearn_vae.model import VAE
from sklearn_vae.objectives import ELBO, REPORTED, Terms
from sklearn_vae.randomness import Stream, sobol_normal, stream_seed
from sklearn_vae.training.course import Course
from sklearn_vae.training.gradient import elbo_with_gradient, has_gradient
from sklearn_vae.training.optimizer import FlatAdam
from sklearn_vae.training.plan import Plan, Step, Table, steps_of

# Draws of z for all validation rows together, and rows that are validated at a time.
VALIDATION_DRAWS = 4096
VALIDATION_ROWS = 4096
# A loss that is so many nats above its start, and so many more per column, has diverged.
DIVERGED = 100.0
DIVERGED_PER_COLUMN = 10.0


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
        super().__init__(module, criterion=type(objective), device=None, train_split=None, **kwargs)
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
            course.keep_best(~course.done, self.validate(valid)[0], model.flat)
        limit = self.validate(train.head(VALIDATION_ROWS))[0] + self._margin
        while not course.done.all():
            self.notify("on_epoch_begin", dataset_train=train, dataset_valid=valid)
            self.beta_ = self.plan.beta(self._iteration)
            self.optimizer_.lrs = course.rates()
            self.history.record("beta", self.beta_)
            self.history.record("learning_rate", float(self.optimizer_.rates().max()))
            loss = self.run_single_epoch(train, True, "", self.train_step)
            val_loss = None
            if valid is not None:
                val_loss = self.run_single_epoch(valid, False, "val_", self.validate)
            loss = np.where(loss < limit, loss, np.nan)
            warming_up = self.beta_ != self.final_beta_
            ended = course.advance(loss, val_loss, model.flat, warming_up=warming_up)
            self.optimizer_.restart(ended & ~course.done)
            if not self._goes_on(train, valid):
                break
        self._settle()
        return self

    def run_single_epoch(
        self, iterator: Table, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> np.ndarray:
        """Train on a table, or validate it; record the means of its losses.

        Returns
        -------
        ndarray of shape (M,)
            Each member's loss.
        """
        means = self._train_once(iterator) if training else step_fn(iterator)  # (3, M)
        for name, value in zip(REPORTED, means, strict=True):
            offset = 0.0 if name == "kl_loss" else iterator.offset
            self.history.record(prefix + name, float(value.mean()) + offset)
        return means[0]

    def train_step(self, batch: Table, step: Step) -> Terms:
        """Take one gradient step for all members."""
        x, weight = batch.take(step.rows.expand(len(self.module_.flat), -1))
        arguments = (self.module_, x, weight, step.noise, self.beta_)
        if self._gradient_is_written_out:
            terms = elbo_with_gradient(self.criterion_, *arguments)
        else:
            self.optimizer_.zero_grad()
            terms = self.criterion_(*arguments)
            terms.to_minimise.sum().backward()
        if self._hears_gradients:
            named = list(self.module_.named_parameters())
            self.notify("on_grad_computed", named_parameters=named, batch=step, training=True)
        self.optimizer_.step()
        return terms

    @torch.no_grad()
    def validate(self, valid: Table) -> np.ndarray:
        """Mean losses (3, M) of a table at the final beta, with the same noise every time."""
        flat, n_components = self.module_.flat, self.module_.architecture.n_components
        n_draws = 2 ** int(np.log2(np.clip(VALIDATION_DRAWS // len(valid), 1, 16)))
        seed = stream_seed(self.plan.seed, Stream.VALIDATION)
        noise = torch.as_tensor(sobol_normal(n_draws, n_components, seed)).to(flat)
        noise = noise[None, :, None, :]  # (1, K, 1, l)
        total = np.zeros((len(REPORTED), len(flat)))
        for rows in torch.arange(len(valid), device=flat.device).split(VALIDATION_ROWS):
            x, weight = valid.take(rows.expand(len(flat), -1))
            terms = self.criterion_(self.module_, x, weight, noise, self.final_beta_)
            total += terms.reported().cpu().numpy() * (len(rows) / len(valid))
        return total

    @property
    def _margin(self) -> float:
        """How far above its start a loss may rise before it counts as diverged."""
        return DIVERGED + DIVERGED_PER_COLUMN * self.module_.likelihood.n_columns

    @cached_property
    def _gradient_is_written_out(self) -> bool:
        return has_gradient(self.module_, self.criterion_)

    @cached_property
    def _hears_gradients(self) -> bool:
        """Whether a callback, such as one that clips gradients, wants to see every step."""
        return any(
            type(listener).on_grad_computed is not Callback.on_grad_computed
            for _, listener in self.callbacks_
        )

    @property
    def _iteration(self) -> int:
        return self.plan.first_iteration + len(self.history) - 1

    def _train_once(self, train: Table) -> np.ndarray:
        """Take the steps of one iteration; mean losses (3, M), not finite for broken weights."""
        flat, n_components = self.module_.flat, self.module_.architecture.n_components
        total = torch.zeros(len(REPORTED), len(flat), dtype=flat.dtype, device=flat.device)
        n_rows = 0
        for step in steps_of(self.plan, self._iteration, len(train), n_components, flat):
            size = step.rows.shape[1]
            total += self.train_step(train, step).reported() * size
            n_rows += size
        # 0 * sum is not finite where a weight is not, though the last loss may still be
        return (total / n_rows + 0 * flat.sum(1)).cpu().numpy()

    def _goes_on(self, train: Table, valid: Table | None) -> bool:
        """Tell the callbacks that an iteration is over, and whether none wants to stop."""
        try:
            self.notify("on_epoch_end", dataset_train=train, dataset_valid=valid)
        except KeyboardInterrupt:  # as skorch's own callbacks stop a training
            return False
        return True

    def _settle(self) -> None:
        """Take the best weights, and warn if training ever diverged."""
        with torch.no_grad():
            self.module_.flat.copy_(self.course_.best_flat)
        if not self.module_.flat.isfinite().all():
            raise FloatingPointError("The weights that training started from are not finite.")
        if self.course_.diverged.any():
            warnings.warn(
                f"Training diverged (the loss rose without bounds) with learning_rate="
                f"{self.plan.learning_rate}. The last good weights were kept and training went "
                f"on with a smaller step; a smaller learning_rate avoids this.",
                ConvergenceWarning,
                stacklevel=4,
            )
