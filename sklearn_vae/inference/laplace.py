"""Laplace approximation and adaptive importance sampling of the posterior p(z|x).

Codes z of a row are drawn from several proposals, and each draw is weighted by the mixture of all
of them (the balance heuristic [1]_), so that a good proposal makes up for a bad one. Where the
weights are uneven, a normal distribution is added at a mode of the posterior, which Newton's
method finds (Laplace approximation). Where a mode has a proposal already, a normal distribution
is added at the draw of the largest weight (incremental mixture importance sampling [2]_).

References
----------
.. [1] E. Veach and L. J. Guibas, "Optimally Combining Sampling Techniques for Monte Carlo
   Rendering", SIGGRAPH 1995.
.. [2] A. E. Raftery and L. Bao, "Estimating and Projecting Trends in HIV/AIDS Generalized
   Epidemics Using Incremental Mixture Importance Sampling", Biometrics 66, 2010.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_vae.device import widest_dtype
from sklearn_vae.priors import HALF_LOG_2PI, PriorDistribution

# Newton steps at most, and the step lengths of the line search.
MAX_NEWTON_STEPS = 8
STEP_LENGTHS = (1.0, 0.5, 0.2, 0.05, 0.0)
# Newton's method has converged after a step of fewer standard deviations.
CONVERGED = 0.1
# Distance of the finite differences of gradients: at the first step, and in standard deviations of
# the previous step's Laplace approximation.
FIRST_DIFFERENCE = 1e-2
DIFFERENCE = 0.3
# Upper bound of the Laplace approximation's standard deviations.
MAX_SCALE = 1.5
# One in so many draws from a Laplace approximation is from a wider one: heavier tails.
WIDE_ONE_IN = 4
# Every mode but the largest gets one in so many draws.
OTHER_MODE_ONE_IN = 8
# Clusters of candidate codes per further starting point of Newton's method.
CLUSTERS_PER_START = 2
# Two modes are the same within so many standard deviations (root mean square).
SAME_MODE = 1.0
# Bias of the log of an average of weights, in nats, that needs no further proposal.
TOLERANCE = 0.025
# A proposal is too narrow where the posterior has 1 / (1 - 0.5) = 2 times its variance.
WIDTH_TOLERANCE = 0.5
# With more products of dimensions, or fewer draws, only the squares are regressors.
MAX_PRODUCTS = 64
DRAWS_PER_FEATURE = 1.3
# The control variate changes an estimate by no more than this factor.
MAX_FACTOR = 1.5
# Curvatures are clipped here.
MAX_CURVATURE = 1e12


class Target(Protocol):
    """The posterior of codes up to a constant: p(x|z) p(z) of some rows x."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(x, z) in nats: (M, K, B or 1, l) -> (M, K, B)."""

    def select(self, rows: Tensor) -> "Target":
        """Index-select the rows."""


class Proposal(Protocol):
    """A distribution of codes for each of B rows."""

    def draw(self, noise: Tensor) -> Tensor:
        """Codes of standard normal draws (1, K, 1, n_noise): (M, K, B or 1, l)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats of codes: (M, K, B, l) -> (M, K, B)."""

    def select(self, rows: Tensor) -> "Proposal":
        """Index-select the rows."""


