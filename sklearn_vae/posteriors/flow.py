"""The normalising-flow posterior: a diagonal Gaussian transformed by coupling layers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from sklearn_vae.networks import MLP, bounded
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_integer
from sklearn_vae.posteriors.base import NO_FREE_BITS, Posterior, PosteriorDistribution
from sklearn_vae.posteriors.diagonal import DiagonalGaussian
from sklearn_vae.priors import HALF_LOG_2PI, Prior

# Bound of the log-scales of a layer, for factors between 1/20 and 20.
LOG_COUPLING_BOUND = 3.0
# Largest number of layers, so that a forged file cannot ask for millions.
MAX_LAYERS = 64
# Streams 0 and 1 of a model's random weights are those of encoder and decoder.
FIRST_STREAM = 2


@serializable
@dataclass(frozen=True)
class NormalizingFlow(Posterior):
    r"""A normalising flow of coupling layers over the diagonal Gaussian.

    .. math::
        z = \mu(x) + \sigma(x) \odot f_n(\ldots f_1(\epsilon; h(x)) \ldots; h(x)),
        \qquad \epsilon \sim \mathcal{N}(0, I)

    An affine coupling layer keeps one half of the dimensions, and scales and shifts the other
    half by a small network of the first half and of the context h(x), which the encoder
    outputs beside location and scale. Both directions cost the same, so that any z has a
    density. Layers are initialised as the identity, so that the initial model is
    probabilistic PCA. The KL is estimated by the draws of z. The mean has no closed form:
    ``transform`` returns the image of :math:`\epsilon = 0`.

    Parameters
    ----------
    n_layers : int, default=4
        Coupling layers; at most 64.
    hidden : int, default=32
        Hidden units of the network in each layer.
    n_context : int, default=16
        Dimension of the context h(x).

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

    requirements = (NO_FREE_BITS,)

    n_layers: int = 4
    hidden: int = 32
    n_context: int = 16

    def __post_init__(self) -> None:
        check_integer(self, "n_layers", self.n_layers, 1, MAX_LAYERS)
        check_integer(self, "hidden", self.hidden)
        check_integer(self, "n_context", self.n_context)

    def n_params(self, n_components: int) -> int:
        """A location and a log-scale per dimension, and the context."""
        return 2 * n_components + self.n_context

    def has_closed_form_kl(self, prior: Prior) -> bool:
        """The KL is estimated by the draws of z."""
        return False

    def distribution(self, n_members: int, n_components: int) -> "CouplingFlow":
        """Make the coupling layers of stacked members."""
        return CouplingFlow(n_members, n_components, self)


