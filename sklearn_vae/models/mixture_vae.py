"""VAE of a Gaussian mixture, as which it is initialized, for M ensemble members at once.

p(x) = sum_c pi_c ∫ N(z; 0, I) p(x|z, c) dz. In p(x|z, c), a network of z and c shifts, scales and
shears the real columns of the c-th component, in the component's own whitened coordinates. Other
columns are independent given z: the network adds to the component's parameters. The network's last
layer starts at zero, so before the first step p(x) is the mixture. Missing values are integrated
out.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_vae.models.architecture import MixtureArchitecture, MixtureInit
from sklearn_vae.models.incomplete_normal import marginal_of_normal
from sklearn_vae.models.mixture_ensemble import Standardized
from sklearn_vae.models.stacked import StackedModule
from sklearn_vae.models.vae import Draws, build
from sklearn_vae.networks import MLP
from sklearn_vae.numerics.functional import bounded
from sklearn_vae.numerics.model_constants import (
    COMPONENT_LOG_SCALE_BOUND,
    GOLDEN_RATIO,
    HALF_LOG_2PI,
    LOG_ZERO_WEIGHT,
)
from sklearn_vae.numerics.random import Stream, make_generator, sample_categorical
from sklearn_vae.posteriors import DiagonalGaussian
from sklearn_vae.priors import StandardNormal

# Size of the shears' first values, in units of what one column gives another.
FIRST_SHEAR = 0.1


class Row(NamedTuple):
    """Encoded rows, split into real columns and others.

    Attributes
    ----------
    real, others : Tensor of shape (..., d), (..., n_columns - d)
        Values; 0 where they are missing.
    real_observed, others_observed : Tensor or None
        Masks of observed values, one per column of X; None for complete rows.
    """

    real: Tensor
    others: Tensor
    real_observed: Tensor | None = None
    others_observed: Tensor | None = None


class MixtureVAE(StackedModule):
    """A variational autoencoder that is initialized as a mixture, with a member axis.

    All parameters are zero until ``reset_parameters`` and ``initialize``, or ``load``.

    Parameters
    ----------
    architecture : MixtureArchitecture
        Shapes.
    n_members : int, default=1
        Number of models that are computed side by side.
    """

    architecture: MixtureArchitecture

    def __init__(self, architecture: MixtureArchitecture, n_members: int = 1):
        super().__init__(architecture, np.full(n_members, architecture.n_noise))
        self.posterior, self.prior = DiagonalGaussian(), StandardNormal()
        is_real = torch.as_tensor(architecture.is_normal)
        # plain tensors, not parameters: the architecture determines them
        self.real_columns, self.other_columns = is_real.nonzero()[:, 0], (~is_real).nonzero()[:, 0]
        self.others = architecture.others
        self.scale_params = torch.as_tensor(self.others.is_scale_param).nonzero()[:, 0]
        self.least_params = torch.as_tensor(architecture.least_params)[self.scale_params]
        n_real, n_params = len(self.real_columns), self.others.n_params
        least_scales = architecture.least_scales[architecture.is_real_value]
        self.least_scales = torch.as_tensor(least_scales)
        n_latent, n_mixture = architecture.n_components, architecture.n_mixture
        hidden = architecture.hidden_layer_sizes
        self.splits = [n_real, n_real, architecture.n_shears, n_params]
        n_posterior_params = self.posterior.n_params(n_latent)
        self.encoder = MLP(n_members, architecture.n_inputs, n_posterior_params, hidden)
        self.decoder = MLP(n_members, n_latent + n_mixture, sum(self.splits), hidden[::-1])
        # 1 where the first column of a shear lies before the second, otherwise 0: (S d, d)
        self.before = torch.ones(n_real, n_real).triu(1).repeat(architecture.n_shears, 1)
        self.shears = nn.Parameter(torch.zeros(n_members, architecture.n_shears * n_real, n_real))
        self.mixture_logit = nn.Parameter(torch.zeros(n_members, 1, n_mixture))
        self.loc: Tensor
        self.whiten: Tensor
        self.log_det: Tensor
        self.params: Tensor
        self.min_log_scale: Tensor
        self.is_full = architecture.covariance_type == "full"
        root = (n_real, n_real) if self.is_full else (n_real,)
        self.register_buffer("loc", torch.zeros(n_members, n_mixture, n_real))
        self.register_buffer("whiten", torch.zeros(n_members, n_mixture, *root))
        self.register_buffer("log_det", torch.zeros(n_members, n_mixture))
        self.register_buffer("params", torch.zeros(n_members, n_mixture, n_params))
        min_log_scale = torch.full((n_members, n_mixture), -COMPONENT_LOG_SCALE_BOUND)
        self.register_buffer("min_log_scale", min_log_scale)

    # -- density ---------------------------------------------------------------------

    def encode(self, x: Tensor) -> Tensor:
        """Parameters of q(z|x): (M, B, n_columns) -> (M, B, 2 l)."""
        return self.encoder(self.architecture.encoder_input(x))

    def split(self, x: Tensor, *, is_complete: bool = False) -> Row:
        """Split rows (..., n_columns), and their masks of observed values."""
        if not len(self.other_columns):
            real, others = x, x[..., :0]
        else:
            real, others = x[..., self.real_columns], x[..., self.other_columns]
        if is_complete or not x.isnan().any():
            return Row(real, others)
        observed = self.others.observed(others) if len(self.other_columns) else others.isnan()
        return Row(real.nan_to_num(), others.nan_to_num(), ~real.isnan(), observed)

    def log_weights(
        self,
        x: Tensor,
        noise: Tensor,
        *,
        stop_gradient: bool = False,
    ) -> Draws:
        """Codes and components drawn for each row, and their importance weights.

        Components are drawn by the starting mixture's responsibilities, codes from q(z|x).

        Parameters
        ----------
        x : Tensor of shape (M, B, n_columns)
            Encoded rows.
        noise : Tensor of shape (M or 1, K, B or 1, l + 1)
            Standard normal draws, per row or shared; the last one chooses the component.
        stop_gradient : bool, default=False
            Whether to stop the gradient of log q(z|x) with respect to q's parameters.

        Returns
        -------
        Draws
            With log p(x|z, c) and log p(z) pi_c / (q(z|x) q(c|x)) of each draw.
        """
        q = self.encode(x)
        z, log_q = self.posterior.propose(q, noise[..., :-1], stop_gradient=stop_gradient)
        row = self.split(x)
        white, log_density = Whitening(self)(row)
        log_share = (log_density + self.mixture_logit.detach().log_softmax(-1).mT).log_softmax(1)
        chosen = draw_components(log_share.exp(), noise[..., -1])  # (M, K, B)
        log_prob = self.log_prob_of(
            self.standardize(
                pick(white, chosen), self.decode(z, chosen), chosen, row.real_observed
            ),
            row.others.unsqueeze(1),
            None if row.others_observed is None else row.others_observed.unsqueeze(1),
        )
        log_c = pick(self.mixture_logit.log_softmax(-1).mT - log_share, chosen)
        return Draws(z, log_prob, log_c + self.prior.log_prob(z) - log_q)

    def standardize(
        self,
        white: Tensor,
        decoded: Sequence[Tensor],
        chosen: Tensor,
        observed: Tensor | None = None,
    ) -> Standardized:
        """Rows in the coordinates where p(x|z, c) is standard normal, and its other parameters.

        Parameters
        ----------
        white : Tensor of shape (M, d, K, B)
            Rows in their components' coordinates.
        decoded : sequence of Tensor of shape (M, ..., K, B)
            Outputs of the decoder, as ``decode`` returns them.
        chosen : Tensor of shape (M, K, B)
            Components.
        observed : Tensor of shape (M, B, d), bool, optional
            Mask of observed values; by default, none is missing.
        """
        shift, raw, mix, params = decoded
        log_scale = self._bounded_log_scale(raw, chosen)
        residual = white - shift
        standard = torch.addcmul(self._sheared(residual, mix), residual, (-log_scale).exp())
        log_det = pick(self.log_det.unsqueeze(-1), chosen)
        if params.shape[1]:
            params = self.bounded_params(params, pick(self.params.mT.unsqueeze(-1), chosen))
        parts = Standardized(standard, log_scale, params, log_det)
        return parts if observed is None else self._marginal(parts, mix, chosen, observed)

    def _bounded_log_scale(self, raw: Tensor, chosen: Tensor) -> Tensor:
        """Log-scales in their component's coordinates, bounded below: (M, d, K, B)."""
        log_scale, least = bounded(raw, COMPONENT_LOG_SCALE_BOUND), self.least_log_scale
        return log_scale if least is None else torch.maximum(log_scale, pick(least, chosen))

    def bounded_params(self, added: Tensor, start: Tensor) -> Tensor:
        """Parameters of the other columns, whose scales are bounded below: (M, P, K, B)."""
        params, scale = start + added, self.scale_params
        if len(scale):
            bounded_sum = start[:, scale] + added[:, scale].clamp(min=-COMPONENT_LOG_SCALE_BOUND)
            least = self.least_params.to(added).view(-1, 1, 1)
            params[:, scale] = torch.maximum(bounded_sum, least)
        return params

    def _marginal(
        self, parts: Standardized, mix: Tensor, chosen: Tensor, observed: Tensor
    ) -> Standardized:
        """Integrate out the missing values of rows: their density is that of the other values.

        The residuals are those of ``marginal_of_normal``, and so are the scales, in units of x.
        """
        standard, log_scale, params, log_det = parts
        member, row = (~observed.all(-1)).nonzero(as_tuple=True)  # of the I incomplete rows
        mask = observed[member, row].unsqueeze(1)  # (I, 1, d)
        if len(member) == 0:
            return parts
        scales = log_scale[member, :, :, row].mT  # (I, K, d)
        whiten = self.whiten[member.unsqueeze(1), chosen[member, :, row]]
        residual = standard[member, :, :, row].mT
        if self.architecture.is_independent:
            marginal = residual.where(mask, 0.0), (scales - whiten.log()).where(mask, 0.0)
        else:
            root = torch.diag_embed((-scales).exp())
            if n_shears := self.architecture.n_shears:
                shears = self.shears.unflatten(1, (n_shears, -1)).triu(1)  # (M, S, d, d)
                mixed = torch.einsum("isk,isde->iked", mix[member, :, :, row], shears[member])
                root = root + mixed
            whiten = whiten if self.is_full else torch.diag_embed(whiten)
            marginal = marginal_of_normal(whiten, residual, mask, root)
        standard, log_scale, log_det = standard.clone(), log_scale.clone(), log_det.clone()
        standard[member, :, :, row], log_scale[member, :, :, row] = (part.mT for part in marginal)
        # the scales are now those of X, and ``log_prob_of`` subtracts a constant of all columns
        log_det[member, :, row] = (
            (HALF_LOG_2PI * (~mask).to(log_det).sum(-1)).to(log_det).expand(-1, log_det.shape[1])
        )
        return Standardized(standard, log_scale, params, log_det)

    def log_prob_of(
        self, parts: Standardized, others: Tensor, observed: Tensor | None = None
    ) -> Tensor:
        """Log p(x|z, c) in nats, of ``standardize``'s parts and the other columns of x: (M, K, B).

        Other columns (M, 1 or K, B, n), and the mask of their observed values.
        """
        standard, log_scale, params, log_det = parts
        log_prob = -torch.addcmul(log_scale, standard, standard, value=0.5).sum(1)
        log_prob = log_prob - standard.shape[1] * HALF_LOG_2PI
        if params.shape[1]:
            blocks = self.others.split_params(params.movedim(1, -1))
            log_prob = log_prob + self.others.log_prob(blocks, others, observed)
        return log_det + log_prob

    def decode(self, z: Tensor, chosen: Tensor) -> tuple[Tensor, ...]:
        """Shift, raw scale, weights of the shears, and other parameters: (M, ..., K, B) each."""
        inputs = F.pad(z, (0, self.architecture.n_mixture))  # and the component, one-hot
        inputs.scatter_(-1, chosen.unsqueeze(-1) + z.shape[-1], 1.0)
        # features lie first, as the decoder leaves them
        out = self.decoder(inputs.flatten(1, 2)).mT.unflatten(2, z.shape[1:3])
        return out.split(self.splits, dim=1)

    @property
    def least_log_scale(self) -> Tensor | None:
        """Least log-scale of each column in each component: (M, d, C, 1); None without need.

        A component of few rows does not become narrower: it would suit these rows alone.
        """
        root = self.whiten.diagonal(dim1=-2, dim2=-1) if self.is_full else self.whiten
        least = (self.least_scales.to(root) * root).log()
        least = torch.maximum(least, self.min_log_scale.unsqueeze(-1))
        return least.mT.unsqueeze(-1) if (least > -COMPONENT_LOG_SCALE_BOUND).any() else None

    def _sheared(self, residual: Tensor, mix: Tensor) -> Tensor:
        """Sum of the shears of each column by those before it: (M, d, K, B) -> (M, d, K, B)."""
        if mix.shape[1] == 0:
            return residual.new_zeros(())
        parts = (mix.unsqueeze(2) * residual.unsqueeze(1)).flatten(1, 2)  # (M, S d, K, B)
        shears = self.shears * self.before.to(self.shears)
        return (shears.mT @ parts.flatten(2)).unflatten(2, residual.shape[2:])

    # -- initialization ---------------------------------------------------------------

    def reset_parameters(self, member: int, seed: int) -> None:
        """Initialize one member's hidden layers and shears at random."""
        super().reset_parameters(member, seed)
        generator = make_generator(seed, Stream.WEIGHTS, 2, 0)
        shape = self.shears[member].shape
        size = FIRST_SHEAR / max(shape[1], 1) ** 0.5
        with torch.no_grad():
            normal = torch.randn(shape, generator=generator, dtype=torch.float)
            self.shears[member].copy_(size * normal)

    @torch.no_grad()
    def initialize(self, member: int, mixture: MixtureInit) -> None:
        """Initialize one member as the mixture."""
        mixture = mixture.padded(self.architecture.n_mixture, self.architecture.covariance_type)
        root = torch.as_tensor(mixture.whiten)
        log_weight = torch.as_tensor(mixture.weight).log().clamp(min=LOG_ZERO_WEIGHT)
        diagonal = root.diagonal(dim1=-2, dim2=-1) if root.ndim == 3 else root
        self.mixture_logit[member, 0].copy_(log_weight)
        self.loc[member].copy_(torch.as_tensor(mixture.loc))
        self.whiten[member].copy_(root)
        self.log_det[member].copy_(diagonal.log().sum(-1))
        self.params[member].copy_(torch.as_tensor(mixture.params))
        self.min_log_scale[member].copy_(torch.as_tensor(mixture.min_log_scale))

    # -- members ---------------------------------------------------------------------

    @property
    def mask(self) -> None:
        """All members have all latent dimensions."""
        return

    def flat_parameters(self) -> list[nn.Parameter]:
        """All parameters in the order of ``flat``."""
        networks = [*self.encoder.flat_parameters(), *self.decoder.flat_parameters()]
        return [*networks, self.shears, self.mixture_logit]


