"""A fitted weighted mixture of models that computes with PyTorch, or with numpy."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.inference.fitted_mixture import FittedMixture
from sklearn_vae.inference.log_density import Points
from sklearn_vae.inference.mixture_log_density import posterior_draws
from sklearn_vae.inference.predictor import TorchModel, resample
from sklearn_vae.models.architecture import MixtureArchitecture
from sklearn_vae.models.mixture_ensemble import MixtureEnsemble


@dataclass(frozen=True)
class EnsemblePredictor(FittedMixture, TorchModel):
    """A fitted mixture that computes with PyTorch, or with numpy where that is faster."""

    def build_module(self, dtype: np.dtype) -> MixtureEnsemble:
        """Build the mixture of tensors in one precision."""
        like = torch.empty(0, dtype=getattr(torch, np.dtype(dtype).name), device=self.device)
        # copies: as_tensor warns of read-only arrays
        weights = {name: torch.tensor(value).to(like) for name, value in self.weights.items()}
        weight = torch.tensor(self.weight).to(like)
        return MixtureEnsemble(self.architecture, weights, weight, self.limits(like))

    def sample_missing(
        self, X: np.ndarray, n_imputations: int, n_draws: int, seed: int, scrambling: int = 0
    ) -> np.ndarray:
        """Replace missing values by draws: (n_imputations, n, n_features)."""

        def sample(
            model: MixtureEnsemble, x: Tensor, generator: torch.Generator, points: Points
        ) -> Tensor:
            component, codes = posterior_draws(model, x, points)
            chosen = resample(codes.weight, n_imputations, generator)
            rank, draw = (index.flatten() for index in chosen)
            row = torch.arange(len(x), device=x.device).repeat_interleave(n_imputations)
            z = codes.z[rank, draw, row]
            rows = model.sample_given(x[row], z, component[rank, row], generator)
            return rows.unflatten(0, (len(x), n_imputations))

        encoded = self.map(sample, X, n_draws, scrambling, self.in_torch(X.dtype, seed))
        return self.columns.fill_missing_with_draws(X, encoded, seed)

    def check(self) -> None:
        """Check that the arrays of a file are one model, and that it scores and draws a row."""
        if not isinstance(self.architecture, MixtureArchitecture):
            raise ValueError("the model is not a MixtureVAE")
        self.check_arrays()
        if self.weight.shape != (self.n_members,) or not abs(self.weight.sum() - 1) < 1e-6:
            raise ValueError("there are not as many mixture weights as members, which sum to 1")
        with np.errstate(all="ignore"):
            row = self.encoder.inverse_transform(np.zeros((1, self.architecture.n_columns)))
            self.log_density(row, 1)
            self.sample(1, self.seed, row.dtype)
