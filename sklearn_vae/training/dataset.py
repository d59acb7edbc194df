"""Datasets: encoded rows with sample weights, and subsets of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.data.sources import sample_rows
from sklearn_vae.numerics.random import Stream, make_generator
from sklearn_vae.numerics.rows import MAX_NUMBERS, repetitions, spread_out

# Rows that are read, or whose noise is drawn, at a time.
CHUNK_ROWS = 1 << 14


@dataclass(frozen=True)
class Dataset:
    """Encoded rows with sample weights, of one ensemble member or stacked for several."""

    x: Tensor  # (n, n_columns): encoded rows, those of a file mapped to memory
    # (n_members * n_rows,): indices into ``x`` of each member's rows, one member after the other;
    # None if they are all rows of ``x`` in their order. Members with the same rows share one block.
    row_indices: Tensor | None
    # (n_members * n_rows,): sample weights relative to their mean, in the order of ``row_indices``
    weight: Tensor | None
    total_weight: np.ndarray  # (M,): sum of each member's sample weights
    # (M,): negative log-abs-det-Jacobian of the encoding, averaged over each member's rows: the
    # loss in X's units minus the loss of the encoded rows
    loss_offset: np.ndarray
    first_row: Tensor  # (M,): position in ``row_indices`` at which each member's rows begin
    n_rows: int  # of each member
    row_loss_offset: np.ndarray | None = None  # (n,), of each row of ``x``, where they differ
    rows_per_window: int | None = None  # that an epoch shuffles, of a file in random order

    @classmethod
    def from_x(
        cls, x: Tensor, weight: Tensor | None, total_weight: float, loss_offset: float | np.ndarray
    ) -> Self:
        """Make the dataset of one member; the loss offset is one number or one per row (n,)."""
        per_row = loss_offset if isinstance(loss_offset, np.ndarray) else None
        mean = loss_offset if per_row is None else _weighted_mean(per_row, weight)
        return cls(
            x,
            None,
            weight,
            np.array([total_weight]),
            np.array([mean]),
            torch.zeros(1, dtype=torch.long, device=x.device),
            len(x),
            row_loss_offset=per_row,
        )

    @classmethod
    def from_file(cls, x: np.ndarray, loss_offset: float, device: str) -> Self:
        """Make the dataset of a file of rows in random order, which is mapped to memory."""
        dataset = cls.from_x(torch.as_tensor(x), None, float(len(x)), loss_offset)
        first_row = dataset.first_row.to(device)
        return replace(dataset, first_row=first_row, rows_per_window=sample_rows(x.shape[1]))

    @classmethod
    def stack(cls, datasets: Sequence[Self]) -> Self:
        """Stack the datasets of several members, all with the same number of rows."""
        if len(datasets) == 1:
            return datasets[0]
        distinct = list({id(dataset): dataset for dataset in datasets}.values())
        tables = list({id(dataset.x): dataset.x for dataset in distinct}.values())
        ends = np.cumsum([len(x) for x in tables])
        start = {id(x): int(end) - len(x) for x, end in zip(tables, ends, strict=True)}
        row_indices = None
        if any(dataset.row_indices is not None for dataset in distinct):
            row_indices = torch.cat([data.indices() + start[id(data.x)] for data in distinct])
        weights = [dataset.weight for dataset in distinct if dataset.weight is not None]
        n_rows = len(distinct[0])
        first_row = {id(dataset): n_rows * block for block, dataset in enumerate(distinct)}
        return cls(
            torch.cat(tables) if len(tables) > 1 else tables[0],
            row_indices,
            torch.cat(weights) if weights else None,
            np.concatenate([dataset.total_weight for dataset in datasets]),
            np.concatenate([dataset.loss_offset for dataset in datasets]),
            torch.tensor([first_row[id(data)] for data in datasets]).to(distinct[0].like.device),
            n_rows,
            rows_per_window=distinct[0].rows_per_window,
        )

    def __len__(self) -> int:
        return self.n_rows

    @property
    def like(self) -> Tensor:
        """No rows, of the dtype of all and on the device of batches."""
        return self.x[:0].to(self.first_row.device)

    @property
    def has_missing(self) -> bool:
        """Whether any value is missing."""
        return any(bool(rows.isnan().any()) for rows in self.x.split(CHUNK_ROWS))

    def indices(self) -> Tensor:
        """Return the indices of the rows in ``x``."""
        if self.row_indices is None:
            return torch.arange(len(self.x), device=self.x.device)
        return self.row_indices

    def arrays(self, max_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ``max_rows`` of a single member's rows at most, and their weights."""
        rows = spread_out(len(self), max_rows)
        weight = np.ones(len(rows)) if self.weight is None else self.sample_weight()[rows]
        if len(rows) == len(self) and self.row_indices is None:
            return self.x.cpu().numpy(), weight
        return self.x[self.indices()[torch.as_tensor(rows)]].cpu().numpy(), weight

    @property
    def n_weighted_rows(self) -> int:
        """Number of a single member's rows by weight."""
        return round(float(self.total_weight[0]))

    def sample_weight(self) -> np.ndarray:
        """Return a single member's sample weights, which sum to ``total_weight``: (n,)."""
        if self.weight is None:
            return np.full(len(self), float(self.total_weight[0]) / len(self))
        weight = self.weight.cpu().numpy().astype(np.float64)
        return weight * (float(self.total_weight[0]) / weight.sum())

    def select(self, members: Tensor) -> Self:
        """Return the dataset of some members."""
        indices = members.cpu().numpy()
        return replace(
            self,
            total_weight=self.total_weight[indices],
            loss_offset=self.loss_offset[indices],
            first_row=self.first_row[members],
        )

    def split(self, n_valid: int, generator: torch.Generator) -> tuple[Self, Self]:
        """Split a single member's rows at random: training rows, validation rows.

        The validation rows have the total weight ``n_valid``. A row of integer weight k is k rows,
        which may be split, but for tables that were repeated as a whole. Of rows in random order,
        the first ones are read into memory for it.
        """
        if self.rows_per_window is not None:
            train, valid = (
                replace(self, x=x, total_weight=np.array([float(len(x))]), n_rows=len(x))
                for x in (self.x[n_valid:], self.x[:n_valid].to(self.first_row.device))
            )
            return train, replace(valid, rows_per_window=None)
        weight = self.sample_weight()
        if repetitions(self.arrays(len(self))[0], weight) > 1:
            rank = self.ranks().cpu().numpy()
            ranks = torch.randperm(int(rank.max()) + 1, generator=generator).numpy()
            n_drawn = np.abs(np.bincount(rank, weight)[ranks].cumsum() - n_valid).argmin() + 1
            is_valid = torch.as_tensor(np.isin(rank, ranks[:n_drawn]))
            return self.subset(torch.where(~is_valid)[0]), self.subset(torch.where(is_valid)[0])
        valid_weight = _split_weights(weight, n_valid, generator)
        sides = []
        for side_weight in (weight - valid_weight, valid_weight):
            # some weights were in single precision
            side_weight = np.where(side_weight > 1e-5 * weight, side_weight, 0)
            sides.append(self.subset(torch.as_tensor(np.flatnonzero(side_weight)), side_weight))
        return sides[0], sides[1]

    def subset(self, rows: Tensor, sample_weight: np.ndarray | None = None) -> Self:
        """Return a single member's dataset of some rows; new weights (n,) are those of all rows."""
        rows = rows.to(self.x.device)
        row_indices, weight = self.indices()[rows], None
        total_weight = self.total_weight * (len(rows) / len(self))
        if self.weight is not None:
            weights = self.sample_weight() if sample_weight is None else sample_weight
            selected = weights[rows.cpu().numpy()]
            weight = torch.as_tensor(selected / selected.mean()).to(self.weight)
            total_weight = np.array([selected.sum()])
        loss_offset = self.loss_offset
        if self.row_loss_offset is not None:
            per_row = self.row_loss_offset[row_indices.cpu().numpy()]
            loss_offset = np.array([_weighted_mean(per_row, weight)])
        return replace(
            self,
            row_indices=row_indices,
            weight=weight,
            total_weight=total_weight,
            loss_offset=loss_offset,
            n_rows=len(rows),
        )

    def ranks(self) -> Tensor:
        """Return each row's rank among its member's distinct rows, in their order."""
        ranks = []
        for indices in self.indices().split(self.n_rows):
            x = self.x.index_select(0, indices).nan_to_num(torch.inf).cpu().numpy()
            ranks.append(np.unique(x, axis=0, return_inverse=True)[1].reshape(-1))
        return torch.as_tensor(np.concatenate(ranks)).to(self.first_row.device)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return rows (M or 1, B) of each member: (M, B, n_columns), and their weights (M, B)."""
        rows = rows + self.first_row.unsqueeze(1)
        indices = rows.reshape(-1)
        if self.row_indices is not None:
            indices = self.row_indices.index_select(0, indices)
        x = self.x.index_select(0, indices.to(self.x.device)).to(indices.device)
        weight = None if self.weight is None else self.weight[rows]
        return x.view(*rows.shape, self.x.shape[1]), weight


def draw_halves(n_rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw two halves of the rows at random: their indices, in order; an odd row is in neither."""
    order = torch.randperm(n_rows, generator=make_generator(seed, Stream.SPLIT, 2))
    n_half = n_rows // 2
    return order[:n_half].sort().values, order[n_half : 2 * n_half].sort().values


def _split_weights(
    sample_weight: np.ndarray, n_valid: int, generator: torch.Generator
) -> np.ndarray:
    """Draw rows at random with total weight ``n_valid``; return the drawn weight per row, (n,).

    Copies of integer weights are drawn one by one, unless very many, other rows as a whole.
    """
    n_rows = len(sample_weight)
    row, size, rounded = np.arange(n_rows), sample_weight, np.rint(sample_weight)
    is_few = rounded.sum() <= max(MAX_NUMBERS, n_rows)
    if is_few and np.allclose(sample_weight, rounded, atol=0):
        row = np.repeat(row, rounded.astype(int))
        size = np.ones(len(row))
    order = torch.randperm(len(row), generator=generator).numpy()
    n_drawn = np.abs(size[order].cumsum() - n_valid).argmin() + 1
    drawn = order[:n_drawn]
    return np.bincount(row[drawn], size[drawn], n_rows)


def _weighted_mean(values: np.ndarray, weight: Tensor | None) -> float:
    """Return the weighted mean of values (n,)."""
    return float(np.average(values, weights=None if weight is None else weight.cpu().numpy()))
