"""Fitted models that compute with PyTorch, or with numpy where that is faster."""

from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.inference.fitted_models import Backend, FittedMixture, FittedModel, FittedVAE
from sklearn_vae.inference.laplace import JointDensity
from sklearn_vae.inference.log_density import SCORE_DRAWS, Points, sample_posterior
from sklearn_vae.inference.mixture_log_density import posterior_draws
from sklearn_vae.likelihoods import Limits
from sklearn_vae.likelihoods.columnwise import MAX_REDRAWS
from sklearn_vae.models.architecture import MixtureArchitecture
from sklearn_vae.models.mixture_ensemble import MixtureEnsemble
from sklearn_vae.models.vae import VAE, build
from sklearn_vae.numerics.random import Stream, make_generator, sample_categorical, stream_seed
from sklearn_vae.numerics.rows import ROWS_AT_A_TIME, batches, rows_in_memory
from sklearn_vae.persistence.validation import check_array, check_integer
from sklearn_vae.system import warn
from sklearn_vae.system.compute import default_modes, is_out_of_memory, map_on_threads

# Draws for each one that is kept, as its total is near a known one.
DRAWS_PER_TOTAL = 16


def map_chunks(
    function: Callable[..., np.ndarray],
    X: np.ndarray,
    rows_per_chunk: int,
    *,
    is_thread_safe: bool,
    seed: int | None = None,
) -> np.ndarray:
    """Apply a function to chunks of rows without gradients, and join their results.

    With ``seed``, its second argument is a generator of the chunk. Chunks are computed each on one
    thread if the function is thread-safe. Where memory runs out, a chunk's halves are, alone.
    """

    @default_modes()  # where the modes of a row are searched by gradients
    @torch.no_grad()
    def evaluate(rows: slice) -> np.ndarray | Exception:
        generator = () if seed is None else (make_generator(seed, Stream.SAMPLE, rows.start),)
        try:
            return function(X[rows], *generator)
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                return error.with_traceback(None)  # whose frames hold the memory
            raise

    results: np.ndarray | None = None
    # chunks of a group are computed at the same time, halves of those without memory alone
    groups, has_failed = deque([list(batches(len(X), rows_per_chunk))]), False
    while groups:
        chunks = groups.popleft()
        with closing(map_on_threads(evaluate, chunks, is_thread_safe=is_thread_safe)) as evaluated:
            for rows, result in zip(chunks, evaluated, strict=True):
                n_rows = rows.stop - rows.start
                if not isinstance(result, Exception):
                    # kept per chunk, they would lie between chunks, whose memory is then not freed
                    if results is None:
                        results = np.empty((len(X), *result.shape[1:]), result.dtype)
                    results[rows] = result
                    continue
                if n_rows == len(chunks) == 1:
                    raise MemoryError(f"There is no memory for one row: {result}") from result
                if not has_failed:
                    warn("Memory has run out: half as many rows are computed at a time.")
                has_failed, middle = True, rows.start + (n_rows + 1) // 2
                halves = [slice(rows.start, middle), slice(middle, rows.stop)][:n_rows]
                groups.extend([half] for half in halves)
    return np.empty(0) if results is None else results


@default_modes()
def to_tensor(x: np.ndarray, dtype: np.dtype, device: torch.device) -> Tensor:
    """Convert an array to a tensor."""
    return torch.from_numpy(x.astype(dtype, copy=False)).to(device)


