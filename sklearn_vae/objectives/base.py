"""What every loss answers to, and every value that a user asks for one with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.models.vae import VAE

# the terms that a history shows
REPORTED = ("loss", "reconstruction_loss", "kl_loss")


class Terms(NamedTuple):
    """A loss and its parts, one number per member.

    loss = reconstruction + beta * kl, and what the objective adds to the bound, if it
    does. The penalty is what training minimises beside the loss: the scales' negative
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
    headroom: float = 0.0
    """How far above the last iteration's an earlier one's loss may lie, in nats."""
    compares_rows: bool = False
    """Whether it is more than a mean over rows, so that a batch should be a fair sample."""
    n_rows: int | None = None
    """Rows of the table that batches are drawn from; None where a batch is all there is."""

    @contextmanager
    def in_iteration(self, iteration: int, last: np.ndarray) -> Iterator[np.ndarray | bool]:
        """Be what it is in one iteration of training; outside, it is what it comes to.

        Parameters
        ----------
        iteration : int
            Number of the iteration, counted from 0.
        last : ndarray of shape (M,)
            Number of each member's last iteration, if it has all that it may have.

        Yields
        ------
        ndarray of shape (M,) or bool
            Which members' loss has not come to that yet.
        """
        yield False

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


class Objective(Protocol):
    """What a user asks to be maximised: it makes the loss of a fleet."""

    @property
    def n_draws(self) -> int:
        """Draws of z per row that make one value."""

    def loss(self, free_bits: float | Tensor, prior_rows: float | Tensor) -> Loss:
        """Make the loss, for numbers that each member has."""
