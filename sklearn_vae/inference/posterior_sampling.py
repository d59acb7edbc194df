"""Evidence p(x) and posterior p(z|x) of codes of every kind.

Real numbers are sampled as in ``log_density.py``. A posterior of few categorical codes is summed
over. Where real numbers lie behind a class, they are sampled for each class. Codes that are too
many for a sum are drawn from q(z|x) and from the prior.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_vae.inference import log_density
from sklearn_vae.inference.adaptive_importance_sampling import add_first, add_modes, refine
from sklearn_vae.inference.constants import MAX_CLASS_GAP
from sklearn_vae.inference.importance_sampling import (
    ImportanceSampler,
    PriorProposal,
    WeightedCodes,
)
from sklearn_vae.inference.laplace import Expansion
from sklearn_vae.inference.log_density import JointDensity, Points
from sklearn_vae.models.vae import VAE
from sklearn_vae.numerics.random import Stream, make_generator
from sklearn_vae.posteriors import PosteriorDistribution
from sklearn_vae.priors import StandardNormal


class EncoderProposal(NamedTuple):
    """The encoder's q(z|x).

    Attributes
    ----------
    posterior : posterior
        q(z|x).
    params : Tensor of shape (M, B, n_params)
        Its parameters.
    """

    posterior: PosteriorDistribution
    params: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """Codes of standard normal draws: (M or 1, K, 1, l) -> (M, K, B, l)."""
        return self.posterior.rsample(self.params, noise)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats of codes: (M, K, B, l) -> (M, K, B)."""
        return self.posterior.log_prob(self.params, z)

    def select(self, rows: Tensor) -> "EncoderProposal":
        """Index-select the rows."""
        return self._replace(params=self.params.index_select(1, rows))


