"""Hand-written gradient of the evidence lower bound."""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from sklearn_vae.likelihoods import Gaussian, LogNormal
from sklearn_vae.models.stacked import StackedModule
from sklearn_vae.models.vae import VAE
from sklearn_vae.networks import MLP
from sklearn_vae.numerics.array_api import in_double
from sklearn_vae.numerics.model_constants import HALF_LOG_2PI, INPUT_CLIP, NO_LEAST
from sklearn_vae.objectives import (
    ELBO,
    MMD,
    CapacityELBO,
    LossState,
    Minibatch,
    Objective,
    TotalCorrelation,
    TrimmedELBO,
)
from sklearn_vae.posteriors import DiagonalGaussian
from sklearn_vae.priors import MixturePrior
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.gradients.columns import (
    ColumnViews,
    NormalColumns,
    make_cost,
    split_columns,
)
from sklearn_vae.training.gradients.layers import (
    CHUNK_ROWS,
    GaussianSample,
    GradientBuffers,
    HandWrittenMLP,
    empty_like,
)

# Normal likelihoods with a hand-written backward pass.
NORMAL_LIKELIHOODS = {
    cls(scale) for cls in (Gaussian, LogNormal) for scale in ("per_row", "per_column")
}
# Objectives with a hand-written backward pass; penalties have autograd's.
SUPPORTED_OBJECTIVES = (ELBO, TrimmedELBO, CapacityELBO, MMD, TotalCorrelation)
# Imputed inputs of the encoder that are kept for all rows, at most.
MAX_IMPUTED = 1 << 27


