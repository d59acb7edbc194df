"""Rules that sampled rows fulfil: evaluation, and rejection of rows that break them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import narwhals as nw
import numpy as np

from sklearn_vae.numerics.random import Stream, stream_seed
from sklearn_vae.persistence.validation import invalid_parameter

# Rows that are drawn at most, for each row of the sample and in total.
MAX_DRAWS_PER_ROW = 100
FEWEST_MAX_DRAWS = 1 << 14
# Rows that are drawn at a time after the first attempt.
MAX_BATCH = 1 << 16

# Draws rows of numbers by a seed, for rows of the sample by index: (n,), seed -> (n, n_features).
Draw = Callable[[np.ndarray, int], np.ndarray]


def check_rules(rules: Any) -> None:
    """Check that rules are a list of functions, if there are any."""
    if rules and not (isinstance(rules, Sequence) and all(map(callable, rules))):
        raise invalid_parameter("sample", "rules", "be a list of functions", rules)


def sample_with_rules(
    draw: Draw,
    restore: Callable[[np.ndarray], Any],
    n_samples: int,
    seed: int,
    rules: Sequence[Any],
    *,
    is_exchangeable: bool,
) -> np.ndarray:
    """Draw rows of numbers that fulfil all rules, by rejection: (n_samples, n_features).

    ``draw`` makes rows by a seed, for rows of the sample by index, and ``restore`` converts them
    to a table. Rows are exchangeable if all have the same distribution. It is an error if too few
    rows fulfil the rules.
    """

    def find_fulfilled(rows: np.ndarray) -> np.ndarray:
        """Restore rows as a table, and find those that fulfil all rules: (n,)."""
        mask = np.ones(len(rows), dtype=bool)
        if rules:
            table = restore(rows)
            for rule in rules:
                mask &= _evaluate(rule, table)
        return mask

    rows = draw(np.arange(n_samples), seed)
    mask = find_fulfilled(rows)
    rejected = np.flatnonzero(~mask)
    n_drawn, n_fulfilled = n_samples, int(mask.sum())
    limit = max(MAX_DRAWS_PER_ROW * n_samples, FEWEST_MAX_DRAWS)
    attempt = 0
    while len(rejected):
        if n_drawn >= limit:
            raise ValueError(
                f"{n_fulfilled} of {n_drawn} sampled rows fulfil the rules, too few for "
                f"n_samples={n_samples}."
            )
        attempt += 1
        acceptance_rate = max(n_fulfilled, 1) / n_drawn
        n_needed = math.ceil(1.1 * len(rejected) / acceptance_rate)
        n_proposals = min(n_needed, limit - n_drawn, MAX_BATCH)
        indices = np.tile(rejected, max(n_proposals // len(rejected), 1))
        drawn = draw(indices, stream_seed(seed, Stream.REJECTION, attempt))
        good = np.flatnonzero(find_fulfilled(drawn))
        n_drawn, n_fulfilled = n_drawn + len(indices), n_fulfilled + len(good)
        if is_exchangeable:
            good = good[: len(rejected)]
            filled = rejected[: len(good)]
        else:
            filled, first = np.unique(indices[good], return_index=True)
            good = good[first]
        rows[filled] = drawn[good]
        rejected = np.setdiff1d(rejected, filled)
    return rows


def _evaluate(rule: Callable[[Any], Any], table: Any) -> np.ndarray:
    """Find the rows of a table that fulfil a rule: (n,)."""
    try:
        result = rule(table)
        series = nw.from_native(result, series_only=True, pass_through=True, allow_series=True)
        if isinstance(series, nw.Series):  # a missing result is no
            result = series.fill_null(False).to_numpy()
        mask = np.asarray(result)
        if mask.dtype != bool or mask.shape != (len(table),):
            raise ValueError(
                f"it must give a boolean for each of {len(table)} rows. Got values of type "
                f"{mask.dtype} and shape {mask.shape} instead."
            )
    except Exception as error:
        raise ValueError(f"The rule {rule!r} failed: {error!r}") from error
    return mask
