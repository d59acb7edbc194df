"""Convolutions, for rows that are images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_vae.networks.base import Layout, check_positive_ints
from sklearn_vae.networks.blocks import Activation, stack, zero_init_
from sklearn_vae.networks.per_member import PerMember
from sklearn_vae.networks.scatter import Gather, Scatter

# Images have as many channels, if nothing is said.
USUAL_CHANNELS = (1, 3)
SMALLEST_SIDE = 8


@dataclass(frozen=True)
class ConvNet:
    r"""Convolutions, for rows that are images; ``network="conv"``.

    What the network sees of a place is what it sees of any other: a stroke need not be
    learned anew wherever it may be. Each convolution of the encoder looks at 3 x 3 places and
    leaves half as many a side; ``hidden_layer_sizes`` are then the widths of the layers
    between the last of them and the code. The decoder mirrors it with transposed convolutions
    of 4 x 4 places, which all overlap alike, so that no chequered pattern comes of them.

    .. math:: h^{(k+1)}_{c}(i, j) = \sigma\Big(b_c + \sum_{c', u, v} w_{c c'}(u, v) \,
        h^{(k)}_{c'}(2 i + u, 2 j + v)\Big)

    Pixels are one kind of thing: Gaussian ones are divided by one number, and not each by
    its own standard deviation, which would blow up the noise of the outer ones. Constant pixels
    are zeros to the network. Rows in single precision are computed many times as fast as
    those in double precision.

    Parameters
    ----------
    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of the images that the rows are, flat in
        C order. Heights and widths are at least 8. None stands for square images of
        one channel, or of three.
    channels : tuple of int, default=(16, 32)
        Channels after each convolution.

    Raises
    ------
    ValueError
        If a parameter is none of these, and in ``fit``, if rows are no such images.

    See Also
    --------
    FlattenImages : Makes rows of a stack of images, in a Pipeline.

    References
    ----------
    .. [1] Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-Based Learning Applied to
       Document Recognition", Proceedings of the IEEE 86, 1998.
    .. [2] A. Odena, V. Dumoulin and C. Olah, "Deconvolution and Checkerboard Artifacts",
       Distill, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_vae.networks import ConvNet
    >>> from sklearn_vae import VAETransformer
    >>> X = load_digits().data[:200].astype(np.float32)  # 8 x 8
    >>> network = ConvNet(image_shape=(8, 8), channels=(8, 16))
    >>> vae = VAETransformer(2, network=network, hidden_layer_sizes=16, max_iter=1, refit=False)
    >>> vae.fit_transform(X).shape
    (200, 2)
    """

    image_shape: tuple[int, ...] | None = None
    channels: tuple[int, ...] = (16, 32)

    supports_padding = False
    shared_scale = True
    n_values = 1
    variable_length = False
    is_autoregressive = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", check_positive_ints(self, "channels", self.channels))
        if not self.channels:
            raise ValueError(
                "The 'channels' parameter of ConvNet must hold at least one number. "
                f"Got {self.channels!r} instead."
            )
        if self.image_shape is None:
            return
        shape = check_positive_ints(self, "image_shape", self.image_shape)
        if len(shape) not in (2, 3) or min(shape[:2]) < SMALLEST_SIDE:
            raise ValueError(
                f"The 'image_shape' parameter of ConvNet must be (height, width) or (height, "
                f"width, channels), height and width at least {SMALLEST_SIDE}. "
                f"Got {self.image_shape!r} instead."
            )
        object.__setattr__(self, "image_shape", shape)

    def for_n_features(self, n_features: int) -> "ConvNet":
        """Give the kind for rows of so many columns, with their image's shape."""
        if self.image_shape is None:
            return replace(self, image_shape=_square(n_features))
        if math.prod(self.image_shape) != n_features:
            raise ValueError(
                f"The 'image_shape' parameter of ConvNet is {self.image_shape}, which are "
                f"{math.prod(self.image_shape)} numbers, but X has {n_features} columns."
            )
        return self

    def check_holes(self, X: Any) -> None:
        """Rows may have holes anywhere."""

    @property
    def _sides(self) -> list[tuple[int, int]]:
        """Heights and widths, those of the image first."""
        height, width, *_ = self.image_shape or ()
        sides = [(height, width)]
        for _ in self.channels:
            height, width = -(-height // 2), -(-width // 2)
            sides.append((height, width))
        return sides

    @property
    def _n_channels(self) -> int:
        return (*(self.image_shape or ()), 1)[2]

    def encoder(
        self, n_members: int, layout: Layout, hidden_layer_sizes: Sequence[int], activation: str
    ) -> PerMember:
        """Make encoders."""
        make = partial(Down, self, layout, tuple(hidden_layer_sizes), activation)
        return PerMember(n_members, layout.n_seen, layout.n_posterior_params, make)

    def decoder(
        self, n_members: int, layout: Layout, hidden_layer_sizes: Sequence[int], activation: str
    ) -> PerMember:
        """Make decoders, which mirror the encoders."""
        make = partial(Up, self, layout, tuple(hidden_layer_sizes[::-1]), activation)
        return PerMember(n_members, layout.n_decoder_inputs, len(layout.param), make)

    def layers(
        self, n_seen: int, n_decoder_inputs: int, hidden_layer_sizes: Sequence[int]
    ) -> list[int]:
        """About how many products each layer of one end takes, per row."""
        areas = [height * width for height, width in self._sides[1:]]
        channels = [self._n_channels, *self.channels]
        convolutions = [
            9 * a * b * area for (a, b), area in zip(pairwise(channels), areas, strict=True)
        ]
        widths = [self.channels[-1] * areas[-1], *hidden_layer_sizes, n_decoder_inputs]
        return [*convolutions, *(a * b for a, b in pairwise(widths)), n_seen * n_decoder_inputs]

    def widest(self, hidden_layer_sizes: Sequence[int]) -> int:
        """Numbers per row in the widest hidden layer."""
        areas = (height * width for height, width in self._sides[1:])
        sizes = [n * area for n, area in zip(self.channels, areas, strict=True)]
        return max(*sizes, *hidden_layer_sizes, 1)


def _square(n_features: int) -> tuple[int, ...]:
    """Shape of square images of so many numbers."""
    for n_channels in USUAL_CHANNELS:
        side = math.isqrt(n_features // n_channels)
        if side >= SMALLEST_SIDE and side * side * n_channels == n_features:
            return side, side, n_channels
    raise ValueError(
        f"network='conv' takes rows that are square images of at least {SMALLEST_SIDE} x "
        f"{SMALLEST_SIDE} pixels and one or three channels, and X has {n_features} columns. Say of "
        f"what shape the images are: network=ConvNet(image_shape=(height, width, channels))."
    )


class Down(nn.Module):
    """Rows to images, convolutions, and layers to what q(z|x) takes."""

    def __init__(self, kind: ConvNet, layout: Layout, widths: Sequence[int], activation: str):
        super().__init__()
        self.sides, self.n_channels = kind._sides, kind._n_channels
        self.spread = Scatter(layout, math.prod(kind.image_shape or ()))
        first = self.n_channels * self.spread.n_numbers
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise([first, *kind.channels]):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), Activation(activation)]
        self.convolutions = nn.Sequential(*layers)
        n_features = kind.channels[-1] * math.prod(self.sides[-1])
        widths = [n_features + layout.n_conditions, *widths]
        self.dense = stack(widths, activation)
        self.last = zero_init_(nn.Linear(widths[-1], layout.n_posterior_params, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_seen) -> (B, n_recognised)."""
        placed, conditions = self.spread(x)
        # channels lie last in memory: that is twice as fast on a CPU
        image = placed.unflatten(1, (*self.sides[0], self.n_channels)).flatten(3).movedim(3, 1)
        image = image.contiguous(memory_format=torch.channels_last)
        features = self.convolutions(image).movedim(1, 3).flatten(1)
        if conditions.shape[1]:
            features = torch.cat([features, conditions], dim=1)
        return self.last(self.dense(features))


class Up(nn.Module):
    """Layers from codes to images, transposed convolutions, and what p(x|z) takes of them."""

    def __init__(self, kind: ConvNet, layout: Layout, widths: Sequence[int], activation: str):
        super().__init__()
        self.sides, self.n_first = kind._sides, kind.channels[-1]
        first = self.n_first * math.prod(self.sides[-1])
        self.dense = stack([layout.n_decoder_inputs, *widths, first], activation)
        self.activation = Activation(activation)
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1)
            for n_in, n_out in pairwise(kind.channels[::-1])
        )
        n_last = kind._n_channels * layout.n_params
        last = nn.ConvTranspose2d(kind.channels[0], n_last, 4, stride=2, padding=1, bias=False)
        self.last = zero_init_(last)
        self.collect = Gather(layout)

    def forward(self, z: Tensor) -> Tensor:
        """(B, n_coded) -> (B, n_of_z)."""
        sides = self.sides[::-1]
        h = self.dense(z).unflatten(1, (*sides[0], self.n_first)).movedim(3, 1)
        for layer, (height, width) in zip(self.convolutions, sides[1:], strict=False):
            h = self.activation(layer(h)[:, :, :height, :width])
        height, width = sides[-1]
        image = self.last(h)[:, :, :height, :width]  # (B, n_channels n_params, h, w)
        return self.collect(image.movedim(1, 3))
