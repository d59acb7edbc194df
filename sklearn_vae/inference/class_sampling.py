"""Importance sampling of codes that are a class and real numbers, class by class."""

from typing import NamedTuple, cast

import torch
from torch import Tensor

from sklearn_vae.inference.importance_sampling import ImportanceSampler, WeightedCodes
from sklearn_vae.inference.laplace import Target


class ClassTarget(NamedTuple):
    """p(x, z) as a function of z's real numbers, its classes fixed: a row per row and class.

    Attributes
    ----------
    target : Target
        p(x, z) of as many rows as a function of the whole code.
    classes : Tensor of shape (N, width)
        One-hot codes of the classes.
    """

    target: Target
    classes: Tensor

    def codes(self, z: Tensor) -> Tensor:
        """Classes and numbers side by side: (M, K, N or 1, l') -> (M, K, N, width + l')."""
        n_rows = len(self.classes)
        classes = self.classes.expand(*z.shape[:2], n_rows, -1)
        return torch.cat([classes, z.expand(-1, -1, n_rows, -1)], dim=-1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(x, z) in nats of numbers: (M, K, N or 1, l') -> (M, K, N)."""
        return self.target.log_prob(self.codes(z))

    def gradient(self, z: Tensor) -> Tensor:
        """Gradient of log p(x, z) in the numbers: (M, K, N, l') -> (M, K, N, l')."""
        return self.target.gradient(self.codes(z))[..., self.classes.shape[1] :]

    def select(self, rows: Tensor) -> "ClassTarget":
        """Index-select the rows."""
        return ClassTarget(self.target.select(rows), self.classes.index_select(0, rows))


class ClassSampler:
    """Codes drawn separately for each class: p(x) is the sum over classes.

    Parameters
    ----------
    sampler : ImportanceSampler
        Of a ``ClassTarget``, whose first rows are all classes of the first row.
    n_classes : int
        Number of classes.

    Attributes
    ----------
    z : Tensor of shape (M, K, B, l)
        The codes of all classes.
    log_weight : Tensor of shape (M, K, B)
        Logarithms of weights whose sum is an estimate of p(x).
    """

    def __init__(self, sampler: ImportanceSampler, n_classes: int):
        self.n_classes = n_classes
        target = cast(ClassTarget, sampler.target)
        self._codes = WeightedCodes(target.codes(sampler.z), sampler.log_weight)
        self._log_evidence = sampler.log_evidence()

    def replace(self, rows: Tensor, sampler: ImportanceSampler) -> None:
        """Replace the draws of pairs of row and class, by index."""
        z = cast(ClassTarget, sampler.target).codes(sampler.z)
        self._codes = self._codes.replaced(rows, z, sampler.log_weight)
        self._log_evidence[:, rows] = sampler.log_evidence()

    @property
    def z(self) -> Tensor:
        """The codes: (M, K, B, l)."""
        return self._by_row(self._codes.z)

    @property
    def log_weight(self) -> Tensor:
        """Logarithms of weights whose sum is an estimate of p(x): (M, K, B)."""
        return self._by_row(self._codes.log_weight)

    def _by_row(self, values: Tensor) -> Tensor:
        """Join the draws of all classes of a row: (M, K, B C, ...) -> (M, C K, B, ...)."""
        return values.unflatten(2, (-1, self.n_classes)).movedim(3, 2).flatten(1, 2)

    def log_evidence(self) -> Tensor:
        """Log of the estimate of p(x) in nats: (M, B)."""
        return self._log_evidence.unflatten(1, (-1, self.n_classes)).logsumexp(-1)
