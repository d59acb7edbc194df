"""Hand-written gradient of the evidence lower bound."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sklearn_vae.likelihoods.columnwise import NO_LEAST
from sklearn_vae.models.vae import VAE, StackedModule
from sklearn_vae.networks.mlp import MLP
from sklearn_vae.objectives import ELBO, Minibatch, Objective
from sklearn_vae.posteriors import DiagonalGaussian, FullCovarianceGaussian
from sklearn_vae.priors import MixturePrior
from sklearn_vae.training.gradients.columns import make_costs
from sklearn_vae.training.gradients.layers import (
    GaussianSample,
    HandWrittenMLP,
    empty_like,
    flat_views,
)


class ELBOGradient:
    """The evidence lower bound and its gradient for batches of one size.

    The constructor allocates all buffers, views and constants. Each row has one draw of z.
    """

    def __init__(self, model: VAE, objective: ELBO, n_rows: int):
        n_members, like = len(model.flat), model.flat
        self.model, self.objective = model, objective
        # weights of the rows divided by their number, by rows, and by draws and rows; and their sum
        self.row_weight = like.new_full((n_members, 1, n_rows), 1 / n_rows)
        self.weight_column, self.draw_weight = self.row_weight.mT, self.row_weight.unsqueeze(1)
        self.total_weight, self.mean_factor = like.new_ones(n_members, 1, 1), 1 / n_rows
        n_latent = model.architecture.n_components
        self.encoder = HandWrittenMLP(model, model.encoder, n_rows)
        self.decoder = HandWrittenMLP(model, model.decoder, n_rows, n_latent)
        # the conditions are the last columns of x, and follow z in the decoder's input
        n_columns, n_conditions = model.likelihood.n_columns, model.n_conditions
        self.x = like.new_empty(n_members, n_columns + n_conditions, 1, n_rows)
        self.conditions = self.x[:, n_columns:]
        self.decoder_conditions = self.decoder.x[:, n_latent:].unsqueeze(2)
        self.observed: Tensor | None = None
        if model.filler is not None:
            self.observed = like.new_ones(n_members, model.likelihood.n_values, 1, n_rows)
        self.grad_out = torch.empty_like(self.decoder.out)
        pairs = zip((self.decoder.out, self.grad_out), flat_views(model, model.free), strict=True)
        params, grads = (
            model.likelihood.split(out.unsqueeze(2).movedim(1, -1), free.unsqueeze(1))
            for out, free in pairs
        )
        self.costs = make_costs(model.likelihood, params, grads, self.x, self.observed)
        self.zeros = like.new_zeros(n_members, 1, n_rows)
        # least scales of columns that are recorded in steps: decoder's outputs, free parameters
        self.least, self.least_free = (
            least if bool((least > NO_LEAST).any()) else None
            for least in (model.least_outputs.mT, model.least_free)
        )
        self.is_free = torch.empty_like(self.decoder.out, dtype=torch.bool)
        prior = {name: flat_views(model, param) for name, param in model.prior_weights.items()}
        self.latent: GaussianLatent | MixturePriorLatent
        if model.prior.has_closed_form_kl:
            self.latent = GaussianLatent(self.encoder, self.decoder)
        else:
            self.latent = MixturePriorLatent(self.encoder, self.decoder, prior)
        self.terms = like.new_zeros(3, n_members)
        self.loss, self.reconstruction, self.kl = self.terms.unbind()

    @staticmethod
    def supports(model: StackedModule, objective: Objective) -> bool:
        """Return whether every part of the model and the objective has a backward pass here."""
        return (
            isinstance(model, VAE)
            and type(objective) is ELBO  # not a subclass that changes it
            and type(model.posterior) in (DiagonalGaussian, FullCovarianceGaussian)
            and type(model.encoder) is type(model.decoder) is MLP
            and (model.prior.has_closed_form_kl or isinstance(model.prior, MixturePrior))
        )

    def __call__(self, batch: Minibatch, beta: Tensor) -> Tensor:
        """Compute the loss terms (3, M) of one batch and write their gradient into the model's.

        The terms are valid until the next call.
        """
        self._set_rows(batch)
        noise = batch.noise.permute(0, 3, 1, 2)  # (M or 1, l, 1, B)
        self.encoder.forward()
        self.latent.forward(noise)
        self.decoder.forward()
        if self.least is not None:
            torch.ge(self.decoder.out, self.least, out=self.is_free)
            torch.maximum(self.decoder.out, self.least, out=self.decoder.out)
        if self.least_free is not None:
            torch.maximum(self.model.free, self.least_free, out=self.model.free)
        cost_of_rows = sum((cost.forward() for cost in self.costs), self.zeros)  # (M, 1, B)

        if batch.weight is not None:
            torch.mul(batch.weight.unsqueeze(1), self.mean_factor, out=self.row_weight)
            torch.sum(self.row_weight, 2, keepdim=True, out=self.total_weight)
        for cost in self.costs:
            cost.backward(self.draw_weight)
        torch.sum(cost_of_rows.mul_(self.row_weight), (1, 2), out=self.reconstruction)
        if self.least is not None:
            self.grad_out.mul_(self.is_free)
        self.decoder.backward(self.grad_out)

        kl_per_dimension = self.latent.kl(self.weight_column, self.total_weight)  # (M, l or 1)
        kl_weight = self.row_weight * beta.view(-1, 1, 1)  # (M, 1, B)
        if free_bits := self.objective.free_bits:
            kl_weight = kl_weight * (kl_per_dimension > free_bits).unsqueeze(2)
            kl_per_dimension.clamp_(min=free_bits)
        torch.sum(kl_per_dimension, 1, out=self.kl)
        torch.addcmul(self.reconstruction, self.kl, beta, out=self.loss)
        self.encoder.backward(self.latent.backward(kl_weight))
        return self.terms

    def _set_rows(self, batch: Minibatch) -> None:
        """Write rows with zeros for missing values, their mask, and the encoder's input."""
        x = self.x.squeeze(2).copy_(batch.x.mT)
        if self.observed is not None:
            x.nan_to_num_()
            self.observed.squeeze(2).copy_(self.model.likelihood.observed(batch.x).mT)
        encoder_input = batch.encoder_input
        if encoder_input is None:
            encoder_input = self.model.encoder_input(batch.x)
        self.encoder.x.copy_(encoder_input.mT)
        if self.model.n_conditions:
            self.decoder_conditions.copy_(self.conditions)


