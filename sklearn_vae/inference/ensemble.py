"""A fitted weighted mixture of models, such as VAEDensity's, as arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch

from sklearn_vae.data.encoder import TableEncoder
from sklearn_vae.inference.chunks import map_chunks
from sklearn_vae.inference.mixture_constants import MAX_FACTOR
from sklearn_vae.inference.mixture_log_density import EnsembleProposal, PosteriorDraws, log_density
from sklearn_vae.inference.mixture_missing import conditional_mean, sample_given_observed
from sklearn_vae.inference.mixture_posterior import PosteriorComponents
from sklearn_vae.inference.predictor import Predictor
from sklearn_vae.models.architecture import MixtureArchitecture
from sklearn_vae.models.mixture_vae import MixtureVAE
from sklearn_vae.models.sizes import rows_in_memory, spread_rows
from sklearn_vae.progress import advance, uncounted
from sklearn_vae.random import Stream, stream_seed
from sklearn_vae.row_subsets import batches

# Rows of one chunk, at most.
MAX_ROWS = 1 << 8


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
        function = partial(log_density, n_draws=n_draws)
        log_p = self._map_models(function, X, n_draws, scrambling, MAX_FACTOR * n_draws)
        for rows in batches(len(X), self.members[0].rows_per_chunk()):
            log_p[rows] += self.columns.log_abs_det_jacobian(X[rows])
        return log_p

    def impute(self, X: np.ndarray, n_draws: int, is_rounded: np.ndarray) -> np.ndarray:
        """Replace missing values by their mean, or likeliest class: (n, n_features).

        Means of the columns with mask ``is_rounded`` (n_features,) are rounded to possible values.
        """
        encoded = self._map_draws(conditional_mean, X, n_draws)
        return self.columns.fill_missing(X, encoded, is_rounded)

    def sample_missing(
        self, X: np.ndarray, n_imputations: int, n_draws: int, seed: int, scrambling: int = 0
    ) -> np.ndarray:
        """Replace missing values by draws: (n_imputations, n, n_features)."""
        function = partial(sample_given_observed, n_draws=n_imputations)
        encoded = self._map_draws(function, X, n_draws, scrambling, seed)
        return self.columns.fill_missing_with_draws(X, encoded, seed)

    def _map_draws(
        self,
        function: Callable[..., torch.Tensor],
        X: np.ndarray,
        n_draws: int,
        scrambling: int = 0,
        seed: int | None = None,
    ) -> np.ndarray:
        """Apply a function (models, draws given rows, encoded rows), chunk by chunk.

        With ``seed``, its last argument is a generator of the chunk.
        """

        def evaluate(
            models: list[MixtureVAE],
            log_weight: torch.Tensor,
            x: torch.Tensor,
            noise: torch.Tensor,
            *generator: torch.Generator,
        ) -> torch.Tensor:
            posterior: PosteriorDraws | PosteriorComponents
            if any(model.depends_on_code for model in models):
                rows = torch.arange(len(x), device=x.device)
                posterior = EnsembleProposal(models, log_weight, x).draw(noise, rows)
            else:
                posterior = PosteriorComponents(models, log_weight, x)
            return function(models, posterior, x, *generator)

        return self._map_models(evaluate, X, n_draws, scrambling, seed=seed)

    def _map_models(
        self,
        function: Callable[..., torch.Tensor],
        X: np.ndarray,
        n_draws: int,
        scrambling: int,
        n_points: int | None = None,
        seed: int | None = None,
    ) -> np.ndarray:
        """Apply a function (models, log-weights, encoded rows, noise), chunk by chunk.

        The noise is ``n_points`` points, by default as many as there are draws. With ``seed``, the
        last argument is a generator of the chunk.
        """
        first = self.members[0]
        if X.shape[1] < first.columns.n_features:  # y is integrated out
            n_missing = first.columns.n_features - X.shape[1]
            X = np.pad(X, [(0, 0), (0, n_missing)], constant_values=np.nan)
        models = cast(list[MixtureVAE], [member.module(X.dtype) for member in self.members])
        noise = first.noise(n_points or n_draws, X.dtype, scrambling)[0, :, 0]
        log_weight = torch.from_numpy(np.log(self.weight).astype(X.dtype)).to(first.device)

        def evaluate(rows: np.ndarray, *generator: torch.Generator) -> np.ndarray:
            x = first.encode(rows)[0]
            return function(models, log_weight, x, noise, *generator).cpu().numpy()

        # rows whose draws, and codes of each component, fit in memory
        architecture = cast(MixtureArchitecture, first.architecture)
        n_numbers = max(n_draws, architecture.n_mixture) * architecture.n_columns
        n_rows = spread_rows(len(X), min(rows_in_memory(n_numbers), MAX_ROWS))
        is_on_cpu = first.device.type == "cpu"
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

    def sample(self, n_samples: int, seed: int, dtype: np.dtype) -> np.ndarray:
        """Draw rows, the member of each by its weight: (n_samples, n_features)."""
        generator = np.random.default_rng(stream_seed(seed, Stream.SAMPLE))
        chosen = generator.choice(len(self.members), n_samples, p=self.weight)
        X = np.empty((n_samples, self.columns.n_features), dtype)
        for index, member in enumerate(self.members):
            rows = chosen == index
            if rows.any():
                member_seed = stream_seed(seed, Stream.SAMPLE, index)
                drawn = member.sample(int(rows.sum()), member_seed, dtype)
                X[rows] = drawn[:, : self.columns.n_features]
        return X

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
                EnsemblePredictor(self.columns, (member,), np.ones(1)).log_density(row, 1)
                member.sample(1, member.seed, row.dtype)
