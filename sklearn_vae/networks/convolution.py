"""Convolutions, for rows that are images."""

import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_vae.networks.base import Layout, Network, RowStructure, check_size
from sklearn_vae.networks.per_member import Gather, PerMember, Scatter, fully_connected, zero_init_
from sklearn_vae.persistence.validation import check_positive_ints, invalid_parameter, serializable

# Numbers of channels that are tried if image_shape is None.
DEFAULT_CHANNELS = (1, 3)
MIN_SIDE = 8


@serializable
@dataclass(frozen=True)
class ConvNet(Network):
    r"""Convolutional network, for rows that are images; ``network="conv"``.

    Each convolution of the encoder has 3 x 3 kernels and stride 2. ``hidden_layer_sizes`` are
    the widths of the fully connected layers between the last convolution and the code. The
    decoder mirrors it with transposed convolutions with 4 x 4 kernels, which overlap evenly and
    so leave no checkerboard artifacts.

    .. math:: h^{(k+1)}_{c}(i, j) = \sigma\Bigl(b_c + \sum_{c', u, v} w_{c c'}(u, v) \,
        h^{(k)}_{c'}(2 i + u, 2 j + v)\Bigr)

    Gaussian pixels share one scale: dividing each by its own standard deviation would amplify
    the noise at the edges. Constant pixels are zeros in the network's input. Single precision is
    many times as fast as double precision.

    Parameters
    ----------
    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of the images, flattened in C order. Heights
        and widths are at least 8. None stands for square images of one channel, or of three.
    channels : tuple of int, default=(16, 32)
        Channels after each convolution.

    Raises
    ------
    ValueError
        If a parameter is invalid, and in ``fit``, if rows do not have the images' size.

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

    row_structure = RowStructure(period=1)

    image_shape: tuple[int, ...] | None = None
    channels: tuple[int, ...] = (16, 32)

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", check_positive_ints(self, "channels", self.channels))
        if not self.channels:
            raise invalid_parameter(self, "channels", "hold at least one number", self.channels)
        if self.image_shape is None:
            return
        shape = check_positive_ints(self, "image_shape", self.image_shape)
        if len(shape) not in (2, 3) or min(shape[:2]) < MIN_SIDE:
            expected = (
                f"be (height, width) or (height, width, channels), height and width at least "
                f"{MIN_SIDE}"
            )
            raise invalid_parameter(self, "image_shape", expected, self.image_shape)
        object.__setattr__(self, "image_shape", shape)

    def for_n_features(self, n_features: int) -> "ConvNet":
        """Return the network with the shape of images of ``n_features`` numbers."""
        if self.image_shape is None:
            for n_channels in DEFAULT_CHANNELS:
                side = math.isqrt(n_features // n_channels)
                if side >= MIN_SIDE and side * side * n_channels == n_features:
                    return replace(self, image_shape=(side, side, n_channels))
            raise ValueError(
                f"network='conv' needs rows that are square images of at least {MIN_SIDE} x "
                f"{MIN_SIDE} pixels with one or three channels, and X has {n_features} columns. "
                f"Set the shape of the images: network=ConvNet(image_shape=(height, width, "
                f"channels))."
            )
        check_size(self, "image_shape", self.image_shape, n_features)
        return self

    @property
    def sides(self) -> list[tuple[int, int]]:
        """Height and width of the image and after each convolution."""
        height, width, *_ = self.image_shape or ()
        sides = [(height, width)]
        for _ in self.channels:
            height, width = -(-height // 2), -(-width // 2)
            sides.append((height, width))
        return sides

    @property
    def n_image_channels(self) -> int:
        """Channels of the image."""
        return (*(self.image_shape or ()), 1)[2]

    def build(self, n_members: int, layout: Layout) -> tuple[PerMember, PerMember]:
        """Build encoder and decoder."""
        return (
            PerMember(n_members, layout.encoder_sizes, partial(ConvEncoder, self, layout)),
            PerMember(n_members, layout.decoder_sizes, partial(ConvDecoder, self, layout)),
        )

    def layers(self, layout: Layout) -> list[tuple[int, int]]:
        """Width of each layer of the encoder and its multiplications per row."""
        n_encoded, n_components = layout.n_encoded, layout.n_components
        areas = [height * width for height, width in self.sides[1:]]
        channels = pairwise([self.n_image_channels, *self.channels])
        convolutions = [
            (b * area, 9 * a * b * area) for (a, b), area in zip(channels, areas, strict=True)
        ]
        widths = [self.channels[-1] * areas[-1], *layout.hidden_layer_sizes, n_components]
        dense = [(b, a * b) for a, b in [*pairwise(widths), (n_encoded, n_components)]]
        return [*convolutions, *dense]


class ConvEncoder(nn.Module):
    """Convolutions and fully connected layers, from a row to the parameters of q(z|x)."""

    def __init__(self, network: ConvNet, layout: Layout):
        super().__init__()
        self.sides, self.n_image_channels = network.sides, network.n_image_channels
        self.scatter = Scatter(layout, math.prod(network.image_shape or ()))
        first = self.n_image_channels * self.scatter.n_channels
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise([first, *network.channels]):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.SiLU()]
        self.convolutions = nn.Sequential(*layers)
        n_features = network.channels[-1] * math.prod(self.sides[-1])
        widths = [n_features + layout.n_conditions, *layout.hidden_layer_sizes]
        self.dense = fully_connected(widths)
        self.last = zero_init_(nn.Linear(widths[-1], layout.n_posterior_params, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (B, n_in) -> parameters of q(z|x) (B, n_out)."""
        pixels, conditions = self.scatter(x)
        image = pixels.unflatten(1, (*self.sides[0], self.n_image_channels)).flatten(3)
        # channels last in memory: twice as fast on a CPU
        image = image.movedim(3, 1).contiguous(memory_format=torch.channels_last)
        features = self.convolutions(image).movedim(1, 3).flatten(1)
        if conditions.shape[1]:
            features = torch.cat([features, conditions], dim=1)
        return self.last(self.dense(features))


class ConvDecoder(nn.Module):
    """Fully connected layers and transposed convolutions, from a code to parameters of p(x|z)."""

    def __init__(self, network: ConvNet, layout: Layout):
        super().__init__()
        self.sides, self.n_first = network.sides[::-1], network.channels[-1]
        self.gather = Gather(layout)
        first = self.n_first * math.prod(self.sides[0])
        widths = [layout.decoder_sizes[0], *layout.hidden_layer_sizes[::-1], first]
        self.dense = fully_connected(widths)
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1)
            for n_in, n_out in pairwise(network.channels[::-1])
        )
        n_last = network.n_image_channels * self.gather.n_channels
        last = nn.ConvTranspose2d(network.channels[0], n_last, 4, stride=2, padding=1, bias=False)
        self.last = zero_init_(last)

    def forward(self, z: Tensor) -> Tensor:
        """Codes (B, n_in) -> parameters of p(x|z) (B, n_out)."""
        h = self.dense(z).unflatten(1, (*self.sides[0], self.n_first)).movedim(3, 1)
        for layer, (height, width) in zip(self.convolutions, self.sides[1:], strict=False):
            h = F.silu(layer(h)[:, :, :height, :width])
        height, width = self.sides[-1]
        image = self.last(h)[:, :, :height, :width]  # (B, n_image_channels n_channels, h, w)
        return self.gather(image.movedim(1, 3))