class GaussianLatent(GaussianSample):
    """Reparameterized samples of z, and the KL divergence from the standard normal prior."""

    def __init__(self, encoder: HandWrittenMLP, decoder: HandWrittenMLP):
        super().__init__(encoder, decoder, n_draws=1)
        self.variance, self.buffer = (empty_like(self.loc) for _ in range(2))

    def kl(self, weight: Tensor, total: Tensor) -> Tensor:
        """Average the KL divergence of each dimension over rows, of this total weight: (M, l)."""
        torch.mul(self.scale, self.scale, out=self.variance)
        if not self.is_diagonal:
            self.conditional = self.variance.clone()  # given the dimensions before it
            self.variance.addcmul_(self.conditional, torch.bmm(self.in_row, self.below.square()))
        rows = torch.addcmul(self.variance, self.loc, self.loc, out=self.buffer).mul_(self.half)
        rows.sub_(self.log_scale)  # plus 0.5: (M, l, B)
        return torch.baddbmm(total, rows, weight, beta=-0.5).squeeze(2)

    def backward(self, kl_weight: Tensor) -> Tensor:
        """Return the gradient of the encoder's output, (M, n_params, B), from those of z and KL."""
        self.sum_over_draws()
        if not self.is_diagonal:
            weight = self.conditional * kl_weight
            self.grad_below.addcmul_(weight.index_select(1, self.row), self.below)
        self.grad_loc.addcmul_(kl_weight, self.loc)
        grad = self.grad_scale.mul_(self.scale).addcmul_(kl_weight, self.variance).sub_(kl_weight)
        self.log_scale_bound.backward(grad, out=self.grad_raw)
        return self.grad_params


class MixturePriorLatent(GaussianSample):
    """Reparameterized samples of z, and a Monte Carlo KL divergence from a mixture prior.

    Of the prior's parameters, ``prior`` has the values and where to write their gradients.
    """

    def __init__(
        self,
        encoder: HandWrittenMLP,
        decoder: HandWrittenMLP,
        prior: Mapping[str, tuple[Tensor, Tensor]],
    ):
        super().__init__(encoder, decoder, n_draws=1)
        self.logit, self.grad_logit = prior["logit"]  # (M, 1, C)
        loc, self.grad_prior_loc = prior["loc"]  # (M, C, l)
        log_scale, self.grad_prior_scale = prior["log_scale"]
        self.prior_loc, self.prior_log_scale = loc.unsqueeze(3), log_scale.unsqueeze(3)
        self.codes = self.z.squeeze(2).unsqueeze(1)
        n_members, n_components, n_latent, _ = self.prior_loc.shape
        self.standardized = loc.new_empty(n_members, n_components, n_latent, self.z.shape[3])
        self.square = torch.empty_like(self.standardized)

    def forward(self, noise: Tensor) -> None:
        """Compute ``z`` (M, l, 1, B) from standard normal noise."""
        super().forward(noise)
        # minus log q(z|x), but for the scales, and for a constant that log p(z) has, too
        self.log_noise = noise.square().sum(1).mul_(self.half)  # (M or 1, 1, B)

    def kl(self, weight: Tensor, total: Tensor) -> Tensor:
        """Average log q(z|x) - log p(z) over rows: (M, 1)."""
        self.inverse_scale = self.prior_log_scale.neg().exp_()  # (M, C, l, 1)
        torch.sub(self.codes, self.prior_loc, out=self.standardized).mul_(self.inverse_scale)
        torch.mul(self.standardized, self.standardized, out=self.square)
        self.log_weight = self.logit.log_softmax(-1)
        log_joint = self.square.sum(2).mul_(-self.half)  # (M, C, B)
        log_joint.add_(self.log_weight.mT - self.prior_log_scale.sum(2))
        log_responsibility = log_joint.log_softmax(1)  # less than the above by log p(z)
        log_prior = log_joint.amax(1, keepdim=True).sub_(log_responsibility.amax(1, keepdim=True))
        self.responsibility = log_responsibility.exp_()
        log_ratio = log_prior.add_(self.log_noise).add_(self.log_scale.sum(1, keepdim=True))
        return torch.bmm(log_ratio, weight).neg_().squeeze(2)

    def backward(self, kl_weight: Tensor) -> Tensor:
        """Return the gradient of the encoder's output, (M, n_params, B), from those of z and KL."""
        weights = self.responsibility.mul_(kl_weight)  # of components and rows: (M, C, B)
        total, weights_of_codes = weights.sum(2, keepdim=True), weights.unsqueeze(2)
        torch.sub(self.log_weight.exp() * total.sum(1, keepdim=True), total.mT, out=self.grad_logit)
        square = self.square.mul_(weights_of_codes).sum(3)
        torch.sub(total, square, out=self.grad_prior_scale)
        grad = self.standardized.mul_(weights_of_codes).mul_(self.inverse_scale)  # (M, C, l, B)
        torch.sum(grad, 3, out=self.grad_prior_loc).neg_()
        self.grad_z.add_(grad.sum(1).unsqueeze(2))
        return self.write_gradient(kl_weight)
