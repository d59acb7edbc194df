"""The model: a density p(x) with an encoder q(z|x), for M members at once."""

from collections.abc import Callable, Iterator, Sequence
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
from sklearn_vae.models.laplace import (
    ClassSampler,
    EncoderProposal,
    GivenClass,
    PriorProposal,
    Sampler,
    WidthCheck,
    more_draws,
    newton,
    refinements,
)
from sklearn_vae.models.stacked import StackedModule
from sklearn_vae.networks import MLP
from sklearn_vae.posteriors import DiagonalGaussian, log_mean_exp
from sklearn_vae.priors import DiagonalMixture, PriorDistribution, StandardNormal
from sklearn_vae.random import Stream, make_generator

# the encoder sees a row no farther out than this many standard deviations, or a pixel that is
# inked in one row of thousands would throw all the others' codes; the likelihood sees it
# where it is
INPUT_CLIP = 5.0
# Newton's method has so many starts that, times latent dimensions, there are no more than this; and
# at least so many where cells are missing or the prior is a mixture.
PRODUCTS_OF_STARTS = 12
STARTS_OF_MANY_MODES = 3
# Some are so many times as far out as draws from the prior.
FAR = 3.0
# Where draws from the prior cannot be shared by the rows, there are so many times fewer.
PRIOR_ONE_IN = 8


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


class Points(NamedTuple):
    """What the draws of a score are made of.

    Attributes
    ----------
    first : Tensor of shape (1, K, 1, l)
        Standard normal draws for q(z|x).
    later : sequence of Tensor of shape (1, K', 1, l)
        Those for each further proposal.
    prior : Tensor of shape (1, K, 1, l)
        Those for a standard normal prior.
    seed : tuple of int
        What draws from another prior follow from: the arguments of ``make_generator``.
    proposal_scale : float
        How many times as wide as q(z|x), and as the posterior, proposals are.
    check : WidthCheck
        Of the first draws.
    """

    first: Tensor
    later: Sequence[Tensor]
    prior: Tensor
    seed: tuple[int, Stream, int]
    proposal_scale: float
    check: WidthCheck


