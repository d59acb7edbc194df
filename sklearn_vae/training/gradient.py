"""The gradient of the evidence lower bound, written out.

Autograd builds a graph at every step; here each part of the model has a forward and a
backward of its own, computes into buffers that are made once, and writes its gradient
where the optimizer reads it. What has no part here (another posterior, another kind of
column) is left to autograd, which is also what this is tested against.

Tensors lie features first, (M, features, rows): products then have the rows along the
axis that the processor's vectors run along, which few and odd numbers of features would
leave half empty.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sklearn_vae import likelihoods, posteriors
from sklearn_vae.likelihoods import Bernoulli, Gaussian, LogNormal
from sklearn_vae.members import Members
from sklearn_vae.model import FARTHEST_INPUT, VAE
from sklearn_vae.networks import MLP
from sklearn_vae.objectives import ELBO, Loss
from sklearn_vae.posteriors import DiagonalGaussian
from sklearn_vae.priors import HALF_LOG_2PI, StandardNormal

aten = torch.ops.aten

# For each activation: its value into ``out``, from its input; and the gradient before it into
# ``out``, from the gradient after it, its input and its value.
ACTIVATIONS_OUT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda x, out: out.copy_(x),
    "logistic": lambda x, out: torch.sigmoid(x, out=out),
    "tanh": lambda x, out: torch.tanh(x, out=out),
    "relu": lambda x, out: torch.clamp_min(x, 0, out=out),
    "silu": lambda x, out: aten.silu.out(x, out=out),
    "gelu": lambda x, out: aten.gelu.out(x, out=out),
}
ACTIVATION_GRADIENTS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "identity": lambda grad, x, value, out: out.copy_(grad),
    "logistic": lambda grad, x, value, out: aten.sigmoid_backward.grad_input(
        grad, value, grad_input=out
    ),
    "tanh": lambda grad, x, value, out: aten.tanh_backward.grad_input(grad, value, grad_input=out),
    "relu": lambda grad, x, value, out: aten.threshold_backward.grad_input(
        grad, value, 0, grad_input=out
    ),
    "silu": lambda grad, x, value, out: aten.silu_backward.grad_input(grad, x, grad_input=out),
    "gelu": lambda grad, x, value, out: aten.gelu_backward.grad_input(grad, x, grad_input=out),
}

# Kinds of columns that have their part here.
WRITTEN_OUT = {
    Bernoulli(), *(kind(scale) for kind in (Gaussian, LogNormal) for scale in ("z", "column"))
}  # fmt: skip


def has_gradient(model: Members, objective: Loss) -> bool:
    """Whether every part of the model and the objective has its gradient here."""
    if not isinstance(model, VAE):
        return False
    kinds = {kind for kind, _ in model.likelihood.blocks}
    return (
        type(objective) is ELBO
        and type(model.posterior) is DiagonalGaussian
        and type(model.prior) is StandardNormal
        and model.filler is None
        and kinds <= WRITTEN_OUT
    )


class Gradient:
    """The objective's value and gradient for batches of one shape.

    All buffers, views and constants are made here; a call only computes.

    Parameters
    ----------
    model : VAE
        The model, whose parameters are read and whose gradients are written in place.
    objective : ELBO
        What to differentiate.
    n_rows, n_draws : int
        Rows in a batch and draws of z per row.
    clamps : bool, default=True
        Whether the encoder may see something else than the likelihood: rows farther out
        than it is to see them, or rows with noise.
    """

    def __init__(
        self, model: VAE, objective: ELBO, n_rows: int, n_draws: int, *, clamps: bool = True
    ):
        n_members, like = len(model.flat), model.flat
        self.objective, self.mask = objective, model.mask
        self.outlet = Outlet(model)
        self.shares = Shares(n_members, n_rows, n_draws, like)
        self.encoder = Layers(model.encoder, n_rows, self.outlet)
        self.decoder = Layers(model.decoder, n_draws * n_rows, self.outlet, wants_input=True)
        self.clamps = clamps
        self.x = _contiguous(self.encoder.x) if clamps else self.encoder.x
        self.code = Code(self.encoder.out, self.decoder.x, self.decoder.grad_x, n_draws)
        self.grad_out = torch.empty_like(self.decoder.out)
        self.columns = self._columns(model)
        self.terms = like.new_zeros(3, n_members)
        self.loss, self.reconstruction, self.kl = self.terms.unbind()

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
            likelihood.cut(self.x.mT.unsqueeze(1)),
            likelihood.cut(model.residual),
            strict=True,
        )
        parts: list[GaussianColumns | BernoulliColumns] = []
        for (kind, _), *views, x, residual in cuts:
            own, own_grads = ([view.movedim(-1, 1) for view in some] for some in views)
            x, residual = x.movedim(-1, 1), residual.movedim(-1, 1)  # (M, d, 1, B), (M, d, 1, 1)
            if isinstance(kind, Bernoulli):
                parts.append(BernoulliColumns(own, own_grads, x, self.shares))
            else:
                prior = self.objective.prior_rows
                parts.append(GaussianColumns(own, own_grads, x, residual, prior, self.shares))
        return parts

    def __call__(
        self,
        x: Tensor,
        weight: Tensor | None,
        noise: Tensor,
        beta: Tensor,
        shown: Tensor | None = None,
    ) -> Tensor:
        """Compute the terms of one batch and write their gradient into the model's.

        Parameters
        ----------
        x : Tensor of shape (M, B, n_columns)
            Encoded rows.
        weight : Tensor of shape (M, B) or None
            What each counts.
        noise : Tensor of shape (M or 1, K, B or 1, l)
            Standard normal draws.
        beta : Tensor of shape (M,)
            Weight of the KL.
        shown : Tensor of shape (M, B, n_columns), optional
            What the encoder sees of the rows, with ``clamps`` only; by default the rows.

        Returns
        -------
        Tensor of shape (3, M)
            Loss, reconstruction loss and KL loss; valid until the next call.
        """
        if weight is not None:
            self.shares.weigh(weight)
        self.x.copy_(x.mT)
        if self.clamps:
            seen = self.x if shown is None else shown.mT
            torch.clamp(seen, -FARTHEST_INPUT, FARTHEST_INPUT, out=self.encoder.x)
        noise = noise.permute(0, 3, 1, 2)  # (M or 1, l, K, B or 1)
        self.encoder.forward()
        self.code.forward(noise)
        self.decoder.forward()

        self.reconstruction.zero_()
        for block in self.columns:
            self.reconstruction.add_(block.forward_backward())
        self.decoder.backward(self.grad_out)

        kl_per_unit = self.code.kl(self.shares)  # (M, l)
        torch.sum(self.objective.clamped(kl_per_unit, self.mask), 1, out=self.kl)
        force = self.shares.row * beta.view(-1, 1, 1)  # (M, 1, B)
        spent = self.objective.spent(kl_per_unit)
        if spent is not None:
            force = force * spent.unsqueeze(2)
        self.encoder.backward(self.code.backward(noise, force))
        self.outlet.flow()
        torch.addcmul(self.reconstruction, self.kl, beta, out=self.loss)
        return self.terms


class Outlet:
    """Where parameters are read and their gradients are written.

    For one member, both are views of the model's flat tensors. The gradients of several
    members lie apart there, where matrix products are slow to write; they are written
    beside it, in one piece, and then moved.
    """

    def __init__(self, model: VAE):
        self.model = model
        self.is_direct = len(model.flat) == 1
        self.pieces: list[Tensor] = []

    def open(self, *params: Tensor) -> tuple[Tensor, Tensor]:
        """Give values and gradients of neighbouring parameters: (M, all their rows, n_out).

        Parameters have to be opened in the order in which they lie in the flat tensor.
        """
        value, grad = self.model.block(params)
        grad = grad if self.is_direct else _contiguous(grad)
        self.pieces.append(grad.flatten(1))
        return value, grad

    def flow(self) -> None:
        """Move all gradients to the model."""
        if not self.is_direct:
            torch.cat(self.pieces, dim=1, out=self.model.flat_grad)


class Shares:
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


class Layers:
    """An MLP with its linear path.

    The last layer and the linear path are one product, of the values below the last layer
    and the input, which lie in one tensor; a row of ones stands for the bias.
    """

    def __init__(self, network: MLP, n_rows: int, outlet: Outlet, *, wants_input: bool = False):
        n_members, n_in, _ = network.linear.weight.shape
        widths = [layer.weight.shape[2] for layer in network.layers]
        n_top = widths[-1] if widths else 0
        self.top = network.linear.weight.new_ones(n_members, n_top + n_in + 1, n_rows)
        self.x = self.top[:, n_top:-1]  # (M, n_in, rows), for the caller to fill
        self.activate = ACTIVATIONS_OUT[network.activation_name]
        self.gradient = ACTIVATION_GRADIENTS[network.activation_name]

        self.hidden: list[Product] = []
        below, n_below = self.top[:, n_top:], n_in if wants_input else 0
        for layer, width in zip(network.layers, widths, strict=True):
            product = Product(below, n_below, *outlet.open(layer.weight, layer.bias))
            self.hidden.append(product)
            below, n_below = self.top.new_ones(n_members, width + 1, n_rows), width
        # what each hidden layer gives is a part of the next one's input
        self.values = [product.x[:, :-1] for product in self.hidden[1:]]
        self.values += [self.top[:, :n_top]] if widths else []
        last = [] if network.last is None else [network.last]
        block = outlet.open(*last, network.linear.weight, network.linear.bias)
        self.last = Product(self.top, n_top + (n_in if wants_input else 0), *block)
        self.grad_top, self.grad_x = self.last.grad_x.split(
            [n_top, n_in if wants_input else 0], dim=1
        )
        self.out, self.wants_input = self.last.out, wants_input

    def forward(self) -> None:
        """Compute ``out`` (M, n_out, rows) from ``x``."""
        for product, value in zip(self.hidden, self.values, strict=True):
            self.activate(product.forward(), value)
        self.last.forward()

    def backward(self, grad: Tensor) -> None:
        """Write the weights' gradients and, if it was wanted, the input's into ``grad_x``."""
        self.last.backward(grad)
        grad = self.grad_top
        for product, value in zip(reversed(self.hidden), reversed(self.values), strict=True):
            grad = product.backward(self.gradient(grad, product.out, value, grad))
        if self.hidden and self.wants_input:
            self.grad_x.add_(grad)


class Product:
    """The product of transposed weights and x, whose first ``n_wanted`` rows have gradients."""

    def __init__(self, x: Tensor, n_wanted: int, weight: Tensor, grad_weight: Tensor):
        n_members, _, n_rows = x.shape
        self.x, self.n_wanted = x, n_wanted
        self.weight_t, self.wanted = weight.mT, weight[:, :n_wanted]
        self.grad_weight = grad_weight
        self.out = x.new_empty(n_members, weight.shape[2], n_rows)
        self.grad_x = x.new_empty(n_members, n_wanted, n_rows)
        self.grad: Tensor | None = None

    def forward(self) -> Tensor:
        """(M, n_in, rows) -> (M, n_out, rows)."""
        return torch.bmm(self.weight_t, self.x, out=self.out)

    def backward(self, grad: Tensor) -> Tensor:
        """Write the weights' gradient; give that of the rows that were wanted."""
        if grad is not self.grad:  # it is the same buffer every time
            self.grad, self.grad_t = grad, grad.mT
        torch.bmm(self.x, self.grad_t, out=self.grad_weight)
        return torch.bmm(self.wanted, grad, out=self.grad_x) if self.n_wanted else self.grad_x


