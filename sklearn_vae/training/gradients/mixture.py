"""Hand-written gradient of the importance-weighted bound of ``VAEDensity``'s mixture."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from sklearn_vae.models.mixture_ensemble import least_log_scale, least_params
from sklearn_vae.models.mixture_vae import MixtureVAE, Row, Whitening, draw_components, pick
from sklearn_vae.models.stacked import StackedModule
from sklearn_vae.numerics.array_api import cholesky, in_double
from sklearn_vae.numerics.model_constants import COMPONENT_LOG_SCALE_BOUND, HALF_LOG_2PI
from sklearn_vae.objectives import IWAE, Minibatch, Objective
from sklearn_vae.training.gradients.columns import make_cost, split_columns
from sklearn_vae.training.gradients.layers import (
    GaussianSample,
    GradientBuffers,
    HandWrittenMLP,
    TanhBound,
    empty_like,
)


class MixtureGradient:
    """The importance-weighted bound and its gradient for batches of one size.

    All buffers, views and constants are allocated by the constructor.

    Parameters
    ----------
    model : MixtureVAE
        Model whose gradients are written in place.
    objective : IWAE
        Objective to differentiate.
    n_rows : int
        Rows in a batch.
    """

    def __init__(self, model: MixtureVAE, objective: IWAE, n_rows: int):
        self.model, n_latent = model, model.architecture.n_components
        n_draws = objective.n_draws
        buffers = self.buffers = GradientBuffers(model)
        self.encoder = HandWrittenMLP(model.encoder, n_rows, buffers)
        self.decoder = HandWrittenMLP(model.decoder, n_draws * n_rows, buffers, n_latent)
        self.latent = WeightedGaussianSample(self.encoder, self.decoder, n_draws)
        one_hot = self.decoder.x[:, n_latent:]  # after z
        self.grad_out = torch.empty_like(self.decoder.out)
        params, grads = (
            out.unflatten(2, (n_draws, n_rows)).split(model.architecture.decoder_sizes, dim=1)
            for out in (self.decoder.out, self.grad_out)
        )
        *outputs, other = zip(params, grads, strict=True)
        self.whitened = WhitenedColumns(model, outputs, buffers)
        self.others = OtherColumns(model, other) if len(model.other_columns) else None
        self.components = Components(model, one_hot, outputs[0][0], buffers)
        self.split = partial(model.split, is_complete=not model.architecture.has_missing)
        self.importance = ImportanceWeights((len(model.flat), n_draws, n_rows), model.flat)

    @staticmethod
    def supports(model: StackedModule, objective: Objective) -> bool:
        """Return whether the model and the objective have a backward pass here."""
        return isinstance(model, MixtureVAE) and type(objective) is IWAE

    def __call__(self, batch: Minibatch, beta: Tensor) -> Tensor:
        """Compute the loss terms (3, M) of one batch and write their gradient into the model's.

        The terms are valid until the next call. The weight of the KL is 1 for this objective.
        """
        if batch.weight is not None:
            self.importance.set_weights(batch.weight)
        x, noise = batch.x, batch.noise
        self.encoder.x.copy_(self.model.architecture.encoder_input(x).mT)
        latent_noise = noise[..., :-1].permute(0, 3, 1, 2)  # (M or 1, l, K, B)
        self.encoder.forward()
        self.latent.forward(latent_noise)
        components, importance = self.components, self.importance
        row = self.split(x)
        components.forward(row, noise[..., -1])
        self.decoder.forward()

        cost = self.whitened.forward(components)
        if self.others is not None:
            cost.add_(self.others.forward(row, components.component))
        torch.neg(cost, out=importance.log_prob)
        latent_log_ratio = self.latent.log_ratio(latent_noise)
        torch.add(components.log_ratio, latent_log_ratio, out=importance.log_ratio)
        importance.forward()

        grad = importance.grad_log_weight
        components.backward(grad)
        self.whitened.backward(grad)
        if self.others is not None:
            self.others.backward(grad)
        self.decoder.backward(self.grad_out)
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

    def __init__(self, shape: tuple[int, int, int], like: Tensor):
        n_members, n_draws, n_rows = shape
        self.log_prob, self.log_ratio, self.log_weight, self.weights, self.grad_log_weight = (
            like.new_empty(shape) for _ in range(5)
        )
        self.log_n_draws, self.mean_factor = math.log(n_draws), -1 / n_rows
        # factor of each row's bound in the loss
        self.row = like.new_full((n_members, 1, n_rows), self.mean_factor)
        self.terms = like.new_zeros(3, n_members)
        self.loss, self.reconstruction, self.kl = self.terms.unbind()

    def set_weights(self, weight: Tensor) -> None:
        """Set the weights (M, B) of a batch's rows; by default, they are equal."""
        torch.mul(weight.unsqueeze(1), self.mean_factor, out=self.row)

    def forward(self) -> None:
        """Compute loss terms, normalized weights (M, K, B), and the gradient of the log-weights."""
        torch.add(self.log_prob, self.log_ratio, out=self.log_weight)
        highest = self.log_weight.amax(1, keepdim=True)
        torch.sub(self.log_weight, highest, out=self.weights).exp_()
        total = self.weights.sum(1, keepdim=True)  # (M, 1, B)
        self.weights.div_(total)
        torch.mul(self.weights, self.row, out=self.grad_log_weight)
        bound = total.log_().add_(highest).sub_(self.log_n_draws)
        torch.sum(bound.mul_(self.row), (1, 2), out=self.loss)
        torch.sum(self.log_prob.mul_(self.grad_log_weight), (1, 2), out=self.reconstruction)
        torch.sub(self.loss, self.reconstruction, out=self.kl)


