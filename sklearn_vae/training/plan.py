"""What a run is made of: the rows in memory, the plan, and the steps that follow from both."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.objectives import Schedule
from sklearn_vae.randomness import Stream, make_generator, normal_rows

# Draws of z that all rows share when every step sees the whole table: with noise of
# their own, a row of weight 2 would not be two rows. No mirror images: they make the
# gradients at the start vanish but for rounding, which Adam then blows up.
SHARED_DRAWS = 4
# Noise is drawn for about this many rows at a time.
NOISE_ROWS = 1 << 16


@dataclass(frozen=True)
class Table:
    """Encoded rows in memory.

    Attributes
    ----------
    x : Tensor of shape (n, n_columns)
        The rows.
    weight : Tensor of shape (n,) or None
        What each counts, 1 on average.
    total : float
        What all rows together count.
    offset : float
        What is to be added to a row's loss to have it in X's own units.
    """

    x: Tensor
    weight: Tensor | None
    total: float
    offset: float

    def __len__(self) -> int:
        return len(self.x)

    def arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Give the rows and their weights as arrays."""
        weight = None if self.weight is None else self.weight.cpu().numpy()
        return self.x.cpu().numpy(), weight

    def head(self, n_rows: int) -> Self:
        """Make a table of the first rows."""
        return self._subset(torch.arange(min(n_rows, len(self))))

    def split(self, n_rows: int, generator: torch.Generator) -> tuple[Self, Self]:
        """Set ``n_rows`` rows aside: all others, and those."""
        order = torch.randperm(len(self), generator=generator)
        return self._subset(order[n_rows:].sort().values), self._subset(
            order[:n_rows].sort().values
        )

    def _subset(self, rows: Tensor) -> Self:
        rows = rows.to(self.x.device)
        if self.weight is None:
            return type(self)(self.x[rows], None, self.total * len(rows) / len(self), self.offset)
        weight, mean = self.weight[rows], self.weight[rows].mean()
        total = self.total * float(weight.sum() / self.weight.sum())
        return type(self)(self.x[rows], weight / mean, total, self.offset)

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
