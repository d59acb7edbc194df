"""Gradient of the importance-weighted bound of ``VAEDensity``'s mixture."""

import math

import torch
from torch import Tensor

from sklearn_vae.models.mixture_vae import MixtureVAE, Whitening, draw_components, pick
from sklearn_vae.models.stacked import StackedModule
from sklearn_vae.objectives import IWAE, LossState, Minibatch, Objective
from sklearn_vae.training.gradients.layers import (
    GaussianSample,
    GradientBuffers,
    HandWrittenMLP,
    empty_like,
)


class MixtureGradient:
    """The importance-weighted bound and its gradient for batches of one shape.

    Networks, codes and importance weights have hand-written backward passes in buffers that the
    constructor allocates. The density of a row given its code and component is the model's, with
    autograd's gradient.

    Parameters
    ----------
    model : MixtureVAE
        Model whose gradients are written in place.
    objective : IWAE
        Objective to differentiate.
    n_rows, n_draws : int
        Rows in a batch and draws of z and component per row.
    """

    def __init__(self, model: MixtureVAE, objective: IWAE, n_rows: int, n_draws: int):
        self.model, self.shape = model, (n_draws, n_rows)
        n_latent = model.architecture.n_components
        buffers = self.buffers = GradientBuffers(model)
        self.encoder = HandWrittenMLP(model.encoder, n_rows, buffers)
        self.decoder = HandWrittenMLP(model.decoder, n_draws * n_rows, buffers, n_latent)
        self.latent = WeightedGaussianSample(self.encoder, self.decoder, n_draws, objective)
        self.one_hot = self.decoder.x[:, n_latent:]  # after z: (M, C, K B)
        _, self.grad_shears = buffers.view(model.shears)
        self.logit, self.grad_logit = buffers.view(model.mixture_logit)
        self.whitening = Whitening(model, n_rows)
        self.has_missing = model.architecture.has_missing
        sizes = len(model.flat), n_draws, n_rows, objective.n_draws
        self.importance = ImportanceWeights(*sizes, like=model.flat)

    @staticmethod
    def supports(model: StackedModule, objective: Objective) -> bool:
        """Return whether the model and the objective have a backward pass here."""
        return isinstance(model, MixtureVAE) and type(objective) is IWAE

    def __call__(self, batch: Minibatch, state: LossState) -> Tensor:
        """Compute the loss terms (3, M) of one batch and write their gradient into the model's.

        The terms are valid until the next call. The state is not read: the weight of the KL
        divergence is 1 for this objective.
        """
        model, importance, x = self.model, self.importance, batch.x
        if batch.weight is not None:
            importance.set_weights(batch.weight)
        latent_noise = batch.noise[..., :-1].permute(0, 3, 1, 2)  # (M or 1, l, K, B or 1)
        self.encoder.x.copy_(model.encoder_input(x).mT)
        self.encoder.forward()
        self.latent.forward(latent_noise)

        log_pi = self.logit.log_softmax(-1).mT  # (M, C, 1)
        row = model.split(x, is_complete=not self.has_missing)
        white, log_density = self.whitening(row)
        log_share = torch.add(log_density, log_pi).log_softmax(1)  # (M, C, B)
        chosen = draw_components(log_share.exp(), batch.noise[..., -1]).contiguous()  # (M, K, B)
        self.one_hot.zero_().scatter_(1, chosen.flatten(1).unsqueeze(1), 1.0)
        self.decoder.forward()
        with torch.enable_grad():
            out = self.decoder.out.detach().requires_grad_()
            parts = model.standardize(
                pick(white, chosen),
                out.unflatten(2, self.shape).split(model.splits, dim=1),
                chosen,
                row.real_observed,
            )
            observed = row.others_observed
            log_prob = model.log_prob_of(
                parts,
                row.others.unsqueeze(1),
                None if observed is None else observed.unsqueeze(1),
            )
        log_ratio = self.latent.log_ratio(latent_noise).add_(pick(log_pi - log_share, chosen))
        grad = importance(log_prob.detach(), log_ratio)  # of the log-weights: (M, K, B)

        with torch.enable_grad():
            total = (log_prob * grad).sum()
        grad_out, grad_shears = torch.autograd.grad(
            total, [out, model.shears], materialize_grads=True
        )
        self.grad_shears.copy_(grad_shears)
        torch.bmm(grad.flatten(1).unsqueeze(1), self.one_hot.mT, out=self.grad_logit)
        sum_of_shares = self.grad_logit.sum(-1, keepdim=True)
        self.grad_logit.addcmul_(self.logit.softmax(-1), sum_of_shares, value=-1)
        self.decoder.backward(grad_out)
        self.encoder.backward(self.latent.backward(latent_noise, importance.weights, grad))
        self.buffers.flush()
        return importance.terms


