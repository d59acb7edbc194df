"""Optimizer of the flat parameters of members: Adam, moving averages, rates with early stopping."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from sklearn_vae._compat import fused_adam_
from sklearn_vae.models.vae import StackedModule
from sklearn_vae.training.jobs import TrainingConfig

# Learning rate of each stage, as a factor of the first.
STAGES = (1.0, 0.3, 0.1)
# Least decrease of the validation loss that counts as improvement, in nats per row.
TOL = 1e-3


class FlatAdam(torch.optim.Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), one fused call per rate.

    Each member has its own learning rate; that of the weights of a wide input is limited
    (``StackedModule.lr_spans``), that of precise outputs lower (``step_scales``). Weight decay
    applies to the networks' weight matrices, neither to biases nor to the skip connection. A
    gradient's norm is clipped to ``max_grad_norm_ratio`` times its running root mean square. It
    has the attributes of a torch optimizer that callbacks use, but does not call the constructor
    of ``torch.optim.Optimizer``, which imports torch's compiler.
    """

    BETAS = (0.9, 0.999)
    EPS = 1e-6

    def __init__(self, model: StackedModule, configs: Sequence[TrainingConfig]):
        self.model = model
        self.lrs = np.array([config.learning_rate for config in configs], dtype=float)
        self.weight_decay = np.array([config.weight_decay for config in configs], dtype=float)
        self.max_grad_norm_ratio = configs[0].max_grad_norm_ratio
        lr, weight_decay = float(self.lrs.max()), float(self.weight_decay.max())
        self.defaults = {"lr": lr, "weight_decay": weight_decay}
        self.param_groups = [{"params": list(model.parameters()), **self.defaults}]
        self.step_scales = model.step_scales()
        self.mean = torch.zeros_like(model.flat)
        self.square = torch.zeros_like(model.flat)
        self.count = torch.zeros(len(configs), dtype=torch.float32, device=model.flat.device)
        self.begin_epoch()

    @property
    def moments(self) -> dict[str, Tensor]:
        """First and second moments of the gradients (M, P), and the number of steps (M,)."""
        return {"mean": self.mean, "square": self.square, "count": self.count}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the moments as arrays."""
        return {name: value.cpu().numpy().copy() for name, value in self.moments.items()}

    def load_state_dict(self, state_dict: Mapping[str, np.ndarray]) -> None:
        """Load the moments that ``state_dict`` returned."""
        for name, value in self.moments.items():
            value.copy_(torch.tensor(state_dict[name]))  # of a file, it may be read-only
        self.begin_epoch()

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Set the gradients to zero in place: they are views of one tensor."""
        self.model.flat_grad.zero_()

    def learning_rates(self) -> np.ndarray:
        """Return each member's learning rate, including the factor of a callback's schedule."""
        return self.lrs * (self.param_groups[0]["lr"] / self.defaults["lr"])

    def reset(self, members: np.ndarray) -> None:
        """Reset the moments of some members (M,) to zero."""
        if not members.any():
            return
        for value in self.moments.values():
            value[torch.as_tensor(members, device=value.device)] = 0
        self.begin_epoch()

    def select(self, members: Tensor) -> None:
        """Remove all members except these, after the model has."""
        indices = members.cpu().numpy()
        self.lrs, self.weight_decay = self.lrs[indices], self.weight_decay[indices]
        for name, value in self.moments.items():
            setattr(self, name, value[members])
        if self.step_scales is not None:
            self.step_scales = self.step_scales[members]
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Compute the running mean of squared norms for clipping: the sum of the second moments."""
        self._prepared_for: tuple[np.ndarray | None, float] = (None, 0.0)
        beta, inverse_ratio = self.BETAS[1], self.max_grad_norm_ratio**-2
        # in double precision: after few steps, the difference of both is small
        weight = inverse_ratio * (1 - beta ** self.count.cpu().double())
        # running sums of squared norms, and of weights 1 / ratio²: their quotient is the limit
        self._norms = torch.stack([self.square.sum(1), weight.to(self.square)]).div_(1 - beta)
        self._max_square, self._norm_weight = self._norms  # (M,)
        self._new_norms = torch.full_like(self._norms, inverse_ratio)
        self._new_square = self._new_norms[0]
        self._beta = self.square.new_tensor(beta)  # a Python number is converted at every call

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the parameters of every member whose learning rate is not 0."""
        lrs, lr = self._prepared_for
        if lrs is not self.lrs or lr != self.param_groups[0]["lr"]:
            self._prepare_updates()
        self._clip_gradients()
        self.count.add_(self._is_active)
        if self._factors is not None:
            self.model.flat.mul_(self._factors)
        for lr, tensors, counts in self._updates:
            fused_adam_(
                *(*tensors, [], counts),
                lr=lr,
                beta1=self.BETAS[0],
                beta2=self.BETAS[1],
                weight_decay=0.0,
                eps=self.EPS,
                amsgrad=False,
                maximize=False,
            )
        if self.step_scales is not None:
            self.model.flat.mul_(self.step_scales)

    def _clip_gradients(self) -> None:
        """Clip each member's gradient norm; the first step has no norms to compare with."""
        grad, square = self.model.flat_grad, self._new_square
        norm = torch.linalg.vector_norm(grad, dim=1)  # (M,)
        is_clipped = torch.mul(norm, norm, out=square) * self._norm_weight > self._max_square
        if grad.is_cuda or is_clipped.any():  # a GPU would have to wait for the answer
            limit = self._max_square / self._norm_weight
            grad.mul_(torch.where(is_clipped, (limit / square).sqrt(), 1.0).unsqueeze(1))
            square.copy_(torch.where(is_clipped, limit, square))
        torch.addcmul(self._new_norms, self._norms, self._beta, out=self._norms)

    def _prepare_updates(self) -> None:
        """Group members by learning rate: one fused call each."""
        self._prepared_for = (self.lrs, self.param_groups[0]["lr"])
        rates = self.learning_rates()
        self._is_active = torch.as_tensor(rates > 0).to(self.count)
        decays = torch.as_tensor(rates * self.weight_decay).to(self.mean)
        # by weight decay, and into units of steps
        self._factors = 1 - decays[:, None] * self.model.decays if decays.any() else None
        if self.step_scales is not None:
            self._factors = (1.0 if self._factors is None else self._factors) / self.step_scales
        self._updates: list[tuple[float, list[list[Tensor]], list[Tensor]]] = []
        tensors = [self.model.flat, self.model.flat_grad, self.mean, self.square]
        spans = self.model.lr_spans
        for lr in np.unique(rates[rates > 0]).tolist():
            members = np.flatnonzero(rates == lr).tolist()
            for max_lr, slices in (spans if lr > min(spans) else {lr: [slice(None)]}).items():
                where = list(product(members, slices))
                parts = [[tensor[index] for index in where] for tensor in tensors]
                counts = [self.count[member] for member, _ in where]
                self._updates.append((min(lr, max_lr), parts, counts))


