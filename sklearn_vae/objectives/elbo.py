"""The evidence lower bound (ELBO), of all rows or of the rows with the smallest losses."""

from dataclasses import dataclass, field
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor

from sklearn_vae.models.vae import VAE
from sklearn_vae.objectives.base import LossTerms, Minibatch, Objective
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_number, invalid_parameter


@serializable
@dataclass(frozen=True)
class ELBO(Objective):
    r"""The evidence lower bound, with weight :math:`\beta` on the KL.

    .. math::
        E_{q(z|x)}[\log p(x|z)] - \beta \, KL(q(z|x) \,\|\, p(z))

    By default ``training/gradients/elbo.py`` computes the same loss with a hand-written gradient.

    Parameters
    ----------
    free_bits : float, default=0.0
        KL in nats that each code may have at no cost, on average over rows [2]_. Raise it if codes
        are not used.

    Raises
    ------
    ValueError
        If ``free_bits`` is not a finite number >= 0.

    References
    ----------
    .. [1] I. Higgins et al., "beta-VAE", ICLR 2017.
    .. [2] D. P. Kingma et al., "Improved Variational Inference with Inverse
       Autoregressive Flow", NeurIPS 2016, for the free bits.

    Examples
    --------
    >>> from sklearn_vae.objectives import ELBO
    >>> ELBO(free_bits=0.2)
    ELBO(free_bits=0.2)
    """

    supports_autoregressive = True
    supports_relaxed_draws = True
    has_penalty: ClassVar[bool] = False

    free_bits: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        check_number(self, "free_bits", self.free_bits)

    def __call__(self, model: VAE, batch: Minibatch, beta: float | Tensor = 1.0) -> LossTerms:
        """Compute the negative ELBO of a batch."""
        q = model.encode(batch.x)
        log_prob, kl = model.elbo_terms(batch.x, batch.noise, q, batch.decoder_input)
        weight = self.row_weights(log_prob, kl, beta, batch.weight)
        if weight is not None:
            log_prob = log_prob * weight
            kl = kl * weight.unsqueeze(-1)
        reconstruction = -log_prob.mean(1)  # (M, B) -> (M,)
        kl_per_dimension = kl.mean(1)  # (M, B, l) -> (M, l)
        kl_loss = self.apply_free_bits(kl_per_dimension, model.mask).sum(-1)
        loss = reconstruction + beta * kl_loss
        if self.has_penalty:
            loss = loss + self.penalty(model, q, batch)
        return LossTerms(loss, reconstruction, kl_loss)

    def apply_free_bits(self, kl_per_dimension: Tensor, mask: Tensor | None) -> Tensor:
        """Raise each dimension's KL to the free bits, where mask (M, l) is 1: (M, l) -> (M, l)."""
        if not self.free_bits:
            return kl_per_dimension
        raised = kl_per_dimension.clamp(min=self.free_bits)
        return raised if mask is None else raised * mask

    def row_weights(
        self, log_prob: Tensor, kl: Tensor, beta: float | Tensor, weight: Tensor | None
    ) -> Tensor | None:
        """Weights of the rows, given their terms: (M, B), (M, B, l) -> (M, B)."""
        return weight

    def penalty(self, model: VAE, q: Tensor, batch: Minibatch) -> Tensor:
        """Compute the weighted penalty of q (M, B, 2 l): (M,)."""
        raise NotImplementedError


@serializable
@dataclass(frozen=True)
class TrimmedELBO(ELBO):
    """The ELBO of the rows of each batch with the smallest losses (trimmed likelihood).

    Outliers are mostly among the rows that are left out, so that the model does not fit them.

    Parameters
    ----------
    trim_fraction : float, default=0.3
        Fraction of each batch that is left out, by weight.
    free_bits : float, default=0.0
        As of :class:`ELBO`.

    Raises
    ------
    ValueError
        If ``trim_fraction`` is not a number of at least 0 and less than 1.

    References
    ----------
    .. [1] P. J. Rousseeuw, "Least Median of Squares Regression", Journal of the American
       Statistical Association 79, 1984, for trimmed sums.

    Examples
    --------
    >>> from sklearn_vae.objectives import TrimmedELBO
    >>> TrimmedELBO(trim_fraction=0.2)
    TrimmedELBO(free_bits=0.0, trim_fraction=0.2)
    """

    trim_fraction: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.trim_fraction, Real) or not 0 <= float(self.trim_fraction) < 1:
            expected = "be a number of at least 0 and less than 1"
            raise invalid_parameter(self, "trim_fraction", expected, self.trim_fraction)

    def row_weights(
        self, log_prob: Tensor, kl: Tensor, beta: float | Tensor, weight: Tensor | None
    ) -> Tensor:
        """Set the weights of the rows with the largest losses to 0, and scale up the rest.

        The row at the limit keeps a part of its weight.
        """
        beta = torch.as_tensor(beta, dtype=kl.dtype, device=kl.device).view(-1, 1)
        row_loss = (beta * kl.sum(-1) - log_prob).detach()  # (M, B)
        weight = torch.ones_like(row_loss) if weight is None else weight
        total = weight.sum(1, keepdim=True)
        order = row_loss.argsort(dim=1)
        sizes = weight.expand_as(row_loss).gather(1, order)
        before = sizes.cumsum(1) - sizes
        kept = torch.minimum(((1 - self.trim_fraction) * total - before).clamp(min=0), sizes)
        kept = kept / (1 - self.trim_fraction)
        return torch.zeros_like(row_loss).scatter_(1, order, kept)
