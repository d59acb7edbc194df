"""Rows drawn from the conditional distribution given some of their values."""

from typing import cast

import numpy as np

from sklearn_vae.inference.class_marginal import ClassMarginal
from sklearn_vae.inference.ensemble import EnsemblePredictor
from sklearn_vae.inference.predictor import Predictor
from sklearn_vae.numerics.random import Stream, stream_seed
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.system.progress import advance, uncounted

# Rows drawn from the same weighted draws of the latent variables, at most. There are as many
# of these as rows, up to a power of two, and at least so many.
MAX_DRAWS = 1 << 12
MIN_DRAWS = 1 << 8


def sample_given(
    model: Predictor | EnsemblePredictor | ClassMarginal,
    row: np.ndarray,
    n_samples: int,
    seed: int,
    y: np.ndarray | None = None,
) -> np.ndarray:
    """Draw rows given the values of one row (n_features,) that are not NaN.

    ``y`` (n_samples, n_y) are codes and numbers of the rows' conditions, of a model that has any.
    """
    if isinstance(model, ClassMarginal):
        with uncounted():
            y = model.sample_classes(row[None], n_samples, seed)
        model = cast(Predictor, model.predictor)
    observed, index = row[None], np.zeros(n_samples, dtype=int)
    if y is not None:
        unique, index = np.unique(y, axis=0, return_inverse=True)
        observed = np.hstack([np.repeat(observed, len(unique), axis=0), unique.astype(row.dtype)])
    counts, order = np.bincount(index.ravel()), np.argsort(index.ravel(), kind="stable")
    first = np.cumsum(counts) - counts
    X = np.empty((n_samples, len(row)), row.dtype)
    for count in np.unique(counts).tolist():
        rows = counts == count
        for batch in batches(count, MAX_DRAWS):
            size = batch.stop - batch.start
            n_draws = max(1 << (size - 1).bit_length(), MIN_DRAWS)
            batch_seed = stream_seed(seed, Stream.CONDITIONAL, count, batch.start)
            with uncounted():
                drawn = model.sample_missing(observed[rows], size, n_draws, batch_seed, batch_seed)
            advance(size * int(rows.sum()))
            X[order[first[rows] + np.arange(batch.start, batch.stop)[:, None]]] = drawn
    return X