@dataclass(frozen=True)
class TorchModel(FittedModel):
    """A fitted model that computes with PyTorch, or with numpy where that is faster."""

    # rows given their observed values, by a model, rows, generator, ``points`` and ``n_draws``
    sample_given_observed: ClassVar[Callable[..., Tensor]]

    device: torch.device = field(kw_only=True)  # of the computation

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

    @default_modes()
    @torch.no_grad()
    def sample(
        self,
        n_samples: int,
        seed: int,
        dtype: np.dtype,
        y: np.ndarray | None = None,
        *,
        relates: bool = True,
    ) -> np.ndarray:
        """Draw rows, given conditions y (n_samples, n_y) if any: (n_samples, n_features).

        All relations hold, or with ``relates=False`` as the model has them. Rows are drawn again
        where labels of some codes are others, or derived numbers too far.
        """
        model, generator = self.module(dtype), make_generator(seed, Stream.SAMPLE)
        of_levels = np.random.default_rng(stream_seed(seed, Stream.LEVELS))
        x = None if y is None else self.encode_conditions(y.astype(dtype))
        X, left = np.empty((n_samples, self.encoder.n_features), dtype), np.arange(n_samples)
        for _ in range(1 + MAX_REDRAWS * relates):
            encoded = np.empty((len(left), self.encoder.n_columns), dtype)
            for rows in batches(len(left), self.rows_per_chunk()):
                n_rows = rows.stop - rows.start
                conditions = () if x is None else (to_tensor(x[left[rows]], dtype, self.device),)
                encoded[rows] = model.sample(n_rows, generator, *conditions).cpu().numpy()
            decoded = self.encoder.inverse_transform(encoded, of_levels)
            if relates:
                self.encoder.relate(decoded, of_levels)
            X[left] = decoded
            left = left[self.encoder.are_broken(decoded, is_partial=True)]
            if not len(left):
                break
        return X[:, : self.columns.n_features]

    def log_kept(self, seed: int, n_rows: int = 4096) -> float:
        """Log-probability of rows that keep orders and labels, as the model draws them."""
        X = self.sample(n_rows, seed, np.dtype(float), relates=False)
        n_kept = n_rows - self.encoder.are_broken(X).sum()
        return float(np.log((n_kept + 1) / (n_rows + 1)))

    def draw_missing(
        self,
        X: np.ndarray,
        n_kept: int,
        n_draws: int,
        seed: int,
        scrambling: int = 0,
        n_each: int = 1,
    ) -> np.ndarray:
        """Replace missing values by draws, of n_each the nearest to totals: (n_kept, n, d)."""
        function = partial(self.sample_given_observed, n_draws=n_each * n_kept)
        backend = self.in_torch(X.dtype, seed)
        encoded = self.map(function, X, n_draws=n_draws, scrambling=scrambling, backend=backend)
        return self.columns.fill_missing_with_draws(X, encoded, n_kept, seed)

    def sample_missing(
        self, X: np.ndarray, n_imputations: int, n_draws: int, seed: int, scrambling: int = 0
    ) -> np.ndarray:
        """Replace missing values by draws, also given totals: (n_imputations, n, n_features)."""
        draws = np.empty((n_imputations, len(X), self.columns.n_features), X.dtype)
        has_total = self.columns.has_open_total(X)
        n_rows = rows_in_memory(DRAWS_PER_TOTAL * n_imputations * X.shape[1])
        settings, rest = (n_imputations, n_draws), np.flatnonzero(has_total)
        if not has_total.all():
            draws[:, ~has_total] = self.draw_missing(X[~has_total], *settings, seed, scrambling)
        for batch in batches(len(rest), n_rows):
            rows = rest[batch]
            part_seed = stream_seed(seed, Stream.CONDITIONAL, int(rows[0]))
            draws[:, rows] = self.draw_missing(
                X[rows], *settings, part_seed, scrambling, DRAWS_PER_TOTAL
            )
        return draws

    def sample_given(
        self, row: np.ndarray, n_samples: int, seed: int, y: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw rows given y (n_samples, n_y), and one row's values (n_features,) but for NaN."""
        y = np.empty((n_samples, 0), row.dtype) if y is None else y
        unique, index = np.unique(y, axis=0, return_inverse=True)
        observed = np.hstack([np.tile(row, (len(unique), 1)), unique.astype(row.dtype)])
        counts, order = np.bincount(index.ravel()), np.argsort(index.ravel(), kind="stable")
        first = np.cumsum(counts) - counts
        X = np.empty((n_samples, len(row)), row.dtype)
        for count in np.unique(counts).tolist():
            rows = counts == count
            for batch in batches(count, ROWS_AT_A_TIME):
                size = batch.stop - batch.start
                n_draws = max(1 << (size - 1).bit_length(), 256)  # as many, to a power of two
                part = stream_seed(seed, Stream.CONDITIONAL, count, batch.start)
                drawn = self.sample_missing(observed[rows], size, n_draws, part, part)
                X[order[first[rows] + np.arange(batch.start, batch.stop)[:, None]]] = drawn
        return X

    def limits(self, like: Tensor) -> Limits:
        """Return the limits of samples, as tensors."""
        return Limits._make(torch.as_tensor(each).to(like) for each in self.encoder.limits())

    def check(self) -> None:
        """Check that the arrays of a file are one model, and that it scores and draws a row."""
        self.check_arrays()
        columns = self.encoder
        with np.errstate(all="ignore"):
            row = columns.inverse_transform(np.zeros((1, self.architecture.n_columns)))
            row = np.pad(row, [(0, 0), (0, columns.n_condition_columns)])
            y = row[:, columns.n_features :] if columns.n_condition_columns else None
            self.log_density(row, SCORE_DRAWS)  # of fewer, weights are uneven, and are refined
            self.sample(1, self.seed, row.dtype, y)

    def check_arrays(self) -> None:
        """Check the arrays' shapes and dtypes before the model is built."""
        columns, architecture = self.encoder, self.architecture
        members = {value.shape[:1] for value in self.weights.values()}
        if len(members) != 1 or not min(members) or not self.n_members:
            raise ValueError("the weights are not those of the same members")
        check_integer(self, "seed", self.seed, 0, (1 << 32) - 1)
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
            check_array(name, value, "f", (self.n_members, *expected[name].shape[1:]))


def mean_log_prob(model: VAE, x: Tensor, points: Points) -> Tensor:
    """Mean log p(x|z) over draws from the first member's q(z|x), in nats: (M, B, n) -> (B,)."""
    z = model.posterior.rsample(model.encode(model.fill_missing(x)), points.first)
    return JointDensity.from_rows(model, x).log_likelihood(z).mean(1)[0]


def conditional_log_prob(model: VAE, x: Tensor, points: Points) -> Tensor:
    """Log p(column | other columns) in nats: (M, B, n) -> (B, n_columns)."""
    log_ratios = []
    for rows, codes in sample_posterior(model, x, points).chunks(model.codes_per_chunk):
        values, observed = model.likelihood.split_missing(x[:1, rows].unsqueeze(1))
        params = model.decode(codes.z, x[:, rows])
        log_prob = model.likelihood.log_prob_per_column(params, values)
        if observed is not None:
            log_prob = log_prob * observed
        # of draws of p(x|z), by all columns and by all but one: (M K, B, n_columns)
        of_all = codes.log_weight.unsqueeze(-1).flatten(0, 1)
        of_others = of_all - log_prob.flatten(0, 1)
        log_ratios.append(torch.logsumexp(of_all, 0) - torch.logsumexp(of_others, 0))
    return torch.cat(log_ratios)


def sample_given_observed(
    model: VAE, x: Tensor, generator: torch.Generator, points: Points, n_draws: int
) -> Tensor:
    """Rows drawn given their observed values: (M, B, n) -> (B, n_draws, n_columns)."""
    sampled, codes = [], sample_posterior(model, x, points)
    n_members, n_codes = codes.log_weight.shape[:2]
    for rows, part in codes.chunks(model.codes_per_chunk * n_codes // n_draws):
        member, code = (index.T for index in resample(part.weight, n_draws, generator))
        row = torch.arange(part.z.shape[2], device=code.device)
        z = part.z[member, code, row].unsqueeze(0).expand(n_members, -1, -1, -1)
        # (M, n_draws, B, n_columns)
        drawn = model.likelihood.sample(model.decode(z, x[:, rows]), generator)
        draw = torch.arange(n_draws, device=row.device).unsqueeze(1)
        sampled.append(drawn[member, draw, row].movedim(0, 1))
    return torch.cat(sampled)


def sample_mixture_given_observed(
    model: MixtureEnsemble, x: Tensor, generator: torch.Generator, points: Points, n_draws: int
) -> Tensor:
    """Rows drawn given their observed values: (B, n_columns) -> (B, n_draws, n_columns)."""
    component, codes = posterior_draws(model, x, points)
    rank, draw = (index.flatten() for index in resample(codes.weight, n_draws, generator))
    row = torch.arange(len(x), device=x.device).repeat_interleave(n_draws)
    z = codes.z[rank, draw, row]
    rows = model.sample_given(x[row], z, component[rank, row], generator)
    return rows.unflatten(0, (len(x), n_draws))


def resample(weight: Tensor, n_draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Resample codes by weights (M, K, B), systematically and in random order.

    Return indices along the first and the second axis, (B, n_draws) each.
    """
    n_codes, n_rows = weight.shape[1:]
    weight = weight.flatten(0, 1).T.contiguous()  # (B, M K)
    # the uniform numbers are evenly spread
    uniform = torch.rand(n_rows, n_draws, generator=generator, dtype=weight.dtype)
    position = (torch.arange(n_draws) + uniform) / n_draws
    cumulative = weight.cumsum(1)
    chosen = sample_categorical(cumulative, position.to(cumulative) * cumulative[:, -1:])
    # in random order: every draw has the same distribution
    order = torch.rand(n_rows, n_draws, generator=generator, dtype=torch.float).argsort(1)
    chosen = chosen.gather(1, order.to(chosen.device))
    return chosen // n_codes, chosen % n_codes


@dataclass(frozen=True)
class Predictor(TorchModel, FittedVAE):
    """A fitted VAE that computes with PyTorch, or with numpy where that is faster."""

    sample_given_observed = staticmethod(sample_given_observed)

    def build_module(self, dtype: np.dtype) -> VAE:
        """Build the torch module in one precision."""
        precision = getattr(torch, np.dtype(dtype).name)
        model = build(self.architecture, self.n_members).to(self.device, precision)
        model.load(self.weights)
        model.likelihood.limits = self.limits(next(model.parameters()))
        return model.requires_grad_(False)

    def mean_log_prob(self, X: np.ndarray, n_draws: int) -> np.ndarray:
        """Mean log p(x|z) over draws from q(z|x), in nats and X's units: (n,)."""
        first = self.first_member
        log_prob = first.map(mean_log_prob, X, n_draws=n_draws, backend=first.in_torch(X.dtype))
        return log_prob + self.columns.log_abs_det_jacobian(X)

    def log_conditionals(self, X: np.ndarray, n_draws: int) -> np.ndarray:
        """Log p(column | other columns) in nats of the encoded units: (n, n_columns)."""
        return self.map(conditional_log_prob, X, n_draws=n_draws, backend=self.in_torch(X.dtype))

    def kl_per_dimension(self, X: np.ndarray) -> np.ndarray:
        """KL in nats of the first member's q(z|x): (n, n_features) -> (n, units)."""
        first = self.first_member
        return first.map(
            lambda model, x: model.posterior.kl(model.encode(model.fill_missing(x)))[0],
            X,
            backend=first.in_torch(X.dtype),
        )

    def check_arrays(self) -> None:
        """Check the arrays' shapes and dtypes before the model is built."""
        super().check_arrays()
        architecture = self.architecture
        if self.correction is not None:
            shape = (1 + architecture.n_components, architecture.n_columns)
            check_array("correction", self.correction, "f", shape)
            shape = (2, architecture.n_components)
            check_array("range of the codes", self.code_range, "f", shape)


@dataclass(frozen=True)
class EnsemblePredictor(FittedMixture, TorchModel):
    """A fitted mixture that computes with PyTorch, or with numpy where that is faster."""

    sample_given_observed = staticmethod(sample_mixture_given_observed)

    def build_module(self, dtype: np.dtype) -> MixtureEnsemble:
        """Build the mixture of tensors in one precision."""
        like = torch.empty(0, dtype=getattr(torch, np.dtype(dtype).name), device=self.device)
        # copies: as_tensor warns of read-only arrays
        weights = {name: torch.tensor(value).to(like) for name, value in self.weights.items()}
        weight = torch.tensor(self.weight).to(like)
        return MixtureEnsemble(self.architecture, weights, weight, self.limits(like))

    def check_arrays(self) -> None:
        """Check the arrays' shapes and dtypes before the model is built."""
        if not isinstance(self.architecture, MixtureArchitecture):
            raise ValueError("the model is not a MixtureVAE")
        super().check_arrays()
        if self.weight.shape != (self.n_members,) or not abs(self.weight.sum() - 1) < 1e-6:
            raise ValueError("there are not as many mixture weights as members, which sum to 1")