class Joint(NamedTuple):
    """p(x, z) of some rows as a function of z.

    Attributes
    ----------
    model : VAE
        The model.
    prior : PriorDistribution
        p(z).
    x : Tensor of shape (M, B, n_columns + n_conditions)
        Encoded rows, with zeros in the place of missing cells.
    observed : Tensor of shape (M, B, n_columns) or None
        Which cells are there; None if all are.
    """

    model: "VAE"
    prior: PriorDistribution
    x: Tensor
    observed: Tensor | None

    @classmethod
    def of(cls, model: "VAE", x: Tensor) -> "Joint":
        """Make it of rows whose missing cells are NaN."""
        observed = model.likelihood.observed(x) if x.isnan().any() else None
        return cls(
            model,
            model.prior_distribution(),
            x.nan_to_num() if observed is not None else x,
            observed,
        )

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(x, z) in nats of codes, own or shared by the rows: (M, K, B or 1, l)."""
        model = self.model
        if model.decodes_apart:
            z = z.expand(-1, -1, self.x.shape[1], -1)
        observed = None if self.observed is None else self.observed.unsqueeze(1)
        params = model.decode(z, self.x)
        log_prob = model.likelihood.log_prob(params, self.x.unsqueeze(1), observed)
        return log_prob + self.prior.log_prob(z)

    def select(self, rows: Tensor) -> "Joint":
        """Give that of some of the rows."""
        observed = None if self.observed is None else self.observed.index_select(1, rows)
        return self._replace(x=self.x.index_select(1, rows), observed=observed)


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

    def log_likelihood(
        self,
        x: Tensor,
        noise: Tensor,
        proposal_scale: float = 1.0,
        n_at_once: int | None = None,
    ) -> Tensor:
        """Importance-weighted bound on log p(x): (M, B, n_columns) -> (M, B).

        Parameters
        ----------
        x : Tensor of shape (M, B, n_columns)
            Encoded rows.
        noise : Tensor of shape (M or 1, K, B or 1, l)
            Standard normal draws, own or shared by the rows.
        proposal_scale : float, default=1.0
            How many times as wide as q(z|x) the distribution is from which z is drawn.
            The bound holds for any; a little wider than the encoder's is tighter.
        n_at_once : int, optional
            Rows that go through the decoder at a time, with all their draws; by default all.

        Returns
        -------
        Tensor of shape (M, B)
            log (1/K) sum_k p(x|z_k) p(z_k) / q(z_k|x), in nats and in units of x.

        References
        ----------
        .. [1] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance Weighted
           Autoencoders", ICLR 2016.
        """
        n_at_once = n_at_once or max(x.shape[1], 1)
        parts = zip(self.encode(x).split(n_at_once, 1), x.split(n_at_once, 1), strict=True)
        prior = self.prior_distribution()
        draws = (self._weigh(q, own, noise, proposal_scale, prior) for q, own in parts)
        return torch.cat([log_mean_exp(some.log_weight, dim=1) for some in draws], dim=1)

    def log_evidence(self, x: Tensor, points: "Points", n_at_once: int) -> Tensor:
        """Log p(x) of rows, of which some may have missing cells: (M, B, n_columns) -> (M, B).

        Codes are drawn from q(z|x), a little wider, and from the prior. Rows of which these are
        poor proposals get others (``proposals.refinements``).

        Parameters
        ----------
        x : Tensor of shape (M, B, n_columns + n_conditions)
            Encoded rows; NaN is a missing cell.
        points : Points
            What the draws are made of.
        n_at_once : int
            Rows that go through the decoder at a time, with all their draws.
        """
        q, start = self.encode(self.seen(x)), self.prior_proposal(points)
        found, poor = [], []
        for some in torch.arange(x.shape[1], device=x.device).split(n_at_once):
            sampler, is_poor = self.sampler(q[:, some], x[:, some], points, start)
            found.append(sampler.log_evidence())
            poor.append(is_poor)
        log_evidence = torch.cat(found, dim=1)
        for some in torch.cat(poor).nonzero()[:, 0].split(n_at_once):
            sampler, is_poor = self.sampler(q[:, some], x[:, some], points, start)
            for rows, refined in self.refined(sampler, is_poor, points):
                log_evidence[:, some[rows]] = refined.log_evidence()
        return log_evidence

    def log_sum_of_codes(self, x: Tensor, n_at_once: int) -> Tensor:
        """Log p(x) as the sum over all codes of a categorical posterior: (M, B, n) -> (M, B)."""
        z = self.posterior.every(x).expand(len(x), -1, -1, -1)  # (M, n_codes, 1, l)
        parts = [Joint.of(self, own).log_prob(z) for own in x.split(n_at_once, 1)]
        return torch.cat([own.logsumexp(1) for own in parts], dim=1)

    @property
    def decodes_apart(self) -> bool:
        """Whether a code is another one for each row, by conditions or by what comes before."""
        return bool(self.n_conditions) or self.decoder.is_autoregressive

    def sampler(
        self, q: Tensor, x: Tensor, points: "Points", start: PriorProposal
    ) -> tuple[Sampler, Tensor]:
        """Codes drawn from q(z|x) and the prior, and which rows (B,) need other proposals."""
        sampler = Sampler(Joint.of(self, x))
        sampler.add(EncoderProposal(self.posterior, q, points.proposal_scale), points.first)
        is_poor = points.check.is_narrow(sampler.log_weight) & self.architecture.has_slopes
        sampler.add(start, start.z)
        is_poor = is_poor | sampler.is_uneven()
        structure = self.architecture.network.row_structure
        if not structure.variable_length:  # the encoder may have been trained on complete rows
            is_poor = is_poor | x.isnan().any(-1)
        return sampler, is_poor.any(0)

    def refined(
        self, sampler: Sampler, is_poor: Tensor, points: "Points"
    ) -> Iterator[tuple[Tensor, Sampler | ClassSampler]]:
        """Yield numbers of rows and a sampler of them that has more proposals.

        Numbers beside classes get them for each class; where there are only classes, and too
        many for a sum over all, the encoder gives more draws.
        """
        if self.architecture.n_classes is not None:
            return self._refined_by_class(sampler, is_poor, points)
        if not self.architecture.has_density:
            return more_draws(sampler, is_poor, points.later)
        prior, n_starts = (
            self.prior_distribution(),
            max(PRODUCTS_OF_STARTS // points.first.shape[-1], 1),
        )
        if isinstance(prior, DiagonalMixture):
            candidates, n_starts = prior.loc, max(n_starts, STARTS_OF_MANY_MODES)
        else:
            z = self.prior_proposal(points).z.squeeze(2)
            candidates = torch.cat([FAR * z, z], dim=1)
        if cast(Joint, sampler.target).observed is not None:
            n_starts = max(n_starts, STARTS_OF_MANY_MODES)
        return refinements(
            sampler, is_poor, points.later, points.proposal_scale, candidates, n_starts
        )

    def _refined_by_class(
        self, sampler: Sampler, is_poor: Tensor, points: "Points"
    ) -> Iterator[tuple[Tensor, ClassSampler]]:
        """Yield numbers of rows and their draws for each class, with Laplace proposals."""
        rows = is_poor.nonzero()[:, 0]
        if not len(rows):
            return
        classes = self.posterior.every(self.free).flatten(0, 2)  # (C, width)
        n_classes, width = classes.shape
        pairs = rows.repeat_interleave(n_classes)
        target = GivenClass(sampler.target.select(pairs), classes.repeat(len(rows), 1))
        first = cast(EncoderProposal, sampler.proposals[0][1])
        params = first.params.index_select(1, pairs)[..., width:]
        z = points.prior[..., width:].expand(len(self.free), -1, -1, -1)
        inner = Sampler(target)
        inner.add(
            EncoderProposal(self.posterior.base, params, points.proposal_scale),
            points.first[..., width:],
        )
        inner.add(PriorProposal(StandardNormal(), z), z)
        found = ClassSampler(inner, n_classes)
        candidates = torch.cat([FAR * z, z], dim=1).squeeze(2)
        later = [own[..., width:] for own in points.later]
        every = torch.ones_like(pairs, dtype=torch.bool)
        n_starts = max(PRODUCTS_OF_STARTS // z.shape[-1], 1)
        for numbers, refined in refinements(
            inner, every, later, points.proposal_scale, candidates, n_starts
        ):
            found.replace(numbers, refined)
        yield rows, found

    def mode(self, x: Tensor) -> Tensor:
        """Likeliest codes of rows, of which some may have missing cells: (M, B, l)."""
        z = self.posterior.mean(self.encode(self.seen(x)))
        return newton(Joint.of(self, x), z)[0]

    def prior_proposal(self, points: "Points") -> PriorProposal:
        """Draws from the prior, the same for all rows."""
        n_draws = points.first.shape[1]
        if self.decodes_apart:
            n_draws = -(-n_draws // PRIOR_ONE_IN)
        prior = self.prior_distribution()
        if isinstance(prior, StandardNormal):
            z = points.prior[:, :n_draws].expand(len(self.free), -1, -1, -1)
            return PriorProposal(prior, z)
        shape = len(self.free), n_draws, self.architecture.n_components
        z = prior.sample(*shape, make_generator(*points.seed), self.free.dtype)
        return PriorProposal(prior, z.to(self.free.device).unsqueeze(2))

    def seen(self, x: Tensor) -> Tensor:
        """Rows as the encoder can take them: missing cells hold means, if it knows none."""
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
