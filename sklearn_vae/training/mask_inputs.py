"""Missing-value masks as additional encoder inputs of a model that was fitted without."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from sklearn_vae.initialization.factor_analysis import n_imputation_factors
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.vae import VAE, build
from sklearn_vae.networks import EncoderDecoderPair
from sklearn_vae.random import Stream, make_generator
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.initialize import make_initializer
from sklearn_vae.training.jobs import TrainingConfig, TrainingJob

# Rows sampled from a model of complete rows, to fit the imputation layer to.
ROWS_FOR_IMPUTATION = 2048


def add_mask_inputs(
    model: VAE, table: Dataset, config: TrainingConfig, state_dict: dict[str, np.ndarray]
) -> tuple[Architecture, dict[str, np.ndarray]]:
    """Add the mask of observed cells to the inputs of a fitted model's encoder.

    The weights of the new inputs are zero, so that the model of complete rows is unchanged. The
    encoder's imputation layer is a factor analysis of rows sampled from the model, which has one
    member, given the conditions of the table's rows. A user's encoder is refused.
    """
    network, n_columns = model.architecture.network, model.architecture.n_columns
    if isinstance(network, EncoderDecoderPair) and network.custom_encoder is not None:
        raise ValueError(
            f"X has missing cells, and the fit that this one goes on from had none: the encoder "
            f"{network.custom_encoder.made_by!r} was made for whole rows. Fit rows with missing "
            f"cells first, or all rows at once."
        )
    n_factors = n_imputation_factors(ROWS_FOR_IMPUTATION, n_columns)
    architecture = replace(model.architecture, n_factors=n_factors)
    job = TrainingJob(architecture, config, _sample_complete_rows(model, table, config.seed))
    model = build(architecture)
    model.initialize(0, make_initializer(architecture.n_components)(job))
    params = {}
    for name, initial in model.weights().items():
        value = state_dict.get(name, initial)
        for axis in np.flatnonzero(np.not_equal(value.shape, initial.shape)):
            # the inputs are columns, mask and conditions
            value = np.insert(value, [n_columns] * n_columns, 0, axis=axis)
        params[name] = value
    return architecture, params


def _sample_complete_rows(model: VAE, table: Dataset, seed: int) -> Dataset:
    """Sample encoded rows, given the conditions of a table's rows."""
    n_columns = model.architecture.n_columns
    rows = torch.arange(ROWS_FOR_IMPUTATION, device=table.x.device) % len(table)
    conditions = table.x[rows][:, n_columns:]
    sampled = model.sample(
        ROWS_FOR_IMPUTATION,
        make_generator(seed, Stream.SAMPLE),
        F.pad(conditions, (n_columns, 0)).to(model.free) if conditions.shape[1] else None,
    )
    x = torch.cat([sampled.to(conditions), conditions], 1)
    return Dataset.from_x(x, None, ROWS_FOR_IMPUTATION, 0.0)
