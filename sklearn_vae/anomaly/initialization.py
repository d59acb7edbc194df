"""Random initialization of the detector's autoencoders."""

from typing import cast

import numpy as np
import torch

from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.vae import build
from sklearn_vae.networks import MLP
from sklearn_vae.random import Stream, make_generator


def random_parameters(
    architecture: Architecture, seed: int, imputation: tuple[np.ndarray, ...] | None = None
) -> dict[str, np.ndarray]:
    """Parameters of a VAE whose output layers are random, too, with variance 1 / fan-in.

    Other estimators are initialized at probabilistic PCA. There, outliers among the training
    rows would have principal axes of their own and be reconstructed well. ``imputation`` are the
    parameters of an imputation layer.
    """
    model = build(architecture)
    model.reset_parameters(0, seed)
    if imputation is not None:
        model.filler.initialize(0, imputation)
    for side, network in enumerate(cast(list[MLP], [model.encoder, model.decoder])):
        matrix = network.linear.weight if network.last is None else network.last
        generator = make_generator(seed, Stream.WEIGHTS, side, len(network.hidden))
        values = torch.randn(matrix.shape, generator=generator) / matrix.shape[1] ** 0.5
        matrix.data.copy_(values)
    return model.weights()
