"""Layers with hand-written forward and backward passes.

Tensors have the features first, (M, features, rows): the rows are then along the axis of the
processor's vector instructions, which a small or odd number of features would leave half empty.
"""

from functools import partial

import torch
from torch import Tensor

from sklearn_vae.models.vae import StackedModule
from sklearn_vae.networks.mlp import MLP, SkipNetwork
from sklearn_vae.numerics.array_api import one_hot
from sklearn_vae.posteriors import POSTERIOR_LOG_SCALE_BOUND

aten = torch.ops.aten
# A contiguous buffer of a tensor's shape, whatever the tensor's strides.
empty_like = partial(torch.empty_like, memory_format=torch.contiguous_format)


def flat_views(model: StackedModule, *params: Tensor) -> tuple[Tensor, Tensor]:
    """Views of the values and gradients of consecutive parameters as one: (M, all rows, n_out)."""
    first = model.offsets[id(params[0])]
    shape = len(model.flat), sum(param.shape[1] for param in params), params[0].shape[2]
    last = first + shape[1] * shape[2]
    return model.flat[:, first:last].view(shape), model.flat_grad[:, first:last].view(shape)


class HandWrittenMLP:
    """Forward and backward pass of an MLP with a linear skip connection.

    The last layer and the skip connection are one product with the last hidden layer, the input,
    and a row of ones. The input's gradient is computed for its first ``n_grad`` features.
    """

    def __init__(self, model: StackedModule, network: SkipNetwork, n_rows: int, n_grad: int = 0):
        assert isinstance(network, MLP)
        n_members, n_in, _ = network.linear.weight.shape
        widths = [layer.weight.shape[2] for layer in network.hidden]
        n_last_hidden = widths[-1] if widths else 0
        self.last_input = network.linear.weight.new_ones(
            n_members, n_last_hidden + n_in + 1, n_rows
        )
        self.x = self.last_input[:, n_last_hidden:-1]  # (M, n_in, rows), for the caller to fill

        self.hidden: list[HandWrittenLinear] = []
        layer_input, n_with_grad = self.last_input[:, n_last_hidden:], n_grad
        for dense, width in zip(network.hidden, widths, strict=True):
            block = flat_views(model, dense.weight, dense.bias)
            self.hidden.append(HandWrittenLinear(layer_input, n_with_grad, *block))
            layer_input, n_with_grad = self.last_input.new_ones(n_members, width + 1, n_rows), width
        # outputs of the hidden layers are views of the next layers' inputs
        self.activations = [layer.x[:, :-1] for layer in self.hidden[1:]]
        self.activations += [self.last_input[:, :n_last_hidden]] if widths else []
        last = [] if network.last is None else [network.last]
        block = flat_views(model, *last, network.linear.weight, network.linear.bias)
        n_with_grad = n_last_hidden + n_grad
        self.last = HandWrittenLinear(self.last_input, n_with_grad, *block)
        self.grad_last_hidden, self.grad_x = self.last.grad_x.split([n_last_hidden, n_grad], dim=1)
        self.out, self.n_grad = self.last.out, n_grad

    def forward(self) -> None:
        """Compute ``out`` (M, n_out, rows) from ``x``."""
        for layer, value in zip(self.hidden, self.activations, strict=True):
            aten.silu.out(layer.forward(), out=value)
        self.last.forward()

    def backward(self, grad: Tensor) -> None:
        """Write the gradients of the weights, and that of the input into ``grad_x``."""
        self.last.backward(grad)
        grad = self.grad_last_hidden
        for layer in reversed(self.hidden):
            grad = layer.backward(aten.silu_backward.grad_input(grad, layer.out, grad_input=grad))
        if self.hidden and self.n_grad:
            self.grad_x.add_(grad)


class HandWrittenLinear:
    """Linear layer ``weight.T @ x``; x has gradients for its first ``n_grad`` features."""

    def __init__(self, x: Tensor, n_grad: int, weight: Tensor, grad_weight: Tensor):
        n_members, _, n_rows = x.shape
        self.x, self.n_grad = x, n_grad
        self.weight_t, self.weight_with_grad = weight.mT, weight[:, :n_grad]
        self.grad_weight = grad_weight
        self.out = x.new_empty(n_members, weight.shape[2], n_rows)
        self.grad_x = x.new_empty(n_members, n_grad, n_rows)

    def forward(self) -> Tensor:
        """Compute the output: (M, n_in, rows) -> (M, n_out, rows)."""
        return torch.bmm(self.weight_t, self.x, out=self.out)

    def backward(self, grad: Tensor) -> Tensor:
        """Write the gradient of the weights; return that of the input's first features."""
        torch.bmm(self.x, grad.mT, out=self.grad_weight)
        if self.n_grad:
            torch.bmm(self.weight_with_grad, grad, out=self.grad_x)
        return self.grad_x


