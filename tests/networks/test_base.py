"""What every kind of network has to keep: the start, the gradient, the fleet, the way to a file."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sklearn_vae import VAETransformer, load
from sklearn_vae.likelihoods import Bernoulli, Gaussian
from sklearn_vae.model_selection import VAESearchCV
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.vae import build
from sklearn_vae.networks import ConvNet, GRUNet, ResidualMLP
from sklearn_vae.onnx import to_onnx
from sklearn_vae.random import start_seeds

X = load_digits().data[:130] + np.random.default_rng(0).uniform(size=(130, 64))
KINDS = {
    "residual": ResidualMLP(n_units=6),
    "conv": ConvNet(channels=(3, 4)),
    "gru": GRUNet((16, 4), n_units=5),
    "words": GRUNet((16, 4), n_units=5, word_dropout=0.5),
    "apart": GRUNet((16, 4), n_units=5, autoregressive=False),
}
by_kind = pytest.mark.parametrize("network", KINDS.values(), ids=KINDS)


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
    """A model of one column that is constant and others, of two kinds, in no order."""
    architecture = Architecture(
        2,
        (5, 4),
        "tanh",
        ((Gaussian(), 60), (Bernoulli(), 3)),
        n_factors=n_factors,
        network=network.for_n_features(64),
        places=tuple(np.random.default_rng(0).permutation(64)[:63].tolist()),
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


@by_kind
def test_every_network_starts_at_probabilistic_pca(network):
    """Before the first step the score is the perceptron's: the linear path is the same."""
    rng = np.random.default_rng(0)  # without a value so far out that encoders do not see it
    loadings = rng.choice([-1, 1], (3, 64))
    rows = rng.uniform(-1, 1, (130, 3)) @ loadings + rng.uniform(-1, 1, (130, 64))
    start = {"learning_rate": 1e-14, "batch_size": 256}  # in double precision
    expected = unfitted("mlp", **start).fit(rows).score_samples(rows)
    found = unfitted(network, **start).fit(rows).score_samples(rows)

    # a decoder that follows gets fewer draws from the prior
    atol = 0.05 if getattr(network, "autoregressive", False) else 1e-6
    np.testing.assert_allclose(found, expected, atol=atol)


@by_kind
@pytest.mark.parametrize("n_factors", [0, 3])
def test_the_gradient_reaches_every_parameter(network, n_factors):
    """A parameter without a gradient is a forgotten connection."""
    model = model_of(network, n_factors=n_factors)
    log_prob, kl, _ = model.elbo_terms(*rows_for(1))
    (log_prob.sum() - kl.sum()).backward()

    for name, param in model.named_parameters():
        if param.numel() == 0:  # nothing here is free of z
            continue
        assert param.grad is not None, name
        assert (param.grad != 0).any(), name


@by_kind
def test_a_member_learns_from_its_own_rows_only(network):
    """Members share a program, not a gradient."""
    model = model_of(network, 2)
    log_prob, kl, _ = model.elbo_terms(*rows_for(2))
    (log_prob[0].sum() - kl[0].sum()).backward()

    params = [param for param in model.parameters() if param.numel()]
    assert all((param.grad[1] == 0).all() for param in params)


@by_kind
def test_members_of_a_fleet_are_the_fits_alone(network):
    """Also with words hidden by chance: every member has its own streams."""
    seeds = start_seeds(0, 2)
    fleet = unfitted(network, n_init=2, ensemble=True).fit(X)
    alone = [unfitted(network, random_state=seed).fit(X) for seed in seeds]
    order = np.argsort([own.history_[-1]["loss"] for own in alone], kind="stable")

    for name, weights in fleet.state_dict_.items():
        for member, place in enumerate(order):
            np.testing.assert_allclose(
                weights[member], alone[place].state_dict_[name][0], atol=1e-5
            )


@by_kind
def test_models_are_kept_to_the_last_bit(network, tmp_path):
    """Clone, pickle and a file of plain values."""
    vae = clone(unfitted(network)).fit(X)
    vae.save(tmp_path / "model")
    for again in (load(tmp_path / "model"), pickle.loads(pickle.dumps(vae))):
        assert again.network == network
        np.testing.assert_array_equal(again.score_samples(X), vae.score_samples(X))
        np.testing.assert_array_equal(again.sample(3), vae.sample(3))


@by_kind
def test_global_random_states_are_left_alone(network):
    """torch's own layers draw from the global generator, which is not ours to move."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    unfitted(network).fit(X).sample(2)

    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


@by_kind
def test_the_same_seed_is_the_same_fit(network):
    """And another one another."""
    first, same, other = (unfitted(network, random_state=seed).fit(X) for seed in (0, 0, 1))

    np.testing.assert_array_equal(first.transform(X), same.transform(X))
    assert not np.array_equal(first.transform(X), other.transform(X))


FALSE = {
    "another image": (KINDS["conv"], {"network": ConvNet((9, 9, 1))}, "image_shape"),
    "another sequence": (KINDS["gru"], {"network": GRUNet((4, 4))}, "sequence_shape"),
    "no columns": (KINDS["conv"], {"places": tuple(range(1000, 1064))}, "places"),
    "huge": (KINDS["conv"], {"network": ConvNet((8, 8), (10**6, 10**6))}, "weights"),
}


@pytest.mark.parametrize(("network", "changes", "words"), FALSE.values(), ids=FALSE)
def test_a_file_cannot_ask_for_another_network(network, changes, words, tmp_path):
    """What it says is compared with its arrays before any memory is taken for it."""
    vae = unfitted(network).fit(X)
    vae.architecture_ = replace(vae.architecture_, **changes)
    vae.save(tmp_path / "model")

    with pytest.raises(ValueError, match=words):
        load(tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["residual", "conv", "apart"])
@pytest.mark.parametrize("part", ["encoder", "decoder", "score"])
@pytest.mark.filterwarnings("ignore")  # the exporter's, of its own insides
def test_other_runtimes_compute_the_same(kind, part):
    """Ordinary modules go through the exporter, for any number of rows."""
    runtime = pytest.importorskip("onnxruntime")
    vae = unfitted(KINDS[kind]).fit(X)
    methods = {
        "encoder": vae.transform,
        "decoder": vae.inverse_transform,
        "score": vae.score_samples,
    }
    rows = vae.transform(X[:7]) if part == "decoder" else X[:7]
    session = runtime.InferenceSession(to_onnx(vae, part).SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: rows})

    np.testing.assert_allclose(found, methods[part](rows), atol=1e-4)


def test_a_search_compares_networks():
    """Each in its own units of columns: the scores are those of fits alone."""
    grid = {"network": ["mlp", KINDS["conv"]]}
    search, usual = (
        kind(unfitted("mlp"), grid, cv=2, refit=False).fit(X)
        for kind in (VAESearchCV, GridSearchCV)
    )

    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], usual.cv_results_["mean_test_score"], rtol=1e-6
    )


def test_only_positive_sizes():
    """The object says which parameter is wrong."""
    with pytest.raises(ValueError, match="'n_units' parameter of ResidualMLP"):
        ResidualMLP(n_units=0)
