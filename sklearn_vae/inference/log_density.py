"""Importance sampling of p(x), the evidence, and of the posterior p(z|x).

All rows share the same Sobol points. Codes are drawn from a widened q(z|x) and from the prior.
Rows with uneven weights get Laplace proposals as well. Rows with missing values do too, unless
the encoder has learned from rows of variable length.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from sklearn_vae.inference.adaptive_importance_sampling import refine
from sklearn_vae.inference.class_sampling import ClassSampler, ClassTarget
from sklearn_vae.inference.constants import (
    FAR_START,
    MAX_START_DIMENSIONS,
    MIN_STARTS,
    PRIOR_ONE_IN,
)
from sklearn_vae.inference.importance_sampling import (
    ImportanceSampler,
    PriorProposal,
    WeightedCodes,
    WidthCheck,
)
from sklearn_vae.models.vae import VAE
from sklearn_vae.numerics.array_api import in_double
from sklearn_vae.numerics.random import Stream, make_generator
from sklearn_vae.posteriors import PosteriorDistribution
from sklearn_vae.priors import DiagonalMixture, PriorDistribution, StandardNormal


class Points(NamedTuple):
    """Random numbers of the proposals, shared by all rows.

    Attributes
    ----------
    encoder : Tensor of shape (1, K, 1, n_noise)
        Standard normal draws for q(z|x).
    laplace : sequence of Tensor of shape (1, K', 1, n_noise)
        Standard normal draws for each further proposal.
    prior : Tensor of shape (1, K, 1, n_noise)
        Standard normal draws for a standard normal prior.
    prior_seed : tuple of int
        Arguments of ``make_generator`` for draws from any other prior.
    proposal_scale : float
        Factor of the standard deviations of q(z|x) and of Laplace approximations.
    width_check : WidthCheck
        Test for a q(z|x) that is too narrow.
    """

    encoder: Tensor
    laplace: Sequence[Tensor]
    prior: Tensor
    prior_seed: tuple[int, Stream, int]
    proposal_scale: float
    width_check: WidthCheck


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


class JointDensity(NamedTuple):
    """p(x, z) of rows as a function of z.

    Attributes
    ----------
    model : VAE
        The model.
    prior : PriorDistribution
        p(z).
    x : Tensor of shape (M, B, n_columns + n_conditions)
        Encoded rows, missing values replaced by zeros.
    observed : Tensor of shape (M, B, n_columns) or None
        Mask of observed values; None if no value is missing.
    """

    model: VAE
    prior: PriorDistribution
    x: Tensor
    observed: Tensor | None

    @classmethod
    def from_rows(cls, model: VAE, x: Tensor) -> "JointDensity":
        """Make it from rows whose missing values are NaN."""
        return cls(model, model.prior_distribution(), *model.likelihood.split_missing(x))

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(x, z) in nats: (M, K, B or 1, l) -> (M, K, B)."""
        return self.log_likelihood(z) + self.prior.log_prob(z)

    def log_likelihood(self, z: Tensor) -> Tensor:
        """Log p(x | z) in nats: (M, K, B or 1, l) -> (M, K, B)."""
        model = self.model
        if model.architecture.decodes_per_row:
            z = z.expand(-1, -1, self.x.shape[1], -1)
        observed = None if self.observed is None else self.observed.unsqueeze(1)
        params = model.decode(z, self.x)
        return model.likelihood.log_prob(params, self.x.unsqueeze(1), observed)

    def gradient(self, z: Tensor) -> Tensor:
        """Gradient of log p(x, z) in z, 0 for NaN, in the most precise dtype: (M, K, B, l)."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.log_prob(z).sum(), z)
        return in_double(gradient.nan_to_num())

    def select(self, rows: Tensor) -> "JointDensity":
        """Index-select the rows."""
        observed = None if self.observed is None else self.observed.index_select(1, rows)
        return self._replace(x=self.x.index_select(1, rows), observed=observed)


def log_evidence(
    model: VAE, x: Tensor, points: Points, rows_per_chunk: int, *, refines: bool = True
) -> Tensor:
    """Log p(x) in nats by importance sampling [1]_, of rows whose missing values are NaN: (M, B).

    ``rows_per_chunk`` rows are decoded at a time, with all their draws. With ``refines``, rows
    with uneven weights get further draws.

    References
    ----------
    .. [1] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance Weighted Autoencoders",
       ICLR 2016.
    """
    q = model.encode_proposal(model.fill_missing(x))
    prior = sample_prior(model, points)
    chunks, masks = [], []
    for rows in torch.arange(x.shape[1], device=x.device).split(rows_per_chunk):
        sampler, is_poor = _first_proposals(model, q[:, rows], x[:, rows], points, prior)
        chunks.append(sampler.log_evidence())
        masks.append(is_poor)
    log_p = torch.cat(chunks, dim=1)
    if not refines:
        return log_p
    # the poor rows of all chunks together; their first draws are repeated, not kept in memory
    for rows in torch.cat(masks).nonzero()[:, 0].split(rows_per_chunk):
        sampler, is_poor = _first_proposals(model, q[:, rows], x[:, rows], points, prior)
        for index, refined in _further_proposals(model, sampler, is_poor, points):
            log_p[:, rows[index]] = refined.log_evidence()
    return log_p


def log_sum_over_codes(model: VAE, x: Tensor, rows_per_chunk: int) -> Tensor:
    """Log p(x) in nats, the exact sum over all codes of a categorical posterior: (M, B)."""
    z = model.posterior.enumerate_codes(x).expand(len(x), -1, -1, -1)  # (M, n_codes, 1, l)
    return torch.cat(
        [
            JointDensity.from_rows(model, chunk).log_prob(z).logsumexp(1)
            for chunk in x.split(rows_per_chunk, 1)
        ],
        dim=1,
    )


def sample_posterior(
    model: VAE, x: Tensor, points: Points, *, refines_incomplete: bool = True
) -> WeightedCodes:
    """Weighted codes of rows (M, B, n_columns + n_conditions), whose missing values are NaN.

    All codes of a categorical posterior, if they are few, else importance sampling. With
    ``refines_incomplete``, all rows with missing values get Laplace proposals; otherwise those
    with uneven weights do.
    """
    if model.architecture.n_codes is not None:
        z = model.posterior.enumerate_codes(x).expand(len(x), -1, x.shape[1], -1)
        return WeightedCodes(z, JointDensity.from_rows(model, x).log_prob(z))
    q = model.encode_proposal(model.fill_missing(x))
    prior = sample_prior(model, points)
    sampler, is_poor = _first_proposals(
        model, q, x, points, prior, refines_incomplete=refines_incomplete
    )
    codes = WeightedCodes(sampler.z, sampler.log_weight)
    for rows, refined in _further_proposals(model, sampler, is_poor, points):
        codes = codes.replaced(rows, refined.z, refined.log_weight)
    return codes


def sample_prior(model: VAE, points: Points) -> PriorProposal:
    """Draws from the prior, shared by all rows."""
    n_draws = points.encoder.shape[1]
    if model.architecture.decodes_per_row:
        n_draws = -(-n_draws // PRIOR_ONE_IN)
    prior, n_members = model.prior_distribution(), len(model.sizes)
    if isinstance(prior, StandardNormal):
        return PriorProposal(prior, points.prior[:, :n_draws].expand(n_members, -1, -1, -1))
    if isinstance(prior, DiagonalMixture):
        return PriorProposal(prior, prior.transform(points.prior[0, :n_draws, 0]).unsqueeze(2))
    n_components, generator = model.architecture.n_components, make_generator(*points.prior_seed)
    # in single precision torch draws other numbers, and rows of both would have other scores
    z = prior.sample((n_members, n_draws, n_components), generator, torch.float64)
    return PriorProposal(prior, z.to(points.encoder).unsqueeze(2))


def _first_proposals(
    model: VAE,
    q: Tensor,
    x: Tensor,
    points: Points,
    prior: PriorProposal,
    *,
    refines_incomplete: bool = True,
) -> tuple[ImportanceSampler, Tensor]:
    """Draws from q(z|x) and the prior, and the mask of rows (B,) that need further proposals."""
    sampler = ImportanceSampler(JointDensity.from_rows(model, x))
    sampler.add(EncoderProposal(model.posterior, q, points.proposal_scale), points.encoder)
    is_narrow = points.width_check.is_narrow(sampler.log_weight)
    is_poor = is_narrow & model.architecture.has_continuous_codes
    sampler.add(prior, prior.z)
    is_poor = is_poor | sampler.is_uneven()
    # an encoder of rows of variable length has learned from rows with NaN, others may not have
    if refines_incomplete and not model.architecture.network.row_structure.variable_length:
        is_poor = is_poor | x.isnan().any(-1)
    return sampler, is_poor.any(0)


def _further_proposals(
    model: VAE, sampler: ImportanceSampler, is_poor: Tensor, points: Points
) -> Iterator[tuple[Tensor, ImportanceSampler | ClassSampler]]:
    """Yield indices of rows and their sampler with further proposals.

    Real numbers behind classes get Laplace proposals for each class. Purely categorical codes,
    too many for a sum, get more draws from the encoder.
    """
    if model.architecture.n_classes is not None:
        return _proposals_per_class(model, sampler, is_poor, points)
    if not model.architecture.has_density:
        return refine(sampler, is_poor, points.laplace)
    prior = model.prior_distribution()
    n_starts = max(MAX_START_DIMENSIONS // points.encoder.shape[-1], 1)
    if isinstance(prior, DiagonalMixture):
        candidates, n_starts = prior.loc, max(n_starts, MIN_STARTS)
    else:
        z = sample_prior(model, points).z.squeeze(2)
        candidates = torch.cat([FAR_START * z, z], dim=1)
    if cast(JointDensity, sampler.target).observed is not None:
        n_starts = max(n_starts, MIN_STARTS)
    return refine(sampler, is_poor, points.laplace, points.proposal_scale, candidates, n_starts)


def _proposals_per_class(
    model: VAE, sampler: ImportanceSampler, is_poor: Tensor, points: Points
) -> Iterator[tuple[Tensor, ClassSampler]]:
    """Yield indices of rows and their draws for each class, with Laplace proposals."""
    rows = is_poor.nonzero()[:, 0]
    if not len(rows):
        return
    classes = model.posterior.enumerate_codes(model.free).flatten(0, 2)  # (C, width)
    n_classes, width = classes.shape
    pairs = rows.repeat_interleave(n_classes)
    encoder = cast(EncoderProposal, sampler.proposals[0][1])
    params = encoder.params.index_select(1, pairs)[..., width:]
    z = points.prior[..., width:].expand(len(model.sizes), -1, -1, -1)
    numbers = ImportanceSampler(
        ClassTarget(sampler.target.select(pairs), classes.repeat(len(rows), 1))
    )
    numbers.add(
        EncoderProposal(model.posterior.gaussian, params, points.proposal_scale),
        points.encoder[..., width:],
    )
    numbers.add(PriorProposal(StandardNormal(), z), z)
    by_class = ClassSampler(numbers, n_classes)
    refinements = refine(
        numbers,
        torch.ones_like(pairs, dtype=torch.bool),
        [noise[..., width:] for noise in points.laplace],
        points.proposal_scale,
        candidates=torch.cat([FAR_START * z, z], dim=1).squeeze(2),
        n_starts=max(MAX_START_DIMENSIONS // z.shape[-1], 1),
    )
    for index, refined in refinements:
        by_class.replace(index, refined)
    yield rows, by_class