class GaussianSample:
    """Reparameterized samples z = loc + scale * (I + N) noise of a Gaussian posterior.

    Samples are the first features of the decoder's input, those that have gradients. N is strictly
    lower triangular, and 0 for a diagonal Gaussian: the encoder gives locations and scales only.
    """

    def __init__(self, encoder: HandWrittenMLP, decoder: HandWrittenMLP, n_draws: int):
        params, n_latent = encoder.out, decoder.n_grad
        sizes = [n_latent, n_latent, params.shape[1] - 2 * n_latent]
        self.loc, self.raw, self.below = params.split(sizes, dim=1)  # (M, l, B), N's (M, n, B)
        self.grad_params = torch.empty_like(params)
        self.grad_loc, self.grad_raw, self.grad_below = self.grad_params.split(sizes, dim=1)
        self.is_diagonal = sizes[2] == 0
        if not self.is_diagonal:
            below_diagonal = torch.tril_indices(n_latent, n_latent, -1, device=params.device)
            self.row, self.column = below_diagonal
            in_row = one_hot(self.row, n_latent, params.dtype).mT
            self.in_row = in_row.expand(len(params), -1, -1)  # (M, l, n)
        self.log_scale, self.scale = (empty_like(self.loc) for _ in range(2))
        self.z = decoder.x[:, : decoder.n_grad].unflatten(2, (n_draws, -1))  # (M, l, K, B)
        self.grad_z = decoder.grad_x.unflatten(2, (n_draws, -1))
        self.grad_z_noise, self.grad_scale = empty_like(self.z), empty_like(self.loc)
        self.loc_per_draw, self.scale_per_draw = self.loc.unsqueeze(2), self.scale.unsqueeze(2)
        self.log_scale_bound = TanhBound(self.raw, POSTERIOR_LOG_SCALE_BOUND)
        self.half = params.new_tensor(0.5)  # a Python number is converted at every call

    def forward(self, noise: Tensor) -> None:
        """Compute ``z`` (M, l, K, B) from standard normal noise (M or 1, l, K, B)."""
        tanh = self.log_scale_bound.forward()
        torch.mul(tanh, self.log_scale_bound.bound, out=self.log_scale)
        torch.exp(self.log_scale, out=self.scale)
        self.correlated = noise
        if not self.is_diagonal:
            self.noise_of_column = noise.index_select(1, self.column)
            products = (self.below.unsqueeze(2) * self.noise_of_column).flatten(2)
            correlated = torch.bmm(self.in_row, products).view_as(self.z)
            self.correlated = correlated.add_(noise)
        torch.addcmul(self.loc_per_draw, self.scale_per_draw, self.correlated, out=self.z)

    def sum_over_draws(self) -> None:
        """Sum the gradients of location, scale and N over draws, from ``grad_z``."""
        torch.mul(self.grad_z, self.correlated, out=self.grad_z_noise)
        if not self.is_diagonal:
            grad = (self.grad_z * self.scale_per_draw).index_select(1, self.row)
            torch.sum(grad.mul_(self.noise_of_column), 2, out=self.grad_below)
        torch.sum(self.grad_z, 2, out=self.grad_loc)
        torch.sum(self.grad_z_noise, 2, out=self.grad_scale)

    def write_gradient(self, kl_weight: Tensor | None = None) -> Tensor:
        """Return the gradient of the encoder's output, (M, n_params, B), from ``grad_z``.

        ``kl_weight`` (M, 1, B) is that of the posterior's negative entropy.
        """
        self.sum_over_draws()
        grad = self.grad_scale.mul_(self.scale)
        if kl_weight is not None:
            grad.sub_(kl_weight)
        self.log_scale_bound.backward(grad, out=self.grad_raw)
        return self.grad_params


class TanhBound:
    """Number within plus and minus a bound: ``bound * tanh(raw / bound)``."""

    def __init__(self, raw: Tensor, bound: float):
        self.raw, self.tanh = raw, empty_like(raw)
        # tensors: a Python number is converted at every call
        numbers = raw.new_tensor([bound, 2 / bound, 2.0, 1.0])
        self.bound, self.twice_inverse, self.two, self.one = numbers.unbind()

    def forward(self) -> Tensor:
        """Compute ``tanh``, tanh(raw / bound)."""
        # by the sigmoid: torch.tanh is several times slower
        torch.mul(self.raw, self.twice_inverse, out=self.tanh).sigmoid_()
        return self.tanh.mul_(self.two).sub_(self.one)

    def backward(self, grad: Tensor, out: Tensor) -> None:
        """Write the gradient of ``raw`` from that of the bounded number; the bound cancels."""
        aten.tanh_backward.grad_input(grad, self.tanh, grad_input=out)