class Code:
    """A diagonal Gaussian posterior, its draws and its KL from the standard normal."""

    def __init__(self, params: Tensor, z: Tensor, grad_z: Tensor, n_draws: int):
        self.loc, self.raw = params.chunk(2, dim=1)  # (M, l, B)
        self.grad_params = torch.empty_like(params)
        self.grad_loc, self.grad_raw = self.grad_params.chunk(2, dim=1)
        self.bent, self.log_scale, self.scale, self.variance, self.work = (
            _contiguous(self.loc) for _ in range(5)
        )
        self.z = z.unflatten(2, (n_draws, -1))  # (M, l, K, B)
        self.grad_z = grad_z.unflatten(2, (n_draws, -1))
        self.towards_scale = _contiguous(self.z)
        # their sums over draws, which are themselves where there is one draw
        self.has_one_draw = n_draws == 1
        both = self.grad_z, self.towards_scale
        self.pull, self.grad_scale = (
            part[:, :, 0] if self.has_one_draw else _contiguous(self.loc) for part in both
        )
        self.loc_by_draw, self.scale_by_draw = self.loc.unsqueeze(2), self.scale.unsqueeze(2)
        # as tensors: a Python number is turned into one at every call
        self.bound = params.new_tensor(posteriors.LOG_SCALE_BOUND)
        self.inverse_bound = 1 / self.bound
        self.half = params.new_tensor(0.5)

    def forward(self, noise: Tensor) -> None:
        """Draw ``z`` (M, l, K B), with noise (M or 1, l, K, B or 1)."""
        torch.mul(self.raw, self.inverse_bound, out=self.bent).tanh_()
        torch.mul(self.bent, self.bound, out=self.log_scale)
        torch.exp(self.log_scale, out=self.scale)
        torch.addcmul(self.loc_by_draw, self.scale_by_draw, noise, out=self.z)

    def kl(self, shares: Shares) -> Tensor:
        """KL per dimension, averaged over rows: (M, l)."""
        torch.mul(self.scale, self.scale, out=self.variance)
        rows = torch.addcmul(self.variance, self.loc, self.loc, out=self.work).mul_(self.half)
        rows.sub_(self.log_scale)  # (M, l, B), half a nat short of the KL
        return torch.baddbmm(shares.total, rows, shares.column, beta=-0.5).squeeze(2)

    def backward(self, noise: Tensor, force: Tensor) -> Tensor:
        """Gradient of the encoder's output, (M, 2 l, B), from that of z."""
        torch.mul(self.grad_z, noise, out=self.towards_scale)
        if not self.has_one_draw:
            torch.sum(self.grad_z, 2, out=self.pull)
            torch.sum(self.towards_scale, 2, out=self.grad_scale)
        torch.addcmul(self.pull, force, self.loc, out=self.grad_loc)
        grad = self.grad_scale.mul_(self.scale).addcmul_(force, self.variance).sub_(force)
        torch.addcmul(grad, grad, self.bent.mul_(self.bent), value=-1, out=self.grad_raw)
        return self.grad_params


