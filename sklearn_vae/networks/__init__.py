"""Encoders and decoders, tensor to tensor with a member axis in front.

A ``Network`` is an architecture without weights; its ``build`` makes ``SkipNetwork`` modules, which
hold the weights of all members. Modules of PyTorch are imported on first use: the numpy runtime
needs none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sklearn_vae.networks.base import (
    FullyConnected as FullyConnected,
    Layout as Layout,
    Network as Network,
    RowStructure as RowStructure,
)

if TYPE_CHECKING:
    from sklearn_vae.networks.convolution import ConvNet as ConvNet
    from sklearn_vae.networks.custom import CustomNetwork as CustomNetwork
    from sklearn_vae.networks.recurrent import GRUNet as GRUNet

    NETWORKS: dict[str, Network]

# name -> file
_MODULE = {"ConvNet": "convolution", "CustomNetwork": "custom", "GRUNet": "recurrent"}

__all__ = sorted(["NETWORKS", "FullyConnected", "Layout", "Network", "RowStructure", *_MODULE])


def __getattr__(name: str) -> Any:
    if name == "NETWORKS":  # names of the parameter ``network``
        convolutional, recurrent = __getattr__("ConvNet"), __getattr__("GRUNet")
        return {"mlp": FullyConnected(), "conv": convolutional(), "gru": recurrent()}
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