class ELBOGradient:
    """The evidence lower bound, or the trimmed one, and its gradient for batches of one shape.

    All buffers, views and constants are allocated by the constructor. Columns whose likelihood has
    no hand-written backward pass have autograd's, down to the likelihood's parameters; so have
    learned priors, down to z.

    Parameters
    ----------
    model : VAE
        Model whose gradients are written in place.
    objective : ELBO
        Objective to differentiate.
    n_rows, n_draws : int
        Rows in a batch and draws of z per row.
    clips_input : bool, default=True
        Whether values of the encoder's input may have to be clipped.
    """

    def __init__(
        self,
        model: VAE,
        objective: ELBO,
        n_rows: int,
        n_draws: int,
        *,
        clips_input: bool = True,
    ):
        n_members, like = len(model.flat), model.flat
        self.model, self.objective, self.mask = model, objective, model.mask
        self.buffers = GradientBuffers(model)
        self.row_weights = RowWeights(n_members, n_rows, n_draws, like)
        n_latent, rounds = model.architecture.n_components, model.architecture.has_classes_only
        self.encoder = HandWrittenMLP(model.encoder, n_rows, self.buffers, rounds_outputs=rounds)
        self.decoder = HandWrittenMLP(
            model.decoder, n_draws * n_rows, self.buffers, n_latent, rounds_outputs=rounds
        )
        self.clips_input, self.selected = clips_input, model.selected_inputs
        if self.selected is not None:
            self.selected = self.selected.to(like.device)
        self.observed: Tensor | None = None
        if model.filler is not None:
            self.observed = like.new_ones(n_members, model.likelihood.n_values, n_rows)
            n_inputs = model.likelihood.n_columns + model.n_conditions
            self.x = like.new_empty(n_members, n_inputs, n_rows)
        else:
            n_numbers = model.likelihood.n_columns + model.n_conditions
            is_own = clips_input or model.selected_inputs is not None
            self.x = like.new_empty(n_members, n_numbers, n_rows) if is_own else self.encoder.x
        self.latent: GaussianLatent | LearnedPriorLatent
        if model.prior.is_standard_normal:
            self.latent = GaussianLatent(self.encoder, self.decoder, n_draws)
        else:
            is_mixture = isinstance(model.prior, MixturePrior)
            kind = MixturePriorLatent if is_mixture else LearnedPriorLatent
            self.latent = kind(model, self.encoder, self.decoder, n_draws)
        # the conditions are the last columns of x, and follow z in the decoder's input
        conditions = self.decoder.x[:, n_latent:]
        self.decoder_conditions = conditions.unflatten(2, (n_draws, -1))  # (M, n_cond, K, B)
        self.conditions = self.x[:, self.x.shape[1] - conditions.shape[1] :].unsqueeze(2)
        self.has_conditions = conditions.shape[1] > 0
        self.grad_out = torch.empty_like(self.decoder.out)
        self.columns = self._columns(model)
        self.least = LeastScales(model, self.decoder.out, self.grad_out)
        for param in model.prior_weights.values():
            self.buffers.view(param)  # its gradient is written after those of the networks
        self.terms = like.new_zeros(3, n_members)
        self.loss, self.reconstruction, self.kl = self.terms.unbind()

    @staticmethod
    def supports(model: StackedModule, objective: Objective) -> bool:
        """Return whether every part of the model and the objective has a backward pass here."""
        return (
            isinstance(model, VAE)
            and type(objective) in SUPPORTED_OBJECTIVES  # not a subclass that changes it
            and type(model.posterior) is DiagonalGaussian
            and type(model.encoder) is type(model.decoder) is MLP
            and (model.prior.is_standard_normal or not model.prior.has_closed_form_kl)
        )

    @staticmethod
    @torch.no_grad()
    def precompute(model: VAE, rows: Dataset) -> Dataset | None:
        """Impute all rows by the imputation layer: inputs of the encoder in their place.

        None if the model has no imputation layer, if members with the same rows have different
        ones, or if the inputs would not fit into memory.
        """
        if model.filler is None or not isinstance(rows.x, Tensor):
            return None
        n_members, n_inputs = len(model.flat), model.architecture.layout.encoder_sizes[0]
        first_rows, block = rows.first_row.unique(return_inverse=True)
        # the first member of each block of rows
        member = (rows.first_row == first_rows.unsqueeze(1)).int().argmax(dim=1)
        is_shared = all(
            bool((buffer == buffer[member[block]]).all()) for buffer in model.filler.buffers()
        )
        if not is_shared or len(first_rows) * rows.n_rows * n_inputs > MAX_IMPUTED:
            return None
        positions = torch.arange(rows.n_rows, device=rows.x.device).expand(n_members, -1)
        inputs = [
            model.encoder_input(rows.take(chunk)[0])[member]
            for chunk in positions.split(max(CHUNK_ROWS // n_members, 1), dim=1)
        ]
        x = torch.cat(inputs, dim=1).flatten(0, 1)
        return replace(rows, x=x, row_indices=None, weight=None, first_row=block * rows.n_rows)

    def _columns(self, model: VAE) -> "list[WeightedCost | GaussianColumns]":
        """Make a part for each block of columns, on views of the decoder's output."""
        likelihood, shape = model.likelihood, (self.row_weights.n_draws, self.row_weights.n_rows)
        params, grads = (
            likelihood.split(out.unflatten(2, shape).movedim(1, -1), free.unsqueeze(1))
            for out, free in zip(
                (self.decoder.out, self.grad_out), self.buffers.view(model.free), strict=True
            )
        )
        observed = None if self.observed is None else self.observed.unsqueeze(2)
        rows = self.x.unsqueeze(2)
        parts = split_columns(likelihood, params, grads, rows, observed)
        return [
            (GaussianColumns if columns.likelihood in NORMAL_LIKELIHOODS else WeightedCost)(
                columns, self.row_weights
            )
            for columns in parts
        ]

    def __call__(self, batch: Minibatch, state: LossState) -> Tensor:
        """Compute the loss terms (3, M) of one batch and write their gradient into the model's.

        The terms are valid until the next call.
        """
        if self.observed is not None:
            self._set_incomplete_rows(batch, self.observed)
        else:
            self.x.copy_(batch.x.mT)
            selected = self.selected
            if self.clips_input or selected is not None:
                inputs = self.x if selected is None else self.x.index_select(1, selected)
                torch.clamp(inputs, -INPUT_CLIP, INPUT_CLIP, out=self.encoder.x)
        if self.has_conditions:
            self.decoder_conditions.copy_(self.conditions)
        noise = batch.noise.permute(0, 3, 1, 2)  # (M or 1, l, K, B or 1)
        self.encoder.forward()
        self.latent.forward(noise)
        self.decoder.forward()
        self.least.forward()
        kl_rows = self.latent.kl_per_row()
        for block in self.columns:
            block.forward()

        beta, weight = cast(Tensor, state.beta), batch.weight
        if type(self.objective) is TrimmedELBO:
            loss = sum((block.row_loss() for block in self.columns), self.loss.new_zeros(()))
            kl_rows = kl_rows.mT - self.latent.kl_offset
            weight = self.objective.row_weights(-loss, kl_rows, beta, weight)
        if weight is not None:
            self.row_weights.set_weights(weight)
        self.reconstruction.zero_()
        for block in self.columns:
            self.reconstruction.add_(block.backward())
        self.least.backward()
        self.decoder.backward(self.grad_out)

        kl_per_dimension = self.latent.kl(self.row_weights)  # (M, l or 1)
        torch.sum(state.apply_free_bits(kl_per_dimension, self.mask), 1, out=self.kl)
        torch.addcmul(self.reconstruction, self.kl, beta, out=self.loss)
        grad_q = None
        if self.objective.has_penalty:
            penalty, grad_q, grad_kl = self._penalty(batch, state)
            self.loss.add_(penalty)
            beta = beta + grad_kl
        kl_weight = self.row_weights.row * beta.view(-1, 1, 1)  # (M, 1, B)
        if state.has_free_bits:
            kl_weight = kl_weight * state.exceeds_free_bits(kl_per_dimension).unsqueeze(2)
        grad = self.latent.backward(noise, kl_weight)
        if grad_q is not None:
            grad.add_(grad_q.mT)
        if self.mask is not None:  # the padding of a smaller member is not trained
            grad.unflatten(1, (2, -1)).mul_(self.mask[:, None, :, None])
        self.encoder.backward(grad)
        self.buffers.flush()
        self.latent.write_prior_gradient()
        return self.terms

    def _penalty(self, batch: Minibatch, state: LossState) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the penalty (M,), and its gradients for q(z|x) and the KL by autograd."""
        with torch.enable_grad():
            q, kl = self.encoder.out.mT.clone().requires_grad_(), self.kl.clone().requires_grad_()
            penalty = self.objective.penalty(self.model, q, batch, state, kl)
        ones = torch.ones_like(penalty)
        grad_q, grad_kl = torch.autograd.grad(penalty, (q, kl), ones, materialize_grads=True)
        return penalty.detach(), grad_q, grad_kl

    def _set_incomplete_rows(self, batch: Minibatch, observed: Tensor) -> None:
        """Write rows with zeros for missing values, their mask and the encoder's input."""
        self.x.copy_(batch.x.mT).nan_to_num_()
        observed.copy_(self.model.likelihood.observed(batch.x).mT)
        encoder_input = batch.precomputed
        if encoder_input is None:
            encoder_input = self.model.encoder_input(batch.x)
        self.encoder.x.copy_(encoder_input.mT)


class LeastScales:
    """Least scales of columns that are recorded in steps."""

    def __init__(self, model: VAE, out: Tensor, grad_out: Tensor):
        self.free, self.least_free = model.free, model.least_free
        rows = (model.least_outputs[:, 0] > NO_LEAST).any(0).nonzero()[:, 0].tolist()
        # outputs of neighbouring columns are one view
        starts = [row for row in rows if row - 1 not in rows]
        ends = [row + 1 for row in rows if row + 1 not in rows]
        least = model.least_outputs.mT  # (M, P, 1)
        self.parts = [
            tuple(tensor[:, a:b] for tensor in (out, grad_out, least))
            for a, b in zip(starts, ends, strict=True)
        ]
        self.masks = [torch.empty_like(out, dtype=torch.bool) for out, _, _ in self.parts]
        self.has_free = bool((model.least_free > NO_LEAST).any())

    def forward(self) -> None:
        """Raise the decoder's outputs and the free parameters to the least ones."""
        for (out, _, least), mask in zip(self.parts, self.masks, strict=True):
            torch.ge(out, least, out=mask)
            torch.maximum(out, least, out=out)
        if self.has_free:
            torch.maximum(self.free, self.least_free, out=self.free)

    def backward(self) -> None:
        """Set the gradients of raised outputs to zero."""
        for (_, grad_out, _), mask in zip(self.parts, self.masks, strict=True):
            grad_out.mul_(mask)


class RowWeights:
    """Weights of a batch's rows, divided by their number, in several shapes."""

    def __init__(self, n_members: int, n_rows: int, n_draws: int, like: Tensor):
        self.n_rows, self.n_draws = n_rows, n_draws
        self.row = like.new_full((n_members, 1, n_rows), 1 / n_rows)
        self.column = self.row.mT  # (M, B, 1)
        self.draws = like.new_full((n_members, 1, n_draws, n_rows), 1 / (n_rows * n_draws))
        self.draws_column = self.draws.flatten(2).mT  # (M, K B, 1)
        self.total = like.new_ones(n_members, 1, 1)

    def set_weights(self, weight: Tensor) -> None:
        """Set the weights (M, B) of a batch; by default, they are equal."""
        torch.mul(weight.unsqueeze(1), 1 / self.n_rows, out=self.row)
        self.draws.copy_(self.row.unsqueeze(1)).mul_(1 / self.n_draws)
        torch.sum(self.row, 2, keepdim=True, out=self.total)


class GaussianLatent(GaussianSample):
    """Reparameterized samples of z, and the KL divergence from the standard normal prior."""

    kl_offset = 0.5  # of kl_per_row

    def __init__(self, encoder: HandWrittenMLP, decoder: HandWrittenMLP, n_draws: int):
        super().__init__(encoder, decoder, n_draws)
        self.variance, self.buffer = (empty_like(self.loc) for _ in range(2))

    def kl_per_row(self) -> Tensor:
        """Compute the KL divergence per dimension and row, plus ``kl_offset``: (M, l, B)."""
        torch.mul(self.scale, self.scale, out=self.variance)
        rows = torch.addcmul(self.variance, self.loc, self.loc, out=self.buffer).mul_(self.half)
        return rows.sub_(self.log_scale)

    def kl(self, row_weights: RowWeights) -> Tensor:
        """Average ``kl_per_row`` over rows, less ``kl_offset``: (M, l)."""
        weight, total = row_weights.column, row_weights.total
        return torch.baddbmm(total, self.buffer, weight, beta=-self.kl_offset).squeeze(2)

    def backward(self, noise: Tensor, kl_weight: Tensor) -> Tensor:
        """Return the gradient of the encoder's output, (M, 2 l, B), from those of z and KL."""
        self.sum_over_draws(noise)
        torch.addcmul(self.grad_loc_sum, kl_weight, self.loc, out=self.grad_loc)
        grad = self.grad_scale.mul_(self.scale).addcmul_(kl_weight, self.variance).sub_(kl_weight)
        self.log_scale_bound.backward(grad, out=self.grad_raw)
        return self.grad_params

    def write_prior_gradient(self) -> None:
        """Do nothing: the prior has no parameters."""


class LearnedPriorLatent(GaussianSample):
    """Reparameterized samples of z, and a Monte Carlo KL divergence from a learned prior.

    The gradient of log p(z) is autograd's.
    """

    kl_offset = 0.0

    def __init__(self, model: VAE, encoder: HandWrittenMLP, decoder: HandWrittenMLP, n_draws: int):
        super().__init__(encoder, decoder, n_draws)
        self.model, self.n_draws = model, n_draws
        self.prior_params = list(model.prior_weights.values())
        self.encoder_params = model.encoder.flat_parameters()  # the VampPrior encodes its inputs

    def forward(self, noise: Tensor) -> None:
        """Compute ``z`` (M, l, K, B) from standard normal noise, and log p(z)."""
        super().forward(noise)
        self.log_noise = -noise.square().mul(self.half).add(HALF_LOG_2PI).sum(1)  # (M or 1, K, B)
        self.log_prior = self._log_prior()  # (M, K, B)

    def _log_prior(self) -> Tensor:
        """Compute log p(z) of the draws."""
        with torch.enable_grad():
            z = self.z.movedim(1, -1).clone(memory_format=torch.contiguous_format)
            self.leaf = z.requires_grad_()  # (M, K, B, l)
            return self.model.prior_distribution().log_prob(self.leaf)

    def kl_per_row(self) -> Tensor:
        """Average log q(z|x) - log p(z) over draws: (M, 1, B)."""
        kl = (self.log_noise - self.log_prior.detach()).mean(1, keepdim=True)
        self.row_kl = kl.sub_(self.log_scale.sum(1, keepdim=True))
        return self.row_kl

    def kl(self, row_weights: RowWeights) -> Tensor:
        """Average ``kl_per_row`` over rows: (M, 1)."""
        return torch.bmm(self.row_kl, row_weights.column).squeeze(2)

    def backward(self, noise: Tensor, kl_weight: Tensor) -> Tensor:
        """Return the gradient of the encoder's output, (M, 2 l, B), from those of z and KL."""
        self._prior_backward(-kl_weight / self.n_draws)
        self.sum_over_draws(noise)
        self.grad_loc.copy_(self.grad_loc_sum)
        grad = self.grad_scale.mul_(self.scale).sub_(kl_weight)
        self.log_scale_bound.backward(grad, out=self.grad_raw)
        return self.grad_params

    def _prior_backward(self, weight: Tensor) -> None:
        """Add the gradient of log p(z), with weights (M, 1, B) of the rows, to that of z."""
        leaves = [self.leaf, *self.prior_params, *self.encoder_params]
        with torch.enable_grad():
            total = (self.log_prior * weight).sum()
        grad_z, *grads = torch.autograd.grad(total, leaves, allow_unused=True)
        self.prior_grads = grads[: len(self.prior_params)]
        self.encoder_grads = grads[len(self.prior_params) :]
        self.grad_z.add_(grad_z.movedim(-1, 1))

    def write_prior_gradient(self) -> None:
        """Write the gradient of log p(z) into the model's, beside that of the networks."""
        for param, gradient in zip(self.prior_params, self.prior_grads, strict=True):
            cast(Tensor, param.grad).copy_(gradient)
        for param, gradient in zip(self.encoder_params, self.encoder_grads, strict=True):
            if gradient is not None:
                cast(Tensor, param.grad).add_(gradient)


class MixturePriorLatent(LearnedPriorLatent):
    """The same for a mixture of normal distributions, whose gradient is written out.

    In double precision: terms of narrow components are large and cancel.
    """

    def __init__(self, model: VAE, encoder: HandWrittenMLP, decoder: HandWrittenMLP, n_draws: int):
        super().__init__(model, encoder, decoder, n_draws)
        self.encoder_params, self.encoder_grads = [], []
        self.prior_mask = None if model.mask is None else model.mask.unsqueeze(1)
        n_members, self.n_latent, _, _ = self.z.shape
        n_points = self.z[0, 0].numel()
        n_components = model.prior_weights["loc"].shape[1]
        self.powers = in_double(self.z.new_empty(n_members, 2 * self.n_latent, n_points))
        self.log_joint = self.powers.new_empty(n_members, n_components, n_points)

    def _log_prior(self) -> Tensor:
        """Compute log p(z), a quadratic function of z for each component."""
        weights, n_latent = self.model.prior_weights, self.n_latent
        loc, log_scale = weights["loc"], weights["log_scale"]
        if self.prior_mask is not None:
            loc, log_scale = loc * self.prior_mask, log_scale * self.prior_mask
        self.prior_loc, log_scale = in_double(loc), in_double(log_scale)
        square, z = self.powers.split(n_latent, 1)
        z.copy_(self.z.flatten(2))
        torch.mul(z, z, out=square)
        self.precision = (-2 * log_scale).exp()
        slope = self.precision * self.prior_loc
        self.coefs = torch.cat([-0.5 * self.precision, slope], -1)  # (M, C, 2 l)
        self.log_weight = in_double(weights["logit"]).log_softmax(-1).mT  # (M, C, 1)
        at_zero = -(0.5 * slope * self.prior_loc + log_scale).sum(-1, keepdim=True)
        offset = self.log_weight + at_zero - n_latent * HALF_LOG_2PI
        torch.baddbmm(offset, self.coefs, self.powers, out=self.log_joint)  # (M, C, K B)
        self.log_sum = self.log_joint.logsumexp(1, keepdim=True)
        return self.log_sum[:, 0].unflatten(1, self.z.shape[2:]).to(self.z.dtype)

    def _prior_backward(self, weight: Tensor) -> None:
        """Add the gradient of log p(z), with weights (M, 1, B) of the rows, to that of z."""
        row_weight = weight.unsqueeze(2).expand(-1, -1, *self.z.shape[2:]).flatten(2)
        share = self.log_joint.sub_(self.log_sum).exp_().mul_(row_weight)  # (M, C, K B)
        of_square, of_z = torch.bmm(self.coefs.mT, share).split(self.n_latent, 1)
        grad_z = of_square.mul_(2).mul_(self.powers[:, self.n_latent :]).add_(of_z)
        self.grad_z.add_(grad_z.unflatten(2, self.z.shape[2:]))
        square, first = torch.bmm(share, self.powers.mT).split(self.n_latent, 2)  # (M, C, l)
        total, loc = share.sum(2, keepdim=True), self.prior_loc  # (M, C, 1)
        grad_loc = self.precision * (first - loc * total)
        moment = square - 2 * loc * first + loc.square() * total
        grad_log_scale = self.precision * moment - total
        if self.prior_mask is not None:
            grad_loc, grad_log_scale = grad_loc * self.prior_mask, grad_log_scale * self.prior_mask
        grad_logit = (total - self.log_weight.exp() * total.sum(1, keepdim=True)).mT
        grads = {"logit": grad_logit, "loc": grad_loc, "log_scale": grad_log_scale}
        self.prior_grads = [grads[name] for name in self.model.prior_weights]


class WeightedCost:
    """Cost of columns, averaged over rows with their weights."""

    def __init__(self, columns: ColumnViews, row_weights: RowWeights):
        self.cost, self.weights = make_cost(columns), row_weights.draws  # (M, 1, K, B)

    def forward(self) -> None:
        """Compute the cost of each row and draw."""
        self.row_cost = self.cost.forward()  # (M, K, B)

    def row_loss(self) -> Tensor:
        """Compute the loss of each row after ``forward``, averaged over draws: (M, B)."""
        return self.row_cost.mean(1)

    def backward(self) -> Tensor:
        """Write the gradients of the parameters after ``forward``; return the loss: (M,)."""
        self.cost.backward(self.weights)
        return self.row_cost.mul_(self.weights.squeeze(1)).sum((1, 2))


class GaussianColumns(NormalColumns):
    """Negative log-density of Gaussian columns.

    Terms of a scale that is one number per column are computed once and not for every row.
    """

    def __init__(self, columns: ColumnViews, row_weights: RowWeights):
        super().__init__(columns)
        self.row_weights = row_weights
        self.is_per_row = self.raw.shape == self.loc.shape
        self.standardized_rows = self.standardized.flatten(2)
        self.square_rows = self.square.flatten(2)
        self.squares = empty_like(self.raw)
        self.twice_bound, self.one = 2 * self.bound, self.loc.new_ones(())
        self.constant = self.loc.shape[1] * HALF_LOG_2PI
        self.per_column = self.loc.new_empty(*self.loc.shape[:2], 1)
        self.per_column_by_draw = self.per_column.unsqueeze(3)
        self.total = row_weights.total[:, 0, 0]

    forward = NormalColumns.standardize

    def row_loss(self) -> Tensor:
        """Compute the loss of each row after ``forward``, averaged over draws: (M, B)."""
        twice = self.tanh * self.twice_bound + 2 * HALF_LOG_2PI
        if self.observed is not None:
            twice = twice * self.observed
        return twice.add(self.square).sum(1).mean(1).mul_(0.5)

    def backward(self) -> Tensor:
        """Write the gradients of the parameters after ``forward``; return the loss: (M,)."""
        row_weights, observed = self.row_weights, self.observed
        self.backward_loc(row_weights.draws)
        # weights of the observations of a column
        count = row_weights.total
        if observed is not None:
            count = torch.bmm(observed.squeeze(2), row_weights.column)  # (M, d, 1)

        # gradient of the log-scale: number of observations minus their squares over scale²
        if self.is_per_row:
            torch.mul(self.tanh, self.twice_bound, out=self.standardized)
            n_observations = self.one if observed is None else observed
            if observed is not None:
                self.standardized.mul_(observed)
            self.standardized.add_(self.square)
            loss = torch.bmm(self.standardized_rows, row_weights.draws_column, out=self.per_column)
            grad = torch.sub(n_observations, self.square, out=self.squares)
            grad.mul_(row_weights.draws)
        else:
            loss = torch.bmm(self.square_rows, row_weights.draws_column, out=self.per_column)
            grad = torch.sub(count.unsqueeze(-1), self.per_column_by_draw, out=self.squares)
            loss.addcmul_(count * self.twice_bound, self.tanh.squeeze(3))
        self.log_scale_bound.backward(grad, out=self.grad_raw)
        loss = loss.sum((1, 2)).mul_(0.5)
        if observed is None:
            return loss.add_(self.total, alpha=self.constant)
        return loss.add_(count.sum((1, 2)), alpha=HALF_LOG_2PI)
