"""Adam over the flat parameters of all members."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.model import VAE


class FlatAdam(torch.optim.Optimizer):
    """Adam with decoupled weight decay, one fused call per learning rate.

    Each member has a step size of its own. Weight decay shrinks the networks' matrices
    only: neither biases nor the linear path, which is the model's known start.

    It is one of torch's optimizers in all that callbacks ask of one, but does not run
    their constructor: that imports torch's compiler, a second in every new process.

    Parameters
    ----------
    model : VAE
        Whose flat parameters to move.
    lr : float
        Step size to begin with.
    weight_decay : float
        Share by which matrices shrink, per step and unit of step size.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization",
       ICLR 2019.
    """

    BETAS = (0.9, 0.999)
    EPS = 1e-6

    def __init__(self, model: VAE, lr: float, weight_decay: float):
        self.model = model
        n_members = len(model.flat)
        self.defaults = {"lr": lr, "weight_decay": weight_decay}
        self.param_groups = [{"params": list(model.parameters()), **self.defaults}]
        self.lrs = np.full(n_members, lr)
        self.mean = torch.zeros_like(model.flat)
        self.square = torch.zeros_like(model.flat)
        self.count = torch.zeros(n_members, dtype=torch.float32, device=model.flat.device)

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

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Set the gradients to zero, in place: they are views of one tensor."""
        self.model.flat_grad.zero_()

    def rates(self) -> np.ndarray:
        """Step size of each member: its stage's, times what a callback's schedule made of it."""
        return self.lrs * (self.param_groups[0]["lr"] / self.defaults["lr"])

    def restart(self, members: np.ndarray) -> None:
        """Forget the moments of some members."""
        for value in self.moments.values():
            value[torch.as_tensor(members, device=value.device)] = 0

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move every member whose step size is not 0."""
        weight_decay = self.param_groups[0]["weight_decay"]
        lrs = self.rates()
        for lr in np.unique(lrs[lrs > 0]):
            members = np.flatnonzero(lrs == lr)
            if weight_decay > 0:
                for member in members:
                    self.model.flat[member, : self.model.n_decayed].mul_(1 - lr * weight_decay)
            torch._fused_adam_(
                *self._rows(members),
                lr=float(lr),
                beta1=self.BETAS[0],
                beta2=self.BETAS[1],
                weight_decay=0.0,
                eps=self.EPS,
                amsgrad=False,
                maximize=False,
            )

    def _rows(self, members: np.ndarray) -> list[list[Tensor]]:
        count = self.count[torch.as_tensor(members)]
        tensors = (self.model.flat, self.model.flat_grad, self.mean, self.square)
        flat, grad, mean, square = ([tensor[member] for member in members] for tensor in tensors)
        self.count[torch.as_tensor(members)] = count + 1
        return [flat, grad, mean, square, [], list((count + 1).unbind())]