class WeightedGaussianSample(GaussianSample):
    """Reparameterized samples of z with log p(z) - log q(z|x).

    The gradient is the doubly reparameterized one [1]_.

    References
    ----------
    .. [1] G. Tucker et al., "Doubly Reparameterized Gradient Estimators for Monte Carlo
       Objectives", ICLR 2019.
    """

    def __init__(self, encoder: HandWrittenMLP, decoder: HandWrittenMLP, n_draws: int):
        super().__init__(encoder, decoder, n_draws)
        self.buffer = empty_like(self.z)

    def log_ratio(self, noise: Tensor) -> Tensor:
        """Compute log p(z) - log q(z|x) in nats: (M, K, B)."""
        torch.mul(self.z, self.z, out=self.buffer)
        square = torch.addcmul(self.buffer, noise, noise, value=-1, out=self.buffer).sum(1)
        return torch.sub(self.log_scale.sum(1).unsqueeze(1), square.mul_(self.half), out=square)

    def backward(self, noise: Tensor, weights: Tensor, grad_log_weight: Tensor) -> Tensor:
        """Return the gradient of the encoder's output, (M, 2 l, B), from that of z.

        It differentiates log q(z|x) with respect to z only, and multiplies the gradient of z by the
        normalized weights once more.
        """
        grad_log_weight = grad_log_weight.unsqueeze(1)  # (M, 1, K, B)
        torch.div(noise, self.scale_per_draw, out=self.buffer).sub_(self.z)
        self.grad_z.addcmul_(self.buffer, grad_log_weight).mul_(weights.unsqueeze(1))
        self.sum_over_draws(noise)
        self.grad_loc.copy_(self.grad_loc_sum)
        self.log_scale_bound.backward(self.grad_scale.mul_(self.scale), out=self.grad_raw)
        return self.grad_params


class Components:
    """Mixture components sampled for each row, and the row whitened by them."""

    def __init__(
        self, model: MixtureVAE, one_hot: Tensor, whitened_x: Tensor, buffers: GradientBuffers
    ):
        self.one_hot, self.one_hot_t = one_hot, one_hot.mT  # (M, C, K B)
        self.logit, self.grad_logit = buffers.view(model.mixture_logit)
        self.log_det_by_component = model.log_det.unsqueeze(-1)  # (M, C, 1)
        self.whitening = Whitening(model, whitened_x.shape[-1])
        self.whitened_x = empty_like(whitened_x)  # (M, d, K, B)

    def forward(self, row: Row, noise: Tensor) -> None:
        """Sample components for rows and write them into the decoder's input."""
        log_pi = self.logit.log_softmax(-1).mT  # (M, C, 1)
        whitened_x, log_density = self.whitening(row)
        log_responsibility = torch.add(log_density, log_pi).log_softmax(1)  # (M, C, B)
        self.component = draw_components(log_responsibility.exp(), noise).contiguous()  # (M, K, B)
        self.one_hot.zero_().scatter_(1, self.component.flatten(1).unsqueeze(1), 1.0)
        pick(whitened_x, self.component, out=self.whitened_x)
        self.log_det = pick(self.log_det_by_component, self.component)  # (M, K, B)
        self.real_observed = row.real_observed
        self.log_ratio = pick(torch.sub(log_pi, log_responsibility), self.component)

    def backward(self, grad_log_weight: Tensor) -> None:
        """Write the gradient of the mixture logits."""
        torch.bmm(grad_log_weight.flatten(1).unsqueeze(1), self.one_hot_t, out=self.grad_logit)
        total = self.grad_logit.sum(-1, keepdim=True)
        self.grad_logit.addcmul_(self.logit.softmax(-1), total, value=-1)


