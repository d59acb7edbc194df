"""VAE of a Gaussian mixture, as which it is initialized, for M ensemble members at once.

p(x) = sum_c pi_c ∫ N(z; 0, I) p(x|z, c) dz. In p(x|z, c), a network of z and c shifts, scales and
shears the real columns of the c-th component, in the component's own whitened coordinates. Other
columns are independent given z: the network adds to the component's parameters. The network's last
layer starts at zero, so before the first step p(x) is the mixture. Missing values are integrated
out.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sklearn_vae.models.architecture import Dependence, MixtureArchitecture, MixtureInit
from sklearn_vae.models.incomplete_normal import marginal_of_normal
from sklearn_vae.models.mixture_ensemble import (
    COMPONENT_LOG_SCALE_BOUND,
    LOG_ZERO_WEIGHT,
    MixtureEnsemble,
    log_normal,
)
from sklearn_vae.models.vae import Draws, StackedModule
from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.random import GOLDEN_RATIO, Stream, make_generator, sample_categorical
from sklearn_vae.posteriors import DiagonalGaussian
from sklearn_vae.priors import StandardNormal


class Row(NamedTuple):
    """Encoded rows, split into real columns and others: zeros where values are missing.

    Masks of observed values have one column per column of X; they are None for complete rows.
    """

    real: Tensor
    others: Tensor
    real_observed: Tensor | None = None
    others_observed: Tensor | None = None


class MixtureVAE(StackedModule):
    """A variational autoencoder that is initialized as a mixture, with a member axis."""

    architecture: MixtureArchitecture

    def __init__(self, architecture: MixtureArchitecture, n_members: int = 1):
        super().__init__()
        self.architecture = architecture
        self.posterior, self.prior = DiagonalGaussian(), StandardNormal()
        is_real = torch.as_tensor(architecture.is_normal)
        # plain tensors, not parameters: the architecture determines them
        self.real_columns, self.other_columns = is_real.nonzero()[:, 0], (~is_real).nonzero()[:, 0]
        self.others = architecture.others
        n_real, *_, n_params = architecture.output_sizes
        n_mixture = architecture.n_mixture
        self.encoder, self.decoder = architecture.network.build(n_members, architecture)
        self.shears = nn.Parameter(torch.zeros(n_members, architecture.n_shears * n_real, n_real))
        self.mixture_logit = nn.Parameter(torch.zeros(n_members, 1, n_mixture))
        self.loc: Tensor
        self.whiten: Tensor
        self.log_det: Tensor
        self.params: Tensor
        self.min_log_scale: Tensor
        self.is_full = architecture.covariance_type == "full"
        root = torch.eye(n_real) if self.is_full else torch.ones(n_real)
        self.register_buffer("loc", torch.zeros(n_members, n_mixture, n_real))
        self.register_buffer("whiten", root.repeat(n_members, n_mixture, *root.ndim * [1]))
        self.register_buffer("log_det", torch.zeros(n_members, n_mixture))
        self.register_buffer("params", torch.zeros(n_members, n_mixture, n_params))
        min_log_scale = torch.full((n_members, n_mixture), -COMPONENT_LOG_SCALE_BOUND)
        self.register_buffer("min_log_scale", min_log_scale)

    # -- density ---------------------------------------------------------------------

    def split(self, x: Tensor) -> Row:
        """Split rows (..., n_columns), and their masks of observed values."""
        real, others = (x.index_select(-1, c) for c in (self.real_columns, self.other_columns))
        if not x.isnan().any():
            return Row(real, others)
        observed = self.others.observed(others) if len(self.other_columns) else others.isnan()
        return Row(real.nan_to_num(), others.nan_to_num(), ~real.isnan(), observed)

    def log_weights(self, x: Tensor, noise: Tensor) -> Draws:
        """Codes drawn from q(z|x), and log p(x|z, c) and log p(z) pi_c / (q(z|x) q(c|x)) of each.

        Rows x are (M, B, n_columns), the noise (M or 1, K, B or 1, l + 1) standard normal draws,
        per row or shared; the last one chooses the component c. The gradient is that of
        ``VAE.log_weights``.
        """
        q = self.encoder(self.architecture.encoder_input(x))
        z = self.posterior.rsample(q, noise[..., :-1])
        log_q = self.posterior.log_prob(q.detach(), z)
        row = self.split(x)
        chosen, white, log_c = self.draw_components(row, noise[..., -1], Whitening(self))
        weights = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        # by rounding, padding may be drawn: it is left out of fitted mixtures only
        weights["mixture_logit"] = torch.zeros_like(self.mixture_logit)
        model = MixtureEnsemble(self.architecture, weights, q.new_ones(len(q)))
        component = (chosen + model.first_component[:-1, None, None]).flatten()
        observed, others, others_observed = (  # of each draw's row: (M K B, n)
            None if part is None else part.unsqueeze(1).expand(-1, z.shape[1], -1, -1).flatten(0, 2)
            for part in (row.real_observed, row.others, row.others_observed)
        )
        decoded = model.decode(z.flatten(0, 2), component)
        standard, log_scale, params, log_det = model.standardize(
            white.movedim(1, 0).flatten(1), decoded, component, observed
        )
        log_prob = log_normal(standard, log_scale, log_det, 0)
        if self.others.blocks:
            blocks = self.others.split_params(params.mT)
            log_prob = log_prob + self.others.log_prob(blocks, others, others_observed)
        return Draws(z, log_prob.view_as(chosen), log_c + self.prior.log_prob(z) - log_q)

    def draw_components(
        self, row: Row, noise: Tensor, whitening: "Whitening"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw components by the starting mixture's responsibilities q(c|x): (M, K, B).

        Also return the rows in their coordinates (M, d, K, B), and log pi_c / q(c|x) (M, K, B).
        """
        white, log_density = whitening(row)
        log_pi = self.mixture_logit.log_softmax(-1).mT  # (M, C, 1)
        log_q = (log_density + log_pi.detach()).log_softmax(1)
        chosen = draw_components(log_q.exp(), noise).contiguous()
        return chosen, pick(white, chosen), pick(log_pi - log_q, chosen)

    # -- initialization ---------------------------------------------------------------

    def reset_parameters(self, member: int, seed: int) -> None:
        """Initialize one member's hidden layers and shears at random."""
        super().reset_parameters(member, seed)
        generator = make_generator(seed, Stream.WEIGHTS, 2, 0)
        shape = self.shears[member].shape
        size = 0.1 / max(shape[1], 1) ** 0.5
        with torch.no_grad():
            normal = torch.randn(shape, generator=generator, dtype=torch.float)
            self.shears[member].copy_(size * normal)

    @torch.no_grad()
    def initialize(self, member: int, mixture: MixtureInit) -> None:
        """Initialize one member as the mixture."""
        weight, whiten = torch.as_tensor(mixture.weight), torch.as_tensor(mixture.whiten)
        if self.is_full and whiten.ndim == 2:
            whiten = torch.diag_embed(whiten)
        diagonal = whiten.diagonal(dim1=-2, dim2=-1) if self.is_full else whiten
        n_mixture = len(weight)  # further components are padding, of weight 0
        self.mixture_logit[member] = LOG_ZERO_WEIGHT
        self.mixture_logit[member, 0, :n_mixture] = weight.log().clamp(min=LOG_ZERO_WEIGHT)
        self.loc[member, :n_mixture] = torch.as_tensor(mixture.loc)
        self.whiten[member, :n_mixture] = whiten
        self.log_det[member, :n_mixture] = diagonal.log().sum(-1)
        self.params[member, :n_mixture] = torch.as_tensor(mixture.params)
        self.min_log_scale[member, :n_mixture] = torch.as_tensor(mixture.min_log_scale)
        if mixture.dependence is not None:
            self._initialize_codes(member, mixture.dependence)

    def _initialize_codes(self, member: int, dependence: Dependence) -> None:
        """Initialize one member of a single component, with this dependence on codes.

        The density of the real columns remains that of the component.
        """
        loadings = torch.as_tensor(dependence.loadings)  # (r, d)
        slopes = torch.as_tensor(dependence.slopes)
        n_codes, n_real = loadings.shape
        linear, outputs = self.decoder.linear, self.architecture.output_sizes
        linear.weight[member, :n_codes, :n_real] = loadings
        linear.weight[member, :n_codes, sum(outputs[:3]) :] = slopes
        linear.bias[member, 0, sum(outputs[:3]) :] = torch.as_tensor(dependence.at_zero)
        covariance = torch.eye(n_real, dtype=loadings.dtype) - loadings.T @ loadings
        root = torch.linalg.cholesky(covariance)
        root = torch.linalg.solve_triangular(root, torch.eye(n_real).to(root), upper=False)
        log_scale = -root.diagonal().log()
        raw = ops.unbounded(log_scale, COMPONENT_LOG_SCALE_BOUND)
        linear.bias[member, 0, n_real : 2 * n_real] = raw
        if self.architecture.n_shears:
            linear.bias[member, 0, 2 * n_real] = 1.0
            self.shears[member, :n_real] = root.T.triu(1)
        columns = torch.cat([self.real_columns, self.other_columns])
        self.encoder.linear.weight[member, columns, :n_codes] = torch.as_tensor(dependence.coef)
        code, scale = torch.zeros(2, self.architecture.n_components).to(loadings)
        code[:n_codes] = torch.as_tensor(dependence.code)
        scale[:n_codes], scale[n_codes:] = torch.as_tensor(dependence.scale), 1.0
        self.encoder.linear.bias[member, 0] = self.posterior.initial_params(code, scale)


