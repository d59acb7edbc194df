"""Contract of every network: initial state, gradients, stacked members, files."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits

from sklearn_vae import VAETransformer, load
from sklearn_vae.likelihoods import Bernoulli, Categorical, Gaussian
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.build import build
from sklearn_vae.networks import NETWORKS, ConvNet, FullyConnected, GRUNet
from sklearn_vae.numerics.random import start_seeds

pytestmark = pytest.mark.usefixtures("few_steps")

X = load_digits().data[:130] + np.random.default_rng(0).uniform(size=(130, 64))
NETWORKS_TESTED = {
    "mlp": FullyConnected(),
    "conv": ConvNet(channels=(3, 4)),
    "gru": GRUNet((16, 4), n_units=5),
    "words": GRUNet((16, 4), n_units=5, word_dropout=0.5),
    "steps independent given the code": GRUNet((16, 4), n_units=5, autoregressive=False),
}
each = pytest.mark.parametrize("network", NETWORKS_TESTED.values(), ids=NETWORKS_TESTED)


def unfitted(network, **params):
    usual = {
        "hidden_layer_sizes": (5, 4),
        "max_iter": 1,
        "early_stopping": False,
        "batch_size": 32,
        "random_state": 0,
    }
    return VAETransformer(2, network=network, **{**usual, **params})


def model_of(network, n_members=1, *, n_factors=0):
    """A model of 63 columns with two likelihoods, permuted, and a constant column."""
    architecture = Architecture(
        2,
        (5, 4),
        ((Gaussian(), 60), (Bernoulli(), 3)),
        n_factors=n_factors,
        network=network.for_n_features(64),
        column_indices=tuple(np.random.default_rng(0).permutation(64)[:63].tolist()),
    )
    model = build(architecture, n_members).double()
    generator = torch.Generator().manual_seed(0)
    for param in model.parameters():
        param.data = 0.3 * torch.randn(param.shape, generator=generator, dtype=torch.float64)
    return model


def rows_for(n_members, n_rows=6):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n_members, n_rows, 63, generator=generator, dtype=torch.float64)
    x[..., 60:] = (x[..., 60:] > 0).double()
    return x, torch.randn(n_members, 1, n_rows, 2, generator=generator, dtype=torch.float64)


def test_every_network_is_tested():
    """A new network joins the list above."""
    assert {type(n) for n in NETWORKS_TESTED.values()} == {type(n) for n in NETWORKS.values()}


@each
@pytest.mark.parametrize("has_missing", [False, True])
@pytest.mark.parametrize("n_conditions", [0, 2])
def test_encoders_and_decoders_have_the_widths_of_the_layout(network, has_missing, n_conditions):
    """Of every member, with and without missing values and conditions."""
    blocks = ((Gaussian(), 40), (Categorical(3), 20), (Bernoulli(), 4))
    indices = np.random.default_rng(0).permutation(64).tolist()
    layout = Architecture(2, (5, 4), blocks, n_conditions, indices, n_factors=int(has_missing))
    network = network.for_n_features(64)
    encoder, decoder = network.build(3, layout)
    rows = (torch.zeros(3, 7, layout.n_encoded),) * (decoder.time_steps is not None)

    assert layout.encoder_sizes == ((2 if has_missing else 1) * 104 + n_conditions, 4)
    assert encoder(torch.zeros(3, 7, layout.encoder_sizes[0])).shape == (3, 7, 4)
    assert decoder(torch.zeros(3, 7, 2 + n_conditions), *rows).shape == (3, 7, 144)
    assert (decoder.time_steps is not None) == network.row_structure.is_autoregressive
    widths, n_products = zip(*network.layers(layout), strict=True)
    assert max(widths) >= 5
    assert min(n_products) > 0


@each
def test_every_network_starts_at_probabilistic_pca(network, rng):
    """Before the first step the score is the MLP's: the skip connection is the same."""
    loadings = rng.choice([-1, 1], (3, 64))
    rows = rng.uniform(-1, 1, (130, 3)) @ loadings + rng.uniform(-1, 1, (130, 64))
    start = {"learning_rate": 1e-14, "batch_size": 256}  # in double precision
    expected = unfitted("mlp", **start).fit(rows).score_samples(rows[:40])
    found = unfitted(network, **start).fit(rows).score_samples(rows[:40])

    # an autoregressive decoder gets fewer draws from the prior
    atol = 0.1 if getattr(network, "autoregressive", False) else 1e-6
    np.testing.assert_allclose(found, expected, atol=atol)


@each
@pytest.mark.parametrize("n_factors", [0, 3])
def test_the_gradient_reaches_every_parameter(network, n_factors):
    """A parameter without a gradient is a forgotten connection."""
    model = model_of(network, n_factors=n_factors)
    log_prob, kl = model.elbo_terms(*rows_for(1))
    (log_prob.sum() - kl.sum()).backward()

    for name, param in model.named_parameters():
        if param.numel() == 0:  # nothing here is free of z
            continue
        assert param.grad is not None, name
        assert (param.grad != 0).any(), name


@each
def test_members_trained_together_equal_members_trained_alone(network):
    """With word dropout too: every member has its own random streams."""
    seeds = start_seeds(0, 2)
    together = unfitted(network, n_init=2, ensemble=True).fit(X)
    alone = [unfitted(network, random_state=seed).fit(X) for seed in seeds]
    order = np.argsort([single.history_[-1]["loss"] for single in alone], kind="stable")

    for name, weights in together.state_dict_.items():
        for member, number in enumerate(order):
            np.testing.assert_allclose(
                weights[member], alone[number].state_dict_[name][0], atol=1e-5
            )


@each
def test_saved_models_have_the_same_bits(network, tmp_path):
    """Clones, pickles and files."""
    vae = clone(unfitted(network)).fit(X)
    vae.save(tmp_path / "model")
    for again in (load(tmp_path / "model"), pickle.loads(pickle.dumps(vae))):
        assert again.network == network
        np.testing.assert_array_equal(again.score_samples(X[:20]), vae.score_samples(X[:20]))
        np.testing.assert_array_equal(again.sample(3), vae.sample(3))


@each
def test_global_random_states_stay_as_they_were(network):
    """torch's own layers draw from the global generator, which belongs to the user."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    unfitted(network).fit(X).sample(2)

    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


FORGED = {
    "another image": (NETWORKS_TESTED["conv"], {"network": ConvNet((9, 9, 1))}, "image_shape"),
    "another sequence": (NETWORKS_TESTED["gru"], {"network": GRUNet((4, 4))}, "sequence_shape"),
    "no columns": (
        NETWORKS_TESTED["conv"],
        {"column_indices": tuple(range(1000, 1064))},
        "column indices",
    ),
    "huge": (NETWORKS_TESTED["conv"], {"network": ConvNet((8, 8), (10**6, 10**6))}, "weights"),
}


@pytest.mark.parametrize(("network", "changes", "words"), FORGED.values(), ids=FORGED)
def test_a_file_cannot_state_another_network(network, changes, words, tmp_path):
    """Its shapes are compared with its arrays before memory is allocated."""
    vae = unfitted(network).fit(X)
    vae.architecture_ = replace(vae.architecture_, **changes)
    vae.save(tmp_path / "model")

    with pytest.raises(ValueError, match=words):
        load(tmp_path / "model")
