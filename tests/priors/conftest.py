"""A model with random weights."""

import torch

from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.vae import VAE


def random_model(prior, *, n_components=2, n_members=1, size=0.4):
    """A model of four columns in double precision whose every weight is random."""
    architecture = Architecture(n_components, (6, 5), ((Gaussian(), 4),), prior=prior)
    model = VAE(architecture, n_members).double()
    model.flatten()
    model.flat.normal_(0, size, generator=torch.Generator().manual_seed(3))
    return model
