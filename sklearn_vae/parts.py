"""Rows of which a part is known: where their codes lie, what they weigh, and the rest of them.

An encoder has learned from whole rows, or from rows with other holes. So codes of rows with
holes are not drawn from q(z|x) alone but from a normal distribution that is fitted, row by
row, to the posterior of what is known, which in a linear model it equals. Where a part of a code
says which class a row is of, there are no slopes to follow: a few codes are all tried, and of
many, or of classes beside numbers, draws are the encoder's.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_vae.model import VAE
from sklearn_vae.priors import HALF_LOG_2PI

# Newton steps towards the likeliest code, and the shares of each that are tried.
N_STEPS = 6
SHARES = (1.0, 0.5, 0.2, 0.05, 0.0)
# Distance over which gradients are compared for the curvature.
REACH = 1e-2
# The posterior is never taken for wider than this many times the prior.
WIDEST = 1.5
# How many times as wide as the fitted distribution the draws are.
WIDENING = 1.2
# One in so many draws is from the prior, in case that the posterior has a second mode.
ONE_IN = 8


class Fit(NamedTuple):
    """A normal distribution of codes for each row.

    Attributes
    ----------
    loc : Tensor of shape (M, B, l)
        The likeliest codes.
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
        along = (noise * self.scale.unsqueeze(1)).unsqueeze(-1)  # (M, K, B, l, 1)
        return self.loc.unsqueeze(1) + (self.axes.unsqueeze(1) @ along).squeeze(-1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats of codes: (M, K, B, l) -> (M, K, B)."""
        apart = (z - self.loc.unsqueeze(1)).unsqueeze(-1)
        along = (self.axes.mT.unsqueeze(1) @ apart).squeeze(-1) / self.scale.unsqueeze(1)
        return (-0.5 * along.square() - self.scale.log().unsqueeze(1) - HALF_LOG_2PI).sum(-1)


class Told(NamedTuple):
    """What the encoder says of rows whose holes are filled with means.

    Attributes
    ----------
    posterior : law
        q(z|x).
    params : Tensor of shape (M, B, n_params)
        Its parameters.
    """

    posterior: Any
    params: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """Codes of standard normal draws: (M or 1, K, 1, l) -> (M, K, B, l)."""
        return self.posterior.rsample(self.params, noise, WIDENING)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats of codes: (M, K, B, l) -> (M, K, B)."""
        return self.posterior.log_prob(self.params, z, WIDENING)


class Completion:
    """Weighted codes of rows with holes.

    Parameters
    ----------
    model : VAE
        The model.
    x : Tensor of shape (M, B, n_columns)
        Rows, missing cells of which are NaN.
    noise : Tensor of shape (1, K, 1, l)
        Standard normal draws, shared by the rows: Sobol points, of which a first part
        is as balanced as the whole.
    generator : torch.Generator
        What draws from the prior follow from.

    Attributes
    ----------
    code : Tensor of shape (M, B, l)
        The code that stands for each row: the likeliest, or probabilities of classes.
    z : Tensor of shape (M, K, B, l)
        The codes.
    log_weight : Tensor of shape (M, K, B)
        Logarithms of p(x|z) p(z) over the density that the codes were drawn from, x being
        what is known of the rows. Their mean is p(x).
    """

    def __init__(self, model: VAE, x: Tensor, noise: Tensor, generator: torch.Generator):
        self.model = model
        self.likelihood, self.latent = model.likelihood, model.latent()
        self.observed = self.likelihood.observed(x).unsqueeze(1)  # (M, 1, B, n)
        self.x = x.nan_to_num().unsqueeze(1)  # (M, 1, B, n_columns)
        q = model.encode(self._seen(x))
        self.code = model.posterior.mean(q)
        n_codes = model.architecture.n_codes
        if n_codes is not None:
            self.z, log_proposal = model.posterior.propose(q, noise)
        else:
            self.z, log_proposal = self._drawn(self._proposal(q), noise, generator)
        self.log_weight = self._log_joint(self.z) - log_proposal
        if n_codes is not None:  # exact, where all codes are tried
            self.code = (self.log_weight.softmax(1).unsqueeze(-1) * self.z).sum(1)

    def _proposal(self, q: Tensor) -> Fit | Told:
        """What codes are drawn from, for what the encoder says of rows with filled holes."""
        if self.model.architecture.posterior.has_codes:
            return Told(self.model.posterior, q)
        fit = self._fitted(self.code)
        self.code = fit.loc
        return Fit(fit.loc, fit.axes, WIDENING * fit.scale)

    def _drawn(
        self, proposal: Fit | Told, noise: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Codes (M, K, B, l), some of them from the prior, and their log-density (M, K, B)."""
        n_draws, n_from_prior = noise.shape[1], noise.shape[1] // ONE_IN
        z = proposal.draw(noise[:, n_from_prior:])  # (M, K, B, l)
        if not n_from_prior:
            return z, proposal.log_prob(z)
        shape = len(z), n_from_prior, noise.shape[-1]
        from_prior = self.latent.sample(*shape, generator, noise.dtype).to(noise.device)
        from_prior = from_prior.unsqueeze(2).expand(-1, -1, z.shape[2], -1)
        z, share = torch.cat([from_prior, z], dim=1), n_from_prior / n_draws
        log_q, log_prior = proposal.log_prob(z), self.latent.log_prob(z)
        parts = log_q + math.log(1 - share), log_prior + math.log(share)
        return z, torch.logaddexp(*parts)

    def _seen(self, x: Tensor) -> Tensor:
        """Rows as the encoder can take them."""
        if self.model.filler is not None:
            return x
        model, architecture = self.model, self.model.architecture
        n_params = architecture.posterior.n_params(architecture.n_components)
        centre = model.posterior.mean(x.new_zeros(len(x), x.shape[1], n_params))  # (M, B, l)
        loc = F.pad(model.reconstruct(centre, x), (0, model.n_conditions))
        return torch.where(x.isnan(), loc, x)

    def _decode(self, z: Tensor) -> list[list[Tensor]]:
        return self.model.decode(z, self.x[:, 0])

    def _log_prob(self, z: Tensor) -> Tensor:
        """Log p(x|z) of what is known: (M, K, B, l) -> (M, K, B)."""
        return self.likelihood.log_prob(self._decode(z), self.x, self.observed)

    def _log_joint(self, z: Tensor) -> Tensor:
        """Log p(x|z) p(z): (M, K, B, l) -> (M, K, B)."""
        return self._log_prob(z) + self.latent.log_prob(z)

    def _fitted(self, z: Tensor) -> Fit:
        """Walk from codes (M, B, l) to the likeliest ones, and look how sharp they are."""
        for _ in range(N_STEPS):
            slope, axes, precision = self._curved(z)
            step = (axes @ ((axes.mT @ slope) / precision.unsqueeze(-1))).squeeze(-1)
            tried = torch.stack([z + share * step for share in SHARES], dim=1)  # (M, S, B, l)
            best = self._log_joint(tried).nan_to_num(nan=-math.inf).argmax(1)  # (M, B)
            z = tried.gather(1, best[:, None, :, None].expand(-1, 1, -1, z.shape[-1]))[:, 0]
        _, axes, precision = self._curved(z)
        return Fit(z, axes, precision.rsqrt())

    def _curved(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Slope (M, B, l, 1) of the log-density of codes, and axes and sizes of its curvature."""
        n_components = z.shape[-1]
        reach = REACH * torch.eye(n_components, dtype=z.dtype, device=z.device).unsqueeze(1)
        around = torch.cat([z.unsqueeze(1) + reach, z.unsqueeze(1) - reach], dim=1)
        with torch.enable_grad():
            around = around.detach().requires_grad_()
            (slopes,) = torch.autograd.grad(self._log_joint(around).sum(), around)
        ahead, behind = slopes.split(n_components, dim=1)  # (M, l, B, l) each
        curvature = (behind - ahead).movedim(1, 2) / (2 * REACH)  # (M, B, l, l)
        sizes, axes = torch.linalg.eigh(0.5 * (curvature + curvature.mT))
        slope = 0.5 * (ahead + behind).mean(1).unsqueeze(-1)
        return slope, axes, sizes.clamp(min=WIDEST**-2)

    # -- what is said of the holes ---------------------------------------------------

    def share(self) -> Tensor:
        """Weights of the codes, those of all members together 1: (M, K, B)."""
        return self.log_weight.flatten(0, 1).softmax(0).unflatten(0, self.log_weight.shape[:2])

    def mean(self) -> Tensor:
        """Mean of each cell given what is known of its row: (B, n_columns)."""
        return self.likelihood.pooled(self._decode(self.z), self.share())

    def sample(self, n_draws: int, generator: torch.Generator) -> Tensor:
        """Rows drawn given what is known of them: (n_draws, B, n_columns)."""
        share = self.share().flatten(0, 1).T.contiguous()  # (B, M K)
        # evenly spread over the codes, as their weights are
        first = torch.rand(len(share), n_draws, generator=generator, dtype=share.dtype)
        place = (torch.arange(n_draws) + first) / n_draws
        ends = share.cumsum(1)
        chosen = torch.searchsorted(ends, place.to(ends) * ends[:, -1:]).clamp(
            max=share.shape[1] - 1
        )
        order = torch.rand(len(share), n_draws, generator=generator).argsort(1)
        chosen = chosen.gather(1, order.to(chosen.device))  # no draw is likelier to come first
        n_codes = self.z.shape[1]
        member, code = chosen.T // n_codes, chosen.T % n_codes  # (m, B)
        row = torch.arange(len(share), device=chosen.device)
        z = self.z[member, code, row]  # (m, B, l)
        params = self._decode(z.unsqueeze(0).expand(len(self.z), -1, -1, -1))
        rows = self.likelihood.sample(params, generator)  # (M, m, B, n_columns)
        return rows[member, torch.arange(n_draws, device=row.device).unsqueeze(1), row]