class NormalProposal(NamedTuple):
    """A normal distribution of codes for each row.

    Attributes
    ----------
    loc : Tensor of shape (M, B, l)
        Its means.
    axes : Tensor of shape (M, B, l, l)
        Columns are the axes along which the dimensions are independent.
    scale : Tensor of shape (M, B, l)
        Standard deviations along them.
    """

    loc: Tensor
    axes: Tensor
    scale: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """Codes of standard normal draws: (M or 1, K, 1, l) -> (M, K, B, l)."""
        scaled = noise * self.scale.unsqueeze(1)  # (M, K, B, l)
        return self.loc.unsqueeze(1) + (self.axes @ scaled.movedim(1, -1)).movedim(-1, 1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats of codes: (M, K, B, l) -> (M, K, B)."""
        return -0.5 * self.squared_distance(z) - (self.scale.log() + HALF_LOG_2PI).sum(
            -1
        ).unsqueeze(1)

    def squared_distance(self, z: Tensor) -> Tensor:
        """Squared Mahalanobis distance of codes: (M, K, B, l) -> (M, K, B)."""
        difference = (z - self.loc.unsqueeze(1)).movedim(1, -1)  # (M, B, l, K)
        standardised = (self.axes.mT @ difference) / self.scale.unsqueeze(-1)
        return standardised.square().sum(-2).movedim(-1, 1)

    def widened(self, factor: float) -> "NormalProposal":
        """Return the distribution that is ``factor`` times as wide."""
        return self._replace(scale=factor * self.scale)

    def select(self, rows: Tensor) -> "NormalProposal":
        """Index-select the rows."""
        return NormalProposal(*(part.index_select(1, rows) for part in self))


class PriorProposal(NamedTuple):
    """The prior, whose draws all rows share.

    Attributes
    ----------
    prior : PriorDistribution
        p(z).
    z : Tensor of shape (M, K, 1, l)
        Codes drawn from it.
    """

    prior: PriorDistribution
    z: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """The first K draws, for noise (1, K, 1, n_noise): (M, K, 1, l)."""
        return self.z[:, : noise.shape[1]]

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats of codes: (M, K, B, l) -> (M, K, B)."""
        return self.prior.log_prob(z)

    def select(self, rows: Tensor) -> "PriorProposal":
        """Return itself: all rows share the draws."""
        return self


class EncoderProposal(NamedTuple):
    """The encoder's q(z|x), widened.

    Attributes
    ----------
    posterior : posterior
        q(z|x).
    params : Tensor of shape (M, B, n_params)
        Its parameters.
    proposal_scale : float
        Factor of the standard deviations.
    """

    posterior: Any
    params: Tensor
    proposal_scale: float

    def draw(self, noise: Tensor) -> Tensor:
        """Codes of standard normal draws: (M or 1, K, 1, l) -> (M, K, B, l)."""
        return self.posterior.rsample(self.params, noise, self.proposal_scale)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats of codes: (M, K, B, l) -> (M, K, B)."""
        return self.posterior.log_prob(self.params, z, self.proposal_scale)

    def select(self, rows: Tensor) -> "EncoderProposal":
        """Index-select the rows."""
        return self._replace(params=self.params.index_select(1, rows))


class ImportanceSampler:
    """Codes drawn from several proposals, weighted by the mixture of all proposals.

    Parameters
    ----------
    target : Target
        p(x, z) as a function of z.

    Attributes
    ----------
    z : Tensor of shape (M, K, B, l)
        The codes.
    log_joint : Tensor of shape (M, K, B)
        Log p(x, z) of each.
    log_mixture : Tensor of shape (M, K, B)
        Log of the sum over proposals of their density times the number of their draws.
    """

    z: Tensor
    log_joint: Tensor
    log_mixture: Tensor

    def __init__(self, target: Target):
        self.target = target
        self.proposals: list[tuple[int, Proposal]] = []

    def add(self, proposal: Proposal, noise: Tensor) -> Self:
        """Draw codes from one more proposal, for standard normal draws (1, K, 1, n_noise)."""
        drawn = proposal.draw(noise)  # (M, K, B or 1, l)
        log_joint = self.target.log_prob(drawn)  # (M, K, B)
        z = drawn.expand(-1, -1, log_joint.shape[2], -1)
        log_n_draws = math.log(noise.shape[1])
        if not self.proposals:
            self.proposals.append((noise.shape[1], proposal))
            self.z, self.log_joint = z, log_joint
            self.log_mixture = proposal.log_prob(z) + log_n_draws
            return self
        before = torch.logaddexp(self.log_mixture, proposal.log_prob(self.z) + log_n_draws)
        self.proposals.append((noise.shape[1], proposal))
        log_densities = [
            component.log_prob(z) + math.log(n_draws) for n_draws, component in self.proposals
        ]
        self.z = torch.cat([self.z, z], dim=1)
        self.log_joint = torch.cat([self.log_joint, log_joint], dim=1)
        new = torch.logsumexp(torch.stack(log_densities), dim=0)
        self.log_mixture = torch.cat([before, new], dim=1)
        return self

    def select(self, rows: Tensor) -> "ImportanceSampler":
        """Index-select the rows."""
        chosen = ImportanceSampler(self.target.select(rows))
        chosen.proposals = [
            (n_draws, proposal.select(rows)) for n_draws, proposal in self.proposals
        ]
        for name in ("z", "log_joint", "log_mixture"):
            setattr(chosen, name, getattr(self, name).index_select(2, rows))
        return chosen

    @property
    def log_weight(self) -> Tensor:
        """Logarithms of weights whose sum is an estimate of p(x): (M, K, B)."""
        return (self.log_joint - self.log_mixture).nan_to_num(nan=-math.inf)

    def log_evidence(self) -> Tensor:
        """Log of the estimate of p(x) in nats: (M, B).

        The prior's weights, whose sum should be 1, are a control variate: where the posterior is
        the prior, the estimate is exact.
        """
        log_weight = self.log_weight
        log_sum = torch.logsumexp(log_weight, dim=1)
        for _, proposal in self.proposals:
            if isinstance(proposal, PriorProposal):
                weight = (log_weight - log_sum.unsqueeze(1)).exp()  # their sum is 1
                control = (proposal.log_prob(self.z) - self.log_mixture).exp()
                centred = control - control.mean(1, keepdim=True)
                slope = (centred * weight).sum(1) / centred.square().sum(1)
                factor = 1 - slope * (control.sum(1) - 1)
                is_good = (factor > 1 / MAX_FACTOR) & (factor < MAX_FACTOR)
                log_sum = log_sum + torch.where(is_good, factor, 1.0).log()
        return log_sum

    def is_uneven(self) -> Tensor:
        """Mask of rows whose estimate of log p(x) is biased by more than ``TOLERANCE``: (M, B).

        By the delta method the bias is half the relative variance of an average of K weights.
        """
        weight = self.log_weight.softmax(dim=1)
        variance = weight.square().sum(1) - 1 / weight.shape[1]
        return ~(0.5 * variance < TOLERANCE)  # NaN, where no weight is finite

    def add_modes(
        self, noise: Tensor, proposal_scale: float, candidates: Tensor, n_starts: int
    ) -> None:
        """Add Laplace approximations at the modes that Newton's method finds from several starts.

        Most draws are from the mode with the largest part of p(x), a few from every other mode.

        Parameters
        ----------
        noise : Tensor of shape (1, K, 1, l)
            Standard normal draws.
        proposal_scale : float
            Factor of the Laplace approximations' standard deviations.
        candidates : Tensor of shape (M, C, l)
            Codes far from each other: starting points beside the likelier of the likeliest draw
            and the draws' weighted mean.
        n_starts : int
            Number of starting points.
        """
        log_joint = self.log_joint.nan_to_num(nan=-math.inf)
        z = _take(self.z, log_joint.argmax(1)).unsqueeze(1)  # (M, 1, B, l)
        mean = (self.log_weight.softmax(1).unsqueeze(-1) * self.z).sum(1, keepdim=True)
        is_better = self.target.log_prob(mean) > log_joint.amax(1, keepdim=True)
        z = torch.where(is_better.unsqueeze(-1), mean, z)
        if n_starts > 1:
            z = torch.cat([z, _likeliest_per_cluster(self.target, candidates, n_starts - 1)], dim=1)
        n_starts, n_rows = z.shape[1:3]
        rows = torch.arange(n_rows, device=z.device).repeat(n_starts)
        target = self.target.select(rows)
        mode, normal = newton(target, z.flatten(1, 2))
        log_mass = target.log_prob(mode.unsqueeze(1))[:, 0] + normal.scale.log().sum(-1)  # (M, S B)
        best = log_mass.nan_to_num(nan=-math.inf).unflatten(1, (n_starts, n_rows)).argmax(1)
        per_start = [part.unflatten(1, (n_starts, n_rows)) for part in normal]
        row = torch.arange(n_rows, device=best.device)
        member = torch.arange(len(best), device=best.device).unsqueeze(1)
        largest = NormalProposal(*(part[member, best, row] for part in per_start))
        self._add_normal(largest, noise, proposal_scale)
        few = noise[:, : -(-noise.shape[1] // OTHER_MODE_ONE_IN)]
        if n_starts == 1:
            return
        for start in range(n_starts):
            self.add(
                NormalProposal(*(part[:, start] for part in per_start)).widened(proposal_scale), few
            )

    def add_patch(self, noise: Tensor, proposal_scale: float) -> None:
        """Add a normal distribution near the draw of the largest weight.

        Its mean is the mode next to the draw or, if the mode has a proposal already, the draw.
        """
        z = _take(self.z, self.log_weight.argmax(1))
        mode, guess = newton(self.target, z)
        for _, proposal in self.proposals:
            if isinstance(proposal, NormalProposal):
                distance = proposal.squared_distance(mode.unsqueeze(1)).squeeze(1) / z.shape[-1]
                mode = torch.where((distance < SAME_MODE**2).unsqueeze(-1), z, mode)
        self._add_normal(laplace_approximation(self.target, mode, guess), noise, proposal_scale)

    def _add_normal(self, normal: NormalProposal, noise: Tensor, proposal_scale: float) -> None:
        """Add a normal distribution, and a wider one with heavier tails for a few draws."""
        n_wide = noise.shape[1] // WIDE_ONE_IN
        self.add(normal.widened(proposal_scale), noise[:, n_wide:])
        if n_wide:
            self.add(normal.widened(1 + 2 / math.sqrt(noise.shape[-1])), noise[:, :n_wide])


def _likeliest_per_cluster(target: Target, candidates: Tensor, n_best: int) -> Tensor:
    """Likeliest codes of different clusters: (M, C, l) -> (M, n_best, B, l).

    The first codes are the clusters' centres.
    """
    log_joint = target.log_prob(candidates.unsqueeze(2)).nan_to_num(nan=-math.inf)  # (M, C, B)
    n_clusters = min(CLUSTERS_PER_START * n_best, candidates.shape[1])
    cluster = torch.cdist(candidates, candidates[:, :n_clusters]).argmin(-1)  # (M, C)
    likeliest = [
        log_joint.masked_fill((cluster != number).unsqueeze(-1), -math.inf).max(1)
        for number in range(n_clusters)
    ]
    values, numbers = (
        torch.stack(part, dim=1) for part in zip(*likeliest, strict=True)
    )  # (M, G, B)
    best = values.topk(min(n_best, n_clusters), dim=1).indices
    chosen = numbers.gather(1, best)  # (M, n_best, B)
    index = chosen.flatten(1).unsqueeze(-1).expand(-1, -1, candidates.shape[-1])
    return candidates.gather(1, index).unflatten(1, chosen.shape[1:])


def refine(
    sampler: ImportanceSampler,
    poor: Tensor,
    points: Sequence[Tensor],
    proposal_scale: float,
    candidates: Tensor,
    n_starts: int,
) -> Iterator[tuple[Tensor, ImportanceSampler]]:
    """Yield indices of rows and their sampler with one more proposal, until all weights are even.

    Parameters
    ----------
    sampler : ImportanceSampler
        The draws so far.
    poor : Tensor of shape (B,)
        Mask of rows that need a further proposal.
    points : sequence of Tensor of shape (1, K, 1, l)
        Standard normal draws of each round.
    proposal_scale : float
        Factor of the Laplace approximations' standard deviations.
    candidates : Tensor of shape (M, C, l)
        Possible starting points of Newton's method.
    n_starts : int
        Number of starting points.
    """
    rows = torch.arange(len(poor), device=poor.device)
    for number, noise in enumerate(points):
        chosen = poor.nonzero()[:, 0]
        if not len(chosen):
            return
        rows, sampler = rows[chosen], sampler.select(chosen)
        if number == 0:
            sampler.add_modes(noise, proposal_scale, candidates, n_starts)
        else:
            sampler.add_patch(noise, proposal_scale)
        yield rows, sampler
        poor = sampler.is_uneven().any(0)


def more_draws(
    sampler: ImportanceSampler, poor: Tensor, points: Sequence[Tensor]
) -> Iterator[tuple[Tensor, ImportanceSampler]]:
    """As ``refine``, by more draws from the first proposal: for codes without a density."""
    rows = torch.arange(len(poor), device=poor.device)
    for noise in points:
        chosen = poor.nonzero()[:, 0]
        if not len(chosen):
            return
        rows, sampler = rows[chosen], sampler.select(chosen)
        _, proposal = sampler.proposals[0]
        sampler.add(proposal, noise)
        yield rows, sampler
        poor = sampler.is_uneven().any(0)


class ClassTarget(NamedTuple):
    """p(x, z) as a function of z's real numbers, its classes fixed: a row per row and class.

    Attributes
    ----------
    target : Target
        p(x, z) of as many rows as a function of the whole code.
    classes : Tensor of shape (N, width)
        One-hot codes of the classes.
    """

    target: Target
    classes: Tensor

    def codes(self, z: Tensor) -> Tensor:
        """Classes and numbers side by side: (M, K, N or 1, l') -> (M, K, N, width + l')."""
        n_rows = len(self.classes)
        classes = self.classes.expand(*z.shape[:2], n_rows, -1)
        return torch.cat([classes, z.expand(-1, -1, n_rows, -1)], dim=-1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(x, z) in nats of numbers: (M, K, N or 1, l') -> (M, K, N)."""
        return self.target.log_prob(self.codes(z))

    def select(self, rows: Tensor) -> "ClassTarget":
        """Index-select the rows."""
        return ClassTarget(self.target.select(rows), self.classes.index_select(0, rows))


class ClassSampler:
    """Codes drawn separately for each class: p(x) is the sum over classes.

    Parameters
    ----------
    sampler : ImportanceSampler
        Of a ``ClassTarget``, whose first rows are all classes of the first row.
    n_classes : int
        Number of classes.

    Attributes
    ----------
    z : Tensor of shape (M, K, B, l)
        The codes of all classes.
    log_weight : Tensor of shape (M, K, B)
        Logarithms of weights whose sum is an estimate of p(x).
    """

    def __init__(self, sampler: ImportanceSampler, n_classes: int):
        self.n_classes = n_classes
        target = cast(ClassTarget, sampler.target)
        self._z, self._log_weight = target.codes(sampler.z), sampler.log_weight
        self._log_evidence = sampler.log_evidence()

    def replace(self, rows: Tensor, sampler: ImportanceSampler) -> None:
        """Replace the draws of some pairs of row and class, by index."""
        target = cast(ClassTarget, sampler.target)
        n_more = max(sampler.z.shape[1] - self._z.shape[1], 0)
        self._z = F.pad(self._z, (0, 0, 0, 0, 0, n_more))
        # padding has weight 0
        self._log_weight = F.pad(self._log_weight, (0, 0, 0, n_more), value=-math.inf)
        self._z[:, :, rows] = target.codes(sampler.z)
        self._log_weight[:, :, rows] = sampler.log_weight
        self._log_evidence[:, rows] = sampler.log_evidence()

    @property
    def z(self) -> Tensor:
        """The codes: (M, K, B, l)."""
        z = self._z.unflatten(2, (-1, self.n_classes))
        return z.movedim(3, 2).flatten(1, 2)

    @property
    def log_weight(self) -> Tensor:
        """Logarithms of weights whose sum is an estimate of p(x): (M, K, B)."""
        return self._log_weight.unflatten(2, (-1, self.n_classes)).movedim(3, 2).flatten(1, 2)

    def log_evidence(self) -> Tensor:
        """Log of the estimate of p(x) in nats: (M, B)."""
        return self._log_evidence.unflatten(1, (-1, self.n_classes)).logsumexp(-1)


def newton(target: Target, z: Tensor) -> tuple[Tensor, NormalProposal]:
    """Find the posterior's mode by Newton's method with a line search, from codes (M, B, l).

    Returns the mode and its Laplace approximation, whose curvature is that before the last step.
    Converged rows take no further steps.
    """
    n_latent = z.shape[-1]
    axes = torch.eye(n_latent, dtype=z.dtype, device=z.device).expand(*z.shape, n_latent)
    normal = NormalProposal(z, axes, torch.full_like(z, FIRST_DIFFERENCE / DIFFERENCE))
    rows = torch.arange(z.shape[1], device=z.device)
    for _ in range(MAX_NEWTON_STEPS):
        active = target.select(rows)
        local, step = _curvature(active, normal.select(rows))
        z = torch.stack([local.loc + length * step for length in STEP_LENGTHS], dim=1)
        best = active.log_prob(z).nan_to_num(nan=-math.inf).argmax(1)  # (M, B)
        moved = local._replace(loc=_take(z, best))
        normal = NormalProposal(
            *(old.index_copy(1, rows, new) for old, new in zip(normal, moved, strict=True))
        )
        size = local.squared_distance(moved.loc.unsqueeze(1)).squeeze(1) / n_latent
        rows = rows[~(size < CONVERGED**2).all(0)]
        if not len(rows):
            break
    return normal.loc, normal


def laplace_approximation(target: Target, z: Tensor, guess: NormalProposal) -> NormalProposal:
    """Normal distribution with mean z (M, B, l) and the posterior's curvature there."""
    return _curvature(target, guess._replace(loc=z))[0]


def _curvature(target: Target, guess: NormalProposal) -> tuple[NormalProposal, Tensor]:
    """Curvature of log p(x, z) at a guess's location, and the Newton step (M, B, l).

    The Hessian is a finite difference of gradients along the guess's axes.
    """
    n_latent = guess.loc.shape[-1]
    distance = (DIFFERENCE * guess.scale).clamp(max=1.0)
    shift = (guess.axes * distance.unsqueeze(-2)).mT  # (M, B, l, l): a row per axis
    shift = shift.movedim(2, 1)  # (M, l, B, l)
    z = guess.loc.unsqueeze(1)
    around = torch.cat([z + shift, z - shift], dim=1)
    with torch.enable_grad():
        around = around.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(target.log_prob(around).sum(), around)
    exact = widest_dtype(z.device)
    ahead, behind = gradient.nan_to_num().to(exact).split(n_latent, dim=1)  # (M, l, B, l) each
    axes = guess.axes.to(exact)
    hessian = (behind - ahead).movedim(1, 2) / (2 * distance.to(exact)).unsqueeze(
        -1
    )  # (M, B, axis, l)
    curvature = axes @ hessian  # (M, B, l, l)
    precision, eigenvectors = torch.linalg.eigh(0.5 * (curvature + curvature.mT))
    precision = precision.clamp(min=MAX_SCALE**-2)
    mean_gradient = 0.5 * (ahead + behind).mean(1).unsqueeze(-1)  # (M, B, l, 1)
    scaled = (eigenvectors.mT @ mean_gradient) / precision.unsqueeze(-1)
    step = (eigenvectors @ scaled).squeeze(-1)
    dtype = z.dtype
    normal = NormalProposal(guess.loc, eigenvectors.to(dtype), precision.rsqrt().to(dtype))
    return normal, step.to(dtype)


class WidthCheck:
    """Test for a proposal that is narrower than the posterior in some direction.

    Importance weights look even if no draw leaves a small part of the posterior. But then they
    rise with the distance from the centre, as a quadratic regression of the log-weights on the
    noise shows.

    Parameters
    ----------
    noise : Tensor of shape (1, K, 1, l)
        Standard normal draws of the proposal.
    """

    def __init__(self, noise: Tensor):
        points = noise[0, :, 0].double()  # (K, l)
        n_draws, n_latent = points.shape
        self.row, self.column = torch.triu_indices(n_latent, n_latent, device=points.device)
        n_features = 1 + n_latent + len(self.row)
        if len(self.row) > MAX_PRODUCTS or DRAWS_PER_FEATURE * n_features > n_draws:
            self.row = self.column = torch.arange(n_latent, device=points.device)
        products = points[:, self.row] * points[:, self.column]
        features = torch.cat([points.new_ones(n_draws, 1), points, products], dim=1)
        self.n_latent, self.is_possible = n_latent, features.shape[1] <= n_draws
        if self.is_possible:
            # (F, K), of the products alone
            self.inverse = torch.linalg.pinv(features)[1 + n_latent :].to(noise.dtype)

    def is_narrow(self, log_weight: Tensor) -> Tensor:
        """Mask of rows whose log p(x, z) - log q(z|x) rises outwards: (M, K, B) -> (M, B)."""
        if not self.is_possible:
            return torch.zeros_like(log_weight[:, 0], dtype=torch.bool)
        slopes = (self.inverse @ log_weight).mT  # (M, B, F)
        if len(self.row) == self.n_latent:
            return ~(2 * slopes.amax(-1) < WIDTH_TOLERANCE)
        curvature = slopes.new_zeros(*slopes.shape[:2], self.n_latent, self.n_latent)
        curvature[..., self.row, self.column] = slopes.nan_to_num(math.inf)
        curvature = (curvature + curvature.mT).clamp(-MAX_CURVATURE, MAX_CURVATURE)
        return torch.linalg.eigvalsh(curvature)[..., -1] >= WIDTH_TOLERANCE


def _take(z: Tensor, index: Tensor) -> Tensor:
    """Gather one draw per row by index: (M, K, B, l), (M, B) -> (M, B, l)."""
    index = index[:, None, :, None].expand(-1, 1, -1, z.shape[-1])
    return z.gather(1, index).squeeze(1)
