"""Stacked ensemble members: parameters as one flat tensor, and as arrays by name."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.sizes import aligned
from sklearn_vae.networks.mlp import FlatParameter, SkipNetwork

# A step of Adam moves each weight by about the learning rate, and an output by the sum of these
# changes over the inputs. Above this number of inputs, their sum of learning rates is limited.
WIDE_INPUT = 128
MAX_SUM_OF_RATES = 1.28


class StackedModule(nn.Module):
    """An encoder and a decoder whose parameters and buffers have a member axis in front.

    For training, ``flatten`` moves all parameters into one tensor, ``flat`` of shape
    (M, P), of which the modules hold views.
    """

    encoder: SkipNetwork
    decoder: SkipNetwork

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture = architecture

    @property
    def n_members(self) -> int:
        """Number of members."""
        return len(next(self.parameters()))

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    def reset_parameters(self, member: int, seed: int) -> None:
        """Initialize one member's hidden layers at random."""
        self.encoder.reset_parameters(member, seed, side=0)
        self.decoder.reset_parameters(member, seed, side=1)

    @torch.no_grad()
    def select(self, members: Tensor) -> None:
        """Keep these members only, by index or mask."""
        for tensor in [*self.parameters(), *self.buffers()]:
            tensor.data = tensor.data[members]
        self.flatten()

    # -- weights ---------------------------------------------------------------------

    def flatten(self) -> None:
        """Move all parameters into one tensor ``flat`` and their gradients into another.

        A layer's bias follows its weights, and the skip connection the last layer, so that each
        layer is one block of rows. Zeros follow, to an aligned length. ``decays`` is the mask of
        numbers with weight decay, and ``lr_spans`` has the parts of ``flat`` by the limits of their
        learning rates. Call it again after moving the module to another device or dtype.
        """
        encoder, decoder = self.encoder.flat_parameters(), self.decoder.flat_parameters()
        others = [
            FlatParameter(param)
            for name, param in self.named_parameters()
            if not name.startswith(("encoder.", "decoder."))
        ]
        params = [*encoder, *decoder, *others]
        parts = [param.value.detach().flatten(1) for param in params]
        n_params = sum(part.shape[1] for part in parts)
        self.padding = parts[0].new_zeros(self.n_members, aligned(n_params) - n_params)
        self.flat = torch.cat([*parts, self.padding], dim=1)
        self.flat_grad = torch.zeros_like(self.flat)
        self.decays = torch.zeros_like(self.flat[0])
        n_inputs = self.architecture.n_input_values
        max_input_lr = MAX_SUM_OF_RATES / n_inputs if n_inputs > WIDE_INPUT else math.inf
        self.lr_spans: dict[float, list[slice]] = {}
        self.offsets: dict[int, int] = {}
        position = 0
        for number, (param, decays, reads_input) in enumerate(params):
            end = position + param[0].numel()
            self.offsets[id(param)] = position
            self.decays[position:end] = decays
            max_lr = max_input_lr if reads_input and number < len(encoder) else math.inf
            spans = self.lr_spans.setdefault(max_lr, [])
            is_next = bool(spans) and spans[-1].stop == position
            spans.append(slice(spans.pop().start if is_next else position, end))
            param.data = self.flat[:, position:end].view(param.shape)
            param.grad = self.flat_grad[:, position:end].view(param.shape)
            position = end

    def weights(self, member: int = 0) -> dict[str, np.ndarray]:
        """Copy one member's parameters, by name, with a member axis of 1."""
        return {
            name: value[member : member + 1].cpu().numpy().copy()
            for name, value in self.state_dict().items()
        }

    @torch.no_grad()
    def load(self, weights: dict[str, np.ndarray], member: int | None = None) -> None:
        """Set the parameters of all members, or of one, by name."""
        for name, value in self.state_dict().items():
            target = value if member is None else value[member : member + 1]
            # tensor(), not as_tensor(), which warns of arrays that are read-only
            target.copy_(torch.tensor(weights[name]))
