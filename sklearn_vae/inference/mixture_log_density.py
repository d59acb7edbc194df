"""The exact log-density of mixtures: importance sampling from Laplace proposals.

The latent variables of a row are the member, its component c and the code z. For each member
and component that may explain the row, Fisher scoring finds the likeliest code and the curvature
there, so that a normal distribution approximates p(z | x, c) and Laplace's method its evidence.
Components are drawn by these evidences, codes from these normal distributions and from the
prior. A draw's weight is the joint density over that of the mixture of all proposals, so the
estimate of p(x) is unbiased.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_vae.models.mixture_vae import LOG_OF_NOTHING, MixtureVAE, Whitening, draw_components
from sklearn_vae.posteriors import log_mean_exp
from sklearn_vae.priors import HALF_LOG_2PI
from sklearn_vae.random import sobol_normal

# Steps of Fisher scoring at the most, and the Newton decrement below which none is taken: the
# code is then within a third of a standard deviation of the likeliest one.
MOST_STEPS = 4
CONVERGED = 0.1
# A rejected step is tried again with so much of its length.
SHORTER = 0.25
# Distance over which the network's outputs are compared for their slopes.
REACH = 0.05
# Components whose evidence is so many nats below the row's best one get no (further) steps:
# at the encoder's mean, and after a step.
HOPELESS = 12.0
UNLIKELY = 5.0
MOST_COMPONENTS = 3
# How much narrower than the draws the likelihood is, as a function of the code. Where it says
# nothing, the draws are the prior's, and the estimate is exact.
WIDENING = 1.2
# One in so many draws of z is from the prior.
ONE_IN = 8
# A row is far if its squared distance from the mode of its likeliest component is so many standard
# deviations above the mean of a chi-squared distribution. Its code is searched once more, from the
# best of N_STARTS normal codes of each of these scales, in FAR_COMPONENTS components.
FAR = 10.0
N_STARTS = 32
START_SCALES = (1.0, 2.0, 4.0)
FAR_COMPONENTS = 4
FAR_STEPS = 20
# Codes that pass through the decoder at a time: what fits the cache.
CODES_AT_A_TIME = 1 << 11


class Local(NamedTuple):
    """The joint density log p(x, z, c) around codes.

    Attributes
    ----------
    log_joint : Tensor of shape (N,)
        Its value in nats.
    slope : Tensor of shape (N, l)
        Its gradient with respect to z.
    root : Tensor of shape (N, l, l)
        Lower root of the Fisher information about z, the prior's with it; NaN where it
        overflows.
    """

    log_joint: Tensor
    slope: Tensor
    root: Tensor

    @property
    def log_evidence(self) -> Tensor:
        """Laplace approximation to log p(x, c): (N,), -inf where there is none."""
        log_det = self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        found = self.log_joint - log_det + self.root.shape[-1] * HALF_LOG_2PI
        return found.nan_to_num(nan=-math.inf)


class LaplaceProposal:
    """Normal approximations to p(z | x, c), for each component of a model and each row.

    Parameters
    ----------
    model : MixtureVAE
        The model, of which the first member is taken.
    x : Tensor of shape (B, n_columns)
        Encoded rows.

    Attributes
    ----------
    log_evidence : Tensor of shape (C, B)
        Laplace approximations to log p(x, c), in nats.
    loc : Tensor of shape (C, B, l)
        Likeliest codes.
    root : Tensor of shape (C, B, l, l)
        Roots of the covariances: z = loc + root @ noise.
    whiten : Tensor of shape (C, B, l, l)
        Their inverses.
    """

    def __init__(self, model: MixtureVAE, x: Tensor):
        self.model, self.x = model, x
        log_share = model.mixture_logit[0, 0].log_softmax(-1)
        self.log_share = log_share[log_share > 0.5 * LOG_OF_NOTHING]
        self.white = Whitening(model)(x[None])[0][0]  # (d, C, B)
        loc, log_scale = model.posterior.split(model.encode(x[None])[0])
        n_mixture, n_rows = len(self.log_share), len(x)
        row = torch.arange(n_rows, device=x.device).repeat(n_mixture)
        component = torch.arange(n_mixture, device=x.device).repeat_interleave(n_rows)

        # as the encoder has it, for components that get no steps
        self.loc = loc.repeat(n_mixture, 1, 1)
        volume = (log_scale + HALF_LOG_2PI).sum(-1)  # (B,)
        self.log_evidence = volume.repeat(n_mixture, 1)
        if n_mixture > 1:
            at_mean = self.log_joint(self.loc.flatten(0, 1), component, row)
            self.log_evidence += at_mean.view(n_mixture, n_rows)
        self.root = torch.diag_embed(log_scale.exp()).repeat(n_mixture, 1, 1, 1)
        self.whiten = torch.diag_embed((-log_scale).exp()).repeat(n_mixture, 1, 1, 1)
        self._fit(*self._hopeful())
        self._search_far()

    def _search_far(self) -> None:
        """Search the modes of far rows from many starts: the encoder has not seen such rows."""
        row = torch.arange(len(self.x), device=self.x.device)
        best = self.log_evidence.argmax(0)
        z = self.loc[best, row]
        residual = self._parts(z, best, row)[0]
        n_dims = len(residual) + z.shape[1]
        distance = residual.square().sum(0) + z.square().sum(1)
        far = (distance > n_dims + FAR * math.sqrt(2 * n_dims)).nonzero()[:, 0]
        if len(far) == 0:
            return
        normal = torch.as_tensor(sobol_normal(N_STARTS, z.shape[1], 0)).to(z)
        starts = torch.cat([scale * normal for scale in START_SCALES])
        for component in range(len(self.log_share)):
            mode = self.loc[component, far]  # (F, l)
            codes = torch.cat([mode[None], starts.unsqueeze(1).expand(-1, len(far), -1)])
            n_codes = len(codes)
            components = torch.full_like(far, component).repeat(n_codes)
            log_joint = self.log_joint(codes.flatten(0, 1), components, far.repeat(n_codes))
            log_joint, best_code = log_joint.view(n_codes, -1).nan_to_num(nan=-math.inf).max(0)
            self.loc[component, far] = codes[best_code, torch.arange(len(far), device=far.device)]
            self.log_evidence[component, far] = log_joint
        n_components = min(FAR_COMPONENTS, len(self.log_share))
        likeliest = self.log_evidence[:, far].topk(n_components, dim=0).indices
        self._fit(likeliest.flatten(), far.repeat(n_components), FAR_STEPS)

    def _hopeful(self) -> tuple[Tensor, Tensor]:
        """Components that may explain rows: their numbers and those of the rows, (N,) each."""
        best = self.log_evidence.topk(min(MOST_COMPONENTS, len(self.log_evidence)), dim=0)
        is_near = best.values >= best.values[:1] - HOPELESS
        rank, row = is_near.nonzero(as_tuple=True)
        return best.indices[rank, row], row

    def _fit(self, component: Tensor, row: Tensor, max_steps: int = MOST_STEPS) -> None:
        """Walk to the likeliest codes of components and rows, (N,) each, and note what is there."""
        z, size = self.loc[component, row], self.x.new_ones(len(row))
        local = self._local(z, component, row)
        active = torch.arange(len(row), device=row.device)
        for _ in range(max_steps):
            slope, root = local.slope[active].unsqueeze(-1), local.root[active]
            step = torch.cholesky_solve(slope, root).squeeze(-1)
            decrement = (step * local.slope[active]).sum(-1)
            evidence = local.log_evidence
            best = evidence.new_full((len(self.x),), -math.inf)
            best.scatter_reduce_(0, row, evidence, "amax")
            hope = evidence[active] + 0.5 * decrement
            goes_on = (decrement > CONVERGED) & (hope > best[row[active]] - UNLIKELY)
            active, step = active[goes_on], step[goes_on]
            if len(active) == 0:
                break
            tried = z[active] + size[active, None] * step
            found = self._local(tried, component[active], row[active])
            better = found.log_joint > local.log_joint[active]
            size[active] = torch.where(better, 1.0, SHORTER * size[active])
            z[active[better]] = tried[better]
            for old, new in zip(local, found, strict=True):
                old[active[better]] = new[better]

        evidence = local.log_evidence
        good = evidence.isfinite()
        places, root = (component[good], row[good]), local.root[good]
        self.log_evidence[places] = evidence[good]
        self.loc[places] = z[good]
        eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        wide = WIDENING**-2 * (root @ root.mT - eye) + eye
        whiten = torch.linalg.cholesky(wide).mT
        self.whiten[places] = whiten
        self.root[places] = torch.linalg.solve_triangular(whiten, eye, upper=True)

    def _local(self, z: Tensor, component: Tensor, row: Tensor) -> Local:
        """Look around codes (N, l), by differences of what the decoder says."""
        n_codes, n_latent = z.shape
        ahead = REACH * torch.eye(n_latent, dtype=z.dtype, device=z.device)
        around = torch.cat([z[None], z + ahead.unsqueeze(1)]).flatten(0, 1)  # (l + 1) N
        places = component.repeat(n_latent + 1), row.repeat(n_latent + 1)
        parts = self._parts(around, *places)
        here = [part.unflatten(1, (n_latent + 1, n_codes))[:, 0] for part in parts]
        slopes = [
            (part.unflatten(1, (n_latent + 1, n_codes))[:, 1:] - own.unsqueeze(1)) / REACH
            for part, own in zip(parts, here, strict=True)
        ]  # (d, l, N)
        (standard, _, logit), (of_standard, of_scale, of_logit) = here, slopes
        probability = logit.sigmoid()
        surprise = self._bits(row) - probability
        slope = (of_logit * surprise.unsqueeze(1)).sum(0) - of_scale.sum(0)
        slope = slope - (of_standard * standard.unsqueeze(1)).sum(0)
        spread = (probability * (1 - probability)).sqrt().unsqueeze(1)
        features = torch.cat([of_standard, of_scale, of_logit * spread])
        features = features.permute(2, 1, 0).contiguous()  # (N, l, 2 d + e)
        precision = features @ features.mT
        precision.diagonal(dim1=-2, dim2=-1).add_(1)
        root, failed = torch.linalg.cholesky_ex(precision)
        root[failed > 0] = math.nan
        return Local(self._log_joint(here, z, component, row), slope.T - z, root)

    def log_joint(self, z: Tensor, component: Tensor, row: Tensor) -> Tensor:
        """Log p(x, z, c) of codes (N, l), components (N,) and rows (N,): (N,)."""
        chunks = zip(*(each.split(CODES_AT_A_TIME) for each in (z, component, row)), strict=True)
        return torch.cat([self._log_joint(self._parts(*own), *own) for own in chunks])

    def _log_joint(
        self, parts: Sequence[Tensor], z: Tensor, component: Tensor, row: Tensor
    ) -> Tensor:
        log_prob = self.model.log_prob_of(parts, self._bits(row)) + self.model.log_det[0, component]
        return log_prob + self.model.prior.log_prob(z) + self.log_share[component]

    def _parts(self, z: Tensor, component: Tensor, row: Tensor) -> list[Tensor]:
        """Standardised rows (d, N), their log-scales (d, N), and logits (e, N)."""
        white = self.white[:, component, row][None, :, None]  # (1, d, 1, N)
        parts = self.model.standardise(white, z[None, None], component[None, None])
        return [part[0, :, 0] for part in parts]

    def _bits(self, row: Tensor) -> Tensor:
        return self.x[:, self.model.bit_columns].T[:, row]

    def draw(self, component: Tensor, row: Tensor, noise: Tensor, from_prior: Tensor) -> Tensor:
        """Codes of standard normal noise (N, l), which from the prior are that itself: (N, l)."""
        moved = (self.root[component, row] * noise.unsqueeze(1)).sum(-1)
        return torch.where(from_prior[:, None], noise, self.loc[component, row] + moved)

    def log_prob(self, z: Tensor, component: Tensor, row: Tensor, share_of_prior: float) -> Tensor:
        """Log-density of codes (N, l), drawn from both the normal ones and the prior: (N,)."""
        whiten = self.whiten[component, row]
        standard = (whiten * (z - self.loc[component, row]).unsqueeze(1)).sum(-1)
        log_det = whiten.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_normal = log_det - (0.5 * standard.square() + HALF_LOG_2PI).sum(-1)
        if share_of_prior == 0:
            return log_normal
        log_prior = self.model.prior.log_prob(z) + math.log(share_of_prior)
        return torch.logaddexp(log_normal + math.log1p(-share_of_prior), log_prior)


def log_density(
    models: Sequence[MixtureVAE], log_weight: Tensor, x: Tensor, noise: Tensor
) -> Tensor:
    """Log of the models' weighted mean density.

    Parameters
    ----------
    models : sequence of MixtureVAE
        Models, of which the first members are taken.
    log_weight : Tensor of shape (M,)
        Logarithms of what each model counts.
    x : Tensor of shape (B, n_columns)
        Encoded rows.
    noise : Tensor of shape (K, l + 1)
        Standard normal draws, shared by the rows; the last one chooses model and component.

    Returns
    -------
    Tensor of shape (B,)
        Nats per row, in units of x.
    """
    proposals = [LaplaceProposal(model, x) for model in models]
    log_evidence = torch.cat(
        [own.log_evidence + log for own, log in zip(proposals, log_weight, strict=True)]
    )  # (T, B)
    log_share = log_evidence.log_softmax(0)
    chosen = draw_components(log_share.exp()[None], noise[None, :, None, -1])[0]  # (K, B)
    n_draws = len(noise)
    n_from_prior = n_draws // ONE_IN
    # the last ones: blocks of Sobol points are balanced, every eighth point is not
    from_prior = torch.arange(n_draws, device=x.device) >= n_draws - n_from_prior
    share_of_prior = n_from_prior / n_draws
    found = log_share.new_empty(chosen.shape)
    first = 0
    for proposal, log in zip(proposals, log_weight, strict=True):
        past = first + len(proposal.log_evidence)
        draw, row = ((chosen >= first) & (chosen < past)).nonzero().unbind(1)
        component = chosen[draw, row] - first
        z = proposal.draw(component, row, noise[draw, :-1], from_prior[draw])
        log_q = proposal.log_prob(z, component, row, share_of_prior)
        found[draw, row] = proposal.log_joint(z, component, row) - log_q + log
        first = past
    return log_mean_exp(found - log_share.gather(0, chosen), dim=0)
