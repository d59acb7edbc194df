"""Adaptive importance sampling: proposals of codes, their mixture, and when it needs another one.

Codes z of a row are drawn from several proposals, and each draw is weighted by the mixture of all
of them (the balance heuristic [1]_), so that a good proposal makes up for a bad one. Where
the weights are uneven, a normal distribution is added at a mode of the posterior (the Laplace
approximation) or, if there is one already, where the mixture is too low (incremental mixture
importance sampling [2]_).

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

# Newton steps towards a mode at the most, and the fractions of each that are tried.
N_STEPS = 8
FRACTIONS = (1.0, 0.5, 0.2, 0.05, 0.0)
# A step of fewer standard deviations is the last one.
CONVERGED = 0.1
# Distance over which gradients are compared for the curvature: first, and in standard deviations
# of the normal distribution that was found before.
FIRST_REACH = 1e-2
REACH = 0.3
# The posterior is never taken for wider than this.
WIDEST = 1.5
# Of the draws from a Laplace approximation, one in so many is from one that is wider still.
WIDE_ONE_IN = 4
# Each of the modes that are not the largest gets one in so many draws.
OTHER_MODE_ONE_IN = 8
# Cells of codes for each further start, of which the likeliest are taken.
CELLS_PER_START = 2
# A mode is known where it lies so near to another one's, in standard deviations (root mean square).
SAME_MODE = 1.0
# Bias of the log of an average of weights, in nats, that needs no other proposal.
TOLERANCE = 0.025
# A proposal is too narrow where the posterior has 1 / (1 - 0.5) = 2 times its variance.
WIDTH_TOLERANCE = 0.5
# With more products of dimensions, or fewer draws, it is looked at along the dimensions only.
MOST_PRODUCTS = 64
DRAWS_PER_FEATURE = 1.3
# The control variate changes an estimate by no more than this factor.
MOST_FACTOR = 1.5
# A curvature that is as good as infinite.
HUGE = 1e12


class Target(Protocol):
    """The posterior of codes up to a constant: p(x|z) p(z) of some rows x."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(x, z) in nats: (M, K, B or 1, l) -> (M, K, B)."""

    def select(self, rows: Tensor) -> "Target":
        """Give the target of some of the rows, by their numbers."""


class Proposal(Protocol):
    """A distribution of codes for each of B rows."""

    def draw(self, noise: Tensor) -> Tensor:
        """Codes of standard normal draws (1, K, 1, n_noise): (M, K, B or 1, l)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats of codes: (M, K, B, l) -> (M, K, B)."""

    def select(self, rows: Tensor) -> "Proposal":
        """Give the proposal of some of the rows, by their numbers."""


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
        along = noise * self.scale.unsqueeze(1)  # (M, K, B, l)
        moved = (self.axes @ along.movedim(1, -1)).movedim(-1, 1)
        return self.loc.unsqueeze(1) + moved

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats of codes: (M, K, B, l) -> (M, K, B)."""
        return -0.5 * self.squared_distance(z) - (self.scale.log() + HALF_LOG_2PI).sum(
            -1
        ).unsqueeze(1)

    def squared_distance(self, z: Tensor) -> Tensor:
        """Squared Mahalanobis distance of codes: (M, K, B, l) -> (M, K, B)."""
        apart = (z - self.loc.unsqueeze(1)).movedim(1, -1)  # (M, B, l, K)
        along = (self.axes.mT @ apart) / self.scale.unsqueeze(-1)
        return along.square().sum(-2).movedim(-1, 1)

    def widened(self, factor: float) -> "NormalProposal":
        """Give the distribution that is ``factor`` times as wide."""
        return self._replace(scale=factor * self.scale)

    def select(self, rows: Tensor) -> "NormalProposal":
        """Give the distributions of some of the rows."""
        return NormalProposal(*(own.index_select(1, rows) for own in self))


class PriorProposal(NamedTuple):
    """The prior, of which the same draws serve all rows.

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
        """As many of the draws as there are rows of noise: (M, K, 1, l)."""
        return self.z[:, : noise.shape[1]]

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats of codes: (M, K, B, l) -> (M, K, B)."""
        return self.prior.log_prob(z)

    def select(self, rows: Tensor) -> "PriorProposal":
        """It is the same for all rows."""
        return self


class EncoderProposal(NamedTuple):
    """What the encoder says of rows, a little wider.

    Attributes
    ----------
    posterior : law
        q(z|x).
    params : Tensor of shape (M, B, n_params)
        Its parameters.
    proposal_scale : float
        How many times as wide.
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
        """Give what it says of some of the rows."""
        return self._replace(params=self.params.index_select(1, rows))


