"""The gradient of the mixture's importance-weighted bound, written out."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_vae.models.mixture_vae import (
    LOG_SCALE_BOUND,
    MixtureVAE,
    Whitening,
    draw_components,
    pick,
)
from sklearn_vae.models.stacked import StackedModule
from sklearn_vae.models.vae import INPUT_CLIP
from sklearn_vae.objectives import IWAE, LossState, Minibatch, Objective
from sklearn_vae.posteriors import DiagonalGaussian
from sklearn_vae.priors import HALF_LOG_2PI, StandardNormal
from sklearn_vae.training.gradients.layers import (
    Code,
    GradientBuffers,
    Layers,
    TanhBound,
    contiguous,
)


class MixtureGradient:
    """The importance-weighted bound and its gradient for batches of one shape.

    All buffers, views and constants are made here; a call only computes.

    Parameters
    ----------
    model : MixtureVAE
        The model, whose parameters are read and whose gradients are written in place.
    objective : IWAE
        Objective to differentiate.
    state : LossState
        Hyperparameters of each member, of which none applies here.
    n_rows, n_draws : int
        Rows in a batch and draws of code and component per row.
    clips_input : bool, default=True
        Whether the encoder may see something else than the likelihood: rows farther out
        than it is to see them, or rows with noise.
    """

    def __init__(
        self,
        model: MixtureVAE,
        objective: IWAE,
        state: LossState,
        n_rows: int,
        n_draws: int,
        *,
        clips_input: bool = True,
    ):
        self.clips_input, n_latent = clips_input, model.architecture.n_components
        outlet = self.outlet = GradientBuffers(model)
        self.encoder = Layers(model.encoder, n_rows, outlet)
        self.decoder = Layers(model.decoder, n_draws * n_rows, outlet, n_latent)
        z, one_hot = self.decoder.x.tensor_split([n_latent], dim=1)
        posterior = self.encoder.out, z, self.decoder.grad_x, n_draws
        self.code = WeightedCode(*posterior, is_path_only=objective.doubly_reparameterized)
        self.grad_out = torch.empty_like(self.decoder.out)
        params, grads = (
            out.unflatten(2, (n_draws, n_rows)).split(model.splits, dim=1)
            for out in (self.decoder.out, self.grad_out)
        )
        shift, raw, mix, logit = zip(params, grads, strict=True)
        self.real = RealColumns(model, shift, raw, mix, outlet)
        self.bits = BitColumns(model, logit) if len(model.bit_columns) else None
        self.components = Components(model, one_hot, shift[0], outlet)
        self.draws = WeightedDraws(len(model.flat), n_draws, n_rows, objective.n_draws, model.flat)

    @staticmethod
    def supports(model: StackedModule, objective: Objective, state: LossState) -> bool:
        """Whether every part of the model and the objective has its gradient here."""
        return (
            isinstance(model, MixtureVAE)
            and objective.bound == "iwae"
            and not state.has_scale_prior
            and type(model.posterior) is DiagonalGaussian
            and type(model.prior) is StandardNormal
        )

    def __call__(self, batch: Minibatch, beta: Tensor) -> Tensor:
        """Compute the loss terms of one batch and write their gradient into the model's.

        Parameters
        ----------
        batch : Minibatch
            Rows and noise; corrupted rows with ``clips_input`` only.
        beta : Tensor of shape (M,)
            Weight of the KL divergence; 1 for this objective.

        Returns
        -------
        Tensor of shape (3, M)
            Loss, reconstruction loss and KL loss; valid until the next call.
        """
        if batch.weight is not None:
            self.draws.weigh(batch.weight)
        x, noise = batch.x, batch.noise
        self.encoder.x.copy_(batch.encoder_input.mT)
        if self.clips_input:
            self.encoder.x.clamp_(-INPUT_CLIP, INPUT_CLIP)
        of_code = noise[..., :-1].permute(0, 3, 1, 2)  # (M or 1, l, K, B or 1)
        self.encoder.forward()
        self.code.forward(of_code)
        components, draws = self.components, self.draws
        components.forward(x, noise[..., -1])
        self.decoder.forward()

        torch.sub(
            components.log_det,
            self.real.forward(components.white, components.chosen),
            out=draws.log_prob,
        )
        if self.bits is not None:
            draws.log_prob.sub_(self.bits.forward(x, components.chosen))
        torch.add(components.log_ratio, self.code.log_ratio(of_code), out=draws.log_ratio)
        draws.forward()

        components.backward(draws.force)
        self.real.backward(draws.force)
        if self.bits is not None:
            self.bits.backward(draws.force)
        self.decoder.backward(self.grad_out)
        self.encoder.backward(self.code.backward(of_code, draws.share, draws.force))
        self.outlet.flow()
        return draws.terms


class WeightedDraws:
    """Importance weights of a row's draws, and what the bound makes of them."""

    def __init__(self, n_members: int, n_draws: int, n_rows: int, per_set: int, like: Tensor):
        shape, n_sets = (n_members, n_draws, n_rows), n_draws // per_set
        self.log_prob, self.log_ratio, self.log_weight, self.share, self.force = (
            like.new_empty(shape) for _ in range(5)
        )
        # each set of draws makes a bound
        sets = n_members, n_sets, per_set, n_rows
        self.log_weight_by_set, self.share_by_set = (
            part.view(sets) for part in (self.log_weight, self.share)
        )
        self.log_per_set, self.part = math.log(per_set), -1 / (n_rows * n_sets)
        # what each row's bound is multiplied with
        self.row = like.new_full((n_members, 1, n_rows), self.part)
        self.terms = like.new_zeros(3, n_members)
        self.loss, self.reconstruction, self.kl = self.terms.unbind()

    def weigh(self, weight: Tensor) -> None:
        """Take the weights (M, B) of a batch; without any, all rows count the same."""
        torch.mul(weight.unsqueeze(1), self.part, out=self.row)

    def forward(self) -> None:
        """Compute the terms, shares (M, K, B), and the loss' gradient at the log-weights."""
        torch.add(self.log_prob, self.log_ratio, out=self.log_weight)
        highest = self.log_weight_by_set.amax(2, keepdim=True)
        torch.sub(self.log_weight_by_set, highest, out=self.share_by_set).exp_()
        total = self.share_by_set.sum(2, keepdim=True)  # (M, sets, 1, B)
        self.share_by_set.div_(total)
        torch.mul(self.share, self.row, out=self.force)
        bound = total.log_().add_(highest).squeeze(2).sub_(self.log_per_set)  # (M, sets, B)
        torch.sum(bound.mul_(self.row), (1, 2), out=self.loss)
        torch.sum(self.log_prob.mul_(self.force), (1, 2), out=self.reconstruction)
        torch.sub(self.loss, self.reconstruction, out=self.kl)


