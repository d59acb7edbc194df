"""Fitted models that compute with PyTorch, or with numpy where that is faster."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.inference.chunks import map_chunks
from sklearn_vae.inference.conditionals import conditional_log_prob, sample_given_observed
from sklearn_vae.inference.fitted_vae import Backend, FittedModel, FittedVAE
from sklearn_vae.inference.log_density import SCORE_DRAWS, JointDensity
from sklearn_vae.likelihoods import Limits
from sklearn_vae.models.vae import VAE, build
from sklearn_vae.numerics.random import MAX_SEED, Stream, make_generator
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.persistence.validation import check_array, check_integer
from sklearn_vae.system.device import default_modes
from sklearn_vae.system.progress import advance


@default_modes()
def to_tensor(x: np.ndarray, dtype: np.dtype, device: torch.device) -> Tensor:
    """Convert an array to a tensor."""
    return torch.from_numpy(x.astype(dtype, copy=False)).to(device)


@dataclass(frozen=True)
class TorchModel(FittedModel):
    """A fitted model that computes with PyTorch, or with numpy where that is faster."""

    device: torch.device

    def build_module(self, dtype: np.dtype) -> Any:
        """Build the model in PyTorch, in one precision."""
        raise NotImplementedError

    @default_modes()  # its tensors serve other calls, too
    def module(self, dtype: np.dtype) -> Any:
        """Return the model in PyTorch, built at the first call if threads can share it."""
        if not self.architecture.is_thread_safe:
            return self.build_module(dtype)
        return self.keep(np.dtype(dtype).name, partial(self.build_module, dtype))

    def backend(self, X: np.ndarray) -> Backend:
        """Return the model in the library that computes rows: numpy in double precision on CPUs."""
        is_in_numpy = X.dtype == np.float64 and self.device.type == "cpu"
        if not is_in_numpy or not self.architecture.is_textbook:
            return self.in_torch(X.dtype)
        return super().backend(X)._replace(map_chunks=partial(map_chunks, is_thread_safe=True))

    def in_torch(self, dtype: np.dtype, seed: int | None = None) -> Backend:
        """Return the model in PyTorch; with a seed, chunks have generators."""
        is_thread_safe = self.architecture.is_thread_safe and self.device.type == "cpu"
        return Backend(
            self.module(dtype),
            partial(to_tensor, dtype=dtype, device=self.device),
            partial(map_chunks, is_thread_safe=is_thread_safe, seed=seed),
        )

    def limits(self, like: Tensor) -> Limits:
        """Return the limits of samples, as tensors."""
        limits = self.encoder.limits()
        return Limits._make(torch.as_tensor(limit).to(like) for limit in limits)

    def check_arrays(self) -> None:
        """Check the arrays' shapes and dtypes before the model is built."""
        columns, architecture = self.encoder, self.architecture
        for name, value in self.weights.items():
            check_array(name, value, "f", (None,) * np.ndim(value))
        members = {value.shape[:1] for value in self.weights.values()}
        if len(members) != 1 or not min(members) or not self.n_members:
            raise ValueError("the weights are not those of the same members")
        check_integer(self, "seed", self.seed, 0, MAX_SEED)
        architecture.check_sizes([value.size for value in self.weights.values()])
        if architecture.blocks != columns.blocks:
            raise ValueError("the model's columns are not those of the table")
        if architecture.n_conditions != columns.n_conditions:
            raise ValueError("the model's conditions are not those of the table")
        architecture.network.for_n_features(columns.n_features)
        column_indices = architecture.column_indices
        if column_indices and column_indices != tuple(columns.order.tolist()):
            raise ValueError("the model's column indices are not those of the table")
        # without members, no weight takes any memory, whatever the architecture says
        expected = build(architecture, 0).state_dict()
        if expected.keys() != self.weights.keys():
            raise ValueError("the names of the weights are not the architecture's")
        for name, value in self.weights.items():
            if not np.issubdtype(value.dtype, np.floating) or value.shape != (
                self.n_members,
                *expected[name].shape[1:],
            ):
                raise ValueError(
                    f"weights {name!r} are {value.dtype} of shape {value.shape}, but the "
                    f"architecture's {self.n_members} times {tuple(expected[name].shape[1:])}"
                )


