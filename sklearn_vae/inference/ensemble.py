"""A fitted weighted mixture of models, such as VAEDensity's, as arrays."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.inference.chunks import map_chunks
from sklearn_vae.inference.conditionals import resample
from sklearn_vae.inference.log_density import Points
from sklearn_vae.inference.mixture_log_density import log_density, posterior_draws
from sklearn_vae.inference.predictor import Predictor, keep
from sklearn_vae.likelihoods.columnwise import Limits
from sklearn_vae.models.architecture import MixtureArchitecture
from sklearn_vae.models.mixture_ensemble import MixtureEnsemble
from sklearn_vae.models.sizes import rows_in_memory, spread_rows
from sklearn_vae.numerics.array_api import Array
from sklearn_vae.numerics.random import Stream, make_generator, stream_seed
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.system.device import default_modes
from sklearn_vae.system.progress import advance, uncounted

# Rows of one chunk, at most.
MAX_ROWS = 1 << 8
# Up to so many rows are scored in numpy, whose calls take less time than PyTorch's.
FEW_ROWS = 8


@dataclass(frozen=True)
class EnsemblePredictor:
    """A weighted mixture of fitted ``MixtureVAE`` models of p(x), or of p(x, y).

    Rows of X with the columns of y behind them are conditional on y; without these, y is
    integrated out. (The ensemble of a ``VAETransformer`` is one ``Predictor``, whose weights have
    several members.)

    Attributes
    ----------
    columns : TableEncoder
        Encoder and decoder of rows.
    members : tuple of Predictor
        The models, which share the joint encoder of X and y, the seed and the device.
    weight : ndarray of shape (n_members,)
        Mixture weights, which sum to 1.
    """

    columns: TableEncoder
    members: tuple[Predictor, ...]
    weight: np.ndarray
    _cache: dict[str, MixtureEnsemble] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @default_modes()  # its tensors serve other calls, too
    def model(self, dtype: np.dtype) -> MixtureEnsemble:
        """Return the models as tensors, which are made at the first call.

        The arrays of the weights become read-only: a change would not reach the tensors.
        """
        precision = np.dtype(dtype).name

        def make() -> MixtureEnsemble:
            first = self.members[0]
            like = torch.empty(0, dtype=getattr(torch, precision), device=first.device)
            limits = (torch.as_tensor(limit).to(like) for limit in first.columns.limits())
            # a copy: as_tensor warns of read-only arrays
            return self._ensemble(lambda value: torch.tensor(value).to(like), Limits._make(limits))

        return self._keep(precision, make)

    def model_of_arrays(self) -> MixtureEnsemble:
        """Return the models as numpy arrays, which are made at the first call and draw no rows."""

        def make() -> MixtureEnsemble:
            return self._ensemble(lambda value: value.astype(float))

        return self._keep("numpy", make)

    def _ensemble(
        self, convert: Callable[[np.ndarray], Array], limits: Limits | None = None
    ) -> MixtureEnsemble:
        """Make the models with arrays of one library."""
        architecture = cast(MixtureArchitecture, self.members[0].architecture)
        weights = [
            {name: convert(value) for name, value in member.weights.items()}
            for member in self.members
        ]
        return MixtureEnsemble(architecture, weights, convert(self.weight), limits)

    def _keep(self, key: str, make: Callable[[], MixtureEnsemble]) -> MixtureEnsemble:
        """Return what is made at the first call."""
        return keep(self._cache, key, make, (member.weights for member in self.members))

    def log_density(self, X: np.ndarray, n_draws: int, scrambling: int = 0) -> np.ndarray:
        """Log p(x) in nats, or log p(x|y) = log p(x, y) - log p(y) of rows with y: (n,).

        The parameters are those of ``joint_log_density``.
        """
        log_p = self.joint_log_density(X, n_draws, scrambling)
        y = X[:, self.columns.n_features :]
        if y.shape[1]:
            unique, index = np.unique(y, axis=0, return_inverse=True)
            missing = np.full((len(unique), self.columns.n_features), np.nan, X.dtype)
            log_p_y = self.joint_log_density(np.hstack([missing, unique]), n_draws, scrambling)
            log_p -= log_p_y[index.ravel()]
        return log_p

    def joint_log_density(self, X: np.ndarray, n_draws: int, scrambling: int = 0) -> np.ndarray:
        """Log p(x, y) in nats, of the weighted mean of the members' densities: (n,).

        It is in the units of X, and in the model's units of y. ``n_draws`` is the number of draws
        per row of all members together, ``scrambling`` the index of the set of Sobol points.
        """
        log_p = self._map(log_density, X, n_draws, scrambling)
        for rows in batches(len(X), self.members[0].rows_per_chunk()):
            log_p[rows] += self.columns.log_abs_det_jacobian(X[rows])
        return log_p

    def impute(self, X: np.ndarray, n_draws: int, is_rounded: np.ndarray) -> np.ndarray:
        """Replace missing values by their mean, or likeliest class: (n, n_features).

        Means of the columns with mask ``is_rounded`` (n_features,) are rounded to possible values.
        """

        def conditional_mean(model: MixtureEnsemble, x: Array, points: Points) -> Array:
            return posterior_draws(model, x, points).conditional_mean(model, x)

        encoded = self._map(conditional_mean, X, n_draws)
        return self.columns.fill_missing(X, encoded, is_rounded)

    def sample_missing(
        self, X: np.ndarray, n_imputations: int, n_draws: int, seed: int, scrambling: int = 0
    ) -> np.ndarray:
        """Replace missing values by draws: (n_imputations, n, n_features)."""

        def sample(
            model: MixtureEnsemble, x: Tensor, points: Points, generator: torch.Generator
        ) -> Tensor:
            draws = posterior_draws(model, x, points)
            weight = draws.codes.weight.flatten(0, 1).T.contiguous()
            chosen = resample(weight, n_imputations, generator)
            row = torch.arange(len(x), device=x.device).repeat_interleave(n_imputations)
            rows = draws.sample(model, x, row, chosen.flatten(), generator)
            return rows.unflatten(0, (len(x), n_imputations))

        encoded = self._map(sample, X, n_draws, scrambling, seed=seed)
        return self.columns.fill_missing_with_draws(X, encoded, seed)

    def _map(
        self,
        function: Callable[..., Any],
        X: np.ndarray,
        n_draws: int,
        scrambling: int = 0,
        *,
        seed: int | None = None,
    ) -> np.ndarray:
        """Apply a function (model, encoded rows, points), chunk by chunk.

        With ``seed``, the last argument is a generator of the chunk.
        """
        first, is_on_cpu = self.members[0], self.members[0].device.type == "cpu"
        is_double = X.dtype == np.float64  # rounding of single precision would show
        is_few = is_on_cpu and is_double and len(X) <= FEW_ROWS and seed is None
        model = self.model_of_arrays() if is_few else self.model(X.dtype)
        if X.shape[1] < first.columns.n_features:  # y is integrated out
            n_missing = first.columns.n_features - X.shape[1]
            X = np.pad(X, [(0, 0), (0, n_missing)], constant_values=np.nan)
        points = first.points(n_draws, X.dtype, scrambling).last(model.architecture.n_components)
        if is_few:
            points = points.map(torch.Tensor.numpy)

        def evaluate(rows: np.ndarray, *generator: torch.Generator) -> np.ndarray:
            x = first.encode(rows)[0]
            if is_few:
                return function(model, x.numpy(), points)
            return function(model, x, points, *generator).cpu().numpy()

        # rows whose draws, and codes of each component, fit in memory
        n_numbers = max(n_draws, len(model.log_weight)) * model.n_columns
        n_rows = spread_rows(len(X), min(rows_in_memory(n_numbers), MAX_ROWS))
        return map_chunks(evaluate, X, n_rows, is_thread_safe=is_on_cpu, seed=seed)

    def marginal_pit(self, X: np.ndarray, n_draws: int) -> np.ndarray:
        """PIT values under each column's marginal distribution, by samples: (n, n_columns)."""
        seed, order = self.members[0].seed, self.columns.order
        with uncounted():  # samples are no rows of X
            samples = np.sort(self.sample(n_draws, seed, X.dtype)[:, order], axis=0)
        uniform = np.random.default_rng(stream_seed(seed, Stream.CALIBRATION)).random(
            (len(X), len(order))
        )
        pit = np.empty_like(uniform)
        for j, values in enumerate(X[:, order].T):
            below = np.searchsorted(samples[:, j], values, "left")
            up_to = np.searchsorted(samples[:, j], values, "right")
            # the rank of the value among the samples and itself
            pit[:, j] = (below + uniform[:, j] * (up_to - below + 1)) / (n_draws + 1)
        advance(len(X))
        return pit

    @default_modes()
    @torch.no_grad()
    def sample(self, n_samples: int, seed: int, dtype: np.dtype) -> np.ndarray:
        """Draw rows: (n_samples, n_features)."""
        model, generator = self.model(dtype), make_generator(seed, Stream.SAMPLE)
        joint = self.members[0].columns
        encoded = np.empty((n_samples, joint.n_columns), dtype)
        for rows in batches(n_samples, self.members[0].rows_per_chunk()):
            encoded[rows] = model.sample(rows.stop - rows.start, generator).cpu().numpy()
            advance(rows.stop - rows.start)
        X = joint.inverse_transform(encoded, is_sample=True, seed=seed)
        return X[:, : self.columns.n_features]

    def check(self) -> None:
        """Check that the arrays of a file are one model, and that each member scores and draws."""
        if self.weight.shape != (len(self.members),) or not abs(self.weight.sum() - 1) < 1e-6:
            raise ValueError("there are not as many mixture weights as members, which sum to 1")
        for member in self.members:
            member.check_arrays()
            if not isinstance(member.architecture, MixtureArchitecture):
                raise ValueError("a member is not a MixtureVAE")
            with np.errstate(all="ignore"):
                row = member.columns.inverse_transform(np.zeros((1, member.architecture.n_columns)))
                alone = EnsemblePredictor(self.columns, (member,), np.ones(1))
                alone.log_density(row, 1)
                alone.sample(1, member.seed, row.dtype)
