"""Encoders and decoders, tensor to tensor with a member axis in front.

A ``Network`` is an architecture without weights; its ``encoder`` and ``decoder`` build
``SkipNetwork`` modules, which hold the weights of all members.
"""

from sklearn_vae.networks.base import FullyConnected, Layout, Network, RowStructure
from sklearn_vae.networks.convolution import ConvNet
from sklearn_vae.networks.custom import CustomNetwork, EncoderDecoderPair
from sklearn_vae.networks.mlp import MLP, Dense, SkipNetwork
from sklearn_vae.networks.per_member import PerMember
from sklearn_vae.networks.recurrent import GRUNet

NETWORKS: dict[str, Network] = {
    "mlp": FullyConnected(),
    "conv": ConvNet(),
    "gru": GRUNet(),
}

__all__ = [
    "MLP",
    "NETWORKS",
    "ConvNet",
    "CustomNetwork",
    "Dense",
    "EncoderDecoderPair",
    "FullyConnected",
    "GRUNet",
    "Layout",
    "Network",
    "PerMember",
    "RowStructure",
    "SkipNetwork",
]
