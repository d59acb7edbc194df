"""Hand-written gradient of the importance-weighted bound of ``VAEDensity``'s mixture."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sklearn_vae.models.mixture_ensemble import (
    COMPONENT_LOG_SCALE_BOUND,
    least_log_scale,
    least_params,
)
from sklearn_vae.models.mixture_vae import MixtureVAE, Row, Whitening, pick
from sklearn_vae.models.vae import StackedModule
from sklearn_vae.numerics.array_api import HALF_LOG_2PI, cholesky, in_double
from sklearn_vae.objectives import IWAE, Minibatch, Objective
from sklearn_vae.training.gradients.columns import make_costs
from sklearn_vae.training.gradients.layers import (
    GaussianSample,
    HandWrittenMLP,
    TanhBound,
    empty_like,
    flat_views,
)


class MixtureGradient:
    """The importance-weighted bound and its doubly reparameterized gradient (see ``IWAE``)."""

    def __init__(self, model: MixtureVAE, objective: IWAE, n_rows: int):
        self.model, n_latent = model, model.architecture.n_components
        n_draws = objective.n_draws
        self.encoder = HandWrittenMLP(model, model.encoder, n_rows)
        self.decoder = HandWrittenMLP(model, model.decoder, n_draws * n_rows, n_latent)
        self.latent = WeightedGaussianSample(self.encoder, self.decoder, n_draws)
        self.one_hot = self.decoder.x[:, n_latent:]  # (M, C, K B), after z
        self.grad_out = torch.empty_like(self.decoder.out)
        params, grads = (
            out.unflatten(2, (n_draws, n_rows)).split(model.architecture.output_sizes, dim=1)
            for out in (self.decoder.out, self.grad_out)
        )
        *outputs, other = zip(params, grads, strict=True)
        self.real = RealColumns(model, outputs)
        self.others = OtherColumns(model, other) if len(model.other_columns) else None
        self.logit, self.grad_logit = flat_views(model, model.mixture_logit)
        self.whitening = Whitening(model)
        self.log_n_draws, self.mean_factor = math.log(n_draws), -1 / n_rows

    @staticmethod
    def supports(model: StackedModule, objective: Objective) -> bool:
        """Return whether the model and the objective have a backward pass here."""
        return isinstance(model, MixtureVAE) and type(objective) is IWAE

    def __call__(self, batch: Minibatch, beta: Tensor) -> Tensor:
        """Compute the loss terms (3, M) of one batch, with beta 1, and write their gradient."""
        latent_noise = batch.noise[..., :-1].permute(0, 3, 1, 2)  # (M or 1, l, K, B)
        self.encoder.x.copy_(self.model.architecture.encoder_input(batch.x).mT)
        self.encoder.forward()
        self.latent.forward(latent_noise)
        row = self.model.split(batch.x)
        chosen, white, log_c = self.model.draw_components(row, batch.noise[..., -1], self.whitening)
        self.one_hot.zero_().scatter_(1, chosen.flatten(1).unsqueeze(1), 1.0)
        self.decoder.forward()
        cost = self.real.forward(white, chosen, row.real_observed)
        if self.others is not None:
            cost.add_(self.others.forward(row, self.one_hot))
        log_ratio = log_c.add_(self.latent.log_ratio(latent_noise))
        terms, weights, grad = self._bound(cost.neg_(), log_ratio, batch.weight)

        torch.bmm(grad.flatten(1).unsqueeze(1), self.one_hot.mT, out=self.grad_logit)
        total = self.grad_logit.sum(-1, keepdim=True)
        self.grad_logit.addcmul_(self.logit.softmax(-1), total, value=-1)
        self.real.backward(grad)
        if self.others is not None:
            self.others.backward(grad)
        self.decoder.backward(self.grad_out)
        self.encoder.backward(self.latent.backward(latent_noise, weights, grad))
        return terms

    def _bound(
        self, log_prob: Tensor, log_ratio: Tensor, row_weight: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss terms (3, M), normalized weights and gradient of the log-weights (M, K, B)."""
        factor = self.mean_factor if row_weight is None else row_weight[:, None] * self.mean_factor
        log_weight = log_prob + log_ratio
        highest = log_weight.amax(1, keepdim=True)
        weights = log_weight.sub_(highest).exp_()
        total = weights.sum(1, keepdim=True)  # (M, 1, B)
        weights.div_(total)
        grad = weights * factor
        bound = total.log_().add_(highest).sub_(self.log_n_draws)
        loss, reconstruction = (
            part.sum((1, 2)) for part in (bound.mul_(factor), log_prob.mul_(grad))
        )
        return torch.stack([loss, reconstruction, loss - reconstruction]), weights, grad