class ImportanceWeights:
    """Importance weights of each row's draws, and the importance-weighted bound [1]_.

    References
    ----------
    .. [1] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance Weighted Autoencoders",
       ICLR 2016.
    """

    def __init__(self, n_members: int, n_draws: int, n_rows: int, per_set: int, like: Tensor):
        shape, n_sets = (n_members, n_draws, n_rows), n_draws // per_set
        self.log_weight, self.weights, self.grad_log_weight = (
            like.new_empty(shape) for _ in range(3)
        )
        # the bounds of several sets of draws are averaged
        sets = n_members, n_sets, per_set, n_rows
        self.log_weight_by_set, self.weights_by_set = (
            tensor.view(sets) for tensor in (self.log_weight, self.weights)
        )
        self.log_per_set, self.mean_factor = math.log(per_set), -1 / (n_rows * n_sets)
        # factor of each row's bound in the loss
        self.row = like.new_full((n_members, 1, n_rows), self.mean_factor)
        self.terms = like.new_zeros(3, n_members)
        self.loss, self.reconstruction, self.kl = self.terms.unbind()

    def set_weights(self, weight: Tensor) -> None:
        """Set the weights (M, B) of a batch's rows; by default, they are equal."""
        torch.mul(weight.unsqueeze(1), self.mean_factor, out=self.row)

    def __call__(self, log_prob: Tensor, log_ratio: Tensor) -> Tensor:
        """Compute loss terms and normalized weights; return the gradient of the log-weights."""
        torch.add(log_prob, log_ratio, out=self.log_weight)
        highest = self.log_weight_by_set.amax(2, keepdim=True)
        torch.sub(self.log_weight_by_set, highest, out=self.weights_by_set).exp_()
        total = self.weights_by_set.sum(2, keepdim=True)  # (M, sets, 1, B)
        self.weights_by_set.div_(total)
        torch.mul(self.weights, self.row, out=self.grad_log_weight)
        bound = total.log_().add_(highest).squeeze(2).sub_(self.log_per_set)  # (M, sets, B)
        torch.sum(bound.mul_(self.row), (1, 2), out=self.loss)
        torch.sum(log_prob * self.grad_log_weight, (1, 2), out=self.reconstruction)
        torch.sub(self.loss, self.reconstruction, out=self.kl)
        return self.grad_log_weight


class WeightedGaussianSample(GaussianSample):
    """Reparameterized samples of z with log p(z) - log q(z|x).

    The gradient is the usual or the doubly reparameterized one [1]_.

    References
    ----------
    .. [1] G. Tucker et al., "Doubly Reparameterized Gradient Estimators for Monte Carlo
       Objectives", ICLR 2019.
    """

    def __init__(
        self, encoder: HandWrittenMLP, decoder: HandWrittenMLP, n_draws: int, objective: IWAE
    ):
        super().__init__(encoder, decoder, n_draws)
        self.doubly_reparameterized = objective.doubly_reparameterized
        self.buffer = empty_like(self.z)

    def log_ratio(self, noise: Tensor) -> Tensor:
        """Compute log p(z) - log q(z|x) in nats: (M, K, B)."""
        torch.mul(self.z, self.z, out=self.buffer)
        square = torch.addcmul(self.buffer, noise, noise, value=-1, out=self.buffer).sum(1)
        return torch.sub(self.log_scale.sum(1).unsqueeze(1), square.mul_(self.half), out=square)

    def backward(self, noise: Tensor, weights: Tensor, grad_log_weight: Tensor) -> Tensor:
        """Return the gradient of the encoder's output, (M, 2 l, B), from that of z.

        The doubly reparameterized one differentiates log q(z|x) with respect to z only, and
        multiplies the gradient of z by the normalized weights once more.
        """
        grad_log_weight = grad_log_weight.unsqueeze(1)  # (M, 1, K, B)
        if self.doubly_reparameterized:
            torch.div(noise, self.scale_per_draw, out=self.buffer).sub_(self.z)
            self.grad_z.addcmul_(self.buffer, grad_log_weight).mul_(weights.unsqueeze(1))
        else:
            self.grad_z.addcmul_(self.z, grad_log_weight, value=-1)
        self.sum_over_draws(noise)
        grad = self.grad_scale.mul_(self.scale)
        if not self.doubly_reparameterized:
            grad.add_(grad_log_weight.sum(2))
        self.grad_loc.copy_(self.grad_loc_sum)
        self.log_scale_bound.backward(grad, out=self.grad_raw)
        return self.grad_params
