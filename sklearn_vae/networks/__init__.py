"""Tensor to tensor, with a member axis in front: what encoders and decoders are made of.

A *path* is a network with weights, of all members; a *kind* of network is a value that makes
paths and holds no weights.
"""

from sklearn_vae.networks.convolution import Convolution
from sklearn_vae.networks.dense import (
    ACTIVATIONS,
    MLP,
    Dense,
    Path,
    bounded,
    unbounded,
)
from sklearn_vae.networks.each import Each
from sklearn_vae.networks.following import Following
from sklearn_vae.networks.kind import Layout, Network, Perceptron
from sklearn_vae.networks.own import Own, Sides
from sklearn_vae.networks.recurrent import Recurrent
from sklearn_vae.networks.residual import ResidualPerceptron

NETWORKS: dict[str, Network] = {
    "mlp": Perceptron(),
    "conv": Convolution(),
    "gru": Recurrent(),
    "residual": ResidualPerceptron(),
}

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "NETWORKS",
    "Convolution",
    "Dense",
    "Each",
    "Following",
    "Layout",
    "Network",
    "Own",
    "Path",
    "Perceptron",
    "Recurrent",
    "ResidualPerceptron",
    "Sides",
    "bounded",
    "unbounded",
]
