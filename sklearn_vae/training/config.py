"""What a run is made of: the rows in memory, the plan, and the steps that follow from both."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self, cast

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.objectives import OBJECTIVES, Objective, Schedule
from sklearn_vae.random import Stream, make_generator, normal_rows
from sklearn_vae.training.lazy_dataset import EncodedArray, EncodedRows, Rows

# Draws of z that all rows share when every step sees the whole table: with noise of
# their own, a row of weight 2 would not be two rows. No mirror images: they make the
# gradients at the start vanish but for rounding, which Adam then blows up.
SHARED_DRAWS = 4
# Weights that differ by a smaller share of themselves are equal: some were in single precision.
ROUNDING = 1e-5
# Rows of large weights are divided into so many copies at the most.
MOST_COPIES = 1 << 22
# Noise is drawn for about this many rows at a time.
NOISE_ROWS = 1 << 14


@dataclass(frozen=True)
class Dataset:
    """Encoded rows in memory, of one member or of several.

    Tables that are parts of one share its rows, and say which of them are theirs.

    Attributes
    ----------
    x : Tensor or EncodedRows of shape (n, n_columns)
        The rows.
    own : Tensor of shape (n_places,) or None
        Numbers of the table's rows in x; those of several members one after the other.
        None where they are all of x, in its order.
    weight : Tensor of shape (n_places,) or None
        What each of the table's rows counts, 1 on average.
    total : ndarray of shape (M,)
        What all rows of a member together count.
    offset : ndarray of shape (M,)
        What is to be added to a row's loss to have it in X's own units.
    first : Tensor of shape (M,)
        Place at which each member's rows begin.
    n_rows : int
        How many rows each member has.
    steps : Tensor of shape (n_columns,), optional
        Widths of the uniform noise that columns get anew at every training step; None for
        none. Members of a fleet share it.
    row_offset : ndarray of shape (n,), optional
        The offset of each row of x, where rows differ in it; ``offset`` is its mean.
    """

    x: Rows
    own: Tensor | None
    weight: Tensor | None
    total: np.ndarray
    offset: np.ndarray
    first: Tensor
    n_rows: int
    steps: Tensor | None = None
    row_offset: np.ndarray | None = None

    @classmethod
    def of(cls, x: Rows, weight: Tensor | None, total: float, offset: float | np.ndarray) -> Self:
        """Make the table of one member; the offset is that of all rows, or one for each (n,)."""
        first = torch.zeros(1, dtype=torch.long, device=x.device)
        by_row = offset if isinstance(offset, np.ndarray) else None
        mean = offset if by_row is None else _mean(by_row, weight)
        return cls(
            x, None, weight, np.array([total]), np.array([mean]), first, len(x), row_offset=by_row
        )

    @classmethod
    def stack(cls, tables: Sequence[Self]) -> Self:
        """Make one table of several members' tables, all of one length."""
        if len(tables) == 1:
            return tables[0]
        parts = list({id(table): table for table in tables}.values())
        wholes = list({id(table.x): table.x for table in parts}.values())
        ends = np.cumsum([len(x) for x in wholes])
        begin = {id(x): int(end) - len(x) for x, end in zip(wholes, ends, strict=True)}
        own = None
        if any(table.own is not None for table in parts):
            own = torch.cat([table.numbers() + begin[id(table.x)] for table in parts])
        weights = [table.weight for table in parts if table.weight is not None]
        n_rows = len(parts[0])
        place = {id(table): n_rows * number for number, table in enumerate(parts)}
        return cls(
            torch.cat(cast(list[Tensor], wholes)) if len(wholes) > 1 else wholes[0],
            own,
            torch.cat(weights) if weights else None,
            np.concatenate([table.total for table in tables]),
            np.concatenate([table.offset for table in tables]),
            torch.tensor([place[id(table)] for table in tables]).to(parts[0].x.device),
            n_rows,
            parts[0].steps,
        )

    @classmethod
    def bytes_to_stack(cls, tables: Sequence[Self]) -> int:
        """How many bytes ``stack`` makes: of one table none, and of its parts no rows."""
        parts = {id(table): table for table in tables}.values()
        wholes = {id(table.x): table.x.nbytes for table in parts}.values()
        rows = sum(wholes) if len(wholes) > 1 else 0
        numbers = 8 * sum(map(len, parts)) if any(part.own is not None for part in parts) else 0
        return rows + (numbers if len(parts) > 1 else 0)

    def __len__(self) -> int:
        return self.n_rows

    def numbers(self) -> Tensor:
        """Numbers of the rows in x."""
        return torch.arange(len(self.x), device=self.x.device) if self.own is None else self.own

    def arrays(self) -> tuple[Any, np.ndarray | None]:
        """Give the rows of a single member and their weights as arrays, to be read in chunks."""
        weight = None if self.weight is None else self.weight.cpu().numpy()
        if isinstance(self.x, EncodedRows):
            return EncodedArray(self.x, self.own), weight
        x = self.x if self.own is None else self.x[self.own]
        return x.cpu().numpy(), weight

    def counts(self) -> np.ndarray:
        """What each row of a single member counts, all of them together ``total``: (n,)."""
        if self.weight is None:
            return np.full(len(self), float(self.total[0]) / len(self))
        weight = self.weight.cpu().numpy().astype(np.float64)
        return weight * (float(self.total[0]) / weight.sum())

    def keep(self, members: Tensor) -> Self:
        """Make the table of some members."""
        numbers, first = members.cpu().numpy(), self.first[members]
        kept = replace(self, total=self.total[numbers], offset=self.offset[numbers], first=first)
        if len(first) > 1:
            return kept
        places = slice(int(first), int(first) + self.n_rows)
        return replace(
            kept,
            x=self.x[places] if self.own is None else self.x,
            own=None if self.own is None else self.own[places],
            weight=None if self.weight is None else self.weight[places],
            first=torch.zeros_like(first),
        )

    def split(self, n_rows: int, generator: torch.Generator) -> tuple[Self, Self]:
        """Set ``n_rows`` rows of a single member aside: all others, and those.

        A row of weight k is k rows, of which some may be set aside and the others not.
        """
        if self.weight is None:
            order = torch.randperm(len(self), generator=generator)
            first, second = order[n_rows:].sort().values, order[:n_rows].sort().values
            return self.part(first), self.part(second)
        counts = self.counts()
        aside = _draw_rows(counts, n_rows, generator)
        return self._counting(counts - aside), self._counting(aside)

    def _counting(self, counts: np.ndarray) -> Self:
        """Make the table of those rows that count something, (n,)."""
        counts = np.where(counts > ROUNDING * self.counts(), counts, 0)
        return self.part(torch.as_tensor(np.flatnonzero(counts)), counts)

    def part(self, places: Tensor, counts: np.ndarray | None = None) -> Self:
        """Make the table of some rows, which count as they do here or as ``counts`` (n,) say."""
        places = places.to(self.x.device)
        part = replace(self, own=self.numbers()[places], n_rows=len(places))
        weight = None
        if self.weight is not None:
            own = (self.counts() if counts is None else counts)[places.cpu().numpy()]
            weight = torch.as_tensor(own / own.mean()).to(self.weight)
            part = replace(part, weight=weight, total=np.array([own.sum()]))
        if self.row_offset is not None:
            by_row = self.row_offset[part.numbers().cpu().numpy()]
            part = replace(part, offset=np.array([_mean(by_row, weight)]))
        if weight is None:
            part = replace(part, total=self.total * (len(places) / len(self)))
        return part

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Give rows (M or 1, B) of each member: (M, B, n_columns) and their weights (M, B)."""
        if len(self.first) > 1:  # a single member's rows begin at 0
            rows = rows + self.first.unsqueeze(1)
        numbers = rows.reshape(-1)
        if self.own is not None:
            numbers = self.own.index_select(0, numbers)
        x = self.x.index_select(0, numbers).view(*rows.shape, self.x.shape[1])
        return x, None if self.weight is None else self.weight[rows]


def _draw_rows(counts: np.ndarray, n_rows: int, generator: torch.Generator) -> np.ndarray:
    """Draw rows by chance that together count ``n_rows``: how much of each row, (n,).

    Whole numbers are copies, which are drawn one by one. Of other numbers a row is drawn as a
    whole or not at all.
    """
    row, size = np.arange(len(counts)), counts
    whole = np.rint(counts)
    if np.allclose(counts, whole, rtol=ROUNDING, atol=0):
        unit = math.ceil(whole.sum() / max(MOST_COPIES, len(counts)))
        n_copies = np.ceil(whole / unit).astype(int)
        row = np.repeat(row, n_copies)
        size = np.full(len(row), float(unit))
        size[n_copies.cumsum() - 1] = whole - (n_copies - 1) * unit
    order = torch.randperm(len(row), generator=generator).numpy()
    n_drawn = np.abs(size[order].cumsum() - n_rows).argmin() + 1
    drawn = order[:n_drawn]
    return np.bincount(row[drawn], size[drawn], len(counts))


def _mean(by_row: np.ndarray, weight: Tensor | None) -> float:
    """Mean over rows (n,), by their weights."""
    return float(np.average(by_row, weights=None if weight is None else weight.cpu().numpy()))


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a member's run beside the model and the rows.

    Attributes
    ----------
    seed : int
        What all draws follow from.
    max_iter : int
        Iterations at the most.
    min_steps_per_epoch, batch_size : int
        Gradient steps in an iteration, at the least: it is a pass over the rows if that
        has more; rows in a step, at the most.
    learning_rate, weight_decay : float
        Adam's step size; the share by which the networks' matrices shrink, per step and
        unit of step size.
    beta : callable
        Weight of the KL by iteration.
    patience, tol : int, float
        A stage ends after so many iterations without a gain of tol nats on the
        validation rows.
    n_iter_per_stage : tuple of int, optional
        Iterations of each stage at the most; by default, shares of ``max_iter``.
    first_epoch : int
        Number of the first iteration, by which it draws its order and noise.
    validation_seed : int, optional
        What the draws of validation follow from, where several runs are compared by it;
        by default, the seed.
    objective : objective, default=ELBOLoss()
        What is maximised.
    ema_decay : float, default=0.0
        Share that the average of the weights keeps at every step. Validation and the best
        weights are then those of the average, which a large step size shakes less.
    max_grad_norm_ratio : float, default=10.0
        How many times as long as usual a gradient may be; longer ones are clipped. A row far
        outside the others would otherwise throw all weights in a single step.
    input_noise : float, default=0.0
        Standard deviation of the normal noise that is added to what the encoder sees of a
        row in training. The likelihood is that of the row without it.
    input_mask : float, default=0.0
        Share of the cells that the encoder sees as 0 in training, drawn anew at every step.
    homoscedastic_first_stage : bool, default=False
        Whether the first stage learns one scale per column, where scales depend on z. On a
        curved surface they would learn single rows before the means find the surface.
    """

    seed: int
    max_iter: int
    min_steps_per_epoch: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    beta: Schedule
    patience: int
    tol: float
    n_iter_per_stage: tuple[int, ...] | None = None
    first_epoch: int = 0
    validation_seed: int | None = None
    objective: Objective = OBJECTIVES["elbo"]
    ema_decay: float = 0.0
    max_grad_norm_ratio: float = 10.0
    input_noise: float = 0.0
    input_mask: float = 0.0
    homoscedastic_first_stage: bool = False

    def n_steps(self, n_rows: int) -> int:
        """Gradient steps of an iteration over a table of this length."""
        return max(-(-n_rows // self.batch_size), self.min_steps_per_epoch)

    def is_full_batch(self, n_rows: int) -> bool:
        """Whether every step sees the whole table, and its rows share their draws of z."""
        return n_rows <= self.batch_size

    def n_draws(self, n_rows: int) -> int:
        """Draws of z per row of a step."""
        asked = self.objective.n_draws
        return asked * -(-SHARED_DRAWS // asked) if self.is_full_batch(n_rows) else asked


class Batch(NamedTuple):
    """Rows (S, B) of one gradient step and the noise (S, K, B or 1, l) of their codes."""

    rows: Tensor
    noise: Tensor


def iterate_batches(
    config: TrainingConfig,
    seeds: Sequence[int],
    iteration: int,
    n_rows: int,
    n_components: int,
    like: Tensor,
) -> Iterator[Batch]:
    """Yield the steps of one iteration: passes over the rows, each in a new order.

    Parameters
    ----------
    config : TrainingConfig
        The run of any member: batches and steps are alike for all.
    seeds : sequence of int
        The different seeds among the members' plans, S in number.
    iteration : int
        Its number, which with the seed decides order and noise.
    n_rows, n_components : int
        Rows of the table and latent dimensions.
    like : Tensor
        A tensor of the type and on the device that the noise is needed in.

    Yields
    ------
    Step
        A last batch is never dropped: the batches of a pass differ by one row at most.
    """
    shared, sizes = config.is_full_batch(n_rows), _batch_sizes(config, n_rows)
    n_passes = -(-sum(sizes) // n_rows)
    orders = [make_generator(seed, Stream.ROWS, iteration) for seed in seeds]
    rows = torch.stack(
        [
            torch.cat([torch.randperm(n_rows, generator=own) for _ in range(n_passes)])
            for own in orders
        ]
    )[:, : sum(sizes)].to(like.device)  # (S, rows of all steps)
    batches = iter(rows.split(sizes, dim=1))
    per_row = config.n_draws(n_rows)
    n_together = max(NOISE_ROWS // (config.batch_size * config.objective.n_draws), 1)
    for block, first in enumerate(range(0, len(sizes), n_together)):
        some = sizes[first : first + n_together]
        n_draws = [per_row if shared else per_row * size for size in some]
        generators = (make_generator(seed, Stream.NOISE, iteration, block) for seed in seeds)
        noise = torch.stack(
            [normal_rows(n_components, sum(n_draws), own, like.dtype).T for own in generators]
        ).to(like.device)  # (S, draws, l)
        for draws in noise.split(n_draws, dim=1):
            yield Batch(next(batches), draws.unflatten(1, (per_row, -1)))  # (S, K, B or 1, l)


def _batch_sizes(config: TrainingConfig, n_rows: int) -> list[int]:
    """Rows in each step of an iteration: those of a pass differ by one at most."""
    n_batches = -(-n_rows // config.batch_size)
    size, n_larger = divmod(n_rows, n_batches)
    one_pass = [size + 1] * n_larger + [size] * (n_batches - n_larger)
    n_steps = config.n_steps(n_rows)
    return (one_pass * -(-n_steps // n_batches))[:n_steps]
