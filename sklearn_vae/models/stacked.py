"""Models of one shape side by side: their parameters as one tensor, and as arrays by name."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_vae.networks import SkipNetwork


class StackedModule(nn.Module):
    """An encoder and a decoder whose parameters and buffers have a member axis in front.

    For training, ``flatten`` moves all parameters into one tensor, ``flat`` of shape
    (M, P), of which the modules hold views.

    Parameters
    ----------
    architecture : Architecture
        Shapes.
    sizes : ndarray of shape (M,)
        Width of each member's noise, where some have fewer latent dimensions than the
        architecture.
    """

    encoder: SkipNetwork
    decoder: SkipNetwork

    def __init__(self, architecture: Any, sizes: np.ndarray):
        super().__init__()
        self.architecture = architecture
        self.sizes = sizes

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def flat_parameters(self) -> list[nn.Parameter]:
        """All parameters, in the order in which ``flat`` holds them."""
        raise NotImplementedError

    def matrices(self) -> list[nn.Parameter]:
        """The networks' matrices, which weight decay shrinks."""
        return [*self.encoder.matrices(), *self.decoder.matrices()]

    def reset_network_parameters(self, member: int, seed: int, n_latent: int | None = None) -> None:
        """Draw one member's hidden layers, for a decoder of so many inputs or of all."""
        self.encoder.reset_parameters(member, seed, 0)
        self.decoder.reset_parameters(member, seed, 1, n_in=n_latent)

    def begin_iteration(self, iteration: int) -> None:
        """Take note of how far training is; here, nothing depends on it."""

    @torch.no_grad()
    def select(self, members: Tensor) -> None:
        """Go on with these members only."""
        self.sizes = self.sizes[members.cpu().numpy()]
        for tensor in [*self.parameters(), *self.buffers()]:
            tensor.data = tensor.data[members]
        self.flatten()

    # -- weights ---------------------------------------------------------------------

    def flatten(self) -> None:
        """Move all parameters into one tensor ``flat`` and their gradients into another.

        A layer's bias follows its weights, and the linear path the last layer, so that each
        layer is one block of rows. ``decays`` tells which numbers weight decay shrinks: the
        networks' matrices. Call it again after moving the module to another device or type.
        """
        params = self.flat_parameters()
        n_members = len(self.sizes)
        self.flat = torch.cat([param.detach().reshape(n_members, -1) for param in params], dim=1)
        self.flat_grad = torch.zeros_like(self.flat)
        self.decays = torch.zeros_like(self.flat[0])
        matrices = {id(param) for param in self.matrices()}
        self.places: dict[int, int] = {}
        position = 0
        for param in params:
            end = position + param[0].numel()
            self.places[id(param)] = position
            self.decays[position:end] = id(param) in matrices
            param.data = self.flat[:, position:end].view(param.shape)
            param.grad = self.flat_grad[:, position:end].view(param.shape)
            position = end

    def block(self, params: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """View neighbouring parameters and their gradients as one: (M, all rows, n_out)."""
        first = self.places[id(params[0])]
        shape = (len(self.flat), sum(param.shape[1] for param in params), params[0].shape[2])
        end = first + shape[1] * shape[2]
        value, grad = (flat[:, first:end].view(shape) for flat in (self.flat, self.flat_grad))
        return value, grad

    def weights(self, member: int = 0) -> dict[str, np.ndarray]:
        """Copy one member's parameters out, by name, as if it had been alone."""
        return {
            name: value[member : member + 1].cpu().numpy().copy()
            for name, value in self.state_dict().items()
        }

    @torch.no_grad()
    def load(self, weights: dict[str, np.ndarray], member: int | None = None) -> None:
        """Copy parameters in, by name: those of all members, or of one."""
        for name, value in self.state_dict().items():
            place = value if member is None else value[member : member + 1]
            # tensor(), not as_tensor(), which warns of arrays that are read-only
            place.copy_(torch.tensor(weights[name]))
