"""Normal numbers that invertible layers have bent."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from sklearn_vae.compatibility import Requirement
from sklearn_vae.networks import MLP, bounded
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_integer
from sklearn_vae.posteriors.base import NO_FREE_BITS, Continuous
from sklearn_vae.posteriors.diagonal import DiagonalGaussian
from sklearn_vae.priors import HALF_LOG_2PI

# A layer stretches a dimension by a factor between 1/20 and 20.
LOG_STRETCH_BOUND = 3.0
# More layers would be a mistake, and a file that asks for millions of them no model.
MOST_LAYERS = 64
# The first two sides of a model's streams of weights are encoder and decoder.
FIRST_SIDE = 2


@serializable
@dataclass(frozen=True)
class NormalizingFlow(Continuous):
    r"""A normalising flow of coupling layers over the diagonal Gaussian.

    .. math::
        z = \mu(x) + \sigma(x) \odot f_n(\ldots f_1(\epsilon; h(x)) \ldots; h(x)),
        \qquad \epsilon \sim \mathcal{N}(0, I)

    Every layer leaves one half of the dimensions as it is, and stretches and shifts the
    other half by what a small network makes of the first half and of the context h(x), which
    the encoder gives beside location and scale. Both directions cost the same, so the
    density of any z is known. Layers start at the identity: before the first step the model
    is probabilistic PCA, here too. Its KL is found by the draws of z, and there is no
    closed form of the mean: ``transform`` gives the image of :math:`\epsilon = 0`.

    Parameters
    ----------
    n_layers : int, default=4
        Coupling layers; at most 64.
    hidden : int, default=32
        Width of the network in each layer.
    n_context : int, default=16
        Numbers by which the encoder tells the layers of the row.

    Raises
    ------
    ValueError
        If one of these is not an integer in its range.

    References
    ----------
    .. [1] D. J. Rezende and S. Mohamed, "Variational Inference with Normalizing Flows",
       ICML 2015.
    .. [2] L. Dinh, J. Sohl-Dickstein and S. Bengio, "Density Estimation Using Real NVP",
       ICLR 2017.

    Examples
    --------
    >>> from sklearn_vae.posteriors import NormalizingFlow
    >>> NormalizingFlow(n_layers=6)
    NormalizingFlow(n_layers=6, hidden=32, n_context=16)
    """

    requirements: ClassVar[Sequence[Requirement]] = (NO_FREE_BITS,)
    exact_for = ()

    n_layers: int = 4
    hidden: int = 32
    n_context: int = 16

    def __post_init__(self) -> None:
        check_integer(self, "n_layers", self.n_layers, 1, MOST_LAYERS)
        check_integer(self, "hidden", self.hidden)
        check_integer(self, "n_context", self.n_context)

    def n_params(self, n_components: int) -> int:
        """A location and a log-scale per dimension, and the context."""
        return 2 * n_components + self.n_context

    def build(self, n_members: int, n_components: int) -> "FlowLaw":
        """Make the law, with the layers' weights."""
        return FlowLaw(n_members, n_components, self)


