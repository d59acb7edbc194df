"""Everything that decides the shapes of a model's weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sklearn_vae.likelihoods import Columnwise, Gaussian, Likelihood
from sklearn_vae.likelihoods.columnwise import STEPS_PER_SCALE
from sklearn_vae.networks import FullyConnected, Layout, Network
from sklearn_vae.numerics.array_api import Array, as_type, concatenate, namespace
from sklearn_vae.numerics.random import MAX_DIMS
from sklearn_vae.persistence.validation import serializable
from sklearn_vae.posteriors import POSTERIORS, Posterior
from sklearn_vae.priors import PRIORS, Prior

# The encoder's input is clipped at so many standard deviations: otherwise a pixel that is inked in
# one row of thousands would dominate the codes. The likelihood takes the values as they are.
INPUT_CLIP = 5.0


@serializable
@dataclass(frozen=True)
class Architecture(Layout):
    """Everything that decides the shapes of a model's weights."""

    # likelihoods of the columns of x, in order, and the number of columns of each
    blocks: tuple[tuple[Likelihood, int], ...]
    prior: Prior = PRIORS["normal"]  # p(z)
    network: Network = field(default_factory=FullyConnected)  # encoder and decoder
    posterior: Posterior = POSTERIORS["gaussian"]  # q(z|x)

    def check_sizes(self, weights: Sequence[int]) -> None:
        """Check that arrays of these sizes can be its parameters, before the model is built."""
        sizes = [self.n_components, *self.hidden_layer_sizes]
        counts = [n for _, n in self.blocks]  # one of 0 columns where all are constant
        for likelihood, n in self.blocks:
            sizes += likelihood.width, *likelihood.param_sizes
            counts += n * likelihood.width, *(n * size for size in likelihood.param_sizes)
        n_layers = max(len(self.hidden_layer_sizes), len(getattr(self.network, "channels", ())))
        n_weights = sum(weights)
        is_larger = max(*counts, *sizes, self.n_columns) > n_weights or n_layers > len(weights)
        if min(sizes) < 1 or min(counts) < 0 or is_larger:
            raise ValueError(f"{n_weights} weights cannot have the architecture's shapes")
        if self.n_components > MAX_DIMS or not self.posterior.fits(self.n_components):
            raise ValueError("the codes do not fit into the latent space")
        if self.prior.n_components == "auto":
            raise ValueError("the number of the prior's components must have been chosen")

    @cached_property
    def is_thread_safe(self) -> bool:
        """True if threads can share a module: in others, ``functional_call`` replaces weights."""
        return type(self.network) is FullyConnected

    @cached_property
    def is_textbook(self) -> bool:
        """True if it is that of the textbook: multilayer perceptrons, and a Gaussian q(z|x)."""
        return type(self.network) is FullyConnected and not self.posterior.n_variables

    @cached_property
    def is_normal(self) -> np.ndarray:
        """Mask of the columns of x with a normal or log-normal distribution: (n_columns,)."""
        return self.columns_of(Gaussian)

    def columns_of(self, kind: type) -> np.ndarray:
        """Mask of the columns of x with a likelihood of this class: (n_columns,)."""
        masks = [np.full(n * each.width, isinstance(each, kind)) for each, n in self.blocks]
        return np.concatenate([np.zeros(0, dtype=bool), *masks])

    @cached_property
    def is_number(self) -> np.ndarray:
        """Mask of the normal numbers of x, those beside point masses among them: (n_columns,)."""
        return Columnwise(self.blocks).has_density(np.zeros(self.n_columns))

    @cached_property
    def n_noise(self) -> int:
        """Standard normal numbers per draw of z."""
        return self.n_components

    @property
    def n_codes(self) -> int:
        """Number of codes, of which a score is a sum; 0 of real numbers."""
        n_variables = self.posterior.n_variables
        return (self.n_components // n_variables) ** n_variables if n_variables else 0

    @property
    def variable_length(self) -> bool:
        """True if the encoder learns from rows of variable length, NaN behind their end."""
        return self.network.row_structure.n_steps is not None

    @cached_property
    def n_columns(self) -> int:
        """Columns of x."""
        return sum(n * likelihood.width for likelihood, n in self.blocks)

    @cached_property
    def inputs(self) -> np.ndarray:
        """Indices of the columns of x that the encoder reads: (n_inputs,)."""
        return Columnwise(self.blocks).inputs

    @cached_property
    def n_posterior_params(self) -> int:
        """Parameters of q(z|x), which are the encoder's outputs."""
        return self.posterior.n_params(self.n_components)

    @cached_property
    def widest(self) -> int:
        """Width of the widest layer."""
        widths = [width for width, _ in self.network.layers(self)]
        return max(*widths, self.n_columns, self.prior.n_components, 1)

    @cached_property
    def n_products(self) -> int:
        """Multiplications in encoder and decoder per row, roughly."""
        return 2 * sum(n_products for _, n_products in self.network.layers(self))


@serializable
@dataclass(frozen=True)
class MixtureArchitecture(Architecture):
    """Everything that decides the shapes of a ``MixtureVAE``'s parameters."""

    n_mixture: int = 1  # components of the mixture
    covariance_type: str = "full"  # theirs: "full" or "diag"
    n_shears: int = 0  # learned triangular matrices of which each residual covariance is composed
    # recording steps of the columns, which bound their scales: 0 without a scale, empty for none
    steps: tuple[float, ...] = ()
    has_missing: bool = False  # whether the encoder's input also has the mask of missing values

    def check_sizes(self, weights: Sequence[int]) -> None:
        """Check sizes, and that each column has a step or none has."""
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

    def encoder_input(self, x: Array) -> Array:
        """Clip rows, replace missing values by 0 and append their mask: (..., n_inputs)."""
        xp = namespace(x)
        filled = xp.nan_to_num(x.clip(-INPUT_CLIP, INPUT_CLIP))
        return concatenate([filled, as_type(xp.isnan(x), x)]) if self.has_missing else filled

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
        return np.broadcast_to(self.steps or 0.0, self.is_real_value.shape) / STEPS_PER_SCALE

    @cached_property
    def least_params(self) -> np.ndarray:
        """Smallest parameters of the other columns: (n_params,)."""
        return self.others.least_params(self.least_scales[~self.is_real_value])

    @cached_property
    def output_sizes(self) -> list[int]:
        """Numbers of the decoder's shifts, scales, weights of shears, and other parameters."""
        n_real = int(self.is_normal.sum())
        return [n_real, n_real, self.n_shears, self.others.n_params]

    @property
    def n_encoded(self) -> int:
        """Numbers of an encoded row, all of which the encoder reads."""
        return self.n_columns

    @property
    def decoder_sizes(self) -> tuple[int, int]:
        """Widths of the decoder's input, a code and a one-hot component, and of its output."""
        return self.n_components + self.n_mixture, sum(self.output_sizes)

    @cached_property
    def n_noise(self) -> int:
        """Standard normal numbers per draw: one per latent dimension, one for the component."""
        return self.n_components + 1

    @cached_property
    def widest(self) -> int:
        """Numbers per row and draw at the most."""
        n_real = int(self.is_normal.sum())
        return max(*self.hidden_layer_sizes, n_real * max(self.n_shears, 1), self.n_columns, 1)


@dataclass(frozen=True)
class MixtureInit:
    """Initial mixture: Gaussian in the real columns, independent in the others."""

    weight: np.ndarray  # (C,)
    loc: np.ndarray  # (C, d)
    whiten: np.ndarray  # (C, d, d), lower triangular, or (C, d): the precision's root
    params: np.ndarray  # (C, n_params), of the other columns
    min_log_scale: np.ndarray  # (C,), of the real columns in the component's coordinates
    dependence: "Dependence | None" = None  # of a single component


@dataclass(frozen=True)
class Dependence:
    """Dependence of the other columns of a component on r latent dimensions, as real ones may.

    With standard normal z, real columns are ``z @ loadings + residual`` in the coordinates in which
    they are standard normal, and parameters of the others ``params + at_zero + z @ slopes``. Of a
    row of real columns and others, z has about the mean ``code + row @ coef``.
    """

    loadings: np.ndarray  # (r, d): its rows are orthogonal
    slopes: np.ndarray  # (r, n_params)
    at_zero: np.ndarray  # (n_params,)
    coef: np.ndarray  # (n_columns, r)
    code: np.ndarray  # (r,)
    scale: np.ndarray  # (r,), standard deviations of z given a row
