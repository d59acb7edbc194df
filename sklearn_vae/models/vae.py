"""The model: a density p(x) with an encoder q(z|x), for M members at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, singledispatch
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_vae.initialization.factor_analysis import ImputationLayer
from sklearn_vae.initialization.ppca import LinearGaussian
from sklearn_vae.initialization.regression import ConditionRegression
from sklearn_vae.likelihoods import Columnwise, Limits
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.autoregressive import decode_autoregressively
from sklearn_vae.models.stacked import StackedModule
from sklearn_vae.networks import MLP
from sklearn_vae.posteriors import DiagonalGaussian
from sklearn_vae.priors import PriorDistribution

# the encoder sees a row no farther out than this many standard deviations, or a pixel that is
# inked in one row of thousands would throw all the others' codes; the likelihood sees it
# where it is
INPUT_CLIP = 5.0


class Draws(NamedTuple):
    """Codes z drawn from q(z|x), and what makes up their importance weights.

    Attributes
    ----------
    z : Tensor of shape (M, K, B, l)
        The codes.
    log_prob : Tensor of shape (M, K, B)
        log p(x|z) in nats.
    log_ratio : Tensor of shape (M, K, B)
        log p(z) - log q(z|x) in nats.
    """

    z: Tensor
    log_prob: Tensor
    log_ratio: Tensor

    @property
    def log_weight(self) -> Tensor:
        """Sum of both parts, log p(x|z) p(z) / q(z|x) in nats: (M, K, B)."""
        return self.log_prob + self.log_ratio


class VAE(StackedModule):
    """A variational autoencoder with a member axis.

    Weights start at zero; ``reset_parameters`` and ``initialize`` give them their first values, or
    ``load`` those of a fitted model.

    Parameters
    ----------
    architecture : Architecture
        Shapes.
    n_members : int, default=1
        Number of models that are computed side by side.
    sizes : sequence of int, optional
        Latent dimensions of each member, where some have fewer than the architecture.
        Their weights of the others are zero and stay so, if their noise is, too.
    """

    def __init__(
        self, architecture: Architecture, n_members: int = 1, sizes: Sequence[int] | None = None
    ):
        super().__init__(architecture, np.array(sizes or [architecture.n_components] * n_members))
        n_components = architecture.n_components
        self.posterior: Any = architecture.posterior.build(n_members, n_components)
        self.prior = architecture.posterior.prior(architecture.prior, n_components)
        self.n_conditions = architecture.n_conditions
        self.likelihood = Columnwise(architecture.blocks)
        n_columns, network = self.likelihood.n_columns, architecture.network
        layout = architecture.layout
        self.encoder = network.encoder(n_members, layout)
        self.decoder = network.decoder(n_members, layout)
        self.free = nn.Parameter(torch.zeros(n_members, 1, self.likelihood.n_free))
        shapes = self.prior.param_shapes(n_components, n_columns + self.n_conditions)
        self.prior_weights = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(n_members, *shape)) for name, shape in shapes.items()}
        )
        self.filler: ImputationLayer | None = None
        if architecture.n_factors:
            sizes_of_rows = n_columns, self.n_conditions
            self.filler = ImputationLayer(n_members, architecture.n_factors, *sizes_of_rows)
        # residual of the rows that the scales' prior imagines
        self.residual: Tensor
        self.register_buffer("residual", torch.ones(n_members, 1, 1, n_columns))

    # -- density ---------------------------------------------------------------------

    def encode(self, x: Tensor) -> Tensor:
        """Parameters of q(z|x): (M, B, n_columns + n_conditions) -> (M, B, 2 l)."""
        x = x.clamp(-INPUT_CLIP, INPUT_CLIP)
        if self.filler is not None:
            x, given = x.tensor_split([self.likelihood.n_columns], dim=-1)
            observed = ~x.isnan()
            x = torch.cat([self.filler(x, observed, given), observed, given], dim=-1)
        params = self.encoder(x)
        mask = self.mask
        # zero as it is: no gradient leads to dimensions that a member lacks
        return params if mask is None else params * mask.repeat(1, 2).unsqueeze(1)

    def decode(self, z: Tensor, x: Tensor | None = None) -> list[list[Tensor]]:
        """Parameters of p(x|z): (M, K, B, l) -> tensors (M, K, B, columns of a block).

        Rows x (M, B, n_columns + n_conditions), without holes, are asked for the
        conditions, and, by decoders that follow, for what comes before each of their places.
        """
        inputs = [z]
        if x is not None and (self.n_conditions or self.decoder.is_autoregressive):
            rows = x.unsqueeze(1).expand(-1, z.shape[1], -1, -1)  # (M, K, B, n)
            n_columns = self.likelihood.n_columns
            inputs = [torch.cat([z, rows[..., n_columns:]], dim=-1)]
            inputs += [rows[..., :n_columns]] * self.decoder.is_autoregressive
        out = self.decoder(*(own.flatten(1, 2) for own in inputs))
        return self.likelihood.split(out.unflatten(1, z.shape[1:3]), self.free.unsqueeze(1))

    def split_missing(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rows with zeros in their holes, and which values are there, or None if all are."""
        if self.filler is None:
            return x, None
        return x.nan_to_num(), self.likelihood.observed(x)

    def prior_distribution(self) -> PriorDistribution:
        """p(z), with ``log_prob`` and ``sample``."""
        weights = dict(self.prior_weights.items())
        return self.prior.distribution(weights, self.posterior_params, self.mask)

    def posterior_params(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Location and log-scale of q(z|x): (M, B, n_columns) -> (M, B, l), (M, B, l)."""
        return self.posterior.split(self.encode(x))

    def elbo_terms(
        self, x: Tensor, noise: Tensor, shown: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Both parts of the bound and the scales' prior, row by row.

        Parameters
        ----------
        x : Tensor of shape (M, B, n_columns)
            Encoded rows.
        noise : Tensor of shape (M or 1, K, B or 1, l)
            Standard normal draws, own or shared by the rows.
        shown : Tensor of shape (M, B, n_columns), optional
            What the encoder sees of the rows; by default the rows themselves.

        Returns
        -------
        log_prob : Tensor of shape (M, B)
            log p(x|z) in nats, averaged over the K draws of z.
        kl : Tensor of shape (M, B, units) or (M, B, 1)
            KL of q(z|x) from the prior in nats: where it has a closed form exact, and by the
            posterior's units, else log q(z|x) - log p(z) averaged over the K draws.
        log_prior : Tensor of shape (M, B)
            Log-density of one more row at this place whose residual is the linear
            model's.
        """
        seen, told = self._seen(x, shown)
        z, kl = self._drawn(self.encode(seen), noise)
        p = self.decode(z, told)
        log_prob = self._log_prob(p, x)  # (M, K, B)
        log_prior = self.likelihood.log_prior(p, self.residual)  # (M, K or 1, B or 1)
        log_prob = log_prob.mean(1)
        return log_prob, kl, log_prior.mean(1).expand_as(log_prob)

    def _seen(self, x: Tensor, shown: Tensor | None) -> tuple[Tensor, Tensor]:
        """What encoder and decoder see of rows, which may be shown less, each of its own."""
        seen, told, *_ = (x, x) if shown is None else (*shown.split(x.shape[-1], dim=-1), x)
        return seen, self.split_missing(told)[0]

    def _drawn(self, q: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (M, K, B, l), and the KL, exact (M, B, units) or by these codes (M, B, 1)."""
        if isinstance(self.prior, self.architecture.posterior.exact_for):
            return self.posterior.rsample(q, noise), self.posterior.kl(q)
        z, log_q = self.posterior.propose(q, noise)
        return z, (log_q - self.prior_distribution().log_prob(z)).mean(1).unsqueeze(-1)

    def log_weights(
        self,
        x: Tensor,
        noise: Tensor,
        proposal_scale: float = 1.0,
        *,
        stop_gradient: bool = False,
        shown: Tensor | None = None,
    ) -> Draws:
        """Codes drawn from q(z|x), and log p(x|z) p(z) / q(z|x) of each.

        Parameters
        ----------
        x : Tensor of shape (M, B, n_columns)
            Encoded rows.
        noise : Tensor of shape (M or 1, K, B or 1, l)
            Standard normal draws, own or shared by the rows.
        proposal_scale : float, default=1.0
            How many times as wide as q(z|x) the distribution is from which z is drawn.
        stop_gradient : bool, default=False
            Whether the gradient of log q(z|x) is that of the path through z alone, as if
            q were another's. The gradient with respect to z is then the one that the
            doubly reparameterised gradient is made of.
        shown : Tensor of shape (M, B, n_columns), optional
            What the encoder sees of the rows; by default the rows themselves.

        Returns
        -------
        Draws
            With the log-weights (M, K, B) as ``log_weight``.
        """
        q = self.encode(x if shown is None else shown)
        return self._weigh(
            q, x, noise, proposal_scale, self.prior_distribution(), stop_gradient=stop_gradient
        )

    def _weigh(
        self,
        q: Tensor,
        x: Tensor,
        noise: Tensor,
        proposal_scale: float,
        prior: PriorDistribution,
        *,
        stop_gradient: bool = False,
    ) -> Draws:
        z, log_q = self.posterior.propose(q, noise, proposal_scale, stop_gradient=stop_gradient)
        log_prob = self._log_prob(self.decode(z, self.split_missing(x)[0]), x)
        return Draws(z, log_prob, prior.log_prob(z) - log_q)

    def _log_prob(self, p: list[list[Tensor]], x: Tensor) -> Tensor:
        """Log p(x|z) of what is there of rows (M, B, n_columns): (M, K, B)."""
        x, observed = self.split_missing(x)
        seen = None if observed is None else observed.unsqueeze(1)
        return self.likelihood.log_prob(p, x.unsqueeze(1), seen)

    def log_prior_of_scales(self, z: Tensor, x: Tensor) -> Tensor:
        """Log-density of one more row at z whose residual is the linear model's.

        (M, K, B, l) and rows (M, B, n_columns + n_conditions) -> (M, K, B).
        """
        log_prior = self.likelihood.log_prior(
            self.decode(z, self.split_missing(x)[0]), self.residual
        )
        return log_prior.expand(z.shape[:-1])  # a scale per column has one value for all

    def fill_missing(self, x: Tensor) -> Tensor:
        """Replace NaN by the mean of p(x|z) at the prior's mean, without an imputation layer."""
        if self.filler is not None or not x.isnan().any():
            return x
        n_params = self.architecture.posterior.n_params(self.architecture.n_components)
        centre = self.posterior.mean(x.new_zeros(len(x), x.shape[1], n_params))  # (M, B, l)
        loc = F.pad(self.reconstruct(centre, x), (0, self.n_conditions))
        return torch.where(x.isnan(), loc, x)

    def reconstruct(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """Mean of p(x|z): (M, B, l) -> (M, B, n_columns).

        Of rows x (M, B, n_columns + n_conditions), the conditions are asked alone.
        """
        rows = self._conditions(x)
        if self.decoder.is_autoregressive:
            rows = self._told(z, self.likelihood.mode, rows)
        return self.likelihood.mean(self.decode(z.unsqueeze(1), rows)).squeeze(1)

    def _told(self, z: Tensor, say: Callable[[Any], Tensor], rows: Tensor | None = None) -> Tensor:
        """Rows (M, B, n_columns) at codes, as p(x|z) is said to be, by a path that may follow.

        Conditions, if there are any, stand behind what comes out of a path that follows.
        """
        if not self.decoder.is_autoregressive:
            return say(self.decode(z.unsqueeze(1), rows))[:, 0]
        if rows is None:
            rows = z.new_zeros(*z.shape[:2], self.likelihood.n_columns)
        stages = cast(list[Tensor], self.decoder.time_steps)
        return decode_autoregressively(
            lambda own: self.decode(z.unsqueeze(1), own), say, stages, rows
        )

    def _conditions(self, x: Tensor | None) -> Tensor | None:
        """Rows of which nothing but the conditions is known, if they have any."""
        if x is None or not self.n_conditions:
            return None
        return F.pad(x[..., -self.n_conditions :], (self.likelihood.n_columns, 0))

    def sample(self, n_rows: int, generator: torch.Generator, x: Tensor | None = None) -> Tensor:
        """Rows with the decoder's noise, each of a member by chance: (n_rows, n_columns).

        Conditions, if there are any, are those of rows x (n_rows, n_columns + n_conditions).
        """
        n_members, n_components = len(self.free), self.architecture.n_components
        member = torch.randint(n_members, (n_rows,), generator=generator)
        # each row's number among its member's, which computes no others
        place = F.one_hot(member, n_members).cumsum(0)[torch.arange(n_rows), member] - 1
        n_each = int(place.max()) + 1
        z = self.prior_distribution().sample(
            n_members, n_each, n_components, generator, self.free.dtype
        )
        if x is not None:
            rows = x.new_zeros(n_members, n_each, x.shape[1])
            rows[member.to(x.device), place.to(x.device)] = x
            x = self._conditions(rows)
        say = partial(self.likelihood.sample, generator=generator)
        rows = self._told(z.to(self.free.device), say, x)  # (M, n_each, n_columns)
        rows = rows[..., : self.likelihood.n_columns]
        return rows[member.to(rows.device), place.to(rows.device)]

    def limit_draws(self, limits: Limits) -> None:
        """Have rows drawn within limits from now on."""
        self.likelihood.limits = limits

    # -- first values ----------------------------------------------------------------

    def reset_parameters(self, member: int, seed: int) -> None:
        """Draw one member's hidden layers from its seed."""
        self.reset_network_parameters(member, seed, int(self.sizes[member]) + self.n_conditions)
        if self._posterior_weights:
            self.posterior.draw(member, seed)

    def begin_iteration(self, iteration: int) -> None:
        """Let the posterior take note of how far training is."""
        self.posterior.begin_iteration(iteration)

    @torch.no_grad()
    def initialize(self, member: int, start: LinearGaussian) -> None:
        """Make one member the linear model, exact for Gaussian columns."""
        start = start.padded(self.architecture.n_components)
        loc, residual = torch.as_tensor(start.loc), torch.as_tensor(start.residual)
        posterior_weights = torch.as_tensor(start.posterior_weights)  # (d, l)
        regression = start.regression or ConditionRegression(np.zeros(0), np.zeros((0, len(loc))))
        centre, moved = torch.as_tensor(regression.mean), torch.as_tensor(regression.coef)
        encoder = self.encoder.linear
        n_columns, n_components = posterior_weights.shape
        encoder.weight[member].zero_()
        encoder.weight[member, :n_columns, :n_components].copy_(posterior_weights)
        # what conditions change is taken off again
        first = encoder.weight.shape[1] - len(moved)
        encoder.weight[member, first:, :n_components].copy_(-moved @ posterior_weights)
        posterior_scale = torch.as_tensor(start.posterior_scale)
        at_zero = -loc @ posterior_weights if start.intercept is None else start.intercept
        code = torch.as_tensor(at_zero) + centre @ moved @ posterior_weights
        encoder.bias[member, 0].copy_(self.posterior.start(code, posterior_scale))

        loadings = torch.cat([torch.as_tensor(start.loadings), moved])
        slopes, offsets, free = self.likelihood.initialize(loadings, loc, residual)
        self.decoder.linear.weight[member].copy_(slopes)
        offsets = offsets - centre @ slopes[len(start.loadings) :]
        self.decoder.linear.bias[member, 0].copy_(offsets)
        self.free[member, 0].copy_(free)
        self.residual[member, 0, 0].copy_(torch.as_tensor(start.pseudo_observation_scale))
        if self.filler is not None and start.imputation is not None:
            self.filler.initialize(member, start.imputation)

    @torch.no_grad()
    def initialize_at_prior(self, member: int, start: LinearGaussian, seed: int) -> None:
        """Start one member's means at random, where the linear model explains nothing.

        The posterior is nearly the prior, and the residual all of each column's variance, as
        in the textbook. Networks other than perceptrons stay as they are, and so do posteriors
        other than independent normals.
        """
        networks = (self.encoder, self.decoder)
        if type(self.posterior) is not DiagonalGaussian or not all(
            isinstance(own, MLP) and own.last is not None for own in networks
        ):
            return
        residual = np.sqrt(np.square(start.residual) + np.square(start.loadings).sum(axis=0))
        nothing = replace(
            start,
            loadings=np.zeros_like(start.loadings),
            posterior_weights=np.zeros_like(start.posterior_weights),
            posterior_scale=np.ones_like(start.posterior_scale),
            residual=residual,
            intercept=None,
        )
        self.initialize(member, nothing)
        is_mean = self.architecture.layout.outputs[:, 1] == 0
        means = np.arange(self.sizes[member]), np.flatnonzero(is_mean)
        for side, (network, columns) in enumerate(zip(networks, means, strict=True)):
            cast(MLP, network).reset_last_layer(member, seed, side, columns)

    @torch.no_grad()
    def initialize_prior(self, x: Tensor) -> None:
        """Start the prior's weights at rows of each member's table, with their conditions.

        (M, n_rows, n_columns + n_conditions).

        The encoder has to stand at its start.
        """
        for name, value in self.prior.initial_params(x, self.posterior_params).items():
            self.prior_weights[name].copy_(value)

    # -- members ---------------------------------------------------------------------

    @property
    def mask(self) -> Tensor | None:
        """Which dimensions each member has, as 0 and 1: (M, l); None if it has them all."""
        n_components = self.architecture.n_components
        if (self.sizes == n_components).all():
            return None
        has = np.arange(n_components) < self.sizes[:, None]
        return torch.as_tensor(has).to(self.free)

    def flat_parameters(self) -> list[nn.Parameter]:
        """All parameters, in the order in which ``flat`` holds them.

        A layer's bias follows its weights, and the linear path the last layer, so that each
        layer is one block of rows.
        """
        networks = [*self.encoder.flat_parameters(), *self.decoder.flat_parameters()]
        return [*networks, *self._posterior_weights, self.free, *self.prior_weights.values()]

    @property
    def _posterior_weights(self) -> list[nn.Parameter]:
        own = self.posterior
        return [*own.parameters()] if isinstance(own, nn.Module) else []

    def weights(self, member: int = 0) -> dict[str, np.ndarray]:
        """Copy one member's parameters out, by name, as if it had been alone."""
        n_components, size = self.architecture.n_components, self.sizes[member]
        found = {}
        for name, value in self.state_dict().items():
            own = value[member : member + 1]
            if size < n_components and name in self._after_encoder:
                own = own.unflatten(-1, (-1, n_components))[..., :size].flatten(-2)
            if size < n_components and name in self._before_decoder:
                own = own[:, :size]
            found[name] = own.cpu().numpy().copy()
        return found

    @property
    def _after_encoder(self) -> list[str]:
        """Parameters whose last axis goes by latent dimensions."""
        own = ["encoder.linear.weight", "encoder.linear.bias", "encoder.last"]
        return [*own, "prior_weights.loc", "prior_weights.log_scale"]

    @property
    def _before_decoder(self) -> list[str]:
        """Parameters whose rows are latent dimensions."""
        return ["decoder.linear.weight", "decoder.hidden.0.weight"]


@singledispatch
def build(
    architecture: Architecture, n_members: int = 1, sizes: Sequence[int] | None = None
) -> Any:
    """Make the model of an architecture, all weights zero."""
    return VAE(architecture, n_members, sizes)
