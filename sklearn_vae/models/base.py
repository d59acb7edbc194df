"""The forward pass of a VAE, of PyTorch's tensors or numpy's arrays; and the VAE of arrays.

Shapes: M members, K draws, B rows, l latent dimensions.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from sklearn_vae.likelihoods.columnwise import Columnwise
from sklearn_vae.models.architecture import INPUT_CLIP, Architecture
from sklearn_vae.networks.perceptron import FittedPerceptron
from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import Array, namespace
from sklearn_vae.numerics.rows import rows_in_cache
from sklearn_vae.priors import Prior, UniformCategorical


class BaseVAE:
    """The forward pass: q(z|x), p(x|z) and p(z), for M ensemble members at once."""

    architecture: Architecture
    posterior: Any  # q(z|x)
    prior: Prior
    likelihood: Columnwise
    encoder: Any  # a network, as is the decoder: (M, rows, n_in) -> (M, rows, n_out)
    decoder: Any
    # imputation of the encoder's input; None for models of complete rows
    filler: Callable[..., Array] | None
    free: Array  # parameters of p(x|z) that no code changes
    least_free: Array  # their least values
    least_outputs: Array  # least values of the decoder's outputs
    prior_weights: Any  # by name
    n_members: Any

    def set_parts(self, architecture: Architecture) -> None:
        """Set what follows from the architecture."""
        self.architecture, self.n_conditions = architecture, architecture.n_conditions
        self.posterior = architecture.posterior
        # of classes, "normal" means equal probabilities
        n_variables = self.posterior.n_variables
        self.prior = UniformCategorical(n_variables) if n_variables else architecture.prior
        # whether p(x|z) depends on the row: by conditions, or by an autoregressive decoder
        is_autoregressive = architecture.network.row_structure.is_autoregressive
        self.decodes_per_row = bool(self.n_conditions) or is_autoregressive
        self.likelihood = Columnwise(architecture.blocks)
        n_columns, inputs = self.likelihood.n_columns, self.likelihood.inputs
        # of rows and conditions, those that the encoder reads; None if it reads all
        self.selected_inputs: Array | None = None
        if len(inputs) < n_columns:
            conditions = np.arange(n_columns, n_columns + self.n_conditions)
            self.selected_inputs = np.append(inputs, conditions)

    @property
    def codes_per_chunk(self) -> int:
        """Codes to decode at a time: the widest layer then fits the cache."""
        return rows_in_cache(self.architecture.widest, self.n_members)

    def encode(self, x: Array) -> Array:
        """Parameters of q(z|x): (M, B, n_columns + n_conditions) -> (M, B, n_params)."""
        return self.encoder(self.encoder_input(x))

    def encoder_input(self, x: Array) -> Array:
        """Clip rows, fill in missing values and append a mask: (M, B, n) -> (M, B, n_inputs)."""
        x = x.clip(-INPUT_CLIP, INPUT_CLIP)
        if self.selected_inputs is not None:
            x = ops.take(x, self.selected_inputs, -1)
        if self.filler is None:
            return x
        n_values = x.shape[-1] - self.n_conditions
        x, conditions = x[..., :n_values], x[..., n_values:]
        observed = ~namespace(x).isnan(x)
        return ops.concatenate([self.filler(x, observed, conditions), observed, conditions])

    def mean_code(self, x: Array) -> Array:
        """Mean of q(z|x), where NaN is a missing value: (M, B, n) -> (M, B, l)."""
        return self.posterior.mean(self.encode(self.fill_missing(x)))

    def posterior_params(self, x: Array) -> tuple[Array, Array]:
        """Location and log-scale of q(z|x): (M, B, n_columns) -> (M, B, l), (M, B, l)."""
        return self.posterior.split(self.encode(x))

    def prior_distribution(self) -> Any:
        """p(z), with ``log_prob`` and ``sample``."""
        return self.prior.distribution(dict(self.prior_weights.items()), self.posterior_params)

    def decode(self, z: Array, x: Array | None = None) -> list[list[Array]]:
        """Parameters of p(x|z): (M, K, B or 1, l) -> arrays (M, K, B or 1, columns of a block).

        Rows x (M, B, n) provide the conditions, and an autoregressive decoder's previous steps.
        """
        xp, inputs, n_columns = namespace(z), [z], self.likelihood.n_columns
        if x is not None and self.decodes_per_row:
            shape = *z.shape[:2], x.shape[1]
            rows = xp.broadcast_to(xp.nan_to_num(x)[:, None], (*shape, x.shape[2]))
            z = xp.broadcast_to(z, (*shape, z.shape[3]))
            inputs = [ops.concatenate([z, rows[..., n_columns:]])]
            if self.decoder.time_steps is not None:
                inputs.append(rows[..., :n_columns])
        flat = (part.reshape(len(z), z.shape[1] * z.shape[2], part.shape[-1]) for part in inputs)
        out = xp.maximum(self.decoder(*flat), self.least_outputs)
        out = out.reshape(*z.shape[:3], out.shape[-1])
        free = xp.maximum(self.free, self.least_free)
        return self.likelihood.split(out, free[:, None])

    def reconstruct(self, z: Array, x: Array | None = None) -> Array:
        """Mean of p(x|z), given the conditions of rows x: (M, B, l) -> (M, B, n_columns)."""
        return self.likelihood.mean(self.decode(z[:, None], self.decoder_rows(z, x)))[:, 0]

    def decoder_rows(self, z: Array, x: Array | None) -> Array | None:
        """Rows of zeros with the conditions of x behind them; None without conditions."""
        if x is None or not self.n_conditions:
            return None
        return ops.pad(x[..., -self.n_conditions :], self.likelihood.n_columns, 0)

    def residuals(self, x: Array) -> Array:
        """Residuals of reconstructions, see ``Columnwise``, 0 if missing: (M, B, n_values)."""
        values, observed = self.likelihood.split_missing(x)
        params = self.decode(self.mean_code(x)[:, None])
        residual = self.likelihood.residual(params, values[:, None])[:, 0]
        return residual if observed is None else residual * observed

    def fill_missing(self, x: Array) -> Array:
        """Replace missing values in the encoder's input by the mean of p(x|z) at the prior's mean.

        Not if there is an imputation layer, which replaces them by conditional means.
        """
        xp = namespace(x)
        if self.filler is not None or not xp.isnan(x).any():
            return x
        n_params = self.architecture.n_posterior_params
        centre = self.posterior.mean(ops.zeros((*x.shape[:2], n_params), x))  # (M, B, l)
        return xp.where(xp.isnan(x), ops.pad(self.reconstruct(centre, x), 0, self.n_conditions), x)


class ArrayVAE(BaseVAE):
    """The VAE of a fitted model's weights by name, of the textbook's networks, with numpy."""

    def __init__(self, architecture: Architecture, weights: Mapping[str, np.ndarray]):
        self.set_parts(architecture)
        n_hidden = len(architecture.hidden_layer_sizes)
        self.encoder, self.decoder = (
            FittedPerceptron(weights, name, n_hidden) for name in ("encoder", "decoder")
        )
        self.free, self.least_free, self.least_outputs = (
            weights[name] for name in ("free", "least_free", "least_outputs")
        )
        self.n_members = len(self.free)
        names = self.prior.param_shapes(architecture.n_components, 0)
        self.prior_weights = {name: weights[f"prior_weights.{name}"] for name in names}
        self.filler = None
        if architecture.n_factors:
            parts = ("loc", "loadings", "precision", "slopes")[: 3 + bool(self.n_conditions)]
            filler = {name: weights[f"filler.{name}"] for name in parts}
            self.filler = partial(ops.impute_by_factors, **filler)
