"""The variational autoencoder: p(x|z), p(z) and q(z|x), for M ensemble members at once."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_vae.initialization.ppca import ConditionRegression, LinearGaussian
from sklearn_vae.likelihoods import Parameters
from sklearn_vae.likelihoods.columnwise import NO_LEAST, STEPS_PER_SCALE
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.base import BaseVAE
from sklearn_vae.networks.mlp import MLP, FlatParameter, SkipNetwork
from sklearn_vae.numerics.array_api import impute_by_factors
from sklearn_vae.numerics.rows import aligned

# Standard deviations of codes and columns below which steps of their locations are smaller.
PRECISE = 0.1


class StackedModule(nn.Module):
    """An encoder and a decoder whose parameters and buffers have a member axis in front."""

    architecture: Architecture
    encoder: SkipNetwork
    decoder: SkipNetwork

    @property
    def n_members(self) -> int:
        """Number of members."""
        return len(next(self.parameters()))

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

    def step_scales(self) -> Tensor | None:
        """Return factors of the learning rate of each parameter (M, P), None if all are 1."""
        return None

    # -- weights ---------------------------------------------------------------------

    def flatten(self) -> None:
        """Move all parameters into one tensor ``flat`` (M, P), and their gradients into another.

        Of each layer, weights and bias are one block of rows; zeros follow, to an aligned length.
        ``decays`` is the mask of numbers with weight decay, and ``lr_spans`` has the parts of
        ``flat`` by the limits of their learning rates. Call it again for another device or dtype.
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
        padding = parts[0].new_zeros(self.n_members, aligned(n_params) - n_params)
        self.flat = torch.cat([*parts, padding], dim=1)
        self.flat_grad = torch.zeros_like(self.flat)
        self.decays = torch.zeros_like(self.flat[0])
        # numbers of a row that are not 0 by a one-hot code
        n_values = sum(n for _, n in self.architecture.blocks)
        n_inputs = self.architecture.encoder_sizes[0] - self.architecture.n_encoded + n_values
        # a step of Adam moves a weight by about the learning rate, an output by that of all inputs
        max_input_lr = 1.28 / n_inputs if n_inputs > 128 else math.inf
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


