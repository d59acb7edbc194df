"""A fitted weighted mixture of models that computes with PyTorch, or few rows with numpy."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.inference.chunks import map_chunks
from sklearn_vae.inference.conditionals import resample
from sklearn_vae.inference.fitted_mixture import FittedMixture
from sklearn_vae.inference.fitted_vae import Backend
from sklearn_vae.inference.log_density import Points
from sklearn_vae.inference.mixture_log_density import posterior_draws
from sklearn_vae.inference.predictor import Predictor, is_in_numpy, on_threads, to_tensor
from sklearn_vae.likelihoods.columnwise import Limits
from sklearn_vae.models.architecture import MixtureArchitecture
from sklearn_vae.models.mixture_ensemble import MixtureEnsemble
from sklearn_vae.numerics.random import Stream, make_generator, stream_seed
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.system.device import default_modes
from sklearn_vae.system.progress import advance, uncounted


@dataclass(frozen=True)
class EnsemblePredictor(FittedMixture):
    """A fitted mixture that computes with PyTorch, or few rows with numpy."""

    members: tuple[Predictor, ...]

    @default_modes()  # its tensors serve other calls, too
    def model(self, dtype: np.dtype) -> MixtureEnsemble:
        """Return the models as tensors."""
        first, precision = self.members[0], np.dtype(dtype).name
        like = torch.empty(0, dtype=getattr(torch, precision), device=first.device)
        limits = Limits._make(torch.as_tensor(limit).to(like) for limit in first.columns.limits())
        # a copy: as_tensor warns of read-only arrays
        return self.build(precision, lambda value: torch.tensor(value).to(like), limits)

    def backend(self, X: np.ndarray) -> Backend:
        """Return the models in the library that computes rows."""
        if is_in_numpy(X, self.members[0].device):
            return on_threads(super().backend(X))
        return self.in_torch(X.dtype)

    def in_torch(self, dtype: np.dtype, seed: int | None = None) -> Backend:
        """Return the models in PyTorch; with a seed, chunks have generators."""
        device = self.members[0].device
        return Backend(
            self.model(dtype),
            partial(to_tensor, dtype=dtype, device=device),
            partial(map_chunks, is_thread_safe=device.type == "cpu", seed=seed),
        )

    def sample_missing(
        self, X: np.ndarray, n_imputations: int, n_draws: int, seed: int, scrambling: int = 0
    ) -> np.ndarray:
        """Replace missing values by draws: (n_imputations, n, n_features)."""

        def sample(
            model: MixtureEnsemble, x: Tensor, generator: torch.Generator, points: Points
        ) -> Tensor:
            component, codes = posterior_draws(model, x, points)
            weight = codes.weight.flatten(0, 1).T.contiguous()
            chosen = resample(weight, n_imputations, generator).flatten()
            row = torch.arange(len(x), device=x.device).repeat_interleave(n_imputations)
            n_draws = codes.z.shape[1]
            at = place, _, _ = chosen // n_draws, chosen % n_draws, row
            rows = model.sample_given(x[row], codes.z[at], component[place, row], generator)
            return rows.unflatten(0, (len(x), n_imputations))

        encoded = self.map(sample, X, n_draws, scrambling, self.in_torch(X.dtype, seed))
        return self.columns.fill_missing_with_draws(X, encoded, seed)

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
