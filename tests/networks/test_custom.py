"""Networks of the user's own: parameters, starts, errors, copies and files."""

import copy
import pickle
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import sklearn_vae
from sklearn_vae import VAETransformer
from sklearn_vae.networks import CustomNetwork
from tests.conftest import bent_rows, slow


class Wide(nn.Module):
    """A module such as a user would write."""

    def __init__(self, n_in, n_out, width=8, depth=1):
        super().__init__()
        widths = [n_in, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.last = nn.Linear(widths[-1], n_out)

    def forward(self, x):
        for layer in self.hidden:
            x = torch.tanh(layer(x))
        return self.last(x)


class Draws(nn.Module):
    """A module whose output is another one at every call."""

    def __init__(self, n_in, n_out, layer):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_in, n_out), layer(n_out))

    def forward(self, x):
        return self.layers(x)


class Pair(nn.Module):
    """A module that gives means and log-variances, as many encoders elsewhere do."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.loc, self.scale = (nn.Linear(n_in, n_out // 2) for _ in range(2))

    def forward(self, x):
        return self.loc(x), self.scale(x)


class Narrow(nn.Module):
    """A module that gives fewer numbers than it should."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.layer = nn.Linear(n_in, n_out - 1)

    def forward(self, x):
        return self.layer(x)


class Infinite(nn.Linear):
    """A module that takes a logarithm of 0."""

    def forward(self, x):
        return super().forward(x).relu().log()


X = bent_rows(120)


def vae(*, encoder=None, decoder=None, **params):
    params = {"n_components": 2, "max_iter": 3, "random_state": 0, **params}
    return VAETransformer(network=CustomNetwork(encoder, decoder), **params)


def test_a_users_module_is_trained():
    """What it is for: its weights have moved, and the density is better than the linear one."""
    own = vae(encoder=Wide, decoder=partial(Wide, width=32), max_iter=8).fit(bent_rows())
    linear = vae(max_iter=8).set_params(network="mlp", hidden_layer_sizes=()).fit(bent_rows())

    assert own.score(bent_rows(seed=1)) > linear.score(bent_rows(seed=1)) + 0.1
    assert (own.state_dict_["decoder.gate"] != 0).all()


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_it_starts_where_ours_start(side):
    """Beside any module runs the linear path, at probabilistic PCA."""
    start = {"max_iter": 1, "learning_rate": 1e-12, "refit": False}
    starts = [vae(**start, **{side: Wide}).fit(X), vae(**start).set_params(network="mlp").fit(X)]

    assert starts[0].score(X) == pytest.approx(starts[1].score(X), abs=1e-5)


def test_a_grid_searches_over_its_width():
    """The promise in one line: a module in a Pipeline in a grid over its own width."""
    pipeline = make_pipeline(StandardScaler(), vae(max_iter=2))
    encoders = [partial(Wide, width=width) for width in (2, 6)]
    grid = {"vaetransformer__network__encoder": encoders, "vaetransformer__beta": [0.5, 1.0]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X)
    best = search.best_estimator_[-1].state_dict_["encoder.weights.last/weight"]
    encoder = search.best_params_["vaetransformer__network__encoder"]

    assert best.shape[2] == encoder.keywords["width"]
    assert len(set(search.cv_results_["mean_test_score"])) == 4


def test_a_function_may_return_copies_of_a_pretrained_module():
    """Training starts at its weights, and does not change them; frozen ones stay as they are."""
    mine = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))
    mine[0].requires_grad_(False)
    before = mine[2].weight.clone()
    start = {"max_iter": 1, "learning_rate": 1e-12, "refit": False}
    fitted = vae(encoder=lambda n_in, n_out: copy.deepcopy(mine), **start).fit(X)

    np.testing.assert_allclose(fitted.state_dict_["encoder.weights.2/weight"][0], before.detach())
    assert not any(name.startswith("encoder.weights.0/") for name in fitted.state_dict_)
    assert torch.equal(mine[2].weight, before)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (
            {"encoder": partial(Draws, layer=lambda n: nn.AlphaDropout(0.5))},
            "output of Draws.*global generator.*nn.Dropout",
        ),
        ({"decoder": partial(Draws, layer=nn.BatchNorm1d)}, "other rows.*LayerNorm"),
        ({"encoder": Pair}, r"2 outputs.*torch\.cat\(\[location, log_scale\], dim=1\)"),
        ({"encoder": Narrow}, r"'encoder'.*must give 4 numbers per row.*\(4, 3\)"),
        ({"decoder": partial(Wide, wide=3)}, "'decoder'.*unexpected keyword"),
        ({"encoder": Infinite}, "'encoder'.*finite numbers.*Infinite gave -inf"),
        ({"decoder": Infinite}, "'decoder'.*finite numbers.*Infinite gave -inf"),
    ],
)
def test_what_cannot_be_is_refused_by_name(own, said):
    """Nothing is left of such a fit, and the words say what to change."""
    estimator, before = vae(**own), torch.get_rng_state()

    with pytest.raises(ValueError, match=f"(?s){said}"):
        estimator.fit(X)
    assert not hasattr(estimator, "state_dict_")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("encoder", ["mlp", nn.Linear(3, 4), partial(Wide, 5, 6)], ids=str)