@dataclass(frozen=True)
class Predictor(TorchModel, FittedVAE):
    """A fitted VAE that computes with PyTorch, or with numpy where that is faster."""

    def build_module(self, dtype: np.dtype) -> VAE:
        """Build the torch module in one precision."""
        model = build(self.architecture, self.n_members).to(
            self.device, getattr(torch, np.dtype(dtype).name)
        )
        model.load(self.weights)
        model.likelihood.limits = self.limits(next(model.parameters()))
        return model.requires_grad_(False)

    # -- densities -------------------------------------------------------------------

    def elbo_terms(self, X: np.ndarray, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean log p(x|z) in X's units and KL of q(z|x), in nats, per member: (M, n), (M, n)."""
        noise = to_tensor(self.noise(n_draws), X.dtype, self.device)
        n_rows = self.rows_per_chunk(n_draws * self.n_members)
        function = partial(elbo_terms, noise=noise, rows_per_chunk=n_rows)
        log_prob, kl = np.moveaxis(self.map(function, X, backend=self.in_torch(X.dtype)), 0, 2)
        return log_prob + self.columns.log_abs_det_jacobian(X), kl

    def log_conditionals(self, X: np.ndarray, n_draws: int) -> np.ndarray:
        """Log p(column | other columns) in nats of the encoded units: (n, n_columns)."""
        return self.map(conditional_log_prob, X, n_draws=n_draws, backend=self.in_torch(X.dtype))

    # -- codes -----------------------------------------------------------------------

    def kl_per_dimension(self, X: np.ndarray) -> np.ndarray:
        """KL in nats of the first member's q(z|x): (n, n_features) -> (n, units)."""
        first = self.first_member
        return first.map(
            lambda model, x: model.posterior.kl(model.encode(model.fill_missing(x)))[0],
            X,
            backend=first.in_torch(X.dtype),
        )

    # -- samples and missing values --------------------------------------------------

    @default_modes()
    def sample(
        self, n_samples: int, seed: int, dtype: np.dtype, y: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw rows, given conditions y (n_samples, n_y) if any: (n_samples, n_features)."""
        model, generator = self.module(dtype), make_generator(seed, Stream.SAMPLE)
        x = None
        if y is not None:
            x = to_tensor(self.encode_conditions(y.astype(dtype)), dtype, self.device)
        encoded = np.empty((n_samples, self.columns.n_columns), dtype)
        with torch.no_grad():
            for rows in batches(n_samples, self.rows_per_chunk()):
                n_rows = rows.stop - rows.start
                drawn = model.sample(n_rows, generator, None if x is None else x[rows])
                encoded[rows] = drawn.cpu().numpy()
                advance(n_rows)
        return self.columns.inverse_transform(encoded, is_sample=True, seed=seed)

    def sample_missing(
        self, X: np.ndarray, n_imputations: int, n_draws: int, seed: int, scrambling: int = 0
    ) -> np.ndarray:
        """Replace missing values by draws: (n_imputations, n, n_features)."""
        function = partial(sample_given_observed, n_draws=n_imputations)
        backend = self.in_torch(X.dtype, seed=seed)
        encoded = self.map(function, X, n_draws=n_draws, scrambling=scrambling, backend=backend)
        return self.columns.fill_missing_with_draws(X, encoded, seed)

    # -- validation ------------------------------------------------------------------

    def check(self) -> None:
        """Check that the arrays of a file are one model, and that it scores and draws a row."""
        self.check_arrays()
        columns = self.columns
        with np.errstate(all="ignore"):
            row = columns.inverse_transform(np.zeros((1, self.architecture.n_columns)))
            row = np.pad(row, [(0, 0), (0, columns.n_condition_columns)])
            y = row[:, columns.n_features :] if columns.n_condition_columns else None
            self.log_density(row, SCORE_DRAWS)  # of fewer, weights are uneven, and are refined
            self.decode(self.codes(row), y)
            self.sample(1, self.seed, row.dtype, y)

    def check_arrays(self) -> None:
        """Check the arrays' shapes and dtypes before the model is built."""
        super().check_arrays()
        architecture = self.architecture
        if self.correction is not None:
            shape = (1 + architecture.n_components, architecture.n_columns)
            check_array("correction", self.correction, "f", shape)
            shape = (2, architecture.n_components)
            check_array("range of the codes", self.code_range, "f", shape)


def elbo_terms(model: VAE, x: Tensor, noise: Tensor, rows_per_chunk: int) -> Tensor:
    """Mean log p(x|z) and the KL from the prior, in nats: (M, B, n) -> (B, 2, M).

    ``noise`` are standard normal draws (1, K, 1, n_noise), which the rows share.
    """
    chunks = []
    for rows in x.split(rows_per_chunk, 1):
        if model.filler is None and rows.isnan().any():  # a model of complete rows
            z, kl = model.codes_and_kl(model.encode(model.fill_missing(rows)), noise)
            log_prob = JointDensity.from_rows(model, rows).log_likelihood(z).mean(1)
        else:
            log_prob, kl = model.elbo_terms(rows, noise)
        chunks.append(torch.stack([log_prob, kl.sum(-1)]))
    return torch.cat(chunks, 2).movedim(2, 0)
