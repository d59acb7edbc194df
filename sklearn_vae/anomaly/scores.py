"""Anomaly scores of fitted autoencoders: log-likelihood, ELBO and errors of reconstructions.

torch is not imported at the top: ``sklearn_vae.runtime`` needs none.
"""

from dataclasses import dataclass

import numpy as np

from sklearn_vae.anomaly.base import Scorer
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.numerics.array_api import logsumexp
from sklearn_vae.numerics.seeds import Stream, stream_seed
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_integer, check_number

# Maximum number of draws of a loaded scorer: the memory for a row grows with them.
MAX_LOADED_DRAWS = 1 << 12
# Noise draws of the denoising reconstruction error.
N_NOISE_DRAWS = 16
# Groups of columns of the masked reconstruction error, one of which is masked at a time.
N_MASK_GROUPS = 8


@dataclass(frozen=True)
class _ScoreByDraws(Scorer):
    """Score that is a mean over draws of z."""

    n_draws: int

    def check(self) -> None:
        """Validate the fields of a loaded scorer."""
        check_integer(self, "n_draws", self.n_draws, 1, MAX_LOADED_DRAWS)


@serializable
@dataclass(frozen=True)
class NegativeLogLikelihood(_ScoreByDraws):
    """Negative log-density of the model, in nats and in X's units."""

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        log_density = rows.predictor.log_density_per_member(rows.X, self.n_draws)  # (M, n)
        log_sum = logsumexp(np.where(rows.scoring_members, log_density, -np.inf), 0)
        return np.log(rows.scoring_members.sum(axis=0)) - log_sum


@serializable
@dataclass(frozen=True)
class NegativeELBO(_ScoreByDraws):
    """Negative evidence lower bound, or its reconstruction term alone, in nats and X's units.

    The reconstruction term is -log p(x|z) averaged over draws from q(z|x), the reconstruction
    probability [1]_.

    References
    ----------
    .. [1] J. An and S. Cho, "Variational Autoencoder based Anomaly Detection using
       Reconstruction Probability", SNU Data Mining Center, 2015.
    """

    with_kl: bool = True

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        log_prob, kl = rows.predictor.elbo_terms(rows.X, self.n_draws)
        return rows.mean_over_members(kl - log_prob if self.with_kl else -log_prob)


@serializable
@dataclass(frozen=True)
class ReconstructionError(Scorer):
    """Squared distance to the reconstruction, summed over standardized columns.

    The squared residual of a class is its deviance, -2 log p.

    With ``noise``, the encoder sees rows with Gaussian noise of this standard deviation, and
    the error is averaged over noise draws, which are the same for all rows.
    """

    noise: float = 0.0

    def check(self) -> None:
        """Validate the fields of a loaded scorer."""
        check_number(self, "noise", self.noise)

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        n_columns = rows.predictor.columns.n_columns
        if not self.noise or not n_columns:
            errors = np.square(rows.codes_and_residuals[1]).sum(axis=2)  # (M, n)
        else:
            seed = stream_seed(rows.predictor.seed, Stream.INPUT)
            noise = self.noise * self._sobol_normal(N_NOISE_DRAWS, n_columns, seed)
            residuals = (rows.predictor.codes_and_residuals(rows.as_new, draw)[1] for draw in noise)
            errors = sum(np.square(r).sum(axis=2) for r in residuals) / N_NOISE_DRAWS
        unseen_errors = np.square(rows.inputs[:, n_columns:]).sum(axis=1)
        return rows.mean_over_members(errors) + unseen_errors

    @staticmethod
    def _sobol_normal(n_draws: int, n_dims: int, seed: int) -> np.ndarray:
        """Sobol points, made standard normal: (n_draws, n_dims)."""
        from sklearn_vae.numerics.random import sobol_normal

        return sobol_normal(n_draws, n_dims, seed)


@serializable
@dataclass(frozen=True)
class MaskedReconstructionError(Scorer):
    """Absolute error of each value predicted from its row's other values, summed over columns.

    The columns are divided into random groups, different for each member. Each group is masked
    in turn, and the decoder predicts it. Errors are absolute, in standard deviations, so that
    one extreme value does not dominate the sum.
    """

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        predictor = rows.predictor
        n_values, n_members = len(predictor.columns.order), predictor.n_members
        n_groups = min(N_MASK_GROUPS, n_values)
        seeds = [stream_seed(predictor.seed, Stream.MASK, m) for m in range(n_members)]
        order = [self._permutation(n_values, seed) for seed in seeds]
        groups = np.stack(order) % max(n_groups, 1)  # (M, n_values)
        errors = np.abs(rows.inputs[:, predictor.columns.n_columns :]).sum(axis=1)
        for group in range(n_groups):
            mask = groups == group
            residuals = predictor.codes_and_residuals(rows.as_new, mask=mask)[1]  # (M, n, n_values)
            errors += rows.mean_over_members((np.abs(residuals) * mask[:, None]).sum(axis=2))
        return errors

    @staticmethod
    def _permutation(n_values: int, seed: int) -> np.ndarray:
        """Random permutation: (n_values,)."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(n_values, generator=generator, device="cpu").numpy()