def test_a_value_that_makes_no_module_is_refused_by_name(encoder):
    """A module that is made already has weights, which a second fit would go on from."""
    with pytest.raises(ValueError, match="'encoder' parameter of CustomNetwork must be a class"):
        CustomNetwork(encoder=encoder)


@pytest.mark.parametrize("network", [nn.Linear, nn.Linear(2, 2)])
def test_a_module_in_place_of_a_network_is_answered_with_its_wrapper(network):
    """The most natural mistake names the class that takes modules."""
    with pytest.raises(
        ValueError, match=r"CustomNetwork\(encoder=..., decoder=...\) takes modules"
    ):
        VAETransformer(1, network=network).fit(np.eye(4))


@pytest.mark.parametrize("encoder", [*slow(Wide), partial(Wide, width=5)])
def test_pickles_and_files_name_its_class_and_files_never_import_it(tmp_path, encoder):
    """A file is data: who reads it brings the class, or is told which one to bring."""
    fitted = vae(encoder=encoder, max_iter=2).fit(X)
    fitted.save(tmp_path / "own.vae")
    again = sklearn_vae.load(tmp_path / "own.vae", modules=[Wide])

    for copied in (again, pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(copied.score_samples(X), fitted.score_samples(X))
    with pytest.raises(ValueError, match=r"needs the module .*Wide.*modules=\["):
        sklearn_vae.load(tmp_path / "own.vae")


def test_partial_fit_goes_on_with_it():
    """The module is compared by what it is made of, not by where it lies in memory."""
    own = vae(encoder=partial(Wide, width=5), max_iter=2).fit(X)
    again = pickle.loads(pickle.dumps(own))

    assert again.partial_fit(X).n_iter_ > 0
    with pytest.raises(ValueError, match="'network' parameter"):
        again.set_params(network__encoder=partial(Wide, width=6)).partial_fit(X)


def dropping(n_in, n_out, p=0.5):
    """A network with dropout, of which much is dropped."""
    return nn.Sequential(nn.Linear(n_in, 16), nn.Tanh(), nn.Dropout(p), nn.Linear(16, n_out))


def test_dropout_is_for_training_alone():
    """It changes what is learned, by the seed; what is said of rows has no chance in it."""
    before = torch.get_rng_state()
    fits = [
        vae(decoder=partial(dropping, p=p), batch_size=32, max_iter=3).fit(X)
        for p in (0.5, 0.5, 0.0)
    ]
    scores = [own.score_samples(X) for own in fits]

    np.testing.assert_array_equal(scores[0], scores[1])
    assert np.abs(scores[0] - scores[2]).max() > 1e-3
    np.testing.assert_array_equal(scores[0], fits[0].score_samples(X))
    np.testing.assert_allclose(fits[0].score_samples(X[:5]), scores[0][:5], atol=1e-5)
    assert torch.equal(torch.get_rng_state(), before)


class Maker:
    """A callable without a name."""

    def __call__(self, n_in, n_out):
        return nn.Linear(n_in, n_out)


def test_callable_objects_and_functions_say_what_they_cannot(tmp_path):
    fitted = vae(encoder=Maker()).fit(X)

    assert "test_custom.Maker" in repr(fitted.architecture_)
    with pytest.raises(TypeError, match=r"'architecture_' holds.*Pickle the model instead"):
        vae(encoder=dropping).fit(X).save(tmp_path / "own.vae")
