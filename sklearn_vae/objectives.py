"""What training minimises, in nats per row: sums over columns, means over rows."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sklearn_vae.model import VAE
from sklearn_vae.posteriors import log_mean_exp

Schedule = Callable[[int], float]

# the terms that a history shows
REPORTED = ("loss", "reconstruction_loss", "kl_loss")


class Terms(NamedTuple):
    """A loss and its two parts, one number per member: loss = reconstruction + beta * kl.

    The penalty is what training minimises beside the loss: the scales' negative
    log-prior, per row.
    """

    loss: Tensor
    reconstruction_loss: Tensor
    kl_loss: Tensor
    penalty: Tensor

    @property
    def to_minimise(self) -> Tensor:
        """Loss and penalty together: (M,)."""
        return self.loss + self.penalty

    def reported(self) -> Tensor:
        """Stack what ``REPORTED`` names, without its graph: (3, M)."""
        return torch.stack([self.loss, self.reconstruction_loss, self.kl_loss]).detach()


class Loss(Protocol):
    """What a trainer asks of its objective."""

    n_draws: int
    """Draws of z per row that make one value; others are averaged over."""

    def keep(self, members: Tensor) -> None:
        """Go on with these members only."""

    def __call__(
        self,
        model: VAE,
        x: Tensor,
        weight: Tensor | None,
        noise: Tensor,
        beta: float | Tensor,
        shown: Tensor | None = None,
    ) -> Terms:
        """Compute the terms of one batch."""


class ELBO:
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


class TrimmedELBO(ELBO):
    """Negative evidence lower bound of those rows of a batch that it explains best.

    Rows that were let in by mistake are mostly among the others, and the model does not
    learn them.

    Parameters
    ----------
    share : float
        Share of each batch that is left out.
    free_bits, prior_rows : float or Tensor of shape (M,), default=0.0
        As for :class:`ELBO`.

    References
    ----------
    .. [1] P. J. Rousseeuw, "Least Median of Squares Regression", Journal of the American
       Statistical Association 79, 1984, for trimmed sums.
    """

    def __init__(
        self, share: float, free_bits: float | Tensor = 0.0, prior_rows: float | Tensor = 0.0
    ):
        super().__init__(free_bits, prior_rows)
        self.share = share

    def weigh(
        self, log_prob: Tensor, kl: Tensor, beta: float | Tensor, weight: Tensor | None
    ) -> Tensor:
        """Leave the rows with the largest losses out; the others count the more."""
        beta = torch.as_tensor(beta, dtype=kl.dtype, device=kl.device).view(-1, 1)
        row_loss = (beta * kl.sum(-1) - log_prob).detach()  # (M, B)
        n_rows = row_loss.shape[1]
        n_kept = max(math.ceil((1 - self.share) * n_rows), 1)
        best = row_loss.topk(n_kept, dim=1, largest=False).indices
        kept = torch.zeros_like(row_loss).scatter_(1, best, n_rows / n_kept)
        return kept if weight is None else kept * weight


class ImportanceWeighted:
    """Negative importance-weighted bound on log p(x).

    Its parts are those of the draws with their importance weights: the
    ``reconstruction_loss`` is minus the weighted mean of log p(x|z), and the ``kl_loss``
    is the rest. With one draw these are the ELBO's, and with many they tend to the exact
    posterior's: -log p(x|z) on average over p(z|x), and the KL of p(z|x) from the prior.

    Parameters
    ----------
    n_draws : int, default=5
        Draws of z in one bound.
    doubly_reparameterized : bool, default=True
        Whether the encoder's gradient is the doubly reparameterised one.
    prior_rows : float or Tensor of shape (M,), default=0.0
        Imagined rows per row of the table that keep Gaussian scales from collapsing. They
        concern the decoder; the encoder hears nothing of them.
    """

    def __init__(
        self,
        n_draws: int = 5,
        doubly_reparameterized: bool = True,
        prior_rows: float | Tensor = 0.0,
    ):
        self.n_draws = n_draws
        self.doubly_reparameterized = doubly_reparameterized
        self.prior_rows = prior_rows

    def keep(self, members: Tensor) -> None:
        """Go on with these members only."""
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
            Standard normal draws, K a multiple of ``n_draws``: the bounds of K / n_draws
            sets of draws are averaged.
        beta : float or Tensor of shape (M,)
            Must be 1: the bound has no KL of its own that could be weighed.
        shown : Tensor of shape (M, B, n_columns), optional
            What the encoder sees of the rows; by default the rows themselves.
        """
        draws = model.log_weights(x, noise, path_only=self.doubly_reparameterized, shown=shown)
        log_weight = self._sets(draws.log_weight)
        log_share = log_weight.detach().log_softmax(2)
        share = log_share.exp()
        if self.doubly_reparameterized and draws.z.requires_grad:
            by_draw = share.flatten(1, 2).unsqueeze(-1)  # (M, K, B, 1)
            # a second factor for what goes through z: the shares squared
            draws.z.register_hook(lambda grad: grad * by_draw)
        bound = log_mean_exp(log_weight, 2).mean(1)  # (M, B)
        log_prob = (share * self._sets(draws.log_prob)).sum(2).mean(1)
        # log of the density that the shares give to a draw, over p(z)
        log_ratio = log_share + math.log(self.n_draws) - self._sets(draws.log_ratio)
        kl = (share * log_ratio).sum(2).mean(1)
        log_prior = self._log_prior(model, draws.z, x)
        if weight is not None:
            bound, log_prior = bound * weight, log_prior * weight
            log_prob, kl = log_prob * weight, kl * weight
        penalty = -self.prior_rows * log_prior.mean(1)
        return Terms(-bound.mean(1), -log_prob.mean(1), kl.mean(1), penalty)  # (M, B) -> (M,)

    def _sets(self, by_draw: Tensor) -> Tensor:
        """Divide draws into sets, of which each makes a bound: (M, K, B) -> (M, K / k, k, B)."""
        return by_draw.unflatten(1, (-1, self.n_draws))

    def _log_prior(self, model: VAE, z: Tensor, x: Tensor) -> Tensor:
        """Log-prior of the scales at one draw of each set: (M, K, B, l) -> (M, B)."""
        if not isinstance(self.prior_rows, Tensor) and not self.prior_rows:
            return z.new_zeros(z.shape[0], z.shape[2])
        return model.log_scale_prior(z.detach()[:, :: self.n_draws], x).mean(1)