class ExponentialMovingAverage:
    """Exponential moving average (EMA) of the flat parameters."""

    def __init__(self, params: Tensor, decay: float):
        self.average, self.weight = params.clone(), 1 - decay

    def update(self, params: Tensor) -> None:
        """Add the parameters after a step."""
        self.average.lerp_(params, self.weight)

    def apply(self, params: Tensor) -> None:
        """Replace the parameters by their average, in place, until ``restore``."""
        self.params = params.clone()
        params.copy_(self.average)

    def restore(self, params: Tensor, is_reset: np.ndarray) -> None:
        """Restore the parameters, except those of members (M,) that were reset to their best."""
        self.average.copy_(params)
        is_kept = torch.as_tensor(is_reset).to(params.device).unsqueeze(1)
        params.copy_(torch.where(is_kept, params, self.params))

    def select(self, members: Tensor) -> None:
        """Remove all members except these."""
        self.average = self.average[members]


class StageScheduler:
    """Lowers each member's learning rate in stages and keeps its best parameters.

    A stage ends after its maximum number of epochs, when the loss diverges, or when the validation
    loss has not improved for ``patience`` epochs, half of them after the first stage. The next one
    then starts from the best parameters. All attributes have members in front.
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
        self.diverged = np.zeros(n_members, dtype=bool)  # whether the last stage has
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
        self.update_best(is_active & ~has_diverged, val_loss, params)
        self.patience_counter[is_annealing] = 0
        patience = np.ceil(self.patience * np.where(self.stage > 0, 0.5, 1.0))
        is_out_of_patience = is_active & (self.patience_counter >= patience)
        ended = self._end_stages(has_diverged | is_out_of_patience)
        self.diverged |= has_diverged & self.done
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
            n_epochs = np.minimum(1 + risen, 4)
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
    """Divide ``max_iter`` epochs among the stages, half to the first, rounding up earlier ones."""
    ends = np.ceil(np.array([0.5, 0.75, 1.0]) * max_iter).astype(int)
    return tuple(np.diff(ends, prepend=0).tolist())
