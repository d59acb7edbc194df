"""Fitted models: their arrays, and densities, means and draws of rows."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.inference.chunks import Backend, to_tensor
from sklearn_vae.inference.conditionals import (
    conditional_log_prob,
    mean_log_prob,
    sample_given_observed,
    sample_mixture_given_observed,
)
from sklearn_vae.inference.decoder_correction import correction_at
from sklearn_vae.inference.log_density import (
    SCORE_DRAWS,
    Points,
    codes_of_rows,
    conditional_mean,
    log_density,
)
from sklearn_vae.inference.mixture_log_density import (
    conditional_mean as mixture_mean,
    log_density as mixture_log_density,
)
from sklearn_vae.likelihoods import Limits
from sklearn_vae.likelihoods.columnwise import MAX_REDRAWS
from sklearn_vae.models.architecture import Architecture, MixtureArchitecture
from sklearn_vae.models.base import ArrayVAE
from sklearn_vae.models.mixture_ensemble import MixtureEnsemble
from sklearn_vae.numerics.array_api import Array, namespace
from sklearn_vae.numerics.random import Stream, make_generator, sobol_normal, stream_seed
from sklearn_vae.numerics.rows import (
    ROWS_AT_A_TIME,
    batches,
    rows_in_cache,
    rows_in_memory,
    spread_rows,
)
from sklearn_vae.persistence.validation import check_array, check_integer
from sklearn_vae.system import has_torch
from sklearn_vae.system.compute import default_modes

if TYPE_CHECKING:
    from sklearn_vae.models.vae import VAE

# Numbers of a model, or of Sobol points, that are kept between calls, at most: otherwise a fitted
# model would hold a second copy of large weights.
MAX_CACHED_NUMBERS = 1 << 20
# Rows of a mixture that are computed at a time, at most.
MAX_MIXTURE_ROWS = 1 << 8
# Draws for each one that is kept, as its total is near a known one.
DRAWS_PER_TOTAL = 16


@dataclass(frozen=True)
class FittedModel:
    """A fitted model: arrays, and how rows are computed, with numpy or with PyTorch.

    Random draws, single precision, and what is no textbook model, are computed with PyTorch.
    """

    # mean of every column of encoded rows given the observed values, and the logarithm of their
    # density, in nats, by a model, rows and ``points``
    conditional_mean: ClassVar[Callable[..., Array]]
    log_evidence: ClassVar[Callable[..., Array]]
    # rows given their observed values, by a model, rows, generator, ``points`` and ``n_draws``
    sample_given_observed: ClassVar[Callable[..., Array]]
    # the model of weights, which computes with numpy, and that of tensors of a dtype
    make_model: ClassVar[Callable[..., Any]]
    build_module: ClassVar[Callable[..., Any]]
    # encode rows for a model, and the number of rows that a model computes at a time
    encode: ClassVar[Callable[..., np.ndarray]]
    rows_at_a_time: ClassVar[Callable[..., int]]

    columns: TableEncoder  # encoder and decoder of rows
    architecture: Architecture
    weights: dict[str, np.ndarray]  # by name, with a member axis in front
    seed: int  # of the score's Sobol points
    device: str = field(kw_only=True)  # of the computation
    _cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_cache": {}}

    @property
    def n_members(self) -> int:
        """Number of models whose densities are averaged."""
        return len(next(iter(self.weights.values())))

    @property
    def encoder(self) -> TableEncoder:
        """Encoder of the columns of which the model is a density."""
        return self.columns

    def log_density(
        self,
        X: np.ndarray,
        n_draws: int,
        scrambling: int = 0,
        *,
        in_units: bool = True,
        **options: Any,
    ) -> np.ndarray:
        """Log-density of rows in nats and X's units, averaged over the members: (n, d) -> (n,).

        ``scrambling`` is the index of the set of Sobol points, options are those of
        ``log_evidences``. If not ``in_units``, it is in the model's units.
        """
        log_p = self.log_evidences(X, n_draws=n_draws, scrambling=scrambling, **options)
        for rows in batches(len(X), self.rows_per_chunk()):
            log_p[rows] += self.columns.log_abs_det_jacobian(X[rows], in_units=in_units)
        return log_p

    def map(
        self,
        function: Callable[..., Array],
        X: np.ndarray,
        *,
        n_draws: int = 0,
        scrambling: int = 0,
        backend: Backend | None = None,
    ) -> np.ndarray:
        """Apply a function (model, encoded rows, generator if any) to X, chunk by chunk.

        With ``n_draws``, the function takes ``points``, to draw from p(z|x).
        """
        backend = backend or self.backend(X)
        if n_draws:
            points = self.points(n_draws, scrambling).last(self.architecture.n_components)
            function = partial(function, points=points.map(backend.convert))
        n_rows = self.rows_at_a_time(len(X), n_draws, backend.model)
        return backend.map(function, X, n_rows, partial(self.encode, backend.model))

    def log_evidences(self, X: np.ndarray, **options: Any) -> np.ndarray:
        """Log-density of rows in nats of the encoded units: (n, d) -> (n,)."""
        return self.map(self.log_evidence, X, **options)

    def impute(self, X: np.ndarray, n_draws: int, is_rounded: np.ndarray) -> np.ndarray:
        """Replace missing values by their mean, or likeliest class: (n, n_features).

        Means of the columns with mask ``is_rounded`` (n_features,) are rounded to possible values.
        """
        imputed = X[:, : self.columns.n_features].copy()
        incomplete = np.flatnonzero(np.isnan(X.min(axis=1)))  # without a mask (n, d)
        for chunk in batches(len(incomplete), 1 << 16):  # temporary arrays are then small
            rows = X[incomplete[chunk]]
            encoded = self.map(self.conditional_mean, rows, n_draws=n_draws)
            imputed[incomplete[chunk]] = self.columns.fill_missing(rows, encoded, is_rounded)
        return imputed

    def keep(self, key: str, make: Callable[[], Any]) -> Any:
        """Return what is made of the weights, at the first call; it is kept unless they are large.

        The arrays become read-only: a change would not reach the model.
        """
        if key not in self._cache:
            # freed at once, unused: the C library of Linux then keeps freed memory, of up to twice
            # this size, for the next arrays; it would return that of every score to the system
            np.empty(1 << 24, np.uint8)
            model = make()
            if sum(value.size for value in self.weights.values()) > MAX_CACHED_NUMBERS:
                return model
            for value in self.weights.values():
                value.flags.writeable = False
            self._cache[key] = model
        return self._cache[key]

    def backend(self, X: np.ndarray) -> Backend:
        """Return the model in the library that computes rows: numpy in double precision on CPUs."""
        is_in_numpy = self.device == "cpu" and (X.dtype == np.float64 or not has_torch())
        if not is_in_numpy or not self.architecture.is_textbook:
            return self.in_torch(X.dtype)
        params = self.weights.items()
        model = self.keep("numpy", lambda: self.make_model({k: v.astype(float) for k, v in params}))
        return Backend(model, lambda x: x)

    def encode_conditions(self, y: np.ndarray) -> np.ndarray:
        """Encode conditions: (n, n_y) -> (n, n_conditions)."""
        conditions = self.columns.conditions
        return y if conditions is None else conditions.transform(y)

    def rows_per_chunk(self, n_members: int = 1) -> int:
        """Rows whose widest layer fits the cache, with so many members."""
        return rows_in_cache(max(self.architecture.widest, self.encoder.n_features), n_members)

    def noise(self, n_draws: int, scrambling: int = 0, proposal: int = 0) -> np.ndarray:
        """Sobol points of a proposal in one scrambling, as normal draws: (1, K, 1, n_noise)."""
        seed = stream_seed(self.seed, Stream.SCORE, scrambling, proposal)
        return sobol_normal(n_draws, self.architecture.n_noise, seed)[None, :, None, :]

    def points(self, n_draws: int, scrambling: int = 0) -> Points:
        """Sobol points of all proposals of importance sampling; the last ones are kept."""
        kept: Points | None = self._cache.get("points", {}).get(n_draws)
        if scrambling == 0 and kept is not None:
            return kept
        points = Points.make(n_draws, lambda n, proposal: self.noise(n, scrambling, proposal))
        n_numbers = sum(part.size for part in (points.first, points.vague, *points.further))
        if scrambling == 0 and n_numbers <= MAX_CACHED_NUMBERS:
            self._cache["points"] = {n_draws: points}
        return points

    # -- in PyTorch -------------------------------------------------------------------

    @default_modes()  # its tensors serve other calls, too
    def module(self, dtype: np.dtype) -> Any:
        """Return the model in PyTorch, built at the first call if threads can share it."""
        if not self.architecture.is_thread_safe:
            return self.build_module(dtype)
        return self.keep(np.dtype(dtype).name, partial(self.build_module, dtype))

    def in_torch(self, dtype: np.dtype, seed: int | None = None) -> Backend:
        """Return the model in PyTorch; with a seed, chunks have generators."""
        is_thread_safe = self.architecture.is_thread_safe and self.device == "cpu"
        convert = partial(to_tensor, dtype=dtype, device=self.device)
        return Backend(self.module(dtype), convert, is_thread_safe, seed)

    @default_modes()
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

    def limits(self, like: Array) -> Limits:
        """Return the limits of samples, as tensors."""
        return Limits._make(
            namespace(like).as_tensor(each).to(like) for each in self.encoder.limits()
        )

    def check(self) -> None:
        """Check that the arrays of a file are one model, and that it scores and draws a row."""
        self.check_arrays()
        columns = self.encoder
        with np.errstate(all="ignore"):
            row = columns.inverse_transform(np.zeros((1, self.architecture.n_columns)))
            row = np.pad(row, [(0, 0), (0, columns.n_condition_columns)])
            y = row[:, columns.n_features :] if columns.n_condition_columns else None
            self.log_density(row, SCORE_DRAWS)  # of fewer, weights are uneven, and are refined
            if has_torch():
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
        if not has_torch():
            return
        from sklearn_vae.models.build import build

        # without members, no weight takes any memory, whatever the architecture says
        expected = build(architecture, 0).state_dict()
        if expected.keys() != self.weights.keys():
            raise ValueError("the names of the weights are not the architecture's")
        for name, value in self.weights.items():
            check_array(name, value, "f", (self.n_members, *expected[name].shape[1:]))


@dataclass(frozen=True)
class FittedVAE(FittedModel):
    """A fitted VAE, of whose members the densities are averaged."""

    conditional_mean = staticmethod(conditional_mean)
    log_evidence = staticmethod(log_density)
    sample_given_observed = staticmethod(sample_given_observed)

    # (1 + l, n_columns), offset and slopes of the decoder correction
    correction: np.ndarray | None = None
    code_range: np.ndarray | None = None  # (2, l), least and largest codes that it was fitted to

    def make_model(self, weights: dict[str, np.ndarray]) -> ArrayVAE:
        """Make the VAE of weights, which computes with numpy."""
        return ArrayVAE(self.architecture, weights)

    @property
    def first_member(self) -> Self:
        """The model of the first member alone, whose codes are those of all."""
        if self.n_members == 1:
            return self
        first = {name: value[:1] for name, value in self.weights.items()}
        member: Self = self._cache.setdefault("first", replace(self, weights=first))
        return member

    def encode(self, model: Any, X: np.ndarray) -> np.ndarray:
        """Encode rows for each member: (n, d) -> (M, n, n_columns)."""
        return self.columns.transform(X)[None].repeat(model.n_members, axis=0)

    def rows_at_a_time(self, n_rows: int, n_draws: int, model: Any) -> int:
        """Rows whose codes of two proposals, and their matrices, fit the cache."""
        per_chunk = self.rows_per_chunk(model.n_members)
        if not n_draws:
            return per_chunk
        n_latent = max(self.architecture.n_components, 1)
        n_codes = (self.architecture.n_codes or 2 * n_draws) * model.n_members
        of_codes = rows_in_cache(n_latent, max(n_codes, 2 * n_latent))
        return spread_rows(n_rows, min(per_chunk, of_codes))

    def log_evidences(self, X: np.ndarray, *, refines: bool = True, **options: Any) -> np.ndarray:
        """Log-density of rows as of any model; those that need more draws are refined together."""
        parts = []
        for batch in batches(len(X), ROWS_AT_A_TIME):
            rows = X[batch]
            log_p = self.map(partial(self.log_evidence, refines=refines), rows, **options)
            if len(poor := np.flatnonzero(np.isnan(log_p))):
                refined = partial(self.log_evidence, is_refined=True)
                log_p[poor] = self.map(refined, rows[poor], **options)
            parts.append(log_p)
        return np.concatenate(parts)

    def codes(self, X: np.ndarray) -> np.ndarray:
        """Codes of rows by the first member: (n, n_features) -> (n, l)."""
        return self.first_member.map(lambda model, x: codes_of_rows(model, x)[0], X)

    def decode(self, z: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """Corrected mean of p(x|z) given conditions y (n, n_y): (n, l) -> (n, n_features)."""
        n_latent, backend = z.shape[1], self.first_member.backend(z)
        rows = z if y is None else np.hstack([z, self.encode_conditions(y.astype(z.dtype))])
        mean = backend.map(
            lambda model, rows: model.reconstruct(rows[..., :n_latent], rows[..., n_latent:])[0],
            rows,
            self.rows_per_chunk(),
            lambda rows: rows[None],
        )
        if self.correction is not None and self.code_range is not None:
            for chunk in batches(len(z), self.rows_per_chunk()):
                mean[chunk] += correction_at(z[chunk], self.correction, self.code_range)
        return self.columns.inverse_transform(mean)

    def fill(self, X: np.ndarray) -> np.ndarray:
        """Replace missing values by those of the row's reconstruction: (n, n_features)."""
        encoded = self.first_member.map(lambda m, x: m.reconstruct(m.mean_code(x), x)[0], X)
        return self.columns.fill_missing(X, encoded, self.columns.has_discrete_values)

    def residuals(self, X: np.ndarray) -> np.ndarray:
        """Residuals of the first member's reconstructions, in the encoded units: (n, n_values)."""
        return self.first_member.map(lambda model, x: model.residuals(x)[0], X)

    def build_module(self, dtype: np.dtype) -> "VAE":
        """Build the torch module in one precision."""
        import torch

        from sklearn_vae.models.build import build

        precision = getattr(torch, np.dtype(dtype).name)
        model = build(self.architecture, self.n_members).to(self.device, precision)
        model.load(self.weights)
        model.likelihood.limits = self.limits(next(model.parameters()))
        return model.requires_grad_(False)

    def mean_log_prob(self, X: np.ndarray, n_draws: int) -> np.ndarray:
        """Mean log p(x|z) over draws from q(z|x), in nats and X's units: (n,)."""
        log_prob = self._map_first_in_torch(mean_log_prob, X, n_draws=n_draws)
        return log_prob + self.columns.log_abs_det_jacobian(X)

    def log_conditionals(self, X: np.ndarray, n_draws: int) -> np.ndarray:
        """Log p(column | other columns) in nats of the encoded units: (n, n_columns)."""
        return self.map(conditional_log_prob, X, n_draws=n_draws)

    def kl_per_dimension(self, X: np.ndarray) -> np.ndarray:
        """KL in nats of the first member's q(z|x): (n, n_features) -> (n, units)."""
        return self._map_first_in_torch(
            lambda model, x: model.posterior.kl(model.encode(model.fill_missing(x)))[0], X
        )

    def _map_first_in_torch(
        self, function: Callable[..., Array], X: np.ndarray, **options: Any
    ) -> np.ndarray:
        """Apply a function to X by the first member, of tensors."""
        first = self.first_member
        return first.map(function, X, backend=first.in_torch(X.dtype), **options)

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
class FittedMixture(FittedModel):
    """A weighted mixture of fitted ``MixtureVAE`` models of p(x), or of p(x, y).

    Rows of X with the columns of y behind are conditional on y; else, y is integrated out.
    """

    conditional_mean = staticmethod(mixture_mean)
    log_evidence = staticmethod(mixture_log_density)
    sample_given_observed = staticmethod(sample_mixture_given_observed)

    architecture: MixtureArchitecture
    weight: np.ndarray = field(kw_only=True)  # (n_members,), mixture weights, which sum to 1

    @property
    def encoder(self) -> TableEncoder:
        """Encoder of the columns of X and y."""
        return self.columns.joint

    def make_model(self, weights: dict[str, np.ndarray]) -> MixtureEnsemble:
        """Make the mixture of weights, which computes with numpy and draws no rows."""
        return MixtureEnsemble(self.architecture, weights, self.weight.astype(float))

    def log_density(
        self, X: np.ndarray, n_draws: int, scrambling: int = 0, **options: Any
    ) -> np.ndarray:
        """Log p(x) in nats, or log p(x|y) = log p(x, y) - log p(y) of rows with y: (n,)."""
        log_p = super().log_density(X, n_draws, scrambling, **options)
        y = X[:, self.columns.n_features :]
        if y.shape[1]:
            unique, index = np.unique(y, axis=0, return_inverse=True)
            missing = np.full((len(unique), self.columns.n_features), np.nan, X.dtype)
            of_y = np.hstack([missing, unique])
            log_p -= super().log_density(of_y, n_draws, scrambling, **options)[index.ravel()]
        return log_p

    def encode(self, model: Any, X: np.ndarray) -> np.ndarray:
        """Encode rows; a y that they do not have is integrated out: (n, d) -> (n, n_columns)."""
        if n_missing := self.encoder.n_features - X.shape[1]:
            X = np.pad(X, [(0, 0), (0, n_missing)], constant_values=np.nan)
        return self.encoder.transform(X)

    def rows_at_a_time(self, n_rows: int, n_draws: int, model: Any) -> int:
        """Rows whose draws, and codes of each component, fit in memory."""
        n_numbers = max(n_draws, len(model.log_weight)) * self.architecture.n_columns
        return spread_rows(n_rows, min(rows_in_memory(n_numbers), MAX_MIXTURE_ROWS))

    def build_module(self, dtype: np.dtype) -> MixtureEnsemble:
        """Build the mixture of tensors in one precision."""
        import torch

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