class AffineCoupling(nn.Module):
    """Affine coupling layer: scales and shifts every second dimension by a network of the rest.

    Parameters
    ----------
    n_members, n_components, n_context, hidden : int
        Shapes.
    index : int
        Number of the layer: even ones transform even dimensions, odd ones odd dimensions.
    """

    def __init__(self, n_members: int, n_components: int, n_context: int, hidden: int, index: int):
        super().__init__()
        self.transformed = list(range(index % 2, n_components, 2))
        self.kept = list(range(1 - index % 2, n_components, 2))
        order = [*self.transformed, *self.kept]
        self.inverse_order = sorted(range(n_components), key=order.__getitem__)
        n_in, n_out = len(self.kept) + n_context, 2 * len(self.transformed)
        self.network = MLP(n_members, n_in, n_out, (hidden,), "tanh")

    def forward(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Transform (M, K, B, l), for a context (M, B, c); the log-abs-det-Jacobian (M, K, B)."""
        transformed, kept = noise[..., self.transformed], noise[..., self.kept]
        log_scale, shift = self._scale_and_shift(kept, context)
        z = torch.cat([transformed * log_scale.exp() + shift, kept], dim=-1)
        return z[..., self.inverse_order], log_scale.sum(-1)

    def inverse(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Invert the transform; the log-abs-det-Jacobian of the inverse (M, K, B)."""
        transformed, kept = z[..., self.transformed], z[..., self.kept]
        log_scale, shift = self._scale_and_shift(kept, context)
        noise = torch.cat([(transformed - shift) * (-log_scale).exp(), kept], dim=-1)
        return noise[..., self.inverse_order], -log_scale.sum(-1)

    def _scale_and_shift(self, kept: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        context = context.unsqueeze(1).expand(-1, kept.shape[1], -1, -1)
        inputs = torch.cat([kept, context], dim=-1)  # (M, K, B, l' + c)
        out = self.network(inputs.flatten(1, 2)).unflatten(1, kept.shape[1:3])
        raw, shift = out.chunk(2, dim=-1)
        return bounded(raw, LOG_COUPLING_BOUND), shift


class CouplingFlow(PosteriorDistribution, nn.Module):
    """Diagonal Gaussian transformed by affine coupling layers.

    Parameters
    ----------
    n_members, n_components : int
        Shapes.
    flow : NormalizingFlow
        Hyperparameters.
    """

    def __init__(self, n_members: int, n_components: int, flow: NormalizingFlow):
        super().__init__()
        self.base, self.n_base = DiagonalGaussian(), 2 * n_components
        self.n_context = flow.n_context
        # with one dimension, every second layer would transform nothing
        indices = range(0, flow.n_layers, 1 if n_components > 1 else 2)
        shape = n_members, n_components, flow.n_context, flow.hidden
        self.layers = nn.ModuleList(AffineCoupling(*shape, index) for index in indices)

    @property
    def _layers(self) -> Sequence[AffineCoupling]:
        return cast(Sequence[AffineCoupling], self.layers)

    @torch.no_grad()
    def draw(self, member: int, seed: int) -> None:
        """Draw one member's hidden layers; the last ones stay 0, for the identity."""
        for index, layer in enumerate(self._layers):
            layer.network.reset_parameters(member, seed, FIRST_STREAM + index)

    def initial_params(self, loc: Tensor, scale: Tensor) -> Tensor:
        """Parameters with this location and scale: (l), (l) -> (n_params)."""
        return torch.cat([self.base.initial_params(loc, scale), loc.new_zeros(self.n_context)])

    def mean(self, params: Tensor) -> Tensor:
        """The image of no noise: (M, B, n_params) -> (M, B, l)."""
        noise = params.new_zeros(1, 1, 1, self.n_base // 2)
        return self.rsample(params, noise)[:, 0]

    def split(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Locations and log-scales of the transformed noise: (..., l), (..., l)."""
        return self.base.split(params[..., : self.n_base])

    def rsample(self, params: Tensor, noise: Tensor, proposal_scale: float = 1.0) -> Tensor:
        """Reparameterised draws: (M, B, n_params), (M or 1, K, B or 1, l) -> (M, K, B, l)."""
        return self._transform(params, noise, proposal_scale)[0]

    def propose(
        self,
        params: Tensor,
        noise: Tensor,
        proposal_scale: float = 1.0,
        *,
        stop_gradient: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Importance-sampling draws (M, K, B, l), and their log-density (M, K, B)."""
        if stop_gradient:
            return super().propose(params, noise, proposal_scale, stop_gradient=True)
        z, log_det = self._transform(params, noise, proposal_scale)
        log_normal = -0.5 * noise.square() - HALF_LOG_2PI - math.log(proposal_scale)
        return z, log_normal.sum(-1) - log_det

    def _transform(
        self, params: Tensor, noise: Tensor, proposal_scale: float
    ) -> tuple[Tensor, Tensor]:
        """Draws, and the log-abs-det-Jacobian with respect to the scaled noise."""
        loc, log_scale = self.split(params)
        context = params[..., self.n_base :]
        z = (proposal_scale * noise).expand(*context.shape[:1], -1, context.shape[1], -1)
        log_det = log_scale.sum(-1).unsqueeze(1)  # (M, 1, B)
        for layer in self._layers:
            z, layer_log_det = layer(z, context)
            log_det = log_det + layer_log_det
        return loc.unsqueeze(1) + log_scale.exp().unsqueeze(1) * z, log_det

    def log_prob(
        self, params: Tensor, z: Tensor, proposal_scale: float = 1.0, *, stop_gradient: bool = False
    ) -> Tensor:
        """Log-density in nats of draws z: (M, B, n_params), (M, K, B, l) -> (M, K, B).

        With ``stop_gradient`` the parameters, also those of the layers, are detached.
        """
        if stop_gradient:
            detached = {name: weight.detach() for name, weight in self.named_parameters()}
            return torch.func.functional_call(self, detached, (params.detach(), z, proposal_scale))
        return self(params, z, proposal_scale)

    def forward(self, params: Tensor, z: Tensor, proposal_scale: float) -> Tensor:
        """Log-density in nats of draws z, by the inverse of the layers."""
        loc, log_scale = self.split(params)
        context = params[..., self.n_base :]
        noise = (z - loc.unsqueeze(1)) * (-log_scale).exp().unsqueeze(1)
        log_det = -log_scale.sum(-1).unsqueeze(1)
        for layer in reversed(self._layers):
            noise, layer_log_det = layer.inverse(noise, context)
            log_det = log_det + layer_log_det
        log_normal = (
            -0.5 * (noise / proposal_scale).square() - HALF_LOG_2PI - math.log(proposal_scale)
        )
        return log_normal.sum(-1) + log_det