class WeightedCode(Code):
    """Draws of z, and log p(z) - log q(z|x) of each."""

    def __init__(
        self, params: Tensor, z: Tensor, grad_z: Tensor, n_draws: int, *, is_path_only: bool
    ):
        super().__init__(params, z, grad_z, n_draws)
        self.is_path_only = is_path_only
        self.work = contiguous(self.z)

    def log_ratio(self, noise: Tensor) -> Tensor:
        """Log p(z) - log q(z|x) in nats: (M, K, B)."""
        torch.mul(self.z, self.z, out=self.work)
        square = torch.addcmul(self.work, noise, noise, value=-1, out=self.work).sum(1)
        return torch.sub(self.log_scale.sum(1).unsqueeze(1), square.mul_(self.half), out=square)

    def backward(self, noise: Tensor, share: Tensor, force: Tensor) -> Tensor:
        """Gradient of the encoder's output, (M, 2 l, B), from that of z.

        The doubly reparameterised one takes log q(z|x) as a function of z alone, and weighs
        what goes through z by the shares once more.
        """
        force = force.unsqueeze(1)  # (M, 1, K, B)
        if self.is_path_only:
            torch.div(noise, self.scale_by_draw, out=self.work).sub_(self.z)
            self.grad_z.addcmul_(self.work, force).mul_(share.unsqueeze(1))
        else:
            self.grad_z.addcmul_(self.z, force, value=-1)
        self.collect(noise)
        grad = self.grad_scale.mul_(self.scale)
        if not self.is_path_only:
            grad.add_(force.sum(2))
        self.grad_loc.copy_(self.pull)
        self.bounded.backward(grad, self.grad_raw)
        return self.grad_params


