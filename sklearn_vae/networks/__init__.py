"""Encoders and decoders, tensor to tensor with a member axis in front.

A ``Network`` is an architecture without weights; its ``build`` makes ``SkipNetwork`` modules, which
hold the weights of all members. Modules of PyTorch are imported on first use.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sklearn_vae.networks.base import (
    FullyConnected as FullyConnected,
    Layout as Layout,
    Network as Network,
    RowStructure as RowStructure,
)
from sklearn_vae.persistence.validation import register_later

if TYPE_CHECKING:
    from sklearn_vae.networks.convolution import ConvNet as ConvNet
    from sklearn_vae.networks.custom import CustomNetwork as CustomNetwork
    from sklearn_vae.networks.recurrent import GRUNet as GRUNet

# name -> file
_MODULE = {"ConvNet": "convolution", "CustomNetwork": "custom", "GRUNet": "recurrent"}
register_later({name: f"{__name__}.{file}" for name, file in _MODULE.items()})
register_later({"CustomModule": f"{__name__}.custom"})


class _Networks(Mapping[str, Network]):
    def __getitem__(self, name: str) -> Network:
        if name == "mlp":
            return FullyConnected()
        return __getattr__({"conv": "ConvNet", "gru": "GRUNet"}[name])()

    def __iter__(self) -> Iterator[str]:
        return iter(("mlp", "conv", "gru"))

    def __len__(self) -> int:
        return 3


# networks by name, as the parameter ``network`` has them
NETWORKS = _Networks()

__all__ = sorted(["NETWORKS", "FullyConnected", "Layout", "Network", "RowStructure", *_MODULE])


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
