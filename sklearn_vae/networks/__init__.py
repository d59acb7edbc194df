"""Tensor to tensor, with a member axis in front: what encoders and decoders are made of.

A *path* is a network with weights, of all members; a *kind* of network is a value that makes
paths and holds no weights.
"""

from sklearn_vae.networks.autoregressive import Autoregressive
from sklearn_vae.networks.base import FullyConnected, Layout, Network
from sklearn_vae.networks.convolution import ConvNet
from sklearn_vae.networks.custom import CustomNetwork, EncoderDecoderPair
from sklearn_vae.networks.mlp import ACTIVATIONS, MLP, Dense, Path, bounded, unbounded
from sklearn_vae.networks.per_member import PerMember
from sklearn_vae.networks.recurrent import GRUNet
from sklearn_vae.networks.residual import ResidualMLP

NETWORKS: dict[str, Network] = {
    "mlp": FullyConnected(),
    "conv": ConvNet(),
    "gru": GRUNet(),
    "residual": ResidualMLP(),
}

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "NETWORKS",
    "Autoregressive",
    "ConvNet",
    "CustomNetwork",
    "Dense",
    "EncoderDecoderPair",
    "FullyConnected",
    "GRUNet",
    "Layout",
    "Network",
    "Path",
    "PerMember",
    "ResidualMLP",
    "bounded",
    "unbounded",
]