class Components:
    """Components drawn for each row, and the row in their coordinates."""

    def __init__(self, model: MixtureVAE, one_hot: Tensor, white: Tensor, outlet: GradientBuffers):
        self.one_hot, self.one_hot_t = one_hot, one_hot.mT  # (M, C, K B)
        self.logit, self.grad_logit = outlet.open(model.mixture_logit)
        self.log_det_by_component = model.log_det.unsqueeze(-1)  # (M, C, 1)
        self.whitening = Whitening(model, white.shape[-1])
        self.white = contiguous(white)  # (M, d, K, B)

    def forward(self, x: Tensor, noise: Tensor) -> None:
        """Draw components for rows (M, B, n_columns), and show them to the decoder."""
        log_pi = self.logit.log_softmax(-1).mT  # (M, C, 1)
        white, log_density = self.whitening(x)
        log_share = log_density.add_(log_pi).log_softmax(1)  # (M, C, B)
        self.chosen = draw_components(log_share.exp(), noise).contiguous()  # (M, K, B)
        self.one_hot.zero_().scatter_(1, self.chosen.flatten(1).unsqueeze(1), 1.0)
        pick(white, self.chosen, out=self.white)
        self.log_det = pick(self.log_det_by_component, self.chosen)  # (M, K, B)
        self.log_ratio = pick(torch.sub(log_pi, log_share), self.chosen)

    def backward(self, force: Tensor) -> None:
        """Write the gradient of the components' logits."""
        torch.bmm(force.flatten(1).unsqueeze(1), self.one_hot_t, out=self.grad_logit)
        total = self.grad_logit.sum(-1, keepdim=True)
        self.grad_logit.addcmul_(self.logit.softmax(-1), total, value=-1)


class RealColumns:
    """Minus the log-density of a row in its component's coordinates."""

    def __init__(
        self,
        model: MixtureVAE,
        shift: tuple[Tensor, Tensor],
        raw: tuple[Tensor, Tensor],
        mix: tuple[Tensor, Tensor],
        outlet: GradientBuffers,
    ):
        (self.shift, self.grad_shift), (self.raw, self.grad_raw) = shift, raw  # (M, d, K, B)
        self.inverse_scale, self.residual, self.scaled, self.standard, self.work = (
            contiguous(self.shift) for _ in range(5)
        )
        self.bounded = TanhBound(self.raw, LOG_SCALE_BOUND)
        self.bound, self.bent = self.bounded.bound, self.bounded.bent
        self.neg_bound, self.half = -self.bound, self.raw.new_tensor(0.5)
        self.constant = self.shift.shape[1] * HALF_LOG_2PI
        least = model.least_log_scale
        self.least_bent = None if least is None else least / LOG_SCALE_BOUND  # (M, d, C, 1)
        self.least = contiguous(self.shift)
        value, grad = outlet.open(model.shears)
        self.shears = (
            Shears(value, grad, model.before, mix, self.residual) if len(value[0]) else None
        )

    def forward(self, white: Tensor, chosen: Tensor) -> Tensor:
        """Compute the cost in nats, but for the component's determinant: (M, K, B)."""
        bent = self.bounded.forward()
        if self.least_bent is not None:
            least = pick(self.least_bent, chosen, out=self.least)
            self.is_free = bent > least
            torch.maximum(bent, least, out=bent)
        torch.mul(bent, self.neg_bound, out=self.inverse_scale).exp_()
        torch.sub(white, self.shift, out=self.residual)
        torch.mul(self.residual, self.inverse_scale, out=self.scaled)
        if self.shears is None:
            self.standard.copy_(self.scaled)
        else:
            self.shears.forward(self.scaled, self.standard)
        cost = torch.mul(self.standard, self.standard, out=self.work).mul_(self.half)
        return cost.addcmul_(self.bent, self.bound).sum(1).add_(self.constant)

    def backward(self, force: Tensor) -> None:
        """Write the gradients, given that at the log-density (M, K, B)."""
        force = force.unsqueeze(1)
        pull = self.standard.mul_(force)  # minus the gradient at the standardised row
        torch.mul(pull, self.inverse_scale, out=self.grad_shift)
        if self.shears is not None:
            self.shears.backward(pull, self.grad_shift)
        slope = self.scaled.mul_(pull).sub_(force)  # at the log-scale
        if self.least_bent is not None:
            slope.mul_(self.is_free)
        self.bounded.backward(slope, self.grad_raw)


