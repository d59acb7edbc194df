"""The gradient of the evidence lower bound, written out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sklearn_vae import likelihoods
from sklearn_vae.likelihoods import Bernoulli, Gaussian, LogNormal
from sklearn_vae.models.stacked import StackedModule
from sklearn_vae.models.vae import INPUT_CLIP, VAE
from sklearn_vae.networks import MLP
from sklearn_vae.objectives import ELBO, LossState, Minibatch, Objective
from sklearn_vae.posteriors import DiagonalGaussian
from sklearn_vae.priors import HALF_LOG_2PI, StandardNormal
from sklearn_vae.training.gradients.layers import (
    Code,
    GradientBuffers,
    Layers,
    TanhBound,
    aten,
    contiguous,
)

# Kinds of columns that have their part here.
WRITTEN_OUT = {
    Bernoulli(),
    *(kind(scale) for kind in (Gaussian, LogNormal) for scale in ("per_row", "per_column")),
}


class ELBOGradient:
    """The evidence lower bound and its gradient for batches of one shape.

    All buffers, views and constants are made here; a call only computes.

    Parameters
    ----------
    model : VAE
        The model, whose parameters are read and whose gradients are written in place.
    objective : ELBO
        Objective to differentiate.
    state : LossState
        Free bits and pseudo-observations of each member.
    n_rows, n_draws : int
        Rows in a batch and draws of z per row.
    clips_input : bool, default=True
        Whether the encoder may see something else than the likelihood: rows farther out
        than it is to see them, or rows with noise.
    """

    def __init__(
        self,
        model: VAE,
        objective: ELBO,
        state: LossState,
        n_rows: int,
        n_draws: int,
        *,
        clips_input: bool = True,
    ):
        n_members, like = len(model.flat), model.flat
        self.state, self.mask = state, model.mask
        self.outlet = GradientBuffers(model)
        self.shares = RowWeights(n_members, n_rows, n_draws, like)
        self.encoder = Layers(model.encoder, n_rows, self.outlet)
        n_latent = model.architecture.n_components
        self.decoder = Layers(model.decoder, n_draws * n_rows, self.outlet, n_latent)
        self.clips_input = clips_input
        self.x = contiguous(self.encoder.x) if clips_input else self.encoder.x
        z, given = self.decoder.x.tensor_split([n_latent], dim=1)
        self.code = BoundedCode(self.encoder.out, z, self.decoder.grad_x, n_draws)
        # what the decoder is given beside the code is the last of what the encoder sees
        self.given = given.unflatten(2, (n_draws, -1))  # (M, n_conditions, K, B)
        self.conditions = self.x[:, self.x.shape[1] - given.shape[1] :].unsqueeze(2)
        self.has_conditions = given.shape[1] > 0
        self.grad_out = torch.empty_like(self.decoder.out)
        self.columns = self._columns(model)
        self.terms = like.new_zeros(3, n_members)
        self.loss, self.reconstruction, self.kl = self.terms.unbind()

    @staticmethod
    def supports(model: StackedModule, objective: Objective, state: LossState) -> bool:
        """Whether every part of the model and the objective has its gradient here."""
        return (
            isinstance(model, VAE)
            and objective.bound == "elbo"
            and type(model.posterior) is DiagonalGaussian
            and type(model.encoder) is type(model.decoder) is MLP
            and type(model.prior) is StandardNormal
            and model.filler is None
            and {kind for kind, _ in model.likelihood.blocks} <= WRITTEN_OUT
        )

    def _columns(self, model: VAE) -> Sequence["GaussianColumns | BernoulliColumns"]:
        """One part for each kind of columns, on views of the decoder's output."""
        likelihood, shape = model.likelihood, (self.shares.n_draws, self.shares.n_rows)
        params, grads = (
            likelihood.split(out.unflatten(2, shape).movedim(1, -1), free.unsqueeze(1))
            for out, free in zip(
                (self.decoder.out, self.grad_out), self.outlet.open(model.free), strict=True
            )
        )
        cuts = zip(
            likelihood.blocks,
            params,
            grads,
            likelihood.split_blocks(self.x.mT.unsqueeze(1)),
            likelihood.split_blocks(model.residual),
            strict=True,
        )
        parts: list[GaussianColumns | BernoulliColumns] = []
        for (kind, _), *views, x, residual in cuts:
            own, own_grads = ([view.movedim(-1, 1) for view in some] for some in views)
            x, residual = x.movedim(-1, 1), residual.movedim(-1, 1)  # (M, d, 1, B), (M, d, 1, 1)
            if isinstance(kind, Bernoulli):
                parts.append(BernoulliColumns(own, own_grads, x, self.shares))
            else:
                prior = self.state.pseudo_observations
                parts.append(GaussianColumns(own, own_grads, x, residual, prior, self.shares))
        return parts

    def __call__(self, batch: Minibatch, beta: Tensor) -> Tensor:
        """Compute the loss terms of one batch and write their gradient into the model's.

        Parameters
        ----------
        batch : Minibatch
            Rows and noise; corrupted rows with ``clips_input`` only.
        beta : Tensor of shape (M,)
            Weight of the KL divergence.

        Returns
        -------
        Tensor of shape (3, M)
            Loss, reconstruction loss and KL loss; valid until the next call.
        """
        if batch.weight is not None:
            self.shares.weigh(batch.weight)
        self.x.copy_(batch.x.mT)
        if self.clips_input:
            encoder_input = self.x if batch.corrupted is None else batch.corrupted.mT
            torch.clamp(encoder_input, -INPUT_CLIP, INPUT_CLIP, out=self.encoder.x)
        if self.has_conditions:
            self.given.copy_(self.conditions)
        noise = batch.noise.permute(0, 3, 1, 2)  # (M or 1, l, K, B or 1)
        self.encoder.forward()
        self.code.forward(noise)
        self.decoder.forward()

        self.reconstruction.zero_()
        for block in self.columns:
            self.reconstruction.add_(block.forward_backward())
        self.decoder.backward(self.grad_out)

        kl_per_unit = self.code.kl(self.shares)  # (M, l)
        torch.sum(self.state.apply_free_bits(kl_per_unit, self.mask), 1, out=self.kl)
        force = self.shares.row * beta.view(-1, 1, 1)  # (M, 1, B)
        is_penalised = self.state.exceeds_free_bits(kl_per_unit)
        if is_penalised is not None:
            force = force * is_penalised.unsqueeze(2)
        self.encoder.backward(self.code.backward(noise, force))
        self.outlet.flow()
        torch.addcmul(self.reconstruction, self.kl, beta, out=self.loss)
        return self.terms