class Whitening:
    """Rows in each component's coordinates, and their log-densities; training changes neither.

    Parameters
    ----------
    model : MixtureVAE
        Model with the components.
    n_rows : int, optional
        Number of rows of every call, for which buffers are then made once.
    """

    def __init__(self, model: MixtureVAE, n_rows: int | None = None):
        self.is_full, self.log_det = model.is_full, model.log_det.unsqueeze(-1)
        self.root, self.loc = model.whiten.mT.unsqueeze(-1), model.loc.mT.unsqueeze(-1)
        if self.is_full:  # all components in one product
            root = model.whiten.transpose(1, 2)  # (M, d, C, d)
            self.loc = (root * model.loc.unsqueeze(1)).sum(-1).flatten(1).unsqueeze(2)
            self.root = root.flatten(1, 2)
        self.whiten, self.others = model.whiten, model.others
        self.params = model.others.split_params(model.params)
        n_members, n_mixture, n_real = model.loc.shape
        shape = n_members, n_real, n_mixture
        self.shape, self.white, self.square = shape[1:], None, None
        if n_rows is not None:
            self.white, self.square = (model.loc.new_empty(*shape, n_rows) for _ in range(2))

    def coordinates(self, row: Row) -> Tensor:
        """Real columns of rows in each component's coordinates: (M, d, C, B)."""
        real = row.real.mT
        if self.is_full:
            out = None if self.white is None else self.white.flatten(1, 2)
            white = torch.baddbmm(self.loc, self.root, real, beta=-1, out=out)  # (M, d C, B)
            return white.unflatten(1, self.shape)
        return torch.sub(real.unsqueeze(2), self.loc, out=self.white).mul_(self.root)

    def __call__(self, row: Row) -> tuple[Tensor, Tensor]:
        """Rows -> (M, d, C, B), (M, C, B), but for a constant of each row in the latter."""
        white = self.coordinates(row)
        square = torch.mul(white, white, out=self.square).sum(1)
        log_density = torch.add(self.log_det, square, alpha=-0.5)
        if row.real_observed is not None:
            log_density = self._marginal(white, log_density, row.real_observed)
        if self.others.blocks:
            log_density += self.others.log_prob_by_component(
                self.params, row.others, row.others_observed
            )
        return white, log_density

    def _marginal(self, white: Tensor, log_density: Tensor, observed: Tensor) -> Tensor:
        """Replace the densities of rows with missing values by those of their other values."""
        mask = observed.to(white).mT  # (M, d, B)
        diagonal = self.whiten.diagonal(dim1=-2, dim2=-1) if self.is_full else self.whiten
        square = (white.square() * mask.unsqueeze(2)).sum(1)
        marginal = diagonal.log() @ mask - 0.5 * square  # of components without covariances
        if self.is_full:
            is_diagonal = torch.diag_embed(diagonal).eq(self.whiten).flatten(2).all(-1)  # (M, C)
            incomplete = ~observed.all(-1, keepdim=True) & ~is_diagonal.unsqueeze(1)  # (M, B, C)
            member, row, component = incomplete.nonzero(as_tuple=True)
            root, standard = self.whiten[member, component], white[member, :, component, row]
            parts = marginal_of_normal(root, standard, observed[member, row])
            marginal[member, component, row] = -(0.5 * parts[0].square() + parts[1]).sum(-1)
        return torch.where(observed.all(-1).unsqueeze(1), log_density, marginal)


