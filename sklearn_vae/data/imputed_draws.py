"""Draws of missing cells, moved by the trees and spread around their means."""

from collections.abc import Callable

import numpy as np

from sklearn_vae.data.boosted_trees import BoostedTrees, Encoder
from sklearn_vae.persistence.validation import check_array


def check_spread(spread: np.ndarray, n_features: int) -> None:
    """Check the factors of the columns, as after reading them from a file."""
    check_array("spread_", spread, "f", (n_features,))
    if not (spread > 0).all():
        raise ValueError("'spread_' must be positive")


def correct_draws(
    draws: np.ndarray,
    rows: np.ndarray,
    average: Callable[[np.ndarray], np.ndarray],
    trees: BoostedTrees | None,
    share: float,
    spread: np.ndarray | None,
    encoder: Encoder,
    seed: int,
) -> np.ndarray:
    """Move draws by the trees and the spread, if there are any: (n_draws, n, n_features).

    ``average`` imputes rows by the mean of the draws before.
    """
    has_shift = trees is not None and trees.is_real[trees.columns].any()
    if not has_shift and spread is None:
        return draws
    mean = average(rows)
    return move_draws(
        draws, rows, mean, find_shift(trees, rows, mean), share, spread, encoder, seed
    )


def find_shift(trees: BoostedTrees | None, rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Difference of the trees' predictions from the mean, 0 without trees: (n, n_features)."""
    return np.zeros(mean.shape) if trees is None else trees.shift(rows, mean)


def move_draws(
    draws: np.ndarray,
    rows: np.ndarray,
    mean: np.ndarray,
    shift: np.ndarray,
    share: float,
    spread: np.ndarray | None,
    encoder: Encoder,
    seed: int,
) -> np.ndarray:
    """Move draws of real columns: (n_draws, n, n_features).

    Missing cells of ``rows`` (n, n_features) have been imputed by ``draws``, and by their mean,
    ``mean``. A share of the draws is moved by ``shift`` (n, n_features). Distances from the mean
    of all draws are then multiplied by ``spread`` (n_features,).
    """
    n_draws = len(draws)
    generator = np.random.default_rng((seed, 1))  # the seed alone chooses draws of the mixture
    # as near to the share as whole numbers are
    is_shifted = generator.permutation(n_draws) + generator.random() < share * n_draws
    moved = draws.copy()
    for draw, has_shift in zip(moved, is_shifted, strict=True):
        with np.errstate(all="ignore"):  # numbers near the largest ones overflow
            target = draw + shift if has_shift else draw
            if spread is not None:
                center = mean + share * shift
                target = np.where(spread == 1, target, center + spread * (target - center))
        is_moved = np.isnan(rows) & (target != draw) & np.isfinite(target)
        encoded = encoder.transform(np.where(is_moved, target, draw))
        # moved draws keep to the bounds and recording steps of their columns
        kept = encoder.inverse_transform(encoded, is_sample=True)
        draw[is_moved] = kept[is_moved]
    return moved