class RowWeights:
    """What each row of a batch counts, in the shapes that the parts need it in."""

    def __init__(self, n_members: int, n_rows: int, n_draws: int, like: Tensor):
        self.n_rows, self.n_draws = n_rows, n_draws
        self.row = like.new_full((n_members, 1, n_rows), 1 / n_rows)
        self.column = self.row.mT  # (M, B, 1)
        self.draws = like.new_full((n_members, 1, n_draws, n_rows), 1 / (n_rows * n_draws))
        self.draws_column = self.draws.flatten(2).mT  # (M, K B, 1)
        self.total = like.new_ones(n_members, 1, 1)

    def weigh(self, weight: Tensor) -> None:
        """Take the weights (M, B) of a batch; without any, all rows count the same."""
        torch.mul(weight.unsqueeze(1), 1 / self.n_rows, out=self.row)
        self.draws.copy_(self.row.unsqueeze(1)).mul_(1 / self.n_draws)
        torch.sum(self.row, 2, keepdim=True, out=self.total)


class BoundedCode(Code):
    """Draws of z, and its KL from the standard normal."""

    def __init__(self, params: Tensor, z: Tensor, grad_z: Tensor, n_draws: int):
        super().__init__(params, z, grad_z, n_draws)
        self.variance, self.work = (contiguous(self.loc) for _ in range(2))

    def kl(self, shares: RowWeights) -> Tensor:
        """KL per dimension, averaged over rows: (M, l)."""
        torch.mul(self.scale, self.scale, out=self.variance)
        rows = torch.addcmul(self.variance, self.loc, self.loc, out=self.work).mul_(self.half)
        rows.sub_(self.log_scale)  # (M, l, B), half a nat short of the KL
        return torch.baddbmm(shares.total, rows, shares.column, beta=-0.5).squeeze(2)

    def backward(self, noise: Tensor, force: Tensor) -> Tensor:
        """Gradient of the encoder's output, (M, 2 l, B), from that of z."""
        self.collect(noise)
        torch.addcmul(self.pull, force, self.loc, out=self.grad_loc)
        grad = self.grad_scale.mul_(self.scale).addcmul_(force, self.variance).sub_(force)
        self.bounded.backward(grad, self.grad_raw)
        return self.grad_params