class Sampler:
    """Codes drawn from several proposals, each weighted by the mixture of all of them.

    Parameters
    ----------
    target : Target
        What the codes are weighted for.

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
        log_number = math.log(noise.shape[1])
        if not self.proposals:
            self.proposals.append((noise.shape[1], proposal))
            self.z, self.log_joint = z, log_joint
            self.log_mixture = proposal.log_prob(z) + log_number
            return self
        before = torch.logaddexp(self.log_mixture, proposal.log_prob(self.z) + log_number)
        self.proposals.append((noise.shape[1], proposal))
        of_each = [own.log_prob(z) + math.log(number) for number, own in self.proposals]
        self.z = torch.cat([self.z, z], dim=1)
        self.log_joint = torch.cat([self.log_joint, log_joint], dim=1)
        new = torch.logsumexp(torch.stack(of_each), dim=0)
        self.log_mixture = torch.cat([before, new], dim=1)
        return self

    def select(self, rows: Tensor) -> "Sampler":
        """Give the sampler of some of the rows, by their numbers."""
        chosen = Sampler(self.target.select(rows))
        chosen.proposals = [(number, own.select(rows)) for number, own in self.proposals]
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
        for _, own in self.proposals:
            if isinstance(own, PriorProposal):
                weight = (log_weight - log_sum.unsqueeze(1)).exp()  # their sum is 1
                control = (own.log_prob(self.z) - self.log_mixture).exp()
                apart = control - control.mean(1, keepdim=True)
                slope = (apart * weight).sum(1) / apart.square().sum(1)
                factor = 1 - slope * (control.sum(1) - 1)
                is_good = (factor > 1 / MOST_FACTOR) & (factor < MOST_FACTOR)
                log_sum = log_sum + torch.where(is_good, factor, 1.0).log()
        return log_sum

    def is_uneven(self) -> Tensor:
        """Whether the log of the sum of weights is too far below log p(x): (M, B).

        By the delta method it is by half the relative variance of an average of K weights.
        """
        share = self.log_weight.softmax(dim=1)
        variance = share.square().sum(1) - 1 / share.shape[1]
        return ~(0.5 * variance < TOLERANCE)  # NaN, where no weight is finite

    def add_modes(
        self, noise: Tensor, proposal_scale: float, candidates: Tensor, n_starts: int
    ) -> None:
        """Add normal distributions at the modes that Newton's method finds from several starts.

        Most draws are from the one that has most of p(x); the others get some, in case that they
        have a part.

        Parameters
        ----------
        noise : Tensor of shape (1, K, 1, l)
            Standard normal draws.
        proposal_scale : float
            How many times as wide as the Laplace approximation the distributions are.
        candidates : Tensor of shape (M, C, l)
            Codes far from each other. The best one starts beside the best of the draws, or their
            weighted mean if that is better.
        n_starts : int
            How many starts there are.
        """
        log_joint = self.log_joint.nan_to_num(nan=-math.inf)
        z = _take(self.z, log_joint.argmax(1)).unsqueeze(1)  # (M, 1, B, l)
        mean = (self.log_weight.softmax(1).unsqueeze(-1) * self.z).sum(1, keepdim=True)
        is_better = self.target.log_prob(mean) > log_joint.amax(1, keepdim=True)
        z = torch.where(is_better.unsqueeze(-1), mean, z)
        if n_starts > 1:
            z = torch.cat([z, _best_of_cells(self.target, candidates, n_starts - 1)], dim=1)
        n_starts, n_rows = z.shape[1:3]
        rows = torch.arange(n_rows, device=z.device).repeat(n_starts)
        target = self.target.select(rows)
        mode, found = newton(target, z.flatten(1, 2))
        log_mass = target.log_prob(mode.unsqueeze(1))[:, 0] + found.scale.log().sum(-1)  # (M, S B)
        best = log_mass.nan_to_num(nan=-math.inf).unflatten(1, (n_starts, n_rows)).argmax(1)
        each = [own.unflatten(1, (n_starts, n_rows)) for own in found]
        chosen = (
            own.take_along_dim(best.reshape(len(best), 1, n_rows, *[1] * (own.dim() - 3)), 1)
            for own in each
        )
        self._add_normal(NormalProposal(*(own.squeeze(1) for own in chosen)), noise, proposal_scale)
        few = noise[:, : -(-noise.shape[1] // OTHER_MODE_ONE_IN)]
        for start in range(n_starts if n_starts > 1 else 0):
            self.add(NormalProposal(*(own[:, start] for own in each)).widened(proposal_scale), few)

    def add_patch(self, noise: Tensor, proposal_scale: float) -> None:
        """Add a normal distribution where the draw of most weight shows a need of one.

        It lies at the mode next to the draw or, if there is one already, at the draw itself.
        """
        z = _take(self.z, self.log_weight.argmax(1))
        mode, guess = newton(self.target, z)
        for _, own in self.proposals:
            if isinstance(own, NormalProposal):
                distance = own.squared_distance(mode.unsqueeze(1)).squeeze(1) / z.shape[-1]
                mode = torch.where((distance < SAME_MODE**2).unsqueeze(-1), z, mode)
        self._add_normal(laplace(self.target, mode, guess), noise, proposal_scale)

    def _add_normal(self, normal: NormalProposal, noise: Tensor, proposal_scale: float) -> None:
        """Add a normal distribution, and for some draws a wider one: its tails may be too light."""
        n_wide = noise.shape[1] // WIDE_ONE_IN
        self.add(normal.widened(proposal_scale), noise[:, n_wide:])
        if n_wide:
            self.add(normal.widened(1 + 2 / math.sqrt(noise.shape[-1])), noise[:, :n_wide])


def _best_of_cells(target: Target, candidates: Tensor, n_best: int) -> Tensor:
    """Likeliest codes that are not near each other: (M, C, l) -> (M, n_best, B, l).

    The first codes are the centres of cells, of which each has its likeliest one.
    """
    log_joint = target.log_prob(candidates.unsqueeze(2)).nan_to_num(nan=-math.inf)  # (M, C, B)
    n_cells = min(CELLS_PER_START * n_best, candidates.shape[1])
    cell = torch.cdist(candidates, candidates[:, :n_cells]).argmin(-1)  # (M, C)
    of_cells = [
        log_joint.masked_fill((cell != number).unsqueeze(-1), -math.inf).max(1)
        for number in range(n_cells)
    ]
    values, numbers = (torch.stack(own, dim=1) for own in zip(*of_cells, strict=True))  # (M, G, B)
    best = values.topk(min(n_best, n_cells), dim=1).indices
    chosen = numbers.gather(1, best)  # (M, n_best, B)
    index = chosen.flatten(1).unsqueeze(-1).expand(-1, -1, candidates.shape[-1])
    return candidates.gather(1, index).unflatten(1, chosen.shape[1:])


def refinements(
    sampler: Sampler,
    poor: Tensor,
    points: Sequence[Tensor],
    proposal_scale: float,
    candidates: Tensor,
    n_starts: int,
) -> Iterator[tuple[Tensor, Sampler]]:
    """Yield numbers of rows, and a sampler of them that has one more proposal, till all are even.

    Parameters
    ----------
    sampler : Sampler
        The draws so far.
    poor : Tensor of shape (B,)
        Whether each row needs another proposal.
    points : sequence of Tensor of shape (1, K, 1, l)
        Standard normal draws of each round.
    proposal_scale : float
        How many times as wide as the Laplace approximation the draws are.
    candidates : Tensor of shape (M, C, l)
        Codes from which modes may be sought.
    n_starts : int
        From how many they are.
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
    sampler: Sampler, poor: Tensor, points: Sequence[Tensor]
) -> Iterator[tuple[Tensor, Sampler]]:
    """As ``refinements``, by more draws from the first proposal."""
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