class Coupling(nn.Module):
    """One layer: some dimensions are stretched and shifted by what the others are.

    Parameters
    ----------
    n_members, n_components, n_context, hidden : int
        Shapes.
    place : int
        The layer's number: even ones move even dimensions, odd ones the others.
    """

    def __init__(self, n_members: int, n_components: int, n_context: int, hidden: int, place: int):
        super().__init__()
        self.moved = list(range(place % 2, n_components, 2))
        self.kept = list(range(1 - place % 2, n_components, 2))
        order = [*self.moved, *self.kept]
        self.back = sorted(range(n_components), key=order.__getitem__)
        n_in, n_out = len(self.kept) + n_context, 2 * len(self.moved)
        self.network = MLP(n_members, n_in, n_out, (hidden,), "tanh")

    def forward(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Bend numbers (M, K, B, l), for a context (M, B, c); the log-determinant (M, K, B)."""
        moved, kept = noise[..., self.moved], noise[..., self.kept]
        log_stretch, shift = self._motion(kept, context)
        bent = torch.cat([moved * log_stretch.exp() + shift, kept], dim=-1)
        return bent[..., self.back], log_stretch.sum(-1)

    def inverse(self, bent: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Bend numbers (M, K, B, l) back; the log-determinant of doing so (M, K, B)."""
        moved, kept = bent[..., self.moved], bent[..., self.kept]
        log_stretch, shift = self._motion(kept, context)
        noise = torch.cat([(moved - shift) * (-log_stretch).exp(), kept], dim=-1)
        return noise[..., self.back], -log_stretch.sum(-1)

    def _motion(self, kept: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        context = context.unsqueeze(1).expand(-1, kept.shape[1], -1, -1)
        inputs = torch.cat([kept, context], dim=-1)  # (M, K, B, l' + c)
        out = self.network(inputs.flatten(1, 2)).unflatten(1, kept.shape[1:3])
        raw, shift = out.chunk(2, dim=-1)
        return bounded(raw, LOG_STRETCH_BOUND), shift


class FlowLaw(Continuous, nn.Module):
    """Draws and densities of normal numbers that coupling layers have bent.

    Parameters
    ----------
    n_members, n_components : int
        Shapes.
    kind : NormalizingFlow
        How many layers, and how wide.
    """

    def __init__(self, n_members: int, n_components: int, kind: NormalizingFlow):
        super().__init__()
        self.base, self.n_base = DiagonalGaussian(), 2 * n_components
        self.n_context = kind.n_context
        # of one dimension, every other layer would have nothing to move
        places = range(0, kind.n_layers, 1 if n_components > 1 else 2)
        shape = n_members, n_components, kind.n_context, kind.hidden
        self.layers = nn.ModuleList(Coupling(*shape, place) for place in places)

    @property
    def _layers(self) -> Sequence[Coupling]:
        return cast(Sequence[Coupling], self.layers)

    @torch.no_grad()
    def draw(self, member: int, seed: int) -> None:
        """Draw one member's hidden layers; the last ones stay 0, which is the identity."""
        for place, layer in enumerate(self._layers):
            layer.network.reset_parameters(member, seed, FIRST_SIDE + place)

    def start(self, loc: Tensor, scale: Tensor) -> Tensor:
        """Parameters that have this location and scale: (l), (l) -> (n_params)."""
        return torch.cat([self.base.start(loc, scale), loc.new_zeros(self.n_context)])

    def mean(self, params: Tensor) -> Tensor:
        """The image of no noise: (M, B, n_params) -> (M, B, l)."""
        noise = params.new_zeros(1, 1, 1, self.n_base // 2)
        return self.rsample(params, noise)[:, 0]

    def split(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Locations and log-scales of what the layers bend: (..., l), (..., l)."""
        return self.base.split(params[..., : self.n_base])

    def rsample(self, params: Tensor, noise: Tensor, proposal_scale: float = 1.0) -> Tensor:
        """Draws for (M, B, n_params) and normal numbers (M or 1, K, B or 1, l): (M, K, B, l)."""
        return self._bent(params, noise, proposal_scale)[0]

    def propose(
        self,
        params: Tensor,
        noise: Tensor,
        proposal_scale: float = 1.0,
        *,
        stop_gradient: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Draws (M, K, B, l) for weighting by importance, and their log-density (M, K, B)."""
        if stop_gradient:
            return super().propose(params, noise, proposal_scale, stop_gradient=True)
        z, log_det = self._bent(params, noise, proposal_scale)
        log_normal = -0.5 * noise.square() - HALF_LOG_2PI - math.log(proposal_scale)
        return z, log_normal.sum(-1) - log_det

    def _bent(self, params: Tensor, noise: Tensor, proposal_scale: float) -> tuple[Tensor, Tensor]:
        """Draws, and the log-determinant of making them of ``proposal_scale`` times the noise."""
        loc, log_scale = self.split(params)
        context = params[..., self.n_base :]
        bent = (proposal_scale * noise).expand(*context.shape[:1], -1, context.shape[1], -1)
        log_det = log_scale.sum(-1).unsqueeze(1)  # (M, 1, B)
        for layer in self._layers:
            bent, own = layer(bent, context)
            log_det = log_det + own
        return loc.unsqueeze(1) + log_scale.exp().unsqueeze(1) * bent, log_det

    def log_prob(
        self, params: Tensor, z: Tensor, proposal_scale: float = 1.0, *, stop_gradient: bool = False
    ) -> Tensor:
        """Log-density in nats of draws z: (M, B, n_params), (M, K, B, l) -> (M, K, B).

        With ``stop_gradient`` its gradient is that through z alone, and the layers' weights
        have none.
        """
        if stop_gradient:
            held = {name: weight.detach() for name, weight in self.named_parameters()}
            return torch.func.functional_call(self, held, (params.detach(), z, proposal_scale))
        return self(params, z, proposal_scale)

    def forward(self, params: Tensor, z: Tensor, proposal_scale: float) -> Tensor:
        """Log-density in nats of draws z, by bending them back."""
        loc, log_scale = self.split(params)
        context = params[..., self.n_base :]
        noise = (z - loc.unsqueeze(1)) * (-log_scale).exp().unsqueeze(1)
        log_det = -log_scale.sum(-1).unsqueeze(1)
        for layer in reversed(self._layers):
            noise, own = layer.inverse(noise, context)
            log_det = log_det + own
        log_normal = (
            -0.5 * (noise / proposal_scale).square() - HALF_LOG_2PI - math.log(proposal_scale)
        )
        return log_normal.sum(-1) + log_det
