"""Shapes of a ``MixtureVAE``, and the mixture as which it is initialized."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch

from sklearn_vae.likelihoods import Columnwise, Gaussian
from sklearn_vae.model_constants import LOG_SCALE_BOUND
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.networks import unbounded
from sklearn_vae.persistence.registry import serializable


@serializable
@dataclass(frozen=True)
class MixtureArchitecture(Architecture):
    """Everything that decides the shapes of a ``MixtureVAE``'s parameters.

    Attributes
    ----------
    n_mixture : int, default=1
        Components of the mixture.
    covariance_type : {"full", "diag"}, default="full"
        Their covariances.
    n_shears : int, default=0
        Learned triangular matrices of which each residual covariance is composed.
    steps : tuple of float, default=()
        Recording steps of the columns, which bound their scales from below: 0 for columns without
        a scale, and empty for none at all.
    has_missing : bool, default=False
        Whether the encoder's input also has the mask of missing values.
    """

    n_mixture: int = 1
    covariance_type: str = "full"
    n_shears: int = 0
    steps: tuple[float, ...] = ()
    has_missing: bool = False

    def check_sizes(self, weights: Sequence[int]) -> None:
        """Check sizes, and that each column has a step or none has.

        Raises
        ------
        ValueError
            If arrays of such sizes cannot be its weights, or steps are none.
        """
        super().check_sizes(weights)
        n_values = sum(n for _, n in self.blocks)
        are_steps = all(0 <= step < math.inf for step in self.steps)
        if len(self.steps) not in (0, n_values) or not are_steps:
            raise ValueError("'steps' must be those of the columns, and not below 0")

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
        """Smallest scale of each column of X, given those before it: (n,).

        A normal density of this scale is nowhere above 1 per step, so that a recorded value
        gets no more of it than a probability can be.
        """
        return np.array(self.steps or np.zeros(len(self.is_real_value))) / math.sqrt(2 * math.pi)

    @cached_property
    def least_params(self) -> np.ndarray:
        """Smallest parameters of the other columns, -inf for all but scales: (n_params,)."""
        others, params = self.others, np.full(self.others.n_params, -math.inf)
        has_scale = [part.scale_param is not None for part, n in others.blocks for _ in range(n)]
        least = self.least_scales[~self.is_real_value][np.array(has_scale, dtype=bool)]
        scale = torch.as_tensor(least)
        raw = torch.where(scale > 0, unbounded(scale.log(), LOG_SCALE_BOUND), -math.inf)
        params[others.is_scale_param] = raw.numpy()
        return params

    @cached_property
    def n_noise(self) -> int:
        """Standard normal numbers per draw: one per latent dimension, one for the component."""
        return self.n_components + 1

    @cached_property
    def widest(self) -> int:
        """Numbers per row and draw at the most."""
        n_real = int(self.is_normal.sum())
        return max(*self.hidden_layer_sizes, n_real * max(self.n_shears, 1), self.n_columns, 1)

    @cached_property
    def n_inputs(self) -> int:
        """Width of the encoder's input."""
        return self.n_columns * (1 + self.has_missing)

    @cached_property
    def n_products(self) -> int:
        """Multiplications in encoder and decoder per row, roughly."""
        n_columns, hidden = self.n_columns, self.hidden_layer_sizes
        encoder = pairwise([self.n_inputs, *hidden, 2 * self.n_components])
        decoder = pairwise([self.n_components + self.n_mixture, *hidden, 2 * n_columns])
        return sum(a * b for a, b in [*encoder, *decoder])


@dataclass(frozen=True)
class MixtureInit:
    """Initial mixture: Gaussian in the real columns, independent in the others."""

    weight: np.ndarray  # (C,)
    loc: np.ndarray  # (C, d)
    whiten: np.ndarray  # (C, d, d), lower triangular, or (C, d): the precision's root
    params: np.ndarray  # (C, n_params), of the other columns

    def padded(self, n_mixture: int, covariance_type: str) -> "MixtureInit":
        """Add components of weight 0, and turn variances into covariances if needed."""
        more, n_real = n_mixture - len(self.weight), self.loc.shape[1]
        is_full, whiten = covariance_type == "full", self.whiten
        one = np.eye(n_real) if is_full else np.ones(n_real)
        if is_full and whiten.ndim == 2:
            whiten = whiten[:, None, :] * one
        return MixtureInit(
            np.pad(self.weight, (0, more)),
            np.pad(self.loc, [(0, more), (0, 0)]),
            np.concatenate([whiten, np.tile(one, (more, *one.ndim * [1]))]),
            np.pad(self.params, [(0, more), (0, 0)]),
        )
