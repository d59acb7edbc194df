"""Multiple importance sampling of the posterior p(z|x), and of the evidence p(x).

Codes z of a row are drawn from several proposals. Each draw is weighted by the mixture of all of
them (the balance heuristic [1]_), so that a good proposal makes up for a bad one.

References
----------
.. [1] E. Veach and L. J. Guibas, "Optimally Combining Sampling Techniques for Monte Carlo
   Rendering", SIGGRAPH 1995.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_vae.inference.constants import (
    DRAWS_PER_FEATURE,
    MAX_CURVATURE,
    MAX_FACTOR,
    MAX_PRODUCTS,
    TOLERANCE,
    WIDTH_TOLERANCE,
)
from sklearn_vae.inference.laplace import NormalProposal, Target
from sklearn_vae.posteriors import PosteriorDistribution
from sklearn_vae.priors import PriorDistribution


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

    posterior: PosteriorDistribution
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


# A distribution of codes for each of B rows.
Proposal = EncoderProposal | PriorProposal | NormalProposal


class WeightedCodes(NamedTuple):
    """Codes of rows with importance weights.

    Attributes
    ----------
    z : Tensor of shape (M, K, B, l)
        The codes.
    log_weight : Tensor of shape (M, K, B)
        Logarithms of weights whose sum is an estimate of p(x).
    """

    z: Tensor
    log_weight: Tensor

    @property
    def weight(self) -> Tensor:
        """Weights that sum to 1 over the codes of all members: (M, K, B)."""
        shape = self.log_weight.shape[:2]
        return self.log_weight.flatten(0, 1).softmax(0).unflatten(0, shape)

    def replaced(self, rows: Tensor, z: Tensor, log_weight: Tensor) -> "WeightedCodes":
        """Replace the codes of some rows by as many or more: the other rows get weights of 0."""
        n_more = z.shape[1] - self.z.shape[1]
        all_z = F.pad(self.z, (0, 0, 0, 0, 0, n_more))
        all_log_weight = F.pad(self.log_weight, (0, 0, 0, n_more), value=-math.inf)
        all_z[:, :, rows], all_log_weight[:, :, rows] = z, log_weight
        return WeightedCodes(all_z, all_log_weight)


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
        """Log of the estimate of p(x) in nats, with control variates: (M, B)."""
        log_weight = self.log_weight
        log_sum = torch.logsumexp(log_weight, dim=1)
        weight = (log_weight - log_sum.unsqueeze(1)).exp()  # their sum is 1
        factor = torch.ones_like(log_sum)
        for control, expected in self._control_variates():
            centred = control - control.mean(1, keepdim=True)
            slope = (centred * weight).sum(1) / centred.square().sum(1)
            corrected = factor - slope * (control.sum(1) - expected)
            is_good = (corrected > 1 / MAX_FACTOR) & (corrected < MAX_FACTOR)
            factor = torch.where(is_good, corrected, factor)
            slope = torch.where(is_good, slope, 0.0)
            weight = weight - slope.unsqueeze(1) * centred
        return log_sum + factor.log()

    def _control_variates(self) -> Iterator[tuple[Tensor, float]]:
        """Yield functions of the codes (M, K, B) and the expectations of their sums over K.

        With the weights of the prior, the estimate is exact where the posterior is the prior. With
        squared distances from the first normal approximation, it does not depend on how far out
        the draws that all rows share happen to be.
        """
        proposals = [proposal for _, proposal in self.proposals]
        for prior in proposals:
            if isinstance(prior, PriorProposal):
                yield (prior.log_prob(self.z) - self.log_mixture).exp(), 1.0
        normal = next((part for part in proposals if isinstance(part, NormalProposal)), None)
        if normal is not None:
            excess = normal.squared_distance(self.z) - self.z.shape[-1]
            yield (normal.log_prob(self.z) - self.log_mixture).exp() * excess, 0.0

    def is_uneven(self) -> Tensor:
        """Mask of rows whose estimate of log p(x) is biased by more than ``TOLERANCE``: (M, B).

        By the delta method the bias is half the relative variance of an average of K weights,
        1 / ESS - 1 / K with the effective sample size ESS.
        """
        weight = self.log_weight.softmax(dim=1)
        inverse_ess = weight.square().sum(1)
        # not "<", which NaN fails where no weight is finite
        return ~(0.5 * (inverse_ess - 1 / weight.shape[1]) < TOLERANCE)


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