class GivenClass(NamedTuple):
    """The posterior of the numbers behind a class, up to a constant: one row for each class.

    Attributes
    ----------
    target : Target
        That of codes, of as many rows.
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

    def select(self, rows: Tensor) -> "GivenClass":
        """Give the target of some of the rows."""
        return GivenClass(self.target.select(rows), self.classes.index_select(0, rows))


class ClassSampler:
    """Codes of rows, drawn for each class by itself: p(x) is the sum over classes.

    Parameters
    ----------
    sampler : Sampler
        Of a ``GivenClass`` target, all classes of the first row coming first.
    n_classes : int
        How many classes there are.

    Attributes
    ----------
    z : Tensor of shape (M, K, B, l)
        The codes, of all classes.
    log_weight : Tensor of shape (M, K, B)
        Logarithms of weights whose sum is an estimate of p(x).
    """

    def __init__(self, sampler: Sampler, n_classes: int):
        self.n_classes = n_classes
        target = cast(GivenClass, sampler.target)
        self._z, self._log_weight = target.codes(sampler.z), sampler.log_weight
        self._log_evidence = sampler.log_evidence()

    def replace(self, rows: Tensor, sampler: Sampler) -> None:
        """Take other draws for some pairs of row and class, by their numbers."""
        target = cast(GivenClass, sampler.target)
        n_more = max(sampler.z.shape[1] - self._z.shape[1], 0)
        self._z = F.pad(self._z, (0, 0, 0, 0, 0, n_more))
        # pairs that need no more draws give them no weight
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
    """Walk from codes (M, B, l) to a mode; the mode, and its Laplace approximation.

    The curvature is that before the last step. Rows that are there take no further ones.
    """
    n_latent = z.shape[-1]
    axes = torch.eye(n_latent, dtype=z.dtype, device=z.device).expand(*z.shape, n_latent)
    found = NormalProposal(z, axes, torch.full_like(z, FIRST_REACH / REACH))
    rows = torch.arange(z.shape[1], device=z.device)
    for _ in range(N_STEPS):
        active = target.select(rows)
        curved, step = _curved(active, found.select(rows))
        tried = torch.stack([curved.loc + fraction * step for fraction in FRACTIONS], dim=1)
        best = active.log_prob(tried).nan_to_num(nan=-math.inf).argmax(1)  # (M, B)
        moved = _take(tried, best)
        new = curved._replace(loc=moved)
        found = NormalProposal(
            *(old.index_copy(1, rows, own) for old, own in zip(found, new, strict=True))
        )
        size = curved.squared_distance(moved.unsqueeze(1)).squeeze(1) / n_latent
        rows = rows[~(size < CONVERGED**2).all(0)]
        if not len(rows):
            break
    return found.loc, found


def laplace(target: Target, z: Tensor, guess: NormalProposal) -> NormalProposal:
    """Give the normal distribution about codes (M, B, l) with the posterior's curvature there."""
    return _curved(target, guess._replace(loc=z))[0]


