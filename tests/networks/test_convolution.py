"""Convolutions: images in their places, any side, one unit for all pixels."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from sklearn_vae import VAETransformer
from sklearn_vae.likelihoods import Bernoulli, Categorical, Gaussian
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.networks import ConvNet
from sklearn_vae.networks.per_member import Gather, Scatter

DIGITS = load_digits().images[:160].astype(np.float32)  # (160, 8, 8), corners constant
SMALL = ConvNet(channels=(4, 6))


def fit(X, network=SMALL, **params):
    usual = {"hidden_layer_sizes": 8, "max_iter": 2, "early_stopping": False, "batch_size": 64}
    return VAETransformer(2, network=network, random_state=0, **{**usual, **params}).fit(X)


def layout_of(blocks, places, *, has_missing=False, n_conditions=0, hidden=(6,)):
    return Architecture(2, hidden, blocks, n_conditions, places, n_factors=int(has_missing))


MIXED = [(Gaussian(), 2), (Bernoulli(), 1), (Categorical(3), 1)]
PLACES = [4, 0, 3, 1]  # column 2 is constant


def test_numbers_are_spread_over_the_columns_that_they_belong_to():
    """The model sees columns by kind; a network of neighbours has to see them in X's order."""
    spread = Scatter(layout_of(MIXED, PLACES), 5)
    x = torch.arange(1.0, 7.0).unsqueeze(0)  # two numbers, a bit, three classes
    placed, others = spread(x)
    expected = [[2, 0, 0], [4, 5, 6], [0, 0, 0], [3, 0, 0], [1, 0, 0]]

    assert placed[0].tolist() == expected
    assert others.shape == (1, 0)


def test_what_is_there_lies_beside_what_it_is_and_conditions_stay_behind():
    """The encoder of a table with holes sees two numbers for each one."""
    spread = Scatter(layout_of(MIXED, PLACES, has_missing=True, n_conditions=2), 5)
    x, observed = torch.arange(1.0, 7.0), torch.tensor([0.0, 1, 1, 0, 0, 0])
    placed, others = spread(torch.cat([x, observed, torch.tensor([7.0, 8.0])]).unsqueeze(0))

    assert placed[0, :, 0].tolist() == [2, 4, 0, 3, 1]
    assert placed[0, :, 3].tolist() == [1, 0, 0, 1, 0]
    assert others.tolist() == [[7, 8]]


def test_parameters_are_collected_from_the_places_of_their_columns():
    """Gaussian columns have a location and a log-scale, a class has three logits."""
    collect = Gather(layout_of(MIXED, PLACES))
    placed = torch.arange(15.0).view(1, 5, 3)  # place p has 3 p, 3 p + 1, 3 p + 2
    expected = [12, 0, 13, 1, 9, 3, 4, 5]  # locations, log-scales, logit, logits

    assert collect(placed)[0].tolist() == expected


@pytest.mark.parametrize("shape", [(8, 8), (9, 11), (8, 13, 3), (28, 28, 1)])
@pytest.mark.parametrize("has_missing", [False, True])
def test_any_image_goes_down_and_up_again(shape, has_missing):
    """Odd sides are halved upwards, and what is too much on the way back is cut."""
    n = int(np.prod(shape))
    network = ConvNet(shape, channels=(3, 4, 5)).for_n_features(n)
    layout = layout_of([(Gaussian(), n)], range(n), has_missing=has_missing, n_conditions=1)
    encoder, decoder = network.build(2, layout)
    q = encoder(torch.randn(2, 7, layout.encoder_sizes[0]))
    p = decoder(torch.randn(2, 7, layout.decoder_sizes[0]))

    assert q.shape == (2, 7, 4)
    assert p.shape == (2, 7, 2 * n)


def test_the_encoder_is_torchs_convolutions_of_the_image():
    """The way of an image through the layers, written with torch's own functions."""
    shape = (8, 10, 3)
    n = int(np.prod(shape))
    network = ConvNet(shape, channels=(4, 5))
    encoder = network.build(1, layout_of([(Gaussian(), n)], range(n)))[0]
    encoder.reset_parameters(0, seed=0, side=0)
    w = {name.replace("/", "."): value[0].detach() for name, value in encoder.weights.items()}
    w["last.weight"].normal_(generator=torch.Generator().manual_seed(0))
    images = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    h = torch.as_tensor(images).permute(0, 3, 1, 2)
    for place in (0, 2):
        weight, bias = (w[f"convolutions.{place}.{part}"] for part in ("weight", "bias"))
        h = nn.functional.silu(nn.functional.conv2d(h, weight, bias, stride=2, padding=1))
    h = h.permute(0, 2, 3, 1).flatten(1)
    h = nn.functional.silu(h @ w["dense.0.weight"].T + w["dense.0.bias"])
    expected = h @ w["last.weight"].T

    found = encoder(torch.as_tensor(images.reshape(1, 3, -1)))[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_every_pixel_of_an_output_is_covered_by_as_many_weights():
    """Uneven overlap is what makes chequered patterns: all ones must give an even image."""
    network = ConvNet((16, 16), channels=(1,))
    layout = layout_of([(Bernoulli(), 256)], range(256), hidden=())
    decoder = network.build(1, layout)[1]
    for param in decoder.weights.values():
        param.data.fill_(1.0)
    image = decoder(torch.ones(1, 1, 2)).view(16, 16)

    torch.testing.assert_close(image[1:-1, 1:-1], image[8, 8].expand(14, 14))


def test_pixels_have_one_unit_and_scores_are_in_the_units_of_the_images():
    """Ten times as bright is ten times as wide: log 10 nats less per pixel that varies."""
    vae, brighter = fit(DIGITS.reshape(160, -1)), fit(10 * DIGITS.reshape(160, -1))
    columns = vae.columns_
    real = [isinstance(kind, Gaussian) for kind in columns.likelihoods]
    group = next(group for group in columns.groups if isinstance(group.likelihood, Gaussian))
    unit = group.scale * 2.0**group.exponent
    pixels = DIGITS.reshape(160, -1)[:, real]

    assert np.ptp(unit) == 0
    assert unit[0] == pytest.approx(pixels.std(), rel=1e-5)
    difference = vae.score_samples(DIGITS.reshape(160, -1)) - brighter.score_samples(
        10 * DIGITS.reshape(160, -1)
    )
    np.testing.assert_allclose(difference, sum(real) * np.log(10), rtol=2e-2)


def test_pixels_may_be_missing():
    """The encoder sees where they are; the score is that of the others."""
    X = DIGITS.reshape(160, -1).copy()
    X[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan
    vae = fit(X, max_iter=1)
    filled = vae.impute(X[:4])

    assert np.isfinite(vae.score_samples(X[:4])).all()
    np.testing.assert_array_equal(filled[~np.isnan(X[:4])], X[:4][~np.isnan(X[:4])])


@pytest.mark.parametrize("n_columns", [7, 49, 80])
def test_rows_that_are_no_square_images_are_refused_with_what_to_give(n_columns):
    """The message says how many columns there are and which parameter is to be set."""
    X = np.random.default_rng(0).normal(size=(20, n_columns))
    with pytest.raises(ValueError, match=rf"{n_columns} columns.*image_shape=\(height"):
        VAETransformer(network="conv").fit(X)