class WeightedGaussianSample(GaussianSample):
    """Reparameterized samples of z with log p(z) - log q(z|x)."""

    def log_ratio(self, noise: Tensor) -> Tensor:
        """Compute log p(z) - log q(z|x) in nats: (M, K, B)."""
        square = (self.z * self.z).addcmul_(noise, noise, value=-1).sum(1)
        return self.log_scale.sum(1).unsqueeze(1) - square.mul_(self.half)

    def backward(self, noise: Tensor, weights: Tensor, grad_log_weight: Tensor) -> Tensor:
        """Return the gradient of the encoder's output, (M, 2 l, B), from that of z.

        It differentiates log q(z|x) with respect to z only, and multiplies the gradient of z by the
        normalized weights once more.
        """
        slope = (noise / self.scale_per_draw).sub_(self.z)
        self.grad_z.addcmul_(slope, grad_log_weight.unsqueeze(1)).mul_(weights.unsqueeze(1))
        return self.write_gradient()


class RealColumns:
    r"""Cost of the real columns, whitened by their component.

    Missing values are integrated out: rows are completed by their conditional means. The density of
    the observed values then has the gradient of the complete row's, but for that of the missing
    values' precision :math:`(R W)^T R W`: :math:`W` are their columns of the component's root, and
    :math:`R` is the root that scales and shears make. ``outputs`` are shifts, raw scales and
    weights of the shears (M, d or S, K, B), and where to write their gradients.
    """

    def __init__(self, model: MixtureVAE, outputs: Sequence[tuple[Tensor, Tensor]]):
        (self.shift, self.grad_shift), (raw, self.grad_raw), (self.mix, self.grad_mix) = outputs
        self.log_scale_bound = TanhBound(raw, COMPONENT_LOG_SCALE_BOUND)
        self.bound, self.half = self.log_scale_bound.bound, raw.new_tensor(0.5)
        self.negative_bound = -self.bound
        least = least_log_scale(model.architecture, model.whiten, model.min_log_scale)
        least = least.mT.unsqueeze(-1) / COMPONENT_LOG_SCALE_BOUND  # (M, d, C, 1)
        self.least_tanh = least if (least > -1).any() else None
        self.whiten, self.is_full, self.log_det = model.whiten, model.is_full, model.log_det
        self.is_independent = model.architecture.is_independent  # without matrices
        self.shears, self.grad_shears = flat_views(model, model.shears)
        n_shears, n_real = self.mix.shape[1], self.shift.shape[1]
        self.has_shears = n_shears > 0
        # 1 where the first column of a shear lies before the second, otherwise 0: (S d, d)
        self.before = raw.new_ones(n_real, n_real).triu(1).repeat(n_shears, 1)
        self.after, self.constant = -self.before, n_real * HALF_LOG_2PI

    def forward(self, white: Tensor, component: Tensor, observed: Tensor | None) -> Tensor:
        """Compute the cost of each row in nats: (M, K, B).

        Rows (M, d, K, B) in the coordinates of their components (M, K, B), and the mask of observed
        values (M, B, d); None if all are.
        """
        tanh = self.log_scale_bound.forward()
        if self.least_tanh is not None:
            least = pick(self.least_tanh, component)
            self.is_free = tanh > least
            torch.maximum(tanh, least, out=tanh)
        self.inverse_scale = torch.mul(tanh, self.negative_bound).exp_()
        self.is_complete = observed is None or bool(observed.all())
        if observed is not None and not self.is_complete:
            cost_of_missing = self._complete(white, component, observed)
        self.residual = white.sub_(self.shift)
        self.standard = self.scaled = self.residual * self.inverse_scale
        if self.has_shears:
            self.triangular = self.shears * self.before  # (M, S d, d)
            products = self.mix.unsqueeze(2) * self.residual.unsqueeze(1)  # (M, S, d, K, B)
            self.products = products.flatten(1, 2).flatten(2)
            standard = torch.baddbmm(self.scaled.flatten(2), self.triangular.mT, self.products)
            self.standard = standard.view_as(self.scaled)
        cost = (self.standard * self.standard).mul_(self.half)
        cost = cost.addcmul_(tanh, self.bound).sum(1).add_(self.constant)
        cost.sub_(pick(self.log_det.unsqueeze(-1), component))
        if not self.is_complete:
            cost[self.member, :, self.row] += cost_of_missing
        return cost

    def backward(self, grad_log_weight: Tensor) -> None:
        """Write the gradients, from that of the log-density (M, K, B)."""
        grad_log_weight = grad_log_weight.unsqueeze(1)
        # minus the gradient of the standardized row
        grad_standard = self.standard * grad_log_weight
        torch.mul(grad_standard, self.inverse_scale, out=self.grad_shift)
        if self.has_shears:
            self._shears_backward(grad_standard)
        grad_log_scale = self.scaled.mul_(grad_standard).sub_(grad_log_weight)
        if not self.is_complete:
            self._missing_backward(grad_log_weight.squeeze(1), grad_log_scale)
        if self.least_tanh is not None:
            grad_log_scale.mul_(self.is_free)
        self.log_scale_bound.backward(grad_log_scale, out=self.grad_raw)

    def _shears_backward(self, grad_standard: Tensor) -> None:
        """Write the gradients of shears and mixing weights, and add to that of the shift."""
        flat_grad = grad_standard.flatten(2)
        # matrix products into a transposed view are slow
        grad_t = torch.bmm(flat_grad, self.products.mT)
        torch.mul(grad_t.mT, self.after, out=self.grad_shears)
        of_shears = torch.bmm(self.triangular, flat_grad)  # (M, S d, K B)
        of_shears = of_shears.view(*self.mix.shape[:2], *self.residual.shape[1:])
        torch.sum(of_shears * self.residual.unsqueeze(1), 2, out=self.grad_mix).neg_()
        self.grad_shift.add_(of_shears.mul_(self.mix.unsqueeze(2)).sum(1))

    def _complete(self, white: Tensor, component: Tensor, observed: Tensor) -> Tensor:
        """Complete the I incomplete rows, and compute what their costs differ by: (I, K)."""
        self.member, self.row = at = (~observed.all(-1)).nonzero(as_tuple=True)
        observed = observed[at].unsqueeze(1)  # (I, 1, d)
        whiten = in_double(self.whiten[self.member.unsqueeze(1), component[at[0], :, at[1]]])
        self.scale, residual = (  # (I, K, d)
            part[at[0], :, :, at[1]].mT.to(whiten)
            for part in (self.inverse_scale, white - self.shift)
        )
        if self.is_independent:
            self.gain = (~observed).to(whiten) / self.scale
            change = residual * ~observed
            log_det = (self.scale * whiten).log().masked_fill(observed, 0).sum(-1)
        else:
            whiten = whiten if self.is_full else torch.diag_embed(whiten)
            root = torch.diag_embed(self.scale)  # (I, K, d, d)
            if self.has_shears:
                shears = self.shears.unflatten(1, (-1, whiten.shape[-1])).triu(1)
                self.sheared = shears[self.member].to(root)  # (I, S, d, d)
                self.mix_of_rows = self.mix[at[0], :, :, at[1]].to(root)  # (I, S, K)
                root = root + torch.einsum("isk,isde->iked", self.mix_of_rows, self.sheared)
            whiten = whiten * ~observed.unsqueeze(2)
            slope = root @ whiten
            # 1 on the diagonal at observed values
            lower = cholesky(slope.mT @ slope + torch.diag_embed(observed.to(root)))
            self.gain = whiten @ torch.cholesky_solve(slope.mT, lower)  # (I, K, d, d)
            change = (self.gain @ root @ residual.unsqueeze(-1)).squeeze(-1)
            log_det = lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        white[at[0], :, :, at[1]] -= change.mT.to(white)
        return (log_det - HALF_LOG_2PI * (~observed).to(log_det).sum(-1)).to(white)

    def _missing_backward(self, grad_log_weight: Tensor, grad_log_scale: Tensor) -> None:
        """Add the gradients of the missing values' precisions."""
        member, row = self.member, self.row
        gain = self.gain if self.is_independent else self.gain.diagonal(dim1=-2, dim2=-1)
        diagonal = grad_log_weight[member, :, row, None] * gain * self.scale
        grad_log_scale[member, :, :, row] += diagonal.mT.to(grad_log_scale)
        if self.has_shears:
            grad = grad_log_weight[member, :, row, None, None] * self.gain
            of_mix = torch.einsum("isde,ikde->isk", self.sheared, grad)
            self.grad_mix[member, :, :, row] -= of_mix.to(grad_log_scale)
            of_value = torch.einsum("isk,ikde->isde", self.mix_of_rows, grad).triu(1).flatten(1, 2)
            self.grad_shears.index_add_(0, member, of_value.to(grad_log_scale), alpha=-1)


