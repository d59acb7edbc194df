"""Log-density of ``MixtureVAE`` models: importance sampling from Laplace approximations.

The latent variables of a row are the ensemble member, its component c and the code z. For each
member and likely component, Fisher scoring finds the mode of p(z | x, c) and the curvature there:
the Laplace approximation of p(z | x, c) and of the evidence p(x, c). Components are drawn in
proportion to the evidences, codes from the Laplace approximations, from wider ones and from the
prior. The weight of a draw is the joint density over the density of the proposals for its
component, so the estimate of p(x) is unbiased. Draws are stratified [1]_: those from one proposal
are consecutive Sobol points, which spread evenly.

References
----------
.. [1] A. B. Owen, "Monte Carlo Theory, Methods and Examples", 2013, chapter 8.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_vae.functional import log_mean_exp
from sklearn_vae.inference.constants import wide_scale
from sklearn_vae.inference.mixture_constants import (
    BACKTRACKING,
    CONVERGED,
    DIFFERENCE,
    FAR,
    FAR_COMPONENTS,
    FAR_STEPS,
    MAX_COMPONENTS,
    MAX_DOUBLINGS,
    MAX_DRAWS,
    MAX_ERROR,
    MAX_FIRST_GAP,
    MAX_GAP,
    MAX_STEPS,
    N_STARTS,
    PROPOSAL_SCALE,
    PROPOSAL_SHARES,
    START_SCALES,
)
from sklearn_vae.inference.mixture_posterior import PosteriorComponents
from sklearn_vae.model_constants import HALF_LOG_2PI, LOG_ZERO_WEIGHT
from sklearn_vae.models.mixture_vae import MixtureVAE, Standardised, Whitening
from sklearn_vae.random import sample_categorical, sobol_normal

# Codes that are decoded at a time: they fit the cache.
CODES_PER_CHUNK = 1 << 11


class LocalExpansion(NamedTuple):
    """Quadratic expansion of log p(x, z, c) around codes.

    Attributes
    ----------
    log_joint : Tensor of shape (N,)
        Its value in nats.
    gradient : Tensor of shape (N, l)
        Its gradient with respect to z.
    root : Tensor of shape (N, l, l)
        Cholesky factor of the Fisher information about z plus the prior's precision; NaN where it
        overflows.
    """

    log_joint: Tensor
    gradient: Tensor
    root: Tensor

    @property
    def log_evidence(self) -> Tensor:
        """Laplace approximation of log p(x, c): (N,), -inf where the curvature overflows."""
        log_det = self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_evidence = self.log_joint - log_det + self.root.shape[-1] * HALF_LOG_2PI
        return log_evidence.nan_to_num(nan=-math.inf)


class LaplaceProposal:
    """Laplace approximations of p(z | x, c), for each component of a model and each row.

    Parameters
    ----------
    model : MixtureVAE
        The model; only its first member is used.
    x : Tensor of shape (B, n_columns)
        Encoded rows.

    Attributes
    ----------
    log_evidence : Tensor of shape (C, B)
        Laplace approximations of log p(x, c), in nats.
    loc : Tensor of shape (C, B, l)
        Modes.
    root : Tensor of shape (2, C, B, l, l)
        Roots of the covariances, and of the wider ones: z = loc + root @ noise.
    whiten : Tensor of shape (2, C, B, l, l)
        Their inverses.
    """

    def __init__(self, model: MixtureVAE, x: Tensor):
        self.model, self.x = model, x
        log_weight = model.mixture_logit[0, 0].log_softmax(-1)
        self.log_weight = log_weight[log_weight > 0.5 * LOG_ZERO_WEIGHT]
        self.row = model.split(x[None])
        white = Whitening(model).coordinates(self.row)[0]
        self.white = white.flatten(1).T.contiguous()  # (C B, d)
        loc, log_scale = model.posterior.split(model.encode(x[None])[0])
        n_mixture, n_rows = len(self.log_weight), len(x)
        row = torch.arange(n_rows, device=x.device).repeat(n_mixture)
        component = torch.arange(n_mixture, device=x.device).repeat_interleave(n_rows)

        # q(z|x), for components that get no steps
        self.loc = loc.repeat(n_mixture, 1, 1)
        volume = (log_scale + HALF_LOG_2PI).sum(-1)  # (B,)
        self.log_evidence = volume.repeat(n_mixture, 1)
        if n_mixture > 1:
            at_mean = self.log_joint(self.loc.flatten(0, 1), component, row)
            self.log_evidence += at_mean.view(n_mixture, n_rows)
        self.root = torch.diag_embed(log_scale.exp()).repeat(2, n_mixture, 1, 1, 1)
        self.whiten = torch.diag_embed((-log_scale).exp()).repeat(2, n_mixture, 1, 1, 1)
        component, row = self._likely_components()
        self._fit(component, row)
        self._search_far()

    def _search_far(self) -> None:
        """Search the modes of far rows from many starts: the encoder has not seen such rows."""
        row = torch.arange(len(self.x), device=self.x.device)
        best = self.log_evidence.argmax(0)
        z = self.loc[best, row]
        residual = self._parts(z, best, row).standard[0, :, 0]
        n_dims = len(residual) + z.shape[1]
        distance = residual.square().sum(0) + z.square().sum(1)
        far = (distance > n_dims + FAR * math.sqrt(2 * n_dims)).nonzero()[:, 0]
        if len(far) == 0:
            return
        normal = torch.as_tensor(sobol_normal(N_STARTS, z.shape[1], 0)).to(z)
        starts = torch.cat([scale * normal for scale in START_SCALES])
        for component in range(len(self.log_weight)):
            mode = self.loc[component, far]  # (F, l)
            codes = torch.cat([mode[None], starts.unsqueeze(1).expand(-1, len(far), -1)])
            n_codes = len(codes)
            components = torch.full_like(far, component).repeat(n_codes)
            log_joint = self.log_joint(codes.flatten(0, 1), components, far.repeat(n_codes))
            log_joint, best_code = log_joint.view(n_codes, -1).nan_to_num(nan=-math.inf).max(0)
            self.loc[component, far] = codes[best_code, torch.arange(len(far), device=far.device)]
            self.log_evidence[component, far] = log_joint
        n_components = min(FAR_COMPONENTS, len(self.log_weight))
        likeliest = self.log_evidence[:, far].topk(n_components, dim=0).indices
        self._fit(likeliest.flatten(), far.repeat(n_components), FAR_STEPS)

    def _likely_components(self) -> tuple[Tensor, Tensor]:
        """Indices of likely components and of their rows, (N,) each."""
        best = self.log_evidence.topk(min(MAX_COMPONENTS, len(self.log_evidence)), dim=0)
        is_near = best.values >= best.values[:1] - MAX_FIRST_GAP
        rank, row = is_near.nonzero(as_tuple=True)
        return best.indices[rank, row], row

    def _fit(self, component: Tensor, row: Tensor, max_steps: int = MAX_STEPS) -> None:
        """Find the modes of components and rows, (N,) each, by Fisher scoring with backtracking."""
        z, size = self.loc[component, row], self.x.new_ones(len(row))
        local = self._expand(z, component, row)
        active = torch.arange(len(row), device=row.device)
        for _ in range(max_steps):
            gradient, root = local.gradient[active].unsqueeze(-1), local.root[active]
            step = torch.cholesky_solve(gradient, root).squeeze(-1)
            decrement = (step * local.gradient[active]).sum(-1)
            evidence = local.log_evidence
            best = evidence.new_full((len(self.x),), -math.inf)
            best.scatter_reduce_(0, row, evidence, "amax")
            attainable = evidence[active] + 0.5 * decrement
            is_active = (decrement > CONVERGED) & (attainable > best[row[active]] - MAX_GAP)
            active, step = active[is_active], step[is_active]
            if len(active) == 0:
                break
            candidate = z[active] + size[active, None] * step
            expansion = self._expand(candidate, component[active], row[active])
            better = expansion.log_joint > local.log_joint[active]
            size[active] = torch.where(better, 1.0, BACKTRACKING * size[active])
            z[active[better]] = candidate[better]
            for old, new in zip(local, expansion, strict=True):
                old[active[better]] = new[better]

        eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        scales = torch.tensor([PROPOSAL_SCALE, wide_scale(z.shape[1])], dtype=torch.float)
        scale = scales.to(z).view(2, 1, 1, 1)
        precision = (local.root @ local.root.mT - eye) / scale.square() + eye
        # in single precision, rounding can make the precision of an extreme row indefinite
        lower, failed = torch.linalg.cholesky_ex(precision)  # (2, N, l, l)
        good = local.log_evidence.isfinite() & (failed == 0).all(0)
        component, row, whiten = component[good], row[good], lower[:, good].mT
        self.log_evidence[component, row] = local.log_evidence[good]
        self.loc[component, row] = z[good]
        self.whiten[:, component, row] = whiten
        self.root[:, component, row] = torch.linalg.solve_triangular(whiten, eye, upper=True)

    def _expand(self, z: Tensor, component: Tensor, row: Tensor) -> LocalExpansion:
        """Expand log p(x, z, c) around codes (N, l)."""
        n_codes = max(CODES_PER_CHUNK // (z.shape[1] + 1), 1)
        chunks = zip(z.split(n_codes), component.split(n_codes), row.split(n_codes), strict=True)
        parts = [self._expand_chunk(*chunk) for chunk in chunks]
        return LocalExpansion(*map(torch.cat, zip(*parts, strict=True)))

    def _expand_chunk(self, z: Tensor, component: Tensor, row: Tensor) -> LocalExpansion:
        """Expand log p(x, z, c) around codes (N, l), by finite differences of the decoder."""
        n_codes, n_latent = z.shape
        ahead = DIFFERENCE * torch.eye(n_latent, dtype=z.dtype, device=z.device)
        around = torch.cat([z[None], z + ahead.unsqueeze(1)]).flatten(0, 1)  # (l + 1) N
        repeated = component.repeat(n_latent + 1), row.repeat(n_latent + 1)
        parts = [part[0] for part in self._parts(around, *repeated)]  # (..., 1, (l + 1) N)
        here = [part.unflatten(-1, (n_latent + 1, n_codes))[..., 0, :] for part in parts]
        slopes = [
            (part.unflatten(-1, (n_latent + 1, n_codes))[:, 0, 1:] - value) / DIFFERENCE
            for part, value in zip(parts[:3], here, strict=False)
        ]  # (d, l, N)
        standard, _, params, _ = here
        grad_standard, grad_log_scale, _ = slopes
        gradient = -grad_log_scale.sum(0) - (grad_standard * standard).sum(0)
        blocks = [grad_standard.movedim(0, -1), grad_log_scale.movedim(0, -1)]  # (l, N, d)
        local = Standardised(*(part[None] for part in here))
        log_joint = self._log_joint(local._replace(params=params[None, :0]), z, component, row)
        if len(params):
            log_prob, from_others, of_others = self._others(
                params[:, 0].T, slopes[2].permute(1, 2, 0), row
            )
            log_joint, gradient = log_joint + log_prob, gradient + from_others
            blocks.append(of_others)
        features = torch.cat(blocks, dim=-1).transpose(0, 1).contiguous()  # (N, l, F)
        precision = features @ features.mT
        precision.diagonal(dim1=-2, dim2=-1).add_(1)
        root, failed = torch.linalg.cholesky_ex(precision)
        root[failed > 0] = math.nan
        return LocalExpansion(log_joint, gradient.T - z, root)

    def _others(self, params: Tensor, slopes: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        """Log-density of the other columns, its gradient, and features of its Fisher information.

        Parameters (N, n_params) and their slopes (l, N, n_params) -> (N,), (l, N), (l, N, F).
        """
        others, observed = self._other_columns(row)
        likelihood = self.model.others
        with torch.enable_grad():
            params = params.detach().requires_grad_()
            log_prob = likelihood.log_prob(likelihood.split_params(params), others, observed)
            (gradient,) = torch.autograd.grad(log_prob.sum(), params)
        blocks = likelihood.split_params(params.detach()), likelihood.split_params(slopes)
        features = likelihood.fisher_features(*blocks, observed)
        return log_prob.detach(), (slopes * gradient).sum(-1), features

    def log_joint(self, z: Tensor, component: Tensor, row: Tensor) -> Tensor:
        """Log p(x, z, c) of codes (N, l), components (N,) and rows (N,): (N,)."""
        chunks = zip(
            z.split(CODES_PER_CHUNK),
            component.split(CODES_PER_CHUNK),
            row.split(CODES_PER_CHUNK),
            strict=True,
        )
        return torch.cat(
            [self._log_joint(self._parts(z, c, row), z, c, row) for z, c, row in chunks]
        )

    def _log_joint(self, parts: Standardised, z: Tensor, component: Tensor, row: Tensor) -> Tensor:
        others, observed = self._other_columns(row)
        log_prob = self.model.log_prob_of(parts, others, observed)[0, 0]
        return log_prob + self.model.prior.log_prob(z) + self.log_weight[component]

    def _parts(self, z: Tensor, component: Tensor, row: Tensor) -> Standardised:
        """Rows (N,) as seen by codes (N, l) and components (N,): (1, ..., 1, N)."""
        white = self.white.index_select(0, component * len(self.x) + row)
        white = white.T.contiguous()[None, :, None]  # (1, d, 1, N)
        observed = self.row.real_observed
        mask = None if observed is None else observed[:, row]
        return self.model.standardise(white, z[None, None], component[None, None], mask)

    def _other_columns(self, row: Tensor) -> tuple[Tensor, Tensor | None]:
        """Other columns of rows (N,), and the mask of their observed values: (N, n)."""
        observed = self.row.others_observed
        return self.row.others[0, row], None if observed is None else observed[0, row]

    def draw(self, component: Tensor, row: Tensor, noise: Tensor, origin: Tensor) -> Tensor:
        """Draw codes with standard normal noise (N, l): (N, l).

        Their origins (N,) are 0, the Laplace approximation, 1, a wider one, or 2, the prior.
        """
        root = self.root[origin.clamp(max=1), component, row]
        scaled = (root * noise.unsqueeze(1)).sum(-1)
        return torch.where((origin == 2)[:, None], noise, self.loc[component, row] + scaled)

    def log_prob(self, z: Tensor, component: Tensor, row: Tensor) -> Tensor:
        """Log-density of codes (N, l) in the mixture of the three proposals: (N,)."""
        whiten = self.whiten[:, component, row]  # (2, N, l, l)
        standard = (whiten * (z - self.loc[component, row]).unsqueeze(1)).sum(-1)
        log_det = self.whiten.diagonal(dim1=-2, dim2=-1).log().sum(-1)[:, component, row]
        log_normal = log_det - (0.5 * standard.square() + HALF_LOG_2PI).sum(-1)
        log_probs = [*log_normal, self.model.prior.log_prob(z)]
        pairs = zip(log_probs, PROPOSAL_SHARES, strict=True)
        return torch.stack([log_prob + math.log(share) for log_prob, share in pairs]).logsumexp(0)


class PosteriorDraws(NamedTuple):
    """Members, components and codes drawn given rows, with importance weights.

    Attributes
    ----------
    log_weight : Tensor of shape (K, B)
        Log-weights, whose exponentials have the mean p(x).
    member, component : Tensor of shape (K, B)
        Indices of the models and of their components.
    z : Tensor of shape (K, B, l)
        Codes.
    params : None
        Parameters of the columns that are not real numbers: those of each draw differ.
    """

    log_weight: Tensor
    member: Tensor
    component: Tensor
    z: Tensor
    params: None = None


class EnsembleProposal:
    """Proposals of the members, components and codes of rows.

    Parameters
    ----------
    models : sequence of MixtureVAE
        Models; only their first members are used.
    log_weight : Tensor of shape (M,)
        Log-weights of the models.
    x : Tensor of shape (B, n_columns)
        Encoded rows.
    """

    def __init__(self, models: Sequence[MixtureVAE], log_weight: Tensor, x: Tensor):
        self.log_weight = log_weight
        self.proposals = [LaplaceProposal(model, x) for model in models]
        pairs = zip(self.proposals, log_weight, strict=True)
        log_evidence = torch.cat([proposal.log_evidence + log for proposal, log in pairs])
        self.log_responsibility = log_evidence.log_softmax(0)  # (T, B)

    def draw(self, noise: Tensor, rows: Tensor) -> PosteriorDraws:
        """Draw for the rows with these indices (R,): their K draws share the normal noise.

        The last column of the noise (K, l + 1) chooses model and component.
        """
        log_responsibility = self.log_responsibility[:, rows]
        chosen, origin = _draw_proposals(log_responsibility.exp(), noise[:, -1])
        log_ratio = torch.empty_like(chosen, dtype=noise.dtype)  # (K, R)
        member, component = torch.zeros_like(chosen), torch.zeros_like(chosen)
        z = log_ratio.new_empty(*chosen.shape, noise.shape[1] - 1)
        first = 0  # index of the model's first component among those of all models
        for index, (proposal, log) in enumerate(zip(self.proposals, self.log_weight, strict=True)):
            end = first + len(proposal.log_evidence)
            # row by row: neighbouring draws are then from the same proposal
            at = ((chosen >= first) & (chosen < end)).T.nonzero(as_tuple=True)[::-1]
            of_model, row = chosen[at] - first, rows[at[1]]
            codes = proposal.draw(of_model, row, noise[at[0], :-1], origin[at])
            log_q = proposal.log_prob(codes, of_model, row)
            log_ratio[at] = proposal.log_joint(codes, of_model, row) - log_q + log
            member[at], component[at], z[at] = index, of_model, codes
            first = end
        log_weight = log_ratio - log_responsibility.gather(0, chosen)
        return PosteriorDraws(log_weight, member, component, z)


def log_density(
    models: Sequence[MixtureVAE], log_weight: Tensor, x: Tensor, noise: Tensor, n_draws: int
) -> Tensor:
    """Log of the models' weighted mean density, in nats and units of x: (B,).

    A row has ``n_draws`` draws, or 2, 4, 8 or 16 times as many if its weights are uneven: they are
    the first points of the noise (K, l + 1). Models that are still mixtures need none. The other
    parameters are those of ``EnsembleProposal``.
    """
    if not any(model.depends_on_code for model in models):
        log_p = PosteriorComponents(models, log_weight, x).log_weight.logsumexp(0)
        return log_p.masked_fill(x.isnan().all(1), 0.0)  # negligible components are left out
    proposal = EnsembleProposal(models, log_weight, x)
    rows = torch.arange(len(x), device=x.device)
    log_mean, error = _log_mean(proposal.draw(noise[:n_draws], rows).log_weight)
    doublings = (error / MAX_ERROR).log2().ceil().clamp(max=MAX_DOUBLINGS)
    for exponent in range(1, MAX_DOUBLINGS + 1):
        points, uneven = noise[: n_draws << exponent], (doublings == exponent).nonzero()[:, 0]
        for part in uneven.split(max(MAX_DRAWS // len(points), 1)) if len(uneven) else ():
            log_mean[part], _ = _log_mean(proposal.draw(points, part).log_weight)
    return log_mean.masked_fill(x.isnan().all(1), 0.0)  # nothing is observed, but draws err


def _log_mean(log_weight: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the mean of weights (K, B), and its error if draws were independent: (B,) each."""
    log_mean, log_mean_square = (log_mean_exp(k * log_weight, dim=0) for k in (1, 2))
    variance = (log_mean_square - 2 * log_mean).expm1().clamp(min=0)
    return log_mean, (variance / len(log_weight)).sqrt()


def _draw_proposals(probability: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Draw components (T, B), and which of their proposals codes are from: (K, B) each.

    Consecutive draws are from the same proposal: systematic sampling, which the first of the
    normal draws (K,) starts.
    """
    n_draws, n_proposals = len(noise), len(PROPOSAL_SHARES)
    joint = torch.stack([share * probability for share in PROPOSAL_SHARES], dim=1)
    start = 0.5 * torch.erfc(-math.sqrt(0.5) * noise[:1])
    quantile = (torch.arange(n_draws, device=noise.device) + start) / n_draws
    quantile = quantile.expand(probability.shape[1], -1)  # (B, K)
    chosen = sample_categorical(joint.flatten(0, 1).cumsum(0).mT, quantile).mT
    return chosen // n_proposals, chosen % n_proposals