class Whitening:
    """Rows in components' coordinates, and log-densities."""

    def __init__(self, model: MixtureVAE):
        self.is_full, self.log_det = model.is_full, model.log_det.unsqueeze(-1)
        self.root, self.loc = model.whiten.mT.unsqueeze(-1), model.loc.mT.unsqueeze(-1)
        if self.is_full:  # all components in one product
            root = model.whiten.transpose(1, 2)  # (M, d, C, d)
            self.loc = (root * model.loc.unsqueeze(1)).sum(-1).flatten(1).unsqueeze(2)
            self.root = root.flatten(1, 2)
        self.whiten, self.others = model.whiten, model.others
        self.params = model.others.split_params(model.params)

    def __call__(self, row: Row) -> tuple[Tensor, Tensor]:
        """Rows -> (M, d, C, B), (M, C, B), but for a constant of each row in the latter."""
        if self.is_full:
            white = torch.baddbmm(self.loc, self.root, row.real.mT, beta=-1)  # (M, d C, B)
            white = white.unflatten(1, (-1, self.log_det.shape[1]))
        else:
            white = (row.real.mT.unsqueeze(2) - self.loc).mul_(self.root)
        log_density = torch.add(self.log_det, (white * white).sum(1), alpha=-0.5)
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

    Their quantiles are the additive sequence of the golden ratio, which begins at the row's noise.
    """
    steps = torch.arange(noise.shape[1], dtype=noise.dtype, device=noise.device)
    # the normal distribution function: torch's own is several times as slow
    first = 0.5 * torch.erfc(-math.sqrt(0.5) * noise[:, :1])
    quantile = (first + GOLDEN_RATIO * steps.view(1, -1, 1)) % 1
    quantile = quantile.expand(len(probability), -1, probability.shape[2]).mT  # (M, B, K)
    return sample_categorical(probability.cumsum(1).mT, quantile).mT  # (M, B, K) -> (M, K, B)


def pick(of_components: Tensor, chosen: Tensor) -> Tensor:
    """Numbers of the chosen components: (M, ..., C, B or 1), (M, K, B) -> (M, ..., K, B)."""
    table = of_components.expand(*of_components.shape[:-1], chosen.shape[2])
    if table.ndim > chosen.ndim:
        chosen = chosen.unsqueeze(1).expand(-1, table.shape[1], -1, -1)
    return torch.gather(table, -2, chosen)
