"""A KL that is held at so many nats, of which there are more and more."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.models.vae import VAE
from sklearn_vae.objectives.penalized import PenalizedELBO
from sklearn_vae.persistence.validation import check_number


class CapacityELBOLoss(PenalizedELBO):
    """Negative evidence lower bound plus a weight times the KL's distance from a capacity.

    Parameters
    ----------
    weight, nats, n_iter : float, float, int
        As for :class:`CapacityELBO`.
    prior_rows : float or Tensor of shape (M,), default=0.0
        As for :class:`ELBOLoss`.
    """

    def __init__(self, weight: float, nats: float, n_iter: int, prior_rows: float | Tensor = 0.0):
        super().__init__(weight, 0.0, prior_rows)
        self.nats, self.n_iter = nats, n_iter
        # a KL at the final capacity is farther from no earlier one than this
        self.headroom = weight * nats
        self._grown: np.ndarray = np.ones(1)  # shares of the capacity that are there: (M or 1,)

    @contextmanager
    def in_iteration(self, iteration: int, last: np.ndarray) -> Iterator[np.ndarray | bool]:
        """Have the capacity of one iteration; the last one at the latest has all of it."""
        self._grown = np.minimum((iteration + 1) / np.minimum(self.n_iter, last + 1), 1.0)
        try:
            yield self._grown < 1
        finally:
            self._grown = np.ones(1)

    def term(
        self, model: VAE, seen: Tensor, weight: Tensor | None, noise: Tensor, kl_loss: Tensor
    ) -> Tensor:
        """Distance in nats of the batch's KL from the capacity: (M,)."""
        return (kl_loss - self.nats * torch.as_tensor(self._grown).to(kl_loss)).abs()


@dataclass(frozen=True)
class CapacityELBO:
    r"""The bound minus a weight times the distance of the KL from a capacity that grows.

    .. math::
        E_{q(z|x)}[\log p(x|z)] - \beta \, KL(q(z|x) \,\|\, p(z))
        - \gamma \, \bigl| KL(q(z|x) \,\|\, p(z)) - C_t \bigr|

    The KL is that of a batch on average, and the capacity C grows in a straight line. At
    first a code can say little and says what pays most; what pays less is added as the
    capacity allows, often in dimensions of its own [1]_. The paper's objective is
    ``beta=0``; where the KL is at the capacity, the term of
    ``beta`` is a constant anyway.

    Parameters
    ----------
    capacity : float, default=10.0
        Capacity C in nats at the end of its growth. A capacity below the KL of a fit by the
        ELBO (``kl_loss`` in its history) limits the codes; one above adds information that
        does not improve the reconstruction.
    gamma : float, default=30.0
        Weight of a nat of distance. It must be more than a nat of KL is worth to the
        reconstruction, or the KL stays below the capacity.
    n_iter : int, default=20
        Iterations until the capacity is there; the first one has capacity / n_iter. Training
        of fewer iterations gets there in its last one, and ``partial_fit`` is always there.

    Raises
    ------
    ValueError
        If ``capacity`` or ``gamma`` is not a finite number >= 0, or ``n_iter`` not an
        integer >= 1.

    References
    ----------
    .. [1] C. P. Burgess et al., "Understanding Disentangling in beta-VAE",
       arXiv:1804.03599, 2018.

    Examples
    --------
    >>> from sklearn_vae.objectives import CapacityELBO
    >>> CapacityELBO(capacity=5.0)
    CapacityELBO(capacity=5.0, gamma=30.0, n_iter=20)
    """

    capacity: float = 10.0
    gamma: float = 30.0
    n_iter: int = 20
    n_draws: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        check_number(self, "capacity", self.capacity)
        check_number(self, "gamma", self.gamma)
        is_number = isinstance(self.n_iter, Integral) and not isinstance(self.n_iter, bool)
        if not is_number or self.n_iter < 1:
            raise ValueError(
                f"The 'n_iter' parameter of CapacityELBO must be an integer >= 1. "
                f"Got {self.n_iter!r} instead."
            )

    def loss(self, free_bits: float | Tensor, prior_rows: float | Tensor) -> CapacityELBOLoss:
        """Make the loss, for numbers that each member has; it has no free bits."""
        return CapacityELBOLoss(self.gamma, self.capacity, self.n_iter, prior_rows)
