"""Adam over the flat parameters of all members."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.models.stacked import StackedModule


class FusedUpdate(NamedTuple):
    """One fused call: its step size, and the tensors of the members that take it."""

    lr: float
    tensors: list[list[Tensor]]
    counts: list[Tensor]


class FlatAdam(torch.optim.Optimizer):
    """Adam with decoupled weight decay, one fused call per learning rate.

    Each member has a step size of its own. Weight decay shrinks the networks' matrices
    only: neither biases nor the linear path, which is the model's known start.

    It is one of torch's optimizers in all that callbacks ask of one, but does not run
    their constructor: that imports torch's compiler, a second in every new process.

    Parameters
    ----------
    model : StackedModule
        Whose flat parameters to move.
    lr : float or ndarray of shape (M,)
        Step size to begin with.
    weight_decay : float or ndarray of shape (M,)
        Share by which matrices shrink, per step and unit of step size.
    longest : float, default=inf
        How many times as long as a gradient usually is one may be; a longer one is cut to
        that length. What is usual is the root of Adam's own running mean of squares, so a
        few extreme rows neither lead astray nor make all later steps short.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization",
       ICLR 2019.
    """

    BETAS = (0.9, 0.999)
    EPS = 1e-6

    def __init__(
        self,
        model: StackedModule,
        lr: float | np.ndarray,
        weight_decay: float | np.ndarray,
        longest: float = math.inf,
    ):
        self.model, self.longest = model, longest
        n_members = len(model.flat)
        self.lrs = np.broadcast_to(lr, n_members).astype(float)
        self.weight_decay = np.broadcast_to(weight_decay, n_members).astype(float)
        self.defaults = {
            "lr": float(self.lrs.max()),
            "weight_decay": float(self.weight_decay.max()),
        }
        self.param_groups = [{"params": list(model.parameters()), **self.defaults}]
        self.mean = torch.zeros_like(model.flat)
        self.square = torch.zeros_like(model.flat)
        self.count = torch.zeros(n_members, dtype=torch.float32, device=model.flat.device)
        self._planned_for: tuple[np.ndarray | None, float] = (None, 0.0)

    @property
    def moments(self) -> dict[str, Tensor]:
        """Running means of the gradients and their squares, and the number of steps."""
        return {"mean": self.mean, "square": self.square, "count": self.count}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Give the moments as arrays."""
        return {name: value.cpu().numpy().copy() for name, value in self.moments.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        for name, value in self.moments.items():
            value.copy_(torch.as_tensor(state_dict[name]))
        self._planned_for = (None, 0.0)

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Set the gradients to zero, in place: they are views of one tensor."""
        self.model.flat_grad.zero_()

    def rates(self) -> np.ndarray:
        """Step size of each member: its stage's, times what a callback's schedule made of it."""
        return self.lrs * (self.param_groups[0]["lr"] / self.defaults["lr"])

    def restart(self, members: np.ndarray) -> None:
        """Forget the moments of some members."""
        if not members.any():
            return
        for value in self.moments.values():
            value[torch.as_tensor(members, device=value.device)] = 0
        self._planned_for = (None, 0.0)

    def keep(self, members: Tensor) -> None:
        """Go on with these members only, once the model does."""
        own = members.cpu().numpy()
        self.lrs, self.weight_decay = self.lrs[own], self.weight_decay[own]
        for name, value in self.moments.items():
            setattr(self, name, value[members])
        self._planned_for = (None, 0.0)

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move every member whose step size is not 0."""
        rates, lr = self._planned_for
        if rates is not self.lrs or lr != self.param_groups[0]["lr"]:
            self._plan_moves()
        if self.longest < math.inf:
            self._cut()
        self.count.add_(self._moving)
        if self._shrink is not None:
            self.model.flat.mul_(self._shrink)
        for move in self._moves:
            torch._fused_adam_(
                *(*move.tensors, [], move.counts),
                lr=move.lr,
                beta1=self.BETAS[0],
                beta2=self.BETAS[1],
                weight_decay=0.0,
                eps=self.EPS,
                amsgrad=False,
                maximize=False,
            )

    def _cut(self) -> None:
        """Cut gradients that are far longer than usual; the first one has no such measure."""
        grad = self.model.flat_grad
        share = 1 - self.BETAS[1] ** self.count  # of the squares' mean that is there by now
        usual = (self.square.sum(1) / share).sqrt()  # (M,)
        limit, length = self.longest * usual, grad.norm(dim=1)
        is_long = (self.count > 0) & (length > limit)
        grad.mul_(torch.where(is_long, limit / length, 1.0).unsqueeze(1))

    def _plan_moves(self) -> None:
        """Prepare one call for all members of one step size: on one tensor if it is all."""
        self._planned_for = (self.lrs, self.param_groups[0]["lr"])
        rates = self.rates()
        self._moving = torch.as_tensor(rates > 0).to(self.count)
        decays = torch.as_tensor(np.unique(rates * self.weight_decay)).to(self.mean)
        if len(decays) > 1:
            decays = torch.as_tensor(rates * self.weight_decay).to(self.mean)
        self._shrink = 1 - decays[:, None] * self.model.decays if decays.any() else None
        self._moves = []
        tensors = [self.model.flat, self.model.flat_grad, self.mean, self.square]
        for lr in np.unique(rates[rates > 0]).tolist():
            own = np.flatnonzero(rates == lr).tolist()
            if len(own) == len(rates) and bool((self.count == self.count[0]).all()):
                parts, counts = [[tensor.view(-1)] for tensor in tensors], [self.count[0]]
            else:
                parts = [[tensor[member] for member in own] for tensor in tensors]
                counts = [self.count[member] for member in own]
            self._moves.append(FusedUpdate(lr, parts, counts))