class Objective(Protocol):
    """What a user asks to be maximised: it makes the loss of a fleet."""

    @property
    def n_draws(self) -> int:
        """Draws of z per row that make one value."""

    def loss(self, free_bits: float | Tensor, prior_rows: float | Tensor) -> Loss:
        """Make the loss, for numbers that each member has."""


@dataclass(frozen=True)
class Evidence:
    """The evidence lower bound, which ``objective="elbo"`` stands for."""

    n_draws: int = field(default=1, init=False)

    def loss(self, free_bits: float | Tensor, prior_rows: float | Tensor) -> ELBO:
        """Make the loss, for numbers that each member has."""
        return ELBO(free_bits, prior_rows)


@dataclass(frozen=True)
class Trimmed:
    """The evidence lower bound of the rows of each batch that it explains best.

    Parameters
    ----------
    share : float, default=0.3
        Share of each batch that is left out.

    Raises
    ------
    ValueError
        If ``share`` is not a number of at least 0 and less than 1.

    References
    ----------
    .. [1] P. J. Rousseeuw, "Least Median of Squares Regression", Journal of the American
       Statistical Association 79, 1984, for trimmed sums.

    Examples
    --------
    >>> from sklearn_vae import Trimmed
    >>> Trimmed(share=0.2)
    Trimmed(share=0.2)
    """

    share: float = 0.3
    n_draws: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.share, Real) or not 0 <= float(self.share) < 1:
            raise ValueError(
                f"The 'share' parameter of Trimmed must be a number of at least 0 and less than 1. "
                f"Got {self.share!r} instead."
            )

    def loss(self, free_bits: float | Tensor, prior_rows: float | Tensor) -> TrimmedELBO:
        """Make the loss, for numbers that each member has."""
        return TrimmedELBO(self.share, free_bits, prior_rows)


