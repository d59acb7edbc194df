"""The evidence lower bound with one more term, which asks something of the codes."""

from abc import abstractmethod

from torch import Tensor

from sklearn_vae.models.vae import VAE
from sklearn_vae.objectives.base import Terms
from sklearn_vae.objectives.elbo import ELBOLoss


class PenalizedELBO(ELBOLoss):
    """Negative evidence lower bound plus a weight times one more term.

    The weight beta of the KL stays what it is in the bound alone.

    Parameters
    ----------
    weight : float
        What the term counts.
    free_bits, prior_rows : float or Tensor of shape (M,), default=0.0
        As for :class:`ELBOLoss`.
    """

    def __init__(
        self, weight: float, free_bits: float | Tensor = 0.0, prior_rows: float | Tensor = 0.0
    ):
        super().__init__(free_bits, prior_rows)
        self.weight = weight

    def __call__(
        self,
        model: VAE,
        x: Tensor,
        weight: Tensor | None,
        noise: Tensor,
        beta: float | Tensor,
        shown: Tensor | None = None,
    ) -> Terms:
        """Compute the terms of one batch, as :class:`ELBOLoss` does, and add one to the loss."""
        terms = super().__call__(model, x, weight, noise, beta, shown)
        added = self.term(model, x if shown is None else shown, weight, noise, terms.kl_loss)
        return terms._replace(loss=terms.loss + self.weight * added)

    @abstractmethod
    def term(
        self, model: VAE, seen: Tensor, weight: Tensor | None, noise: Tensor, kl_loss: Tensor
    ) -> Tensor:
        """Compute the term of one batch: (M,).

        Parameters
        ----------
        model : VAE
            The model.
        seen : Tensor of shape (M, B, n_columns)
            What the encoder sees of the rows.
        weight : Tensor of shape (M, B) or None
            What each row counts, 1 on average over the table.
        noise : Tensor of shape (M or 1, K, B or 1, l)
            Standard normal draws, those of the bound.
        kl_loss : Tensor of shape (M,)
            The bound's KL.
        """
