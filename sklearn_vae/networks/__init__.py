"""Encoders and decoders, tensor to tensor with a member axis in front.

A ``Network`` is an architecture without weights; its ``build_encoder`` and ``build_decoder`` make
``SkipNetwork`` modules, which hold the weights of all members.
"""

from sklearn_vae.networks.base import FullyConnected, Layout, Network, RowStructure
from sklearn_vae.networks.convolution import ConvNet
from sklearn_vae.networks.custom import CustomNetwork
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
    "FullyConnected",
    "GRUNet",
    "Layout",
    "Network",
    "PerMember",
    "RowStructure",
    "SkipNetwork",
]