def draw_components(probability: Tensor, noise: Tensor) -> Tensor:
    """Draw components with these probabilities: (M, C, B), (M or 1, K, B or 1) -> (M, K, B).

    Consecutive draws are evenly spread: their quantiles are the additive sequence of the golden
    ratio, of which each row's first one comes from its normal noise.
    """
    steps = torch.arange(noise.shape[1], dtype=noise.dtype, device=noise.device)
    # the normal distribution function: torch's own is several times as slow
    first = 0.5 * torch.erfc(-math.sqrt(0.5) * noise[:, :1])
    quantile = (first + GOLDEN_RATIO * steps.view(1, -1, 1)) % 1
    quantile = quantile.expand(len(probability), -1, probability.shape[2]).mT  # (M, B, K)
    return sample_categorical(probability.cumsum(1).mT, quantile).mT  # (M, B, K) -> (M, K, B)


def pick(of_components: Tensor, chosen: Tensor, out: Tensor | None = None) -> Tensor:
    """Numbers of the chosen components: (M, ..., C, B or 1), (M, K, B) -> (M, ..., K, B)."""
    table = of_components.expand(*of_components.shape[:-1], chosen.shape[2])
    if table.ndim > chosen.ndim:
        chosen = chosen.unsqueeze(1).expand(-1, table.shape[1], -1, -1)
    return torch.gather(table, -2, chosen, out=out)


@build.register
def _(
    architecture: MixtureArchitecture, n_members: int = 1, _sizes: Sequence[int] | None = None
) -> MixtureVAE:
    return MixtureVAE(architecture, n_members)
