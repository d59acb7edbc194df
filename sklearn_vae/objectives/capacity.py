"""Capacity annealing: the KL is held at a number of nats that grows during training."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sklearn_vae.models.vae import VAE
from sklearn_vae.objectives.base import LossState, Minibatch
from sklearn_vae.objectives.elbo import PenalizedELBO
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_integer, check_number
from sklearn_vae.requirements import no_free_bits


@serializable
@dataclass(frozen=True)
class CapacityELBO(PenalizedELBO):
    r"""The ELBO minus a weight times the distance of the KL from a capacity that grows.

    .. math::
        E_{q(z|x)}[\log p(x|z)] - \beta \, KL(q(z|x) \,\|\, p(z))
        - \gamma \, \bigl| KL(q(z|x) \,\|\, p(z)) - C_t \bigr|

    The KL is the batch's mean, and the capacity :math:`C_t` grows linearly. At first the codes
    hold the information that improves the reconstruction most; the capacity then adds the rest,
    often in further dimensions [1]_. The paper's objective has ``beta=0``; where the KL is at the
    capacity, the term of ``beta`` is a constant anyway.

    Parameters
    ----------
    capacity : float, default=10.0
        Capacity C in nats at the end of its growth. A capacity below the KL of a fit by the
        ELBO (``kl_loss`` in its history) limits the codes; one above adds information that
        does not improve the reconstruction.
    gamma : float, default=30.0
        Weight of a nat of distance. It must be more than a nat of KL improves the
        reconstruction, or the KL stays below the capacity.
    n_iter : int, default=20
        Iterations of growth; the first one has capacity / n_iter. Training of fewer
        iterations reaches the capacity in its last one, and ``partial_fit`` always has it.

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

    requirements = (no_free_bits("which itself determines the KL"),)

    capacity: float = 10.0
    gamma: float = 30.0
    n_iter: int = 20

    def __post_init__(self) -> None:
        check_number(self, "capacity", self.capacity)
        check_number(self, "gamma", self.gamma)
        check_integer(self, "n_iter", self.n_iter)

    @property
    def annealing_gap(self) -> float:
        """Largest penalty of a KL below the capacity, in nats."""
        return self.gamma * self.capacity

    def annealing(self, iteration: int, last: np.ndarray) -> np.ndarray:
        """Fraction of the capacity in an iteration; 1 in the last one at the latest: (M,)."""
        return np.minimum((iteration + 1) / np.minimum(self.n_iter, last + 1), 1.0)

    def penalty(
        self, model: VAE, q: Tensor, batch: Minibatch, state: LossState, kl_loss: Tensor
    ) -> Tensor:
        """Weighted distance of the batch's KL from the capacity: (M,)."""
        return self.gamma * (kl_loss - self.capacity * state.annealing).abs()
