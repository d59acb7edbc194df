"""The evidence lower bound, of all rows or of those that it explains best."""

import math
from dataclasses import dataclass, field
from numbers import Real

import torch
from torch import Tensor

from sklearn_vae.models.vae import VAE
from sklearn_vae.objectives.base import Loss, Terms


class ELBOLoss(Loss):
    """Negative evidence lower bound with weight beta on the KL.

    Parameters
    ----------
    free_bits : float or Tensor of shape (M,), default=0.0
        KL in nats that each latent dimension may spend at no cost, on average over rows.
    prior_rows : float or Tensor of shape (M,), default=0.0
        Imagined rows per row of the table that keep Gaussian scales from collapsing.

    References
    ----------
    .. [1] I. Higgins et al., "beta-VAE", ICLR 2017.
    .. [2] D. P. Kingma et al., "Improved Variational Inference with Inverse
       Autoregressive Flow", NeurIPS 2016, for the free bits.
    """

    n_draws = 1

    def __init__(self, free_bits: float | Tensor = 0.0, prior_rows: float | Tensor = 0.0):
        self.free_bits = free_bits
        self.prior_rows = prior_rows

    def keep(self, members: Tensor) -> None:
        """Go on with these members only."""
        if isinstance(self.free_bits, Tensor):
            self.free_bits = self.free_bits[members]
        if isinstance(self.prior_rows, Tensor):
            self.prior_rows = self.prior_rows[members]

    def __call__(
        self,
        model: VAE,
        x: Tensor,
        weight: Tensor | None,
        noise: Tensor,
        beta: float | Tensor,
        shown: Tensor | None = None,
    ) -> Terms:
        """Compute the terms of one batch.

        Parameters
        ----------
        model : VAE
            The model.
        x : Tensor of shape (M, B, n_columns)
            Encoded rows.
        weight : Tensor of shape (M, B) or None
            What each row counts, 1 on average over the table.
        noise : Tensor of shape (M or 1, K, B or 1, l)
            Standard normal draws.
        beta : float or Tensor of shape (M,)
            Weight of the KL.
        shown : Tensor of shape (M, B, n_columns), optional
            What the encoder sees of the rows; by default the rows themselves.
        """
        log_prob, kl, log_prior = model.elbo_terms(x, noise, shown)
        weight = self.weigh(log_prob, kl, beta, weight)
        if weight is not None:
            log_prob, log_prior = log_prob * weight, log_prior * weight
            kl = kl * weight.unsqueeze(-1)
        reconstruction = -log_prob.mean(1)  # (M, B) -> (M,)
        kl_per_unit = kl.mean(1)  # (M, B, l) -> (M, l)
        kl_loss = self.clamped(kl_per_unit, model.mask).sum(-1)
        penalty = -self.prior_rows * log_prior.mean(1)
        return Terms(reconstruction + beta * kl_loss, reconstruction, kl_loss, penalty)

    def weigh(
        self, log_prob: Tensor, kl: Tensor, beta: float | Tensor, weight: Tensor | None
    ) -> Tensor | None:
        """What each row counts, given the parts of its loss: (M, B), (M, B, l) -> (M, B)."""
        return weight

    def clamped(self, kl_per_unit: Tensor, mask: Tensor | None) -> Tensor:
        """KL that counts, of dimensions that a member has: (M, l) -> (M, l)."""
        if not self._has_free_bits:
            return kl_per_unit
        counted = torch.maximum(kl_per_unit, self._free_bits(kl_per_unit))
        return counted if mask is None else counted * mask

    def spent(self, kl_per_unit: Tensor) -> Tensor | None:
        """Which dimensions have spent their free bits, where there are any: (M, l)."""
        return kl_per_unit > self._free_bits(kl_per_unit) if self._has_free_bits else None

    @property
    def _has_free_bits(self) -> bool:
        return isinstance(self.free_bits, Tensor) or self.free_bits > 0

    def _free_bits(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.free_bits, dtype=like.dtype, device=like.device).view(-1, 1)


class TrimmedELBOLoss(ELBOLoss):
    """Negative evidence lower bound of those rows of a batch that it explains best.

    Rows that were let in by mistake are mostly among the others, and the model does not
    learn them.

    Parameters
    ----------
    share : float
        Share of each batch that is left out.
    free_bits, prior_rows : float or Tensor of shape (M,), default=0.0
        As for :class:`ELBOLoss`.

    References
    ----------
    .. [1] P. J. Rousseeuw, "Least Median of Squares Regression", Journal of the American
       Statistical Association 79, 1984, for trimmed sums.
    """

    def __init__(
        self, share: float, free_bits: float | Tensor = 0.0, prior_rows: float | Tensor = 0.0
    ):
        super().__init__(free_bits, prior_rows)
        self.trim_fraction = share

    def weigh(
        self, log_prob: Tensor, kl: Tensor, beta: float | Tensor, weight: Tensor | None
    ) -> Tensor:
        """Leave the rows with the largest losses out; the others count the more."""
        beta = torch.as_tensor(beta, dtype=kl.dtype, device=kl.device).view(-1, 1)
        row_loss = (beta * kl.sum(-1) - log_prob).detach()  # (M, B)
        if weight is not None:
            return self._trimmed(row_loss, weight)
        n_rows = row_loss.shape[1]
        n_kept = max(math.ceil((1 - self.trim_fraction) * n_rows), 1)
        best = row_loss.topk(n_kept, dim=1, largest=False).indices
        return torch.zeros_like(row_loss).scatter_(1, best, n_rows / n_kept)

    def _trimmed(self, row_loss: Tensor, weight: Tensor) -> Tensor:
        """Leave the share with the largest losses out by weight, of one row a part: (M, B)."""
        total = weight.sum(1, keepdim=True)
        order = row_loss.argsort(dim=1)
        sizes = weight.expand_as(row_loss).gather(1, order)
        before = sizes.cumsum(1) - sizes
        kept = torch.minimum(((1 - self.trim_fraction) * total - before).clamp(min=0), sizes)
        kept = kept / (1 - self.trim_fraction)
        return torch.zeros_like(row_loss).scatter_(1, order, kept)


@dataclass(frozen=True)
class ELBO:
    """The evidence lower bound, which ``objective="elbo"`` stands for."""

    n_draws: int = field(default=1, init=False)

    def loss(self, free_bits: float | Tensor, prior_rows: float | Tensor) -> ELBOLoss:
        """Make the loss, for numbers that each member has."""
        return ELBOLoss(free_bits, prior_rows)


@dataclass(frozen=True)
class TrimmedELBO:
    """The evidence lower bound of the rows of each batch that it explains best.

    Parameters
    ----------
    trim_fraction : float, default=0.3
        Share of each batch that is left out.

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
    TrimmedELBO(trim_fraction=0.2)
    """

    trim_fraction: float = 0.3
    n_draws: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.trim_fraction, Real) or not 0 <= float(self.trim_fraction) < 1:
            raise ValueError(
                f"The 'trim_fraction' parameter of TrimmedELBO must be a number of at least 0 "
                f"and less than 1. Got {self.trim_fraction!r} instead."
            )

    def loss(self, free_bits: float | Tensor, prior_rows: float | Tensor) -> TrimmedELBOLoss:
        """Make the loss, for numbers that each member has."""
        return TrimmedELBOLoss(self.trim_fraction, free_bits, prior_rows)
