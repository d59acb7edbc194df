"""Models of architectures."""

from typing import Any

from sklearn_vae.models.architecture import Architecture, MixtureArchitecture
from sklearn_vae.models.mixture_vae import MixtureVAE
from sklearn_vae.models.vae import VAE


def build(architecture: Architecture, n_members: int = 1) -> Any:  # its class follows from that
    """Build the model of an architecture, all parameters zero."""
    if isinstance(architecture, MixtureArchitecture):
        return MixtureVAE(architecture, n_members)
    return VAE(architecture, n_members)
