"""Gradient of the joint likelihood of columns, for models without autograd."""

from collections.abc import Sequence

import numpy as np

from sklearn_vae.numerics.columnwise import Columnwise, Parameters


def columnwise_gradient(
    columns: Columnwise,
    params: Sequence[Parameters],
    x: np.ndarray,
    observed: np.ndarray | None,
    *,
    decoded: bool = False,
) -> np.ndarray:
    """Gradient of the rows' log-density in the parameters, or in those that depend on z."""
    masks = columns.split_mask(observed)
    blocks = zip(columns.likelihoods, params, columns.split_blocks(x), masks, strict=True)
    slopes = []
    for likelihood, block, values, mask in blocks:
        for number, size in enumerate(likelihood.param_sizes):
            if likelihood.depends_on_z[number] or not decoded:
                slope = likelihood.gradient(block, values, number)
                slopes.append(slope if mask is None else slope * mask.repeat(size, axis=-1))
    return np.concatenate(slopes, axis=-1)