@dataclass(frozen=True)
class IWAE:
    r"""The importance-weighted bound, for training.

    .. math::
        E_{z_1 \ldots z_k \sim q(z|x)} \log \frac{1}{k} \sum_{i=1}^k
        \frac{p(x|z_i) \, p(z_i)}{q(z_i|x)}

    With one draw it is the evidence lower bound, and with more it lies nearer to
    log p(x). A step takes about ``n_draws`` times as long.

    Parameters
    ----------
    n_draws : int, default=5
        Draws of z per row in each step.
    doubly_reparameterized : bool, default=True
        Whether the encoder's gradient is the doubly reparameterised one. Both are
        unbiased, but beside a good encoder the plain one has the more noise the more
        draws there are.

    Raises
    ------
    ValueError
        If ``n_draws`` is not an integer >= 1 or ``doubly_reparameterized`` not a bool.

    References
    ----------
    .. [1] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance Weighted
       Autoencoders", ICLR 2016.
    .. [2] G. Tucker, D. Lawson, S. Gu and C. J. Maddison, "Doubly Reparameterized
       Gradient Estimators for Monte Carlo Objectives", ICLR 2019.

    Examples
    --------
    >>> from sklearn_vae import IWAE
    >>> IWAE(n_draws=10)
    IWAE(n_draws=10, doubly_reparameterized=True)
    """

    n_draws: int = 5
    doubly_reparameterized: bool = True

    def __post_init__(self) -> None:
        is_number = isinstance(self.n_draws, Integral) and not isinstance(self.n_draws, bool)
        if not is_number or self.n_draws < 1:
            raise ValueError(
                f"The 'n_draws' parameter of IWAE must be an integer >= 1. "
                f"Got {self.n_draws!r} instead."
            )
        if not isinstance(self.doubly_reparameterized, bool):
            raise ValueError(
                f"The 'doubly_reparameterized' parameter of IWAE must be True or False. "
                f"Got {self.doubly_reparameterized!r} instead."
            )

    def loss(self, free_bits: float | Tensor, prior_rows: float | Tensor) -> ImportanceWeighted:
        """Make the loss, for numbers that each member has; it has no free bits."""
        return ImportanceWeighted(self.n_draws, self.doubly_reparameterized, prior_rows)


OBJECTIVES: dict[str, Objective] = {"elbo": Evidence(), "iwae": IWAE()}


@dataclass(frozen=True)
class WarmUp:
    """Weight of the KL that rises in a straight line and then stays.

    Parameters
    ----------
    beta : float, default=1.0
        Where it ends.
    n_iter : int, default=10
        Iterations until it gets there; the first one starts at beta / n_iter. Training
        of fewer iterations does not get there. The single iteration of a small table
        (``early_stopping="auto"``) has the weight of iteration ``max_iter``.

    Examples
    --------
    >>> from sklearn_vae import WarmUp
    >>> [WarmUp(beta=2.0, n_iter=4)(iteration) for iteration in range(6)]
    [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]

    References
    ----------
    .. [1] S. R. Bowman et al., "Generating Sentences from a Continuous Space",
       CoNLL 2016.
    """

    beta: float = 1.0
    n_iter: int = 10

    def __post_init__(self) -> None:
        if not _is_weight(self.beta):
            raise ValueError(
                f"The 'beta' parameter of WarmUp must be a finite number >= 0. "
                f"Got {self.beta!r} instead."
            )
        if not isinstance(self.n_iter, Integral) or self.n_iter < 1:
            raise ValueError(
                f"The 'n_iter' parameter of WarmUp must be an integer >= 1. "
                f"Got {self.n_iter!r} instead."
            )

    def __call__(self, iteration: int) -> float:
        """Weight in the iteration of this number, counted from 0."""
        return self.beta * min((iteration + 1) / self.n_iter, 1.0)


@dataclass(frozen=True)
class Constant:
    """Weight of the KL that stays what it is."""

    beta: float

    def __call__(self, iteration: int) -> float:
        """Weight in the iteration of this number, counted from 0."""
        return self.beta


@dataclass(frozen=True)
class Checked:
    """A user's schedule, whose every value is looked at before it is used."""

    schedule: Callable[[int], Any]

    def __call__(self, iteration: int) -> float:
        """Weight in the iteration of this number, counted from 0."""
        asked = (
            f"The 'beta' parameter must be a finite number >= 0, or a function of the iteration "
            f"that gives one. Got {self.schedule!r}, which"
        )
        try:
            beta = self.schedule(iteration)
        except TypeError as error:
            raise ValueError(f"{asked} failed in iteration {iteration}: {error}") from error
        if not _is_weight(beta):
            raise ValueError(f"{asked} gave {beta!r} in iteration {iteration}.")
        return float(beta)


def _is_weight(value: Any) -> bool:
    """Whether a value can weigh the KL."""
    return isinstance(value, Real) and 0 <= float(value) < math.inf
