"""Networks by their names."""

from sklearn_vae.networks.base import FullyConnected, Network
from sklearn_vae.networks.convolution import ConvNet
from sklearn_vae.networks.recurrent import GRUNet

# Names of the parameter ``network``.
NETWORKS: dict[str, Network] = {"mlp": FullyConnected(), "conv": ConvNet(), "gru": GRUNet()}