class ImputationLayer(nn.Module):
    """Imputes missing values by their means in a factor model, given any conditions."""

    def __init__(self, n_members: int, n_factors: int, n_columns: int, n_conditions: int = 0):
        super().__init__()
        sizes = {"loc": 1, "loadings": n_factors, "precision": 1, "slopes": n_conditions}
        for name, size in sizes.items():
            if size:
                self.register_buffer(name, torch.zeros(n_members, size, n_columns))

    def forward(self, x: Tensor, observed: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Impute rows (M, B, d) with mask ``observed``, given conditions (M, B, n_conditions)."""
        try:
            return impute_by_factors(x, observed, conditions, **dict(self.named_buffers()))
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            # no fit gives such weights, but a forged file may
            raise ValueError("the imputation layer's information matrix is singular") from error

    @torch.no_grad()
    def initialize(self, member: int, imputation: tuple[np.ndarray, ...]) -> None:
        """Copy a factor model in (``LinearGaussian.imputation``) as one member's."""
        for buffer, value in zip(self.buffers(), imputation, strict=True):
            buffer[member] = torch.as_tensor(value)


class Draws(NamedTuple):
    """Codes z drawn from q(z|x), and the terms of their importance weights."""

    z: Tensor  # (M, K, B, l)
    log_prob: Tensor  # (M, K, B), log p(x|z) in nats
    log_ratio: Tensor  # (M, K, B), log p(z) - log q(z|x) in nats

    @property
    def log_weight(self) -> Tensor:
        """Log p(x|z) p(z) / q(z|x) in nats: (M, K, B)."""
        return self.log_prob + self.log_ratio


class VAE(BaseVAE, StackedModule):
    """A variational autoencoder with a member axis.

    All parameters are zero until ``reset_parameters`` and ``initialize``, or ``load``.
    """

    def __init__(self, architecture: Architecture, n_members: int = 1):
        super().__init__()
        self.set_parts(architecture)
        n_components, n_columns = architecture.n_components, self.likelihood.n_columns
        self.encoder, self.decoder = architecture.network.build(n_members, architecture)
        self.free = nn.Parameter(torch.zeros(n_members, 1, self.likelihood.n_free))
        shapes = self.prior.param_shapes(n_components, n_columns + self.n_conditions)
        self.prior_weights = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(n_members, *shape)) for name, shape in shapes.items()}
        )
        self.filler: ImputationLayer | None = None
        if architecture.n_factors:
            self.filler = ImputationLayer(
                n_members, architecture.n_factors, len(architecture.inputs), self.n_conditions
            )
        # least parameters of p(x|z): those of the decoder, and the free ones
        self.least_outputs: Tensor
        self.least_free: Tensor
        n_outputs, n_free = self.likelihood.n_decoder_outputs, self.likelihood.n_free
        self.register_buffer("least_outputs", torch.full((n_members, 1, n_outputs), NO_LEAST))
        self.register_buffer("least_free", torch.full((n_members, 1, n_free), NO_LEAST))

    # -- density ---------------------------------------------------------------------

    def elbo_terms(
        self, x: Tensor, noise: Tensor, q: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Reconstruction term (M, B) and KL (M, B, units) of the ELBO, per row, in nats.

        Rows x are (M, B, n_columns), the noise (M or 1, K, B or 1, l) standard normal draws, per
        row or shared. Parameters q (M, B, 2 l) of q(z|x) that are known are not computed again. The
        KL is exact and per unit if it has a closed form, else an average over the K draws.
        """
        q = self.encode(x) if q is None else q
        z = self.posterior.rsample(q, noise)
        if self.prior.has_closed_form_kl:
            kl = self.posterior.kl(q)
        else:
            log_q, log_p = self.posterior.log_prob(q, z), self.prior_distribution().log_prob(z)
            kl = (log_q - log_p).mean(1).unsqueeze(-1)
        return self._log_prob(self.decode(z, x), x).mean(1), kl  # (M, K, B) -> (M, B)

    def log_weights(self, x: Tensor, noise: Tensor) -> Draws:
        """Codes drawn from q(z|x), and log p(x|z) p(z) / q(z|x) of each.

        Rows x are (M, B, n_columns), the noise (M or 1, K, B or 1, l) standard normal draws, per
        row or shared. Only the path through z is in the gradient of log q(z|x) ("sticking the
        landing"), as the doubly reparameterized gradient needs.
        """
        q, prior = self.encode(x), self.prior_distribution()
        z = self.posterior.rsample(q, noise)
        log_q = self.posterior.log_prob(q.detach(), z)
        return Draws(z, self._log_prob(self.decode(z, x), x), prior.log_prob(z) - log_q)

    def _log_prob(self, params: list[list[Tensor]], x: Tensor) -> Tensor:
        """Log p(x|z) of the observed values of rows (M, B, n_columns): (M, K, B)."""
        x = x.unsqueeze(1)
        if self.filler is None:  # no value is missing
            return self.likelihood.log_prob(params, x)
        return self.likelihood.log_prob(params, x.nan_to_num(), self.likelihood.observed(x))

    def decoder_rows(self, z: Tensor, x: Tensor | None) -> Tensor | None:
        """Rows that the decoder reads: conditions, and modes of the time steps before each."""
        rows = super().decoder_rows(z, x)
        if self.decoder.time_steps is not None:
            return self._decode_rows(z, self.likelihood.mode, rows)
        return rows

    def _decode_rows(
        self, z: Tensor, function: Callable[[Sequence[Parameters]], Tensor], x: Tensor | None
    ) -> Tensor:
        """Function (mode or draw) of p(x|z): (M, B, l) -> (M, B, n_columns).

        An autoregressive decoder has each time step given those before it, and the conditions of x.
        """
        z = z.unsqueeze(1)
        if self.decoder.time_steps is None:
            return function(self.decode(z, x))[:, 0]
        rows = z.new_zeros(len(z), z.shape[2], self.likelihood.n_columns) if x is None else x
        for time_step in self.decoder.time_steps:
            columns = time_step.to(rows.device)
            values = function(self.decode(z, rows))[:, 0].index_select(-1, columns)
            rows = rows.index_copy(-1, columns, values.to(rows))
        return rows

    def sample(self, n_rows: int, generator: torch.Generator, x: Tensor | None = None) -> Tensor:
        """Draw rows, each from a random member, given the conditions of x: (n_rows, n_columns)."""
        shape = self.n_members, n_rows, self.architecture.n_components
        member = torch.randint(self.n_members, (n_rows,), generator=generator)
        z = self.prior_distribution().sample(shape, generator, self.free.dtype).to(self.free.device)
        x = None if x is None else super().decoder_rows(z, x.expand(self.n_members, -1, -1))
        draw = partial(self.likelihood.sample, generator=generator)
        rows = self._decode_rows(z, draw, x)[..., : self.likelihood.n_columns]  # of each member
        return rows[member.to(rows.device), torch.arange(n_rows, device=rows.device)]

    # -- steps of training ------------------------------------------------------------

    @torch.no_grad()
    def step_scales(self) -> Tensor | None:
        """Return factors of the learning rate of each parameter (M, P), None if all are 1.

        Locations of codes and columns have steps in proportion to their standard deviations, where
        these are less than ``PRECISE``. Those are of the biases alone, as at the start of training.
        """
        code, decoded = self.encoder.linear.bias, self.decoder.linear.bias
        of_code, of_column = torch.ones_like(code), self.likelihood.mean_scales(decoded, self.free)
        if not self.posterior.n_variables:
            of_code[..., : self.architecture.n_components] = self.posterior.split(code)[1].exp()
        scales = torch.ones_like(self.flat)
        for network, noise in ((self.encoder, of_code), (self.decoder, of_column)):
            # powers of two: to multiply and to divide by them changes no digit
            factor = (noise / PRECISE).clamp(max=1).log2().floor().exp2()
            for weight in (*network.output_weights(), network.linear.bias):
                first, size = self.offsets[id(weight)], weight[0].numel()
                scales[:, first : first + size].view(weight.shape).copy_(factor)
        return scales if (scales < 1).any() else None

    # -- initialization ---------------------------------------------------------------

    @torch.no_grad()
    def initialize(self, member: int, start: LinearGaussian) -> None:
        """Initialize one member as a linear Gaussian model, exact for Gaussian columns."""
        loc, residual = torch.as_tensor(start.loc), torch.as_tensor(start.residual)
        posterior_weights = torch.as_tensor(start.posterior_weights)  # (d, l)
        regression = start.regression or ConditionRegression(np.zeros(0), np.zeros((0, len(loc))))
        mean, coef = torch.as_tensor(regression.mean), torch.as_tensor(regression.coef)
        encoder, inputs = self.encoder.linear, self.architecture.inputs
        n_inputs, n_components = posterior_weights.shape
        encoder.weight[member].zero_()
        encoder.weight[member, :n_inputs, :n_components].copy_(posterior_weights)
        # the encoder subtracts the effect of the conditions
        effect = coef[:, inputs] @ posterior_weights
        first = encoder.weight.shape[1] - len(coef)
        encoder.weight[member, first:, :n_components].copy_(-effect)
        posterior_scale = torch.as_tensor(start.posterior_scale)
        code = torch.as_tensor(start.intercept) + mean @ effect
        encoder.bias[member, 0].copy_(self.posterior.initial_params(code, posterior_scale))

        loadings = torch.cat([torch.as_tensor(start.loadings), coef])
        rows = None
        if start.rows is not None and not len(coef):  # conditions have other variances than z
            x, weights = start.rows
            rows = torch.as_tensor(x).to(loc), torch.as_tensor(weights).to(loc)
        slopes, offsets, free = self.likelihood.initialize(loadings, loc, residual, rows)
        self.decoder.linear.weight[member].copy_(slopes)
        offsets = offsets - mean @ slopes[len(start.loadings) :]
        self.decoder.linear.bias[member, 0].copy_(offsets)
        self.free[member, 0].copy_(free)
        if self.filler is not None and start.imputation is not None:
            self.filler.initialize(member, start.imputation)

    @torch.no_grad()
    def initialize_at_prior(self, member: int, start: LinearGaussian, seed: int) -> None:
        """Initialize one member at random, with a posterior that is nearly the prior.

        The residual is each column's whole standard deviation. Only for the textbook's models.
        """
        if not (self.architecture.is_textbook and self.architecture.hidden_layer_sizes):
            return
        residual = np.sqrt(np.square(start.residual) + np.square(start.loadings).sum(axis=0))
        at_prior = replace(
            start,
            loadings=np.zeros_like(start.loadings),
            posterior_weights=np.zeros_like(start.posterior_weights),
            posterior_scale=np.ones_like(start.posterior_scale),
            residual=residual,
            intercept=np.zeros_like(start.intercept),
        )
        self.initialize(member, at_prior)
        is_mean = ~self.likelihood.is_scale_param[self.likelihood.is_decoded]
        means = np.arange(self.architecture.n_components), np.flatnonzero(is_mean)
        for side, network in enumerate((self.encoder, self.decoder)):
            cast(MLP, network).reset_last_layer(member, seed, side, means[side])

    def set_recording_steps(self, member: int, steps: np.ndarray) -> None:
        """Set one member's least scales, by the recording steps of its columns (n,)."""
        least = self.likelihood.least_params(steps / STEPS_PER_SCALE)
        is_decoded = self.likelihood.is_decoded
        self.least_outputs[member, 0].copy_(torch.as_tensor(least[is_decoded]))
        self.least_free[member, 0].copy_(torch.as_tensor(least[~is_decoded]))

    @torch.no_grad()
    def initialize_prior(self, x: Tensor) -> None:
        """Initialize the prior at the codes of rows (M, n_rows, n_columns + n_conditions)."""
        for name, value in self.prior.initial_params(x, self.posterior_params).items():
            self.prior_weights[name].copy_(value)
