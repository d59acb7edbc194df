"""Fitted models that compute with numpy: their arrays, and densities and means of rows."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.inference.decoder_correction import correction_at
from sklearn_vae.inference.log_density import Points, codes_of_rows, conditional_mean, log_density
from sklearn_vae.inference.mixture_log_density import (
    conditional_mean as mixture_mean,
    log_density as mixture_log_density,
)
from sklearn_vae.models.architecture import Architecture, MixtureArchitecture
from sklearn_vae.models.base import ArrayVAE
from sklearn_vae.models.mixture_ensemble import MixtureEnsemble
from sklearn_vae.numerics.array_api import Array
from sklearn_vae.numerics.random import Stream, sobol_normal, stream_seed
from sklearn_vae.numerics.rows import (
    ROWS_AT_A_TIME,
    batches,
    rows_in_cache,
    rows_in_memory,
    spread_rows,
)
from sklearn_vae.system import one_thread

# Numbers of a model, or of Sobol points, that are kept between calls, at most: otherwise a fitted
# model would hold a second copy of large weights.
MAX_CACHED_NUMBERS = 1 << 20
# Rows of a mixture that are computed at a time, at most.
MAX_MIXTURE_ROWS = 1 << 8


class Backend(NamedTuple):
    """A model in one library, and how it computes rows: see ``map_in_numpy``."""

    model: Any
    convert: Callable[[np.ndarray], Array]  # an array of numpy to one of the library
    map_chunks: Callable[..., np.ndarray]

    def map(
        self,
        function: Callable[..., Array],
        rows: np.ndarray,
        rows_per_chunk: int,
        encode: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Apply a function (model, encoded rows, generator if any) to rows, chunk by chunk."""

        def evaluate(chunk: np.ndarray, *generator: Any) -> np.ndarray:
            with np.errstate(all="ignore"):
                result = function(self.model, self.convert(encode(chunk)), *generator)
            return result if isinstance(result, np.ndarray) else result.cpu().numpy()

        return self.map_chunks(evaluate, rows, rows_per_chunk)


def map_in_numpy(
    function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, rows_per_chunk: int
) -> np.ndarray:
    """Apply a function to chunks of rows, and join their results."""
    with one_thread("blas"):
        return np.concatenate([function(rows[part]) for part in batches(len(rows), rows_per_chunk)])


@dataclass(frozen=True)
class FittedModel:
    """A fitted model: arrays, and how rows are computed."""

    # mean of every column of encoded rows given the observed values, and the logarithm of their
    # density, in nats, by a model, rows and ``points``
    conditional_mean: ClassVar[Callable[..., Array]]
    log_evidence: ClassVar[Callable[..., Array]]
    # the model of weights, which computes with numpy
    make_model: ClassVar[Callable[..., Any]]
    # encode rows for a model, and the number of rows that a model computes at a time
    encode: ClassVar[Callable[..., np.ndarray]]
    rows_at_a_time: ClassVar[Callable[..., int]]

    columns: TableEncoder  # encoder and decoder of rows
    architecture: Architecture
    weights: dict[str, np.ndarray]  # by name, with a member axis in front
    seed: int  # of the score's Sobol points
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
        """Return the model in the library that computes rows."""
        params = self.weights.items()
        model = self.keep("numpy", lambda: self.make_model({k: v.astype(float) for k, v in params}))
        return Backend(model, lambda x: x, map_in_numpy)

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


@dataclass(frozen=True)
class FittedVAE(FittedModel):
    """A fitted VAE, of whose members the densities are averaged."""

    conditional_mean = staticmethod(conditional_mean)
    log_evidence = staticmethod(log_density)

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


@dataclass(frozen=True)
class FittedMixture(FittedModel):
    """A weighted mixture of fitted ``MixtureVAE`` models of p(x), or of p(x, y).

    Rows of X with the columns of y behind are conditional on y; else, y is integrated out.
    """

    conditional_mean = staticmethod(mixture_mean)
    log_evidence = staticmethod(mixture_log_density)

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
