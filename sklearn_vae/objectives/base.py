"""Interface of the objectives, the batch that they are called with, and the terms they return."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sklearn_vae.models.vae import VAE
from sklearn_vae.requirements import Requirement

# the terms that a history records
REPORTED = ("loss", "reconstruction_loss", "kl_loss")


class LossTerms(NamedTuple):
    """A loss and its terms, one number per member: tensors of shape (M,), in nats per row.

    loss = reconstruction_loss + beta * kl_loss + the objective's own penalty, if it has one.
    """

    loss: Tensor
    reconstruction_loss: Tensor
    kl_loss: Tensor

    def stacked(self) -> Tensor:
        """Stack the terms in the order of ``REPORTED``, detached from the graph: (3, M)."""
        return torch.stack(self).detach()


class Minibatch(NamedTuple):
    """Encoded rows of each member, their weights, and the noise for the reparameterization.

    Attributes
    ----------
    x : Tensor of shape (M, B, n_columns)
        Encoded rows.
    weight : Tensor of shape (M, B) or None
        Weights of the rows, 1 on average over the table; None if they are equal.
    noise : Tensor of shape (M or 1, K, B or 1, l)
        Standard normal draws.
    decoder_input : Tensor of shape (M, B, n_columns) or None
        Rows with word dropout, an autoregressive decoder's input in place of ``x``.
    encoder_input : Tensor of shape (M, B, n_inputs) or None
        The encoder's input if missing values were imputed before training.
    n_rows : int or None
        Rows of the table that the batch is drawn from; None if it is the table.
    """

    x: Tensor
    weight: Tensor | None
    noise: Tensor
    decoder_input: Tensor | None = None
    encoder_input: Tensor | None = None
    n_rows: int | None = None


class Objective(ABC):
    """Base class of the objectives: frozen dataclasses that compute the loss of a batch."""

    # Conditions on other parameters of an estimator, checked by sklearn_vae.requirements.
    requirements: ClassVar[Sequence[Requirement]] = ()
    # Whether it supports autoregressive decoders, and relaxed draws of categorical codes, which
    # have no importance weights.
    supports_autoregressive: ClassVar[bool] = False
    supports_relaxed_draws: ClassVar[bool] = False
    # Whether it estimates the aggregated posterior from a batch, which then has to be a random
    # sample of the table.
    uses_aggregated_posterior: ClassVar[bool] = False
    # Number of draws of z per row in one bound; several bounds are averaged.
    n_draws: int = 1
    # KL in nats that each latent dimension has at no cost.
    free_bits: float = 0.0

    @abstractmethod
    def __call__(self, model: VAE, batch: Minibatch, beta: float | Tensor = 1.0) -> LossTerms:
        """Compute the loss of a batch, with weight beta, also (M,), on the KL."""
