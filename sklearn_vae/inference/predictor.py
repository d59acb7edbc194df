"""A fitted model as arrays, and its batched evaluation on rows in X's own units."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.inference.chunks import map_chunks
from sklearn_vae.inference.codes import (
    class_probabilities,
    elbo_terms,
    residuals,
)
from sklearn_vae.inference.conditionals import (
    conditional_cdf,
    conditional_log_prob,
    conditional_mean,
    marginal_cdf,
    mean_and_sample,
    randomized_pit,
    sample_given_observed,
)
from sklearn_vae.inference.constants import SCORE_DRAWS
from sklearn_vae.inference.decoder_correction import correction_at
from sklearn_vae.inference.log_density import Points, posterior_mode
from sklearn_vae.inference.posterior_sampling import log_evidence
from sklearn_vae.likelihoods import Limits
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.sizes import rows_in_cache, rows_in_memory, spread_rows
from sklearn_vae.models.vae import VAE, build
from sklearn_vae.numerics.random import MAX_SEED, Stream, make_generator, sobol_normal, stream_seed
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.persistence.validation import check_array, check_integer
from sklearn_vae.system.device import default_modes
from sklearn_vae.system.progress import advance

# Numbers of a torch module, or of Sobol points, that are kept between calls, at most: otherwise a
# fitted model would hold a second copy of large weights.
MAX_CACHED_NUMBERS = 1 << 20

Key = TypeVar("Key", bound=Hashable)
Model = TypeVar("Model")


def keep(
    cache: dict[Key, Model],
    key: Key,
    make: Callable[[], Model],
    weights: Iterable[dict[str, np.ndarray]],
) -> Model:
    """Return what is made of weights, at the first call; it is kept unless they are large.

    The arrays become read-only: a change would not reach the model.
    """
    if key not in cache:
        model, arrays = make(), [value for values in weights for value in values.values()]
        if sum(value.size for value in arrays) > MAX_CACHED_NUMBERS:
            return model
        for value in arrays:
            value.flags.writeable = False
        cache[key] = model
    return cache[key]


@dataclass(frozen=True)
class Predictor:
    """A fitted model: arrays, and methods on rows in X's own units.

    Attributes
    ----------
    columns : TableEncoder
        Encoder and decoder of rows.
    architecture : Architecture
        Shapes of the weights.
    weights : dict of ndarray
        Parameters by name, with a member axis in front.
    seed : int
        Seed of the score's Sobol points.
    device : torch.device
        Device of the computation.
    correction : ndarray of shape (1 + l, n_columns) or None
        Offset and slopes of the decoder correction.
    code_range : ndarray of shape (2, l) or None
        Minimum and maximum of the codes that the correction was fitted to.
    """

    columns: TableEncoder
    architecture: Architecture
    weights: dict[str, np.ndarray]
    seed: int
    device: torch.device
    correction: np.ndarray | None = None
    code_range: np.ndarray | None = None
    _cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def n_members(self) -> int:
        """Number of models whose densities are averaged."""
        return len(next(iter(self.weights.values())))

    # -- the torch module and the batched runner -------------------------------------

    def build_module(self, dtype: np.dtype, n_members: int | None = None) -> VAE:
        """Build the torch module in one precision, with the first members or all."""
        n_members = n_members or self.n_members
        model = build(self.architecture, n_members).to(
            self.device, getattr(torch, np.dtype(dtype).name)
        )
        model.load({name: value[:n_members] for name, value in self.weights.items()})
        like, limits = next(model.parameters()), self.columns.limits()
        model.limit_draws(Limits._make(torch.as_tensor(limit).to(like) for limit in limits))
        return model.requires_grad_(False)

    @default_modes()  # its tensors serve other calls, too
    def module(self, dtype: np.dtype, n_members: int | None = None) -> VAE:
        """Return the torch module, which is built at the first call if threads can share it.

        The arrays of the weights become read-only: a change would not reach the module.
        """
        if not self.architecture.is_thread_safe:
            return self.build_module(dtype, n_members)
        key = np.dtype(dtype).name, n_members or self.n_members
        make = partial(self.build_module, dtype, n_members)
        return keep(self._cache.setdefault("modules", {}), key, make, [self.weights])

    def map(
        self,
        function: Callable[..., Tensor],
        X: np.ndarray,
        *,
        n_members: int | None = None,
        rows_per_chunk: int | None = None,
        seed: int | None = None,
        mask: np.ndarray | None = None,
    ) -> np.ndarray:
        """Apply a function of the model and encoded rows (M, B, n) to X, chunk by chunk.

        With ``seed``, its third argument is a generator of the chunk. With ``mask`` (n,), the rows
        are those of the mask, of which there is no copy.
        """
        model = self.module(X.dtype, n_members)
        is_all = mask is None or bool(mask.all())

        def evaluate(rows: np.ndarray, *generator: torch.Generator) -> np.ndarray:
            x = self.encode(rows if is_all else X[rows]).expand(len(model.sizes), -1, -1)
            return function(model, x, *generator).cpu().numpy()

        rows_per_chunk = rows_per_chunk or self.rows_per_chunk(len(model.sizes))
        is_thread_safe = self.architecture.is_thread_safe and self.device.type == "cpu"
        source = X if mask is None or is_all else np.flatnonzero(mask)
        return map_chunks(
            evaluate, source, rows_per_chunk, is_thread_safe=is_thread_safe, seed=seed
        )

    def encode(self, X: np.ndarray) -> Tensor:
        """Encode rows and move them to the device: (n, n_features) -> (1, n, n_columns)."""
        return torch.from_numpy(self.columns.transform(X)).to(self.device)[None]

    def fill(self, X: np.ndarray) -> np.ndarray:
        """Replace missing values by those of the row's reconstruction: (n, n_features)."""

        def reconstruct(model: VAE, x: Tensor) -> Tensor:
            return model.reconstruct(model.mean_code(x), x)[0]

        is_rounded = self.columns.has_discrete_values
        return self.columns.fill_missing(X, self.map(reconstruct, X, n_members=1), is_rounded)

    def encode_conditions(self, y: np.ndarray, dtype: np.dtype) -> Tensor:
        """Encode conditions (n, n_y) beside rows of zeros: (1, n, n_columns + n_conditions)."""
        rows = np.zeros((len(y), self.columns.n_features))
        return self.encode(np.hstack([rows, y]).astype(dtype))

    def rows_per_chunk(self, n_draws: int = 1, *, shares_draws: bool = False) -> int:
        """Rows that are computed at a time, with so many draws (or members) each.

        Their widest layer fits the cache. Draws that all rows share are decoded once per chunk, so
        that only the densities of their columns have to fit in memory.
        """
        if shares_draws:
            return rows_in_memory(n_draws * max(self.architecture.n_columns, 1))
        return rows_in_cache(max(self.architecture.widest, self.columns.n_features), n_draws)

    def noise(
        self, n_draws: int, dtype: np.dtype, scrambling: int = 0, proposal: int = 0
    ) -> Tensor:
        """Sobol points of a proposal as standard normal draws: (1, K, 1, n_noise).

        ``scrambling`` is the index of an independent set of them.
        """
        seed = stream_seed(self.seed, Stream.SCORE, scrambling, proposal)
        points = sobol_normal(n_draws, self.architecture.n_noise, seed)
        return torch.from_numpy(points.astype(dtype)).to(self.device)[None, :, None, :]

    @default_modes()
    def points(self, n_draws: int, dtype: np.dtype, scrambling: int = 0) -> Points:
        """Sobol points of all proposals of importance sampling; the last ones are kept."""
        key = n_draws, np.dtype(dtype).name
        kept: Points | None = self._cache.get("points", {}).get(key)
        if scrambling == 0 and kept is not None:
            return kept

        def noise(n_draws: int, proposal: int) -> Tensor:
            return self.noise(n_draws, dtype, scrambling, proposal)

        points = Points.make(n_draws, noise)
        n_numbers = sum(part.numel() for part in (points.first, points.prior, *points.further))
        if scrambling == 0 and n_numbers <= MAX_CACHED_NUMBERS:
            self._cache["points"] = {key: points}
        return points

    # -- densities -------------------------------------------------------------------

    def log_density(
        self, X: np.ndarray, n_draws: int, scrambling: int = 0, *, refines: bool = True
    ) -> np.ndarray:
        """Log p(x) in nats, of the average of the members' densities: (n, n_features) -> (n,).

        ``scrambling`` is the index of the set of Sobol points. With ``refines``, rows whose draws
        have uneven weights get more.
        """
        log_p = self.log_density_per_member(X, n_draws, scrambling, refines=refines)
        return logsumexp(log_p, axis=0) - np.log(self.n_members, dtype=X.dtype)

    def log_density_per_member(
        self, X: np.ndarray, n_draws: int, scrambling: int = 0, *, refines: bool = True
    ) -> np.ndarray:
        """Log p(x) in nats and X's units of each member: (n, n_features) -> (M, n).

        It is the log-density of the encoded rows plus the encoding's log-abs-det-Jacobian.
        """
        architecture = self.architecture
        # all rows of a chunk are encoded together, and decoded few at a time with all their draws
        n_codes = architecture.n_codes
        decoded = self.rows_per_chunk(
            max(n_codes or n_draws, 1 + architecture.n_components) * self.n_members,
            shares_draws=n_codes is not None and not architecture.decodes_per_row,
        )
        points = self.points(n_draws, X.dtype, scrambling)
        function = partial(log_evidence, points=points, rows_per_chunk=decoded, refines=refines)
        # rows with missing values get Laplace proposals: they are chunks of their own, unless the
        # encoder has learned from rows of variable length
        is_incomplete = self.columns.is_incomplete(X) & (not architecture.variable_length)
        log_p = np.empty((len(X), self.n_members), X.dtype)
        for rows in (~is_incomplete, is_incomplete):
            if rows.any():
                n_rows = spread_rows(int(rows.sum()), self.rows_per_chunk(self.n_members))
                log_p[rows] = self.map(
                    lambda model, x: function(model, x).T, X, rows_per_chunk=n_rows, mask=rows
                )
        for chunk in batches(len(X), self.rows_per_chunk()):
            log_p[chunk] += self.columns.log_abs_det_jacobian(X[chunk])[:, None]
        return log_p.T

    def elbo_terms(self, X: np.ndarray, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean log p(x|z) in X's units and KL of q(z|x), in nats, per member: (M, n), (M, n)."""
        function = partial(
            elbo_terms,
            noise=self.noise(n_draws, X.dtype),
            rows_per_chunk=self.rows_per_chunk(n_draws * self.n_members),
        )
        log_prob, kl = np.moveaxis(self.map(function, X), 0, 2)
        return log_prob + self.columns.log_abs_det_jacobian(X), kl

    def marginal_pit(self, X: np.ndarray, n_draws: int) -> np.ndarray:
        """PIT values under each column's marginal distribution: (n, n_columns)."""
        model, generator = self.module(X.dtype), make_generator(self.seed, Stream.CALIBRATION)
        shape = self.n_members, n_draws, self.architecture.n_components
        z = model.prior_distribution().sample(shape, generator, model.dtype)
        function = partial(marginal_cdf, z=z.to(self.device))
        rows_per_chunk = self.rows_per_chunk(n_draws * self.n_members, shares_draws=True)
        cdf = self.map(function, X, rows_per_chunk=rows_per_chunk)
        return randomized_pit(cdf, self.seed)

    def conditional_pit(self, X: np.ndarray, n_draws: int) -> np.ndarray:
        """PIT values given the row's other columns: (n, n_columns)."""
        return randomized_pit(self._map_posterior(conditional_cdf, X, n_draws), self.seed)

    def log_conditionals(self, X: np.ndarray, n_draws: int) -> np.ndarray:
        """Log p(column | other columns) in nats of the encoded units: (n, n_columns)."""
        return self._map_posterior(conditional_log_prob, X, n_draws)

    # -- codes -----------------------------------------------------------------------

    def codes(self, X: np.ndarray) -> np.ndarray:
        """Mean of the first member's q(z|x): (n, n_features) -> (n, l).

        Without an imputation layer, the code of a row with missing values is the mode of p(z|x),
        or the probabilities of the classes.
        """
        architecture, is_incomplete = self.architecture, self.columns.is_incomplete(X)
        if architecture.n_factors:
            is_incomplete[:] = False
        infer = posterior_mode if architecture.has_density else class_probabilities
        n_codes = architecture.n_codes or 1 + architecture.n_components
        z = np.empty((len(X), architecture.n_components), X.dtype)
        for mask, function, n_each in (
            (~is_incomplete, lambda model, x: model.posterior.mean(model.encode(x)), 1),
            (is_incomplete, infer, n_codes),
        ):
            if mask.any():
                z[mask] = self.map(
                    lambda model, x, function=function: function(model, x)[0],
                    X,
                    n_members=1,
                    rows_per_chunk=self.rows_per_chunk(n_each),
                    mask=mask,
                )
        return z

    @default_modes()
    def decode(self, z: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """Corrected mean of p(x|z) given conditions y (n, n_y): (n, l) -> (n, n_features)."""
        model = self.module(z.dtype, n_members=1)
        codes = torch.as_tensor(np.require(z, requirements="W")).to(self.device)[None]
        x = None if y is None else self.encode_conditions(y, z.dtype)
        mean = np.empty((len(z), self.columns.n_columns), z.dtype)
        for rows in batches(len(z), self.rows_per_chunk()):
            with torch.no_grad():
                decoded = model.reconstruct(codes[:, rows], None if x is None else x[:, rows])[0]
            mean[rows] = decoded.cpu().numpy()
            if self.correction is not None:
                mean[rows] += correction_at(z[rows], self.correction, self.code_range)
        return self.columns.inverse_transform(mean)

    def residuals(self, X: np.ndarray) -> np.ndarray:
        """Residuals of the first member's reconstructions, in the encoded units: (n, n_values).

        They are those of ``Columnwise.residual``, and 0 where values are missing.
        """
        return self.map(residuals, X, n_members=1)

    def kl_per_dimension(self, X: np.ndarray) -> np.ndarray:
        """KL in nats of the first member's q(z|x): (n, n_features) -> (n, units)."""
        return self.map(
            lambda model, x: model.posterior.kl(model.encode(model.fill_missing(x)))[0],
            X,
            n_members=1,
        )

    # -- samples and missing values --------------------------------------------------

    @default_modes()
    def sample(
        self, n_samples: int, seed: int, dtype: np.dtype, y: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw rows, given conditions y (n_samples, n_y) if any: (n_samples, n_features)."""
        model, generator = self.module(dtype), make_generator(seed, Stream.SAMPLE)
        x = None if y is None else self.encode_conditions(y, dtype)[0]
        encoded = np.empty((n_samples, self.columns.n_columns), dtype)
        with torch.no_grad():
            for rows in batches(n_samples, self.rows_per_chunk()):
                n_rows = rows.stop - rows.start
                drawn = model.sample(n_rows, generator, None if x is None else x[rows])
                encoded[rows] = drawn.cpu().numpy()
                advance(n_rows)
        return self.columns.inverse_transform(encoded, is_sample=True, seed=seed)

    def impute(self, X: np.ndarray, n_draws: int, is_rounded: np.ndarray) -> np.ndarray:
        """Replace missing values by their mean, or likeliest class: (n, n_features).

        Means of the columns with mask ``is_rounded`` (n_features,) are rounded to possible values.
        """
        encoded = self._map_posterior(conditional_mean, X, n_draws)
        return self.columns.fill_missing(X, encoded, is_rounded)

    def sample_missing(
        self, X: np.ndarray, n_imputations: int, n_draws: int, seed: int, scrambling: int = 0
    ) -> np.ndarray:
        """Replace missing values by draws: (n_imputations, n, n_features)."""
        function = partial(sample_given_observed, n_draws=n_imputations)
        encoded = self._map_posterior(function, X, n_draws, scrambling=scrambling, seed=seed)
        return self.columns.fill_missing_with_draws(X, encoded, seed)

    def impute_and_sample(
        self, X: np.ndarray, n_imputations: int, n_draws: int, is_rounded: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Replace missing values by their mean and by draws, both from codes of ``sample_missing``.

        Returns arrays of shapes (n, n_features) and (n_imputations, n, n_features).
        """
        function = partial(mean_and_sample, n_draws=n_imputations)
        encoded = self._map_posterior(function, X, n_draws, seed=seed)
        mean = self.columns.fill_missing(X, encoded[:, 0], is_rounded)
        return mean, self.columns.fill_missing_with_draws(X, encoded[:, 1:], seed)

    def _map_posterior(
        self,
        function: Callable[..., Tensor],
        X: np.ndarray,
        n_draws: int,
        scrambling: int = 0,
        seed: int | None = None,
    ) -> np.ndarray:
        """Map a function (model, x, generator if any, points) that draws from p(z|x) over rows."""
        architecture = self.architecture
        n_draws_of_classes = n_draws * (architecture.n_classes or 1)
        n_codes = max(architecture.n_codes or n_draws_of_classes, 1 + architecture.n_components)
        return self.map(
            partial(function, points=self.points(n_draws, X.dtype, scrambling)),
            X,
            rows_per_chunk=self.rows_per_chunk(n_codes * self.n_members),
            seed=seed,
        )

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
        columns, architecture = self.columns, self.architecture
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
        if self.correction is not None:
            shape = (1 + architecture.n_components, architecture.n_columns)
            check_array("correction", self.correction, "f", shape)
        if self.code_range is not None:
            shape = (2, architecture.n_components)
            check_array("range of the codes", self.code_range, "f", shape)
