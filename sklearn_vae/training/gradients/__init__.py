"""Which models and objectives have a gradient that is written out.

Autograd builds a graph at every step; a gradient that is written out computes into buffers
that are made once. What has none (another posterior, another kind of column) is left to
autograd, which is also what these are tested against.
"""

from typing import Any, Protocol

from torch import Tensor

from sklearn_vae.models.stacked import StackedModule
from sklearn_vae.objectives import LossState, Objective
from sklearn_vae.training.gradients.elbo import ELBOGradient
from sklearn_vae.training.gradients.mixture import MixtureGradient


class Gradient(Protocol):
    """What computes an objective and its gradient for batches of one shape."""

    def __init__(
        self,
        model: Any,
        objective: Any,
        state: LossState,
        n_rows: int,
        n_draws: int,
        *,
        clamps: bool = True,
    ): ...

    @staticmethod
    def covers(model: StackedModule, objective: Objective, state: LossState) -> bool:
        """Whether every part of the model and the objective has its gradient here."""

    def __call__(
        self,
        x: Tensor,
        weight: Tensor | None,
        noise: Tensor,
        beta: Tensor,
        shown: Tensor | None = None,
    ) -> Tensor:
        """Write the gradient of one batch into the model's; the terms (3, M)."""


WRITTEN_OUT: tuple[type[Gradient], ...] = (ELBOGradient, MixtureGradient)


def gradient_of(
    model: StackedModule, objective: Objective, state: LossState
) -> type[Gradient] | None:
    """Find the gradient that is written out for a model and an objective, if there is one."""
    return next((kind for kind in WRITTEN_OUT if kind.covers(model, objective, state)), None)
