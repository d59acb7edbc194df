"""The importance-weighted bound."""

import math
from dataclasses import dataclass
from numbers import Integral

from torch import Tensor

from sklearn_vae.models.vae import VAE
from sklearn_vae.objectives.base import Loss, Terms
from sklearn_vae.posteriors import log_mean_exp


class IWAELoss(Loss):
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
        draws = model.log_weights(x, noise, stop_gradient=self.doubly_reparameterized, shown=shown)
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
        return model.log_prior_of_scales(z.detach()[:, :: self.n_draws], x).mean(1)


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
    >>> from sklearn_vae.objectives import IWAE
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

    def loss(self, free_bits: float | Tensor, prior_rows: float | Tensor) -> IWAELoss:
        """Make the loss, for numbers that each member has; it has no free bits."""
        return IWAELoss(self.n_draws, self.doubly_reparameterized, prior_rows)