class ClassTarget(NamedTuple):
    """p(x, z) as a function of z's real numbers, its classes fixed: a row per row and class.

    Attributes
    ----------
    target : JointDensity
        p(x, z) of as many rows as a function of the whole code.
    classes : Tensor of shape (N, width)
        One-hot codes of the classes.
    """

    target: JointDensity
    classes: Tensor

    def codes(self, z: Tensor) -> Tensor:
        """Classes and numbers side by side: (M, K, N or 1, l') -> (M, K, N, width + l')."""
        n_rows = len(self.classes)
        classes = self.classes.expand(*z.shape[:2], n_rows, -1)
        return torch.cat([classes, z.expand(-1, -1, n_rows, -1)], dim=-1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(x, z) in nats of numbers: (M, K, N or 1, l') -> (M, K, N)."""
        return self.target.log_prob(self.codes(z))

    def expand(self, z: Tensor) -> Expansion:
        """Quadratic expansion in the numbers: (M, N, l')."""
        return self.target.expand(self.codes(z.unsqueeze(1))[:, 0], self.classes.shape[1])

    def select(self, rows: Tensor) -> "ClassTarget":
        """Index-select the rows."""
        return ClassTarget(self.target.select(rows), self.classes.index_select(0, rows))


class ClassDraws(NamedTuple):
    """Weighted codes of rows, and the estimate of their evidence.

    Attributes
    ----------
    codes : WeightedCodes
        Codes of shape (M, K, B, l).
    log_evidence : Tensor of shape (M, B)
        Estimate of log p(x), in nats.
    """

    codes: WeightedCodes
    log_evidence: Tensor

    @classmethod
    def from_sampler(cls, sampler: ImportanceSampler) -> "ClassDraws":
        """Take them from a sampler, whose codes may lack a class in front of the numbers."""
        z = sampler.z
        if isinstance(sampler.target, ClassTarget):
            z = sampler.target.codes(z)
        return cls(WeightedCodes(z, sampler.log_weight), sampler.log_evidence())

    def replaced(self, rows: Tensor, sampler: ImportanceSampler) -> "ClassDraws":
        """Replace the codes of some rows, by as many or more."""
        new = ClassDraws.from_sampler(sampler)
        log_evidence = self.log_evidence.index_copy(1, rows, new.log_evidence)
        return ClassDraws(self.codes.replaced(rows, *new.codes), log_evidence)

    def joined(self, n_classes: int) -> "ClassDraws":
        """Join all classes of a row, which are neighbouring rows."""
        codes = (
            part.unflatten(2, (-1, n_classes)).movedim(3, 2).flatten(1, 2) for part in self.codes
        )
        log_evidence = self.log_evidence.unflatten(1, (-1, n_classes)).logsumexp(-1)
        return ClassDraws(WeightedCodes(*codes), log_evidence)


def log_evidence(
    model: VAE, x: Tensor, points: Points, rows_per_chunk: int, *, refines: bool = True
) -> Tensor:
    """Log p(x) in nats, of rows whose missing values are NaN: (M, B).

    The parameters are those of ``log_density.log_evidence``.
    """
    if model.architecture.has_density:
        return log_density.log_evidence(model, x, points, rows_per_chunk, refines=refines)
    step = max(rows_per_chunk // (model.architecture.n_classes or 1), 1)
    chunks = [_draw(model, chunk, points, refines).log_evidence for chunk in x.split(step, 1)]
    return torch.cat(chunks, dim=1)


def log_sum_over_codes(model: VAE, x: Tensor, rows_per_chunk: int) -> Tensor:
    """Log p(x) in nats, the exact sum over all codes of a categorical posterior: (M, B)."""
    chunks = x.split(rows_per_chunk, 1)
    return torch.cat([all_codes(model, chunk).log_weight.logsumexp(1) for chunk in chunks], dim=1)


def sample_posterior(
    model: VAE, x: Tensor, points: Points, *, refines_incomplete: bool = True
) -> WeightedCodes:
    """Weighted codes of rows (M, B, n_columns + n_conditions), whose missing values are NaN.

    The parameters are those of ``log_density.sample_posterior``; ``refines_incomplete`` is for real
    numbers alone.
    """
    if model.architecture.n_codes is not None:
        return all_codes(model, x)
    if model.architecture.has_density:
        return log_density.sample_posterior(model, x, points, refines_incomplete=refines_incomplete)
    return _draw(model, x, points, refines=True).codes


def all_codes(model: VAE, x: Tensor) -> WeightedCodes:
    """All codes of a categorical posterior, whose weights sum to p(x)."""
    z = model.posterior.enumerate_codes(x).expand(len(x), -1, -1, -1)  # (M, n_codes, 1, l)
    log_joint = JointDensity.from_rows(model, x).log_prob(z)
    return WeightedCodes(z.expand(-1, -1, x.shape[1], -1), log_joint)


def _draw(model: VAE, x: Tensor, points: Points, refines: bool) -> ClassDraws:
    """Weighted codes of rows, for each class if there are numbers behind it."""
    n_classes = model.architecture.n_classes
    if n_classes is not None:
        return _draw_per_class(model, x, points, n_classes, refines)
    sampler = ImportanceSampler(JointDensity.from_rows(model, x))
    encoder = EncoderProposal(model.posterior, model.encode(model.fill_missing(x)))
    sampler.add((encoder, points.first))
    seed, scrambling = points.prior_seed
    prior, generator = model.prior_distribution(), make_generator(seed, Stream.PARTS, scrambling)
    shape = len(model.sizes), points.prior.shape[1], model.architecture.n_components
    # in single precision torch draws other numbers, and rows of both would have other scores
    z = prior.sample(shape, generator, torch.float64).to(points.first).unsqueeze(2)
    sampler.add((PriorProposal(prior, z), points.prior))
    is_poor = sampler.is_uneven().any(0)
    return _refined(sampler, is_poor, points.further if refines else (), _add_encoder)


def _add_encoder(sampler: ImportanceSampler, noise: Tensor, _number: int) -> None:
    """Draw more codes from the first proposal, the encoder's."""
    sampler.add((sampler.proposals[0][1], noise))


def _refined(
    sampler: ImportanceSampler,
    is_poor: Tensor,
    points: Sequence[Tensor],
    add: Callable[[ImportanceSampler, Tensor, int], None],
) -> ClassDraws:
    """Draws of a sampler, with further proposals for the rows of a mask while they are uneven."""
    draws = ClassDraws.from_sampler(sampler)
    for rows, refined in refine(sampler, is_poor, points, add):
        draws = draws.replaced(rows, refined)
    return draws


def _draw_per_class(
    model: VAE, x: Tensor, points: Points, n_classes: int, refines: bool
) -> ClassDraws:
    """Numbers behind each class, from Laplace approximations and from the prior."""
    classes = model.posterior.enumerate_codes(model.free).flatten(0, 2)  # (C, width)
    n_rows, width = x.shape[1], classes.shape[1]
    pairs = torch.arange(n_rows, device=x.device).repeat_interleave(n_classes)
    target = JointDensity.from_rows(model, x).select(pairs)
    sampler = ImportanceSampler(ClassTarget(target, classes.repeat(n_rows, 1)))
    start = model.mean_code(x).index_select(1, pairs)[..., width:]
    first, prior, *further = (
        noise[..., width:] for noise in (points.first, points.prior, *points.further)
    )
    z = prior.expand(len(model.sizes), -1, -1, -1)
    add_first(sampler, start, first)
    proposal = PriorProposal(StandardNormal(), z)
    sampler.add((proposal, z))
    log_evidence = sampler.log_evidence().unflatten(1, (-1, n_classes))
    is_unlikely = log_evidence < log_evidence.amax(-1, keepdim=True) - MAX_CLASS_GAP
    is_poor = (sampler.is_uneven() & ~is_unlikely.flatten(1)).any(0)
    add = partial(add_modes, prior=proposal)
    return _refined(sampler, is_poor, further if refines else (), add).joined(n_classes)
