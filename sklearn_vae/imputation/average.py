"""Imputations of a model, averaged with a mixture's and corrected by trees, in numpy alone."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.imputation.boosted_trees import BoostedTrees
from sklearn_vae.imputation.repeated_values import RepeatedValues
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.persistence.validation import check_array

# Numbers of draws that are encoded at a time.
NUMBERS_AT_A_TIME = 1 << 18
# Imputes rows (n, n_features) by means, or by a number of draws with a seed, if both are given:
# (n_draws or 1, n, n_features).
Impute = Callable[..., np.ndarray]


@dataclass(frozen=True, eq=False)
class AveragedImputation:
    """Imputation by a model averaged with a mixture, corrected by trees; see ``VAEImputer``."""

    model: Impute
    mixture: Impute | None
    encoder: TableEncoder
    is_rounded: np.ndarray  # (n_features,): mask of the columns whose dtype holds no means
    mixture_weight: float = 0.0  # of the means, and the mixture's share of the draws
    trees: BoostedTrees | None = None  # which correct the average
    trees_weight: float = 0.0  # of their predictions
    spread: np.ndarray | None = None  # (n_features,): factor of the draws' distance from their mean
    repeated_values: RepeatedValues | None = None  # which draws are rounded to

    @cached_property
    def is_averaged(self) -> np.ndarray:
        """Mask of the columns imputed by means, not by classes or one of two values."""
        names = np.array([type(likelihood).__name__ for likelihood in self.encoder.likelihoods])
        has_classes = np.isin(names, ("Categorical", "Ordinal", "NoneType"))
        return ~(has_classes | (self.is_rounded & np.isin(names, ("Bernoulli", "OneHot"))))

    def impute(self, rows: np.ndarray) -> np.ndarray:
        """Impute means, and classes: (n, n_features)."""
        return self.encoder.complete(rows, self._correct(rows))

    def _correct(self, rows: np.ndarray) -> np.ndarray:
        """Impute by the average, corrected by trees: (n, n_features)."""
        if self.trees is None:
            return self.average(rows)
        known = np.where(self.encoder.is_empty, 0.0, rows)  # no model is needed for empty columns
        needs_average = self.trees.leaves_missing(known, self.trees_weight)
        imputed = rows.copy()
        if needs_average.any():
            imputed[needs_average] = self.average(rows[needs_average])
        return self.trees.correct(rows, imputed, self.trees_weight)

    def average(self, rows: np.ndarray) -> np.ndarray:
        """Impute the weighted means of model and mixture, without trees: (n, n_features)."""
        imputed = self.model(rows)[0]
        has_average = self.mixture_weight > 0 and self.is_averaged.any()
        if self.mixture is None or not has_average:
            return imputed
        return self.weighted_mean(rows, imputed, self.mixture(rows)[0])

    def weighted_mean(
        self, rows: np.ndarray, imputed: np.ndarray, of_mixture: np.ndarray
    ) -> np.ndarray:
        """Average the imputations of model and mixture: (n, n_features)."""
        if self.mixture_weight == 0:  # numbers near the largest ones overflow
            return imputed
        averaged = self.is_averaged & np.isnan(rows)  # observed cells keep their bits
        mean = imputed + self.mixture_weight * (of_mixture - imputed)
        return np.where(averaged, mean, imputed)

    def draw(self, rows: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
        """Draw imputations: (n_draws, n, n_features)."""
        is_of_model = ~self._is_of_mixture(n_draws, seed)
        draws = np.empty((n_draws, *rows.shape), rows.dtype)
        if is_of_model.any():
            draws[is_of_model] = self.model(rows, int(is_of_model.sum()), seed)
        draws = self.draw_mixture(draws, rows, seed)
        has_shift = self.trees is not None and self.trees.is_real[self.trees.columns].any()
        if has_shift or self.spread is not None:
            mean = self.average(rows)
            draws = self.move(draws, rows, mean, find_shift(self.trees, rows, mean), seed)
        return self.round(rows, draws)

    def draw_mixture(self, draws: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
        """Replace the mixture's share of the draws of a model: (n_draws, n, n_features)."""
        is_of_mixture = self._is_of_mixture(len(draws), seed)
        if self.mixture is not None and is_of_mixture.any():
            draws[is_of_mixture] = self.mixture(rows, int(is_of_mixture.sum()), seed)
        return draws

    def _is_of_mixture(self, n_draws: int, seed: int) -> np.ndarray:
        """Mask of the draws that the mixture makes."""
        return np.random.default_rng(seed).random(n_draws) < self.mixture_weight

    def move(
        self, draws: np.ndarray, rows: np.ndarray, mean: np.ndarray, shift: np.ndarray, seed: int
    ) -> np.ndarray:
        """Move draws of real columns: (n_draws, n, n_features).

        Missing cells of ``rows`` (n, n_features) have been imputed by ``draws``, and by their
        mean, ``mean``. The trees' share of the draws is moved by ``shift`` (n, n_features).
        Distances from the mean of all draws are then multiplied by ``spread``.
        """
        n_draws, share, spread = len(draws), self.trees_weight, self.spread
        generator = np.random.default_rng((seed, 1))  # the seed alone chooses the mixture's draws
        # as near to the share as whole numbers are
        is_shifted = generator.permutation(n_draws) + generator.random() < share * n_draws
        moved = draws.copy()
        for some in batches(n_draws, max(NUMBERS_AT_A_TIME // max(rows.size, 1), 1)):
            part, has_shift = moved[some], is_shifted[some, None, None]
            with np.errstate(all="ignore"):  # numbers near the largest ones overflow
                target = np.where(has_shift, part + shift, part)
                if spread is not None:
                    center = mean + share * shift
                    target = np.where(spread == 1, target, center + spread * (target - center))
            is_moved = np.isnan(rows) & (target != part) & np.isfinite(target)
            targets = np.where(is_moved, target, part).reshape(-1, rows.shape[1])
            # moved draws keep to the bounds and recording steps of their columns
            kept = self.encoder.inverse_transform(self.encoder.transform(targets), is_sample=True)
            part[is_moved] = kept.reshape(part.shape)[is_moved]
        return moved

    def round(self, rows: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Round draws to values that repeat; the model draws real numbers beside them."""
        if self.repeated_values is None:
            return draws
        return np.where(np.isnan(rows), self.repeated_values.round(draws), draws)

    def check(self) -> None:
        """Check that the parts are those of one table, as after reading them from a file."""
        n_features = len(self.is_averaged)
        for name, weight in (("mixture", self.mixture_weight), ("trees", self.trees_weight)):
            if not 0 <= weight <= 1:
                raise ValueError(f"the weight of the {name} must lie between 0 and 1")
        if self.mixture is None and self.mixture_weight:
            raise ValueError("the weight of the mixture must be 0 without a mixture")
        if self.trees is not None:
            self.trees.check_columns(self.encoder, self.is_averaged)
        if self.spread is not None:
            check_array("spread_", self.spread, "f", (n_features,))
            if not (self.spread > 0).all():
                raise ValueError("'spread_' must be positive")
        if self.repeated_values is not None:
            self.repeated_values.check_columns(n_features)


def find_shift(trees: BoostedTrees | None, rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Difference of the trees' predictions from the mean, 0 without trees: (n, n_features)."""
    return np.zeros(mean.shape) if trees is None else trees.shift(rows, mean)