class WhitenedColumns:
    """Cost of the real columns, whitened by their component."""

    def __init__(
        self, model: MixtureVAE, outputs: Sequence[tuple[Tensor, Tensor]], buffers: GradientBuffers
    ):
        # (M, d, K, B), and (M, S, K, B) for the shears
        (self.shift, self.grad_shift), (self.raw, self.grad_raw), mix = outputs
        self.inverse_scale, self.residual, self.scaled, self.standard, self.buffer = (
            empty_like(self.shift) for _ in range(5)
        )
        self.log_scale_bound = TanhBound(self.raw, COMPONENT_LOG_SCALE_BOUND)
        self.bound, self.tanh = self.log_scale_bound.bound, self.log_scale_bound.tanh
        self.negative_bound, self.half = -self.bound, self.raw.new_tensor(0.5)
        self.constant = self.shift.shape[1] * HALF_LOG_2PI
        least = least_log_scale(model.architecture, model.whiten, model.min_log_scale)
        least = least.mT.unsqueeze(-1) / COMPONENT_LOG_SCALE_BOUND  # (M, d, C, 1)
        self.min_tanh_by_component = least if (least > -1).any() else None
        self.min_tanh = empty_like(self.shift)
        value, grad = buffers.view(model.shears)
        self.shears = (
            Shears(value, grad, model.before.to(value), mix, self.residual)
            if len(value[0])
            else None
        )
        self.missing = None
        if model.architecture.has_missing:
            self.missing = MissingColumns(model, self.shift, self.inverse_scale, self.shears)

    def forward(self, components: Components) -> Tensor:
        """Compute the cost of each row in nats: (M, K, B)."""
        whitened_x, component = components.whitened_x, components.component
        tanh = self.log_scale_bound.forward()
        if self.min_tanh_by_component is not None:
            min_tanh = pick(self.min_tanh_by_component, component, out=self.min_tanh)
            self.is_free = tanh > min_tanh
            torch.maximum(tanh, min_tanh, out=tanh)
        torch.mul(tanh, self.negative_bound, out=self.inverse_scale).exp_()
        if self.missing is not None:
            self.missing.forward(components)
        torch.sub(whitened_x, self.shift, out=self.residual)
        torch.mul(self.residual, self.inverse_scale, out=self.scaled)
        if self.shears is None:
            self.standard.copy_(self.scaled)
        else:
            self.shears.forward(self.scaled, self.standard)
        cost = torch.mul(self.standard, self.standard, out=self.buffer).mul_(self.half)
        cost = cost.addcmul_(self.tanh, self.bound).sum(1).add_(self.constant)
        cost.sub_(components.log_det)
        if self.missing is not None:
            cost[self.missing.member, :, self.missing.row] += self.missing.cost
        return cost

    def backward(self, grad_log_weight: Tensor) -> None:
        """Write the gradients, from that of the log-density (M, K, B)."""
        grad_log_weight = grad_log_weight.unsqueeze(1)
        # minus the gradient of the standardized row
        grad_standard = self.standard.mul_(grad_log_weight)
        torch.mul(grad_standard, self.inverse_scale, out=self.grad_shift)
        if self.shears is not None:
            self.shears.backward(grad_standard, self.grad_shift)
        grad_log_scale = self.scaled.mul_(grad_standard).sub_(grad_log_weight)
        if self.missing is not None:
            self.missing.backward(grad_log_weight.squeeze(1), grad_log_scale)
        if self.min_tanh_by_component is not None:
            grad_log_scale.mul_(self.is_free)
        self.log_scale_bound.backward(grad_log_scale, out=self.grad_raw)