def _curved(target: Target, guess: NormalProposal) -> tuple[NormalProposal, Tensor]:
    """Curvature of the log-density at a guess's location, and the Newton step (M, B, l)."""
    n_latent = guess.loc.shape[-1]
    reach = (REACH * guess.scale).clamp(max=1.0)
    shift = (guess.axes * reach.unsqueeze(-2)).mT  # (M, B, l, l): a row per axis
    shift = shift.movedim(2, 1)  # (M, l, B, l)
    z = guess.loc.unsqueeze(1)
    around = torch.cat([z + shift, z - shift], dim=1)
    with torch.enable_grad():
        around = around.detach().requires_grad_()
        (slopes,) = torch.autograd.grad(target.log_prob(around).sum(), around)
    exact = widest_dtype(z.device)
    ahead, behind = slopes.nan_to_num().to(exact).split(n_latent, dim=1)  # (M, l, B, l) each
    axes = guess.axes.to(exact)
    along = (behind - ahead).movedim(1, 2) / (2 * reach.to(exact)).unsqueeze(-1)  # (M, B, axis, l)
    curvature = axes @ along  # (M, B, l, l)
    precision, found = torch.linalg.eigh(0.5 * (curvature + curvature.mT))
    precision = precision.clamp(min=WIDEST**-2)
    slope = 0.5 * (ahead + behind).mean(1).unsqueeze(-1)  # (M, B, l, 1)
    step = (found @ ((found.mT @ slope) / precision.unsqueeze(-1))).squeeze(-1)
    dtype = z.dtype
    normal = NormalProposal(guess.loc, found.to(dtype), precision.rsqrt().to(dtype))
    return normal, step.to(dtype)


