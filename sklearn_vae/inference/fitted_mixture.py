"""A fitted weighted mixture of models that computes with numpy: densities and means of rows."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.inference.fitted_vae import Backend, FittedModel
from sklearn_vae.inference.mixture_log_density import conditional_mean, log_density
from sklearn_vae.models.architecture import MixtureArchitecture
from sklearn_vae.models.mixture_ensemble import MixtureEnsemble
from sklearn_vae.models.sizes import rows_in_memory, spread_rows
from sklearn_vae.numerics.row_subsets import batches

# Rows of one chunk, at most.
MAX_ROWS = 1 << 8


@dataclass(frozen=True)
class FittedMixture(FittedModel):
    """A weighted mixture of fitted ``MixtureVAE`` models of p(x), or of p(x, y).

    Rows of X with the columns of y behind them are conditional on y; without these, y is
    integrated out.
    """

    conditional_mean = staticmethod(conditional_mean)

    architecture: MixtureArchitecture
    weight: np.ndarray = field(kw_only=True)  # (n_members,), mixture weights, which sum to 1

    @property
    def encoder(self) -> TableEncoder:
        """Encoder of the columns of X and y."""
        return self.columns.joint

    def make_model(self, weights: dict[str, np.ndarray]) -> MixtureEnsemble:
        """Make the mixture of weights, which computes with numpy and draws no rows."""
        return MixtureEnsemble(self.architecture, weights, self.weight.astype(float))

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
        log_p = self.map(log_density, X, n_draws=n_draws, scrambling=scrambling)
        for rows in batches(len(X), self.rows_per_chunk()):
            log_p[rows] += self.columns.log_abs_det_jacobian(X[rows])
        return log_p

    def map(
        self,
        function: Callable[..., Any],
        X: np.ndarray,
        *,
        n_draws: int,
        scrambling: int = 0,
        backend: Backend | None = None,
    ) -> np.ndarray:
        """Apply a function (model, encoded rows, generator if any, ``points``), chunk by chunk."""
        backend, n_missing = backend or self.backend(X), self.encoder.n_features - X.shape[1]
        model: MixtureEnsemble = backend.model
        if n_missing > 0:  # y is integrated out
            X = np.pad(X, [(0, 0), (0, n_missing)], constant_values=np.nan)
        points = self.points(n_draws, scrambling).last(model.architecture.n_components)
        function = partial(function, points=points.map(backend.convert))
        # rows whose draws, and codes of each component, fit in memory
        n_numbers = max(n_draws, len(model.log_weight)) * model.architecture.n_columns
        n_rows = spread_rows(len(X), min(rows_in_memory(n_numbers), MAX_ROWS))
        return backend.map(function, X, n_rows, self.encoder.transform)