class Shears:
    """Shears: triangular matrices that add previous columns to each column, mixed row by row."""

    def __init__(
        self,
        value: Tensor,
        grad: Tensor,
        before: Tensor,
        mix: tuple[Tensor, Tensor],
        residual: Tensor,
    ):
        self.value, self.grad, self.masked = value, grad, value.clone()
        self.before, self.after, self.grad_t = before, -before, empty_like(grad.mT)
        self.mix, self.grad_mix = mix  # (M, S, K, B)
        self.mix_by_column, self.residual = self.mix.unsqueeze(2), residual.unsqueeze(1)
        shape = *self.mix.shape[:2], *residual.shape[1:]
        # (M, S, d, K, B)
        self.products, self.buffer = (residual.new_empty(shape) for _ in range(2))
        self.flat_products, self.flat_buffer = (
            tensor.flatten(1, 2).flatten(2) for tensor in (self.products, self.buffer)
        )
        self.masked_t, self.flat_products_t = self.masked.mT, self.flat_products.mT

    def forward(self, scaled: Tensor, out: Tensor) -> None:
        """Add the shears of the rows' residuals to the scaled rows: (M, d, K, B)."""
        torch.mul(self.value, self.before, out=self.masked)
        torch.mul(self.mix_by_column, self.residual, out=self.products)
        torch.baddbmm(scaled.flatten(2), self.masked_t, self.flat_products, out=out.flatten(2))

    def backward(self, grad_standard: Tensor, grad_shift: Tensor) -> None:
        """Write the gradients of shears and mixing weights, and add to that of the shift."""
        flat_grad = grad_standard.flatten(2)
        # matrix products into a transposed view are slow
        torch.bmm(flat_grad, self.flat_products_t, out=self.grad_t)
        torch.mul(self.grad_t.mT, self.after, out=self.grad)
        torch.bmm(self.masked, flat_grad, out=self.flat_buffer)
        torch.sum(
            torch.mul(self.buffer, self.residual, out=self.products), 2, out=self.grad_mix
        ).neg_()
        grad_shift.add_(self.buffer.mul_(self.mix_by_column).sum(1))


class MissingColumns:
    r"""Missing values of the real columns, which are integrated out.

    Rows are completed by the conditional means of their missing values. The density of the
    observed values then has the gradient of the complete row's, but for that of the missing
    values' precision :math:`(R W)^T R W`: :math:`W` are their columns of the component's root, and
    :math:`R` is the root that the scales and shears make.
    """

    def __init__(
        self, model: MixtureVAE, shift: Tensor, inverse_scale: Tensor, shears: Shears | None
    ):
        self.whiten, self.is_full, self.shears = model.whiten, model.is_full, shears
        self.shift, self.inverse_scale = shift, inverse_scale  # (M, d, K, B)
        self.is_independent = model.architecture.is_independent  # without matrices

    def forward(self, components: Components) -> None:
        """Complete the rows, and compute what their costs differ by: (I, K)."""
        observed, white = components.real_observed, components.whitened_x
        if observed is None:
            observed = torch.ones_like(white[:, :, 0].mT, dtype=torch.bool)
        self.member, self.row = (~observed.all(-1)).nonzero(as_tuple=True)  # of I incomplete rows
        observed = observed[self.member, self.row].unsqueeze(1)  # (I, 1, d)
        chosen = components.component[self.member, :, self.row]
        whiten = in_double(self.whiten[self.member.unsqueeze(1), chosen])
        self.scale = self._of_rows(self.inverse_scale).to(whiten)
        n_missing = (~observed).to(whiten).sum(-1)
        residual = self._of_rows(white - self.shift).to(whiten)
        if self.is_independent:
            self.gain = (~observed).to(whiten) / self.scale  # (I, K, d)
            white[self.member, :, :, self.row] -= (residual * ~observed).mT.to(white)
            log_det = (self.scale * whiten).log().masked_fill(observed, 0).sum(-1)
            self.cost = (log_det - HALF_LOG_2PI * n_missing).to(white)
            return
        whiten = whiten if self.is_full else torch.diag_embed(whiten)
        root = torch.diag_embed(self.scale)  # (I, K, d, d)
        if self.shears is not None:
            value = self.shears.value.unflatten(1, (-1, len(white[0])))
            self.sheared = value.triu(1)[self.member].to(root)  # (I, S, d, d)
            self.mix = self.shears.mix[self.member, :, :, self.row].to(root)  # (I, S, K)
            root = root + torch.einsum("isk,isde->iked", self.mix, self.sheared)
        whiten = whiten * ~observed.unsqueeze(2)
        slope = root @ whiten
        # 1 on the diagonal at observed values
        precision = slope.mT @ slope + torch.diag_embed(observed.to(root))
        lower = cholesky(precision)
        self.gain = whiten @ torch.cholesky_solve(slope.mT, lower)  # (I, K, d, d)
        change = (self.gain @ root @ residual.unsqueeze(-1)).squeeze(-1)
        white[self.member, :, :, self.row] -= change.mT.to(white)
        log_det = lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        self.cost = (log_det - HALF_LOG_2PI * n_missing).to(white)

    def backward(self, grad_log_weight: Tensor, grad_log_scale: Tensor) -> None:
        """Add the gradients of the missing values' precisions."""
        member, row = self.member, self.row
        gain = self.gain if self.is_independent else self.gain.diagonal(dim1=-2, dim2=-1)
        diagonal = grad_log_weight[member, :, row, None] * gain * self.scale
        grad_log_scale[member, :, :, row] += diagonal.mT.to(grad_log_scale)
        if self.shears is not None:
            grad = grad_log_weight[member, :, row, None, None] * self.gain
            of_mix = torch.einsum("isde,ikde->isk", self.sheared, grad)
            self.shears.grad_mix[member, :, :, row] -= of_mix.to(grad_log_scale)
            of_value = torch.einsum("isk,ikde->isde", self.mix, grad).triu(1).flatten(1, 2)
            self.shears.grad.index_add_(0, member, of_value.to(grad_log_scale), alpha=-1)

    def _of_rows(self, values: Tensor) -> Tensor:
        """Values of the incomplete rows: (M, d, K, B) -> (I, K, d)."""
        return values[self.member, :, :, self.row].mT


