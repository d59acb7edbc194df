"""Losses of batches and their gradients: by hand-written backward passes, or by autograd.

A hand-written backward pass computes into buffers that are allocated once, which is 2 to 5 times as
fast for small batches (the ELBO) and 1.3 to 1.5 times (the mixture of ``VAEDensity``). Autograd is
also the oracle in the tests.
"""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.models.vae import VAE, StackedModule
from sklearn_vae.networks.mlp import MLP
from sklearn_vae.numerics.rows import ROWS_AT_A_TIME, aligned
from sklearn_vae.objectives import Minibatch, Objective
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.gradients.elbo import ELBOGradient
from sklearn_vae.training.gradients.mixture import MixtureGradient

HAND_WRITTEN = ELBOGradient, MixtureGradient


class LossGradient:
    """The loss terms of batches of one size and their gradient, written into the model's."""

    def __init__(self, model: StackedModule, objective: Objective):
        self.model: Any = model
        self.objective = objective
        # the first that supports both; None is autograd
        supported = (cls for cls in HAND_WRITTEN if cls.supports(model, objective))
        self.hand_written: Any = next(supported, None)
        self.gradient: Any = None
        self.masks: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def impute_inputs(self, rows: Dataset) -> Dataset | None:
        """Impute the rows of each member before training: inputs of the encoder in their place.

        None if the model has no imputation layer, if batches are imputed anyway, or if the inputs
        would not fit into memory.
        """
        model, n_rows = self.model, rows.n_rows
        if self.hand_written is not ELBOGradient or model.filler is None:
            return None
        n_members = len(model.flat)
        n_numbers = n_members * n_rows * model.architecture.encoder_sizes[0]
        if rows.rows_per_window is not None or n_numbers > 1 << 27:
            return None
        positions = torch.arange(aligned(n_rows), device=rows.like.device)
        positions = positions.clamp(max=n_rows - 1)  # the last row fills the last chunk
        size = aligned(-(-ROWS_AT_A_TIME // n_members))
        chunks = positions.expand(n_members, -1).split(size, dim=1)
        inputs = [model.encoder_input(rows.take(chunk)[0]) for chunk in chunks]
        x = torch.cat(inputs, dim=1)[:, :n_rows].flatten(0, 1)
        first_row = n_rows * torch.arange(n_members, device=x.device)
        return replace(rows, x=x, row_indices=None, weight=None, first_row=first_row)

    def freeze_scales(self, members: np.ndarray) -> None:
        """Freeze the weights by which the scales of these members (M,) depend on z, not biases."""
        self.masks = []
        model = self.model
        if not members.any() or not isinstance(model, VAE) or type(model.decoder) is not MLP:
            return
        likelihood = model.likelihood
        is_scale = likelihood.is_scale_param[likelihood.is_decoded]
        is_frozen = members[:, None, None] & is_scale
        is_trained = torch.as_tensor(~is_frozen).to(model.flat)
        weights = model.decoder.output_weights()
        self.masks = [(cast(Tensor, weight.grad), is_trained) for weight in weights]

    def __call__(self, batch: Minibatch, beta: Tensor) -> Tensor:
        """Write the gradient of one batch into the model's; return the loss terms (3, M)."""
        if self.hand_written is None:
            terms = self._autograd(batch, beta)
        else:
            if self.gradient is None:
                self.gradient = self.hand_written(self.model, self.objective, batch.x.shape[1])
            terms = self.gradient(batch, beta)
        for gradient, is_trained in self.masks:
            gradient.mul_(is_trained)
        return terms

    def _autograd(self, batch: Minibatch, beta: Tensor) -> Tensor:
        """Write autograd's gradient of one batch into the model's."""
        with torch.enable_grad():
            terms = self.objective(self.model, batch, beta)
            total = terms.loss.sum()
        params = list(self.model.parameters())
        gradients = torch.autograd.grad(total, params, materialize_grads=True)
        for param, gradient in zip(params, gradients, strict=True):
            cast(Tensor, param.grad).copy_(gradient)
        return torch.stack(terms).detach()
