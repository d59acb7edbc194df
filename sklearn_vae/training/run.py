"""One training run of one model, and its result."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sklearn_vae.models.architecture import Architecture
from sklearn_vae.training.config import TrainingConfig
from sklearn_vae.training.dataset import Dataset, EncodedRows

# Draws of z for all validation rows together; draws that are computed at a time, and numbers in
# the widest layer.
VALIDATION_DRAWS = 4096
VALIDATION_DRAWS_AT_A_TIME = 2048
VALIDATION_NUMBERS = 1 << 20


@dataclass(frozen=True)
class TrainingRun:
    """One training of one model.

    Attributes
    ----------
    architecture : Architecture
        Shapes of its weights.
    config : TrainingConfig
        How it is trained.
    train : Dataset
        Rows to learn from.
    valid : Dataset or None
        Rows that say when to stop.
    free_bits, prior_rows : float
        What the objective takes.
    weights : dict of ndarray or None
        Where to go on from; None starts at probabilistic PCA of the rows.
    is_random : bool
        Whether perceptrons start at random weights instead.
    """

    architecture: Architecture
    config: TrainingConfig
    train: Dataset
    valid: Dataset | None
    free_bits: float
    prior_rows: float
    weights: dict[str, np.ndarray] | None = None
    is_random: bool = False

    @property
    def shape(self) -> Hashable:
        """What runs must have in common to be computed as one program."""
        rows, own = len(self.train), self.architecture
        return (
            (replace(own, n_components=0) if own.supports_padding else own, self.config.objective),
            (rows, self.config.batch_size, self.config.n_steps(rows), self.config.first_epoch),
            None if self.valid is None else len(self.valid),
            (self.train.weight is None, self.train.x.dtype, self.train.x.device),
            None
            if self.train.dequantization_widths is None
            else id(self.train.dequantization_widths),
            id(self.train.x) if isinstance(self.train.x, EncodedRows) else None,
            None if self.weights is None else tuple(w.shape for w in self.weights.values()),
        )

    @property
    def batch_rows(self) -> int:
        """Rows that pass through the decoder in a step."""
        return min(len(self.train), self.config.batch_size) * self.config.n_draws(len(self.train))

    @property
    def working_set(self) -> int:
        """About how many bytes a step reads and writes."""
        # weights, gradients and two moments; values and gradients of every layer, twice
        return self._bytes(4, 4 * self.batch_rows)

    @property
    def memory(self) -> int:
        """About how many bytes stay in use between steps, or are used in validation."""
        per_value = self.config.objective.n_draws
        rows = 0 if self.valid is None else len(self.valid)
        n_draws = validation_draws(rows, per_value)
        together = min(rows, validation_rows(n_draws, self.architecture.widest))
        # the best weights and what decides whether they shrink are kept beside the others
        return self.working_set + self._bytes(2, together * n_draws)

    def _bytes(self, n_weights: int, n_values: int) -> int:
        """So many numbers per weight, and per feature of each layer."""
        widths = 2 * sum(self.architecture.hidden_layer_sizes) + 4 * self.train.x.shape[1]
        n_numbers = n_weights * sum(self.architecture.layers) + n_values * widths
        return self.train.x.dtype.itemsize * n_numbers


@dataclass(frozen=True)
class RunResult:
    """What a member's run has led to.

    Attributes
    ----------
    weights : dict of ndarray
        The best weights, by name.
    path : tuple of int
        Iterations in each stage that lead to them.
    loss : float
        Their validation loss; without validation rows, the last loss of the training.
    history : list of dict
        What was recorded, by iteration.
    diverged : bool
        Whether a loss was ever not finite or far above its start.
    """

    weights: dict[str, np.ndarray]
    path: tuple[int, ...]
    loss: float
    history: list[dict[str, Any]]
    diverged: bool


def validation_draws(n_rows: int, per_value: int, asked: int | None = None) -> int:
    """How many draws each of so many validation rows gets: whole sets that make one value."""
    usual = 2 ** int(np.log2(np.clip(VALIDATION_DRAWS // max(n_rows, 1), 1, 16)))
    return -(-(asked or usual) // per_value) * per_value


def validation_rows(n_draws: int, widest: int) -> int:
    """How many rows with so many draws each, in so wide a layer, are validated at a time."""
    at_a_time = min(VALIDATION_DRAWS_AT_A_TIME, VALIDATION_NUMBERS // widest)
    return max(at_a_time // n_draws, 1)