class BernoulliColumns:
    """Cross-entropy of binary columns."""

    def __init__(self, params: list[Tensor], grads: list[Tensor], x: Tensor, shares: Shares):
        (self.logit,), (self.grad,) = params, grads
        self.x, self.shares = x, shares
        self.cost = _contiguous(self.logit)
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
        shares: Shares,
    ):
        self.loc, self.raw = params  # (M, d, K, B), and the same or (M, d, 1, 1)
        self.grad_loc, self.grad_raw = grads
        self.x, self.shares = x, shares
        self.is_of_z = self.raw.shape == self.loc.shape
        self.distance, self.square = _contiguous(self.loc), _contiguous(self.loc)
        self.rows_of_cost, self.rows_of_square = self.distance.flatten(2), self.square.flatten(2)
        self.bent, self.precision, self.pull = (_contiguous(self.raw) for _ in range(3))
        # what an imagined row pulls at a scale, over the squared precision; and its push
        prior = torch.as_tensor(prior_rows, dtype=residual.dtype, device=residual.device)
        prior = prior.expand(len(residual)).reshape(-1, 1, 1, 1)
        self.imagined, self.push = prior * residual.square(), 1 + prior
        bound = likelihoods.LOG_SCALE_BOUND
        self.bound, self.inverse_bound = residual.new_tensor([bound, 1 / bound]).unbind()
        self.double_bound, self.neg_bound = 2 * self.bound, -self.bound
        self.constant = self.loc.shape[1] * HALF_LOG_2PI
        self.per_column = residual.new_empty(len(residual), self.loc.shape[1], 1)
        self.by_draw = self.per_column.unsqueeze(3)
        self.total, self.total_by_draw = shares.total[:, 0, 0], shares.total.unsqueeze(1)

    def forward_backward(self) -> Tensor:
        """Write the gradient; give the loss: (M,)."""
        shares = self.shares
        torch.mul(self.raw, self.inverse_bound, out=self.bent).tanh_()
        torch.mul(self.bent, self.neg_bound, out=self.precision).exp_()
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
        torch.addcmul(grad, grad, self.bent.mul_(self.bent), value=-1, out=self.grad_raw)
        return loss.sum((1, 2)).mul_(0.5).add_(self.total, alpha=self.constant)


def _contiguous(like: Tensor) -> Tensor:
    return torch.empty_like(like, memory_format=torch.contiguous_format)
