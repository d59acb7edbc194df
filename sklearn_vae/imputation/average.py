"""Imputations of a model, averaged with those of trees, in numpy alone."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sklearn_vae.data.columns.binary import BinaryColumns, ConstantColumns, OneHotColumns
from sklearn_vae.data.columns.categories import CategoricalColumns, OrdinalColumns
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.imputation.boosted_trees import BoostedTrees
from sklearn_vae.numerics.rows import batches
from sklearn_vae.persistence.validation import check_array

# Numbers of draws that are encoded at a time.
NUMBERS_AT_A_TIME = 1 << 18


@dataclass(frozen=True, eq=False)
class AveragedImputation:
    """Imputation by a model, averaged with predictions of trees; see ``VAEImputer``."""

    # imputes rows by means, or by a number of draws with a seed: (n_draws or 1, n, n_features)
    model: Callable[..., np.ndarray]
    encoder: TableEncoder
    is_rounded: np.ndarray  # (n_features,): mask of the columns whose dtype holds no means
    trees: BoostedTrees | None = None
    trees_weight: float = 0.0  # of their predictions
    spread: np.ndarray | None = None  # (n_features,): factor of the draws' distance from their mean

    @cached_property
    def is_averaged(self) -> np.ndarray:
        """Mask of the columns imputed by means, not by classes or one of two values."""
        mask = self.encoder.mask
        has_classes = mask(CategoricalColumns, OrdinalColumns, ConstantColumns)
        return ~(has_classes | (self.is_rounded & mask(BinaryColumns, OneHotColumns)))

    def impute(self, rows: np.ndarray) -> np.ndarray:
        """Impute means, and classes, by model and trees: (n, n_features)."""
        if self.trees is None:
            return self.model(rows)[0]
        missing, imputed = np.isnan(rows) & ~self.encoder.is_empty, rows.copy()
        if self.trees.takes_missing:
            missing &= ~self.trees.replaces(self.trees_weight)
        needs_model = missing.any(axis=1)
        if needs_model.any():
            imputed[needs_model] = self.model(rows[needs_model])[0]
        return self.encoder.complete(rows, self.trees.correct(rows, imputed, self.trees_weight))

    def draw(self, rows: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
        """Draw imputations: (n_draws, n, n_features)."""
        draws = self.model(rows, n_draws, seed)
        has_shift = self.trees is not None and self.trees.is_real[self.trees.columns].any()
        if not has_shift and self.spread is None:
            return draws
        mean = self.model(rows)[0]
        return self.move(draws, rows, mean, find_shift(self.trees, rows, mean), seed)

    def move(
        self, draws: np.ndarray, rows: np.ndarray, mean: np.ndarray, shift: np.ndarray, seed: int
    ) -> np.ndarray:
        """Move draws of real columns: (n_draws, n, n_features).

        Missing cells of ``rows`` (n, n_features) have been imputed by ``draws``, and by their
        mean, ``mean``. A fraction of the draws, the trees' weight, is moved by ``shift`` (n,
        n_features). Distances from the mean of all draws are then multiplied by ``spread``.
        """
        n_draws, weight, spread = len(draws), self.trees_weight, self.spread
        generator = np.random.default_rng((seed, 1))
        # as near to the weight as whole numbers are
        is_shifted = generator.permutation(n_draws) + generator.random() < weight * n_draws
        moved = draws.copy()
        for batch in batches(n_draws, NUMBERS_AT_A_TIME // max(rows.size, 1)):
            part, has_shift = moved[batch], is_shifted[batch, None, None]
            with np.errstate(all="ignore"):  # numbers near the largest ones overflow
                target = np.where(has_shift, part + shift, part)
                if spread is not None:
                    center = mean + weight * shift
                    target = np.where(spread == 1, target, center + spread * (target - center))
            is_moved = np.isnan(rows) & (target != part) & np.isfinite(target)
            targets = np.where(is_moved, target, part).reshape(-1, rows.shape[1])
            # moved draws keep to the bounds and recording steps of their columns
            kept = self.encoder.within_bounds(self.encoder.on_steps(targets))
            part[is_moved] = kept.reshape(part.shape)[is_moved]
        return self.encoder.complete(rows, moved, generator)

    def check(self) -> None:
        """Check that the parts are those of one table, as after reading them from a file."""
        n_features = len(self.is_averaged)
        if not 0 <= self.trees_weight <= 1:
            raise ValueError("the weight of the trees must lie between 0 and 1")
        if self.trees is not None:
            self.trees.check_columns(self.encoder, self.is_averaged)
        if self.spread is not None:
            check_array("spread_", self.spread, "f", (n_features,))
            if not (self.spread > 0).all():
                raise ValueError("'spread_' must be positive")


def find_shift(trees: BoostedTrees | None, rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Difference of predictions from the mean in real columns, 0 in others: (n, n_features)."""
    if trees is None:
        return np.zeros(mean.shape)
    with np.errstate(over="ignore"):  # numbers near the largest ones
        return np.where(trees.is_real, trees.correct(rows, mean, 1.0) - mean, 0.0)