class Shears:
    """What each column gets from those before it: triangular matrices, mixed row by row."""

    def __init__(
        self,
        value: Tensor,
        grad: Tensor,
        before: Tensor,
        mix: tuple[Tensor, Tensor],
        residual: Tensor,
    ):
        self.value, self.grad, self.masked = value, grad, value.clone()
        self.before, self.after, self.grad_t = before, -before, contiguous(grad.mT)
        self.mix, self.grad_mix = mix  # (M, S, K, B)
        self.mix_by_column, self.residual = self.mix.unsqueeze(2), residual.unsqueeze(1)
        shape = *self.mix.shape[:2], *residual.shape[1:]
        self.parts, self.work = (residual.new_empty(shape) for _ in range(2))  # (M, S, d, K, B)
        self.flat_parts, self.flat_work = (
            part.flatten(1, 2).flatten(2) for part in (self.parts, self.work)
        )
        self.masked_t, self.flat_parts_t = self.masked.mT, self.flat_parts.mT

    def forward(self, scaled: Tensor, out: Tensor) -> None:
        """Add what the rows' residuals are sheared by: (M, d, K, B)."""
        torch.mul(self.value, self.before, out=self.masked)
        torch.mul(self.mix_by_column, self.residual, out=self.parts)
        torch.baddbmm(scaled.flatten(2), self.masked_t, self.flat_parts, out=out.flatten(2))

    def backward(self, pull: Tensor, grad_shift: Tensor) -> None:
        """Write the gradients, and add what the shears do to the shift's."""
        flat_pull = pull.flatten(2)
        # into a buffer of its own: products into a transposed view are slow
        torch.bmm(flat_pull, self.flat_parts_t, out=self.grad_t)
        torch.mul(self.grad_t.mT, self.after, out=self.grad)
        torch.bmm(self.masked, flat_pull, out=self.flat_work)
        torch.sum(torch.mul(self.work, self.residual, out=self.parts), 2, out=self.grad_mix).neg_()
        grad_shift.add_(self.work.mul_(self.mix_by_column).sum(1))


class BitColumns:
    """Cross-entropy of binary columns, whose logits start at their component's."""

    def __init__(self, model: MixtureVAE, params: tuple[Tensor, Tensor]):
        (self.params, self.grad), self.columns = params, model.bit_columns  # (M, e, K, B)
        self.anchor = model.bit_logit.mT.unsqueeze(-1)  # (M, e, C, 1)

    def forward(self, x: Tensor, chosen: Tensor) -> Tensor:
        """Compute the cost in nats, for rows (M, B, n_columns): (M, K, B)."""
        self.bits = x[..., self.columns].mT.unsqueeze(2)  # (M, e, 1, B)
        self.logit = pick(self.anchor, chosen).add_(self.params)
        return F.softplus(self.logit).addcmul_(self.bits, self.logit, value=-1).sum(1)

    def backward(self, force: Tensor) -> None:
        """Write the gradient, given that at the log-density (M, K, B)."""
        torch.sub(self.bits, self.logit.sigmoid_(), out=self.grad).mul_(force.unsqueeze(1))
