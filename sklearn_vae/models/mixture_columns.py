"""Columns of a mixture: normal distributions, bounds of their scales, and standardized rows."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sklearn_vae.likelihoods import Gaussian, Likelihood
from sklearn_vae.likelihoods.columnwise import Columnwise
from sklearn_vae.numerics.array_api import Array
from sklearn_vae.numerics.model_constants import STEPS_PER_SCALE


class Standardized(NamedTuple):
    """Rows as seen by p(x|z, c), for draws of z and c. Features lie before the draws.

    Attributes
    ----------
    standard, log_scale : array of shape (..., d, draws)
        Real columns standardized given those before them, and logarithms of their scales.
    params : array of shape (..., n_params, draws)
        Parameters of the other columns.
    log_det : array of shape (..., draws)
        The rest of the log-determinant.
    """

    standard: Array
    log_scale: Array
    params: Array
    log_det: Array


class MixtureColumns:
    """Mixin of the architectures of mixtures: those of PyTorch's models and of the runtime's.

    Attributes
    ----------
    n_components, hidden_layer_sizes, has_missing
        As of ``Architecture``.
    blocks : sequence of (likelihood, n)
        Likelihoods, and the number of neighbouring columns of each.
    covariance_type : {"full", "diag"}
        Covariances of the components.
    n_shears : int
        Learned triangular matrices of which each residual covariance is composed.
    steps : tuple of float
        Recording steps of the columns, 0 for those without a scale; empty for none at all.
    """

    n_components: int
    hidden_layer_sizes: tuple[int, ...]
    has_missing: bool
    blocks: Sequence[tuple[Likelihood, int]]
    covariance_type: str
    n_shears: int
    steps: tuple[float, ...]

    @cached_property
    def is_real_value(self) -> np.ndarray:
        """Mask of the columns of X that are real numbers with a normal distribution: (n,)."""
        is_normal = [isinstance(likelihood, Gaussian) for likelihood, _ in self.blocks]
        return np.repeat(is_normal, [n for _, n in self.blocks])

    @cached_property
    def is_independent(self) -> bool:
        """True if real columns are independent given the code and the component."""
        return self.covariance_type != "full" and not self.n_shears

    @property
    def others(self) -> Columnwise:
        """Joint likelihood of the other columns."""
        return Columnwise([block for block in self.blocks if not isinstance(block[0], Gaussian)])

    @cached_property
    def least_scales(self) -> np.ndarray:
        """Smallest scale of each column of X, given those before it: (n,)."""
        return np.array(self.steps or np.zeros(len(self.is_real_value))) / STEPS_PER_SCALE

    @cached_property
    def least_params(self) -> np.ndarray:
        """Smallest parameters of the other columns: (n_params,)."""
        others = self.others
        scales = np.repeat(self.least_scales[~self.is_real_value], others.value_widths)
        return others.least_params(scales)