class WidthCheck:
    """A check of whether a proposal is narrower than the posterior in some direction.

    The weights of its own draws look even where these never leave a small part of the posterior.
    But they then rise with the distance from the centre, which a quadratic regression of their
    logarithms on the noise shows.

    Parameters
    ----------
    noise : Tensor of shape (1, K, 1, l)
        The standard normal draws that codes are made of.
    """

    def __init__(self, noise: Tensor):
        points = noise[0, :, 0].double()  # (K, l)
        n_draws, n_latent = points.shape
        self.row, self.column = torch.triu_indices(n_latent, n_latent, device=points.device)
        n_features = 1 + n_latent + len(self.row)
        if len(self.row) > MOST_PRODUCTS or DRAWS_PER_FEATURE * n_features > n_draws:
            self.row = self.column = torch.arange(n_latent, device=points.device)
        products = points[:, self.row] * points[:, self.column]
        features = torch.cat([points.new_ones(n_draws, 1), points, products], dim=1)
        self.n_latent, self.is_possible = n_latent, features.shape[1] <= n_draws
        if self.is_possible:
            # (F, K), of the products alone
            self.inverse = torch.linalg.pinv(features)[1 + n_latent :].to(noise.dtype)

    def is_narrow(self, log_weight: Tensor) -> Tensor:
        """Whether log p(x, z) - log q(z|x) of the draws rises outwards: (M, K, B) -> (M, B)."""
        if not self.is_possible:
            return torch.zeros_like(log_weight[:, 0], dtype=torch.bool)
        slopes = (self.inverse @ log_weight).mT  # (M, B, F)
        if len(self.row) == self.n_latent:
            return ~(2 * slopes.amax(-1) < WIDTH_TOLERANCE)
        curvature = slopes.new_zeros(*slopes.shape[:2], self.n_latent, self.n_latent)
        curvature[..., self.row, self.column] = slopes.nan_to_num(math.inf)
        curvature = (curvature + curvature.mT).clamp(-HUGE, HUGE)
        return torch.linalg.eigvalsh(curvature)[..., -1] >= WIDTH_TOLERANCE


def _take(z: Tensor, number: Tensor) -> Tensor:
    """Codes of these numbers among draws: (M, K, B, l), (M, B) -> (M, B, l)."""
    index = number[:, None, :, None].expand(-1, 1, -1, z.shape[-1])
    return z.gather(1, index).squeeze(1)