class OtherColumns:
    """Cost of the other columns, whose parameters are relative to their component's."""

    def __init__(self, model: MixtureVAE, params: tuple[Tensor, Tensor]):
        self.added, self.grad = params  # (M, P, K, B)
        scales = torch.as_tensor(model.others.is_scale_param, device=model.flat.device)
        self.scales = scales.nonzero()[:, 0]
        least = least_params(model.architecture, model.params)[..., self.scales]
        self.least_by_component, self.of_components = least.mT, model.params.mT  # (M, S or P, C)
        self.params, others = empty_like(self.added), model.others
        n_members, _, _, n_rows = self.params.shape
        self.x = self.params.new_empty(n_members, others.n_columns, 1, n_rows)
        self.observed: Tensor | None = None
        if model.architecture.has_missing:
            self.observed = self.params.new_ones(n_members, others.n_values, 1, n_rows)
        params_of, grads_of = (
            others.split_params(tensor.movedim(1, -1)) for tensor in (self.params, self.grad)
        )
        self.costs = make_costs(others, params_of, grads_of, self.x, self.observed)

    def forward(self, row: Row, components: Tensor) -> Tensor:
        """Compute the cost of each row in nats: (M, K, B).

        ``components`` (M, C, K B) are one-hot: a product with them is faster than ``pick``.
        """
        torch.bmm(self.of_components, components, out=self.params.flatten(2))
        self.params.add_(self.added)
        if len(self.scales):
            free = self.params[:, self.scales]
            least = torch.bmm(self.least_by_component, components).view_as(free)
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