class OtherColumns:
    """Cost of the other columns, whose parameters are relative to their component's."""

    def __init__(self, model: MixtureVAE, params: tuple[Tensor, Tensor]):
        self.added, self.grad = params  # (M, P, K, B)
        scales = torch.as_tensor(model.others.is_scale_param, device=model.device)
        self.scales = scales.nonzero()[:, 0]
        least = least_params(model.architecture, model.params)[..., self.scales]
        self.least_by_component = least.mT.unsqueeze(-1)  # (M, S, C, 1)
        self.of_components = model.params.mT.unsqueeze(-1)  # (M, P, C, 1)
        self.params, others = empty_like(self.added), model.others
        n_members, _, _, n_rows = self.params.shape
        self.x = self.params.new_empty(n_members, others.n_columns, 1, n_rows)
        self.observed: Tensor | None = None
        if model.architecture.has_missing:
            self.observed = self.params.new_ones(n_members, others.n_values, 1, n_rows)
        params_of, grads_of = (
            others.split_params(tensor.movedim(1, -1)) for tensor in (self.params, self.grad)
        )
        blocks = split_columns(others, params_of, grads_of, self.x, self.observed)
        self.costs = [make_cost(columns) for columns in blocks]

    def forward(self, row: Row, component: Tensor) -> Tensor:
        """Compute the cost of each row in nats: (M, K, B)."""
        of_component = pick(self.of_components, component)
        torch.add(of_component, self.added, out=self.params)
        if len(self.scales):
            free = self.params[:, self.scales]
            least = pick(self.least_by_component, component)
            self.is_free = free >= least
            self.params[:, self.scales] = torch.maximum(free, least)
        self.x.squeeze(2).copy_(row.others.mT)
        if self.observed is not None:
            if row.others_observed is None:
                self.observed.fill_(1)
            else:
                self.observed.squeeze(2).copy_(row.others_observed.mT)
        first, *rest = [cost.forward() for cost in self.costs]
        return sum(rest, first)

    def backward(self, grad_log_weight: Tensor) -> None:
        """Write the gradients, from that of the log-density (M, K, B)."""
        weight = -grad_log_weight.unsqueeze(1)
        for cost in self.costs:
            cost.backward(weight)
        if len(self.scales):  # those at their lower bound
            self.grad[:, self.scales] *= self.is_free