class BernoulliColumns:
    """Cross-entropy of binary columns."""

    def __init__(self, params: list[Tensor], grads: list[Tensor], x: Tensor, shares: RowWeights):
        (self.logit,), (self.grad,) = params, grads
        self.x, self.shares = x, shares
        self.cost = contiguous(self.logit)
        self.rows_of_cost = self.cost.flatten(2)

    def forward_backward(self) -> Tensor:
        """Write the gradient; give the loss: (M,)."""
        aten.softplus.out(self.logit, out=self.cost)
        self.cost.addcmul_(self.x, self.logit, value=-1)
        torch.sigmoid(self.logit, out=self.grad).sub_(self.x).mul_(self.shares.draws)
        return torch.bmm(self.rows_of_cost, self.shares.draws_column).sum((1, 2))


class GaussianColumns:
    """Log-density of real columns and the prior of their scales.

    The scale is a function of z or a number per column; in the second case all that
    concerns it alone is computed once and not for every row.
    """

    def __init__(
        self,
        params: list[Tensor],
        grads: list[Tensor],
        x: Tensor,
        residual: Tensor,
        prior_rows: float | Tensor,
        shares: RowWeights,
    ):
        self.loc, self.raw = params  # (M, d, K, B), and the same or (M, d, 1, 1)
        self.grad_loc, self.grad_raw = grads
        self.x, self.shares = x, shares
        self.is_of_z = self.raw.shape == self.loc.shape
        self.distance, self.square = contiguous(self.loc), contiguous(self.loc)
        self.rows_of_cost, self.rows_of_square = self.distance.flatten(2), self.square.flatten(2)
        self.precision, self.pull = (contiguous(self.raw) for _ in range(2))
        # what an imagined row pulls at a scale, over the squared precision; and its push
        prior = torch.as_tensor(prior_rows, dtype=residual.dtype, device=residual.device)
        prior = prior.expand(len(residual)).reshape(-1, 1, 1, 1)
        self.imagined, self.push = prior * residual.square(), 1 + prior
        self.bounded = TanhBound(self.raw, likelihoods.LOG_SCALE_BOUND)
        bound, self.bent = self.bounded.bound, self.bounded.bent
        self.double_bound, self.neg_bound = 2 * bound, -bound
        self.constant = self.loc.shape[1] * HALF_LOG_2PI
        self.per_column = residual.new_empty(len(residual), self.loc.shape[1], 1)
        self.by_draw = self.per_column.unsqueeze(3)
        self.total, self.total_by_draw = shares.total[:, 0, 0], shares.total.unsqueeze(1)

    def forward_backward(self) -> Tensor:
        """Write the gradient; give the loss: (M,)."""
        shares = self.shares
        torch.mul(self.bounded.forward(), self.neg_bound, out=self.precision).exp_()
        torch.sub(self.loc, self.x, out=self.distance).mul_(self.precision)
        torch.mul(self.distance, self.distance, out=self.square)
        torch.mul(self.distance, self.precision, out=self.grad_loc).mul_(shares.draws)

        # the slope at the log-scale: what rows and the prior push, less what they pull
        pull = torch.mul(self.precision, self.precision, out=self.pull).mul_(self.imagined)
        if self.is_of_z:
            torch.mul(self.bent, self.double_bound, out=self.distance).add_(self.square)
            loss = torch.bmm(self.rows_of_cost, shares.draws_column, out=self.per_column)
            grad = torch.sub(self.push, pull.add_(self.square), out=pull).mul_(shares.draws)
        else:
            loss = torch.bmm(self.rows_of_square, shares.draws_column, out=self.per_column)
            grad = torch.sub(self.push, pull, out=pull).mul_(self.total_by_draw).sub_(self.by_draw)
            loss.addcmul_(shares.total * self.double_bound, self.bent.squeeze(3))
        self.bounded.backward(grad, self.grad_raw)
        return loss.sum((1, 2)).mul_(0.5).add_(self.total, alpha=self.constant)
